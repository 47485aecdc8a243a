//! A JSON object that remembers a key that stands twice; a plain map keeps the last value in silence.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

/// Keys that an object may have: no file of this project has a hundredth of them.
pub(crate) const MAX_KEYS: usize = 4096;

/// The object, and the first key that was found again.
pub(crate) struct Unique<T> {
    pub(crate) map: BTreeMap<String, T>,
    pub(crate) twice: Option<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

struct Keys<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique<T>, A::Error> {
        let mut unique = Unique::default();
        while let Some((key, value)) = access.next_entry::<String, T>()? {
            unique.add(key, value)?;
        }
        Ok(unique)
    }
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Unique { map: BTreeMap::new(), twice: None }
    }
}

impl<T> Unique<T> {
    /// Adds a key, or remembers that it is there.
    pub(crate) fn add<E: Error>(&mut self, key: String, value: T) -> Result<(), E> {
        if self.map.len() == MAX_KEYS {
            return Err(E::custom(format_args!("more than {MAX_KEYS} names")));
        }
        match self.map.entry(key) {
            Entry::Vacant(free) => drop(free.insert(value)),
            Entry::Occupied(taken) => drop(self.twice.get_or_insert_with(|| taken.key().clone())),
        }
        Ok(())
    }
}
