//! Dual numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
/// Placeholder.
pub struct Dual<T> { re: T, eps: T }
