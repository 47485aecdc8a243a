//! The sparse backward pass: `O(n c d)` work, given the mask.
//!
//! 1. A pass over rows computes `delta`, gathers `v_j` of the kept entries and computes `dP`.
//! 2. Another one gathers `k_j`, recomputes `W~` and `dS`, and sums `dq`. Each task hands its entries on sorted by blocks of
//!    keys.
//! 3. For each block of keys, what all tasks have for it is collected and listed by keys, rows ascending (a counting sort in
//!    the cache).
//! 4. A pass over keys gathers `q_i` and sums `dk`, another one gathers `G_i` and sums `dv`.
//!
//! One matrix at a time is read at random: the pages and lines of two compete for the same caches.
//!
//! Each row and each key is one sum in one order, so the result does not depend on the number of threads.

mod keys;
mod rows;

use super::product_rows::{ByLength, Rows};
use super::scores::Scoring;
use super::simd::{Dispatch, Real};
use super::tiles::head;
use keys::{SortTask, SumTask};
use rayon::prelude::*;
use rows::{RowTask, ValueTask};
use std::ops::Range;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::Sample;
use sus_reference::tensor::Tensor;

/// Rows of one task.
const ROWS: usize = 128;

/// Keys of one block: its entries and their sorted copy fit into the cache of a core.
const KEYS: usize = 256;

/// The memory that a sparse pass needs beside its results.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    /// `dP` of the kept entries by rows.
    dp: Vec<T>,
    /// The kept entries: by tasks of rows, within a task by blocks of keys, within a block by rows.
    entries: Vec<Entry<T>>,
    /// Where in `entries` the blocks of each task begin: `blocks + 1` numbers a task.
    sections: Vec<usize>,
    /// The same by keys.
    sorted: Vec<Entry<T>>,
    /// Where each key's entries end, counted from the first of its block.
    ends: Vec<usize>,
}

/// A kept entry: `W~` and `dS slope` of one row and one key of its head.
#[derive(Debug, Clone, Copy, Default)]
struct Entry<T> {
    row: u32,
    key: u32,
    w: T,
    ds: T,
}

/// Data that all tasks share.
struct Shared<'a, T> {
    problem: &'a Problem<T>,
    saved: &'a Saved<T>,
    sample: &'a Sample,
    scoring: Scoring<T>,
}

/// Fills `dq`, `dk` and `dv`, and `delta`; and the sums of each row for `dslopes`, if there are slopes.
pub(super) fn run<T: Real>(
    dispatch: Dispatch,
    problem: &Problem<T>,
    (saved, sample): (&Saved<T>, &Sample),
    delta: &mut [T],
    memory: &mut Memory<T>,
    ([dq, dk, dv], of_slopes): ([&mut [T]; 3], &mut [T]),
) {
    let sizes = problem.sizes();
    let scoring = Scoring::new(problem.scale(), problem.options().softcap);
    let shared = Shared { problem, saved, sample, scoring };
    let offsets = sample.pattern.offsets();
    // The rows of the query heads of one key head follow one another: a group of rows.
    let group = problem.row_count() / (sizes.batch * sizes.key_heads).max(1);
    let blocks = sizes.keys.div_ceil(KEYS);
    let tasks = group.div_ceil(ROWS);
    let Memory { dp, entries, sections, sorted, ends } = memory;
    let count = sample.pattern.count();
    // Every one of these is written before it is read.
    dp.resize(count, T::zero());
    entries.resize(count, Entry::default());
    sorted.resize(count, Entry::default());
    ends.resize(sizes.batch * sizes.key_heads * sizes.keys, 0);
    sections.clear();
    sections.resize(sizes.batch * sizes.key_heads * tasks * (blocks + 1), 0);

    let mut value_tasks = Vec::new();
    let mut rest = (Rest(&mut dp[..]), Rest(&mut *delta));
    for rows in tasks_of(group, problem.row_count()) {
        let dp = rest.0.take(offsets[rows.end] - offsets[rows.start]);
        let delta = rest.1.take(rows.len());
        let values = seen(problem, rows.start, &problem.inputs().v, sizes.value_features);
        value_tasks.push(ValueTask { shared: &shared, rows, values, dp, delta });
    }
    value_tasks.into_par_iter().for_each(|task| dispatch.run(ByLength(task)));

    let mut row_tasks = Vec::new();
    let mut rest = (Rest(&mut entries[..]), Rest(&mut sections[..]), Rest(dq), Rest(of_slopes));
    for rows in tasks_of(group, problem.row_count()) {
        let entries = rest.0.take(offsets[rows.end] - offsets[rows.start]);
        let sections = rest.1.take(blocks + 1);
        let dq = rest.2.take(rows.len() * sizes.features);
        let of_slopes = rest.3.take(rows.len());
        let keys = seen(problem, rows.start, &problem.inputs().k, sizes.features);
        let (dp, delta) = (&dp[..], &*delta);
        let gradients = (dq, of_slopes);
        let shared = &shared;
        row_tasks.push(RowTask { shared, rows, keys, dp, delta, entries, sections, gradients });
    }
    row_tasks.into_par_iter().for_each(|task| dispatch.run(ByLength(task)));

    let mut sort_tasks = Vec::new();
    // Keys of each block, and their entries.
    let mut counts = Vec::new();
    let mut rest = (Rest(&mut sorted[..]), Rest(&mut ends[..]));
    for sections in sections.chunks((tasks * (blocks + 1)).max(1)) {
        for block in 0..blocks {
            let starts = sections.chunks_exact(blocks + 1);
            let count = starts.map(|starts| starts[block + 1] - starts[block]).sum();
            let keys = KEYS.min(sizes.keys - block * KEYS);
            counts.push((keys, count));
            let (sorted, ends) = (rest.0.take(count), rest.1.take(keys));
            sort_tasks.push(SortTask { entries, sections, blocks, block, sorted, ends });
        }
    }
    sort_tasks.into_par_iter().for_each(SortTask::run);

    let q = Rows { matrix: problem.inputs().q.as_slice(), features: sizes.features };
    let g = Rows { matrix: problem.inputs().g.as_slice(), features: sizes.value_features };
    let by_keys = ByKeys { entries: sorted, ends, counts: &counts };
    sum_by_keys(dispatch, q, by_keys, |entry| entry.ds, dk);
    sum_by_keys(dispatch, g, by_keys, |entry| entry.w, dv);
}

