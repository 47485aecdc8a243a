//! The values that a key may have, as JSON and as their types.

#![expect(clippy::trivially_copy_pass_by_ref, reason = "one signature for every row of the table")]

use super::SPEC;
use crate::error::Reason;
use crate::foreign::foreign_setting;
use crate::tensor_file::METADATA_KEY;
use crate::unique::Unique;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use sus_reference::TensorName;
use sus_reference::mask::Window;
use sus_reference::sus::{Budget, UniformBits};

/// The longest text that is read: a million segments have 2^23 bytes, and a parsed number takes 16 times its text.
const MAX_BYTES: usize = 1 << 24;

/// The keys of a JSON object not yet read.
pub(super) struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// The keys of the metadata, without `spec`, whose version is checked here.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let wrong_text = |found: String| Reason::Metadata {
            key: METADATA_KEY.into(),
            expected: "a JSON object".into(),
            found,
        };
        if text.len() > MAX_BYTES {
            return Err(wrong_text(format!("{} bytes", text.len())));
        }
        let Unique { map, twice } = serde_json::from_str::<Unique<Value>>(text).map_err(|e| {
            let other = serde_json::from_str(text).ok().filter(|value: &Value| !value.is_object());
            wrong_text(other.map_or_else(|| e.to_string(), |value| value.to_string()))
        })?;
        if let Some(name) = twice {
            return Err(Reason::Twice { what: "metadata key", name });
        }
        let mut keys = Keys(map);
        let is_current = |value: &Value| value.as_str().filter(|&spec| spec == SPEC).map(drop);
        keys.take("spec", &format!("\"{SPEC}\""), is_current)?;
        Ok(keys)
    }

    /// The value of `key`, if it is there and not `null`.
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Reason> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| wrong(key, expected, &value)),
        }
    }

    /// Refuses the first key that is left over.
    pub(super) fn finish(self, known: &str) -> Result<(), Reason> {
        self.0.into_iter().next().map_or(Ok(()), |(key, _)| {
            if let Some(advice) = foreign_setting(&key) {
                return Err(Reason::Foreign { what: "metadata key", name: key, advice });
            }
            Err(Reason::Metadata { key, expected: known.into(), found: "an unknown key".into() })
        })
    }
}

/// The value of a key that the file, the command or both may have.
pub(super) fn agree<T: PartialEq>(
    key: &'static str,
    file: Option<T>,
    command: Option<T>,
    write: impl Fn(&T) -> Value,
) -> Result<Option<T>, Reason> {
    match (file, command) {
        (Some(file), Some(command)) if file != command => {
            let [file, command] = [file, command].map(|value| write(&value).to_string());
            Err(Reason::Contradiction { key, file, command })
        }
        (file, command) => Ok(file.or(command)),
    }
}

fn wrong(key: &str, expected: &str, found: &Value) -> Reason {
    Reason::Metadata { key: key.into(), expected: expected.into(), found: found.to_string() }
}

pub(super) fn named<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

pub(super) fn name<T: Display>(value: &T) -> Value {
    value.to_string().into()
}

pub(super) fn json<T: Serialize>(value: &T) -> Value {
    json!(value)
}

pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

pub(super) fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|&x| x > 0.0)
}

/// In range of `f32` as well, where a kernel has it.
pub(super) fn finite_positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|&x| x > 0.0 && (x as f32).is_normal())
}

pub(super) fn boolean(value: &Value) -> Option<bool> {
    value.as_bool()
}

pub(super) fn integer(value: &Value) -> Option<u64> {
    value.as_u64()
}

/// A stream stays below 2^31: the last bit of its word belongs to the samplers.
pub(super) fn stream(value: &Value) -> Option<u32> {
    value.as_u64().filter(|&stream| stream < 1 << 31).map(|stream| stream as u32)
}

pub(super) fn lengths(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|x| usize::try_from(x.as_u64()?).ok()).collect()
}

pub(super) fn count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok().filter(|&n| n > 0)
}

pub(super) fn block(value: &Value) -> Option<[usize; 2]> {
    let [m, n] = value.as_array()?.as_slice() else { return None };
    Some([count(m)?, count(n)?])
}

pub(super) fn probability(value: &Value) -> Option<f64> {
    value.as_f64().filter(|p| (0.0..1.0).contains(p))
}

/// Results of the forward pass and gradients, each once.
pub(super) fn results(value: &Value) -> Option<Vec<TensorName>> {
    let mut names = Vec::new();
    for name in value.as_array()? {
        let name: TensorName = name.as_str()?.parse().ok()?;
        if !name.is_result() || names.contains(&name) {
            return None;
        }
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

/// The names, as [`results`] reads them.
pub(super) fn result_names<T: AsRef<[TensorName]>>(names: &T) -> Value {
    names.as_ref().iter().map(|name| Value::from(name.as_str())).collect()
}

pub(super) fn window(value: &Value) -> Option<Window> {
    let [left, right] = value.as_array()?.as_slice() else { return None };
    let end = |value: &Value| match value {
        Value::Null => Some(None),
        value => value.as_u64().map(Some),
    };
    Some(Window { left: end(left)?, right: end(right)? })
}

pub(super) fn window_json(window: &Window) -> Value {
    json!([window.left, window.right])
}

pub(super) fn budget(value: &Value) -> Option<Budget> {
    let c = if value.as_str() == Some("inf") { f64::INFINITY } else { value.as_f64()? };
    Budget::new(c).ok()
}

pub(super) fn budget_json(c: &Budget) -> Value {
    if c.get() == f64::INFINITY { json!("inf") } else { json!(c.get()) }
}

pub(super) fn uniform_bits(value: &Value) -> Option<UniformBits> {
    match value.as_u64() {
        Some(32) => Some(UniformBits::Bits32),
        Some(64) => Some(UniformBits::Bits64),
        _ => None,
    }
}

pub(super) fn uniform_bits_json(bits: &UniformBits) -> Value {
    match bits {
        UniformBits::Bits32 => json!(32),
        UniformBits::Bits64 => json!(64),
    }
}
