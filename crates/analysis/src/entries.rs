//! Where the visible entries of rows come from: the fast kernels or the reference.

use crate::limits::ROWS;
use std::ops::Range;
use sus_fast::Dispatch;
use sus_fast::entries::RowEntries;
use sus_reference::backward::{DenseWeights, delta};
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Scalar;
use sus_reference::sus::moments::{RowEntry, entries_into};

/// Where the visible entries of rows come from.
pub(crate) trait EntrySource<T>: Sync {
    /// Replaces each list by the entries of one of `rows` of head `(b, h)`, by keys.
    fn rows_into(&self, head: (usize, usize), rows: Range<usize>, lists: &mut [Vec<RowEntry<T>>]);
}

/// Entries by the reference.
pub(crate) struct ReferenceEntries<'a, T> {
    weights: DenseWeights<'a, T>,
    delta: Vec<T>,
}

impl<'a, T: Scalar> ReferenceEntries<'a, T> {
    pub(crate) fn new(problem: &'a Problem<T>, saved: &'a Saved<T>) -> Self {
        let weights = DenseWeights { problem, saved };
        ReferenceEntries { weights, delta: delta(problem, &saved.o) }
    }
}

impl<T: Scalar> EntrySource<T> for ReferenceEntries<'_, T> {
    fn rows_into(
        &self,
        (b, h): (usize, usize),
        rows: Range<usize>,
        lists: &mut [Vec<RowEntry<T>>],
    ) {
        let problem = self.weights.problem;
        for (i, entries) in rows.zip(lists) {
            let row = Row { b, h, i };
            let delta = self.delta[problem.row_number(row)];
            entries.clear();
            entries_into(problem, &self.weights, delta, row, entries);
        }
    }
}

impl EntrySource<f64> for RowEntries<'_> {
    fn rows_into(
        &self,
        head: (usize, usize),
        rows: Range<usize>,
        lists: &mut [Vec<RowEntry<f64>>],
    ) {
        RowEntries::rows_into(self, head, rows, lists);
    }
}

/// The entries of rows by the fast kernels, unless the reference is requested.
pub(crate) fn entries<'a>(
    problem: &'a Problem<f64>,
    saved: &'a Saved<f64>,
    reference_requested: bool,
) -> Box<dyn EntrySource<f64> + 'a> {
    if reference_requested {
        Box::new(ReferenceEntries::new(problem, saved))
    } else {
        Box::new(RowEntries::new(Dispatch::Native, problem, saved))
    }
}

/// Visits rows of one head with their entries.
pub(crate) fn for_each_row<T: Scalar>(
    source: &dyn EntrySource<T>,
    (b, h): (usize, usize),
    rows: Range<usize>,
    mut visit: impl FnMut(Row, &[RowEntry<T>]),
) {
    let mut lists: [Vec<RowEntry<T>>; ROWS] = std::array::from_fn(|_| Vec::new());
    for first in rows.clone().step_by(ROWS) {
        let some = first..rows.end.min(first + ROWS);
        let lists = &mut lists[..some.len()];
        source.rows_into((b, h), some.clone(), lists);
        for (i, entries) in some.zip(lists) {
            visit(Row { b, h, i }, entries);
        }
    }
}
