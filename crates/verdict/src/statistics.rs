//! The mean, the slope and the root mean square of a tensor's errors, by row, by head and as a whole.

use super::elements::Expected;
use super::{Criterion, Verdict};
use sus_bounds::{Along, Limits, SetLimits, Statistic, WithO};

/// One statistic of a tensor, against its limits.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let verdict = judge.check(&gallery::unfused_kernel(&config, None));
/// let dq = verdict.tensors.iter().find(|tensor| tensor.name == "dq").unwrap();
/// assert_eq!(dq.statistics.len(), 3);
/// assert!(dq.statistics.iter().all(|of| of.all.ratio() <= 1.0 && of.row.1.ratio() <= 1.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatisticResult {
    /// Which.
    pub statistic: Statistic,
    /// Of the whole tensor.
    pub all: SetResult,
    /// Of the head, and its number, that is worst against its limit.
    pub head: (usize, SetResult),
    /// Of the row or key that is worst, and its number.
    pub row: (usize, SetResult),
}

/// A statistic of one set of elements.
///
/// # Examples
/// ```
/// use sus_verdict::SetResult;
/// let exceeded = SetResult { found: -3.0, limit: 2.0 };
/// assert!(exceeded.ratio() > 1.0); // the sign does not count
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SetResult {
    /// What was found.
    pub found: f64,
    /// What a right kernel does not exceed.
    pub limit: f64,
}

impl SetResult {
    /// `|found| / limit`; 0 where nothing is limited.
    ///
    /// # Examples
    /// ```
    /// use sus_verdict::SetResult;
    /// assert_eq!(SetResult { found: -0.5, limit: 2.0 }.ratio(), 0.25);
    /// assert_eq!(SetResult { found: 0.0, limit: 0.0 }.ratio(), 0.0);
    /// ```
    #[must_use]
    pub fn ratio(self) -> f64 {
        if self.found == 0.0 { 0.0 } else { self.found.abs() / self.limit }
    }
}

/// The errors of the gradients together, along what a known bug would add.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("flash-bf16").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let directions = judge.check(&gallery::control_kernel(&config)).directions;
/// assert!(!directions.is_empty() && directions.iter().all(|along| along.sum.ratio() <= 1.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DirectionResult {
    /// The bug, by its name in the gallery.
    pub bug: &'static str,
    /// The weighted sum of the errors, and its limit.
    pub sum: SetResult,
    /// What the bug itself would make of the sum.
    pub expected: f64,
}

/// The weighted sum of the errors of `dq`, `dk`, `dv` and `dbias`, given as `[truth, found]`.
pub(super) fn along_sum(along: &Along, gradients: [[&[f64]; 2]; 4]) -> f64 {
    let sum = |(weights, [truth, found]): (&Vec<f64>, [&[f64]; 2])| {
        let errors = truth.iter().zip(found).map(|(truth, found)| found - truth);
        weights.iter().zip(errors).filter(|(w, _)| **w != 0.0).map(|(w, e)| w * e).sum::<f64>()
    };
    along.weights.iter().zip(gradients).map(sum).sum()
}

