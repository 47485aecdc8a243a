//! Which entries of a tile of rows and keys a problem leaves visible.

use super::product::BLOCK;
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

/// The part of a tile that holds all its visible entries: whole panels of keys, whole blocks of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Rows, counted from the first of the tile.
    pub(super) rows: Range<usize>,
    pub(super) keys: Range<usize>,
    /// Whether these rows see all of these keys.
    pub(super) whole: bool,
}

/// What some rows see, panel by panel: it is found once for a tile of rows, run by run, and tiles of keys are cut from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cover {
    keys: Range<usize>,
    panel: usize,
    panels: Vec<SeenPanel>,
}

/// Who sees a panel of keys.
#[derive(Debug, Clone, Default)]
struct SeenPanel {
    /// The smallest range that holds the rows that see any of its keys.
    rows: Range<usize>,
    /// How many rows see all of its keys.
    whole: usize,
}

impl Cover {
    /// Row `r` sees the keys of `run`.
    fn add(&mut self, r: usize, run: &Range<usize>) {
        let first = self.keys.start / self.panel;
        for number in run.start / self.panel..run.end.div_ceil(self.panel) {
            let keys = number * self.panel..((number + 1) * self.panel).min(self.keys.end);
            let seen = &mut self.panels[number - first];
            let start = if seen.rows.is_empty() { r } else { seen.rows.start };
            seen.rows = start..r + 1;
            seen.whole += usize::from(run.start <= keys.start && keys.end <= run.end);
        }
    }

    /// The visible part of a tile of keys, which begins with a panel; nothing if no row sees any of them.
    pub(super) fn part(&self, tile: &Range<usize>) -> Option<Part> {
        let first = self.keys.start / self.panel;
        let numbers = tile.start / self.panel..tile.end.div_ceil(self.panel);
        let panels = &self.panels[numbers.start - first..numbers.end - first];
        let seen = |panel: &SeenPanel| !panel.rows.is_empty();
        let (start, end) = (panels.iter().position(seen)?, panels.iter().rposition(seen)? + 1);
        let panels = &panels[start..end];
        let rows = panels.iter().filter(|panel| seen(panel)).map(|panel| panel.rows.clone());
        let rows = rows.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        let rows = rows.start / BLOCK * BLOCK..rows.end;
        Some(Part {
            whole: panels.iter().all(|panel| panel.whole == rows.len()),
            rows,
            keys: tile.start + start * self.panel..(tile.start + end * self.panel).min(tile.end),
        })
    }
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

    /// The runs of visible keys among `keys` of a row, in ascending order.
    fn runs(&self, row: Row, keys: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let span = self.row(row.b, row.i);
        let (mut at, end) = (span.start.max(keys.start), span.end.min(keys.end));
        std::iter::from_fn(move || {
            let run = match self.problem.hides_keys() {
                _ if at >= end => None,
                true => self.problem.next_run(row, at..end),
                false => Some(at..end),
            };
            at = run.as_ref().map_or(end, |run| run.end);
            run
        })
    }

    /// Whether any of these rows sees any of these keys.
    pub(super) fn any(&self, HeadRows { b, h, rows }: HeadRows, keys: &Range<usize>) -> bool {
        rows.into_iter().any(|i| self.runs(Row { b, h, i }, keys).next().is_some())
    }

    /// What these rows see of the keys from the panel on that holds the first one, by panels of `panel` keys.
    pub(super) fn cover(&self, rows: &HeadRows, keys: &Range<usize>, panel: usize) -> Cover {
        let &HeadRows { b, h, ref rows } = rows;
        let keys = keys.start / panel * panel..keys.end;
        let count = keys.len().div_ceil(panel);
        let panels = vec![SeenPanel::default(); count];
        let mut cover = Cover { keys: keys.clone(), panel, panels };
        for (r, i) in rows.clone().enumerate() {
            for run in self.runs(Row { b, h, i }, &keys) {
                cover.add(r, &run);
            }
        }
        cover
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sus_reference::mask::{BlockMask, KeySet};
    use sus_reference::problem::{Inputs, Options};
    use sus_reference::tensor::Tensor;

    /// Rows of a tile, of 40.
    const ROWS: Range<usize> = 12..33;

    /// 40 queries and 50 keys, of which blocks may be seen.
    fn blocks() -> impl Strategy<Value = Problem<f64>> {
        let seen = proptest::collection::vec(prop_oneof![2 => Just(0_u8), 1 => Just(1)], 40 * 50);
        (1..40_usize, 1..50_usize, any::<bool>(), seen).prop_map(|(m, n, causal, mut seen)| {
            let shape = [1, 1, 40_usize.div_ceil(m), 50_usize.div_ceil(n)];
            seen.truncate(shape[2] * shape[3]);
            let mask = KeySet::BlockMask(BlockMask { shape, block: [m, n], seen: seen.into() });
            let zeros = |n| Tensor::from_fn([1, 1, n, 1], |_| 0.0);
            let inputs = Inputs::new(zeros(40), zeros(50), zeros(50), zeros(40));
            let options = Options::default().with_causal(causal).with_key_sets(vec![mask]);
            Problem::new(inputs, options).unwrap()
        })
    }

    proptest! {
        #[test]
        fn a_part_holds_every_visible_entry_of_its_tile_and_no_border_without_one(
            problem in blocks(), panel in 1..9_usize, first in 0..50_usize, panels in 1..4_usize,
        ) {
            let visible = Visible::new(&problem);
            let sees = |i: usize, j: usize| {
                let row = Row { b: 0, h: 0, i };
                visible.row(0, i).contains(&j) && !problem.hides(row, j)
            };
            let rows = HeadRows { b: 0, h: 0, rows: ROWS };
            let cover = visible.cover(&rows, &(first..50), panel);
            let first = first / panel * panel;
            let tile = first..(first + panels * panel).min(50);
            let entries: Vec<(usize, usize)> = ROWS
                .flat_map(|i| tile.clone().map(move |j| (i, j)))
                .filter(|&(i, j)| sees(i, j))
                .collect();
            prop_assert_eq!(visible.any(rows, &tile), !entries.is_empty());
            let Some(part) = cover.part(&tile) else {
                prop_assert!(entries.is_empty(), "{:?}", entries);
                return Ok(());
            };
            let of_rows = entries.iter().map(|&(i, _)| i - ROWS.start);
            let of_panels = entries.iter().map(|&(_, j)| j / panel);
            let start = of_rows.clone().min().unwrap() / BLOCK * BLOCK;
            prop_assert_eq!(&part.rows, &(start..of_rows.max().unwrap() + 1));
            let end = ((of_panels.clone().max().unwrap() + 1) * panel).min(tile.end);
            prop_assert_eq!(&part.keys, &(of_panels.min().unwrap() * panel..end));
            prop_assert_eq!(part.whole, entries.len() == part.rows.len() * part.keys.len());
        }
    }
}