/// The entries by keys, where those of each key end, and the keys and entries of each block.
#[derive(Clone, Copy)]
struct ByKeys<'a, T> {
    entries: &'a [Entry<T>],
    ends: &'a [usize],
    counts: &'a [(usize, usize)],
}

/// The sums of all keys.
fn sum_by_keys<T: Real>(
    dispatch: Dispatch,
    matrix: Rows<'_, T>,
    ByKeys { entries, ends, counts }: ByKeys<'_, T>,
    factor: impl Fn(&Entry<T>) -> T + Copy + Send,
    sums: &mut [T],
) {
    let mut tasks = Vec::new();
    let mut rest = (Rest(entries), Rest(ends), Rest(sums));
    for &(keys, count) in counts {
        let (entries, ends) = (rest.0.next(count), rest.1.next(keys));
        let sums = rest.2.take(keys * matrix.features);
        tasks.push(SumTask { matrix, entries, factor, ends, sums });
    }
    tasks.into_par_iter().for_each(|task| dispatch.run(ByLength(task)));
}

/// The rows of each task; those of a group, which see the same keys, have tasks of their own.
fn tasks_of(group: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(group.max(1)).flat_map(move |first| {
        let end = first + group;
        (first..end).step_by(ROWS).map(move |first| first..end.min(first + ROWS))
    })
}

/// The rows of a tensor `[batch, key head, key, feature]` that a row of the problem sees.
fn seen<'a, T: Real>(
    problem: &Problem<T>,
    row: usize,
    tensor: &'a Tensor<T>,
    features: usize,
) -> Rows<'a, T> {
    let (sizes, row) = (problem.sizes(), problem.row(row));
    let number = row.b * sizes.key_heads + problem.key_head(row.h);
    Rows { matrix: head(tensor.as_slice(), number, sizes.keys * features), features }
}

/// The part of the output that is not yet split among tasks.
struct Rest<Slice>(Slice);

impl<'a, T> Rest<&'a mut [T]> {
    /// The next `count` elements.
    fn take(&mut self, count: usize) -> &'a mut [T] {
        self.0.split_off_mut(..count).expect("each task has its part")
    }
}

impl<'a, T> Rest<&'a [T]> {
    /// The next `count` elements.
    fn next(&mut self, count: usize) -> &'a [T] {
        self.0.split_off(..count).expect("each task has its part")
    }
}

/// The first half of a counting sort: from the number of entries of class `n` in `starts[n + 1]`, the place of the first of them, all
/// places counted from `first`, and `starts[0] = first`. When each entry written has moved its class on by one, class `n` is
/// `starts[n]..starts[n + 1]`.
fn sum_up(first: usize, starts: &mut [usize]) {
    let mut sum = 0;
    for start in starts.iter_mut() {
        sum += std::mem::replace(start, first + sum);
    }
}
