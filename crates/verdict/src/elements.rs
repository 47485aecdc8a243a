//! One tensor, element by element.

use crate::expected::{Expected, Places};
use crate::map::ErrorMap;
use crate::statistics::{self, StatisticResult, by_name};
use crate::{Criterion, Outcome, Verdict};
use serde::{Serialize, Serializer};
use sus_bounds::{KnownOGradient, Recipe, RoundingRange, Stage};

/// The comparison of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorResult {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The worst outcome of its findings.
    pub outcome: Outcome,
    /// The element with the largest error over its bound; `None` for a tensor without elements.
    pub worst: Option<Worst>,
    /// Of `dbias` and `dsink` the element with the largest error over its bound where `delta` is that of the candidate's own `o`; `None`
    /// where that does not say more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_stored_o: Option<Worst>,
    /// How many elements are outside their bounds.
    pub outside: usize,
    /// Root mean square of `error / bound`.
    #[serde(rename = "rms_error_over_bound")]
    pub rms: f64,
    /// Root mean square of the bounds over that of the reference.
    #[serde(rename = "bound_over_truth")]
    pub width: f64,
    /// The sums of squares of the bounds and of the reference, which the last is made of.
    #[serde(skip)]
    pub squares: [f64; 2],
    /// Root mean square of the errors over that of the reference; `None` if the reference is zero up to its own error.
    #[serde(skip)]
    pub relative_error: Option<f64>,
    /// Rows whose reference is below the noise: no element of it is above its bound.
    pub rows_below_noise: usize,
    /// The mean, the slope and the root mean square of the errors, where they are limited.
    #[serde(serialize_with = "by_name")]
    pub statistics: Vec<StatisticResult>,
    /// `error / bound` of each element; infinite where either is no number.
    #[serde(skip)]
    pub ratios: Vec<f64>,
    /// The errors as a map that a page can show.
    #[serde(skip)]
    pub map: ErrorMap,
}

/// One element against its bound.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Worst {
    /// Its index, one number for each axis.
    pub index: Vec<usize>,
    /// The candidate's number.
    pub found: f64,
    /// The reference.
    pub expected: f64,
    /// The threshold that decides.
    pub bound: f64,
    /// The worst case, which no right kernel exceeds whatever its roundings.
    #[serde(rename = "worst_case_bound")]
    pub worst_case: f64,
    /// `|found - expected| / bound`.
    #[serde(rename = "error_over_bound")]
    pub ratio: f64,
    /// The stages that make up the bound, the largest first.
    pub stages: Vec<StageShare>,
}

/// A stage of the kernel and its share of a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageShare {
    /// The stage.
    #[serde(serialize_with = "stage_name")]
    pub stage: Stage,
    /// Its share, from 0 to 1.
    pub share: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a field by reference")]
fn stage_name<S: Serializer>(stage: &Stage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.name())
}

/// The root mean square of the bounds over that of the reference, above which a tensor is refused (docs/verdict.md, "REFUSED").
///
/// If the candidate is `s` times the reference and every element passes, then `|1 - s|` is at most this ratio. At one half every
/// multiple of the reference outside of `[1/2, 3/2]` fails, a tensor of zeros among them.
const MAX_WIDTH: f64 = 0.5;

/// The mean square of a zero reference over that of the bounds, at most.
///
/// The reference in double-double errs by `1e-30` of the terms that cancel, and a bound is at least the `1e-16` of them that `f64`
/// rounds: below the square of `1e-12` the reference is its own rounding error.
const ZERO_REFERENCE: f64 = 1e-24;

