//! Squared parameters of sums and norms of errors over rows, keys and heads. "The weights" and "RMS" in `docs/verdict.md`.

use super::context::BoundContext;
use super::limits::{LARGEST_GRAM, LARGEST_GRAM_WORK};
use super::norm::{Norm, outer};
use super::rounding_model::{RoundingModel, square};
use super::statistic_weights::{LINEAR, StatisticWeights};
use sus_reference::tensor::dot;

/// Squared parameters of one tensor in one key head.
#[derive(Default, Clone)]
pub(super) struct SetVariances {
    /// By row or key, of each linear statistic.
    pub rows: Vec<[f64; LINEAR]>,
    /// The addition of `delta` to the sums of `rows` in the head, since it reaches more than one key.
    pub across: [f64; LINEAR],
    /// By row or key, of the normalised errors.
    pub norms: Vec<Norm>,
    /// Of the normalised errors of the head that come from `delta`, if it reaches more than one row.
    pub shared: Norm,
}

/// Squared parameters of the linear statistics, and the norms.
pub(super) fn set_variances(
    model: &RoundingModel,
    context: &BoundContext<'_>,
    weights: [&StatisticWeights; 3],
) -> [SetVariances; 3] {
    let p = context.input.problem;
    let (s, rows) = (p.sizes(), model.delta.len());
    let held = s
        .keys
        .saturating_mul(s.features.max(s.value_features))
        .saturating_mul(rows.max(s.features));
    let work = held.saturating_mul(s.features.max(s.value_features).max(rows));
    // Where blocks cost too much the trace bounds both norms.
    let grams = held <= LARGEST_GRAM && work <= LARGEST_GRAM_WORK;
    let scales = |rows: usize| SetVariances {
        rows: vec![[0.0; LINEAR]; rows],
        norms: Vec::with_capacity(rows),
        ..SetVariances::default()
    };
    let mut dq = scales(rows);
    let of_values = context.of_values();
    let [_, width_of_dk, width_of_dv] = context.widths();
    // dk and dv; where the values are in the keys both are in the first.
    let mut keys = [scales(s.keys), scales(s.keys)];
    let blocks = |width: usize| vec![vec![0.0; if grams { width * width } else { 0 }]; s.keys];
    let mut of_keys = [blocks(width_of_dk), blocks(width_of_dv)];
    let mut traces = [vec![0.0; s.keys], vec![0.0; s.keys]];
    let mut across: Vec<Vec<f64>> = Vec::new();
    let mut trace_across = 0.0;
    dq.norms = vec![Norm::default(); rows];
    for entries in model.by_row() {
        let (at, row) = model.row(context, entries);
        let of = |which: usize, h: usize, n: usize| weights[which].row(model.b, h, n);
        let w_dq = of(0, row.h, row.i);
        let mut block = vec![0.0; if grams { s.features * s.features } else { 0 }];
        let (mut trace, mut shared) = (0.0, vec![0.0; s.features]);
        let (mut shared_dq, mut shared_dk) = ([0.0; LINEAR], [0.0; LINEAR]);
        let mut reach = vec![0.0; if grams { s.keys * s.features } else { 0 }];
        let g = context.g_of_values(row);
        for e in entries {
            let j = e.j as usize;
            let (q, k) = (p.q(row), p.k(row, j));
            let delta = f64::from(e.by_weight) * model.inflated_delta[at];
            let of_p = square(e.p_in_dv()) * model.for_dv;
            let (w_dk, w_dv) = (of(1, model.key_head, j), of(of_values, model.key_head, j));
            // (sum_d c_d k_d)^2 a^2 for each rounding, with the weights c of the statistic.
            for f in 0..LINEAR {
                let of_dq = dot(w_dq[f], k);
                dq.rows[at][f] += of_dq * of_dq * square(e.total_ds);
                shared_dq[f] += delta * of_dq;
                let of_dk = dot(w_dk[f], q);
                keys[0].rows[j][f] += of_dk * of_dk * (square(e.total_ds) + delta * delta);
                // In the head, the keys' shares of one row's error add up before they are squared: what was added by key
                // is taken off, and the square of the sum is added below.
                keys[0].across[f] -= of_dk * of_dk * delta * delta;
                shared_dk[f] += delta * of_dk;
                let of_dv = dot(w_dv[f], &g);
                keys[of_values - 1].rows[j][f] += of_dv * of_dv * of_p;
            }
            let normal = |x: &[f64], by: &[f64]| -> Vec<f64> {
                x.iter().zip(by).map(|(x, by)| x * by).collect()
            };
            // Blocks of S = A A^T: a rounding of P or dS reaches one row of dq, and one key of dk and dv.
            trace += outer(&mut block, square(e.total_ds), &normal(k, w_dq[0]));
            let by_key = normal(q, w_dk[0]);
            traces[0][j] += outer(&mut of_keys[0][j], square(e.total_ds), &by_key);
            let by_value = normal(&g, w_dv[0]);
            traces[of_values - 1][j] += outer(&mut of_keys[of_values - 1][j], of_p, &by_value);
            trace_across += delta * delta * dot(&by_key, &by_key);
            if let Some(reach) = reach.get_mut(j * s.features..(j + 1) * s.features) {
                reach.iter_mut().zip(&by_key).for_each(|(sum, x)| *sum = delta * x);
            }
            shared.iter_mut().zip(normal(k, w_dq[0])).for_each(|(sum, k)| *sum += delta * k);
        }
        // delta is one more column of A for the row.
        trace += outer(&mut block, 1.0, &shared);
        dq.norms[at] = Norm::of_block(trace, block);
        across.push(reach);
        for f in 0..LINEAR {
            dq.rows[at][f] += shared_dq[f] * shared_dq[f];
            keys[0].across[f] += shared_dk[f] * shared_dk[f];
        }
    }
    let norms = |traces: Vec<f64>, blocks: Vec<Vec<f64>>| {
        traces.into_iter().zip(blocks).map(|(trace, block)| Norm::of_block(trace, block)).collect()
    };
    for ((of, traces), blocks) in keys.iter_mut().zip(traces).zip(of_keys) {
        of.norms = norms(traces, blocks);
    }
    let [mut dk, dv] = keys;
    // delta reaches all keys of dk: the Gram matrix of its columns has the same norms.
    dk.shared = Norm::of_gram(trace_across, if grams { &across } else { &[] });
    [dq, dk, dv]
}
