//! The header of a safetensors file: checked as a whole before a single number is read.

use crate::error::Reason;
use crate::unique::Unique;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The bytes of the number that begins a file: the length of the header.
pub(super) const LENGTH_BYTES: usize = 8;
/// The longest header, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;
/// Axes of a tensor. Results of many runs have five.
const MAX_AXES: usize = 16;
/// Numbers of a file, and the product of the axes of an empty tensor that are not 0: in `f64` they take 32 GiB.
pub(super) const MAX_NUMBERS: u64 = 1 << 32;

/// The entry of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// One tensor as the header has it.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Shape,
    /// The begin and the end of its bytes, counted from the end of the header.
    pub(super) data_offsets: (usize, usize),
}

/// A shape of at most [`MAX_AXES`] axes.
pub(super) struct Shape(pub(super) Vec<usize>);

/// A whole header.
pub(super) struct Header {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Bytes of the numbers of all tensors, which follow each other without a gap.
    pub(super) data_bytes: usize,
}

/// The length of the header, from the first bytes of a file.
pub(super) fn header_length(begin: &[u8]) -> Result<usize, Reason> {
    let begin = begin.first_chunk::<LENGTH_BYTES>();
    let begin = begin.ok_or_else(|| Reason::Format("less than the length of a header".into()))?;
    let length = u64::from_le_bytes(*begin);
    if length > MAX_HEADER {
        let what = format!("a header that claims {length} bytes, above {MAX_HEADER}");
        return Err(Reason::Format(what));
    }
    Ok(length as usize)
}

impl Header {
    /// Parses a header, and checks that its tensors fit their places and that nothing in it is too large.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| Reason::Format(format!("a header that is no UTF-8: {e}")))?;
        let raw: Raw = serde_json::from_str(text)
            .map_err(|e| Reason::Format(format!("a header that is not legal: {e}")))?;
        let Raw { tensors, metadata } = raw;
        for (what, twice) in [("tensor", tensors.twice), ("metadata entry", metadata.twice)] {
            if let Some(name) = twice {
                return Err(Reason::Twice { what, name });
            }
        }
        let data_bytes = check_places(&tensors.map)?;
        Ok(Header { entries: tensors.map, metadata: metadata.map, data_bytes })
    }

    /// The bytes after the header are as many as its tensors have.
    pub(super) fn expect_data(&self, found: usize) -> Result<(), Reason> {
        let claimed = self.data_bytes;
        if found == claimed {
            return Ok(());
        }
        let what = format!("a header that claims {claimed} bytes of numbers, and {found} after it");
        Err(Reason::Format(what))
    }
}

/// The end of the data, if every tensor has as many bytes as its shape says and begins where another one ends.
fn check_places(entries: &BTreeMap<String, Entry>) -> Result<usize, Reason> {
    let mut numbers = 0_u64;
    for (name, Entry { dtype, shape: Shape(shape), data_offsets: (begin, end) }) in entries {
        // The axes beside a 0 count as well: loops run over them.
        let product = shape.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis.max(1) as u64));
        let product = product.filter(|&n| n <= MAX_NUMBERS).ok_or_else(|| {
            let shape = sus_reference::quote::list(shape);
            wrong(name, &format!("shape {shape}, above {MAX_NUMBERS} numbers"))
        })?;
        let count = if shape.contains(&0) { 0 } else { product };
        numbers += count;
        let bits = end.checked_sub(*begin).and_then(|bytes| (bytes as u64).checked_mul(8));
        if bits != Some(count * dtype.bitsize() as u64) {
            return Err(wrong(name, "data_offsets that do not fit its shape"));
        }
    }
    if numbers > MAX_NUMBERS {
        return Err(Reason::Format(format!("tensors of {numbers} numbers, above {MAX_NUMBERS}")));
    }
    let mut places: Vec<_> =
        entries.iter().map(|(name, entry)| (entry.data_offsets, name)).collect();
    places.sort_unstable();
    places.into_iter().try_fold(0, |at, ((begin, end), name)| {
        let next = (begin == at).then_some(end);
        next.ok_or_else(|| wrong(name, "data_offsets that do not begin where another tensor ends"))
    })
}

fn wrong(name: &str, found: &str) -> Reason {
    let name = sus_reference::quote::text(name);
    Reason::Format(format!("a header in which '{name}' has {found}"))
}

/// The header as it stands.
struct Raw {
    tensors: Unique<Entry>,
    metadata: Unique<String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let (mut tensors, mut metadata) = (Unique::default(), None);
        while let Some(name) = access.next_key::<String>()? {
            if name == METADATA {
                if metadata.replace(access.next_value()?).is_some() {
                    tensors.twice.get_or_insert(name);
                }
            } else {
                tensors.add(name, access.next_value()?)?;
            }
        }
        Ok(Raw { tensors, metadata: metadata.unwrap_or_default() })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {MAX_AXES} axes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(axis) = access.next_element()? {
            if shape.len() == MAX_AXES {
                return Err(A::Error::invalid_length(MAX_AXES + 1, &self));
            }
            shape.push(axis);
        }
        Ok(Shape(shape))
    }
}