/// Holds the errors of `dq`, `dk`, `dv` and `dbias`, as `[truth, found]`, against the limits of the directions; `of_o` is
/// what the candidate's own `o` makes of each row's `delta`, if it says so.
pub(super) fn judge_directions(
    along: &[Along],
    gradients: [[&[f64]; 2]; 4],
    of_o: Option<&[f64]>,
    verdict: &mut Verdict,
) {
    for of_bug in along {
        let (bug, limit, expected) = (of_bug.name, of_bug.limit, of_bug.expected);
        let found = along_sum(of_bug, gradients);
        // What is no number is left to the other rules.
        if !found.is_finite() {
            continue;
        }
        let mut sum = SetResult { found, limit };
        if let (Some(with_o), Some(of_o)) = (&of_bug.with_o, of_o) {
            sum = with_known_o(found, with_o, of_o);
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

/// The sum of a candidate whose `o` is known, by the way to `delta` that explains it better: from the `o` that it stored,
/// or from what that was rounded from.
fn with_known_o(found: f64, with_o: &WithO, of_o: &[f64]) -> SetResult {
    let left = found - with_o.of_delta.iter().zip(of_o).map(|(a, b)| a * b).sum::<f64>();
    let stored = SetResult { found: left, limit: with_o.stored };
    let [of_left, of_all] = with_o.unstored;
    let unstored = [SetResult { found: left, limit: of_left }, SetResult { found, limit: of_all }];
    let [left, all] = unstored;
    let unstored = if left.ratio() > all.ratio() { left } else { all };
    if stored.ratio() <= unstored.ratio() { stored } else { unstored }
}

/// Sums over a set.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Of the mean, the slope and the squares.
    sums: [f64; 3],
    divisors: [f64; 3],
}

impl Sums {
    fn add(&mut self, other: Sums) {
        for at in 0..3 {
            self.sums[at] += other.sums[at];
            self.divisors[at] += other.divisors[at];
        }
    }

    fn of(self, statistic: Statistic) -> f64 {
        let at = statistic as usize;
        let mean = if self.divisors[at] > 0.0 { self.sums[at] / self.divisors[at] } else { 0.0 };
        if statistic == Statistic::Rms { libm::sqrt(mean) } else { mean }
    }
}

/// Holds the errors of a tensor against the limits; findings go to the verdict. Elements that are no numbers are left
/// to the other rules.
pub(super) fn judge(
    expected: &Expected<'_>,
    found: &[f64],
    verdict: &mut Verdict,
) -> Vec<StatisticResult> {
    let Some(limits) = expected.limits else { return Vec::new() };
    let width = expected.shape.last().copied().unwrap_or(1).max(1);
    let rows: Vec<Sums> = (0..found.len() / width)
        .map(|row| row_sums(expected, limits, found, row * width..(row + 1) * width))
        .collect();
    let heads: Vec<Sums> = rows
        .chunks(expected.head_rows.max(1))
        .map(|rows| {
            rows.iter().fold(Sums::default(), |mut sum, &row| {
                sum.add(row);
                sum
            })
        })
        .collect();
    let mut all = Sums::default();
    for &head in &heads {
        all.add(head);
    }
    [Statistic::Mean, Statistic::Slope, Statistic::Rms]
        .into_iter()
        .zip(&limits.sets)
        .map(|(statistic, limits)| {
            let result = one(statistic, limits, &rows, &heads, all);
            report(expected.name, &result, verdict);
            result
        })
        .collect()
}

fn row_sums(
    expected: &Expected<'_>,
    limits: &Limits,
    found: &[f64],
    at: std::ops::Range<usize>,
) -> Sums {
    let mut sums = Sums::default();
    for at in at {
        let (truth, scale) = (expected.truth[at], limits.scale[at]);
        let limited = scale > 0.0 && scale.is_finite();
        let (error, slope) = ((found[at] - truth) / scale, truth / scale);
        let of = [1.0, if limited { slope * slope } else { 0.0 }, 1.0];
        sums.divisors = std::array::from_fn(|f| sums.divisors[f] + of[f]);
        if limited && error.is_finite() {
            let of = [error, error * slope, error * error];
            sums.sums = std::array::from_fn(|f| sums.sums[f] + of[f]);
        }
    }
    sums
}

fn one(
    statistic: Statistic,
    limits: &SetLimits,
    rows: &[Sums],
    heads: &[Sums],
    all: Sums,
) -> StatisticResult {
    let worst = |sets: &[Sums], limits: &[f64]| {
        let results = sets
            .iter()
            .zip(limits)
            .map(|(set, &limit)| SetResult { found: set.of(statistic), limit });
        let worst = results.enumerate().max_by(|a, b| a.1.ratio().total_cmp(&b.1.ratio()));
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
        (format!("head {}", result.head.0), result.head.1),
        (format!("row {}", result.row.0), result.row.1),
    ];
    let exceeded = sets.iter().find(|(_, set)| set.ratio() > 1.0);
    if let Some((where_, SetResult { found, limit })) = exceeded {
        let message = format!("{what} over {where_}: found {found:.3e}, limit {limit:.3e}");
        verdict.fail(name, rule, message);
    }
}
