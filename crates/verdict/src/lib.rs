//! Whether somebody else's kernel computes the same thing.
//!
//! A [`Case`] is a problem, a [`Judge`] is all that can be computed of it before a candidate is seen, and
//! [`Judge::check`] gives a [`Verdict`], a value and never an error: what is wrong with a candidate is what a verdict
//! is for. `docs/verdict.md` states the rules and proves how seldom a right kernel fails.

mod candidate;
mod case;
mod elements;
mod judge;
mod known_bugs;
mod mask;
mod mask_constraints;
pub mod merge;
pub mod report;
pub mod statistical;
mod statistics;

pub use candidate::{is_projected, recipe_of};
pub use case::Case;
pub use elements::{TensorResult, Worst};
pub use judge::{Judge, JudgeBuilder, LARGE, Reference};
pub use known_bugs::KnownBugs;
pub use mask_constraints::{MaskConstraints, mask_constraints};
pub use statistics::{DirectionResult, SetResult, StatisticResult};

pub use sus_bounds::{Mode, Progress, Silent};

/// What a verdict says, in the order in which the worst counts.
///
/// # Examples
/// ```
/// use sus_verdict::Outcome;
/// // Of several the worst counts.
/// let all = [Outcome::Pass, Outcome::Inconclusive, Outcome::Refused, Outcome::Fail];
/// assert!(all.is_sorted());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Outcome {
    /// Every test passed.
    #[default]
    Pass,
    /// Not enough was given to tell.
    Inconclusive,
    /// The bounds are so wide that a made-up answer could pass.
    Refused,
    /// Something is wrong.
    Fail,
}

impl Outcome {
    /// The exit code of the command.
    ///
    /// # Examples
    /// ```
    /// use sus_verdict::Outcome;
    /// assert_eq!((Outcome::Pass.exit_code(), Outcome::Fail.exit_code()), (0, 1));
    /// assert!(Outcome::Pass < Outcome::Refused && Outcome::Refused < Outcome::Fail);
    /// ```
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Pass => 0,
            Outcome::Fail => 1,
            Outcome::Refused => 3,
            Outcome::Inconclusive => 4,
        }
    }

    /// The word in reports.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(sus_verdict::Outcome::Refused.name(), "REFUSED");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
            Outcome::Refused => "REFUSED",
            Outcome::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// The tests that a candidate can fail.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_files::Settings;
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge};
/// let recipe = Recipe::built_in("f32").unwrap();
/// let judge = sus_mutants::judge(&Case::new(problem, Settings::default()), &recipe).build()?;
/// use sus_files::TensorFile;
/// use sus_verdict::Criterion;
/// let nothing = TensorFile { arrays: Default::default(), metadata: None };
/// assert!(judge.check(&nothing).findings.iter().any(|finding| finding.rule == Criterion::Missing));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criterion {
    /// A tensor that must be there is not.
    Missing,
    /// A tensor that has no place in a candidate of this case.
    Extra,
    /// Another shape.
    Shape,
    /// No floating-point type.
    Dtype,
    /// A NaN or an infinity where a number belongs.
    NotANumber,
    /// Memory that was never written.
    Unwritten,
    /// All elements are zero.
    Zero,
    /// All elements are equal.
    Constant,
    /// An element is further from the truth than any right kernel.
    Bound,
    /// An element is within its bound, and no rounding of what any right kernel may have.
    Rounded,
    /// The errors have a common sign.
    Mean,
    /// The errors grow with the truth: a wrong factor.
    Slope,
    /// The errors are too large as a whole.
    Rms,
    /// The errors of all gradients together lie along what a known bug would add.
    Direction,
    /// The bounds are too wide to tell.
    Vacuous,
    /// The mask keeps what it must drop, or the other way round.
    Mask,
    /// The mask's values.
    Values,
    /// The kept counts.
    Counts,
    /// Many runs do not follow the law of the estimator.
    Law,
    /// The candidate lacks what this way of judging needs.
    Unjudged,
}

impl Criterion {
    /// The name in reports.
    ///
    /// # Examples
    /// ```
    /// use sus_verdict::Criterion;
    /// assert_eq!((Criterion::NotANumber.name(), Criterion::Counts.name()), ("not-a-number", "nnz"));
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Criterion::Missing => "missing",
            Criterion::Extra => "extra",
            Criterion::Shape => "shape",
            Criterion::Dtype => "dtype",
            Criterion::NotANumber => "not-a-number",
            Criterion::Unwritten => "unwritten",
            Criterion::Zero => "zero",
            Criterion::Constant => "constant",
            Criterion::Bound => "bound",
            Criterion::Rounded => "rounded",
            Criterion::Mean => "mean",
            Criterion::Slope => "slope",
            Criterion::Rms => "rms",
            Criterion::Direction => "direction",
            Criterion::Vacuous => "vacuous",
            Criterion::Mask => "mask",
            Criterion::Values => "values",
            Criterion::Counts => "nnz",
            Criterion::Law => "law",
            Criterion::Unjudged => "unjudged",
        }
    }
}

/// One thing that was found.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge, Outcome, Criterion};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let findings = judge.check(&wrong).findings;
/// let of_dq = findings.iter().find(|found| found.tensor == "dq" && found.rule == Criterion::Bound);
/// assert_eq!(of_dq.unwrap().outcome, Outcome::Fail);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The tensor.
    pub tensor: String,
    /// The rule.
    pub rule: Criterion,
    /// What it makes of the verdict.
    pub outcome: Outcome,
    /// What was expected and what was found.
    pub message: String,
}

/// The judgement of one candidate.
///
/// # Examples
/// ```
/// use sus_verdict::{Outcome, Verdict};
/// let nothing_found = Verdict::default();
/// assert_eq!(nothing_found.outcome, Outcome::Pass);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// The worst of all outcomes.
    pub outcome: Outcome,
    /// The tensors that were compared, in the order `o, lse, dq, dk, dv, dbias, dsink`.
    pub tensors: Vec<TensorResult>,
    /// The errors of the gradients together, along what known bugs of rounding would add; empty if one is above its bound.
    pub directions: Vec<DirectionResult>,
    /// Everything that was found wrong or could not be told.
    pub findings: Vec<Finding>,
    /// Entries of the mask that either decision would have been right for.
    pub ambiguous: usize,
    /// What is worth knowing and changes nothing.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Adds a finding, and what it makes of the whole.
    pub(crate) fn find(&mut self, finding: Finding) {
        self.outcome = self.outcome.max(finding.outcome);
        self.findings.push(finding);
    }

    /// A finding that fails the candidate.
    pub(crate) fn fail(&mut self, tensor: &str, rule: Criterion, message: impl Into<String>) {
        let (tensor, message) = (tensor.to_owned(), message.into());
        self.find(Finding { tensor, rule, outcome: Outcome::Fail, message });
    }
}
