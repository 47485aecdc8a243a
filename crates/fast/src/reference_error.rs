//! Bounds of the error of this crate's `f64` passes, element by element. With them the passes serve as a reference for verdicts.
//!
//! # The bound
//!
//! With `u = 2^-53`, one row `i` and its `L`, the bound of the error of `ln W` from [`decide`](super::decide) (scores, exponentials
//! and `lse` in any order of their sums), `n` visible keys in `T = n / 96 + 2` tiles, `M` a bound of all `|s|`, and
//! `V = max_j |v_j|`:
//!
//! - `lse` errs by its part of `L`;
//! - `o_e` by `r_o sum_j W |v_je|`, `r_o = L + (n + 4 T + 2 M + 16) u`: a sum of `n` terms, rescaled with each tile (an exponential
//!   and a product, whose arguments add up to `2 M`), divided at the end;
//! - `delta` by `(E + 4) u sum |G o| + sum |G| (error of o)`;
//! - `|t|` is at most `t_max = |G_i| V + |delta| + |dlse|` (Cauchy-Schwarz), and errs by `e_t = (E + 6) u t_max + (error of delta)`;
//! - the slope errs relatively by `r_s = 24 u + 2 e_s / softcap`, where `sech^2` follows an argument that errs by `e_s / softcap`;
//! - `dS slope` by `W |scale| e`, `e = (L + r_s + 8 u) t_max + e_t`; a sum of `N` of them adds `N u |scale| W t_max`.
//!
//! Hence, with `a_i = |scale| (e + (n + 16) u t_max)` and `b_i` the same with the rows of the group for `n`:
//!
//! ```text
//! dq_id: a_i sum_j W_ij |k_jd|      dk_jd: sum_i b_i W_ij |q_id|      dv_je: sum_i (L + (N + 16) u) W_ij |G_ie|
//! ```
//!
//! The sums over `j` and over `i` are those of a forward pass with the values `[|k|, |v|]`, and of the `dv` of a backward pass whose
//! cotangent is `[b |q|, (L + ...) |G|]`: the same kernels compute them. With a mask, `W~` stands for `W`: `max(W, 1 / lambda)` errs
//! relatively by no more than `L` and its own two roundings. Where `o` and `lse` are given, `o` and `lse` do not err.
//!
//! Weights below the normal range are flushed: [`LEAST`] is added to every weight. All is taken a tenth larger, which covers terms of
//! second order and the rounding of these sums as long as `L` is below a thousandth; elsewhere there is no bound.

use super::backend::{Backend, backward_backend};
use super::passes::{Workspace, backward, forward, sus_backward};
use super::score_error::{Magnitude, largest_magnitude, largest_norm, norm};
use rayon::prelude::*;
use sus_reference::backward::{Gradients, joined};
use sus_reference::forward::Saved;
use sus_reference::problem::{Inputs, Problem, Row};
use sus_reference::sus::{Sample, sampled_values};
use sus_reference::tensor::{Tensor, dot};

/// `2^-53`.
const U: f64 = f64::EPSILON / 2.0;

/// Covers terms of second order: with `L <= 1e-3` ([`LARGEST_LOG`]) a product of two relative errors is below a thousandth of
/// either, `e^L - 1 <= 1.001 L`, and the sums that evaluate the bound round by less than `n u`. A tenth is more than all of them.
const SECOND_ORDER: f64 = 1.1;

/// Above the smallest normal number.
const LEAST: f64 = 4.0 * f64::MIN_POSITIVE;

/// The largest `L` for which the bound is derived.
const LARGEST_LOG: f64 = 1e-3;

/// Bounds of the errors of every result, each of its result's shape.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_fast::{Workspace, forward, reference_error_bounds};
/// let saved = forward(&problem, &mut Workspace::default());
/// let own = reference_error_bounds(&problem, &saved, None, false).unwrap();
/// assert_eq!(own.gradients.dk.shape(), problem.inputs().k.shape());
/// assert!(own.saved.lse.as_slice().iter().all(|&error| 0.0 < error && error < 1e-12));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceErrorBounds {
    /// Of `o` and `lse`.
    pub saved: Saved<f64>,
    /// Of the gradients.
    pub gradients: Gradients<f64>,
}

/// Whether [`reference_error_bounds`] has a bound for a problem: these kernels cover it, bias gradient included, and its scores
/// are not so large that an exponential loses half its digits.
#[must_use]
pub fn has_reference_error_bounds(problem: &Problem<f64>) -> bool {
    let derived = problem.inputs().alibi_slopes.is_none() && problem.options().dropout.is_none();
    derived
        && backward_backend(problem) == Backend::Fast
        && largest_magnitude(problem).log_error(U) <= LARGEST_LOG
}

