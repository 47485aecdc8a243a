//! The sparse backward pass: `O(n c d)` work, given the mask.
//!
//! 1. A pass over rows gathers `k_j, v_j` of the kept entries, recomputes `W~` and `dS`, stores both, and sums `dq`.
//! 2. A counting sort lists, for each key, its entries in ascending order of rows.
//! 3. A pass over keys gathers `q_i, G_i` and sums `dk, dv`.
//!
//! Each row and each key is one sum in one order, so the result does not depend on the number of threads.

use super::forward::head;
use super::lanes::{Dispatch, Real};
use super::product_rows::{dot, sum_of_rows};
use super::scores::{RowTerms, Scoring, entry};
use crate::forward::Saved;
use crate::problem::Problem;
use crate::sus::Sample;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Rows, or keys, of one task.
const PER_TASK: usize = 64;

/// The memory that a sparse pass needs beside its results.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    /// `W~` and `dS slope` of each kept entry, in the order of the mask.
    pub(super) entries: Vec<[T; 2]>,
    /// Key `n` (all key heads in turn) has the entries `starts[n]..starts[n + 1]` of `order`.
    starts: Vec<usize>,
    /// Row and place in `entries` of each kept entry, by keys.
    order: Vec<[u32; 2]>,
}

/// What all tasks share.
struct Shared<'a, T> {
    problem: &'a Problem<T>,
    saved: &'a Saved<T>,
    sample: &'a Sample,
    delta: &'a [T],
    scoring: Scoring<T>,
}

/// Fills `dq`, `dk` and `dv`, given `delta`.
pub(super) fn run<T: Real>(
    dispatch: Dispatch,
    problem: &Problem<T>,
    (saved, sample): (&Saved<T>, &Sample),
    delta: &[T],
    memory: &mut Memory<T>,
    [dq, dk, dv]: [&mut [T]; 3],
) {
    let sizes = problem.sizes();
    let scoring = Scoring::new(problem.scale(), problem.options().softcap);
    let shared = Shared { problem, saved, sample, delta, scoring };
    memory.entries.clear();
    memory.entries.resize(sample.pattern.count(), [T::zero(); 2]);
    // Each task of rows owns its rows of dq and their entries.
    let mut tasks = Vec::new();
    let mut rest = &mut memory.entries[..];
    for (at, dq) in dq.chunks_mut(PER_TASK * sizes.features).enumerate() {
        let rows = at * PER_TASK..at * PER_TASK + dq.len() / sizes.features;
        let offsets = sample.pattern.offsets();
        let (entries, after) = rest.split_at_mut(offsets[rows.end] - offsets[rows.start]);
        rest = after;
        tasks.push(RowTask { shared: &shared, rows, entries, dq });
    }
    tasks.into_par_iter().for_each(|task| dispatch.run(task));
    transpose(problem, sample, memory);
    let (starts, order, entries) = (&memory.starts, &memory.order, &memory.entries);
    let keys = dk
        .par_chunks_mut(PER_TASK * sizes.features)
        .zip(dv.par_chunks_mut(PER_TASK * sizes.value_features));
    keys.enumerate().for_each(|(at, (dk, dv))| {
        let starts = &starts[at * PER_TASK..];
        dispatch.run(KeyTask { problem, starts, order, entries, dk, dv });
    });
}

/// Some rows.
struct RowTask<'a, T> {
    shared: &'a Shared<'a, T>,
    rows: Range<usize>,
    entries: &'a mut [[T; 2]],
    dq: &'a mut [T],
}

