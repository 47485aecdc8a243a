//! The visible entries of a row: weight, `t` and `f`.

use crate::backward::{Weight, Weights};
use crate::problem::{Problem, Row};
use crate::scalar::Ring;

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
    /// `t_ij = Z_ij G_i . v_j - delta_i + dlse_i`.
    pub t: T,
    /// `f_ij = t_ij slope_ij`.
    pub f: T,
    /// `t_ij ds_ij/dbias_ij`, the factor of `dbias`.
    pub of_bias: T,
    /// `Z_ij`, the factor of `dv`: 1 without dropout.
    pub of_v: T,
}

impl<T: Ring> RowEntry<T> {
    /// The entry of a weight with this `t_ij`.
    #[must_use]
    pub fn new(weight: Weight<T>, t: T) -> Self {
        let Weight { j, w, slope, bias_slope, dropout } = weight;
        let of_bias = bias_slope.map_or(t, |x| t * x);
        RowEntry { j, w, t, f: t * slope, of_bias, of_v: dropout.unwrap_or(T::one()) }
    }
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
    weights.for_each(row, 0..problem.sizes().keys, |weight| {
        entries.push(RowEntry::new(weight, weight.dp(problem, row) + shift));
    });
}
