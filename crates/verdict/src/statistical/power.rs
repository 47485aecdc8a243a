//! Power analysis: the smallest error that a number of runs detects, and the number of runs that an error needs (docs/statistics.md, "How many
//! runs").

use super::battery::FALSE_ALARM;
use super::bugs::Prediction;
use super::functional::{DirectionDistribution, Functional};
use super::mask_recovery::MaskRecovery;
use super::model::{Model, ModelRow};
use super::most_powerful::smallest;
use super::projection_vectors::{Directions, directions};
use crate::Verdict;
use sus_bounds::Recipe;
use sus_reference::error::Error;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;
use sus_reference::sus::moments::functional::bernstein_limit;

/// PASS needs runs that detect a bias of the keep probabilities, or of a gradient, of this relative size (docs/statistics.md, "False
/// alarms").
pub(super) const DECIDES_BIAS: f64 = 0.1;
/// It also needs runs that detect an error of a variance of this relative size.
pub(super) const DECIDES_VARIANCE: f64 = 1.0;
/// Where masks are recovered, it also needs runs that detect this correlation of neighbouring runs.
pub(super) const DECIDES_CORRELATION: f64 = 0.1;

/// The level of a test that the analysis assumes: a thousandth of the false-alarm rate, as an invocation makes some thousand tests.
const LEVEL: f64 = FALSE_ALARM / 1000.0;

/// The power of the statistical tests of a case: its measured sums.
#[derive(Debug, Clone)]
pub struct PowerAnalysis {
    /// Whether the masks are recovered from the gradients: then a wrong weight or gradient fails in every run.
    pub masks_recovered: bool,
    /// Stochastic entries, `0 < q < 1`.
    pub stochastic: usize,
    /// The sums that are measured.
    measured: Vec<Measured>,
}

/// One sum whose mean and variance are measured.
#[derive(Debug, Clone)]
struct Measured {
    mean: f64,
    variance: f64,
    fourth: f64,
    deviation: f64,
    rounding: f64,
    /// Whether its variance is measured.
    fixes_variance: bool,
    /// The functional, for a projection.
    functional: Option<Functional>,
    /// `sum of sqrt(v v)` over pairs of neighbouring runs, and its variance.
    pairs: Option<[f64; 2]>,
    /// Of the squared deviations of the rows' counts: their mean, their variance, the largest.
    rows: Option<[f64; 3]>,
}

/// The smallest errors that a number of runs detects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// The smallest relative bias.
    pub bias: f64,
    /// The smallest relative error of a variance.
    pub variance: f64,
    /// The smallest correlation of neighbouring runs.
    pub correlation: f64,
}

/// The power analysis of a case.
///
/// # Errors
/// Those of the problem's bounds.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::power_analysis;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let draw = Draw::paper(Budget::new(4.0)?, 0);
/// let power = power_analysis(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
/// assert!(power.sensitivity(4000).bias < power.sensitivity(400).bias);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn power_analysis(
    problem: &Problem<f64>,
    recipe: &Recipe,
    draw: &Draw,
) -> Result<PowerAnalysis, Error> {
    let saved = forward(problem);
    let model = Model::new(problem, &saved, recipe, draw)?;
    let with_bias = problem.inputs().bias.is_some();
    if MaskRecovery::new(&model, with_bias, false).is_some() {
        return Ok(of_masks(&model));
    }
    Ok(of_directions(&model, &directions(problem, draw)?))
}

fn stochastic(model: &Model<'_>) -> usize {
    let of = |row: &ModelRow| {
        (0..row.distribution.q.len()).filter(|&n| row.distribution.is_stochastic(n)).count()
    };
    model.rows.iter().map(of).sum()
}

/// The power analysis of a case whose masks are recovered from the gradients.
pub(super) fn of_masks(model: &Model<'_>) -> PowerAnalysis {
    PowerAnalysis {
        masks_recovered: true,
        stochastic: stochastic(model),
        measured: vec![of_counts(model)],
    }
}

