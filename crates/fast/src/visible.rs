//! Which entries of a tile of rows and keys a mask leaves visible.

use std::ops::Range;
use sus_reference::mask::Mask;

/// The keys that each query sees, tabulated once: the same for all heads.
#[derive(Debug, Clone)]
pub(super) struct Visible(Vec<Range<usize>>);

/// How much of a tile is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Nothing: the tile is skipped.
    Nothing,
    /// Some entries, row by row.
    Part,
    /// All.
    All,
}

impl Visible {
    pub(super) fn new(mask: &Mask, queries: usize) -> Self {
        Visible((0..queries).map(|i| mask.visible(i)).collect())
    }

    /// The keys that query `i` sees.
    pub(super) fn row(&self, i: usize) -> Range<usize> {
        self.0[i].clone()
    }

    /// The smallest range that holds the keys of all these queries.
    pub(super) fn hull(&self, queries: Range<usize>) -> Range<usize> {
        let seen = self.0[queries].iter().filter(|range| !range.is_empty());
        seen.cloned().reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// How much of the tile `queries x keys` is visible.
    pub(super) fn share(&self, queries: Range<usize>, keys: &Range<usize>) -> Share {
        let (mut any, mut all) = (false, true);
        for range in &self.0[queries] {
            any |= range.start < keys.end && keys.start < range.end;
            all &= range.start <= keys.start && keys.end <= range.end;
        }
        match (any, all) {
            (false, _) => Share::Nothing,
            (true, false) => Share::Part,
            (true, true) => Share::All,
        }
    }
}

/// The part of `keys` that lies in `range`, counted from the first of `keys`.
pub(super) fn within(range: &Range<usize>, keys: &Range<usize>) -> Range<usize> {
    let start = range.start.clamp(keys.start, keys.end) - keys.start;
    let end = range.end.clamp(keys.start, keys.end) - keys.start;
    start..end.max(start)
}
