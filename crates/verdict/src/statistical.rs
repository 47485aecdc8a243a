//! The statistical verdict: many runs of a kernel whose random numbers nobody knows, judged by the exact law alone.
//!
//! Where the gradients of a run tell its mask, it is decoded (`decode`): the gradients must then be those of the mask, within the bounds of
//! rounding, and the masks (`masks`) must follow their law. Elsewhere fixed `projections` of the gradients must. Every
//! limit holds for finitely many runs, and a right kernel fails with probability at most [`FALSE_ALARM`].
//! `docs/statistics.md` proves it.

mod battery;
mod bits;
mod bugs;
mod capacity;
mod counts;
mod entries;
mod enumeration;
mod grid;
mod joint;
mod mask_recovery;
mod masks;
mod model;
mod pairs;
mod plan;
mod projection_vectors;
mod projections;
mod runs;
mod streams;
mod tails;

pub use bugs::{Prediction, bugs, bugs_to_text};
pub use plan::{Plan, plan};
pub(super) use projection_vectors::DIGEST;
pub use projection_vectors::{Directions, directions};

use super::candidate::{is_projected, shape_of};
use super::{Criterion, Finding, Outcome, Verdict};
use battery::Tests;
use mask_recovery::{Decoder, Residual};
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

/// The share of false alarms of all tests of one invocation.
///
/// # Examples
/// ```
/// use sus_verdict::statistical::FALSE_ALARM;
/// // A right kernel that is judged every second for a year fails with a probability of some percent.
/// assert!((0.01..0.05).contains(&(FALSE_ALARM * 365.0 * 86_400.0)));
/// ```
pub const FALSE_ALARM: f64 = battery::FALSE_ALARM;

/// What runs are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatisticalInput<'a> {
    pub problem: &'a Problem<f64>,
    /// The problem before any rounding of its inputs: what the directions are made of.
    pub stored: &'a Problem<f64>,
    pub saved: &'a Saved<f64>,
    pub recipe: &'a Recipe,
    pub draw: &'a Draw,
    /// The dense gradients.
    pub truth: &'a Gradients<f64>,
    /// Bounds of what does not depend on the mask.
    pub bounds: &'a Bounds,
}

/// The gradients, in the order in which all arrays of four have them.
const GRADIENTS: [&str; 4] = ["dq", "dk", "dv", "dbias"];
/// Failed tests that are printed.
const SHOWN: usize = 8;

/// Judges the runs of a candidate.
pub(super) fn check(
    question: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    exact_results(question, count, file, verdict);
    if is_projected(file) {
        return check_projected(question, count, file, verdict);
    }
    let Some(runs) = Runs::read(question.problem, count, file, verdict) else { return Ok(()) };
    if count == 0 {
        inconclusive("no runs", verdict);
        return Ok(());
    }
    let model = Model::new(question.problem, question.saved, question.recipe, question.draw)?;
    if in_doubt(&model, count, verdict) {
        return Ok(());
    }
    if let Some(places) = outside(&model, &runs) {
        verdict.fail("gradients", Criterion::Bound, places);
    }
    let with_bias = !runs.gradients[3].is_empty();
    let Some(decoder) = Decoder::new(&model, with_bias, runs.masks.is_some()) else {
        verdict.notes.push("the masks are not recovered by the gradients".into());
        let directions = directions(question.stored, question.draw)?;
        let projected = projections::project(&directions, &runs);
        by_projections(&model, &directions, &projected, runs.counts.as_deref(), verdict);
        return Ok(());
    };
    let mut tests = Tests::default();
    by_masks(&model, &decoder, &runs, &mut tests, verdict);
    report(&tests, verdict);
    plan::of_masks(&model).conclude(count, verdict);
    Ok(())
}

/// Judges the projections of runs.
fn check_projected(
    question: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let directions = directions(question.stored, question.draw)?;
    let read = Projected::read(question.problem, &directions, count, file, verdict);
    let counts = runs::counts(question.problem, count, file, verdict);
    let Some(projected) = read else { return Ok(()) };
    if count == 0 {
        inconclusive("no runs", verdict);
        return Ok(());
    }
    let model = Model::new(question.problem, question.saved, question.recipe, question.draw)?;
    if in_doubt(&model, count, verdict) {
        return Ok(());
    }
    by_projections(&model, &directions, &projected, counts.as_deref(), verdict);
    Ok(())
}

/// Whether a right kernel may drop what the law always keeps, more often than a thousandth of [`FALSE_ALARM`]: then nothing
/// is said.
fn in_doubt(model: &Model<'_>, runs: usize, verdict: &mut Verdict) -> bool {
    let (probability, place) = model.doubt();
    let doubt = probability * runs as f64 > FALSE_ALARM / 1000.0;
    if doubt {
        let message = format!(
            "lambda W is 1 but for rounding at {place:?}: a right kernel may drop it, with probability up to {probability:.1e} a run; another c would decide"
        );
        inconclusive(&message, verdict);
    }
    doubt
}

fn inconclusive(message: &str, verdict: &mut Verdict) {
    verdict.find(Finding {
        tensor: "runs".into(),
        rule: Criterion::Unjudged,
        outcome: Outcome::Inconclusive,
        message: message.into(),
    });
}

