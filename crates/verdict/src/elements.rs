//! One tensor, element by element.

use super::statistics::{self, StatisticResult};
use super::{Criterion, Finding, Outcome, Verdict};
use sus_bounds::{Bound, Limits, Range, Stage};

/// The comparison of one tensor.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let verdict = judge.check(&wrong);
/// let dq = verdict.tensors.iter().find(|tensor| tensor.name == "dq").unwrap();
/// assert!(dq.outside > 0 && dq.outside == dq.ratios.iter().filter(|&&ratio| ratio > 1.0).count());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TensorResult {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What its findings make of it.
    pub outcome: Outcome,
    /// The element that is worst against its bound; `None` for a tensor without elements.
    pub worst: Option<Worst>,
    /// How many elements are outside their bounds.
    pub outside: usize,
    /// Root mean square of `error / bound`.
    pub rms: f64,
    /// Root mean square of the bounds over that of the truth.
    pub width: f64,
    /// Rows whose truth is below the noise: no element above its bound.
    pub rows_below_noise: usize,
    /// The mean, the slope and the root mean square of the errors, where they are limited.
    pub statistics: Vec<StatisticResult>,
    /// `error / bound` of each element; infinite where it is no number.
    pub ratios: Vec<f64>,
}

/// One element against its bound.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let verdict = judge.check(&wrong);
/// let dq = verdict.tensors.iter().find(|tensor| tensor.name == "dq").unwrap();
/// let worst = dq.worst_case.as_ref().unwrap();
/// assert!((worst.found - worst.expected).abs() > worst.bound && worst.bound <= worst.worst_case);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Where it is, one number for each axis.
    pub index: Vec<usize>,
    /// The candidate's number.
    pub found: f64,
    /// The truth.
    pub expected: f64,
    /// The bound that decides.
    pub bound: f64,
    /// The worst case.
    pub worst_case: f64,
    /// `|found - expected| / bound`.
    pub ratio: f64,
    /// The stages that make up the bound, the largest first, each with its share.
    pub stages: Vec<(Stage, f64)>,
}

/// The truth of one tensor and what a right kernel may err.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub name: &'static str,
    pub shape: &'a [usize],
    pub truth: &'a [f64],
    pub bound: &'a Bound,
    pub limits: Option<&'a Limits>,
    /// Ranges, one set of which holds every element; none if nothing is known.
    pub ranges: &'a [&'a [Range]],
    /// Rows of one head of the limits.
    pub head_rows: usize,
}

/// Compares a tensor with its truth; findings go to the verdict.
pub(super) fn compare(
    expected: Expected<'_>,
    found: &[f64],
    verdict: &mut Verdict,
) -> TensorResult {
    let Expected { name, shape, truth, bound, .. } = expected;
    let before = verdict.findings.len();
    let ratios: Vec<f64> =
        (0..truth.len()).map(|at| ratio(found[at], truth[at], bound.threshold[at])).collect();
    let squares = |x: &[f64]| x.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>();
    let n = truth.len().max(1) as f64;
    let (of_bound, of_truth) = (squares(&bound.threshold), squares(truth));
    let features = shape.last().copied().unwrap_or(1).max(1);
    let below = |row: usize| {
        let at = row * features..(row + 1) * features;
        at.clone().all(|at| truth[at].abs() <= bound.threshold[at])
    };
    let worst = (0..truth.len())
        .max_by(|&a, &b| ratios[a].total_cmp(&ratios[b]).then(b.cmp(&a)))
        .map(|at| worst_at(&expected, at, found[at], ratios[at]));
    let result = TensorResult {
        name,
        shape: shape.to_vec(),
        outcome: Outcome::Pass,
        worst,
        outside: ratios.iter().filter(|&&r| r > 1.0).count(),
        rms: libm::sqrt(ratios.iter().map(|r| r * r).sum::<f64>() / n),
        width: if of_truth > 0.0 { libm::sqrt(of_bound / of_truth) } else { f64::INFINITY },
        rows_below_noise: (0..truth.len() / features).filter(|&row| below(row)).count(),
        statistics: statistics::judge(&expected, found, verdict),
        ratios,
    };
    special(&expected, found, &result, verdict);
    if result.outside > 0 {
        let share = format!("{} of {} elements outside their bounds", result.outside, truth.len());
        verdict.fail(name, Criterion::Bound, share);
    } else {
        ranges(&expected, found, verdict);
    }
    vacuous(&expected, &result, of_truth, of_bound, verdict);
    let outcome = verdict.findings[before..].iter().map(|f| f.outcome).max();
    TensorResult { outcome: outcome.unwrap_or_default(), ..result }
}