/// How far [`forward`], [`backward`] or [`sus_backward`] with a
/// mask, may be from the exact results in `f64`; `None` where that is not derived.
///
/// `given` says that `saved` is data that somebody stored, and not this module's forward pass.
#[must_use]
pub fn reference_error_bounds(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    sample: Option<&Sample>,
    given: bool,
) -> Option<ReferenceErrorBounds> {
    of_keys(problem, problem, saved, [sample, sample], given)
}

/// As [`reference_error_bounds`] where the gradients of keys are those of some keys alone: `keys` is that part of `problem`, its
/// gradients those of [`backward`] with the forward pass of `problem`. The two samples are that of `problem` and that of `keys`.
#[must_use]
pub fn reference_error_bounds_of_keys(
    problem: &Problem<f64>,
    keys: &Problem<f64>,
    saved: &Saved<f64>,
    samples: [Option<&Sample>; 2],
) -> Option<ReferenceErrorBounds> {
    of_keys(problem, keys, saved, samples, false)
}

fn of_keys(
    problem: &Problem<f64>,
    keys: &Problem<f64>,
    saved: &Saved<f64>,
    [sample, sample_of_keys]: [Option<&Sample>; 2],
    given: bool,
) -> Option<ReferenceErrorBounds> {
    if !has_reference_error_bounds(problem) {
        return None;
    }
    let mut workspace = Workspace::default();
    let Inputs { q, g, .. } = problem.inputs();
    let sides = |problem: &Problem<f64>, g: Tensor<f64>| {
        let Inputs { q, k, v, sink, .. } = problem.inputs();
        let inputs = Inputs::new(q.clone(), k.clone(), beside(k, v, |_| [1.0, 1.0]), g)
            .with_sink(sink.clone());
        Problem::new(inputs, problem.options().clone().with_v_of_k(false))
    };
    // The sums over keys are needed before the cotangents are known.
    let widths = beside(q, g, |_| [0.0, 0.0]);
    let absolute = sides(problem, widths).ok()?;
    let own = forward(&absolute, &mut workspace);
    let rows = rows(problem, saved, &own, given);
    let sums = key_sums(problem, saved, &own, sample);
    let cotangents = beside(q, g, |at| [rows[at].of_dk, rows[at].of_dv]);
    let absolute = sides(keys, cotangents).ok()?;
    // W or W~ as in `saved`, whose `lse` is the problem's own or given; `o` plays no part in `dv`.
    let weighted = Saved { o: own.o.clone(), lse: saved.lse.clone() };
    let (by_keys, _) = match sample_of_keys {
        None => backward(&absolute, &weighted, &mut workspace),
        Some(sample) => sus_backward(&absolute, &weighted, sample, &mut workspace),
    };
    Some(assemble([problem, keys], saved, &rows, &own.o, &sums, &by_keys.dv))
}

/// The factors of one row.
struct RowFactors {
    lse: f64,
    delta: f64,
    /// Of `sum_j W |v_je|`, in the forward pass.
    of_o: f64,
    /// Of `sum_j W |k_jd|`.
    of_dq: f64,
    of_dk: f64,
    of_dv: f64,
}

/// The visible keys of a row in tiles, and one more on either side.
fn tiles(visible: usize) -> f64 {
    (visible / 96 + 2) as f64
}

fn rows(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    own: &Saved<f64>,
    given: bool,
) -> Vec<RowFactors> {
    let sizes = problem.sizes();
    let of_heads = |x: &Tensor<f64>, features: usize| -> Vec<f64> {
        let heads = x.as_slice().chunks((sizes.keys * features).max(1));
        let mut norms: Vec<f64> = heads.map(|x| largest_norm(x, features)).collect();
        norms.resize(sizes.batch * sizes.key_heads, 0.0); // no keys, no norms
        norms
    };
    let key_norms = of_heads(&problem.inputs().k, sizes.features);
    let value_norms = of_heads(&problem.inputs().v, sizes.value_features);
    let all = (0..problem.row_count()).into_par_iter();
    all.map(|at| {
        let row = problem.row(at);
        let head = row.b * sizes.key_heads + problem.key_head(row.h);
        one_row(problem, saved, own, given, row, [key_norms[head], value_norms[head]])
    })
    .collect()
}

