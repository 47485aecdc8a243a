//! The backward pass, dense or sampled: the same sums for both, given the weights.
//!
//! ```text
//! dP_ij = Z_ij G_i . v_j      delta_i = G_i . o_i      t_ij = dP_ij - delta_i + dlse_i      dS_ij = W_ij t_ij
//! dq_i = sum_j dS_ij slope_ij k_j      dk_j = sum_i dS_ij slope_ij q_i      dv_j = sum_i W_ij Z_ij G_i
//! dbias = dS summed over the broadcast axes      dsink_h = - sum_i exp(sink_h - lse_i) (delta_i - dlse_i)
//! dslopes = - dS |i + Nk - Nq - j| summed over queries and keys
//! ```
//!
//! `slope` is the scale times the softcap's derivative; a bias before the softcap has that derivative, too. `Z` is 1 without
//! dropout. Where `v` is a part of `k`, their gradient is `dkv = dk + dv`. SUS replaces `W` by its sampled `W~` here and nowhere
//! else: `o`, `lse`, `delta` and `t` stay exact.
//!
//! Every sum has a fixed order: `dq` over keys ascending; `dk`, `dv` over the query heads of the group, then over
//! queries, ascending; `dbias` over `(b, h, i)` ascending. Each sum belongs to one task, so the result does not
//! depend on the number of threads. Hence the pass over rows and the pass over keys both compute the weights.

mod weights;

pub use weights::{DenseWeights, Weight, Weights};

use crate::forward::Saved;
use crate::problem::{Problem, Row, Sizes, bias_row};
use crate::scalar::{Ring, Scalar};
use crate::tensor::{Tensor, add_scaled, dot};
use rayon::prelude::*;

/// The gradients of a problem, each of its input's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients<T> {
    /// `[B, Hq, Nq, D]`.
    pub dq: Tensor<T>,
    /// `[B, Hk, Nk, D]`, summed over the group.
    pub dk: Tensor<T>,
    /// `[B, Hk, Nk, E]`, summed over the group.
    pub dv: Tensor<T>,
    /// The bias's shape, summed over the axes that it broadcasts.
    pub dbias: Option<Tensor<T>>,
    /// `[Hq]`, summed over the batch.
    pub dsink: Option<Vec<T>>,
    /// The slopes' shape `[B or 1, Hq, 1, 1]`, summed over the batch if they are.
    pub dslopes: Option<Tensor<T>>,
    /// `dk` with `dv` added to its first features, if `v` is a part of `k`.
    pub dkv: Option<Tensor<T>>,
}

impl<T: Ring> Gradients<T> {
    /// `dq`, `dk` and `dv` of a problem without bias, sink and slopes.
    #[must_use]
    pub fn new(dq: Tensor<T>, dk: Tensor<T>, dv: Tensor<T>) -> Self {
        Gradients { dq, dk, dv, dbias: None, dsink: None, dslopes: None, dkv: None }
    }
}

/// The dense backward pass.
///
/// `saved` is the problem's own forward pass (mode "exact") or that of a kernel (mode "given").
///
/// # Examples
/// ```
/// use sus_reference::backward::backward;
/// use sus_reference::forward::forward;
/// let problem = sus_reference::problem::example();
/// let gradients = backward(&problem, &forward(&problem));
/// assert_eq!(gradients.dk.shape(), problem.inputs().k.shape());
/// ```
#[must_use]
pub fn backward<T: Scalar>(problem: &Problem<T>, saved: &Saved<T>) -> Gradients<T> {
    backward_with(problem, saved, &DenseWeights { problem, saved })
}

/// The backward pass with other weights than the dense ones; `delta` and `dsink` are computed from `saved`.
#[must_use]
pub fn backward_with<T: Scalar>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    weights: &impl Weights<T>,
) -> Gradients<T> {
    let delta = delta(problem, &saved.o);
    let mut gradients = backward_from_weights(problem, weights, &delta);
    gradients.dsink = sink_gradient(problem, saved, &delta);
    gradients
}

/// `delta_i = G_i . o_i` for each row, in `(b, h, i)` order.
#[must_use]
pub fn delta<T: Ring>(problem: &Problem<T>, o: &Tensor<T>) -> Vec<T> {
    (0..problem.row_count())
        .map(|at| {
            let row = problem.row(at);
            dot(problem.g(row), o.row(row.b, row.h, row.i))
        })
        .collect()
}

