//! `dbias` and `dsink`, judged by the `o` that the candidate stored (docs/verdict.md, "The stored `o`").

use super::Judge;
use super::expectation::{ExpectedGradients, RowSums};
use super::run::CandidateResult;
use crate::elements::compare_by_stored_o;
use crate::{Criterion, Finding, Mode, Outcome, Verdict};
use sus_bounds::{BoundsInput, known_o_gradients};

impl Judge {
    /// Compares `dbias` and `dsink` with those that follow from the candidate's own `o`, if it stored one as the recipe does. An `o` or a
    /// gradient that fails already is not judged again.
    pub(super) fn compare_by_stored_o(
        &self,
        expected: &ExpectedGradients,
        results: &[CandidateResult<'_>],
        verdict: &mut Verdict,
    ) {
        let fails = |verdict: &Verdict, name: &str| {
            let of = |finding: &Finding| finding.tensor == name && finding.outcome == Outcome::Fail;
            verdict.findings.iter().any(of)
        };
        let found = |name: &str| {
            let of = results.iter().find(|result| result.0 == name && !fails(verdict, name))?;
            Some(of.1)
        };
        let sums = [("dbias", found("dbias")), ("dsink", found("dsink"))];
        let rounded = |o: &&[f64]| o.iter().all(|&x| self.recipe.o.round(x) == x);
        let (Some(of), Some(o)) = (&expected.row_sums, found("o").filter(rounded)) else { return };
        if self.mode != Mode::Exact || sums.iter().all(|(_, found)| found.is_none()) {
            return;
        }
        let RowSums { rows, sample, ambiguous, reference_errors } = of;
        let input = BoundsInput {
            problem: &self.problem,
            recipe: &self.recipe,
            mode: Mode::Exact,
            saved: &self.exact.saved,
            sample: sample.as_ref(),
            ambiguous: ambiguous.as_deref(),
            gradients: &expected.values,
        };
        let by_o = known_o_gradients(&input, rows, o, reference_errors.as_ref());
        for ((name, found), by_o) in sums.into_iter().zip([by_o.dbias, by_o.dsink]) {
            let (Some(found), Some(by_o)) = (found, by_o) else { continue };
            let tensor = verdict.tensors.iter_mut().find(|tensor| tensor.name == name);
            let Some(tensor) = tensor else { continue };
            if let Some(message) = compare_by_stored_o(tensor, found, &by_o, &self.recipe) {
                verdict.fail(name, Criterion::StoredO, message);
            }
        }
    }
}