/// The power analysis of a case that is judged by projections: along the dense gradient for the mean, along random directions for the
/// variance.
pub(super) fn of_directions(model: &Model<'_>, directions: &Directions) -> PowerAnalysis {
    let all = [true; 4];
    let measured = directions
        .names
        .iter()
        .enumerate()
        .filter_map(|(p, name)| {
            let truth = name.ends_with("over its variance");
            (truth || name.starts_with("random")).then_some((p, truth))
        })
        .map(|(p, truth)| {
            (truth, DirectionDistribution::new(model, directions.of(p)).functional(all, 0.0))
        })
        .filter(|(_, f)| f.variance > 0.0)
        .map(|(truth, f)| Measured {
            mean: if truth { f.mean.abs() } else { f64::INFINITY },
            fixes_variance: !truth,
            variance: f.variance,
            fourth: f.fourth,
            deviation: f.deviation,
            rounding: f.rounding,
            functional: Some(f.clone()),
            pairs: None,
            rows: None,
        })
        .collect();
    PowerAnalysis { masks_recovered: false, stochastic: stochastic(model), measured }
}

/// The number of kept stochastic entries.
fn of_counts(model: &Model<'_>) -> Measured {
    let (mut mean, mut variance, mut fourth, mut pairs) = (0.0, 0.0, 0.0, [0.0; 2]);
    let mut rows = [0.0_f64; 3];
    for row in &model.rows {
        let distribution = row.distribution.count_distribution();
        let all = || {
            distribution
                .probability
                .iter()
                .enumerate()
                .map(|(n, &p)| ((distribution.least + n) as f64, p))
        };
        let center: f64 = all().map(|(n, p)| n * p).sum();
        let moment = |k: i32| -> f64 { all().map(|(n, p)| p * (n - center).powi(k)).sum() };
        rows[0] += moment(2);
        rows[1] += (moment(4) - moment(2) * moment(2)).max(0.0);
        let far = all().filter(|x| x.1 > 0.0).map(|(n, _)| (n - center) * (n - center));
        rows[2] = far.fold(rows[2], f64::max);
        let stochastic =
            (0..row.distribution.q.len()).filter(|&n| row.distribution.is_stochastic(n));
        for v in stochastic.map(|n| row.distribution.q[n] * (1.0 - row.distribution.q[n])) {
            fourth += v * (1.0 - 6.0 * v);
            pairs[0] += v / 2.0;
            pairs[1] += v * v / 2.0;
        }
        let stochastic =
            (0..row.distribution.q.len()).filter(|&n| row.distribution.is_stochastic(n));
        mean += stochastic.map(|n| row.distribution.q[n]).sum::<f64>();
        variance += row.distribution.count_variance();
    }
    // Where the counts of rows never vary, the power is that of sums of independent entries of the same q.
    let independent = 2.0 * pairs[0];
    let constant = variance <= 1e-9 * independent;
    if constant {
        variance = independent;
    }
    fourth = (fourth + 3.0 * variance * variance).max(variance * variance);
    let (pairs, rows) = (Some(pairs), (!constant).then_some(rows));
    let (deviation, rounding, fixes_variance) = (1.0, 0.0, true);
    Measured {
        mean,
        variance,
        fourth,
        deviation,
        rounding,
        fixes_variance,
        functional: None,
        pairs,
        rows,
    }
}

impl PowerAnalysis {
    /// The smallest errors that this many runs detect in every measured sum.
    #[must_use]
    pub fn sensitivity(&self, runs: usize) -> Sensitivity {
        let n = runs as f64;
        let zero = Sensitivity { bias: 0.0, variance: 0.0, correlation: 0.0 };
        self.measured.iter().filter(|m| m.variance > 0.0).fold(zero, |worst, m| {
            let limit = bernstein_limit(m.variance * n, m.deviation, LEVEL);
            let bias = (limit / n + m.rounding) / m.mean;
            let cut = m.functional.as_ref().map_or(1.0, |f| f.cut(n).0);
            let squares = m.fourth - m.variance * m.variance;
            let [mean, spread, most] = m.rows.unwrap_or([m.variance, squares, cut * cut]);
            let variance = bernstein_limit(n * spread, most, LEVEL) / (n * mean);
            let correlation = if let Some([sum, square]) = m.pairs {
                bernstein_limit(n * square, 1.0, LEVEL) / (n * sum)
            } else {
                let variance = m.variance * m.variance * n / 2.0;
                bernstein_limit(variance, cut * cut, LEVEL) / (m.variance * n / 2.0)
            };
            if !m.fixes_variance {
                return Sensitivity { bias: worst.bias.max(bias), ..worst };
            }
            Sensitivity {
                bias: worst.bias.max(bias),
                variance: worst.variance.max(variance),
                correlation: worst.correlation.max(correlation),
            }
        })
    }

