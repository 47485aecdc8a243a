//! One row for each key of the metadata; all that goes through the keys is generated from the rows.

/// Makes `Settings` from rows `key: Type, setter, "what is expected", read, write;` in two groups: the keys of `draw`
/// describe a mask, which a dense pass does not have.
macro_rules! settings_table {
    (
        problem { $($(#[$problem_doc:meta])* $problem:ident: $problem_type:ty, $problem_with:ident, $problem_expected:literal, $problem_read:path, $problem_write:path;)* }
        draw { $($(#[$draw_doc:meta])* $draw:ident: $draw_type:ty, $draw_with:ident, $draw_expected:literal, $draw_read:path, $draw_write:path;)* }
    ) => {
        settings_table! { @all
            $($(#[$problem_doc])* $problem: $problem_type, $problem_with, $problem_expected, $problem_read, $problem_write;)*
            $($(#[$draw_doc])* $draw: $draw_type, $draw_with, $draw_expected, $draw_read, $draw_write;)*
        }

        impl Settings {
            /// The same settings without the keys of a draw.
            #[must_use]
            pub fn without_draw(self) -> Self {
                Settings { $($draw: None,)* ..self }
            }

            /// Whether any key of a draw is there.
            #[must_use]
            pub fn names_a_draw(&self) -> bool {
                false $(|| self.$draw.is_some())*
            }
        }
    };
    (@all $($(#[$doc:meta])* $key:ident: $type:ty, $with:ident, $expected:literal, $read:path, $write:path;)*) => {
        /// The settings of a problem; `None` where nothing was said.
        ///
        /// # Examples
        /// ```
        /// use sus_files::{Pass, Settings};
        /// let settings = Settings::default().with_pass(Pass::Dense).with_causal(true);
        /// assert!(settings.options()?.causal && !settings.names_a_draw());
        /// # Ok::<(), sus_reference::Error>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Default)]
        #[non_exhaustive]
        pub struct Settings {
            $($(#[$doc])* pub $key: Option<$type>,)*
        }

        sus_reference::setters! { Settings, []; $($with($key: Option<$type>);)* }

        impl Settings {
            /// Parses the JSON text of the metadata. An unknown key is an error; `null` means the default.
            ///
            /// # Errors
            /// [`Reason::Metadata`](crate::error::Reason::Metadata) with the key, the legal values and the value found.
            ///
            /// # Examples
            /// ```
            /// use sus_files::Settings;
            /// let settings = Settings::from_json(r#"{"pass":"sus","c":30,"causal":true,"seed":7}"#)?;
            /// assert_eq!((settings.seed, settings.causal), (Some(7), Some(true)));
            /// assert!(Settings::from_json(r#"{"sede":7}"#).is_err());
            /// # Ok::<(), sus_files::error::Reason>(())
            /// ```
            pub fn from_json(text: &str) -> Result<Self, crate::error::Reason> {
                let mut keys = values::Keys::parse(text)?;
                let settings = Settings { $($key: keys.take(stringify!($key), $expected, $read)?,)* };
                keys.finish(concat!("one of spec" $(, ", ", stringify!($key))*))?;
                Ok(settings)
            }

            /// The JSON text, keys sorted, without the keys that are `None`.
            #[must_use]
            pub fn to_json(&self) -> String {
                let mut map = serde_json::Map::new();
                map.insert("spec".into(), SPEC.into());
                $(map.extend(self.$key.as_ref().map(|value| (stringify!($key).to_owned(), $write(value))));)*
                serde_json::Value::Object(map).to_string()
            }

            /// The file's settings with the command's added.
            ///
            /// # Errors
            /// [`Reason::Contradiction`](crate::error::Reason::Contradiction) if both have a key, with different values.
            ///
            /// # Examples
            /// ```
            /// use sus_files::Settings;
            /// let file = Settings::default().with_scale(0.125);
            /// let command = Settings::default().with_seed(7);
            /// assert_eq!(file.clone().merge(command)?.seed, Some(7));
            /// assert!(file.merge(Settings::default().with_scale(0.25)).is_err());
            /// # Ok::<(), sus_files::error::Reason>(())
            /// ```
            pub fn merge(self, command: Self) -> Result<Self, crate::error::Reason> {
                Ok(Settings { $($key: values::agree(stringify!($key), self.$key, command.$key, $write)?,)* })
            }
        }
    };
}
