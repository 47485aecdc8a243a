//! `delta_i = G_i . o_i`: missing, of another row, from another `o`.

use super::{BugType, define_kernels, only_if, read_flat, read_rows};
use crate::arithmetic::Format;
use crate::simulated_kernel::{Point, TILE};

define_kernels! { Some(BugType::Delta);
    /// `delta` is left out.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_missing(config) {
        Some(config.mutate(Point::Delta, |w| w.delta.fill(0.0)))
    }
    /// `delta` is half of what it should be.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_halved(config) {
        Some(config.mutate(Point::Delta, |w| w.delta.iter_mut().for_each(|delta| *delta *= 0.5)))
    }
    /// `delta` is added, not subtracted.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_added(config) {
        Some(config.mutate(Point::Delta, |w| w.delta.iter_mut().for_each(|delta| *delta = -*delta)))
    }
    /// The `delta` of a tile's first row serves the whole tile.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_of_first_row_of_tile(config) {
        only_if(config.sizes().queries > 1)?;
        Some(config.mutate(Point::Delta, |w| {
            let delta = w.delta.clone();
            w.rows().for_each(|(n, row)| w.delta[n] = delta[n - row.i % TILE]);
        }))
    }
    /// `delta` is computed while `do` is still being written: its last features are zero.
    ["7"] [Dq, Dk, Dbias, Dsink]
    fn delta_of_partial_cotangent(config) {
        let half = config.sizes().value_features.div_ceil(2);
        Some(config.mutate(Point::Saved, |w| {
            let o = w.o.clone();
            w.o = sus_reference::tensor::Tensor::from_fn(o.shape(), |[b, h, i, e]| if e < half { o.row(b, h, i)[e] } else { 0.0 });
        }))
    }
    /// `o` is read with the strides of a `do` that is stored `[B, N, H, E]`.
    ["5"] [Dq, Dk, Dbias, Dsink]
    fn o_with_strides_of_do(config) {
        let sizes = config.sizes();
        only_if(sizes.query_heads > 1 && sizes.queries > 1)?;
        Some(config.mutate(Point::Saved, |w| w.o = read_flat(&w.o, |[b, h, i, e]| {
            ((b * sizes.queries + i) * sizes.query_heads + h) * sizes.value_features + e
        })))
    }
    /// Values in tiles of features: each tile's part of `dP` has the full `delta` subtracted.
    ["24"] [Dq, Dk, Dbias]
    fn delta_once_per_value_tile(config) {
        let tiles = config.sizes().value_features.div_ceil(8);
        only_if(tiles > 1)?;
        Some(config.mutate(Point::Product, |w| {
            for (at, n, _, _) in w.entries() {
                w.dp[at] -= (tiles - 1) as f64 * w.delta[n];
            }
        }))
    }
    /// `delta` of the previous head.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_of_previous_head(config) {
        let (heads, queries) = (config.sizes().query_heads, config.sizes().queries);
        only_if(heads > 1)?;
        Some(config.mutate(Point::Delta, |w| {
            let delta = w.delta.clone();
            w.rows().filter(|(_, row)| row.h > 0).for_each(|(n, _)| w.delta[n] = delta[n - queries]);
        }))
    }
    /// `delta` of the first sequence of the batch serves all.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_of_batch_zero(config) {
        only_if(config.sizes().batch > 1)?;
        Some(config.mutate(Point::Saved, |w| w.o = read_rows(&w.o, |[_, h, i]| Some([0, h, i]))))
    }
    /// `delta` from an `o` that is not yet divided by the softmax's denominator.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_before_normalisation(config) {
        Some(config.mutate(Point::Delta, |w| {
            let keys = w.sizes.keys;
            for (n, _) in w.rows() {
                let largest = w.p[n * keys..][..keys].iter().copied().fold(0.0, f64::max);
                w.delta[n] /= if largest > 0.0 { largest } else { 1.0 };
            }
        }))
    }
    /// `delta` from the squares of `do`.
    [] [Dq, Dk, Dbias, Dsink]
    fn delta_of_do_and_do(config) {
        Some(config.mutate(Point::Saved, |w| w.o = w.g.clone()))
    }
    /// `delta` from an `o` stored in bf16 by a kernel that says it stores more.
    ["41"] [Dq, Dk, Dbias, Dsink]
    fn delta_from_o_in_bf16(config) {
        only_if(matches!(config.arithmetic.output, Format::F64 | Format::F32))?;
        Some(config.mutate(Point::Saved, |w| w.o = w.o.map(|x| Format::Bf16.round(x))))
    }
}
