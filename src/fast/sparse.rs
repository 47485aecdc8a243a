//! The sparse backward pass: `O(n c d)` work, given the mask.
//!
//! 1. A pass over rows gathers `k_j, v_j` of the kept entries, recomputes `W~` and `dS`, and sums `dq`. Each task hands its
//!    entries on sorted by blocks of keys.
//! 2. A pass over blocks of keys collects what all tasks have for it, lists the entries of each key in ascending order of
//!    rows (a counting sort in the cache), gathers `q_i, G_i` and sums `dk, dv`.
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

/// Rows of one task.
const ROWS: usize = 128;

/// Keys of one block: its entries and their sorted copy fit into the cache of a core.
const KEYS: usize = 256;

/// The memory that a sparse pass needs beside its results.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    /// The kept entries: by tasks of rows, within a task by blocks of keys, within a block by rows.
    entries: Vec<Entry<T>>,
    /// Where in `entries` the blocks of each task begin: `blocks + 1` numbers a task.
    sections: Vec<usize>,
}

/// A kept entry: `W~` and `dS slope` of one row and one key of its head.
#[derive(Debug, Clone, Copy, Default)]
struct Entry<T> {
    row: u32,
    key: u32,
    w: T,
    ds: T,
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
    let offsets = sample.pattern.offsets();
    // The rows of the query heads of one key head follow one another: a group of rows.
    let group = problem.row_count() / (sizes.batch * sizes.key_heads).max(1);
    let blocks = sizes.keys.div_ceil(KEYS);
    let tasks = group.div_ceil(ROWS);
    let Memory { entries, sections } = memory;
    entries.clear();
    entries.resize(sample.pattern.count(), Entry::default());
    sections.clear();
    sections.resize(sizes.batch * sizes.key_heads * tasks * (blocks + 1), 0);
    let mut rest = &mut entries[..];
    let mut row_tasks = Vec::new();
    let mut sections_rest = &mut sections[..];
    for (number, dq) in dq.chunks_mut((group * sizes.features).max(1)).enumerate() {
        for (task, dq) in dq.chunks_mut(ROWS * sizes.features).enumerate() {
            let first = number * group + task * ROWS;
            let rows = first..first + dq.len() / sizes.features;
            let (entries, after) = rest.split_at_mut(offsets[rows.end] - offsets[rows.start]);
            let (sections, sections_after) = sections_rest.split_at_mut(blocks + 1);
            (rest, sections_rest) = (after, sections_after);
            row_tasks.push(RowTask { shared: &shared, rows, entries, sections, dq });
        }
    }
    row_tasks
        .into_par_iter()
        .for_each_init(Vec::new, |memory, task| dispatch.run(With { task, memory }));
    let (entries, sections) = (&*entries, &*sections);
    let mut key_tasks = Vec::new();
    let heads = dk
        .chunks_mut((sizes.keys * sizes.features).max(1))
        .zip(dv.chunks_mut((sizes.keys * sizes.value_features).max(1)));
    for (number, (dk, dv)) in heads.enumerate() {
        let size = tasks * (blocks + 1);
        let sections = &sections[number * size..][..size];
        let keys =
            dk.chunks_mut(KEYS * sizes.features).zip(dv.chunks_mut(KEYS * sizes.value_features));
        key_tasks.extend(keys.enumerate().map(|(block, (dk, dv))| KeyTask {
            problem,
            entries,
            sections,
            blocks,
            block,
            dk,
            dv,
        }));
    }
    key_tasks
        .into_par_iter()
        .for_each_init(Sorted::default, |memory, task| dispatch.run(With { task, memory }));
}

/// A task and the memory of the thread that runs it.
struct With<'a, Task, Memory> {
    task: Task,
    memory: &'a mut Memory,
}

/// Some rows.
struct RowTask<'a, T> {
    shared: &'a Shared<'a, T>,
    rows: Range<usize>,
    entries: &'a mut [Entry<T>],
    sections: &'a mut [usize],
    dq: &'a mut [T],
}

