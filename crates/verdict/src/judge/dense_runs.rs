//! Many runs of a dense kernel: all have one reference and one set of bounds, and each is judged by itself.

use super::Judge;
use super::expectation::Expectation;
use crate::candidate::read_results;
use crate::spread::{Runs, spread};
use crate::{Criterion, Finding, Mode, Outcome, Verdict};
use rayon::prelude::*;
use sus_bounds::{Progress, Silent};
use sus_files::TensorFile;

impl Judge {
    /// Judges each run of a dense candidate; all have to pass.
    pub(super) fn check_dense_runs(
        &self,
        runs: usize,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) {
        if runs == 0 {
            let message = "expected at least one run, found an axis of none";
            verdict.fail("candidate", Criterion::Missing, message);
            return;
        }
        let shared = self.given_of_all_runs(runs, candidate, progress);
        progress.stage("runs", runs as u64);
        verdict.notes.push(format!("{runs} runs, each judged by itself"));
        let mut summary = Runs { count: runs, ..Runs::default() };
        let all: Vec<usize> = (0..runs).collect();
        // A verdict holds a number for each element: those of a few runs at a time are in memory.
        for some in all.chunks(rayon::current_num_threads()) {
            let verdicts: Vec<Verdict> = some
                .par_iter()
                .map(|&run| {
                    let mut verdict = Verdict::default();
                    let one = self.run_of(candidate, runs, run);
                    self.check_run(&one, shared.as_ref(), &mut verdict, &Silent);
                    progress.done(1);
                    verdict
                })
                .collect();
            for (&run, of_run) in some.iter().zip(verdicts) {
                add_run(verdict, &mut summary, run, of_run);
            }
        }
        summary.spread = spread(&self.problem, candidate, &[all], |name| self.bound_of(name));
        verdict.runs = Some(summary);
        if self.bitwise {
            fail_different_bits(runs, verdict);
        }
    }

    /// In mode `given`, the expectation that all runs share if all store the same bits of `o` and `lse`.
    fn given_of_all_runs(
        &self,
        runs: usize,
        candidate: &TensorFile,
        progress: &dyn Progress,
    ) -> Option<Expectation> {
        if self.mode == Mode::Exact {
            return None;
        }
        let forward = |run| {
            let mut one = self.run_of(candidate, runs, run);
            one.arrays.retain(|name, _| name == "o" || name == "lse");
            one
        };
        let first = forward(0);
        let bits = |file: &TensorFile| -> Vec<Vec<u8>> {
            file.arrays.values().map(sus_files::Array::to_bytes).collect()
        };
        let of_first = bits(&first);
        if (1..runs).any(|run| bits(&forward(run)) != of_first) {
            return None;
        }
        let results = read_results(
            &self.problem,
            false,
            self.only.as_deref(),
            &first,
            &mut Verdict::default(),
        );
        self.given(&results, progress).ok()
    }

    /// The bounds of a result in mode `exact`.
    pub(super) fn bound_of(&self, name: &str) -> Option<&[f64]> {
        let bounds = self.bounds();
        Some(match name {
            "o" => &bounds.o.threshold,
            "lse" => &bounds.lse.threshold,
            "dq" | "dk" | "dv" => &self.exact.gradients.of(name).1.threshold,
            "dbias" => &bounds.dbias.as_ref()?.threshold,
            "dsink" => &bounds.dsink.as_ref()?.threshold,
            "dslopes" => &bounds.dslopes.as_ref()?.threshold,
            "dkv" => &bounds.dkv.as_ref()?.threshold,
            _ => return None,
        })
    }
}

/// Adds the verdict on one run to that on all of them.
fn add_run(verdict: &mut Verdict, summary: &mut Runs, run: usize, of_run: Verdict) {
    let largest = |verdict: &Verdict| {
        let ratios = verdict.tensors.iter().filter_map(|tensor| Some(tensor.worst.as_ref()?.ratio));
        ratios.fold(0.0, f64::max)
    };
    let worst = summary.outcomes.iter().copied().max();
    summary.outcomes.push(of_run.outcome);
    let is_worse = match worst {
        None => true,
        Some(worst) if of_run.outcome == worst => largest(&of_run) > largest(verdict),
        Some(worst) => of_run.outcome > worst,
    };
    for finding in of_run.findings {
        let message = format!("run {run}: {}", finding.message);
        verdict.find(Finding { message, ..finding });
    }
    for note in of_run.notes {
        if !verdict.notes.contains(&note) {
            verdict.notes.push(note);
        }
    }
    if is_worse {
        summary.shown = run;
        verdict.tensors = of_run.tensors;
        verdict.directions = of_run.directions;
    }
}

/// Fails the tensors whose bits differ between runs.
pub(super) fn fail_different_bits(runs: usize, verdict: &mut Verdict) {
    if runs < 2 {
        let message = "expected two runs or more to compare their bits, found one";
        verdict.inconclusive("candidate", message);
        return;
    }
    let spread = verdict.runs.as_ref().map_or_else(Vec::new, |runs| runs.spread.clone());
    if spread.is_empty() {
        let message = "no tensor has an axis of runs whose bits can be compared";
        verdict.inconclusive("candidate", message);
    }
    for of in spread {
        let Some(first) = &of.first else { continue };
        let message = format!(
            "run {} has other bits than run {}, first at {:?}; {} elements differ between runs, by {:e} at most",
            first.run, first.with, first.index, of.elements, of.difference
        );
        verdict.fail(of.name, Criterion::Repeat, message);
        let result = verdict.tensors.iter_mut().find(|tensor| tensor.name == of.name);
        if let Some(result) = result {
            result.outcome = Outcome::Fail;
        }
    }
}
