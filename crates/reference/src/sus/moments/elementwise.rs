//! The variance of every element of every gradient.

use super::mask::{MaskDistribution, ROWS_PER_TASK};
use crate::backward::{Gradients, Weight, Weights};
use crate::problem::{Row, Sizes, bias_row};
use crate::scalar::Field;
use crate::sus::rule::{keep_probability, kept_weight};
use crate::tensor::{Tensor, dot};
use rayon::prelude::*;

/// The variances of `dq`, `dk`, `dv` and `dbias`, each of its gradient's shape; `dsink` is exact and has none.
///
/// ```text
/// Var dk_jd = sum_i r_ij f_ij^2 q_id^2      Var dv_je = sum_i r_ij G_ie^2      Var dbias = sum r_ij t_ij^2
/// Var dq_id = sum_j r_ij f_ij^2 k_jd^2 if entries are independent, else by the pieces of the row's mask
/// ```
///
/// Sums run as in [`backward_from_weights`](crate::backward::backward_from_weights), each in one task.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::{MaskDistribution, variances}};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let masks = MaskDistribution::new(&problem, &saved, Budget::new(4.0)?, Rule::Paper, Sampler::Bernoulli);
/// let all = variances(&masks);
/// // The sums over the elements are the traces.
/// let (sum, trace) = (all.dv.as_slice().iter().sum::<f64>(), masks.traces().dv);
/// assert!(trace > 0.0 && (sum / trace - 1.0).abs() < 1e-12);
/// assert!(all.dbias.is_none() && all.dsink.is_none());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn variances<T: Field, W: Weights<T>>(masks: &MaskDistribution<'_, T, W>) -> Gradients<T> {
    let (dk, dv) = key_variances(masks);
    Gradients { dq: query_variance(masks), dk, dv, dbias: bias_variance(masks), dsink: None }
}

fn query_variance<T: Field, W: Weights<T>>(masks: &MaskDistribution<'_, T, W>) -> Tensor<T> {
    let p = masks.problem;
    let mut out = Tensor::zeros(p.inputs().q.shape());
    out.as_mut_slice().par_chunks_mut(p.sizes().features).enumerate().for_each(|(at, out)| {
        let row = p.row(at);
        let entries = masks.entries(row);
        masks.row(row).add_variances(|n| entries[n].f, |n| p.k(row, entries[n].j), out);
    });
    out
}

impl<T: Field, W: Weights<T>> MaskDistribution<'_, T, W> {
    /// Calls `visit` with `j`, `r_ij`, `t_ij` and the slope of each stochastic entry of a row among `keys`.
    fn for_each_stochastic(
        &self,
        row: Row,
        keys: std::ops::Range<usize>,
        mut visit: impl FnMut(usize, T, T, T),
    ) {
        let p = self.problem;
        let number = p.row_number(row);
        let lambda = self.lambda[number];
        self.weights.for_each(row, keys, |Weight { j, w, slope }| {
            if T::zero() < w && keep_probability(lambda, w) < T::one() {
                let t = dot(p.g(row), p.v(row, j)) - self.delta[number] + p.dlse(row);
                // r = W (max(W, 1 / lambda) - W)
                visit(j, w * (kept_weight(lambda, w) - w), t, slope);
            }
        });
    }
}

/// `out += factor * x^2`, element by element.
fn add_squares<T: Field>(out: &mut [T], factor: T, x: &[T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += factor * x * x;
    }
}

fn key_variances<T: Field, W: Weights<T>>(
    masks: &MaskDistribution<'_, T, W>,
) -> (Tensor<T>, Tensor<T>) {
    let p = masks.problem;
    let Sizes { key_heads, keys, queries, features, value_features, .. } = p.sizes();
    let mut dk = Tensor::zeros(p.inputs().k.shape());
    let mut dv = Tensor::zeros(p.inputs().v.shape());
    if keys == 0 {
        return (dk, dv);
    }
    let heads_of_dk = dk.as_mut_slice().par_chunks_mut(keys * features);
    let heads_of_dv = dv.as_mut_slice().par_chunks_mut(keys * value_features);
    heads_of_dk.zip(heads_of_dv).enumerate().for_each(|(head, (dk, dv))| {
        let (b, first_head) = (head / key_heads, head % key_heads * p.group());
        let blocks_of_dk = dk.par_chunks_mut(ROWS_PER_TASK * features);
        let blocks_of_dv = dv.par_chunks_mut(ROWS_PER_TASK * value_features);
        blocks_of_dk.zip(blocks_of_dv).enumerate().for_each(|(block, (dk, dv))| {
            let first = block * ROWS_PER_TASK;
            let block = first..first + dv.len() / value_features;
            for h in first_head..first_head + p.group() {
                for i in 0..queries {
                    let row = Row { b, h, i };
                    masks.for_each_stochastic(row, block.clone(), |j, r, t, slope| {
                        let f = t * slope;
                        let dk = &mut dk[(j - first) * features..][..features];
                        add_squares(dk, r * f * f, p.q(row));
                        let dv = &mut dv[(j - first) * value_features..][..value_features];
                        add_squares(dv, r, p.g(row));
                    });
                }
            }
        });
    });
    (dk, dv)
}

/// A bias has one element per key, so every entry of a row adds `r t^2` to an element of its own.
fn bias_variance<T: Field, W: Weights<T>>(masks: &MaskDistribution<'_, T, W>) -> Option<Tensor<T>> {
    let p = masks.problem;
    let keys = p.sizes().keys;
    let shape = p.inputs().bias.as_ref()?.shape();
    let mut out = Tensor::zeros(shape);
    if keys == 0 {
        return Some(out);
    }
    let [_, heads, queries, _] = shape;
    out.as_mut_slice().par_chunks_mut(keys).enumerate().for_each(|(at, out)| {
        let (head, i) = (at / queries, at % queries);
        let mine = Row { b: head / heads, h: head % heads, i };
        let rows = (0..p.row_count()).map(|at| p.row(at));
        for row in rows.filter(|&row| bias_row(shape, row) == mine) {
            masks.for_each_stochastic(row, 0..keys, |j, r, t, _| out[j] += r * t * t);
        }
    });
    Some(out)
}