fn one_row(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    own: &Saved<f64>,
    given: bool,
    row: Row,
    [key_norm, value_norm]: [f64; 2],
) -> RowFactors {
    let sizes = problem.sizes();
    let visible = problem.span(row).len();
    let sink = problem.inputs().sink.as_ref().map_or(0.0, |sink| sink[row.h].abs());
    let product = problem.scale().abs() * norm(problem.q(row)) * key_norm;
    let magnitude = Magnitude {
        product,
        // As in any order: the smaller one is not needed here.
        chain: sizes.features as f64 * product,
        bias: 0.0,
        sink,
        softcap: problem.options().softcap,
        features: sizes.features,
        keys: visible,
    };
    let lse = saved.lse.row(row.b, row.h, row.i)[0];
    let lse = if lse.is_finite() { lse.abs() } else { 0.0 };
    // A given `lse` may be larger than any score.
    let log = magnitude.log_error(U) + 2.0 * U * lse;
    let (n, group_rows) = (visible as f64, (problem.group() * sizes.queries) as f64);
    let of_o = log + (n + 4.0 * tiles(visible) + 2.0 * (magnitude.product + sink) + 16.0) * U;
    let (g, o) = (problem.g(row), saved.o.row(row.b, row.h, row.i));
    let products: f64 = g.iter().zip(o).map(|(g, o)| (g * o).abs()).sum();
    let mut of_delta = (sizes.value_features + 4) as f64 * U * products;
    if !given {
        let values = &own.o.row(row.b, row.h, row.i)[sizes.features..];
        of_delta += of_o * g.iter().zip(values).map(|(g, v)| g.abs() * v).sum::<f64>();
    }
    let delta = dot(g, o);
    let t_max = norm(g) * value_norm + delta.abs() + problem.dlse(row).abs();
    let of_t = (sizes.value_features + 6) as f64 * U * t_max + of_delta;
    let of_slope = match magnitude.softcap {
        None => 0.0,
        Some(cap) => 24.0 * U + 2.0 * magnitude.score_error(U) / cap,
    };
    let scale = problem.scale().abs();
    let of_ds = (log + of_slope + 8.0 * U) * t_max + of_t;
    let sum = |n: f64| SECOND_ORDER * scale * (of_ds + (n + 16.0) * U * t_max);
    RowFactors {
        lse: if given { 0.0 } else { SECOND_ORDER * magnitude.log_error_of_lse(U) },
        delta: SECOND_ORDER * of_delta,
        of_o: if given { 0.0 } else { SECOND_ORDER * of_o },
        of_dq: sum(n),
        of_dk: sum(group_rows),
        of_dv: SECOND_ORDER * (log + (group_rows + 16.0) * U),
    }
}

/// `sum_j W_ij |k_jd|` of each row, with the weights in force.
fn key_sums(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    own: &Saved<f64>,
    sample: Option<&Sample>,
) -> Tensor<f64> {
    let features = problem.sizes().features;
    let mut sums = Tensor::zeros(problem.inputs().q.shape());
    let values = sample.map(|sample| (sample, sampled_values(problem, saved, sample)));
    sums.as_mut_slice().par_chunks_mut(features).enumerate().for_each(|(at, sums)| {
        let row = problem.row(at);
        if let Some((sample, values)) = &values {
            let first = sample.pattern.offsets()[at];
            for (&j, &w) in sample.pattern.row(at).iter().zip(&values[first..]) {
                let k = problem.k(row, j as usize);
                sums.iter_mut().zip(k).for_each(|(sum, k)| *sum += (w + LEAST) * k.abs());
            }
            return;
        }
        // Given weights are the own ones times a factor of the row.
        let (own_lse, lse) = (own.lse.as_slice()[at], saved.lse.as_slice()[at]);
        let factor = if own_lse.is_finite() { libm::exp(own_lse - lse) } else { 0.0 };
        let of_row = own.o.row(row.b, row.h, row.i);
        sums.iter_mut().zip(of_row).for_each(|(sum, &x)| *sum = factor * x);
    });
    sums
}

