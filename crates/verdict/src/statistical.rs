//! The statistical verdict: many runs of a kernel whose random numbers are unknown, judged by their exact distribution.
//!
//! If the gradients of a run determine its mask, the mask is recovered (`mask_recovery`): the gradients must be those of the mask within
//! their bounds, and the masks must follow their distribution (`masks`). Otherwise fixed `projections` of the gradients must. Every limit
//! holds for finitely many runs, and a right kernel fails with probability at most [`FALSE_ALARM`]; `docs/statistics.md` proves it.

mod battery;
mod bits;
mod bugs;
mod capacity;
mod counts;
mod deviance;
mod enumeration;
mod functional;
mod grid;
mod mask_battery;
mod mask_recovery;
mod masks;
mod model;
mod most_powerful;
mod pairs;
mod power;
mod projection_vectors;
mod projections;
mod runs;
mod shared_results;
mod streams;
mod tails;
mod whole_masks;

pub use bugs::{Prediction, bugs, bugs_to_text};
pub use power::{PowerAnalysis, Sensitivity, power_analysis};
pub(super) use projection_vectors::DIGEST;
pub use projection_vectors::{Directions, directions};

use super::candidate::{GRADIENTS, is_projected};
use super::limits::MAX_TESTS_SHOWN;
use super::{Criterion, Verdict};
use battery::Tests;
use mask_recovery::{MaskRecovery, Residual};
use masks::Masks;
use model::Model;
use runs::{Projected, Runs};
use sus_bounds::{Bounds, Recipe};
use sus_files::TensorFile;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// The probability that the tests of one invocation fail a right kernel, at most.
pub const FALSE_ALARM: f64 = battery::FALSE_ALARM;

/// The case that runs are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatisticalInput<'a> {
    pub problem: &'a Problem<f64>,
    /// The problem before its inputs were rounded: the directions are made from it.
    pub stored: &'a Problem<f64>,
    pub saved: &'a Saved<f64>,
    pub recipe: &'a Recipe,
    pub draw: &'a Draw,
    /// The dense gradients.
    pub dense: &'a Gradients<f64>,
    /// The bounds of `o`, `lse` and `dsink`, which do not depend on the mask.
    pub bounds: &'a Bounds,
}

/// Judges the runs of a candidate.
pub(super) fn check(
    input: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    shared_results::check(input, count, file, verdict);
    if is_projected(file) {
        return check_projected(input, count, file, verdict);
    }
    let Some(runs) = Runs::read(input.problem, count, file, verdict) else { return Ok(()) };
    if count == 0 {
        verdict.inconclusive("runs", "no runs");
        return Ok(());
    }
    let model = Model::new(input.problem, input.saved, input.recipe, input.draw)?;
    if in_doubt(&model, count, verdict) {
        return Ok(());
    }
    if let Some(places) = shared_results::outside(&model, &runs) {
        verdict.fail("gradients", Criterion::Bound, places);
    }
    let with_bias = !runs.gradients[3].is_empty();
    let Some(recovery) = MaskRecovery::new(&model, with_bias, runs.masks.is_some()) else {
        verdict.notes.push("the masks are not told by the gradients".into());
        let directions = directions(input.stored, input.draw)?;
        let projected = projections::project(&directions, &runs);
        by_projections(&model, &directions, &projected, runs.counts.as_deref(), verdict);
        return Ok(());
    };
    let mut tests = Tests::of_share(input.problem.share());
    by_masks(&model, &recovery, &runs, &mut tests, verdict);
    report(&tests, verdict);
    power::of_masks(&model).conclude(count, verdict);
    Ok(())
}

/// Judges the projections of runs.
fn check_projected(
    input: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let directions = directions(input.stored, input.draw)?;
    let read = Projected::read(input.problem, &directions, count, file, verdict);
    let counts = runs::counts(input.problem, count, file, verdict);
    let Some(projected) = read else { return Ok(()) };
    if count == 0 {
        verdict.inconclusive("runs", "no runs");
        return Ok(());
    }
    let model = Model::new(input.problem, input.saved, input.recipe, input.draw)?;
    if in_doubt(&model, count, verdict) {
        return Ok(());
    }
    by_projections(&model, &directions, &projected, counts.as_deref(), verdict);
    Ok(())
}

