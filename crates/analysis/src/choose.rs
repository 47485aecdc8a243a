//! The smallest budget whose relative variance increase meets a target.
//!
//! With independent entries the mask variance is `sum A W (max(W, 1/lambda) - W)`: continuous in `c` and never rising,
//! because no `lambda_i` falls as `c` grows. One crossing, so nested intervals find it. The systematic sampler has the
//! same `dk` and `dv`, but its `dq` need not fall: there every budget of the search's grid above the answer meets the
//! target as well, and between two points of the grid nothing is claimed.

use super::passes::{self, Passed};
use super::scan::scan_entries;
use super::spread::{self, Spread};
use super::totals::{PerGradient, Setting, Totals};
use sus_fast::Backends;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Budget, Rule, Sampler};

/// The relative precision of the budget: the answer meets the target, and the answer divided by `1 + PRECISION` does not.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{PRECISION, IncreaseTarget, RelativeTo, Tensors, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let question = IncreaseTarget {
///     target: 0.05, of: Tensors::Dv, relative_to: RelativeTo::Norm,
///     rule: Rule::Paper, sampler: Sampler::Bernoulli, plain: true,
/// };
/// // The variance hardly changes over the interval that the answer is known to, so the target is met to that precision.
/// let found = choose(vec![problem], &question)?.of(Tensors::Dv).unwrap();
/// assert!(found <= 0.05 && found > 0.05 * (1.0 - 100.0 * PRECISION));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub const PRECISION: f64 = 1e-10;

/// Budgets that one pass over the entries evaluates.
const BUDGETS_PER_PASS: usize = 16;

/// Which gradients have to meet the target.
///
/// # Examples
/// ```
/// use sus_analysis::Tensors;
/// assert_eq!("dk".parse::<Tensors>()?, Tensors::Dk);
/// let error = "do".parse::<Tensors>().unwrap_err();
/// assert_eq!(error.to_string(), "option 'of': expected 'dq', 'dk', 'dv' or 'max', found 'do'");
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tensors {
    /// `dq`.
    Dq,
    /// `dk`.
    Dk,
    /// `dv`.
    Dv,
    /// All three.
    #[default]
    Max,
}

impl std::fmt::Display for Tensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Tensors::Dq => "dq",
            Tensors::Dk => "dk",
            Tensors::Dv => "dv",
            Tensors::Max => "max",
        })
    }
}

impl std::str::FromStr for Tensors {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "dq" => Ok(Tensors::Dq),
            "dk" => Ok(Tensors::Dk),
            "dv" => Ok(Tensors::Dv),
            "max" => Ok(Tensors::Max),
            _ => Err(Error::option("of", "'dq', 'dk', 'dv' or 'max'", format!("'{name}'"))),
        }
    }
}

/// What the mask variance is compared with.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{IncreaseTarget, RelativeTo, Tensors, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let problem = sus_corpus::named("sink").unwrap().problem;
/// let one = sus_corpus::named("deep").unwrap().problem; // of one sequence
/// let question = |relative_to| IncreaseTarget {
///     target: 0.05, of: Tensors::Max, relative_to,
///     rule: Rule::Paper, sampler: Sampler::Bernoulli, plain: true,
/// };
/// assert!(choose(vec![problem], &question(RelativeTo::Sequences)).is_ok());
/// // One sequence has no variance to compare with, but it has a norm.
/// assert!(choose(vec![one.clone()], &question(RelativeTo::Sequences)).is_err());
/// assert!(choose(vec![one], &question(RelativeTo::Norm)).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelativeTo {
    /// The between-sequence variance.
    #[default]
    Sequences,
    /// The squared norm of the gradient.
    Norm,
}

/// A target and what has to meet it.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{IncreaseTarget, RelativeTo, Tensors, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let strict = IncreaseTarget {
///     target: 0.01, of: Tensors::Max, relative_to: RelativeTo::Norm,
///     rule: Rule::Paper, sampler: Sampler::Bernoulli, plain: true,
/// };
/// let lax = IncreaseTarget { target: 0.1, ..strict };
/// assert!(choose(vec![problem.clone()], &lax)?.c < choose(vec![problem], &strict)?.c);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IncreaseTarget {
    /// The largest relative increase allowed, above 0.
    pub target: f64,
    /// Of which gradients.
    pub of: Tensors,
    /// Relative to what.
    pub relative_to: RelativeTo,
    /// Weights to probabilities.
    pub rule: Rule,
    /// Probabilities to a mask.
    pub sampler: Sampler,
    /// By the definition alone: no pass by the kernels of [`fast`](sus_fast).
    pub plain: bool,
}

