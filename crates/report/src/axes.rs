//! The names of a tensor's axes, and places along them.

use std::ops::Range;
use sus_verdict::TensorResult;
use sus_verdict::map::bin;

/// What the axes of the heads, the rows and the columns of a map stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axes {
    pub(crate) heads: &'static [&'static str],
    pub(crate) row: &'static str,
    pub(crate) column: &'static str,
}

/// The axes of a result.
pub(crate) fn axes(tensor: &TensorResult) -> Axes {
    let (row, column) = match (tensor.name, tensor.shape.len()) {
        ("dk" | "dv" | "dkv", _) => ("key", "feature"),
        ("dbias", _) => ("query", "key"),
        ("lse", _) => ("head", "query"),
        (_, 4) => ("query", "feature"),
        _ => ("sequence", "head"),
    };
    let heads: &[&str] = match tensor.shape.len() {
        0..=2 => &[],
        3 => &["sequence"],
        _ => &["sequence", "head"],
    };
    Axes { heads, row, column }
}

/// One index or several of an axis: "query 7", "queries 0 to 15".
pub(crate) fn places(axis: &str, range: &Range<usize>) -> String {
    if range.len() == 1 {
        return format!("{axis} {}", range.start);
    }
    format!("{} {} to {}", plural(axis), range.start, range.end - 1)
}

/// The axis of several indices.
pub(crate) fn plural(axis: &str) -> String {
    match axis.strip_suffix('y') {
        Some(stem) if axis == "query" => format!("{stem}ies"),
        _ => format!("{axis}s"),
    }
}

/// The indices of several bins in a row.
pub(crate) fn indices(bins: &Range<usize>, of: usize, length: usize) -> Range<usize> {
    bin(bins.start, of, length).start..bin(bins.end - 1, of, length).end
}

/// A head in words: "sequence 0, head 3".
pub(crate) fn head_name(axes: Axes, index: &[usize]) -> String {
    let parts = axes.heads.iter().zip(index).map(|(axis, at)| format!("{axis} {at}"));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{indices, places};

    #[test]
    fn places_are_in_plain_english() {
        assert_eq!(places("query", &(0..1)), "query 0");
        assert_eq!(places("query", &(3..5)), "queries 3 to 4");
        assert_eq!(places("key", &(0..64)), "keys 0 to 63");
    }

    #[test]
    fn the_indices_of_all_bins_are_the_axis() {
        assert_eq!(indices(&(0..64), 64, 1000), 0..1000);
        assert_eq!(indices(&(8..16), 64, 64), 8..16);
    }
}
