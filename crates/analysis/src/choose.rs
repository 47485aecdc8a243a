//! The smallest budget whose relative variance increase meets a target.
//!
//! With independent entries the mask variance is `sum A W (max(W, 1/lambda) - W)`: continuous in `c` and never rising,
//! because no `lambda_i` falls as `c` grows. One crossing, so nested intervals find it. The systematic sampler has the
//! same `dk` and `dv`, but its `dq` need not fall: there every budget of the search's grid above the answer meets the
//! target as well, and between two points of the grid nothing is claimed.

mod report;
mod target;

pub use target::{IncreaseTarget, RelativeTo, TargetGradients};

use crate::entries::entries;
use crate::limits::{BUDGETS_PER_PASS, EXPONENTS_PER_PASS, LEAST_EXPONENT};
use crate::passes::{self, DensePass};
use crate::scan::scan_entries;
use crate::spread::{self, Spread};
use crate::totals::{PerGradient, Setting, Totals};
use sus_fast::Backends;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::Budget;

/// The relative precision of the budget: the answer meets the target, and the answer divided by `1 + PRECISION` does not.
pub const PRECISION: f64 = 1e-10;

/// The answer, with what it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The smallest budget.
    pub c: Budget,
    /// The relative increase of each gradient at it; `None` where there is nothing to compare with.
    pub relative_increase: PerGradient<Option<f64>>,
    /// The sums over all rows and sequences.
    pub totals: Totals,
    /// The backends of the forward and dense backward passes: of the first problem, or of the first that the fast kernels
    /// do not serve.
    pub paths: Option<Backends>,
}

/// Every sequence with its forward pass, and how the sequences differ.
struct Set {
    problems: Vec<(Problem<f64>, Saved<f64>)>,
    spread: PerGradient<Spread>,
    paths: Option<Backends>,
    by_reference: bool,
}

impl Set {
    fn new(problems: Vec<Problem<f64>>, by_reference: bool) -> Result<Self, Error> {
        let mut spread = PerGradient::<Spread>::default();
        let names = PerGradient { dq: "dq", dk: "dk", dv: "dv" };
        let mut with_forward = Vec::with_capacity(problems.len());
        let mut paths = None;
        let first = problems.first().map(Problem::sizes);
        for problem in problems {
            super::same_shape(&problem, first)?;
            let DensePass { saved, gradients, paths: mine } =
                passes::in_f64(&problem, by_reference);
            passes::note(&mut paths, mine);
            let Gradients { dq, dk, dv, .. } = &gradients;
            for b in 0..problem.sizes().batch {
                let sequence = PerGradient { dq, dk, dv }.map(|g| spread::sequence(g, b));
                spread.add(&sequence, problem.sizes().key_heads, &names)?;
            }
            with_forward.push((problem, saved));
        }
        Ok(Set { problems: with_forward, spread, paths, by_reference })
    }

