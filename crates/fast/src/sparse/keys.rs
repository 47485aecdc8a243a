//! The part of the sparse backward pass that runs by keys: sort the entries, then sum `dk` and `dv` in two passes.

use super::{Entry, KEYS, sum_up};
use crate::product_rows::{OnRows, Rows, add_rows, prefetch};
use crate::simd::Real;
use pulp::Simd;

/// Prefetch distance of the entries, in entries.
const ENTRIES_AHEAD: usize = 64;

/// The entries of a block of keys of one head, to be sorted.
pub(super) struct SortTask<'a, T> {
    /// Of all rows, as they left them.
    pub(super) entries: &'a [Entry<T>],
    /// Of all tasks of rows that see this head.
    pub(super) sections: &'a [usize],
    pub(super) blocks: usize,
    pub(super) block: usize,
    /// These entries by keys, those of a key by rows.
    pub(super) sorted: &'a mut [Entry<T>],
    /// Where each key's entries end, counted from the first of the block.
    pub(super) ends: &'a mut [usize],
}

impl<T: Real> SortTask<'_, T> {
    /// A counting sort, stable: rows ascend as they did.
    pub(super) fn run(self) {
        let SortTask { entries, sections, blocks, block, sorted, ends } = self;
        let tasks = || sections.chunks_exact(blocks + 1);
        let section = |starts: &[usize]| starts[block]..starts[block + 1];
        let place = |entry: &Entry<T>| entry.key as usize % KEYS;
        let mut next = [0; KEYS + 1];
        let mut read = 0;
        for (starts, later) in tasks().zip(tasks().skip(1).chain([&[0; 0][..]])) {
            if !later.is_empty() {
                let later = section(later);
                prefetch(entries, later.start, later.len());
            }
            let entries = &entries[section(starts)];
            // The destinations are written in random order later; here they are prefetched in ascending order.
            prefetch(sorted, read, entries.len());
            read += entries.len();
            for entry in entries {
                next[place(entry) + 1] += 1;
            }
        }
        sum_up(0, &mut next);
        for starts in tasks() {
            for entry in &entries[section(starts)] {
                let next = &mut next[place(entry) + 1];
                sorted[*next] = *entry;
                *next += 1;
            }
        }
        ends.copy_from_slice(&next[1..=ends.len()]);
    }
}

/// The gradients of a block of keys: sums of the rows of one matrix.
pub(super) struct SumTask<'a, T, Factor> {
    pub(super) matrix: Rows<'a, T>,
    /// By keys.
    pub(super) entries: &'a [Entry<T>],
    /// The factor of an entry's row.
    pub(super) factor: Factor,
    /// See [`SortTask`].
    pub(super) ends: &'a [usize],
    pub(super) sums: &'a mut [T],
}

impl<T: Real, Factor: Fn(&Entry<T>) -> T> OnRows for SumTask<'_, T, Factor> {
    fn features(&self) -> usize {
        self.matrix.features
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn run<S: Simd, const F: usize>(self, simd: S) {
        let SumTask { matrix, entries, factor, ends, sums } = self;
        let matrix = matrix.known::<F>();
        let features = matrix.features;
        let mut first = 0;
        for (key, &end) in ends.iter().enumerate() {
            prefetch(sums, (key + 1) * features, features);
            prefetch(entries, end + ENTRIES_AHEAD, end - first);
            let sum = &mut sums[key * features..][..features];
            sum.fill(T::zero());
            add_rows(simd, sum, || {
                let gathered = matrix.gather(entries, first, end, |entry| entry.row);
                gathered.map(|(entry, row)| (factor(entry), row))
            });
            first = end;
        }
    }
}
