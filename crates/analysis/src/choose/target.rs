//! The target of a search: how much increase, of which gradients, relative to what.

use std::fmt;
use std::str::FromStr;
use sus_reference::error::Error;
use sus_reference::sus::{Rule, Sampler};

/// A target and what has to meet it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IncreaseTarget {
    /// The largest relative increase allowed, above 0.
    pub at_most: f64,
    /// Of which gradients.
    pub of: TargetGradients,
    /// Relative to what.
    pub relative_to: RelativeTo,
    /// Weights to probabilities.
    pub rule: Rule,
    /// Probabilities to a mask.
    pub sampler: Sampler,
    /// By the reference alone, without the kernels of [`sus_fast`].
    pub by_reference: bool,
}

/// Which gradients have to meet the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetGradients {
    /// `dq`.
    Dq,
    /// `dk`.
    Dk,
    /// `dv`.
    Dv,
    /// Each of the three.
    #[default]
    Max,
    /// The sum of the three.
    Sum,
}

impl fmt::Display for TargetGradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TargetGradients::Dq => "dq",
            TargetGradients::Dk => "dk",
            TargetGradients::Dv => "dv",
            TargetGradients::Max => "max",
            TargetGradients::Sum => "sum",
        })
    }
}

impl FromStr for TargetGradients {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "dq" => Ok(TargetGradients::Dq),
            "dk" => Ok(TargetGradients::Dk),
            "dv" => Ok(TargetGradients::Dv),
            "max" => Ok(TargetGradients::Max),
            "sum" => Ok(TargetGradients::Sum),
            _ => {
                let expected = "'dq', 'dk', 'dv', 'max' or 'sum'";
                Err(Error::option("of", expected, format!("'{name}'")))
            }
        }
    }
}

/// The divisor of the mask variance.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{IncreaseTarget, RelativeTo, TargetGradients, choose};
/// use sus_reference::sus::{Rule, Sampler};
/// let problem = sus_corpus::named("sink").unwrap().problem;
/// let one = sus_corpus::named("deep").unwrap().problem; // of one sequence
/// let target = |relative_to| IncreaseTarget {
///     at_most: 0.05, of: TargetGradients::Max, relative_to,
///     rule: Rule::Paper, sampler: Sampler::Bernoulli, by_reference: true,
/// };
/// assert!(choose(vec![problem], &target(RelativeTo::Sequences)).is_ok());
/// // One sequence has no variance to compare with, but it has a norm.
/// assert!(choose(vec![one.clone()], &target(RelativeTo::Sequences)).is_err());
/// assert!(choose(vec![one], &target(RelativeTo::Norm)).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelativeTo {
    /// The between-sequence variance.
    #[default]
    Sequences,
    /// The squared norm of the gradient.
    Norm,
    /// Nothing: the mean mask variance of a sequence itself.
    Nothing,
}

impl fmt::Display for RelativeTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RelativeTo::Sequences => "sequences",
            RelativeTo::Norm => "norm",
            RelativeTo::Nothing => "nothing",
        })
    }
}

impl FromStr for RelativeTo {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "sequences" => Ok(RelativeTo::Sequences),
            "norm" => Ok(RelativeTo::Norm),
            "nothing" => Ok(RelativeTo::Nothing),
            _ => {
                let expected = "'sequences', 'norm' or 'nothing'";
                Err(Error::option("relative-to", expected, format!("'{name}'")))
            }
        }
    }
}
