//! The right kernels: other tiles, other orders, other ways to the same numbers.

use super::arithmetic::Format;
use super::machine::{Fold, Order, Plan, Softmax, Stage};
use super::{family, only_if};

/// A power of two, which scales without rounding.
fn is_exact(scale: f64) -> bool {
    libm::frexp(scale).0.abs() == 0.5
}

family! { Right false;
    /// Tiles of 16, an online softmax.
    [] ""
    fn tiles_of_16(launch) {
        Some(launch.run(Plan::default()))
    }
    /// Tiles of 64 queries and 32 keys.
    [] ""
    fn tiles_of_64_by_32(launch) {
        Some(launch.run(Plan { query_tile: 64, key_tile: 32, ..Plan::default() }))
    }
    /// Sums term by term, first to last.
    [] ""
    fn term_by_term(launch) {
        Some(launch.run(Plan { query_tile: 1, key_tile: 1, ..Plan::default() }))
    }
    /// Sums term by term, last to first.
    [] ""
    fn reversed_sums(launch) {
        Some(launch.run(Plan { query_tile: 1, key_tile: 1, order: Order::Descending, ..Plan::default() }))
    }
    /// Tiles added last to first.
    [] ""
    fn reversed_tiles(launch) {
        Some(launch.run(Plan { order: Order::Descending, ..Plan::default() }))
    }
    /// Sums by halves.
    [] ""
    fn pairwise_sums(launch) {
        Some(launch.run(Plan { order: Order::Pairwise, ..Plan::default() }))
    }
    /// Tiles of 4 added in the order in which atomics happen to come.
    [] ""
    fn atomics_in_any_order(launch) {
        Some(launch.run(Plan { query_tile: 4, key_tile: 4, order: Order::Scattered, ..Plan::default() }))
    }
    /// The keys in three parts, added at the end.
    [] ""
    fn split_keys(launch) {
        let tile = launch.sizes().keys.div_ceil(3).max(1);
        Some(launch.run(Plan { query_tile: tile, key_tile: tile, ..Plan::default() }))
    }
    /// The maximum first, then the sum.
    [] ""
    fn softmax_in_two_passes(launch) {
        Some(launch.run(Plan { softmax: Softmax::TwoPass, ..Plan::default() }))
    }
    /// The backward pass computes its own `lse`.
    [] ""
    fn lse_recomputed(launch) {
        Some(launch.run(Plan { recompute_lse: true, ..Plan::default() }))
    }
    /// The backward pass computes its own `lse` in two passes and reversed.
    [] ""
    fn lse_recomputed_reversed(launch) {
        Some(launch.run(Plan { recompute_lse: true, softmax: Softmax::TwoPass, order: Order::Descending, ..Plan::default() }))
    }
    /// Exponentials as powers of two, `log2 e` folded into the difference.
    [] ""
    fn powers_of_two(launch) {
        Some(launch.run(Plan { base_two: true, ..Plan::default() }))
    }
    /// Products rounded before they are added.
    [] ""
    fn products_rounded(launch) {
        Some(launch.run(Plan { fused: false, ..Plan::default() }))
    }
    /// Products rounded before they are added, by halves.
    [] ""
    fn products_rounded_term_by_term(launch) {
        Some(launch.run(Plan { fused: false, query_tile: 1, key_tile: 1, ..Plan::default() }))
    }
    /// The scale is multiplied into `q` first.
    [] ""
    fn scale_in_q(launch) {
        only_if(launch.arithmetic.operand == launch.arithmetic.accumulator || is_exact(launch.problem.scale()))?;
        Some(launch.run(Plan { fold: Fold::Query, ..Plan::default() }))
    }
    /// The scale is multiplied into `dS` before that is rounded.
    [] ""
    fn scale_in_ds(launch) {
        Some(launch.run(Plan { fold: Fold::Slopes, ..Plan::default() }))
    }
    /// `dS` is made of the `P` that the products read.
    [] ""
    fn rounded_weights_in_ds(launch) {
        let format = launch.arithmetic.weight_operand;
        only_if(matches!(format, Format::Bf16 | Format::F16))?;
        Some(launch.edit(Stage::Drawn, |w| {
            w.wq.iter_mut().chain(&mut w.wk).for_each(|weight| *weight = format.round(*weight));
        }))
    }
    /// `delta` as the sum of `W dP` where the recipe does not say `G . o`.
    [] ""
    fn delta_from_weights(launch) {
        only_if(launch.arithmetic.normalised || launch.arithmetic.output == launch.arithmetic.accumulator)?;
        Some(launch.run(Plan { delta_from_weights: true, ..Plan::default() }))
    }
    /// The softcap's derivative as `sech^2`.
    [] ""
    fn softcap_by_sech(launch) {
        launch.problem.options().softcap?;
        Some(launch.run(Plan { sech: true, ..Plan::default() }))
    }
    /// SUS: a kept weight as `W / q`.
    [] ""
    fn weights_over_q(launch) {
        launch.draw?;
        Some(launch.run(Plan { divide_by_q: true, ..Plan::default() }))
    }
    /// SUS: a kept weight as `W / q`, tiles reversed, `lse` recomputed.
    [] ""
    fn weights_over_q_reversed(launch) {
        launch.draw?;
        Some(launch.run(Plan { divide_by_q: true, order: Order::Descending, recompute_lse: true, ..Plan::default() }))
    }
    /// Tiles that no query sees are skipped, and their gradients are zeros.
    [] ""
    fn unseen_tiles_skipped(launch) {
        Some(launch.edit(Stage::Scores, |w| {
            for at in 0..w.seen.len() {
                if !w.seen[at] {
                    (w.s[at], w.cap[at]) = (f64::NAN, f64::NAN);
                }
            }
        }))
    }
    /// Values in tiles of 8 features: parts of `dP` are added, and `delta` is subtracted once.
    [] ""
    fn value_tiles(launch) {
        Some(launch.edit(Stage::Product, |w| {
            let features = w.sizes.value_features;
            for (at, _, row, j) in w.entries() {
                let (g, v) = (w.g.row(row.b, row.h, row.i), w.v.row(row.b, w.key_head[row.h], j));
                let operand = w.arithmetic.operand;
                let terms: Vec<(f64, f64)> = (0..features).map(|e| (operand.round(g[e]), operand.round(v[e]))).collect();
                let parts = terms.chunks(8).map(|part| w.dot(part, w.sum_q));
                let sum = parts.fold(0.0, |sum, part| w.fl(sum + part));
                w.dp[at] = w.arithmetic.elementwise.round(sum);
            }
        }))
    }
    /// Keys in two chunks; `delta` from the whole `o`, which an auditor once took for a bug.
    ["48"] ""
    fn chunks_with_whole_delta(launch) {
        let half = launch.sizes().keys.div_ceil(2).max(1);
        Some(launch.run(Plan { key_tile: half, query_tile: half, order: Order::Descending, ..Plan::default() }))
    }
}
