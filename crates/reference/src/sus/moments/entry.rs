//! The visible entries of a row: weight, `t` and `f`.

use crate::backward::{Weight, Weights};
use crate::problem::{Problem, Row};
use crate::scalar::Ring;
use crate::tensor::dot;

/// One visible entry of a row, as the moments use it.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::{MaskDistribution, RowEntry}};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// // Without a cotangent of lse, a row of dS = W t adds up to zero, by the definition of delta.
/// let entries = masks.entries(problem.row(0));
/// let sum: f64 = entries.iter().map(|&RowEntry { w, t, .. }| w * t).sum();
/// let magnitude: f64 = entries.iter().map(|&RowEntry { w, t, .. }| (w * t).abs()).sum();
/// assert!(sum.abs() < 1e-13 * magnitude);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowEntry<T> {
    /// The key.
    pub j: usize,
    /// `W_ij`.
    pub w: T,
    /// `t_ij = G_i . v_j - delta_i + dlse_i`.
    pub t: T,
    /// `f_ij = t_ij slope_ij`.
    pub f: T,
}

/// Appends the visible entries of a row, keys ascending, to `entries`. `delta` is that of the row.
///
/// # Panics
/// If the row is outside the problem.
pub fn entries_into<T: Ring>(
    problem: &Problem<T>,
    weights: &impl Weights<T>,
    delta: T,
    row: Row,
    entries: &mut Vec<RowEntry<T>>,
) {
    let shift = problem.dlse(row) - delta;
    weights.for_each(row, 0..problem.sizes().keys, |Weight { j, w, slope }| {
        let t = dot(problem.g(row), problem.v(row, j)) + shift;
        entries.push(RowEntry { j, w, t, f: t * slope });
    });
}
