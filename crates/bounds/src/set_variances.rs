//! Squared parameters of sums and norms of errors over rows, keys and heads. "The weights" and "RMS" in `docs/verdict.md`.

use super::context::BoundContext;
use super::limits::{LARGEST_GRAM, LARGEST_GRAM_WORK};
use super::linear_sums::{WeightedRow, linear_sums};
use super::norm::{Norm, outer};
use super::rounding_model::{RoundingModel, square};
use super::simd::{PANEL, PackedRows};
use super::statistic_weights::{LINEAR, StatisticWeights};
use sus_reference::tensor::Tensor;

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
    let packed = PackedOperands::new(model, context, weights);
    for entries in model.by_row() {
        let (at, row) = model.row(context, entries);
        let of = |which: usize, h: usize, n: usize| weights[which].row(model.b, h, n);
        let (w_dq, q) = (of(0, row.h, row.i), p.q(row));
        let mut block = vec![0.0; if grams { s.features * s.features } else { 0 }];
        let (mut trace, mut shared) = (0.0, vec![0.0; s.features]);
        let (mut shared_dq, mut shared_dk) = ([0.0; LINEAR], [0.0; LINEAR]);
        let mut reach = vec![0.0; if grams { s.keys * s.features } else { 0 }];
        let g = context.g_of_values(row);
        for entries in entries.chunk_by(|a, b| a.j as usize / PANEL == b.j as usize / PANEL) {
            let panel = entries[0].j as usize / PANEL;
            // sum_d c_d k_d with the weights c of each statistic, and so for dk and dv; and the squared norms of the normalised rows.
            let of_dq = linear_sums(w_dq, [packed.k.panel(panel); LINEAR]);
            let of_dk = linear_sums([q; LINEAR], [0, 1].map(|f| packed.w_dk[f].panel(panel)));
            let of_dv = linear_sums([&g; LINEAR], [0, 1].map(|f| packed.w_dv[f].panel(panel)));
            for e in entries {
                let j = e.j as usize;
                let (k, lane) = (p.k(row, j), j % PANEL);
                let delta = f64::from(e.by_weight) * model.inflated_delta[at];
                let of_p = square(e.p_in_dv()) * model.for_dv;
                // (sum_d c_d k_d)^2 a^2 for each rounding.
                for f in 0..LINEAR {
                    let of_dq = of_dq[f][lane];
                    dq.rows[at][f] += of_dq * of_dq * square(e.total_ds);
                    shared_dq[f] += delta * of_dq;
                    let of_dk = of_dk[f][lane];
                    keys[0].rows[j][f] += of_dk * of_dk * (square(e.total_ds) + delta * delta);
                    // In the head, the keys' shares of one row's error add up before they are squared: what was added by key
                    // is taken off, and the square of the sum is added below.
                    keys[0].across[f] -= of_dk * of_dk * delta * delta;
                    shared_dk[f] += delta * of_dk;
                    let of_dv = of_dv[f][lane];
                    keys[of_values - 1].rows[j][f] += of_dv * of_dv * of_p;
                }
                // Blocks of S = A A^T: a rounding of P or dS reaches one row of dq, and one key of dk and dv.
                trace += square(e.total_ds) * of_dq[LINEAR][lane];
                traces[0][j] += square(e.total_ds) * of_dk[LINEAR][lane];
                traces[of_values - 1][j] += of_p * of_dv[LINEAR][lane];
                trace_across += delta * delta * of_dk[LINEAR][lane];
                WeightedRow { factor: delta, x: k, by: w_dq[0] }.add_to(&mut shared);
                if grams {
                    let normal = |x: &[f64], by: &[f64]| -> Vec<f64> {
                        x.iter().zip(by).map(|(x, by)| x * by).collect()
                    };
                    outer(&mut block, square(e.total_ds), &normal(k, w_dq[0]));
                    let by_key = normal(q, of(1, model.key_head, j)[0]);
                    outer(&mut of_keys[0][j], square(e.total_ds), &by_key);
                    let by_value = normal(&g, of(of_values, model.key_head, j)[0]);
                    outer(&mut of_keys[of_values - 1][j], of_p, &by_value);
                    let reach = &mut reach[j * s.features..(j + 1) * s.features];
                    reach.iter_mut().zip(&by_key).for_each(|(sum, x)| *sum = delta * x);
                }
            }
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

/// The keys of one head and the weights of `dk` and `dv`, by panels of keys.
struct PackedOperands {
    k: PackedRows,
    w_dk: [PackedRows; LINEAR],
    w_dv: [PackedRows; LINEAR],
}

impl PackedOperands {
    fn new(
        model: &RoundingModel,
        context: &BoundContext<'_>,
        weights: [&StatisticWeights; 3],
    ) -> Self {
        let inputs = context.input.problem.inputs();
        let of_head = |x: &Tensor<f64>| {
            let [_, heads, n, width] = x.shape();
            let first = (model.b * heads + model.key_head) * n * width;
            PackedRows::new(&x.as_slice()[first..][..n * width], width)
        };
        PackedOperands {
            k: of_head(&inputs.k),
            w_dk: [0, 1].map(|f| of_head(&weights[1].linear[f])),
            w_dv: [0, 1].map(|f| of_head(&weights[context.of_values()].linear[f])),
        }
    }
}
