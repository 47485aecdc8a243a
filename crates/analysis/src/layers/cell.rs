//! The budget between two points of the grid that meets a limit, solved exactly from the entries between them.

use super::curve::{Point, Sums, grid};
use super::lagrange::Limit;

/// The entries of some heads between two neighbouring points of the grid, and the sums over those below.
#[derive(Debug, Default)]
pub(super) struct Cell {
    low: f64,
    high: f64,
    /// Entries with `q = 1` at every `x` of the cell.
    kept: f64,
    below: Sums,
    /// `y` of each entry between, with its sums.
    pub(super) between: Vec<(f64, Sums)>,
}

impl Cell {
    /// The cell between point `n` of the grid and the next, which are these on the curve of a head, without its entries.
    pub(super) fn new(n: usize, low: &Point, high: &Point) -> Self {
        let mut cell = Cell { low: grid(n), high: grid(n + 1), ..Cell::default() };
        cell.add_ends(low, high);
        cell
    }

    /// Adds the entries of another head outside of the cell.
    pub(super) fn add_ends(&mut self, low: &Point, high: &Point) {
        self.kept += high.kept;
        self.below.add(&low.below);
    }

    /// The `x` at which the limit is met: between two values of `y` the count is `kept + sum y / x` and the variance
    /// `x sum A W / s - sum A W^2`. The count falls with `x`, the variance rises.
    pub(super) fn solve(mut self, limit: Limit) -> f64 {
        self.between.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = self.below;
        for n in 0..=self.between.len() {
            let end = self.between.get(n).map_or(self.high, |entry| entry.0);
            let x = match limit {
                Limit::Count(count) => {
                    let kept = self.kept + (self.between.len() - n) as f64;
                    if count > kept { below.y / (count - kept) } else { f64::INFINITY }
                }
                Limit::Variance(variance) => (variance + below.square) / below.linear,
            };
            if x <= end {
                return x.clamp(self.low, self.high);
            }
            if let Some((_, sums)) = self.between.get(n) {
                below.add(sums);
            }
        }
        self.high
    }
}