/// Compares a tensor with its reference; findings go to the verdict.
pub(crate) fn compare(
    expected: Expected<'_>,
    found: &[f64],
    verdict: &mut Verdict,
) -> TensorResult {
    let Expected { name, shape, reference, bound, .. } = expected;
    let before = verdict.findings.len();
    let ratios: Vec<f64> = (0..reference.len())
        .map(|at| ratio(found[at], reference[at], bound.threshold[at]))
        .collect();
    let squares = |x: &[f64]| x.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>();
    let n = reference.len().max(1) as f64;
    let sizes = Sizes { bound: squares(&bound.threshold), reference: squares(reference) };
    let worst = worst_of(&expected, found, &ratios);
    // Where a made-up answer could pass, only an element outside its own bound says that something is wrong.
    let vacuous = why_vacuous(&expected, sizes);
    let result = TensorResult {
        name,
        shape: shape.to_vec(),
        outcome: Outcome::Pass,
        worst,
        by_stored_o: None,
        outside: ratios.iter().filter(|&&r| r > 1.0).count(),
        rms: libm::sqrt(ratios.iter().map(|r| r * r).sum::<f64>() / n),
        width: sizes.width(),
        squares: [sizes.bound, sizes.reference],
        relative_error: relative_error(found, reference, sizes),
        rows_below_noise: rows_below_noise(&expected),
        statistics: match vacuous {
            Some(_) => Vec::new(),
            None => statistics::judge(&expected, found, verdict),
        },
        map: ErrorMap::new(&expected, found, &ratios),
        ratios,
    };
    not_computed(&expected, found, &result, verdict);
    if result.outside > 0 {
        let share =
            format!("{} of {} elements outside their bounds", result.outside, reference.len());
        verdict.fail(name, Criterion::Bound, share);
    } else if vacuous.is_none() {
        check_ranges(&expected, found, verdict);
    }
    if let Some(message) = vacuous {
        verdict.refuse(name, Criterion::Vacuous, message);
    }
    let outcome = verdict.findings[before..].iter().map(|f| f.outcome).max();
    TensorResult { outcome: outcome.unwrap_or_default(), ..result }
}

/// Sums of squares.
#[derive(Clone, Copy)]
struct Sizes {
    bound: f64,
    reference: f64,
}

impl Sizes {
    /// Root mean square of the bounds over that of the reference.
    fn width(self) -> f64 {
        if self.reference > 0.0 { libm::sqrt(self.bound / self.reference) } else { f64::INFINITY }
    }
}

/// Root mean square of the errors over that of the reference. Infinities that match have no error.
fn relative_error(found: &[f64], reference: &[f64], sizes: Sizes) -> Option<f64> {
    let error = |(x, r): (&f64, &f64)| if x == r { 0.0 } else { (x - r) * (x - r) };
    let errors: f64 = found.iter().zip(reference).map(error).sum();
    let is_zero = sizes.reference <= ZERO_REFERENCE * sizes.bound;
    (!is_zero).then(|| libm::sqrt(errors / sizes.reference))
}

fn rows_below_noise(expected: &Expected<'_>) -> usize {
    let Expected { shape, reference, bound, .. } = *expected;
    let features = shape.last().copied().unwrap_or(1).max(1);
    let below = |row: &usize| {
        let mut elements = row * features..(row + 1) * features;
        elements.all(|at| reference[at].abs() <= bound.threshold[at])
    };
    (0..reference.len() / features).filter(below).count()
}

/// The comparison of a tensor with what follows from the candidate's own `o`.
#[derive(Default)]
pub(crate) struct ByStoredO {
    pub(crate) worst: Option<Worst>,
    /// Why it fails.
    pub(crate) message: Option<String>,
}

/// Compares a sum over rows with the one that follows from the candidate's own `o`.
pub(crate) fn compare_by_stored_o(
    tensor: &TensorResult,
    found: &[f64],
    by_o: &KnownOGradient,
    recipe: &Recipe,
    places: Places<'_>,
) -> ByStoredO {
    let KnownOGradient { reference, bound, ranges } = by_o;
    let expected = Expected {
        name: tensor.name,
        shape: &tensor.shape,
        reference,
        bound,
        limits: None,
        ranges: &[],
        head_rows: 1,
        places,
    };
    let ratios: Vec<f64> =
        (0..found.len()).map(|at| ratio(found[at], reference[at], bound.threshold[at])).collect();
    let Some(worst) = worst_of(&expected, found, &ratios) else {
        return ByStoredO::default();
    };
    let is_rounded = found.iter().all(|&x| recipe.output.round(x) == x);
    let ranges = if is_rounded { ranges.as_slice() } else { &[] };
    let why = "what delta = do . o with the candidate's own o leads to";
    let message = if worst.ratio > 1.0 {
        let outside = ratios.iter().filter(|&&r| r > 1.0).count();
        let Worst { index, found: x, expected, bound, ratio, .. } = &worst;
        Some(format!(
            "{outside} of {} elements are not {why}, the worst at {index:?}: found {x:e}, expected {expected:e}, {ratio:.3} times the bound {bound:.3e}",
            found.len(),
        ))
    } else {
        outside_ranges(places, &tensor.shape, found, ranges).map(|outside| {
            format!(
                "{} of {} elements are no rounding of {why}, {}",
                outside.count,
                found.len(),
                outside.first
            )
        })
    };
    ByStoredO { worst: Some(worst), message }
}

