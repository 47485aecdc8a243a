//! The errors of every row, each computed once.

use super::context::BoundContext;
use super::input::BoundsInput;
use super::row::{Mode, RowErrors, row_errors_of};
use rayon::prelude::*;
use sus_reference::problem::Row;

impl BoundContext<'_> {
    pub(super) fn row_errors(&self, row: Row, mode: Mode) -> RowErrors {
        let BoundsInput { problem, saved, recipe, .. } = *self.input;
        let mut errors = row_errors_of(problem, saved, recipe, mode, row, &self.operands);
        if self.follows_known && mode == Mode::Exact {
            self.single_weight(row, &mut errors);
        }
        errors
    }

    /// The errors of each row without its entries, and the result of `make` for the row with them.
    pub(super) fn each_row<T: Send>(
        &self,
        make: impl Fn(Row, &RowErrors) -> T + Sync,
    ) -> (Vec<RowErrors>, Vec<T>) {
        let one = |at: usize| {
            let row = self.input.problem.row(at);
            let errors = self.row_errors(row, self.input.mode);
            let made = make(row, &errors);
            (errors.without_entries(), made)
        };
        (0..self.input.problem.row_count()).into_par_iter().map(one).unzip()
    }
}