    /// The smallest number of runs with a sensitivity that is `enough`; `None` beyond `2^40`.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::power_analysis;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let power = power_analysis(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let runs = power.runs(|seen| seen.bias <= 0.05).unwrap();
    /// assert!(power.sensitivity(runs).bias <= 0.05 && power.sensitivity(runs - 1).bias > 0.05);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn runs(&self, enough: impl Fn(Sensitivity) -> bool) -> Option<usize> {
        smallest(|runs| enough(self.sensitivity(runs)))
    }

    /// Whether a sensitivity is enough for PASS.
    #[must_use]
    pub fn passes_with(&self, s: Sensitivity) -> bool {
        s.bias <= DECIDES_BIAS
            && s.variance <= DECIDES_VARIANCE
            && (!self.masks_recovered || s.correlation <= DECIDES_CORRELATION)
    }

    /// Adds a note with the sensitivity of this many runs, and INCONCLUSIVE if it is not enough for PASS.
    pub(super) fn conclude(&self, runs: usize, verdict: &mut Verdict) {
        let s = self.sensitivity(runs);
        let of = if self.masks_recovered { "keep probabilities" } else { "a gradient" };
        verdict.notes.push(format!(
            "{runs} runs could see a bias of {of} of {:.2} %, an error of a variance of {:.2} %, a correlation of {:.4}",
            100.0 * s.bias,
            100.0 * s.variance,
            s.correlation
        ));
        if !self.passes_with(s) {
            let needed = self.runs(|s| self.passes_with(s));
            let needed = needed.map_or("more than 2^40".into(), |n| n.to_string());
            let message = format!("{runs} runs are too few to tell; {needed} would do");
            verdict.inconclusive("runs", message);
        }
    }
}

impl PowerAnalysis {
    /// The analysis as text: the sensitivity of some numbers of runs, and the runs that the given errors need.
    #[must_use]
    pub fn to_text(&self, bias: f64, variance: f64) -> String {
        let mut out = String::new();
        let mut line = |text: String| out.push_str(&(text + "\n"));
        line(format!("entries, 0 < q < 1  {}", self.stochastic));
        let masks = if self.masks_recovered {
            "recovered from the gradients of a run: a wrong weight or gradient fails in any run"
        } else {
            "not recovered from the gradients"
        };
        line(format!("masks               {masks}"));
        line(format!(
            "{:>10} {:>12} {:>16} {:>13}",
            "runs", "bias", "variance error", "correlation"
        ));
        for runs in [10, 100, 1000, 4000, 10_000, 100_000] {
            let s = self.sensitivity(runs);
            let (bias, variance) = (100.0 * s.bias, 100.0 * s.variance);
            line(format!("{runs:>10} {bias:>10.2} % {variance:>14.2} % {:>13.4}", s.correlation));
        }
        let say = |runs: Option<usize>| runs.map_or("more than 2^40".into(), |n| n.to_string());
        let runs = say(self.runs(|s| s.bias <= bias));
        line(format!("a bias of {} % needs {runs} runs", 100.0 * bias));
        let runs = say(self.runs(|s| s.variance <= variance));
        line(format!("a variance error of {} % needs {runs} runs", 100.0 * variance));
        line(format!("PASS needs {} runs", say(self.runs(|s| self.passes_with(s)))));
        out
    }

    /// The analysis as JSON, `sus-oracle-power/1`.
    #[must_use]
    pub fn to_json(&self, bias: f64, variance: f64, bugs: Option<&[Prediction]>) -> String {
        let rows: Vec<serde_json::Value> = [10, 100, 1000, 4000, 10_000, 100_000]
            .into_iter()
            .map(|runs| {
                let s = self.sensitivity(runs);
                serde_json::json!({
                    "runs": runs, "bias": s.bias, "variance": s.variance, "correlation": s.correlation,
                })
            })
            .collect();
        let mut document = serde_json::json!({
            "spec": "sus-oracle-power/1",
            "undecided": self.stochastic,
            "decoded": self.masks_recovered,
            "sensitivity": rows,
            "bias": { "size": bias, "runs": self.runs(|s| s.bias <= bias) },
            "variance": { "size": variance, "runs": self.runs(|s| s.variance <= variance) },
            "pass": { "runs": self.runs(|s| self.passes_with(s)) },
        });
        if let Some(bugs) = bugs {
            let bugs = bugs.iter().map(|Prediction { bug, what, runs, least, test }| {
                serde_json::json!({
                    "bug": bug, "what": what, "runs": runs, "any_test": least, "test": test,
                })
            });
            document["bugs"] = bugs.collect();
        }
        format!("{document}\n")
    }
}
