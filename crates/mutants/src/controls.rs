//! The controls: other tiles, other orders, other ways to the same numbers.

use super::arithmetic::Format;
use super::simulated_kernel::{Fold, Order, Point, Schedule, Softmax};
use super::{BugType, define_kernels, only_if};

/// A power of two, which scales without rounding.
fn is_exact(scale: f64) -> bool {
    libm::frexp(scale).0.abs() == 0.5
}

define_kernels! { None::<BugType>;
    /// Tiles of 16, an online softmax.
    [] []
    fn tiles_of_16(config) {
        Some(config.run(Schedule::default()))
    }
    /// Tiles of 64 queries and 32 keys.
    [] []
    fn tiles_of_64_by_32(config) {
        Some(config.run(Schedule { query_tile: 64, key_tile: 32, ..Schedule::default() }))
    }
    /// Sums term by term, first to last.
    [] []
    fn term_by_term(config) {
        Some(config.run(Schedule { query_tile: 1, key_tile: 1, ..Schedule::default() }))
    }
    /// Sums term by term, last to first.
    [] []
    fn reversed_sums(config) {
        Some(config.run(Schedule { query_tile: 1, key_tile: 1, order: Order::Descending, ..Schedule::default() }))
    }
    /// Tiles added last to first.
    [] []
    fn reversed_tiles(config) {
        Some(config.run(Schedule { order: Order::Descending, ..Schedule::default() }))
    }
    /// Sums by halves.
    [] []
    fn pairwise_sums(config) {
        Some(config.run(Schedule { order: Order::Pairwise, ..Schedule::default() }))
    }
    /// Tiles of 4 added in the order in which atomics happen to come.
    [] []
    fn atomics_in_any_order(config) {
        Some(config.run(Schedule { query_tile: 4, key_tile: 4, order: Order::Scattered, ..Schedule::default() }))
    }
    /// The keys in three parts, added at the end.
    [] []
    fn split_keys(config) {
        let tile = config.sizes().keys.div_ceil(3).max(1);
        Some(config.run(Schedule { query_tile: tile, key_tile: tile, ..Schedule::default() }))
    }
    /// The maximum first, then the sum.
    [] []
    fn softmax_in_two_passes(config) {
        Some(config.run(Schedule { softmax: Softmax::TwoPass, ..Schedule::default() }))
    }
    /// The backward pass computes its own `lse`.
    [] []
    fn lse_recomputed(config) {
        Some(config.run(Schedule { recompute_lse: true, ..Schedule::default() }))
    }
    /// The backward pass computes its own `lse` in two passes and reversed.
    [] []
    fn lse_recomputed_reversed(config) {
        Some(config.run(Schedule { recompute_lse: true, softmax: Softmax::TwoPass, order: Order::Descending, ..Schedule::default() }))
    }
    /// Exponentials as powers of two, `log2 e` folded into the difference.
    [] []
    fn powers_of_two(config) {
        Some(config.run(Schedule { base_two: true, ..Schedule::default() }))
    }
    /// Products rounded before they are added.
    [] []
    fn products_rounded(config) {
        Some(config.run(Schedule { fused: false, ..Schedule::default() }))
    }
    /// Products rounded before they are added, by halves.
    [] []
    fn products_rounded_term_by_term(config) {
        Some(config.run(Schedule { fused: false, query_tile: 1, key_tile: 1, ..Schedule::default() }))
    }
    /// The scale is multiplied into `q` first.
    [] []
    fn scale_in_q(config) {
        only_if(config.arithmetic.operand == config.arithmetic.accumulator || is_exact(config.problem.scale()))?;
        Some(config.run(Schedule { fold: Fold::Query, ..Schedule::default() }))
    }
    /// The scale is multiplied into `dS` before that is rounded.
    [] []
    fn scale_in_ds(config) {
        Some(config.run(Schedule { fold: Fold::Slopes, ..Schedule::default() }))
    }
    /// `dS` is made of the `P` that the products read.
    [] []
    fn rounded_weights_in_ds(config) {
        let format = config.arithmetic.weight_operand;
        only_if(matches!(format, Format::Bf16 | Format::F16))?;
        Some(config.mutate(Point::Drawn, |w| {
            w.wq.iter_mut().chain(&mut w.wk).for_each(|weight| *weight = format.round(*weight));
        }))
    }
    /// `delta` as the sum of `W dP` where the recipe does not say `G . o`.
    [] []
    fn delta_from_weights(config) {
        only_if(config.arithmetic.normalised || config.arithmetic.output == config.arithmetic.accumulator)?;
        Some(config.run(Schedule { delta_from_weights: true, ..Schedule::default() }))
    }
    /// The softcap's derivative as `sech^2`.
    [] []
    fn softcap_by_sech(config) {
        config.problem.options().softcap?;
        Some(config.run(Schedule { sech: true, ..Schedule::default() }))
    }
    /// SUS: a kept weight as `W / q`.
    [] []
    fn weights_over_q(config) {
        config.draw?;
        Some(config.run(Schedule { divide_by_q: true, ..Schedule::default() }))
    }
    /// SUS: a kept weight as `W / q`, tiles reversed, `lse` recomputed.
    [] []
    fn weights_over_q_reversed(config) {
        config.draw?;
        Some(config.run(Schedule { divide_by_q: true, order: Order::Descending, recompute_lse: true, ..Schedule::default() }))
    }
    /// Tiles that no query sees are skipped, and their gradients are zeros.
    [] []
    fn unseen_tiles_skipped(config) {
        Some(config.mutate(Point::Scores, |w| {
            for at in 0..w.seen.len() {
                if !w.seen[at] {
                    (w.s[at], w.cap[at]) = (f64::NAN, f64::NAN);
                }
            }
        }))
    }
    /// Values in tiles of 8 features: parts of `dP` are added, and `delta` is subtracted once.
    [] []
    fn value_tiles(config) {
        Some(config.mutate(Point::Product, |w| {
            let features = w.sizes.value_features;
            for (at, _, row, j) in w.entries() {
                let (g, v) = (w.g.row(row.b, row.h, row.i), w.v.row(row.b, w.key_head[row.h], j));
                let operand = w.arithmetic.operand;
                let terms: Vec<(f64, f64)> = (0..features).map(|e| (operand.round(g[e]), operand.round(v[e]))).collect();
                let parts = terms.chunks(8).map(|part| w.dot(part, w.sum_q));
                let sum = parts.fold(0.0, |sum, part| w.fl(sum + part));
                let dp = w.arithmetic.elementwise.round(sum);
                w.dp[at] = w.fl(dp * w.dropout(row, j));
            }
        }))
    }
    /// Keys in two chunks; `delta` from the whole `o`, which an auditor once took for a bug.
    ["48"] []
    fn chunks_with_whole_delta(config) {
        let half = config.sizes().keys.div_ceil(2).max(1);
        Some(config.run(Schedule { key_tile: half, query_tile: half, order: Order::Descending, ..Schedule::default() }))
    }
}