/// All gradients but `dsink` from the weights and `delta`, with nothing but ring operations; `dsink` is left `None`.
///
/// `delta` has one number per row, in `(b, h, i)` order. Over rationals the result is exact.
///
/// # Panics
/// If the length of `delta` is not the number of rows.
///
/// # Examples
/// ```
/// use sus_reference::backward::{DenseWeights, backward, backward_from_weights, delta};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let weights = DenseWeights { problem: &problem, saved: &saved };
/// let gradients = backward_from_weights(&problem, &weights, &delta(&problem, &saved.o));
/// assert_eq!(gradients.dv, backward(&problem, &saved).dv);
/// ```
#[must_use]
pub fn backward_from_weights<T: Ring>(
    problem: &Problem<T>,
    weights: &impl Weights<T>,
    delta: &[T],
) -> Gradients<T> {
    assert_eq!(delta.len(), problem.row_count(), "one delta per row");
    let sums = GradientSums { problem, weights, delta };
    let (dk, dv) = sums.key_gradients();
    let dkv = problem.options().v_of_k.then(|| joined(&dk, &dv));
    let (dq, dbias, dslopes) = (sums.query_gradient(), sums.bias_gradient(), sums.slope_gradient());
    Gradients { dq, dk, dv, dbias, dsink: None, dslopes, dkv }
}

/// `dk` with `dv` added to its first features: the gradient of keys whose first features are the values.
#[must_use]
pub fn joined<T: Ring>(dk: &Tensor<T>, dv: &Tensor<T>) -> Tensor<T> {
    let [features, value_features] = [dk.shape()[3], dv.shape()[3]];
    let mut dkv = dk.clone();
    let rows = dkv.as_mut_slice().chunks_mut(features).zip(dv.as_slice().chunks(value_features));
    for (dkv, dv) in rows {
        add_scaled(&mut dkv[..value_features], T::one(), dv);
    }
    dkv
}

/// Keys per task. Results do not depend on it: each sum belongs to one task.
const KEYS_PER_TASK: usize = 64;

/// The operands of the sums of all gradients.
struct GradientSums<'a, T, W> {
    problem: &'a Problem<T>,
    weights: &'a W,
    delta: &'a [T],
}

