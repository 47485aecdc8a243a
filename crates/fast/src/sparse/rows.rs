//! The two passes over rows of the sparse backward pass.

use super::{Entry, KEYS, Shared, sum_up};
use crate::product_rows::{Held, OnRows, Rows, add_rows, prefetch};
use crate::scores::{LANES, RowTerms, drop_entries, weights_and_slopes};
use crate::simd::Real;
use pulp::Simd;
use std::array::from_fn;
use std::ops::Range;

/// Prefetch distance of the rows of `q` and `G`, in rows.
const ROWS_AHEAD: u32 = 2;

/// How many rows ahead its `lse` and `delta` are.
const TERMS_AHEAD: usize = 16;

/// Prefetch distance of `dP`, in chunks.
const CHUNKS_AHEAD: usize = 4;

/// `delta = G . o` of some rows, and `dP = G . v` of their kept entries.
pub(super) struct ValueTask<'a, T> {
    pub(super) shared: &'a Shared<'a, T>,
    pub(super) rows: Range<usize>,
    /// The values that these rows see.
    pub(super) values: Rows<'a, T>,
    pub(super) dp: &'a mut [T],
    pub(super) delta: &'a mut [T],
}

impl<T: Real> OnRows for ValueTask<'_, T> {
    fn features(&self) -> usize {
        self.values.features
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn run<S: Simd, const F: usize>(self, simd: S) {
        let ValueTask { shared, rows, values, dp, delta } = self;
        let values = values.known::<F>();
        let Shared { problem, saved, sample, .. } = *shared;
        let [g, o] = [&problem.inputs().g, &saved.o].map(|rows| values.like(rows.as_slice()));
        let offsets = &sample.pattern.offsets()[rows.start..=rows.end];
        let columns = &sample.pattern.columns()[offsets[0]..];
        for ((at, delta), range) in rows.zip(delta).zip(offsets.windows(2)) {
            let (from, end) = (range[0] - offsets[0], range[1] - offsets[0]);
            g.prefetch(at as u32 + ROWS_AHEAD);
            o.prefetch(at as u32 + ROWS_AHEAD);
            let g = Held::new::<F>(simd, g.row(at as u32));
            *delta = g.dot(simd, o.row(at as u32));
            prefetch(dp, end + CHUNKS_AHEAD * CHUNK, end - from);
            let gathered = values.gather(columns, from, end, |&key| key);
            for (dp, (_, v)) in dp[from..end].iter_mut().zip(gathered) {
                *dp = g.dot(simd, v);
            }
        }
    }
}

/// The entries of some rows, by blocks of keys, and their `dq`.
pub(super) struct RowTask<'a, T> {
    pub(super) shared: &'a Shared<'a, T>,
    pub(super) rows: Range<usize>,
    /// The keys that these rows see.
    pub(super) keys: Rows<'a, T>,
    /// `dP` of all rows, and their `delta`.
    pub(super) dp: &'a [T],
    pub(super) delta: &'a [T],
    pub(super) entries: &'a mut [Entry<T>],
    pub(super) sections: &'a mut [usize],
    /// `dq`, and the sums for `dslopes`.
    pub(super) gradients: (&'a mut [T], &'a mut [T]),
}

/// Kept entries of one row that are worked on together, a whole number of vectors.
const CHUNK: usize = LANES;

/// Some kept entries of one row.
#[repr(align(64))]
struct Chunk<T> {
    /// The row.
    at: usize,
    /// The place of the entries in the mask.
    range: Range<usize>,
    /// `q . k`, then `W~`; nothing reads what follows the entries.
    w: [T; CHUNK],
    /// `dP`, then `dS slope`.
    ds: [T; CHUNK],
}

