//! One multiplier for all heads: the counts of least variance.
//!
//! Everett (Operations Research 11, 1963): if every head minimises `variance_h + mu count_h` by itself, then no other budgets
//! have less variance at the same total count, convex or not. The minimisers over all `mu` are the corners of the lower
//! convex hull of each head's curve. So the edges of all hulls are taken in the order of their gain, variance lost per
//! entry, until the limit is met; the last edge is taken in part.

use super::curve::Point;

/// What ends the spending.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// Spend this expected count.
    Count(f64),
    /// Spend as little as brings the variance down to this.
    Variance(f64),
}

/// A point for each head, and the multiplier that all agree on.
#[derive(Debug)]
pub(super) struct Allocation {
    /// The number of a point of each head, `None` for a head without entries.
    pub(super) at: Vec<Option<usize>>,
    /// The head whose edge is taken in part, and the point at the other end of it; it is at the end of less count.
    pub(super) open: Option<(usize, usize)>,
    /// Variance per expected entry.
    pub(super) multiplier: f64,
}

/// The corners of the lower convex hull of count and variance, by rising count.
fn hull(points: &[Point]) -> Vec<usize> {
    let gain = |a: usize, b: usize| {
        let (a, b) = (&points[a], &points[b]);
        (a.variance - b.variance) / (b.count - a.count)
    };
    let mut corners: Vec<usize> = Vec::new();
    for n in (0..points.len()).rev() {
        if corners.last().is_some_and(|&last| points[n].count <= points[last].count) {
            continue;
        }
        while let [.., a, b] = corners[..]
            && gain(a, b) <= gain(b, n)
        {
            corners.pop();
        }
        corners.push(n);
    }
    corners
}

/// Spends along the hulls of all heads until the limit.
pub(super) fn spend(heads: &[Vec<Point>], limit: Limit) -> Allocation {
    let hulls: Vec<Vec<usize>> = heads.iter().map(|points| hull(points)).collect();
    let mut edges: Vec<(f64, usize, usize)> = Vec::new();
    for (h, (points, corners)) in heads.iter().zip(&hulls).enumerate() {
        edges.extend(corners.windows(2).map(|pair| {
            let (a, b) = (&points[pair[0]], &points[pair[1]]);
            ((a.variance - b.variance) / (b.count - a.count), h, pair[1])
        }));
    }
    // Stable, and the gains of one hull fall: its edges stay in order.
    edges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut at: Vec<Option<usize>> = hulls.iter().map(|corners| corners.first().copied()).collect();
    let mut multiplier = edges.first().map_or(0.0, |edge| edge.0);
    for (gain, h, to) in edges {
        if met(heads, &at, limit) {
            break;
        }
        multiplier = gain;
        let from = at[h].replace(to);
        if passed(heads, &at, limit) {
            at[h] = from;
            return Allocation { at, open: Some((h, to)), multiplier };
        }
    }
    Allocation { at, open: None, multiplier }
}

/// The sums over the heads at their points.
pub(super) fn total(heads: &[Vec<Point>], at: &[Option<usize>]) -> (f64, f64) {
    let points = heads.iter().zip(at).filter_map(|(points, at)| Some(&points[(*at)?]));
    points.fold((0.0, 0.0), |(count, variance), point| {
        (count + point.count, variance + point.variance)
    })
}

fn met(heads: &[Vec<Point>], at: &[Option<usize>], limit: Limit) -> bool {
    let (count, variance) = total(heads, at);
    match limit {
        Limit::Count(most) => count >= most,
        Limit::Variance(most) => variance <= most,
    }
}

fn passed(heads: &[Vec<Point>], at: &[Option<usize>], limit: Limit) -> bool {
    let (count, variance) = total(heads, at);
    match limit {
        Limit::Count(most) => count > most,
        Limit::Variance(most) => variance < most,
    }
}

/// A lower bound of `variance + mu count` over all budgets of one head, on the grid and between its points.
///
/// From point `x_0` to the next, `x_1`: the variance is convex in `x`, with slope `sum A W / s` of the entries below `x_0`, and
/// `count >= kept_1 + (sum y + x_0 entries between) / x`. The bound is least at `x^2 = mu (...) / slope`, or at an end.
fn least_lagrangian(points: &[Point], mu: f64) -> f64 {
    let Some((first, last)) = points.first().zip(points.last()) else { return 0.0 };
    // Beyond the ends: no budget, or all entries kept.
    let ends = last.variance.min(mu * first.count);
    points.windows(2).fold(ends, |least, pair| {
        let (low, high) = (&pair[0], &pair[1]);
        let slope = low.below.linear;
        let spent = low.below.y + (low.kept - high.kept) * low.x;
        let value = |x: f64| low.variance + (x - low.x) * slope + mu * (high.kept + spent / x);
        let inside = if slope > 0.0 { (mu * spent / slope).sqrt() } else { high.x };
        least.min(value(inside.clamp(low.x, high.x)))
    })
}

/// A lower bound of the variance at this count, or of the count at this variance, over all budgets of all heads.
///
/// For any `mu`, `variance + mu count >= sum_h least_lagrangian_h(mu)`.
pub(super) fn bound(heads: &[Vec<Point>], multiplier: f64, limit: Limit) -> f64 {
    let least: f64 = heads.iter().map(|points| least_lagrangian(points, multiplier)).sum();
    match limit {
        Limit::Count(count) => (least - multiplier * count).max(0.0),
        Limit::Variance(variance) if multiplier > 0.0 => ((least - variance) / multiplier).max(0.0),
        Limit::Variance(_) => 0.0,
    }
}
