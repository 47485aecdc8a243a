//! How small an error a number of runs can see, and how many runs an error needs.

use super::battery::FALSE_ALARM;
use super::bugs::{Prediction, smallest};
use super::inconclusive;
use super::mask_recovery::Decoder;
use super::model::{Model, ModelRow};
use super::projection_vectors::{Directions, directions};
use super::projections::{Functional, Joint};
use crate::Verdict;
use sus_bounds::Recipe;
use sus_reference::error::Error;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;
use sus_reference::sus::moments::functional::bernstein_limit;

/// A number of runs decides if it sees a bias of the keep probabilities, or of a gradient, of this relative size.
pub(super) const DECIDES_BIAS: f64 = 0.1;
/// And an error of a variance of this relative size.
pub(super) const DECIDES_VARIANCE: f64 = 1.0;
/// And, where masks are decoded, this correlation of neighbouring runs.
pub(super) const DECIDES_CORRELATION: f64 = 0.1;

/// The level that plans are made for: a share of the budget for each of some thousand tests.
const LEVEL: f64 = FALSE_ALARM / 1000.0;

/// What runs of a case can see.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::plan;
/// let draw = Draw::paper(Budget::new(4.0)?, 0);
/// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
/// assert!(0 < plan.undecided && plan.undecided < problem.row_count() * problem.sizes().keys);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether the gradients of a run tell its mask: then a wrong weight or gradient is seen in every run.
    pub decoded: bool,
    /// Undecided entries.
    pub undecided: usize,
    /// What is measured.
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
    /// The functional, if it is one.
    functional: Option<Functional>,
    /// `sum of sqrt(v v)` over pairs of neighbouring runs, and its variance.
    pairs: Option<[f64; 2]>,
    /// Of the squared deviations of the rows' counts: their mean, their variance, the largest.
    rows: Option<[f64; 3]>,
}

/// What a number of runs can see.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::plan;
/// let draw = Draw::paper(Budget::new(4.0)?, 0);
/// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
/// let [few, many] = [1000, 4000].map(|runs| plan.sensitivity(runs));
/// assert!(many.bias < few.bias && many.variance < few.variance);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// The smallest relative bias.
    pub bias: f64,
    /// The smallest relative error of a variance.
    pub variance: f64,
    /// The smallest correlation of neighbouring runs.
    pub correlation: f64,
}

/// The plan of a case.
///
/// # Errors
/// Those of the problem's bounds.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::Recipe;
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::plan;
/// let draw = Draw::paper(Budget::new(4.0)?, 0);
/// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
/// assert!(plan.sensitivity(4000).bias < plan.sensitivity(400).bias);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn plan(problem: &Problem<f64>, recipe: &Recipe, draw: &Draw) -> Result<Plan, Error> {
    let saved = forward(problem);
    let model = Model::new(problem, &saved, recipe, draw)?;
    let with_bias = problem.inputs().bias.is_some();
    if Decoder::new(&model, with_bias, false).is_some() {
        return Ok(of_masks(&model));
    }
    Ok(of_directions(&model, &directions(problem, draw)?))
}

fn undecided(model: &Model<'_>) -> usize {
    let of = |row: &ModelRow| (0..row.law.q.len()).filter(|&n| row.law.is_stochastic(n)).count();
    model.rows.iter().map(of).sum()
}

/// The plan of a case whose masks are told by the gradients.
pub(super) fn of_masks(model: &Model<'_>) -> Plan {
    Plan { decoded: true, undecided: undecided(model), measured: vec![of_counts(model)] }
}

/// The plan of a case that is judged by projections: the truth for the mean, random directions for the variance.
pub(super) fn of_directions(model: &Model<'_>, directions: &Directions) -> Plan {
    let all = [true; 4];
    let measured = directions
        .names
        .iter()
        .enumerate()
        .filter_map(|(p, name)| {
            let truth = name.ends_with("over its variance");
            (truth || name.starts_with("random")).then_some((p, truth))
        })
        .map(|(p, truth)| (truth, Joint::new(model, directions.of(p)).functional(all, 0.0)))
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
    Plan { decoded: false, undecided: undecided(model), measured }
}