impl<T: Real> WithSimd for With<'_, RowTask<'_, T>, Vec<[T; 2]>> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let With { task: RowTask { shared, rows, entries, sections, dq }, memory: scratch } = self;
        let Shared { problem, saved, sample, delta, scoring } = shared;
        let inputs = problem.inputs();
        let sizes = problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let offset = sample.pattern.offsets()[rows.start];
        let keys = sample.pattern.columns()[offset..][..entries.len()].iter();
        write_starts(keys.map(|&key| key as usize / KEYS), offset, sections);
        for (at, dq) in rows.zip(dq.chunks_exact_mut(d)) {
            let row = problem.row(at);
            let number = row.b * sizes.key_heads + problem.key_head(row.h);
            let k = head(inputs.k.as_slice(), number, sizes.keys * d);
            let v = head(inputs.v.as_slice(), number, sizes.keys * e);
            let (q, g) = (problem.q(row), problem.g(row));
            let kept = sample.pattern.row(at);
            scratch.clear();
            scratch.resize(kept.len(), [T::zero(); 2]);
            for (entry, &j) in scratch.iter_mut().zip(kept) {
                let j = j as usize;
                *entry = [dot(simd, q, &k[j * d..][..d]), dot(simd, g, &v[j * e..][..e])];
            }
            let terms =
                RowTerms { lse: saved.lse.as_slice()[at], delta: delta[at] - problem.dlse(row) };
            // The plain path's least weight, rounded likewise.
            let least = T::one() / T::from_f64(sample.lambda[at]);
            for x in scratch.iter_mut() {
                *x = entry::<S, T>(scoring, terms, least, *x);
            }
            let terms =
                || scratch.iter().zip(kept).map(|(&[_, ds], &j)| (ds, &k[j as usize * d..][..d]));
            sum_of_rows(simd, dq, terms);
            for (&[w, ds], &key) in scratch.iter().zip(kept) {
                let next = &mut sections[key as usize / KEYS + 1];
                entries[*next - offset] = Entry { row: at as u32, key, w, ds };
                *next += 1;
            }
        }
    }
}

/// A block of keys of one head.
struct KeyTask<'a, T> {
    problem: &'a Problem<T>,
    entries: &'a [Entry<T>],
    /// Of all tasks of rows that see this head.
    sections: &'a [usize],
    blocks: usize,
    block: usize,
    dk: &'a mut [T],
    dv: &'a mut [T],
}

/// The entries of a block of keys by keys, and where each key's end.
#[derive(Debug)]
struct Sorted<T> {
    entries: Vec<Entry<T>>,
    ends: Vec<usize>,
}

impl<T: Real> WithSimd for With<'_, KeyTask<'_, T>, Sorted<T>> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let With { task, memory: sorted } = self;
        let KeyTask { problem, entries, sections, blocks, block, dk, dv } = task;
        let sizes = problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let (q, g) = (problem.inputs().q.as_slice(), problem.inputs().g.as_slice());
        let of_block = || {
            let tasks = sections.chunks_exact(blocks + 1);
            tasks.flat_map(|starts| &entries[starts[block]..starts[block + 1]])
        };
        sorted.fill(of_block);
        let keys = dk.chunks_exact_mut(d).zip(dv.chunks_exact_mut(e));
        for ((dk, dv), range) in keys.zip(sorted.ends.windows(2)) {
            let entries = &sorted.entries[range[0]..range[1]];
            sum_of_rows(simd, dk, || {
                entries.iter().map(|entry| (entry.ds, &q[entry.row as usize * d..][..d]))
            });
            sum_of_rows(simd, dv, || {
                entries.iter().map(|entry| (entry.w, &g[entry.row as usize * e..][..e]))
            });
        }
    }
}

impl<T: Real> Sorted<T> {
    /// A counting sort by keys, stable: rows ascend as they did.
    fn fill<'a, I: Iterator<Item = &'a Entry<T>>>(&mut self, entries: impl Fn() -> I)
    where
        T: 'a,
    {
        let place = |entry: &Entry<T>| entry.key as usize % KEYS;
        self.ends.clear();
        self.ends.resize(KEYS + 1, 0);
        let count = write_starts(entries().map(place), 0, &mut self.ends);
        self.entries.clear();
        self.entries.resize(count, Entry::default());
        for entry in entries() {
            let next = &mut self.ends[place(entry) + 1];
            self.entries[*next] = *entry;
            *next += 1;
        }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Sorted { entries: Vec::new(), ends: Vec::new() }
    }
}

/// The first half of a counting sort: `starts[n + 1]` becomes the place of the first entry of class `n`, all places counted
/// from `first`, and `starts[0] = first`. When each entry written has moved its class on by one, class `n` is
/// `starts[n]..starts[n + 1]`. Returns the number of entries.
fn write_starts(classes: impl Iterator<Item = usize>, first: usize, starts: &mut [usize]) -> usize {
    for class in classes {
        starts[class + 1] += 1;
    }
    let mut sum = 0;
    for start in starts.iter_mut() {
        sum += std::mem::replace(start, first + sum);
    }
    sum
}
