//! A bound of the distance between a kernel's weight and the reference's. It says which sampling decisions are certain.
//!
//! # The bound `d`
//!
//! With unit roundoff `u`, `a = |scale| |q_i| max_j |k_j|` (Cauchy-Schwarz), the largest `|bias|` `b`, `M` a bound of every
//! `|s|` and of the sink, and a bound `e(u) = u (a_D + 10 a + 2 b + 16 softcap)` of the error of a score (a dot product, its
//! operands, the scale and the bias rounded; the softcap's `tanh` to `8 u`, a division and a product). Here `a_D = D a` for
//! the dot product of the reference, whatever its order. A kernel's runs through the features in their order: feature `d`
//! takes part in `D + 2 - d` roundings at most, so `a_D` is `a` with `(D + 2 - d) q_id` in place of `q_id`: 0.58 of `D a` where features are
//! alike and many.
//!
//! - `lse` errs by `e`, and by the errors of the exponentials (`2 M u` from the difference, [`ERROR`]` u` of its own) and of
//!   their sum in tiles (`TILE u` within a tile; sums of tiles, in `f64`, `16 * 2^-53` each, rescaling included);
//! - `ln w = ln p + m - lse` errs by that, by `e`, and by `2 M u + ERROR u` of `p`.
//!
//! In sum `2 e + u (6 M + TILE + 3 ERROR + 16)`, of which `e + u (3 M + TILE + 2 ERROR + 16)` is the error of `lse`; the plain
//! path's own error is that of `f64` with its `n` terms in one sum.
//! The total is taken ten per cent larger, which covers the terms of second order as long as it is below 1.

use super::exp::ERROR;
use super::tiles::MAX_TILE;
use rayon::prelude::*;
use sus_reference::problem::Problem;

/// Bounds of the scores of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Magnitude {
    /// `|scale| |q_i| max_j |k_j|`.
    pub(super) product: f64,
    /// The same with the features of `q_i` times `D + 1, D, ..., 2`: as often as a sum of products in the order of the features
    /// rounds each of them, at most.
    pub(super) chain: f64,
    /// The largest finite `|bias|`, with the slopes' part.
    pub(super) bias: f64,
    /// The sink's magnitude.
    pub(super) sink: f64,
    pub(super) softcap: Option<f64>,
    pub(super) features: usize,
    pub(super) keys: usize,
}

impl Magnitude {
    /// The bound `d` of `|ln(w / plain w)|` for a weight computed with unit roundoff `u`.
    pub(super) fn log_error(&self, u: f64) -> f64 {
        let Magnitude { product, bias, sink, softcap, .. } = *self;
        let largest = softcap.map_or(product, |cap| cap.min(product)) + bias + sink;
        let weight = self.score_error(u) + u * (3.0 * largest + ERROR);
        1.1 * weight + self.log_error_of_lse(u)
    }

    /// The same for a weight from the reference path's score and the kernel's `lse`.
    pub(super) fn log_error_of_lse(&self, u: f64) -> f64 {
        let Magnitude { product, bias, sink, softcap, keys, .. } = *self;
        let largest = softcap.map_or(product, |cap| cap.min(product)) + bias + sink;
        let plain = f64::EPSILON / 2.0;
        let tiles = keys.div_ceil(MAX_TILE / 4) as f64 * 16.0 * plain;
        let kernel = u * (3.0 * largest + MAX_TILE as f64 + 2.0 * ERROR + 16.0);
        let definition = plain * (6.0 * largest + keys as f64 + 32.0);
        1.1 * (self.score_error(u)
            + kernel
            + tiles
            + 2.0 * self.score_error_in_any_order(plain)
            + definition)
    }

    /// The bound of the error of a kernel's score: its products are added up in the order of the features.
    pub(super) fn score_error(&self, u: f64) -> f64 {
        self.error_of_sum(u, self.chain)
    }

    /// The same where they are added up in any order.
    fn score_error_in_any_order(&self, u: f64) -> f64 {
        self.error_of_sum(u, self.features as f64 * self.product)
    }

    // Of the 10, 5 are derived: q, k and the scale are rounded to the kernel's type (3), the product with the scale and the sum with
    // the bias round (2). They are taken twice, which costs a few more entries that the reference decides. `2 bias`: its rounding
    // and the sum. `16 softcap`: `tanh` to `8 u`, the division and the product, and their second order.
    fn error_of_sum(&self, u: f64, sum: f64) -> f64 {
        let Magnitude { product, bias, softcap, .. } = *self;
        u * (sum + 10.0 * product + 2.0 * bias + 16.0 * softcap.unwrap_or(0.0))
    }

    /// The bound `d` for a weight computed in `f64` from the sum over the whole row: the reference's own error, twice.
    pub(super) fn log_error_again(&self) -> f64 {
        let plain = f64::EPSILON / 2.0;
        let largest = self.softcap.map_or(self.product, |cap| cap.min(self.product));
        let sums = 6.0 * (largest + self.bias + self.sink) + self.keys as f64 + 3.0 * ERROR + 32.0;
        1.1 * 2.0 * (2.0 * self.score_error_in_any_order(plain) + plain * sums)
    }
}

