//! The heads of all layers with their curves, and the budgets that meet a limit.

use super::cell::Cell;
use super::curve::Point;
use super::estimator::Estimator;
use super::lagrange::{Limit, spend, total};
use super::layer::Layer;

/// The query heads of all layers in order, with their curves.
pub(super) struct Heads<'a> {
    pub(super) layers: &'a [Layer],
    /// The layer and the query head of each.
    pub(super) places: Vec<(usize, usize)>,
    pub(super) estimator: Estimator,
    pub(super) points: Vec<Vec<Point>>,
}

impl<'a> Heads<'a> {
    pub(super) fn new(layers: &'a [Layer], estimator: Estimator) -> Self {
        let of_layer = |(l, layer): (usize, &Layer)| {
            (0..layer.problem.sizes().query_heads).map(move |h| (l, h)).collect::<Vec<_>>()
        };
        let places: Vec<(usize, usize)> = layers.iter().enumerate().flat_map(of_layer).collect();
        let points = places.iter().map(|&(l, h)| layers[l].curve(h, estimator).points()).collect();
        Heads { layers, places, estimator, points }
    }

    /// The number of rows of all heads, layers and sequences.
    pub(super) fn rows_of_all(&self) -> f64 {
        self.layers.iter().map(|layer| layer.problem.row_count() as f64).sum()
    }

    /// The count with every entry kept.
    pub(super) fn most(&self) -> f64 {
        self.points.iter().filter_map(|points| points.first()).map(|point| point.count).sum()
    }

    /// The exact count at one budget for all.
    pub(super) fn count_at(&self, c: f64) -> f64 {
        let totals =
            |&(l, h): &(usize, usize)| self.layers[l].totals(h, self.estimator, &[c])[0].expected;
        self.places.iter().map(totals).sum()
    }

    /// Point `n` of the grid on the curve of a head: before the curve's first point nothing changes.
    fn at_grid(points: &[Point], n: usize) -> Option<Point> {
        let first = points.first()?;
        points.get(n.saturating_sub(first.n)).copied()
    }

    /// The one budget that meets the limit.
    pub(super) fn one_budget(&self, limit: Limit) -> f64 {
        let all = |n: usize| {
            let points = self.points.iter().filter_map(|points| Self::at_grid(points, n));
            points.fold((0.0, 0.0), |sum, point| (sum.0 + point.count, sum.1 + point.variance))
        };
        let numbers =
            self.points.iter().filter_map(|points| Some((points.first()?.n, points.last()?.n)));
        let Some((first, last)) = numbers.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return 1.0;
        };
        let n = (first + 1..last).find(|&n| ends(all(n), limit)).unwrap_or(last) - 1;
        let mut cell: Option<Cell> = None;
        for (&(l, h), points) in self.places.iter().zip(&self.points) {
            let Some((low, high)) = Self::at_grid(points, n).zip(Self::at_grid(points, n + 1))
            else {
                continue;
            };
            match &mut cell {
                None => cell = Some(Cell::new(n, &low, &high)),
                Some(cell) => cell.add_ends(&low, &high),
            }
            if let Some(cell) = &mut cell {
                cell.between.extend(self.layers[l].between(h, self.estimator, n));
            }
        }
        cell.map_or(1.0, |cell| 1.0 / cell.solve(limit))
    }

    /// The budget of each head, and the multiplier.
    pub(super) fn budgets(&self, limit: Limit) -> (Vec<f64>, f64) {
        let allocation = spend(&self.points, limit);
        let of = |points: &Vec<Point>, at: &Option<usize>| at.map_or(1.0, |at| points[at].c);
        let mut budgets: Vec<f64> =
            self.points.iter().zip(&allocation.at).map(|(points, at)| of(points, at)).collect();
        if let Some((open, to)) = allocation.open {
            // What the head has to reach by itself.
            let mut others = allocation.at.clone();
            let from = others[open].take().unwrap_or(to);
            let (count, variance) = total(&self.points, &others);
            let limit = match limit {
                Limit::Count(all) => Limit::Count(all - count),
                Limit::Variance(all) => Limit::Variance(all - variance),
            };
            let points = &self.points[open];
            let met = |n: &usize| ends((points[*n].count, points[*n].variance), limit);
            let high = (to + 1..from).find(met).unwrap_or(from);
            let (low, high) = (&points[high - 1], &points[high]);
            let (l, h) = self.places[open];
            let mut cell = Cell::new(low.n, low, high);
            cell.between = self.layers[l].between(h, self.estimator, low.n);
            budgets[open] = 1.0 / cell.solve(limit);
        }
        (budgets, allocation.multiplier)
    }
}

/// Whether a point, budgets falling, is the first that has no more than the count, or no less than the variance.
fn ends((count, variance): (f64, f64), limit: Limit) -> bool {
    match limit {
        Limit::Count(most) => count <= most,
        Limit::Variance(most) => variance >= most,
    }
}