/// The answer, with what it costs.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{Choice, IncreaseTarget, RelativeTo, Tensors, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let question = |rule| IncreaseTarget {
///     target: 0.05, of: Tensors::Max, relative_to: RelativeTo::Norm,
///     rule, sampler: Sampler::Bernoulli, plain: true,
/// };
/// let Choice { c, totals, .. } = choose(vec![problem.clone()], &question(Rule::Paper))?;
/// assert!(totals.mean_expected() < c.get()); // the paper's rule leaves some of its budget
/// let calibrated = choose(vec![problem], &question(Rule::Calibrated))?;
/// assert!(calibrated.c < c); // the calibrated one leaves none, and needs less
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The smallest budget.
    pub c: Budget,
    /// The relative increase of each gradient at it; `None` where there is nothing to compare with.
    pub relative_increase: PerGradient<Option<f64>>,
    /// The sums over all rows and sequences.
    pub totals: Totals,
    /// The paths that the forward and dense backward passes took: of the first problem, or of the first that the kernels
    /// do not serve.
    pub paths: Option<Backends>,
}

/// Every sequence with its forward pass, and how the sequences differ.
struct Set {
    problems: Vec<(Problem<f64>, Saved<f64>)>,
    spread: PerGradient<Spread>,
    paths: Option<Backends>,
    plain: bool,
}

impl Set {
    fn new(problems: Vec<Problem<f64>>, plain: bool) -> Result<Self, Error> {
        let mut spread = PerGradient::<Spread>::default();
        let names = PerGradient { dq: "dq", dk: "dk", dv: "dv" };
        let mut with_forward = Vec::with_capacity(problems.len());
        let mut paths = None;
        let first = problems.first().map(Problem::sizes);
        for problem in problems {
            super::same_shape(&problem, first)?;
            let Passed { saved, gradients, paths: mine } = passes::in_f64(&problem, plain);
            passes::note(&mut paths, mine);
            let Gradients { dq, dk, dv, .. } = &gradients;
            for b in 0..problem.sizes().batch {
                let sequence = PerGradient { dq, dk, dv }.map(|g| spread::sequence(g, b));
                spread.add(&sequence, problem.sizes().key_heads, &names)?;
            }
            with_forward.push((problem, saved));
        }
        Ok(Set { problems: with_forward, spread, paths, plain })
    }

    /// The choice that each of these budgets would be.
    fn evaluate(&self, question: &IncreaseTarget, budgets: &[f64]) -> Result<Vec<Choice>, Error> {
        let IncreaseTarget { rule, sampler, .. } = *question;
        let settings = budgets
            .iter()
            .map(|&c| Ok(Setting { c: Budget::new(c)?, rule, sampler }))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut totals = vec![Totals::default(); budgets.len()];
        for (problem, saved) in &self.problems {
            let source = passes::entries(problem, saved, self.plain);
            let found = scan_entries(problem, source.as_ref(), &settings, None, false)?;
            for (total, heads) in totals.iter_mut().zip(found) {
                for head in &heads {
                    total.add(head);
                }
            }
        }
        let relative = |spread: &Spread, variance: f64| match question.relative_to {
            RelativeTo::Sequences => spread.relative_increase(variance, None),
            RelativeTo::Norm => {
                let norm = spread.squared_norm(None);
                (norm > 0.0).then(|| variance / norm)
            }
        };
        let choice = |(setting, totals): (&Setting, Totals)| Choice {
            c: setting.c,
            relative_increase: PerGradient {
                dq: relative(&self.spread.dq, totals.variance.dq),
                dk: relative(&self.spread.dk, totals.variance.dk),
                dv: relative(&self.spread.dv, totals.variance.dv),
            },
            totals,
            paths: self.paths,
        };
        Ok(settings.iter().zip(totals).map(choice).collect())
    }
}

impl Choice {
    /// The relative increase that a question is about: the largest of its gradients.
    ///
    /// # Examples
    /// ```
    /// use sus_analysis::{Choice, PerGradient, Tensors, Totals};
    /// let relative_increase = PerGradient { dq: Some(0.01), dk: Some(0.05), dv: Some(0.02) };
    /// let c = sus_reference::sus::Budget::new(4.0)?;
    /// let choice = Choice { c, relative_increase, totals: Totals::default(), paths: None };
    /// assert_eq!((choice.of(Tensors::Dv), choice.of(Tensors::Max)), (Some(0.02), Some(0.05)));
    /// let unknown = PerGradient { dv: None, ..relative_increase };
    /// assert_eq!(Choice { relative_increase: unknown, ..choice }.of(Tensors::Max), None);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn of(&self, of: Tensors) -> Option<f64> {
        let PerGradient { dq, dk, dv } = self.relative_increase;
        match of {
            Tensors::Dq => dq,
            Tensors::Dk => dk,
            Tensors::Dv => dv,
            Tensors::Max => Some(dq?.max(dk?).max(dv?)),
        }
    }
}

