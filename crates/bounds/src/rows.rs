//! What the rows of a problem may err, each computed once, and the bounds that need all entries of a row.

use super::bound::{Bound, BoundsInput, Core};
use super::progress::Progress;
use super::row::{Mode, RowErrors, with_own_forward};
use rayon::prelude::*;
use std::borrow::Cow;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::Row;

/// The bounds that need all entries of a row.
#[derive(Debug, Clone, Default)]
pub struct OfRows {
    pub(super) o: Bound,
    pub(super) lse: Bound,
    /// Of a dense pass: a mask keeps few entries, which are computed again when its borderline entries are known.
    pub(super) dq: Option<Bound>,
}

/// The errors of all rows but for their entries, the bounds that need these, and what `visit` makes of each row while it has them.
///
/// No mask plays a part in the first.
pub fn rows_of<T: Send>(
    question: &BoundsInput<'_>,
    progress: &dyn Progress,
    visit: impl Fn(Row, &RowErrors) -> T + Sync,
) -> (Vec<RowErrors>, OfRows, Vec<T>) {
    let core = Core::new(question);
    progress.stage("bounds, by rows", visible_count(question.problem));
    let (rows, made) = core.each_row(|row, errors| {
        let made = (core.of_row(row, errors), visit(row, errors));
        progress.done(errors.entries.len() as u64);
        made
    });
    let mut of_rows =
        OfRows { dq: question.sample.is_none().then(Bound::default), ..OfRows::default() };
    let mut visited = Vec::with_capacity(made.len());
    for (of_row, made) in made {
        of_rows.o.extend(of_row.o);
        of_rows.lse.extend(of_row.lse);
        of_rows.dq.iter_mut().zip(of_row.dq).for_each(|(dq, of_row)| dq.extend(of_row));
        visited.push(made);
    }
    (rows, of_rows, visited)
}

impl Core<'_> {
    /// The errors of each row but for its entries, and what `make` makes of the row while it has them.
    pub(super) fn each_row<T: Send>(
        &self,
        make: impl Fn(Row, &RowErrors) -> T + Sync,
    ) -> (Vec<RowErrors>, Vec<T>) {
        let one = |at: usize| {
            let row = self.q.problem.row(at);
            let errors = self.row_errors(row, self.q.mode);
            let made = make(row, &errors);
            (errors.without_entries(), made)
        };
        (0..self.q.problem.row_count()).into_par_iter().map(one).unzip()
    }

    fn of_row(&self, row: Row, errors: &RowErrors) -> OfRows {
        let BoundsInput { problem, saved, recipe, mode, sample, .. } = *self.q;
        let own = match mode {
            Mode::Exact => Cow::Borrowed(errors),
            Mode::Given => Cow::Owned(with_own_forward(problem, saved, recipe, row, errors)),
        };
        let dq = || Bound::from_elements(self.dq_row(row, errors, &errors.entries));
        OfRows {
            o: Bound::from_elements(self.o_row(row, &own)),
            lse: Bound::from_elements([self.lse_row(&own)]),
            dq: sample.is_none().then(dq),
        }
    }
}
