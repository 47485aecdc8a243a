//! The variance of every element of every gradient.

use super::entry::RowEntry;
use super::mask::{MaskDistribution, ROWS_PER_TASK};
use crate::backward::{Gradients, Weights};
use crate::problem::{Row, Sizes, bias_row};
use crate::scalar::Field;
use crate::sus::rule::{keep_probability, kept_weight};
use crate::tensor::Tensor;
use rayon::prelude::*;

/// The variances of the gradients, each of its gradient's shape; `dsink` is exact and has none.
///
/// ```text
/// Var dk_jd = sum_i r_ij f_ij^2 q_id^2      Var dv_je = sum_i r_ij Z_ij^2 G_ie^2      Var dbias = sum r_ij t_ij^2
/// Var dkv_jd = sum_i r_ij (f_ij q_id + Z_ij G_id)^2      Var dslopes_h = sum_i Var sum_j W~_ij t_ij |i + Nk - Nq - j|
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
    let (dq, dbias) = (query_variance(masks), bias_variance(masks));
    let (dslopes, dkv) = (slope_variance(masks), joined_variance(masks));
    Gradients { dq, dk, dv, dbias, dsink: None, dslopes, dkv }
}

/// A row adds one term to the slope of its head, and rows are independent.
fn slope_variance<T: Field, W: Weights<T>>(
    masks: &MaskDistribution<'_, T, W>,
) -> Option<Tensor<T>> {
    let p = masks.problem;
    let shape = p.inputs().alibi_slopes.as_ref()?.shape();
    let mut out = Tensor::zeros(shape);
    for at in 0..p.row_count() {
        let row = p.row(at);
        let entries = masks.entries(row);
        let terms: Vec<[T; 1]> =
            entries.iter().map(|entry| [entry.t * p.alibi_distance(row, entry.j)]).collect();
        let to = p.slope_index(row);
        let out = &mut out.as_mut_slice()[to..=to];
        masks.row(row).add_variances(|_| T::one(), |n| &terms[n], out);
    }
    Some(out)
}

/// An entry adds `W~ (f q_i + Z G_i)` to the first features of its key, and `W~ f q_i` to the others.
fn joined_variance<T: Field, W: Weights<T>>(
    masks: &MaskDistribution<'_, T, W>,
) -> Option<Tensor<T>> {
    let p = masks.problem;
    if !p.options().v_of_k {
        return None;
    }
    let Sizes { key_heads, keys, features, .. } = p.sizes();
    let mut out = Tensor::zeros(p.inputs().k.shape());
    for at in 0..p.row_count() {
        let row = p.row(at);
        let head = (row.b * key_heads + p.key_head(row.h)) * keys;
        masks.for_each_stochastic(row, 0..keys, |entry, r| {
            let out = &mut out.as_mut_slice()[(head + entry.j) * features..][..features];
            for (d, (out, &q)) in out.iter_mut().zip(p.q(row)).enumerate() {
                let of_v = p.g(row).get(d).map_or(T::zero(), |&g| entry.of_v * g);
                let x = entry.f * q + of_v;
                *out += r * x * x;
            }
        });
    }
    Some(out)
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
    /// Calls `visit` with each stochastic entry of a row among `keys`, and its `r_ij`.
    fn for_each_stochastic(
        &self,
        row: Row,
        keys: std::ops::Range<usize>,
        mut visit: impl FnMut(RowEntry<T>, T),
    ) {
        let p = self.problem;
        let number = p.row_number(row);
        let lambda = self.lambda[number];
        self.weights.for_each(row, keys, |weight| {
            let w = weight.w;
            if T::zero() < w && keep_probability(lambda, w) < T::one() {
                let t = weight.dp(p, row) - self.delta[number] + p.dlse(row);
                // r = W (max(W, 1 / lambda) - W)
                visit(RowEntry::new(weight, t), w * (kept_weight(lambda, w) - w));
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
                    masks.for_each_stochastic(row, block.clone(), |entry, r| {
                        let RowEntry { j, f, of_v, .. } = entry;
                        let dk = &mut dk[(j - first) * features..][..features];
                        add_squares(dk, r * f * f, p.q(row));
                        let dv = &mut dv[(j - first) * value_features..][..value_features];
                        add_squares(dv, r * of_v * of_v, p.g(row));
                    });
                }
            }
        });
    });
    (dk, dv)
}

/// A bias has one element per key, so every entry of a row adds `r (t ds/dbias)^2` to an element of its own.
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
            masks.for_each_stochastic(row, 0..keys, |entry, r| {
                out[entry.j] += r * entry.of_bias * entry.of_bias;
            });
        }
    });
    Some(out)
}
