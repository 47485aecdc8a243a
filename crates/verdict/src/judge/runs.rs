//! Many runs of one candidate: dense, with known seeds, or by the distribution of the mask.

use super::Judge;
use crate::candidate::is_projected;
use crate::{Criterion, Mode, Verdict, statistical};
use sus_bounds::Progress;
use sus_files::TensorFile;

impl Judge {
    /// Judges many runs: each exactly if the pass is dense or the seeds are known, else all of them by their distribution.
    pub(super) fn check_runs(
        &self,
        runs: usize,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) {
        let Some(draw) = &self.draw else {
            self.check_dense_runs(runs, candidate, verdict, progress);
            return;
        };
        if self.seed_known && !is_projected(candidate) {
            if let Err(message) = self.check_seeds(draw, runs, candidate, verdict, progress) {
                verdict.fail("seeds", Criterion::Extra, message);
            }
            return;
        }
        if self.bitwise {
            let message = "bits can be compared between runs whose seeds are known; these are judged by their distribution";
            verdict.inconclusive("candidate", message);
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