/// The smallest budget that answers the question, to a relative [`PRECISION`].
///
/// # Errors
/// [`Error::Option`] if the target is not above 0, with fewer than two sequences (unless relative to the norm), or if
/// there is no variance to compare with; those of [`scan`](super::scan::scan).
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_analysis::choose::{IncreaseTarget, RelativeTo, Tensors, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let question = IncreaseTarget {
///     target: 0.05,
///     of: Tensors::Max,
///     relative_to: RelativeTo::Norm,
///     rule: Rule::Paper,
///     sampler: Sampler::Bernoulli,
///     plain: false,
/// };
/// let choice = choose(vec![problem], &question)?;
/// assert!(choice.of(Tensors::Max).unwrap() <= 0.05);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn choose(problems: Vec<Problem<f64>>, question: &IncreaseTarget) -> Result<Choice, Error> {
    if !(question.target > 0.0 && question.target.is_finite()) {
        return Err(Error::option("target", "a finite number above 0", question.target));
    }
    let sequences: usize = problems.iter().map(|problem| problem.sizes().batch).sum();
    if question.relative_to == RelativeTo::Sequences && sequences < 2 {
        let expected = "at least 2 sequences (or --relative-to norm)";
        return Err(Error::option("problem", expected, sequences));
    }
    let set = Set::new(problems, question.plain)?;
    let meets = |choice: &Choice| choice.of(question.of).is_some_and(|x| x <= question.target);
    let mut bracket = coarse(&set, question, &meets)?;
    while let (Some(low), high) = &bracket {
        let (low, c) = (low.c.get(), high.c.get());
        if c / low - 1.0 <= PRECISION {
            break;
        }
        let points = between(low, c, BUDGETS_PER_PASS);
        let choices = set.evaluate(question, &points)?;
        bracket = last_crossing(choices, *high, bracket.0, &meets);
    }
    Ok(bracket.1)
}

/// A budget that fails and the next of the powers of 2 from which on all meet the target.
fn coarse(
    set: &Set,
    question: &IncreaseTarget,
    meets: &impl Fn(&Choice) -> bool,
) -> Result<(Option<Choice>, Choice), Error> {
    let infinite = set.evaluate(question, &[f64::INFINITY])?[0];
    if infinite.of(question.of).is_none() {
        let (expected, found) = match question.relative_to {
            RelativeTo::Sequences => ("sequences whose gradients differ", "equal ones"),
            RelativeTo::Norm => ("gradients that are not all zero", "zeros"),
        };
        return Err(Error::option("problem", expected, found));
    }
    let mut least: i32 = -24;
    let mut low = None;
    loop {
        let exponents: Vec<i32> = (0..48).map(|n| least + n).filter(|&e| e < 1024).collect();
        let budgets: Vec<f64> = exponents.iter().map(|&e| libm::ldexp(1.0, e)).collect();
        let choices = set.evaluate(question, &budgets)?;
        let Some(&last) = choices.last() else {
            return Ok((None, infinite));
        };
        if meets(&last) {
            return Ok(last_crossing(choices, last, low, meets));
        }
        low = Some(last);
        least += 48;
        if least >= 1024 {
            return Ok((None, infinite));
        }
    }
}

/// The last choice that fails, and the one after it.
fn last_crossing(
    choices: Vec<Choice>,
    high: Choice,
    low: Option<Choice>,
    meets: &impl Fn(&Choice) -> bool,
) -> (Option<Choice>, Choice) {
    let mut high = high;
    for choice in choices.into_iter().rev() {
        if !meets(&choice) {
            return (Some(choice), high);
        }
        high = choice;
    }
    (low, high)
}

/// `count` budgets strictly between two, in equal ratios.
fn between(low: f64, high: f64, count: usize) -> Vec<f64> {
    let ratio = libm::log(high / low) / (count + 1) as f64;
    (1..=count)
        .map(|n| low * libm::exp(ratio * n as f64))
        .filter(|&c| low < c && c < high)
        .collect()
}