/// From factors and sums to bounds.
fn assemble(
    [problem, keys]: [&Problem<f64>; 2],
    saved: &Saved<f64>,
    rows: &[RowFactors],
    of_values: &Tensor<f64>,
    sums: &Tensor<f64>,
    by_keys: &Tensor<f64>,
) -> ReferenceErrorBounds {
    let sizes = problem.sizes();
    let (d, e) = (sizes.features, sizes.value_features);
    let Inputs { q, k, v, g, sink, .. } = problem.inputs();
    let mut own = ReferenceErrorBounds {
        saved: Saved { o: Tensor::zeros(g.shape()), lse: Tensor::zeros(saved.lse.shape()) },
        gradients: Gradients {
            dsink: sink.as_ref().map(|sink| vec![0.0; sink.len()]),
            ..Gradients::new(
                Tensor::zeros(q.shape()),
                Tensor::zeros(keys.inputs().k.shape()),
                Tensor::zeros(keys.inputs().v.shape()),
            )
        },
    };
    let largest = |x: &Tensor<f64>| x.as_slice().iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let (largest_q, largest_k) = (largest(q), largest(k));
    let (largest_v, largest_g) = (largest(v), largest(g));
    // Weights below the normal range, flushed to zero: their share in a sum over one row, or over all rows of a key.
    let flushed = LEAST * sizes.keys as f64;
    let of_rows = |of: fn(&RowFactors) -> f64| rows.iter().map(of).fold(0.0, f64::max) / U;
    let group_rows = (problem.group() * sizes.queries) as f64;
    let flushed_dk = LEAST * group_rows * of_rows(|row| row.of_dk) * largest_q;
    let flushed_dv = LEAST * group_rows * largest_g;
    let by_keys = by_keys.as_slice().chunks_exact(d + e);
    let dk = own.gradients.dk.as_mut_slice().chunks_exact_mut(d);
    let dv = own.gradients.dv.as_mut_slice().chunks_exact_mut(e);
    for ((dk, dv), sums) in dk.zip(dv).zip(by_keys) {
        dk.iter_mut().zip(&sums[..d]).for_each(|(x, sum)| *x = sum + flushed_dk);
        dv.iter_mut().zip(&sums[d..]).for_each(|(x, sum)| *x = sum + flushed_dv);
    }
    let dq = own.gradients.dq.as_mut_slice().chunks_exact_mut(d);
    for ((dq, sums), row) in dq.zip(sums.as_slice().chunks_exact(d)).zip(rows) {
        let flushed = flushed * row.of_dq / U * largest_k;
        dq.iter_mut().zip(sums).for_each(|(x, sum)| *x = row.of_dq * sum + flushed);
    }
    for (at, row) in rows.iter().enumerate() {
        let Row { b: _, h, .. } = problem.row(at);
        let lse = saved.lse.as_slice()[at];
        if lse == f64::NEG_INFINITY {
            continue;
        }
        own.saved.lse.as_mut_slice()[at] = row.lse;
        if let (Some(dsink), Some(sink)) = (&mut own.gradients.dsink, sink) {
            let (g, o) = (problem.g(problem.row(at)), &saved.o.as_slice()[at * e..][..e]);
            let terms = dot(g, o).abs() + problem.dlse(problem.row(at)).abs();
            let argument = row.lse + U * (2.0 * (sink[h].abs() + lse.abs()) + 16.0);
            let sums = U * (problem.row_count() + 16) as f64;
            let w = libm::exp(sink[h] - lse);
            dsink[h] += SECOND_ORDER * w * ((argument + sums) * terms + row.delta);
        }
    }
    let o = own.saved.o.as_mut_slice().chunks_exact_mut(e);
    for ((o, sums), row) in o.zip(of_values.as_slice().chunks_exact(d + e)).zip(rows) {
        let flushed = row.of_o / U * flushed * largest_v;
        o.iter_mut().zip(&sums[d..]).for_each(|(x, sum)| *x = row.of_o * sum + flushed);
    }
    if problem.options().v_of_k {
        // The sum rounds once more, by u |dk + dv|. `of_dk` and `of_dv` count 16 u of the terms of each, so the sixteenth part of
        // their bounds is not below it; 1/8 is twice that.
        let errors = joined(&own.gradients.dk, &own.gradients.dv);
        own.gradients.dkv = Some(errors.map(|error| 1.125 * error));
    }
    own
}

/// `[|a|, |b|]` by rows, each times a factor of its row.
fn beside(a: &Tensor<f64>, b: &Tensor<f64>, factors: impl Fn(usize) -> [f64; 2]) -> Tensor<f64> {
    let ([batch, heads, n, d], [.., e]) = (a.shape(), b.shape());
    let mut out = Tensor::zeros([batch, heads, n, d + e]);
    let rows = a.as_slice().chunks_exact(d).zip(b.as_slice().chunks_exact(e)).enumerate();
    for (out, (at, (a, b))) in out.as_mut_slice().chunks_exact_mut(d + e).zip(rows) {
        let [of_a, of_b] = factors(at);
        let all = a.iter().map(|x| of_a * x.abs()).chain(b.iter().map(|x| of_b * x.abs()));
        out.iter_mut().zip(all).for_each(|(out, x)| *out = x);
    }
    out
}
