//! Setters for structs that grow: a new field is no breaking change where nobody writes the struct out.

/// For each field a method `with_field` that replaces it. A field of type `Option<T>` takes a `T`, too.
#[macro_export]
macro_rules! setters {
    ($type:ty, [$($generic:tt)*]; $($with:ident($field:ident: $($kind:tt)+);)*) => {
        impl<$($generic)*> $type {
            $($crate::setters! { @one $with $field $($kind)+ })*
        }
    };
    (@one $with:ident $field:ident Option<$($kind:tt)+) => {
        $crate::setters! { @method $with $field [impl Into<Option<$($kind)+>] [$field.into()] }
    };
    (@one $with:ident $field:ident $kind:ty) => {
        $crate::setters! { @method $with $field [$kind] [$field] }
    };
    (@method $with:ident $field:ident [$($argument:tt)+] [$value:expr]) => {
        #[doc = concat!("The same with another `", stringify!($field), "`.")]
        #[must_use]
        pub fn $with(self, $field: $($argument)+) -> Self {
            Self { $field: $value, ..self }
        }
    };
}
