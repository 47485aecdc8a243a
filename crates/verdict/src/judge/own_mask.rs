//! A mask of the candidate's own.

use super::Judge;
use super::expectation::{DrawnMask, Expectation, ExpectedGradients};
use crate::Verdict;
use crate::mask::{self, CandidateMask};
use crate::mask_constraints::MaskConstraints;
use std::borrow::Cow;
use sus_bounds::{BoundsInput, Progress, RowBounds, kept_weights_of, widen_weights};
use sus_files::TensorFile;
use sus_reference::sus::Sample;

impl Judge {
    /// Checks the candidate's own mask, its counts and its values, and returns the gradients that go with it; `None` without one.
    pub(super) fn own_mask<'a>(
        &self,
        expectation: &'a Expectation,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) -> Option<Cow<'a, ExpectedGradients>> {
        let drawn = expectation.mask.as_ref()?;
        verdict.ambiguous = drawn.constraints.ambiguous.iter().map(Vec::len).sum();
        let own = mask::read(&self.problem, candidate, verdict).ok().flatten();
        if let Some(nnz) = candidate.arrays.get("nnz") {
            let counts = self.legal_counts(drawn, own.as_ref());
            mask::check_counts(&self.problem, nnz, &counts, verdict);
        }
        let CandidateMask { pattern, values } = own?;
        mask::check(&self.problem, &pattern, &drawn.constraints, self.seed_known, verdict);
        if !self.seed_known {
            let message = "the case names no seed, and one mask does not tell a law";
            verdict.inconclusive("mask", message);
        }
        let sample = mask::sample(&self.problem, &pattern, &drawn.sample.lambda);
        let values = values.filter(|_| sample.pattern == pattern);
        Some(self.gradients_of(expectation, drawn, &sample, values, verdict, progress))
    }

    /// The least and the largest count of kept entries of each row: that of the candidate's mask, or of every mask of a right kernel.
    fn legal_counts(&self, drawn: &DrawnMask, own: Option<&CandidateMask>) -> Vec<(usize, usize)> {
        let rows = 0..self.problem.row_count();
        if let Some(own) = own {
            return rows.map(|at| own.pattern.row(at).len()).map(|n| (n, n)).collect();
        }
        let MaskConstraints { must_keep, ambiguous } = &drawn.constraints;
        let count = |at: usize| (must_keep[at].len(), must_keep[at].len() + ambiguous[at].len());
        rows.map(count).collect()
    }

    /// The gradients that go with a mask, and the check of its values. Those of the case serve if its own mask is the same and no
    /// entry is ambiguous, which would widen the bounds.
    fn gradients_of<'a>(
        &self,
        expectation: &'a Expectation,
        drawn: &DrawnMask,
        sample: &Sample,
        values: Option<Vec<f64>>,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) -> Cow<'a, ExpectedGradients> {
        let same = sample.pattern == drawn.sample.pattern
            && drawn.constraints.ambiguous.iter().all(Vec::is_empty);
        let gradients = if same {
            expectation.gradients.values.clone()
        } else {
            expectation.truth.gradients(Some(sample))
        };
        let input = BoundsInput {
            problem: &self.problem,
            recipe: &self.recipe,
            mode: self.mode,
            saved: &expectation.saved,
            sample: Some(sample),
            ambiguous: None,
            gradients: &gradients,
        };
        if let Some(values) = values {
            let mut weights = kept_weights_of(&input, &drawn.rows);
            if let Some(lse) = &expectation.lse_errors {
                widen_weights(&mut weights, &sample.pattern, lse);
            }
            mask::check_values(&weights, &values, verdict);
        }
        if same {
            return Cow::Borrowed(&expectation.gradients);
        }
        // The directions of known bugs belong to the mask of the seed: with another mask none is followed.
        let rows = (drawn.rows.as_slice(), RowBounds::default());
        let errors = expectation.truth.reference_error_bounds(Some(sample));
        Cow::Owned(ExpectedGradients::new(&input, rows, errors.as_ref(), &[], false, progress))
    }
}
