//! The two passes over rows of the sparse backward pass.

use super::{Entry, KEYS, Shared, With, write_starts};
use crate::fast::forward::head;
use crate::fast::lanes::Real;
use crate::fast::product_rows::{Rows, dot, sum_of_rows};
use crate::fast::scores::{LANES, RowTerms, kept_weights_and_slopes};
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl<'a, T: Real> Shared<'a, T> {
    /// The rows of a matrix `[batch, key head, key, feature]` that a row of the problem sees.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a slice")]
    fn keys_of(&self, at: usize, matrix: &'a [T], features: usize) -> Rows<'a, T> {
        let (sizes, row) = (self.problem.sizes(), self.problem.row(at));
        let number = row.b * sizes.key_heads + self.problem.key_head(row.h);
        Rows { matrix: head(matrix, number, sizes.keys * features), features }
    }
}

/// `dP = G . v` of the kept entries of some rows.
pub(super) struct ValueTask<'a, T> {
    pub(super) shared: &'a Shared<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) dp: &'a mut [T],
}

impl<T: Real> WithSimd for ValueTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let ValueTask { shared, rows, dp } = self;
        let Shared { problem, sample, .. } = *shared;
        let offsets = &sample.pattern.offsets()[rows.start..=rows.end];
        let columns = &sample.pattern.columns()[offsets[0]..];
        for (at, range) in rows.zip(offsets.windows(2)) {
            let (from, end) = (range[0] - offsets[0], range[1] - offsets[0]);
            let features = problem.sizes().value_features;
            let values = shared.keys_of(at, problem.inputs().v.as_slice(), features);
            let g = problem.g(problem.row(at));
            let gathered = values.gather(columns, from, end, |&key| key);
            for (dp, (_, v)) in dp[from..end].iter_mut().zip(gathered) {
                *dp = dot(simd, g, v);
            }
        }
    }
}

/// The entries of some rows, by blocks of keys, and their `dq`.
pub(super) struct RowTask<'a, T> {
    pub(super) shared: &'a Shared<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) entries: &'a mut [Entry<T>],
    pub(super) sections: &'a mut [usize],
    pub(super) dq: &'a mut [T],
}

/// One row's kept entries, as many as whole vectors hold; and `dP` of all rows.
pub(super) struct Scratch<'a, T> {
    dp: &'a [T],
    /// `q . k`, then `W~`.
    w: Vec<T>,
    /// `dP`, then `dS slope`.
    ds: Vec<T>,
}

impl<'a, T: Real> Scratch<'a, T> {
    pub(super) fn new(dp: &'a [T]) -> Self {
        Scratch { dp, w: Vec::new(), ds: Vec::new() }
    }
}

impl<T: Real> WithSimd for With<'_, RowTask<'_, T>, Scratch<'_, T>> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let With { task: RowTask { shared, rows, entries, sections, dq }, memory } = self;
        let Shared { problem, saved, sample, delta, scoring } = *shared;
        let Scratch { dp, w, ds } = memory;
        let features = problem.sizes().features;
        let offsets = &sample.pattern.offsets()[rows.start..=rows.end];
        let first = offsets[0];
        let columns = &sample.pattern.columns()[first..];
        let keys = columns[..entries.len()].iter();
        write_starts(keys.map(|&key| key as usize / KEYS), first, sections);
        let each = rows.zip(offsets.windows(2)).zip(dq.chunks_exact_mut(features));
        for ((at, range), dq) in each {
            let row = problem.row(at);
            let k = shared.keys_of(at, problem.inputs().k.as_slice(), features);
            let kept = &columns[range[0] - first..range[1] - first];
            let size = kept.len().next_multiple_of(LANES);
            w.clear();
            w.resize(size, T::zero());
            let gathered = k.gather(columns, range[0] - first, range[1] - first, |&key| key);
            for (w, (_, k)) in w.iter_mut().zip(gathered) {
                *w = dot(simd, problem.q(row), k);
            }
            ds.clear();
            ds.extend_from_slice(&dp[range[0]..range[1]]);
            ds.resize(size, T::zero());
            let terms =
                RowTerms { lse: saved.lse.as_slice()[at], delta: delta[at] - problem.dlse(row) };
            // The plain path's least weight, rounded likewise.
            let least = T::one() / T::from_f64(sample.lambda[at]);
            kept_weights_and_slopes::<S, T>(&scoring, terms, least, w, ds);
            sum_of_rows(simd, dq, || ds.iter().zip(kept).map(|(&ds, &key)| (ds, k.row(key))));
            for ((&w, &ds), &key) in w.iter().zip(&*ds).zip(kept) {
                let next = &mut sections[key as usize / KEYS + 1];
                entries[*next - first] = Entry { row: at as u32, key, w, ds };
                *next += 1;
            }
        }
    }
}