    /// The choice that each of these budgets would be.
    fn evaluate(&self, target: &IncreaseTarget, budgets: &[f64]) -> Result<Vec<Choice>, Error> {
        let IncreaseTarget { rule, sampler, .. } = *target;
        let settings = budgets
            .iter()
            .map(|&c| Ok(Setting { c: Budget::new(c)?, rule, sampler }))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut totals = vec![Totals::default(); budgets.len()];
        for (problem, saved) in &self.problems {
            let source = entries(problem, saved, self.by_reference);
            let found = scan_entries(problem, source.as_ref(), &settings, None, false)?;
            for (total, heads) in totals.iter_mut().zip(found) {
                for head in &heads {
                    total.add(head);
                }
            }
        }
        let relative = |spread: &Spread, variance: f64| match target.relative_to {
            RelativeTo::Sequences => spread.relative_increase(variance, None),
            RelativeTo::Norm => {
                let norm = spread.squared_norm(None);
                (norm > 0.0).then(|| variance / norm)
            }
            RelativeTo::Nothing => Some(variance / spread.sequences() as f64),
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
    /// The relative increase of one gradient, or the largest or the sum of the three.
    #[must_use]
    pub fn of(&self, of: TargetGradients) -> Option<f64> {
        let PerGradient { dq, dk, dv } = self.relative_increase;
        match of {
            TargetGradients::Dq => dq,
            TargetGradients::Dk => dk,
            TargetGradients::Dv => dv,
            TargetGradients::Max => Some(dq?.max(dk?).max(dv?)),
            TargetGradients::Sum => Some(dq? + dk? + dv?),
        }
    }
}

/// The smallest budget that answers the target, to a relative [`PRECISION`].
///
/// # Errors
/// [`Error::Option`] if the target is not above 0, with fewer than two sequences (unless relative to the norm), or if
/// there is no variance to compare with; those of [`scan`](super::scan::scan).
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_analysis::choose::{IncreaseTarget, RelativeTo, TargetGradients, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let target = IncreaseTarget {
///     at_most: 0.05,
///     of: TargetGradients::Max,
///     relative_to: RelativeTo::Norm,
///     rule: Rule::Paper,
///     sampler: Sampler::Bernoulli,
///     by_reference: false,
/// };
/// let choice = choose(vec![problem], &target)?;
/// assert!(choice.of(TargetGradients::Max).unwrap() <= 0.05);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn choose(problems: Vec<Problem<f64>>, target: &IncreaseTarget) -> Result<Choice, Error> {
    if !(target.at_most > 0.0 && target.at_most.is_finite()) {
        return Err(Error::option("target", "a finite number above 0", target.at_most));
    }
    let sequences: usize = problems.iter().map(|problem| problem.sizes().batch).sum();
    if target.relative_to == RelativeTo::Sequences && sequences < 2 {
        let expected = "at least 2 sequences (or --relative-to norm)";
        return Err(Error::option("problem", expected, sequences));
    }
    let set = Set::new(problems, target.by_reference)?;
    let meets = |choice: &Choice| choice.of(target.of).is_some_and(|x| x <= target.at_most);
    let mut bracket = coarse(&set, target, &meets)?;
    while let (Some(low), high) = &bracket {
        let (low, c) = (low.c.get(), high.c.get());
        if c / low - 1.0 <= PRECISION {
            break;
        }
        let points = between(low, c, BUDGETS_PER_PASS);
        let choices = set.evaluate(target, &points)?;
        bracket = last_crossing(choices, *high, bracket.0, &meets);
    }
    Ok(bracket.1)
}

/// A budget that fails and the next of the powers of 2 from which on all meet the target.
fn coarse(
    set: &Set,
    target: &IncreaseTarget,
    meets: &impl Fn(&Choice) -> bool,
) -> Result<(Option<Choice>, Choice), Error> {
    let infinite = set.evaluate(target, &[f64::INFINITY])?[0];
    if infinite.of(target.of).is_none() {
        let (expected, found) = match target.relative_to {
            RelativeTo::Sequences => ("sequences whose gradients differ", "equal ones"),
            RelativeTo::Norm | RelativeTo::Nothing => ("gradients that are not all zero", "zeros"),
        };
        return Err(Error::option("problem", expected, found));
    }
    let mut least = LEAST_EXPONENT;
    let mut low = None;
    loop {
        let exponents: Vec<i32> =
            (0..EXPONENTS_PER_PASS).map(|n| least + n).filter(|&e| e < 1024).collect();
        let budgets: Vec<f64> = exponents.iter().map(|&e| libm::ldexp(1.0, e)).collect();
        let choices = set.evaluate(target, &budgets)?;
        let Some(&last) = choices.last() else {
            return Ok((None, infinite));
        };
        if meets(&last) {
            return Ok(last_crossing(choices, last, low, meets));
        }
        low = Some(last);
        least += EXPONENTS_PER_PASS;
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
