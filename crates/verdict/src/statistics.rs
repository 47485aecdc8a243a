//! The mean, the slope and the root mean square of a tensor's errors, by row, by head and as a whole, and the sums of errors along
//! known bugs (docs/verdict.md, "The statistics").

use crate::expected::Expected;
use crate::{Criterion, Verdict};
use serde::{Serialize, Serializer};
use sus_bounds::{DirectionLimit, SetLimits, Statistic, StoredOLimit, TensorLimits};

/// One statistic of a tensor, against its limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StatisticResult {
    /// The statistic.
    #[serde(skip)]
    pub statistic: Statistic,
    /// Over the whole tensor.
    #[serde(rename = "tensor")]
    pub all: SetResult,
    /// Over the head that is nearest to its limit, or furthest beyond it.
    pub head: WorstSet,
    /// Over the row or key that is nearest to its limit, or furthest beyond it.
    pub row: WorstSet,
}

impl StatisticResult {
    /// The largest `|found| / limit` of all sets.
    pub(crate) fn ratio(&self) -> f64 {
        self.all.ratio().max(self.head.result.ratio()).max(self.row.result.ratio())
    }
}

/// The name of a statistic in reports.
pub(crate) const fn statistic_name(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Mean => "mean",
        Statistic::Slope => "slope",
        Statistic::Rms => "rms",
    }
}

/// A statistic of one set of elements.
///
/// # Examples
/// ```
/// use sus_verdict::SetResult;
/// let exceeded = SetResult { found: -3.0, limit: 2.0 };
/// assert!(exceeded.ratio() > 1.0); // the sign does not count
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct SetResult {
    /// The statistic of the candidate.
    pub found: f64,
    /// The limit that no right kernel exceeds, up to the false-alarm rate.
    pub limit: f64,
}

impl SetResult {
    /// `|found| / limit`; 0 where nothing is limited.
    #[must_use]
    pub fn ratio(self) -> f64 {
        if self.found == 0.0 { 0.0 } else { self.found.abs() / self.limit }
    }
}

/// The set of elements, of several, that is nearest to its limit, or furthest beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct WorstSet {
    /// The number of the head, row or key.
    pub index: usize,
    /// Its statistic.
    #[serde(flatten)]
    pub result: SetResult,
}

/// The statistics as a map from their names.
pub(crate) fn by_name<S: Serializer>(
    statistics: &[StatisticResult],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(statistics.iter().map(|of| (statistic_name(of.statistic), of)))
}

/// The errors of the gradients together, along the errors of a known bug.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DirectionResult {
    /// The bug, by its name among the wrong kernels.
    #[serde(skip)]
    pub bug: &'static str,
    /// The weighted sum of the errors, and its limit.
    #[serde(flatten)]
    pub sum: SetResult,
    /// The sum of the bug's own errors.
    pub expected: f64,
}

/// A gradient of the reference and of a candidate; both are empty where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Compared<'a> {
    pub reference: &'a [f64],
    pub found: &'a [f64],
}