impl<T: Real> OnRows for RowTask<'_, T> {
    fn features(&self) -> usize {
        self.keys.features
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn run<S: Simd, const F: usize>(mut self, simd: S) {
        let Shared { problem, saved, sample, .. } = *self.shared;
        let delta = self.delta;
        let offsets = &sample.pattern.offsets()[self.rows.start..=self.rows.end];
        let columns = &sample.pattern.columns()[offsets[0]..][..self.entries.len()];
        // Written in order once, they lie in the cache when they are written in any order.
        self.entries.fill(Entry::default());
        for &key in columns {
            self.sections[key as usize / KEYS + 1] += 1;
        }
        sum_up(offsets[0], self.sections);
        self.gradients.0.fill(T::zero());
        self.gradients.1.fill(T::zero());
        let has_slopes = problem.inputs().alibi_slopes.is_some();
        // The weights of one chunk are under way while the one before is added up.
        let mut chunks: [Chunk<T>; 2] = from_fn(|_| Chunk {
            at: self.rows.start,
            range: 0..0,
            w: [T::zero(); CHUNK],
            ds: [T::zero(); CHUNK],
        });
        let [next, last] = &mut chunks;
        let (mut next, mut last) = (next, last);
        for (at, range) in self.rows.clone().zip(offsets.windows(2)) {
            self.keys.like(problem.inputs().q.as_slice()).prefetch(at as u32 + ROWS_AHEAD);
            for terms in [saved.lse.as_slice(), delta] {
                prefetch(terms, at + TERMS_AHEAD, 1);
            }
            let dlse = problem.dlse(problem.row(at));
            let terms = RowTerms { lse: saved.lse.as_slice()[at], delta: delta[at] - dlse };
            // `1 / lambda`, rounded as the reference rounds it.
            let least = T::one() / T::from_f64(sample.lambda[at]);
            for from in (range[0]..range[1]).step_by(CHUNK) {
                (next.at, next.range) = (at, from..range[1].min(from + CHUNK));
                self.multiply::<S, F>(simd, next);
                self.add::<S, F>(simd, last);
                let kept = &sample.pattern.columns()[next.range.clone()];
                let keys = kept.iter().map(|&key| key as usize);
                let (row, scoring) = (problem.row(at), &self.shared.scoring);
                let Chunk { w, ds, .. } = &mut *next;
                drop_entries(problem, row, keys.clone(), ds);
                if has_slopes {
                    let slope = problem.alibi_slope(row).expect("there are slopes");
                    let (mut distances, dp) = ([T::zero(); CHUNK], *ds);
                    for (distance, j) in distances.iter_mut().zip(keys.clone()) {
                        *distance = problem.alibi_distance(row, j);
                    }
                    let addends = distances.map(|distance| slope * distance);
                    let least = (least, Some(&addends));
                    weights_and_slopes(simd, (scoring, terms), least, w, ds);
                    let sum = &mut self.gradients.1[at - self.rows.start];
                    for n in 0..kept.len() {
                        *sum += w[n] * (dp[n] - terms.delta) * distances[n];
                    }
                } else {
                    weights_and_slopes(simd, (scoring, terms), (least, None), w, ds);
                }
                drop_entries(problem, row, keys, w);
                std::mem::swap(&mut next, &mut last);
            }
        }
        self.add::<S, F>(simd, last);
    }
}

impl<T: Real> RowTask<'_, T> {
    /// The products of a chunk.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    fn multiply<S: Simd, const F: usize>(&self, simd: S, chunk: &mut Chunk<T>) {
        let Shared { problem, sample, .. } = *self.shared;
        let keys = self.keys.known::<F>();
        let q = keys.like(problem.inputs().q.as_slice());
        let q = Held::new::<F>(simd, q.row(chunk.at as u32));
        let columns = sample.pattern.columns();
        let Range { start, end } = chunk.range;
        (chunk.w, chunk.ds) = ([T::zero(); CHUNK], [T::zero(); CHUNK]);
        prefetch(self.dp, start + CHUNKS_AHEAD * CHUNK, CHUNK);
        let gathered = keys.gather(columns, start, end, |&key| key);
        for (w, (_, k)) in chunk.w.iter_mut().zip(gathered) {
            *w = q.dot(simd, k);
        }
        for (ds, &dp) in chunk.ds.iter_mut().zip(&self.dp[start..end]) {
            *ds = dp;
        }
    }

    /// Adds the terms of one chunk to `dq`, and writes its entries.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    fn add<S: Simd, const F: usize>(&mut self, simd: S, chunk: &Chunk<T>) {
        let Shared { sample, .. } = *self.shared;
        let keys = self.keys.known::<F>();
        let first = sample.pattern.offsets()[self.rows.start];
        let kept = &sample.pattern.columns()[chunk.range.clone()];
        let dq =
            &mut self.gradients.0[(chunk.at - self.rows.start) * keys.features..][..keys.features];
        add_rows(simd, dq, || chunk.ds.iter().zip(kept).map(|(&ds, &key)| (ds, keys.row(key))));
        for ((&w, &ds), &key) in chunk.w.iter().zip(&chunk.ds).zip(kept) {
            let next = &mut self.sections[key as usize / KEYS + 1];
            self.entries[*next - first] = Entry { row: chunk.at as u32, key, w, ds };
            *next += 1;
        }
    }
}
