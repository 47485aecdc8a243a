//! Groups of heads, head dimensions, the batch.

use super::{BugType, define_kernels, only_if, read_flat, read_rows};
use crate::arithmetic::Format;
use crate::simulated_kernel::Point;

define_kernels! { Some(BugType::Heads);
    /// Query head `h` reads key head `h mod Hk` in the backward pass.
    ["20"] [Dq, Dk, Dv, Dbias, Dsink]
    fn key_head_modulo(config) {
        let key_heads = config.sizes().key_heads;
        Some(config.mutate(Point::Saved, |w| w.key_head.iter_mut().enumerate().for_each(|(h, head)| *head = h % key_heads)))
    }
    /// Heads are split by the group's size where the number of key heads is meant: right only if both are equal.
    ["20"] [Dq, Dk, Dv, Dbias, Dsink]
    fn heads_split_by_share(config) {
        let key_heads = config.sizes().key_heads;
        Some(config.mutate(Point::Saved, |w| {
            w.key_head.iter_mut().enumerate().for_each(|(h, head)| *head = (h / key_heads).min(key_heads - 1));
        }))
    }
    /// `dk` and `dv` are not summed over the group: the last query head wins.
    ["21"] [Dk, Dv]
    fn group_last_writer(config) {
        let group = config.problem.group();
        only_if(group > 1)?;
        Some(config.mutate(Point::Slopes, |w| w.lose_keys(|row, _| row.h % group != group - 1)))
    }
    /// `dk` is indexed by query heads: a key head gets that of the query head of its own number.
    ["21"] [Dk, Dv]
    fn key_gradients_by_query_head(config) {
        let (group, key_heads) = (config.problem.group(), config.sizes().key_heads);
        only_if(group > 1)?;
        Some(config.mutate(Point::Slopes, |w| {
            // `dq` has read the right keys by now.
            w.sum_dq();
            for (h, head) in w.key_head.iter_mut().enumerate() {
                *head = if h < key_heads { h } else { usize::MAX };
            }
            w.dq_is_summed = true;
        }))
    }
    /// `dk` and `dv` are averaged over the group.
    [] [Dk, Dv]
    fn group_mean(config) {
        let group = config.problem.group() as f64;
        only_if(group > 1.0)?;
        Some(config.mutate(Point::Sums, |w| (w.dk, w.dv) = (w.dk.map(|x| x / group), w.dv.map(|x| x / group))))
    }
    /// The group is summed in bf16 by a kernel that says it sums it in its accumulator.
    ["21"] [Dk, Dv]
    fn group_sum_in_bf16(config) {
        only_if(config.problem.group() > 1 && config.arithmetic.repeated_heads.is_none())?;
        Some(config.mutate(Point::Slopes, |w| w.arithmetic.repeated_heads = Some(Format::Bf16)))
    }
    /// `dk` has as many columns as `v`: the rest is not written.
    ["20"] [Dk]
    fn dk_columns_of_dv(config) {
        let sizes = config.sizes();
        only_if(sizes.features > sizes.value_features)?;
        Some(config.mutate(Point::Stored, |w| w.dk = read_flat(&w.dk, |[b, h, j, d]| {
            if d < sizes.value_features { ((b * sizes.key_heads + h) * sizes.keys + j) * sizes.features + d } else { usize::MAX }
        })))
    }
    /// `v` and `do` are read with the features of `q`: `dP` misses the last ones.
    ["20", "25"] [Dq, Dk, Dbias]
    fn value_features_of_q(config) {
        let features = config.sizes().features;
        only_if(config.sizes().value_features > features)?;
        Some(config.mutate(Point::Delta, |w| {
            w.v = sus_reference::tensor::Tensor::from_fn(w.v.shape(), |[b, h, j, e]| if e < features { w.v.row(b, h, j)[e] } else { 0.0 });
        }))
    }
    /// `k` and `v` of the first sequence serve the whole batch.
    ["22"] [Dq, Dk, Dv, Dbias, Dsink]
    fn keys_of_batch_zero(config) {
        only_if(config.sizes().batch > 1)?;
        Some(config.mutate(Point::Saved, |w| {
            w.k = read_rows(&w.k, |[_, h, j]| Some([0, h, j]));
            w.v = read_rows(&w.v, |[_, h, j]| Some([0, h, j]));
        }))
    }
    /// `k` and `v` are saved transposed and transposed again, `q` is not: silent where `Nk = Hk`.
    ["23"] [Dq, Dk, Dv, Dbias, Dsink]
    fn keys_transposed_again(config) {
        only_if(config.sizes().keys == config.sizes().key_heads)?;
        Some(config.mutate(Point::Saved, |w| {
            w.k = read_rows(&w.k, |[b, h, j]| Some([b, j, h]));
            w.v = read_rows(&w.v, |[b, h, j]| Some([b, j, h]));
        }))
    }
    /// `dv` of each pair of key heads is swapped.
    [] [Dv]
    fn dv_heads_swapped(config) {
        let heads = config.sizes().key_heads;
        only_if(heads > 1)?;
        Some(config.mutate(Point::Stored, |w| {
            w.dv = read_rows(&w.dv, |[b, h, j]| Some([b, if (h ^ 1) < heads { h ^ 1 } else { h }, j]));
        }))
    }
    /// `dk` and `dv` of the batch are summed into its first sequence.
    [] [Dk, Dv]
    fn batch_summed(config) {
        only_if(config.sizes().batch > 1)?;
        Some(config.mutate(Point::Sums, |w| {
            for tensor in [&mut w.dk, &mut w.dv] {
                let one = tensor.as_slice().len() / w.sizes.batch;
                let (first, rest) = tensor.as_mut_slice().split_at_mut(one);
                for sequence in rest.chunks_mut(one.max(1)) {
                    first.iter_mut().zip(sequence.iter_mut()).for_each(|(a, b)| *a += std::mem::take(b));
                }
            }
        }))
    }
}