impl<T: Real> WithSimd for RowTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let RowTask { shared, rows, entries, dq } = self;
        let Shared { problem, saved, sample, delta, scoring } = shared;
        let inputs = problem.inputs();
        let sizes = problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let mut rest = entries;
        // Of one row; apart, so that the exponentials run in vectors.
        let (mut products, mut dps) = (Vec::new(), Vec::new());
        for (at, dq) in rows.zip(dq.chunks_exact_mut(d)) {
            let row = problem.row(at);
            let number = row.b * sizes.key_heads + problem.key_head(row.h);
            let k = head(inputs.k.as_slice(), number, sizes.keys * d);
            let v = head(inputs.v.as_slice(), number, sizes.keys * e);
            let (q, g) = (problem.q(row), problem.g(row));
            let kept = sample.pattern.row(at);
            let (entries, after) = rest.split_at_mut(kept.len());
            rest = after;
            products.clear();
            dps.clear();
            for &j in kept {
                let j = j as usize;
                products.push(dot(simd, q, &k[j * d..][..d]));
                dps.push(dot(simd, g, &v[j * e..][..e]));
            }
            let terms =
                RowTerms { lse: saved.lse.as_slice()[at], delta: delta[at] - problem.dlse(row) };
            // The plain path's least weight, rounded likewise.
            let least = T::one() / T::from_f64(sample.lambda[at]);
            for (x, dp) in products.iter_mut().zip(&mut dps) {
                [*x, *dp] = entry::<S, T>(scoring, terms, least, [*x, *dp]);
            }
            for (entry, (&w, &ds)) in entries.iter_mut().zip(products.iter().zip(&dps)) {
                *entry = [w, ds];
            }
            let terms = || dps.iter().zip(kept).map(|(&ds, &j)| (ds, &k[j as usize * d..][..d]));
            sum_of_rows(simd, dq, terms);
        }
    }
}

/// Some keys.
struct KeyTask<'a, T> {
    problem: &'a Problem<T>,
    /// Of the first key of the task, and on.
    starts: &'a [usize],
    order: &'a [[u32; 2]],
    entries: &'a [[T; 2]],
    dk: &'a mut [T],
    dv: &'a mut [T],
}

impl<T: Real> WithSimd for KeyTask<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let KeyTask { problem, starts, order, entries, dk, dv } = self;
        let sizes = problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let (q, g) = (problem.inputs().q.as_slice(), problem.inputs().g.as_slice());
        let keys = dk.chunks_exact_mut(d).zip(dv.chunks_exact_mut(e));
        for ((dk, dv), range) in keys.zip(starts.windows(2)) {
            let order = &order[range[0]..range[1]];
            sum_of_rows(simd, dk, || {
                order
                    .iter()
                    .map(|&[row, at]| (entries[at as usize][1], &q[row as usize * d..][..d]))
            });
            sum_of_rows(simd, dv, || {
                order
                    .iter()
                    .map(|&[row, at]| (entries[at as usize][0], &g[row as usize * e..][..e]))
            });
        }
    }
}

/// Lists the entries by keys: a counting sort, stable, so that rows ascend.
fn transpose<T: Real>(problem: &Problem<T>, sample: &Sample, memory: &mut Memory<T>) {
    let sizes = problem.sizes();
    let Memory { starts, order, .. } = memory;
    let keys = sizes.batch * sizes.key_heads * sizes.keys;
    let key_of = |row: usize| {
        let row = problem.row(row);
        (row.b * sizes.key_heads + problem.key_head(row.h)) * sizes.keys
    };
    // Two places ahead, so that after the second pass each key's start stands in its place.
    starts.clear();
    starts.resize(keys + 2, 0);
    for row in 0..problem.row_count() {
        let first = key_of(row) + 2;
        for &j in sample.pattern.row(row) {
            starts[first + j as usize] += 1;
        }
    }
    let mut sum = 0;
    for start in starts.iter_mut() {
        sum += *start;
        *start = sum;
    }
    order.clear();
    order.resize(sample.pattern.count(), [0; 2]);
    let mut at = 0;
    for row in 0..problem.row_count() {
        let first = key_of(row) + 1;
        for &j in sample.pattern.row(row) {
            let next = &mut starts[first + j as usize];
            order[*next] = [row as u32, at];
            *next += 1;
            at += 1;
        }
    }
}
