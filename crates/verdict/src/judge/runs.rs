//! Many runs of one candidate.

use super::Judge;
use crate::candidate::is_projected;
use crate::{Criterion, Mode, Verdict, statistical};
use sus_bounds::Progress;
use sus_files::TensorFile;

impl Judge {
    /// Judges many runs: each exactly if the seeds are known, else all of them by their distribution.
    pub(super) fn check_runs(
        &self,
        runs: usize,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) {
        let Some(draw) = &self.draw else {
            let message = format!("{runs} runs of a dense case: one run at a time can be judged");
            verdict.inconclusive("mask", message);
            return;
        };
        if self.seed_known && !is_projected(candidate) {
            if let Err(message) = self.check_seeds(draw, runs, candidate, verdict, progress) {
                verdict.fail("seeds", Criterion::Extra, message);
            }
            return;
        }
        if self.mode == Mode::Given {
            let message = format!(
                "mode 'given' judges one run at a time: the law of {runs} runs is that of the exact forward pass"
            );
            verdict.inconclusive("mask", message);
            return;
        }
        let dense = self.exact.truth.gradients(None);
        let input = statistical::StatisticalInput {
            problem: &self.problem,
            stored: self.stored.as_ref().unwrap_or(&self.problem),
            saved: &self.exact.saved,
            recipe: &self.recipe,
            draw,
            dense: &dense,
            bounds: &self.exact.gradients.bounds,
        };
        if let Err(error) = statistical::check(&input, runs, candidate, verdict) {
            verdict.inconclusive("mask", error.to_string());
        }
    }
}