/// Fails a tensor that is within its bounds but that no right kernel rounds to (docs/bounds.md, "Ranges").
fn check_ranges(expected: &Expected<'_>, found: &[f64], verdict: &mut Verdict) {
    let mut nearest: Option<OutsideRanges> = None;
    for ranges in expected.ranges {
        let Some(outside) = outside_ranges(expected.places, expected.shape, found, ranges) else {
            return;
        };
        if nearest.as_ref().is_none_or(|nearest| outside.count < nearest.count) {
            nearest = Some(outside);
        }
    }
    if let Some(OutsideRanges { count, first, .. }) = nearest {
        let message = format!(
            "{count} of {} elements are no rounding of what a right kernel may have, {first}",
            found.len(),
        );
        verdict.fail(expected.name, Criterion::Rounded, message);
    }
}

/// The elements outside of their ranges.
pub(crate) struct OutsideRanges {
    pub count: usize,
    /// The first of them.
    pub at: usize,
    pub first: String,
}

pub(crate) fn outside_ranges(
    places: Places<'_>,
    shape: &[usize],
    found: &[f64],
    ranges: &[RoundingRange],
) -> Option<OutsideRanges> {
    let outside = |&at: &usize| !ranges[at].holds(found[at]);
    let mut all = (0..ranges.len()).filter(outside);
    let at = all.next()?;
    let RoundingRange { least, most } = ranges[at];
    let count = 1 + all.count();
    let first = format!(
        "the first at {:?}: found {:e}, not within [{least:e}, {most:e}]",
        places.index(shape, at),
        found[at],
    );
    Some(OutsideRanges { count, at, first })
}

/// `|found - reference| / bound`. An infinite reference is matched by an infinity, of either sign.
fn ratio(found: f64, reference: f64, bound: f64) -> f64 {
    if reference.is_infinite() {
        return if found.is_infinite() { 0.0 } else { f64::INFINITY };
    }
    let error = (found - reference).abs();
    if !error.is_finite() {
        return f64::INFINITY;
    }
    if error == 0.0 { 0.0 } else { error / bound }
}

/// The first element with the largest ratio.
fn worst_of(expected: &Expected<'_>, found: &[f64], ratios: &[f64]) -> Option<Worst> {
    let worst = (0..ratios.len()).max_by(|&a, &b| ratios[a].total_cmp(&ratios[b]).then(b.cmp(&a)));
    worst.map(|at| worst_at(expected, at, found[at], ratios[at]))
}

fn worst_at(expected: &Expected<'_>, at: usize, found: f64, ratio: f64) -> Worst {
    let bound = expected.bound;
    let mut stages: Vec<StageShare> = Stage::ALL
        .into_iter()
        .map(|stage| StageShare { stage, share: f64::from(bound.stages[at][stage as usize]) })
        .filter(|of| of.share > 0.0)
        .collect();
    stages.sort_by(|a, b| b.share.total_cmp(&a.share));
    Worst {
        index: expected.places.index(expected.shape, at),
        found,
        expected: expected.reference[at],
        bound: bound.threshold[at],
        worst_case: bound.worst_case[at],
        ratio,
        stages,
    }
}

