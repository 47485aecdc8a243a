//! A map of the errors of a tensor over their bounds: of each head its worst element, and of the worst heads a grid of bins.

use crate::expected::{Expected, Places};
use sus_bounds::Stage;

/// Bins along each of the last two axes, at most: what a page can show and a reader can tell apart.
pub const MAX_BINS: usize = 64;

/// Heads with a grid, at most: `64^2` cells of about a hundred bytes take 0.4 MB each.
pub const MAX_GRIDS: usize = 4;

/// The errors of a tensor over their bounds. The last two axes are rows and columns; all axes before them number the heads.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ErrorMap {
    /// The lengths of the axes of the heads; empty if there is one head.
    pub axes: Vec<usize>,
    /// Rows and columns of one head.
    pub size: [usize; 2],
    /// Every head, in order.
    pub heads: Vec<HeadErrors>,
    /// The worst heads, the worst first, [`MAX_GRIDS`] at most.
    pub grids: Vec<Grid>,
}

/// The errors of one head.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HeadErrors {
    /// The largest `error / bound`.
    pub ratio: f64,
    /// How many elements are outside their bounds.
    pub outside: usize,
}

/// One head in bins, and the worst element of each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Grid {
    /// The number of the head.
    pub head: usize,
    /// Bins along the rows and along the columns.
    pub bins: [usize; 2],
    /// The worst element of each bin, row by row.
    pub cells: Vec<Cell>,
}

/// The worst element of a bin.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Cell {
    /// Its row and column in the head.
    pub at: [usize; 2],
    /// The candidate's number.
    pub found: f64,
    /// The reference.
    pub expected: f64,
    /// The threshold that decides.
    pub bound: f64,
    /// `|found - expected| / bound`.
    pub ratio: f64,
    /// How many elements of the bin are outside their bounds.
    pub outside: usize,
    /// The share of each stage in the bound, in the order of [`Stage::ALL`].
    pub stages: [f32; Stage::COUNT],
}

impl ErrorMap {
    /// The map of a tensor with these elements and ratios.
    pub(crate) fn new(expected: &Expected<'_>, found: &[f64], ratios: &[f64]) -> Self {
        let (axes, size) = match *expected.shape {
            [] => (Vec::new(), [1, 1]),
            [columns] => (Vec::new(), [1, columns]),
            [ref axes @ .., rows, columns] => (axes.to_vec(), [rows, columns]),
        };
        let length = size[0] * size[1];
        if length == 0 || ratios.is_empty() {
            return ErrorMap { axes, size, ..ErrorMap::default() };
        }
        let heads: Vec<HeadErrors> = ratios
            .chunks(length)
            .map(|of| HeadErrors {
                ratio: of.iter().copied().max_by(f64::total_cmp).unwrap_or_default(),
                outside: of.iter().filter(|&&ratio| is_outside(ratio)).count(),
            })
            .collect();
        let mut order: Vec<usize> = (0..heads.len()).collect();
        let worse = |&a: &usize, &b: &usize| {
            let (a, b) = (heads[a], heads[b]);
            b.ratio.total_cmp(&a.ratio).then(b.outside.cmp(&a.outside))
        };
        order.sort_by(worse);
        let grids = order.into_iter().take(MAX_GRIDS);
        let grids = grids.map(|head| Grid::new(head, size, expected, found, ratios)).collect();
        ErrorMap { axes, size, heads, grids }
    }

    /// The index of a head, one number for each axis of the heads.
    #[must_use]
    pub fn head_index(&self, head: usize) -> Vec<usize> {
        Places::default().index(&self.axes, head)
    }
}

impl Grid {
    fn new(
        head: usize,
        size: [usize; 2],
        expected: &Expected<'_>,
        found: &[f64],
        ratios: &[f64],
    ) -> Self {
        let bins = size.map(|length| length.min(MAX_BINS));
        let first = head * size[0] * size[1];
        let cell = |row: usize, column: usize| {
            let rows = bin(row, bins[0], size[0]);
            let elements = rows.flat_map(|n| {
                bin(column, bins[1], size[1]).map(move |d| (first + n * size[1] + d, [n, d]))
            });
            let (mut worst, mut outside) = ((first, [0, 0]), 0);
            for (n, (at, place)) in elements.enumerate() {
                if n == 0 || ratios[at].total_cmp(&ratios[worst.0]).is_gt() {
                    worst = (at, place);
                }
                outside += usize::from(is_outside(ratios[at]));
            }
            let (at, place) = worst;
            Cell {
                at: place,
                found: found[at],
                expected: expected.reference[at],
                bound: expected.bound.threshold[at],
                ratio: ratios[at],
                outside,
                stages: expected.bound.stages[at],
            }
        };
        let cells = (0..bins[0]).flat_map(|row| (0..bins[1]).map(move |column| (row, column)));
        let cells = cells.map(|(row, column)| cell(row, column)).collect();
        Grid { head, bins, cells }
    }
}

