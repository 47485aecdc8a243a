//! The pass over blocks of keys of the sparse backward pass.

use super::{Entry, KEYS, With, write_starts};
use crate::fast::lanes::Real;
use crate::fast::product_rows::{Rows, sum_of_rows};
use crate::problem::Problem;
use pulp::{Simd, WithSimd};

/// A block of keys of one head.
pub(super) struct KeyTask<'a, T> {
    pub(super) problem: &'a Problem<T>,
    pub(super) entries: &'a [Entry<T>],
    /// Of all tasks of rows that see this head.
    pub(super) sections: &'a [usize],
    pub(super) blocks: usize,
    pub(super) block: usize,
    pub(super) dk: &'a mut [T],
    pub(super) dv: &'a mut [T],
}

/// The entries of a block of keys by keys, and where each key's end.
#[derive(Debug)]
pub(super) struct Sorted<T> {
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
        let (sizes, inputs) = (problem.sizes(), problem.inputs());
        let (d, e) = (sizes.features, sizes.value_features);
        let of_block = || {
            let tasks = sections.chunks_exact(blocks + 1);
            tasks.flat_map(|starts| &entries[starts[block]..starts[block + 1]])
        };
        sorted.fill(of_block);
        let Sorted { entries, ends } = &*sorted;
        let q = Rows { matrix: inputs.q.as_slice(), features: d };
        for (dk, key) in dk.chunks_exact_mut(d).zip(ends.windows(2)) {
            sum_of_rows(simd, dk, || {
                let gathered = q.gather(entries, key[0], key[1], |entry| entry.row);
                gathered.map(|(entry, q)| (entry.ds, q))
            });
        }
        let g = Rows { matrix: inputs.g.as_slice(), features: e };
        for (dv, key) in dv.chunks_exact_mut(e).zip(ends.windows(2)) {
            sum_of_rows(simd, dv, || {
                let gathered = g.gather(entries, key[0], key[1], |entry| entry.row);
                gathered.map(|(entry, g)| (entry.w, g))
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