/// The Euclidean norm of `(D + 1) q_1, D q_2, ..., 2 q_D`, see [`Magnitude::chain`].
pub(super) fn norm_of_chain(q: &[f64]) -> f64 {
    let weights = (2..q.len() + 2).rev().map(|n| n as f64);
    libm::sqrt(q.iter().zip(weights).map(|(q, n)| (n * q) * (n * q)).sum())
}

/// The Euclidean norm, not below the true one by more than the factor that the bound's ten per cent cover.
pub(super) fn norm(x: &[f64]) -> f64 {
    libm::sqrt(x.iter().map(|x| x * x).sum())
}

/// The largest norm of a row.
pub(super) fn largest_norm(x: &[f64], features: usize) -> f64 {
    x.par_chunks(features).map(norm).reduce(|| 0.0, f64::max)
}

/// Bounds of the scores of all rows.
pub(super) fn largest_magnitude(problem: &Problem<f64>) -> Magnitude {
    let (inputs, sizes) = (problem.inputs(), problem.sizes());
    // An infinite bias hides its key, which has no score.
    let largest = |x: &[f64]| {
        x.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()))
    };
    let product = problem.scale().abs()
        * largest_norm(inputs.q.as_slice(), sizes.features)
        * largest_norm(inputs.k.as_slice(), sizes.features);
    let bias = inputs.bias.as_ref().map_or(0.0, |bias| largest(bias.as_slice()));
    // A slope is rounded, its product and its sum with a score that may have a bias: three roundings of either, where `bias` stands for
    // two. No distance within a sequence is longer than its queries and keys together.
    let of_slopes = inputs
        .alibi_slopes
        .as_ref()
        .map_or(0.0, |slopes| largest(slopes.as_slice()) * (sizes.queries + sizes.keys) as f64);
    Magnitude {
        product,
        chain: (sizes.features + 1) as f64 * product,
        bias: if of_slopes > 0.0 { 1.5 * (bias + of_slopes) } else { bias },
        sink: inputs.sink.as_ref().map_or(0.0, |sink| largest(sink)),
        softcap: problem.options().softcap,
        features: sizes.features,
        keys: sizes.keys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dispatch;
    use crate::simd::private::Vectors as _;
    use sus_reference::problem::{Inputs, Options, Problem, Row};
    use sus_reference::tensor::Tensor;

    /// One key, so `lse` is the score. Each sum but the first rounds up by nearly half a unit of the last place.
    #[test]
    fn a_score_errs_by_nearly_as_much_as_the_bound_of_its_sum_and_not_by_more() {
        let small = libm::exp2(-12.0) * (1.0 + libm::exp2(-10.0));
        let row = || Tensor::from_fn([1, 1, 1, 64], |[.., d]| if d == 0 { 1.0 } else { small });
        let inputs = Inputs::new(row(), row(), row(), row());
        let exact = Problem::new(inputs, Options::default().with_scale(1.0));
        let exact = exact.unwrap();
        let q = exact.q(Row { b: 0, h: 0, i: 0 });
        let truth = q.iter().map(|x| x * x).sum::<f64>();
        let magnitude = Magnitude {
            product: norm(q) * norm(q),
            chain: norm(q) * norm_of_chain(q),
            bias: 0.0,
            sink: 0.0,
            softcap: None,
            features: 64,
            keys: 1,
        };
        let bound = magnitude.score_error(f32::ROUNDOFF);
        for dispatch in Dispatch::ALL {
            let mut workspace = crate::Workspace::new(dispatch);
            let saved = crate::forward(&exact.cast::<f32>().unwrap(), &mut workspace);
            let ratio = (f64::from(saved.lse.as_slice()[0]) - truth).abs() / bound;
            assert!((0.8..1.0).contains(&ratio), "{ratio}, {dispatch:?}");
        }
    }

    /// With one feature there is no sum: the operands and the scale, each rounded by nearly a unit, are the whole error.
    #[test]
    fn a_score_of_one_feature_errs_by_more_than_its_sum_and_by_less_than_the_bound() {
        // In f32 each rounds to 1, by u to first order.
        let above_one = 1.0 + f64::from(f32::EPSILON) / 2.0;
        let row = || Tensor::from_fn([1, 1, 1, 1], |_| above_one);
        let options = Options::default().with_scale(above_one);
        let exact = Problem::new(Inputs::new(row(), row(), row(), row()), options).unwrap();
        let magnitude = largest_magnitude(&exact);
        let saved = crate::forward(&exact.cast::<f32>().unwrap(), &mut crate::Workspace::default());
        let error = (f64::from(saved.lse.as_slice()[0]) - above_one.powi(3)).abs();
        let of_sum = f32::ROUNDOFF * magnitude.chain;
        assert!(error > 1.4 * of_sum, "{error:e}, the sum's share {of_sum:e}");
        assert!(error < magnitude.score_error(f32::ROUNDOFF));
    }
}
