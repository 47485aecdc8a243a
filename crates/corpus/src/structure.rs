//! The operands of a case that are no numbers but say which keys a query sees, and its slopes: formulas of the indices.

use super::fixture::{Fixture, Packed, Slopes};
use std::sync::Arc;
use sus_reference::error::Error;
use sus_reference::mask::{AttnMask, BlockMask, Indices, KeySet, Lengths, Segments};
use sus_reference::problem::{Dropout, Inputs, Options};
use sus_reference::tensor::Tensor;

impl Fixture {
    /// The options of its problem: those of its settings, with its masks, lists, lengths and dropout.
    ///
    /// # Errors
    /// Those of the settings.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus::Suite;
    /// let case = Suite::Smoke.fixtures().iter().find(|case| case.name == "attn_mask").unwrap();
    /// assert_eq!(case.problem_options()?.key_sets[0].name(), "attn_mask");
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn problem_options(&self) -> Result<Options, Error> {
        let mut options = self.settings(None).options()?;
        let (sizes, operands) = (self.sizes, self.operands);
        let mut sets = Vec::new();
        let (heads, queries, keys) = (sizes.query_heads, sizes.queries, sizes.keys);
        if operands.attn_mask {
            let shape = [sizes.batch, 1, queries, keys];
            let seen = flags(shape, |[b, _, i, j]| i != 1 && (b + 3 * i + j) % 7 < 5);
            sets.push(KeySet::AttnMask(AttnMask { shape, seen }));
        }
        if let Some(block @ [m, n]) = operands.block_mask {
            let shape = [1, heads, queries.div_ceil(m), keys.div_ceil(n)];
            let seen = flags(shape, |[_, h, i, j]| (h + 2 * i + j) % 4 != 1);
            sets.push(KeySet::BlockMask(BlockMask { shape, block, seen }));
        }
        if let Some(length) = operands.indices {
            let shape = [1, sizes.key_heads, queries, length];
            // Steps of 2 among an odd number of keys reach each key once.
            let key = |[_, h, i, t]: [usize; 4]| {
                if (i + t) % 5 == 4 { -1 } else { ((h + 3 * i + 2 * t) % keys) as i64 }
            };
            sets.push(KeySet::Indices(Indices::new(shape, places(shape).map(key).collect())));
        }
        if operands.lengths {
            let of = |n: usize, step: usize| {
                Some((0..sizes.batch).map(|b| n.saturating_sub(step * b + 1)).collect())
            };
            options = options.with_lengths(Lengths { queries: of(queries, 1), keys: of(keys, 2) });
        }
        if let Some(Packed { cu_seqlens_q, cu_seqlens_k, seqused_k }) = operands.packed {
            let [queries, keys] = [cu_seqlens_q, cu_seqlens_k].map(Vec::from);
            options = options
                .with_segments(Segments { queries, keys })
                .with_lengths(Lengths { queries: None, keys: Some(seqused_k.into()) });
        }
        let dropout = operands.dropout_p.map(|p| {
            let shape = [sizes.batch, heads, queries, keys];
            let kept = flags(shape, |[b, h, i, j]| (b + 3 * h + 5 * i + 2 * j) % 4 != 0);
            Dropout { shape, kept, p }
        });
        Ok(options.with_key_sets(sets).with_dropout(dropout))
    }

    /// Its drawn tensors with its slopes, `2^-(h + 1)` or `2^-(b + h + 1)`, and with `v` from `k` if that is so.
    pub(crate) fn with_structure(&self, mut inputs: Inputs<f64>) -> Inputs<f64> {
        let (batch, heads) = (self.sizes.batch, self.sizes.query_heads);
        let slope = |n: usize| 1.0 / (2_u64 << n) as f64;
        inputs.alibi_slopes = self.operands.alibi.map(|slopes| match slopes {
            Slopes::Heads => Tensor::from_fn([1, heads, 1, 1], |[_, h, ..]| slope(h)),
            Slopes::Batch => Tensor::from_fn([batch, 1, 1, heads], |[b, .., h]| slope(b + h)),
        });
        if self.options.v_of_k {
            let k = inputs.k.clone();
            inputs.v = Tensor::from_fn(inputs.v.shape(), |[b, h, n, e]| k.row(b, h, n)[e]);
        }
        inputs
    }
}

/// The indices of a tensor of this shape, row-major.
fn places(shape: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    let [_, heads, queries, keys] = shape;
    (0..shape.iter().product()).map(move |at| {
        let (row, j) = (at / keys, at % keys);
        [row / queries / heads, row / queries % heads, row % queries, j]
    })
}

fn flags(shape: [usize; 4], of: impl Fn([usize; 4]) -> bool) -> Arc<[u8]> {
    places(shape).map(|place| u8::from(of(place))).collect()
}
