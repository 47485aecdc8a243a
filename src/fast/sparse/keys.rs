//! What the sparse backward pass does by keys: the entries in their order, then two passes over them.

use super::{Entry, KEYS, write_starts};
use crate::fast::lanes::Real;
use crate::fast::product_rows::{OnRows, Rows, add_rows};
use pulp::Simd;

/// The entries of a block of keys of one head, to be sorted.
pub(super) struct SortTask<'a, T> {
    /// Of all rows, as they left them.
    pub(super) entries: &'a [Entry<T>],
    /// Of all tasks of rows that see this head.
    pub(super) sections: &'a [usize],
    pub(super) blocks: usize,
    pub(super) block: usize,
    pub(super) sorted: Sorted<'a, T>,
}

/// Kept entries by keys, those of a key by rows.
pub(super) struct Sorted<'a, T> {
    pub(super) rows: &'a mut [u32],
    pub(super) w: &'a mut [T],
    pub(super) ds: &'a mut [T],
    /// Where each key's entries end, counted from the first of the block.
    pub(super) ends: &'a mut [usize],
}

impl<T: Real> SortTask<'_, T> {
    /// A counting sort, stable: rows ascend as they did.
    pub(super) fn run(self) {
        let SortTask { entries, sections, blocks, block, sorted } = self;
        let Sorted { rows, w, ds, ends } = sorted;
        let entries = || {
            let tasks = sections.chunks_exact(blocks + 1);
            tasks.flat_map(|starts| &entries[starts[block]..starts[block + 1]])
        };
        let place = |entry: &Entry<T>| entry.key as usize % KEYS;
        let mut next = [0; KEYS + 1];
        write_starts(entries().map(place), 0, &mut next);
        for entry in entries() {
            let next = &mut next[place(entry) + 1];
            (rows[*next], w[*next], ds[*next]) = (entry.row, entry.w, entry.ds);
            *next += 1;
        }
        ends.copy_from_slice(&next[1..=ends.len()]);
    }
}

/// The gradients of a block of keys: sums of the rows of one matrix.
pub(super) struct SumTask<'a, T> {
    pub(super) matrix: Rows<'a, T>,
    pub(super) rows: &'a [u32],
    pub(super) factors: &'a [T],
    /// See [`Sorted`].
    pub(super) ends: &'a [usize],
    pub(super) sums: &'a mut [T],
}

impl<T: Real> OnRows for SumTask<'_, T> {
    fn features(&self) -> usize {
        self.matrix.features
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn run<S: Simd, const F: usize>(self, simd: S) {
        let SumTask { matrix, rows, factors, ends, sums } = self;
        let matrix = matrix.known::<F>();
        let mut first = 0;
        for (sum, &end) in sums.chunks_exact_mut(matrix.features).zip(ends) {
            sum.fill(T::zero());
            add_rows(simd, sum, || {
                let gathered = matrix.gather(rows, first, end, |&row| row);
                factors[first..end].iter().zip(gathered).map(|(&factor, (_, row))| (factor, row))
            });
            first = end;
        }
    }
}
