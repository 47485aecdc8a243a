//! Which entries of a tile of rows and keys a problem leaves visible.

use std::ops::Range;
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Ring;

/// The keys that each query sees: the spans are tabulated once, hidden keys are asked for tile by tile.
#[derive(Debug, Clone)]
pub(super) struct Visible<'a, T> {
    problem: &'a Problem<T>,
    /// The span of each query; of each query of each sequence where lengths differ.
    spans: Vec<Range<usize>>,
    /// Spans of one sequence, or 0 if all sequences have the same.
    stride: usize,
}

/// Rows of one query head.
#[derive(Debug, Clone)]
pub(super) struct HeadRows {
    pub(super) b: usize,
    pub(super) h: usize,
    pub(super) rows: Range<usize>,
}

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

impl<'a, T: Ring> Visible<'a, T> {
    pub(super) fn new(problem: &'a Problem<T>) -> Self {
        let (sizes, mask) = (problem.sizes(), problem.mask());
        let differ = problem.options().lengths.is_some();
        let batch = if differ { sizes.batch } else { 1 };
        let queries = 0..sizes.queries;
        let spans = (0..batch).flat_map(|b| queries.clone().map(move |i| mask.span(b, i)));
        Visible { problem, spans: spans.collect(), stride: if differ { sizes.queries } else { 0 } }
    }

    /// The span of the keys that query `i` of sequence `b` sees.
    pub(super) fn row(&self, b: usize, i: usize) -> Range<usize> {
        self.spans[b * self.stride + i].clone()
    }

    fn spans(&self, b: usize, queries: &Range<usize>) -> &[Range<usize>] {
        &self.spans[b * self.stride..][queries.clone()]
    }

    /// The smallest range that holds the spans of all these queries.
    pub(super) fn hull(&self, b: usize, queries: &Range<usize>) -> Range<usize> {
        let seen = self.spans(b, queries).iter().filter(|range| !range.is_empty());
        seen.cloned().reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// How much of the tile `rows x keys` is visible.
    pub(super) fn share(&self, HeadRows { b, h, rows }: HeadRows, keys: &Range<usize>) -> Share {
        let (mut any, mut all) = (false, true);
        for (range, i) in self.spans(b, &rows).iter().zip(rows) {
            let inside = range.start < keys.end && keys.start < range.end;
            let mut whole = range.start <= keys.start && keys.end <= range.end;
            let mut some = inside;
            if inside && self.problem.hides_keys() {
                let part = range.start.max(keys.start)..range.end.min(keys.end);
                let run = self.problem.next_run(Row { b, h, i }, part);
                some = run.is_some();
                whole &= run.as_ref() == Some(keys);
            }
            any |= some;
            all &= whole;
            if any && !all {
                return Share::Part;
            }
        }
        if any { Share::All } else { Share::Nothing }
    }

    /// Fills those of a row's numbers with `x` that belong to keys which it does not see; the first number is of key `keys.start`,
    /// numbers after the last key are filled, too.
    pub(super) fn hide<X: Copy>(&self, row: Row, keys: &Range<usize>, numbers: &mut [X], x: X) {
        let seen = within(&self.row(row.b, row.i), keys);
        numbers[..seen.start].fill(x);
        numbers[seen.end..].fill(x);
        if self.problem.hides_keys() {
            let (mut at, end) = (seen.start, seen.end);
            while at < end {
                let run = self.problem.next_run(row, keys.start + at..keys.start + end);
                let run = run.map_or(end..end, |run| run.start - keys.start..run.end - keys.start);
                numbers[at..run.start].fill(x);
                at = run.end;
            }
        }
    }
}

/// The part of `keys` that lies in `range`, counted from the first of `keys`.
pub(super) fn within(range: &Range<usize>, keys: &Range<usize>) -> Range<usize> {
    let start = range.start.clamp(keys.start, keys.end) - keys.start;
    let end = range.end.clamp(keys.start, keys.end) - keys.start;
    start..end.max(start)
}