/// Names a tensor that was not computed: NaN, unwritten memory, zeros, a constant. The bound fails it anyway.
fn not_computed(
    expected: &Expected<'_>,
    found: &[f64],
    result: &TensorResult,
    verdict: &mut Verdict,
) {
    let Expected { name, reference, shape, .. } = *expected;
    let wrong = |at: &usize| !found[*at].is_finite() && reference[*at].is_finite();
    let bad: Vec<usize> = (0..found.len()).filter(wrong).collect();
    if let Some(&first) = bad.first() {
        let message = format!(
            "{} of {} elements are NaN or infinite where a number belongs, the first at {:?}",
            bad.len(),
            found.len(),
            expected.places.index(shape, first),
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
        // Random bits read as F32 are above 1e30 with probability 0.1; gradients of that size are 1e5 times the reference here.
        let huge = found.iter().filter(|x| x.is_finite() && x.abs() > 1e30).count();
        let largest = reference.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        if huge > 0 && largest < 1e25 {
            let message = format!(
                "{huge} elements above 1e30: an overflow, or memory that was never written"
            );
            verdict.fail(name, Criterion::Unwritten, message);
        }
    } else if first == 0.0 {
        verdict.fail(name, Criterion::Zero, "every element is zero");
    } else {
        verdict.fail(name, Criterion::Constant, format!("every element is {first:e}"));
    }
}

/// Why the bounds of a tensor would let a made-up answer pass; `None` if they would not.
fn why_vacuous(expected: &Expected<'_>, sizes: Sizes) -> Option<String> {
    let unbounded = expected.bound.threshold.iter().any(|b| !b.is_finite());
    let width = sizes.width();
    // Where the reference is zero up to its own error, the bound is the noise of the terms that cancel: it is checked, not refused.
    let zero = sizes.reference <= ZERO_REFERENCE * sizes.bound;
    if expected.reference.is_empty() || (!unbounded && (zero || width <= MAX_WIDTH)) {
        return None;
    }
    Some(if unbounded {
        "a bound is infinite: the result may leave the range of its format".to_owned()
    } else {
        format!(
            "the bounds are {width:.2} of the tensor's own size (limit {MAX_WIDTH:.2}): this recipe cannot be told from a made-up answer here"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_WIDTH, compare};
    use crate::expected::{Expected, Places};
    use crate::{Criterion, Outcome, Verdict};
    use sus_bounds::{Bound, RoundingRange, SetLimits, Stage, TensorLimits};

    /// The verdict on `found` where every bound is `bound`.
    fn judged(reference: &[f64], found: &[f64], bound: f64) -> Verdict {
        let n = reference.len();
        let bound = Bound {
            threshold: vec![bound; n],
            worst_case: vec![2.0 * bound; n],
            stages: vec![[0.0; Stage::COUNT]; n],
        };
        let expected = Expected {
            name: "dq",
            shape: &[1, 1, n, 1],
            reference,
            bound: &bound,
            limits: None,
            ranges: &[],
            head_rows: n,
            places: Places::default(),
        };
        let mut verdict = Verdict::default();
        compare(expected, found, &mut verdict);
        verdict
    }

    #[test]
    fn a_tensor_is_refused_above_half_of_its_own_size_and_judged_below() {
        let reference = [1.0, -1.0, 1.0, -1.0];
        for (width, outcome) in [
            (0.45, Outcome::Pass),
            (0.4999, Outcome::Pass),
            (MAX_WIDTH, Outcome::Pass),
            (0.5001, Outcome::Refused),
            (0.55, Outcome::Refused),
        ] {
            assert_eq!(judged(&reference, &reference, width).outcome, outcome, "{width}");
        }
    }

    /// The verdict on `found` where no error is within the limits of the statistics and no number within its range.
    fn judged_by_all_rules(reference: &[f64], found: &[f64], bounds: Vec<f64>) -> Verdict {
        let n = reference.len();
        let limits = SetLimits { rows: vec![1e-9; n], heads: vec![1e-9], all: 1e-9 };
        let limits =
            TensorLimits { scale: vec![1.0; n], sets: [limits.clone(), limits.clone(), limits] };
        let ranges = vec![RoundingRange { least: 8.0, most: 8.0 }; n];
        let bound = Bound {
            worst_case: bounds.clone(),
            threshold: bounds,
            stages: vec![[0.0; Stage::COUNT]; n],
        };
        let expected = Expected {
            name: "dq",
            shape: &[1, 1, n, 1],
            reference,
            bound: &bound,
            limits: Some(&limits),
            ranges: &[&ranges],
            head_rows: n,
            places: Places::default(),
        };
        let mut verdict = Verdict::default();
        compare(expected, found, &mut verdict);
        verdict
    }

    #[test]
    fn a_tensor_that_is_refused_fails_by_its_elements_alone() {
        let (reference, wrong) = ([1.0, -1.0, 1.0, -1.0], [1.25, -1.0, 1.25, -1.0]);
        let rules = |bounds: Vec<f64>, found: &[f64]| -> Vec<Criterion> {
            let verdict = judged_by_all_rules(&reference, found, bounds);
            verdict.findings.iter().map(|finding| finding.rule).collect()
        };
        let (narrow, wide) = (vec![MAX_WIDTH; 4], vec![0.51; 4]);
        let infinite = vec![MAX_WIDTH, f64::INFINITY, MAX_WIDTH, MAX_WIDTH];
        let statistics = [Criterion::Mean, Criterion::Slope, Criterion::Rms, Criterion::Rounded];
        assert_eq!(rules(narrow, &wrong), statistics);
        for bounds in [wide.clone(), infinite.clone()] {
            assert_eq!(rules(bounds, &wrong), [Criterion::Vacuous]);
        }
        // Outside its own bound, or no number.
        let outside = [1.75, -1.0, 1.0, -1.0];
        for bounds in [wide.clone(), infinite] {
            assert_eq!(rules(bounds, &outside), [Criterion::Bound, Criterion::Vacuous]);
        }
        let nan = [f64::NAN, -1.0, 1.0, -1.0];
        assert_eq!(rules(wide, &nan)[0], Criterion::NotANumber);
    }

    /// The premise of `MAX_WIDTH`: at that width the multiples of the reference that pass are within one half of it.
    #[test]
    fn at_the_widest_bounds_no_multiple_outside_of_a_half_to_three_halves_passes() {
        let reference = [1.0, -1.0, 1.0, -1.0];
        for (factor, outcome) in [
            (0.0, Outcome::Fail),
            (0.499, Outcome::Fail),
            (0.501, Outcome::Pass),
            (1.499, Outcome::Pass),
            (1.501, Outcome::Fail),
        ] {
            let found = reference.map(|x| factor * x);
            assert_eq!(judged(&reference, &found, MAX_WIDTH).outcome, outcome, "{factor}");
        }
    }

    #[test]
    fn huge_numbers_are_an_overflow_or_unwritten_memory() {
        let verdict = judged(&[1.0, -1.0], &[1e31, -1.0], 0.25);
        let found = verdict.findings.iter().find(|of| of.rule == Criterion::Unwritten).unwrap();
        assert!(found.message.starts_with("1 elements above 1e30: an overflow, or memory"));
        let verdict = judged(&[1.0, -1.0], &[1e29, -1.0], 0.25);
        assert!(verdict.findings.iter().all(|of| of.rule != Criterion::Unwritten));
    }

    #[test]
    fn a_zero_reference_is_judged_and_a_small_one_is_refused() {
        for (size, outcome) in
            [(0.0, Outcome::Pass), (0.9e-12, Outcome::Pass), (1.1e-12, Outcome::Refused)]
        {
            let reference = [size, -size];
            let verdict = judged(&reference, &reference, 1.0);
            assert_eq!(verdict.outcome, outcome, "{size}");
            let refused = verdict.findings.iter().any(|f| f.rule == Criterion::Vacuous);
            assert_eq!(refused, outcome == Outcome::Refused);
        }
        assert_eq!(judged(&[0.0; 2], &[0.5, 1.5], 1.0).outcome, Outcome::Fail);
    }

    #[test]
    fn an_element_passes_up_to_its_bound_and_an_infinite_bound_is_refused() {
        let reference = [1.0, 2.0];
        assert_eq!(judged(&reference, &[1.25, 2.0], 0.25).outcome, Outcome::Pass);
        assert_eq!(judged(&reference, &[1.250_001, 2.0], 0.25).outcome, Outcome::Fail);
        assert_eq!(judged(&reference, &reference, f64::INFINITY).outcome, Outcome::Refused);
    }
}