/// The weighted sum of the errors of `dq`, `dk`, `dv` and `dbias`.
pub(crate) fn along_sum(along: &DirectionLimit, gradients: [Compared<'_>; 4]) -> f64 {
    let sum = |(weights, of): (&[f64], Compared<'_>)| {
        let errors = of.reference.iter().zip(of.found).map(|(reference, found)| found - reference);
        weights.iter().zip(errors).filter(|(w, _)| **w != 0.0).map(|(w, e)| w * e).sum::<f64>()
    };
    along.weights.slices().into_iter().zip(gradients).map(sum).sum()
}

/// Compares the sums of the errors of `dq`, `dk`, `dv` and `dbias` along known bugs with their limits (docs/verdict.md,
/// "Directions"). A sum that weighs a tensor with `vacuous` bounds is not judged. `delta_errors` are the errors of each row's `delta`
/// that follow from the candidate's own `o`, if it stored one.
pub(crate) fn judge_directions(
    along: &[DirectionLimit],
    gradients: [Compared<'_>; 4],
    vacuous: [bool; 4],
    delta_errors: Option<&[f64]>,
    verdict: &mut Verdict,
) {
    let is_judged = |along: &&DirectionLimit| {
        let weighs = |weights: &[f64]| weights.iter().any(|&weight| weight != 0.0);
        along
            .weights
            .slices()
            .into_iter()
            .zip(vacuous)
            .all(|(of, vacuous)| !(vacuous && weighs(of)))
    };
    for of_bug in along.iter().filter(is_judged) {
        let (bug, limit, expected) = (of_bug.name, of_bug.limit, of_bug.expected);
        let found = along_sum(of_bug, gradients);
        // A NaN is found by the other rules.
        if !found.is_finite() {
            continue;
        }
        let mut sum = SetResult { found, limit };
        if let (Some(with_o), Some(errors)) = (&of_bug.stored_o, delta_errors) {
            sum = with_known_o(found, with_o, errors);
        }
        let SetResult { found, limit } = sum;
        verdict.directions.push(DirectionResult { bug, sum, expected });
        if sum.ratio() > 1.0 {
            let message = format!(
                "errors along {bug}: found {found:.3e}, limit {limit:.3e}, the bug itself {expected:.3e}"
            );
            verdict.fail("gradients", Criterion::Direction, message);
        }
    }
}

/// The sum of a candidate that stored its `o`, by the formula of `delta` that explains it better: from the stored `o`, or from the `o`
/// before it was stored, for which both of two limits hold (docs/verdict.md, "The stored `o`").
fn with_known_o(found: f64, with_o: &StoredOLimit, delta_errors: &[f64]) -> SetResult {
    let of_delta = with_o.of_delta.iter().zip(delta_errors);
    let left = found - of_delta.map(|(weight, error)| weight * error).sum::<f64>();
    let stored = SetResult { found: left, limit: with_o.stored };
    let [of_left, of_all] = with_o.unstored;
    let unstored = [SetResult { found: left, limit: of_left }, SetResult { found, limit: of_all }];
    let [left, all] = unstored;
    let unstored = if left.ratio() > all.ratio() { left } else { all };
    if stored.ratio() <= unstored.ratio() { stored } else { unstored }
}

/// The sums over a set that its mean, slope and root mean square are made of.
#[derive(Clone, Copy, Default)]
struct StatisticSums {
    /// Of the normalised errors `e / s`, of `(e / s) (x / s)` and of `(e / s)^2`, with the reference `x` and the scale `s`.
    sums: [f64; 3],
    /// The number of elements, `sum (x / s)^2`, and the number of elements.
    divisors: [f64; 3],
}

impl StatisticSums {
    fn add(&mut self, other: StatisticSums) {
        for at in 0..3 {
            self.sums[at] += other.sums[at];
            self.divisors[at] += other.divisors[at];
        }
    }

    /// `sum / divisor`, and its root for the root mean square; 0 where no element is limited.
    fn of(self, statistic: Statistic) -> f64 {
        let at = statistic as usize;
        let mean = if self.divisors[at] > 0.0 { self.sums[at] / self.divisors[at] } else { 0.0 };
        if statistic == Statistic::Rms { libm::sqrt(mean) } else { mean }
    }
}

/// Compares the statistics of a tensor's errors with their limits; findings go to the verdict. NaN is left to the other rules.
pub(crate) fn judge(
    expected: &Expected<'_>,
    found: &[f64],
    verdict: &mut Verdict,
) -> Vec<StatisticResult> {
    let Some(limits) = expected.limits else { return Vec::new() };
    let width = expected.shape.last().copied().unwrap_or(1).max(1);
    let total = |sets: &[StatisticSums]| {
        sets.iter().fold(StatisticSums::default(), |mut sum, &set| {
            sum.add(set);
            sum
        })
    };
    let rows: Vec<StatisticSums> = (0..found.len() / width)
        .map(|row| row_sums(expected, limits, found, row * width..(row + 1) * width))
        .collect();
    let heads: Vec<StatisticSums> = rows.chunks(expected.head_rows.max(1)).map(total).collect();
    let all = total(&heads);
    [Statistic::Mean, Statistic::Slope, Statistic::Rms]
        .into_iter()
        .zip(&limits.sets)
        .map(|(statistic, limits)| {
            let mut result = against_limits(statistic, limits, &rows, &heads, all);
            result.head.index = expected.places.key_head(expected.shape, result.head.index);
            result.row.index = expected.places.row(expected.shape, result.row.index);
            report(expected.name, &result, verdict);
            result
        })
        .collect()
}

fn row_sums(
    expected: &Expected<'_>,
    limits: &TensorLimits,
    found: &[f64],
    at: std::ops::Range<usize>,
) -> StatisticSums {
    let mut sums = StatisticSums::default();
    for at in at {
        let (reference, scale) = (expected.reference[at], limits.scale[at]);
        let limited = scale > 0.0 && scale.is_finite();
        let (error, slope) = ((found[at] - reference) / scale, reference / scale);
        let of = [1.0, if limited { slope * slope } else { 0.0 }, 1.0];
        sums.divisors = std::array::from_fn(|f| sums.divisors[f] + of[f]);
        if limited && error.is_finite() {
            let of = [error, error * slope, error * error];
            sums.sums = std::array::from_fn(|f| sums.sums[f] + of[f]);
        }
    }
    sums
}

fn against_limits(
    statistic: Statistic,
    limits: &SetLimits,
    rows: &[StatisticSums],
    heads: &[StatisticSums],
    all: StatisticSums,
) -> StatisticResult {
    let worst = |sets: &[StatisticSums], limits: &[f64]| {
        let results = sets.iter().zip(limits).enumerate().map(|(index, (set, &limit))| WorstSet {
            index,
            result: SetResult { found: set.of(statistic), limit },
        });
        let worst = results.max_by(|a, b| a.result.ratio().total_cmp(&b.result.ratio()));
        worst.unwrap_or_default()
    };
    StatisticResult {
        statistic,
        all: SetResult { found: all.of(statistic), limit: limits.all },
        head: worst(heads, &limits.heads),
        row: worst(rows, &limits.rows),
    }
}

fn report(name: &str, result: &StatisticResult, verdict: &mut Verdict) {
    let (rule, what) = match result.statistic {
        Statistic::Mean => (Criterion::Mean, "mean of error / scale"),
        Statistic::Slope => (Criterion::Slope, "slope of the error on the truth"),
        Statistic::Rms => (Criterion::Rms, "root mean square of error / scale"),
    };
    let sets = [
        ("the tensor".to_owned(), result.all),
        (format!("head {}", result.head.index), result.head.result),
        (format!("row {}", result.row.index), result.row.result),
    ];
    let exceeded = sets.iter().find(|(_, set)| set.ratio() > 1.0);
    if let Some((where_, SetResult { found, limit })) = exceeded {
        let message = format!("{what} over {where_}: found {found:.3e}, limit {limit:.3e}");
        verdict.fail(name, rule, message);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Compared, SetResult, StatisticResult, WorstSet, judge_directions, report, with_known_o,
    };
    use crate::{Outcome, Verdict};
    use sus_bounds::{DirectionLimit, GradientValues, Statistic, StoredOLimit};

    /// A statistic of the tensor, of a head and of a row, each against the limit 1.
    fn judged(found: [f64; 3]) -> Outcome {
        let set = |found: f64| SetResult { found, limit: 1.0 };
        let [all, head, row] = found.map(set);
        let worst = |result: SetResult| WorstSet { index: 3, result };
        let statistic = Statistic::Mean;
        let mut verdict = Verdict::default();
        let result = StatisticResult { statistic, all, head: worst(head), row: worst(row) };
        report("dq", &result, &mut verdict);
        verdict.outcome
    }

    #[test]
    fn the_tensor_each_head_and_each_row_have_a_limit_of_their_own() {
        assert_eq!(judged([0.99, -0.99, 0.99]), Outcome::Pass);
        for exceeded in 0..3 {
            let mut found = [0.99; 3];
            found[exceeded] = -1.01;
            assert_eq!(judged(found), Outcome::Fail, "{exceeded}");
        }
    }

    /// A sum of 10 of which a stored `o` explains 9.5.
    fn ratio(stored: f64, unstored: [f64; 2]) -> f64 {
        let with_o = StoredOLimit { of_delta: vec![9.0, 1.0], stored, unstored };
        with_known_o(10.0, &with_o, &[1.0, 0.5]).ratio()
    }

    #[test]
    fn a_stored_o_explains_a_sum_by_one_of_two_formulas_and_the_second_has_two_limits() {
        // By the stored `o`: 0.5 of 1 is left.
        assert_eq!(ratio(1.0, [0.1, 20.0]), 0.5);
        // By the `o` before it was stored: 0.5 of 1 is left, and the whole is 10 of 20.
        assert_eq!(ratio(0.1, [1.0, 20.0]), 0.5);
        // Neither: the whole is twice its limit, and the rest is five times the other.
        assert_eq!(ratio(0.1, [1.0, 5.0]), 2.0);
    }

    #[test]
    fn a_sum_that_weighs_a_tensor_with_vacuous_bounds_is_not_judged() {
        let weights = |dv: f64| GradientValues {
            dq: vec![1.0],
            dk: vec![0.0],
            dv: vec![dv],
            dbias: Vec::new(),
        };
        let direction = |name, dv| DirectionLimit {
            name,
            weights: weights(dv),
            limit: 1.0,
            stored_o: None,
            expected: 4.0,
        };
        let along = [direction("dq alone", 0.0), direction("dq and dv", 1.0)];
        let of = |found| Compared { reference: &[0.0], found };
        let gradients = [of(&[2.0]), of(&[2.0]), of(&[2.0]), Compared::default()];
        let failed = |vacuous: [bool; 4]| -> Vec<&str> {
            let mut verdict = Verdict::default();
            judge_directions(&along, gradients, vacuous, None, &mut verdict);
            assert_eq!(verdict.outcome == Outcome::Fail, !verdict.directions.is_empty());
            verdict.directions.iter().map(|of| of.bug).collect()
        };
        let all = ["dq alone", "dq and dv"];
        assert_eq!(failed([false; 4]), all);
        // No direction here weighs dk.
        assert_eq!(failed([false, true, false, false]), all);
        assert_eq!(failed([false, false, true, false]), all[..1]);
        assert!(failed([true, false, false, false]).is_empty());
    }
}