/// Fails a tensor within its bounds that no rounding of what a right kernel may have is.
fn ranges(expected: &Expected<'_>, found: &[f64], verdict: &mut Verdict) {
    let outside = |ranges: &[Range]| -> Vec<usize> {
        (0..found.len()).filter(|&at| !ranges[at].holds(found[at])).collect()
    };
    let nearest = expected.ranges.iter().map(|ranges| (outside(ranges), ranges));
    let Some((outside, ranges)) = nearest.min_by_key(|(outside, _)| outside.len()) else { return };
    if let Some(&first) = outside.first() {
        let worst = worst_at(expected, first, found[first], 0.0);
        let Range { least, most } = ranges[first];
        let message = format!(
            "{} of {} elements are no rounding of what a right kernel may have, the first at {:?}: found {:e}, not within [{least:e}, {most:e}]",
            outside.len(),
            found.len(),
            worst.index,
            worst.found,
        );
        verdict.fail(expected.name, Criterion::Rounded, message);
    }
}

/// `|found - truth| / bound`. An infinite truth is matched by an infinity, of either sign.
fn ratio(found: f64, truth: f64, bound: f64) -> f64 {
    if truth.is_infinite() {
        return if found.is_infinite() { 0.0 } else { f64::INFINITY };
    }
    let error = (found - truth).abs();
    if !error.is_finite() {
        return f64::INFINITY;
    }
    if error == 0.0 { 0.0 } else { error / bound }
}

fn worst_at(expected: &Expected<'_>, at: usize, found: f64, ratio: f64) -> Worst {
    let bound = expected.bound;
    let mut rest = at;
    let mut index = vec![0; expected.shape.len()];
    for (index, &axis) in index.iter_mut().zip(expected.shape).rev() {
        (*index, rest) = (rest % axis, rest / axis);
    }
    let mut stages: Vec<(Stage, f64)> = Stage::ALL
        .into_iter()
        .map(|stage| (stage, f64::from(bound.stages[at][stage as usize])))
        .filter(|&(_, share)| share > 0.0)
        .collect();
    stages.sort_by(|a, b| b.1.total_cmp(&a.1));
    Worst {
        index,
        found,
        expected: expected.truth[at],
        bound: bound.threshold[at],
        worst_case: bound.worst_case[at],
        ratio,
        stages,
    }
}

/// What a tensor that was not computed at all looks like.
fn special(expected: &Expected<'_>, found: &[f64], result: &TensorResult, verdict: &mut Verdict) {
    let Expected { name, truth, .. } = *expected;
    let wrong = |at: &usize| !found[*at].is_finite() && truth[*at].is_finite();
    let bad: Vec<usize> = (0..found.len()).filter(wrong).collect();
    if let Some(&first) = bad.first() {
        let where_ = worst_at(expected, first, found[first], f64::INFINITY).index;
        let message = format!(
            "{} of {} elements are NaN or infinite where a number belongs, the first at {where_:?}",
            bad.len(),
            found.len()
        );
        verdict.fail(name, Criterion::NotANumber, message);
        let same = bad.iter().all(|&at| found[at].to_bits() == found[first].to_bits());
        if bad.len() == found.len() && same {
            verdict.fail(name, Criterion::Unwritten, "every element is the same NaN or infinity");
        }
    }
    if result.outside == 0 || found.len() < 2 {
        return;
    }
    let first = found[0];
    if found.iter().any(|&x| x != first) {
        let huge = found.iter().filter(|x| x.is_finite() && x.abs() > 1e30).count();
        let largest = truth.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        if huge > 0 && largest < 1e25 {
            let message = format!("{huge} elements above 1e30: memory that was never written");
            verdict.fail(name, Criterion::Unwritten, message);
        }
    } else if first == 0.0 {
        verdict.fail(name, Criterion::Zero, "every element is zero");
    } else {
        verdict.fail(name, Criterion::Constant, format!("every element is {first:e}"));
    }
}

/// Refuses a tensor whose bounds would let a made-up answer pass.
fn vacuous(
    expected: &Expected<'_>,
    result: &TensorResult,
    of_truth: f64,
    of_bound: f64,
    verdict: &mut Verdict,
) {
    let unbounded = expected.bound.threshold.iter().any(|b| !b.is_finite());
    // A truth of zero, up to the truth's own error, is its own noise: that the candidate's is noise too is checked.
    let zero = of_truth <= 1e-24 * of_bound;
    if expected.truth.is_empty() || (!unbounded && (zero || result.width <= 0.5)) {
        return;
    }
    let message = if unbounded {
        "a bound is infinite: the result may leave the range of its format".to_owned()
    } else {
        format!(
            "the bounds are {:.2} of the tensor's own size (limit 0.50): this recipe cannot be told from a made-up answer here",
            result.width
        )
    };
    verdict.find(Finding {
        tensor: expected.name.to_owned(),
        rule: Criterion::Vacuous,
        outcome: Outcome::Refused,
        message,
    });
}