/// Whether an element fails; a ratio that is no number does.
fn is_outside(ratio: f64) -> bool {
    ratio > 1.0 || ratio.is_nan()
}

/// The indices of an axis in one of its bins.
#[must_use]
pub fn bin(at: usize, bins: usize, length: usize) -> std::ops::Range<usize> {
    at * length / bins..(at + 1) * length / bins
}

#[cfg(test)]
mod tests {
    use super::{ErrorMap, MAX_BINS, MAX_GRIDS, bin};
    use crate::expected::{Expected, Places};
    use sus_bounds::{Bound, Stage};

    /// The map of a tensor whose bounds are 1 and whose reference is 0.
    fn map(shape: &[usize], found: &[f64]) -> ErrorMap {
        let n = found.len();
        let bound = Bound {
            threshold: vec![1.0; n],
            worst_case: vec![2.0; n],
            stages: vec![[0.0; Stage::COUNT]; n],
        };
        let reference = vec![0.0; n];
        let expected = Expected {
            name: "dq",
            shape,
            reference: &reference,
            bound: &bound,
            limits: None,
            ranges: &[],
            head_rows: 1,
            places: Places::default(),
        };
        let ratios: Vec<f64> = found.iter().map(|x| x.abs()).collect();
        ErrorMap::new(&expected, found, &ratios)
    }

    #[test]
    fn bins_cover_an_axis_once_in_order() {
        for length in [1, 2, 63, 64, 65, 100, 1000] {
            let bins = length.min(MAX_BINS);
            let all: Vec<usize> = (0..bins).flat_map(|at| bin(at, bins, length)).collect();
            assert_eq!(all, (0..length).collect::<Vec<_>>());
            assert!((0..bins).all(|at| !bin(at, bins, length).is_empty()));
        }
    }

    #[test]
    fn sizes_zero_and_one_have_a_map() {
        assert_eq!(map(&[], &[3.0]).grids[0].cells[0].found, 3.0);
        assert_eq!(map(&[0], &[]).grids.len(), 0);
        assert_eq!(map(&[2, 0, 5, 4], &[]).heads.len(), 0);
        let sinks = map(&[3], &[0.0, 2.0, f64::NAN]);
        assert_eq!((sinks.size, sinks.heads.len(), sinks.heads[0].outside), ([1, 3], 1, 2));
    }

    #[test]
    fn each_bin_keeps_its_worst_element_and_the_worst_heads_come_first() {
        let (heads, rows, columns) = (6, 130, 70);
        let mut found = vec![0.5; heads * rows * columns];
        let at = |head: usize, n: usize, d: usize| (head * rows + n) * columns + d;
        found[at(4, 129, 69)] = -9.0;
        found[at(4, 128, 69)] = 3.0;
        found[at(1, 0, 0)] = 7.0;
        let map = map(&[2, 3, rows, columns], &found);
        assert_eq!(map.grids.len(), MAX_GRIDS);
        assert_eq!(map.grids.iter().map(|grid| grid.head).take(3).collect::<Vec<_>>(), [4, 1, 0]);
        assert_eq!((map.head_index(4), map.heads[4].outside), (vec![1, 1], 2));
        let worst = &map.grids[0];
        assert_eq!((worst.bins, worst.cells.len()), ([MAX_BINS; 2], MAX_BINS * MAX_BINS));
        let last = worst.cells.last().unwrap();
        assert_eq!((last.at, last.found, last.ratio, last.outside), ([129, 69], -9.0, 9.0, 2));
        let all: usize = worst.cells.iter().map(|cell| cell.outside).sum();
        assert_eq!(all, map.heads[4].outside);
    }
}
