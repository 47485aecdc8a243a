//! The sparse backward pass: `O(n c d)` work, given the mask.
//!
//! 1. A pass over rows gathers `v_j` of the kept entries and computes `dP`.
//! 2. Another one gathers `k_j`, recomputes `W~` and `dS`, and sums `dq`. Each task hands its entries on sorted by blocks of
//!    keys.
//! 3. A pass over blocks of keys collects what all tasks have for it, lists the entries of each key in ascending order of
//!    rows (a counting sort in the cache), and gathers `q_i` for `dk`, then `G_i` for `dv`.
//!
//! One matrix at a time is read at random: the pages and lines of two compete for the same caches.
//!
//! Each row and each key is one sum in one order, so the result does not depend on the number of threads.

mod keys;
mod rows;

use super::lanes::{Dispatch, Real};
use super::scores::Scoring;
use crate::forward::Saved;
use crate::problem::Problem;
use crate::sus::Sample;
use keys::{KeyTask, Sorted};
use rayon::prelude::*;
use rows::{RowTask, ValueTask};

/// Rows of one task.
const ROWS: usize = 128;

/// Keys of one block: its entries and their sorted copy fit into the cache of a core.
const KEYS: usize = 256;

/// The memory that a sparse pass needs beside its results.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    /// `dP` of the kept entries.
    dp: Vec<T>,
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

/// A task and the memory of the thread that runs it.
struct With<'a, Task, Memory> {
    task: Task,
    memory: &'a mut Memory,
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
    let Memory { dp, entries, sections } = memory;
    // Every one of these is written before it is read.
    dp.resize(sample.pattern.count(), T::zero());
    entries.resize(sample.pattern.count(), Entry::default());
    sections.clear();
    sections.resize(sizes.batch * sizes.key_heads * tasks * (blocks + 1), 0);

    let mut value_tasks = Vec::new();
    let mut row_tasks = Vec::new();
    let (mut dp_rest, mut entries_rest) = (&mut dp[..], &mut entries[..]);
    let mut sections_rest = &mut sections[..];
    for (number, dq) in dq.chunks_mut((group * sizes.features).max(1)).enumerate() {
        for (task, dq) in dq.chunks_mut(ROWS * sizes.features).enumerate() {
            let first = number * group + task * ROWS;
            let rows = first..first + dq.len() / sizes.features;
            let count = offsets[rows.end] - offsets[rows.start];
            let dp = dp_rest.split_off_mut(..count).expect("as many as the sample has");
            let entries = entries_rest.split_off_mut(..count).expect("as many as the sample has");
            let sections = sections_rest.split_off_mut(..=blocks).expect("as many as tasks");
            value_tasks.push(ValueTask { shared: &shared, rows: rows.clone(), dp });
            row_tasks.push(RowTask { shared: &shared, rows, entries, sections, dq });
        }
    }
    value_tasks.into_par_iter().for_each(|task| dispatch.run(task));
    let dp = &dp[..];
    row_tasks.into_par_iter().for_each_init(
        || rows::Scratch::new(dp),
        |memory, task| dispatch.run(With { task, memory }),
    );

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