/// The number of kept undecided entries.
fn of_counts(model: &Model<'_>) -> Measured {
    let (mut mean, mut variance, mut fourth, mut pairs) = (0.0, 0.0, 0.0, [0.0; 2]);
    let mut rows = [0.0_f64; 3];
    for row in &model.rows {
        let law = row.law.count_distribution();
        let all = || law.probability.iter().enumerate().map(|(n, &p)| ((law.least + n) as f64, p));
        let center: f64 = all().map(|(n, p)| n * p).sum();
        let moment = |k: i32| -> f64 { all().map(|(n, p)| p * (n - center).powi(k)).sum() };
        rows[0] += moment(2);
        rows[1] += (moment(4) - moment(2) * moment(2)).max(0.0);
        let far = all().filter(|x| x.1 > 0.0).map(|(n, _)| (n - center) * (n - center));
        rows[2] = far.fold(rows[2], f64::max);
        let undecided = (0..row.law.q.len()).filter(|&n| row.law.is_stochastic(n));
        for v in undecided.map(|n| row.law.q[n] * (1.0 - row.law.q[n])) {
            fourth += v * (1.0 - 6.0 * v);
            pairs[0] += v / 2.0;
            pairs[1] += v * v / 2.0;
        }
        let undecided = (0..row.law.q.len()).filter(|&n| row.law.is_stochastic(n));
        mean += undecided.map(|n| row.law.q[n]).sum::<f64>();
        variance += row.law.count_variance();
    }
    // Rows whose counts never vary say nothing of their probabilities: other sums of the same entries do.
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

impl Plan {
    /// What this many runs can see: the worst of what is measured.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::plan;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let ratio = plan.sensitivity(1_000_000).variance / plan.sensitivity(4_000_000).variance;
    /// assert!((ratio - 2.0).abs() < 0.1); // as the root of the number of runs
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
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

    /// The smallest number of runs that sees what `enough` asks for; `None` beyond `2^40`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::plan;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let runs = plan.runs(|seen| seen.bias <= 0.05).unwrap();
    /// assert!(plan.sensitivity(runs).bias <= 0.05 && plan.sensitivity(runs - 1).bias > 0.05);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn runs(&self, enough: impl Fn(Sensitivity) -> bool) -> Option<usize> {
        smallest(|runs| enough(self.sensitivity(runs)))
    }

    /// Whether a sensitivity is enough for PASS.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::plan;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let runs = plan.runs(|seen| plan.threshold(seen)).unwrap();
    /// assert!(!plan.threshold(plan.sensitivity(runs / 2)));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn passes_with(&self, s: Sensitivity) -> bool {
        s.bias <= DECIDES_BIAS
            && s.variance <= DECIDES_VARIANCE
            && (!self.decoded || s.correlation <= DECIDES_CORRELATION)
    }

    /// Says what this many runs could see, and whether that is enough.
    pub(super) fn conclude(&self, runs: usize, verdict: &mut Verdict) {
        let s = self.sensitivity(runs);
        let of = if self.decoded { "keep probabilities" } else { "a gradient" };
        verdict.notes.push(format!(
            "{runs} runs could see a bias of {of} of {:.2} %, an error of a variance of {:.2} %, a correlation of {:.4}",
            100.0 * s.bias,
            100.0 * s.variance,
            s.correlation
        ));
        if !self.passes_with(s) {
            let needed = self.runs(|s| self.passes_with(s));
            let needed = needed.map_or("more than 2^40".into(), |n| n.to_string());
            inconclusive(&format!("{runs} runs are too few to tell; {needed} would do"), verdict);
        }
    }
}

impl Plan {
    /// The plan for people: what some numbers of runs can see, and the number that sees what is asked for.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::plan;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let runs = plan.runs(|seen| seen.bias <= 0.05).unwrap();
    /// assert!(plan.to_text(0.05, 0.5).contains(&format!("a bias of 5 % needs {runs} runs")));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_text(&self, bias: f64, variance: f64) -> String {
        let mut out = String::new();
        let mut line = |text: String| out.push_str(&(text + "\n"));
        line(format!("undecided entries   {}", self.undecided));
        let recovered =
            "recovered by the gradients of a run: a wrong weight or gradient fails at once";
        line(format!(
            "masks               {}",
            if self.decoded { recovered } else { "not recovered by the gradients" }
        ));
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

    /// The plan for machines.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Recipe;
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::plan;
    /// let draw = Draw::paper(Budget::new(4.0)?, 0);
    /// let plan = plan(&problem, &Recipe::built_in("f32").unwrap(), &draw)?;
    /// let runs = plan.runs(|seen| plan.threshold(seen)).unwrap();
    /// let said = plan.to_json(0.05, 0.5, None);
    /// assert!(said.contains(&format!(r#""pass":{{"runs":{runs}}}"#)) && !said.contains("bugs"));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
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
            "undecided": self.undecided,
            "decoded": self.decoded,
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