impl<T: Ring, W: Weights<T>> GradientSums<'_, T, W> {
    /// `t_ij = Z_ij G_i . v_j - delta_i + dlse_i`.
    fn t(&self, row: Row, weight: &Weight<T>) -> T {
        let p = self.problem;
        weight.dp(p, row) - self.delta[p.row_number(row)] + p.dlse(row)
    }

    /// `dq_i = sum_j W_ij t_ij slope_ij k_j`.
    fn query_gradient(&self) -> Tensor<T> {
        let p = self.problem;
        let mut dq = Tensor::zeros(p.inputs().q.shape());
        dq.as_mut_slice().par_chunks_mut(p.sizes().features).enumerate().for_each(|(at, dq)| {
            let row = p.row(at);
            self.weights.for_each(row, 0..p.sizes().keys, |weight| {
                let Weight { j, w, slope, .. } = weight;
                add_scaled(dq, w * self.t(row, &weight) * slope, p.k(row, j));
            });
        });
        dq
    }

    /// `dk_j = sum_i W_ij t_ij slope_ij q_i` and `dv_j = sum_i W_ij Z_ij G_i`.
    fn key_gradients(&self) -> (Tensor<T>, Tensor<T>) {
        let p = self.problem;
        let Sizes { key_heads, keys, features, value_features, .. } = p.sizes();
        let mut dk = Tensor::zeros(p.inputs().k.shape());
        let mut dv = Tensor::zeros(p.inputs().v.shape());
        if keys == 0 {
            return (dk, dv);
        }
        // One task per key head and block of keys; it reads all rows of the group, in (h, i) order.
        let heads_of_dk = dk.as_mut_slice().par_chunks_mut(keys * features);
        let heads_of_dv = dv.as_mut_slice().par_chunks_mut(keys * value_features);
        heads_of_dk.zip(heads_of_dv).enumerate().for_each(|(head, (dk, dv))| {
            let (b, key_head) = (head / key_heads, head % key_heads);
            let blocks_of_dk = dk.par_chunks_mut(KEYS_PER_TASK * features);
            let blocks_of_dv = dv.par_chunks_mut(KEYS_PER_TASK * value_features);
            blocks_of_dk.zip(blocks_of_dv).enumerate().for_each(|(block, (dk, dv))| {
                let first = block * KEYS_PER_TASK;
                let block = first..first + dv.len() / value_features;
                for row in self.rows_reading(b, key_head) {
                    self.weights.for_each(row, block.clone(), |weight| {
                        let Weight { j, w, slope, .. } = weight;
                        let dk = &mut dk[(j - first) * features..][..features];
                        add_scaled(dk, w * self.t(row, &weight) * slope, p.q(row));
                        let dv = &mut dv[(j - first) * value_features..][..value_features];
                        let wz = weight.dropout.map_or(w, |z| w * z);
                        add_scaled(dv, wz, p.g(row));
                    });
                }
            });
        });
        (dk, dv)
    }

    /// The rows of the query heads that read `key_head`, in `(h, i)` order.
    fn rows_reading(&self, b: usize, key_head: usize) -> impl Iterator<Item = Row> {
        let (group, queries) = (self.problem.group(), self.problem.sizes().queries);
        let heads = key_head * group..(key_head + 1) * group;
        heads.flat_map(move |h| (0..queries).map(move |i| Row { b, h, i }))
    }

    /// `dbias = W_ij t_ij ds_ij/dbias_ij`, summed over the axes along which the bias has length 1.
    fn bias_gradient(&self) -> Option<Tensor<T>> {
        let p = self.problem;
        let keys = p.sizes().keys;
        let shape = p.inputs().bias.as_ref()?.shape();
        let mut dbias = Tensor::zeros(shape);
        if keys == 0 {
            return Some(dbias);
        }
        // One task per row of the bias and block of keys; it reads all rows to which that row of the bias is added.
        let [_, heads, queries, _] = shape;
        dbias.as_mut_slice().par_chunks_mut(keys).enumerate().for_each(|(at, dbias)| {
            let (head, i) = (at / queries, at % queries);
            let mine = Row { b: head / heads, h: head % heads, i };
            dbias.par_chunks_mut(KEYS_PER_TASK).enumerate().for_each(|(block, dbias)| {
                let first = block * KEYS_PER_TASK;
                for row in self.rows_reading_bias(shape, mine) {
                    self.weights.for_each(row, first..first + dbias.len(), |weight| {
                        let ds = weight.w * self.t(row, &weight);
                        dbias[weight.j - first] += weight.bias_slope.map_or(ds, |x| ds * x);
                    });
                }
            });
        });
        Some(dbias)
    }

    /// `dslopes_h = - sum_ij dS_ij |i + Nk - Nq - j|`, row after row.
    fn slope_gradient(&self) -> Option<Tensor<T>> {
        let p = self.problem;
        let shape = p.inputs().alibi_slopes.as_ref()?.shape();
        let rows: Vec<T> = (0..p.row_count())
            .into_par_iter()
            .map(|at| {
                let row = p.row(at);
                let mut sum = T::zero();
                self.weights.for_each(row, 0..p.sizes().keys, |weight| {
                    let ds = weight.w * self.t(row, &weight);
                    sum += ds * p.alibi_distance(row, weight.j);
                });
                sum
            })
            .collect();
        let mut dslopes = Tensor::zeros(shape);
        for (at, &sum) in rows.iter().enumerate() {
            dslopes.as_mut_slice()[p.slope_index(p.row(at))] += sum;
        }
        Some(dslopes)
    }

    /// The rows that read row `bias` of a bias of this shape, in `(b, h, i)` order.
    fn rows_reading_bias(&self, shape: [usize; 4], bias: Row) -> impl Iterator<Item = Row> {
        let sizes = self.problem.sizes();
        let axis = |axis: usize, index: usize, length: usize| {
            if shape[axis] == 1 { 0..length } else { index..index + 1 }
        };
        let batch = axis(0, bias.b, sizes.batch);
        let heads = axis(1, bias.h, sizes.query_heads);
        let queries = axis(2, bias.i, sizes.queries);
        batch
            .flat_map(move |b| {
                let queries = queries.clone();
                heads.clone().flat_map(move |h| queries.clone().map(move |i| Row { b, h, i }))
            })
            .inspect(move |&row| debug_assert_eq!(bias_row(shape, row), bias))
    }
}

/// `dsink_h = - sum_{b,i} exp(sink_h - lse_i) (delta_i - dlse_i)`; `None` without a sink.
///
/// It has no `W`, so SUS leaves it exact. `delta` has one number per row, in `(b, h, i)` order.
#[must_use]
pub fn sink_gradient<T: Scalar>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    delta: &[T],
) -> Option<Vec<T>> {
    let sink = problem.inputs().sink.as_ref()?;
    let mut dsink = vec![T::zero(); sink.len()];
    for (at, (&lse, &delta)) in saved.lse.as_slice().iter().zip(delta).enumerate() {
        let row = problem.row(at);
        if let Some(sink) = problem.sink(row) {
            dsink[row.h] -= (sink - lse).exp() * (delta - problem.dlse(row));
        }
    }
    Some(dsink)
}