/// `o`, `lse` and `dsink` do not depend on the mask: every run has the same truth.
fn exact_results(
    question: &StatisticalInput<'_>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) {
    let none = sus_bounds::Bound::default();
    let bounds = question.bounds;
    let dsink = question.truth.dsink.as_deref().unwrap_or(&[]);
    let results = [
        ("o", question.saved.o.as_slice(), &bounds.o),
        ("lse", question.saved.lse.as_slice(), &bounds.lse),
        ("dsink", dsink, bounds.dsink.as_ref().unwrap_or(&none)),
    ];
    for (name, truth, bound) in results {
        let Some(shape) = shape_of(question.problem, name) else { continue };
        let Some(array) = file.arrays.get(name) else { continue };
        let single = array.shape == shape;
        let (runs, shape) = if single { (1, [&[1][..], &shape].concat()) } else { (count, shape) };
        let mut array = array.clone();
        let rest = if single {
            array.shape.insert(0, 1);
            &shape[1..]
        } else {
            &shape[..]
        };
        if name == "lse" && truth.contains(&f64::NEG_INFINITY) {
            verdict.notes.push("lse: has rows that see nothing; not judged with many runs".into());
            continue;
        }
        let Some(data) = runs::floats(name, &array, runs, rest, verdict) else { continue };
        let length = truth.len().max(1);
        let wrong = |&at: &usize| {
            let n = at % length;
            (data[at] - truth[n]).abs() > bound.worst_case[n]
        };
        let wrong: Vec<usize> = (0..data.len()).filter(wrong).collect();
        if let Some(&at) = wrong.first() {
            let message = format!(
                "{} elements outside their bounds, the first in run {}: found {:e}, expected {:e}",
                wrong.len(),
                at / length,
                data[at],
                truth[at % length]
            );
            verdict.fail(name, Criterion::Bound, message);
        }
    }
}

/// Elements that no weight reaches are zero.
fn outside(model: &Model<'_>, runs: &Runs<'_>) -> Option<String> {
    let bounds = model::slices(&model.bounds);
    let mut reached: Vec<Vec<bool>> = bounds.iter().map(|bound| vec![false; bound.len()]).collect();
    for row in &model.rows {
        for entry in &row.entries {
            model::for_each_part(model.problem, row.row, entry, |tensor, at, _| {
                reached[tensor][at] = true;
            });
        }
    }
    for (tensor, reached) in reached.iter().enumerate() {
        let data = runs.gradients[tensor];
        let wrong = |at: &usize| !reached[at % reached.len()] && data[*at] != 0.0;
        if let Some(at) = (0..data.len()).find(wrong) {
            let (run, at) = (at / reached.len(), at % reached.len());
            return Some(format!(
                "{} of run {run} is not zero at flat index {at}, which no weight reaches",
                GRADIENTS[tensor]
            ));
        }
    }
    None
}

fn by_masks(
    model: &Model<'_>,
    decoder: &Decoder,
    runs: &Runs<'_>,
    tests: &mut Tests,
    verdict: &mut Verdict,
) {
    let decoded = decoder.decode(model, runs);
    let undecided = decoder.unknowns.len();
    verdict.notes.push(format!(
        "the mask of each of the {} runs was {}: {undecided} undecided entries",
        runs.count,
        if runs.masks.is_some() { "given" } else { "recovered by its gradients" }
    ));
    for (Residual { run, tensor, index, found, expected, ratio }, count) in &decoded.wrong {
        let message = format!(
            "no mask explains {count} of {} runs; the worst, run {run}, flat index {index}: found {found:e}, expected {expected:e} ({ratio:.3e} of its bound)",
            runs.count
        );
        verdict.fail(GRADIENTS[*tensor], Criterion::Bound, message);
    }
    if let Some((count, unknown, found)) = decoded.unsupported {
        let row = model.rows[unknown.row].row;
        let j = model.rows[unknown.row].entries[unknown.n].j;
        let message = format!(
            "{count} runs have an entry that counts neither 0 nor max(W, 1/lambda); the first at {:?}: found {found:.6e}, expected 0 or {:.6e}",
            [row.b, row.h, row.i, j],
            unknown.kept
        );
        verdict.fail("mask", Criterion::Values, message);
    }
    let masks = Masks::new(model, decoder, &decoded, runs.count);
    if let Some(counts) = &runs.counts {
        check_counts(&masks, counts, verdict);
    }
    if decoded.wrong.is_empty() && decoded.unsupported.is_none() {
        masks.test(tests);
    }
}

/// The counts that the candidate says must be those of its masks.
fn check_counts(masks: &Masks<'_>, counts: &[f64], verdict: &mut Verdict) {
    let rows = masks.model.rows.len();
    for run in 0..masks.runs {
        for row in 0..rows {
            let law = &masks.model.rows[row].law;
            let always = law.q.iter().filter(|&&q| q >= 1.0).count();
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
    let mut tests = Tests::default();
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
    plan::of_directions(model, directions).conclude(projected.count, verdict);
}

/// Turns failed tests into findings.
fn report(tests: &Tests, verdict: &mut Verdict) {
    let failed = tests.failed();
    for test in failed.iter().take(SHOWN) {
        let message = format!(
            "{}: found {:.6}, expected {:.6}, standard deviation {:.3e}; probability below 10^{:.1}, level 10^{:.1}",
            test.what,
            test.found,
            test.expected,
            test.deviation,
            test.log_p / std::f64::consts::LN_10,
            tests.level(test.kind) / std::f64::consts::LN_10
        );
        verdict.fail("law", Criterion::Law, message);
    }
    if failed.len() > SHOWN {
        verdict.notes.push(format!("{} tests of the law failed", failed.len()));
    }
    verdict.notes.push(format!(
        "{} tests of the law, {} of them aimed; a right kernel fails with probability below {FALSE_ALARM:e}",
        tests.counts.iter().sum::<usize>(),
        tests.counts[..3].iter().sum::<usize>()
    ));
}