/// Whether a right kernel may drop an entry of `q = 1` with a probability above a thousandth of [`FALSE_ALARM`]: then the runs are not judged
/// (docs/statistics.md, "Mask recovery").
fn in_doubt(model: &Model<'_>, runs: usize, verdict: &mut Verdict) -> bool {
    let (probability, place) = model.doubt();
    let doubt = probability * runs as f64 > FALSE_ALARM / 1000.0;
    if doubt {
        let message = format!(
            "lambda W is 1 but for rounding at {place:?}: a right kernel may drop it, with probability up to {probability:.1e} a run; another c would decide"
        );
        verdict.inconclusive("runs", message);
    }
    doubt
}

fn by_masks(
    model: &Model<'_>,
    recovery: &MaskRecovery,
    runs: &Runs<'_>,
    tests: &mut Tests,
    verdict: &mut Verdict,
) {
    let recovered = recovery.recover(model, runs);
    let stochastic = recovery.unknowns.len();
    verdict.notes.push(format!(
        "the mask of each of the {} runs was {}: {stochastic} undecided entries",
        runs.count,
        if runs.masks.is_some() { "given" } else { "told by its gradients" }
    ));
    for (Residual { run, tensor, index, found, expected, ratio }, count) in &recovered.wrong {
        let message = format!(
            "no mask explains {count} of {} runs; the worst, run {run}, flat index {index}: found {found:e}, expected {expected:e} ({ratio:.3e} of its bound)",
            runs.count
        );
        verdict.fail(GRADIENTS[*tensor], Criterion::Bound, message);
    }
    if let Some((count, unknown, found)) = recovered.unsupported {
        let row = model.rows[unknown.row].row;
        let j = model.rows[unknown.row].entries[unknown.n].j;
        let message = format!(
            "{count} runs have an entry that counts neither 0 nor max(W, 1/lambda); the first at {:?}: found {found:.6e}, expected 0 or {:.6e}",
            [row.b, row.h, row.i, j],
            unknown.kept
        );
        verdict.fail("mask", Criterion::Values, message);
    }
    let masks = Masks::new(model, recovery, &recovered, runs.count);
    if let Some(counts) = &runs.counts {
        check_counts(&masks, counts, verdict);
    }
    if recovered.wrong.is_empty() && recovered.unsupported.is_none() {
        mask_battery::test(&masks, tests);
    }
}

/// The counts that the candidate states must be those of its masks.
fn check_counts(masks: &Masks<'_>, counts: &[f64], verdict: &mut Verdict) {
    let rows = masks.model.rows.len();
    for run in 0..masks.runs {
        for row in 0..rows {
            let distribution = &masks.model.rows[row].distribution;
            let always = distribution.q.iter().filter(|&&q| q >= 1.0).count();
            let drawn = masks.of_row[row].iter().filter(|&&at| masks.bit(at, run)).count();
            let found = counts[run * rows + row];
            if found != (always + drawn) as f64 {
                let at = masks.model.rows[row].row;
                let message = format!(
                    "run {run} row {:?}: its gradients are those of {} kept entries, found {found}",
                    [at.b, at.h, at.i],
                    always + drawn
                );
                verdict.fail("nnz", Criterion::Counts, message);
                return;
            }
        }
    }
}

fn by_projections(
    model: &Model<'_>,
    directions: &Directions,
    projected: &Projected,
    counts: Option<&[f64]>,
    verdict: &mut Verdict,
) {
    let mut tests = Tests::of_share(model.problem.share());
    verdict.notes.push(format!(
        "judged by the projections of {} runs on {} directions",
        projected.count,
        directions.count()
    ));
    projections::test(model, directions, projected, &mut tests);
    if let Some(counts) = counts {
        counts::test(model, counts, projected.count, &mut tests);
    }
    report(&tests, verdict);
    power::of_directions(model, directions).conclude(projected.count, verdict);
}

/// Turns failed tests into findings.
fn report(tests: &Tests, verdict: &mut Verdict) {
    let failed = tests.failed();
    for test in failed.iter().take(MAX_TESTS_SHOWN) {
        let message = format!(
            "{}: found {:.6}, expected {:.6}, standard deviation {:.3e}; probability below 10^{:.1}, level 10^{:.1}",
            test.what,
            test.found,
            test.expected,
            test.deviation,
            test.log_p / std::f64::consts::LN_10,
            tests.level(test.class) / std::f64::consts::LN_10
        );
        verdict.fail("law", Criterion::Distribution, message);
    }
    if failed.len() > MAX_TESTS_SHOWN {
        verdict.notes.push(format!("{} tests of the law failed", failed.len()));
    }
    verdict.notes.push(format!(
        "{} tests of the law, {} of them aimed; a right kernel fails with probability below {FALSE_ALARM:e}",
        tests.counts.iter().sum::<usize>(),
        tests.counts[..3].iter().sum::<usize>()
    ));
}
