//! Which implementation runs a pass: the kernels, or the reference and why.

use super::score_error::largest_magnitude;
use super::simd::Real;
use std::fmt;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Rule, Sample, Sampler};

/// The path that a computation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernels of this module.
    Fast,
    /// The definition, because the kernels do not cover the case.
    Reference(Fallback),
}

/// Why the reference path ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It was requested.
    Asked,
    /// The arithmetic is not that of the hardware.
    Arithmetic,
    /// A bias needs its gradient.
    BiasGradient,
    /// The `calibrated` rule needs whole rows of weights.
    CalibratedRule,
    /// The `systematic` sampler needs whole rows of weights.
    SystematicSampler,
    /// A budget above `2^32` keeps nearly everything.
    LargeBudget,
    /// The scores are so large that rounding decides whether an entry is kept.
    LargeScores,
    /// The mask is drawn from a forward pass that somebody else stored.
    GivenForward,
    /// More than `2^32` rows or kept entries.
    Size,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Fast => f.pad("fast"),
            Backend::Reference(reason) => write!(f, "plain ({reason})"),
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fallback::Asked => "asked for",
            Fallback::Arithmetic => "not the hardware's arithmetic",
            Fallback::BiasGradient => "a bias needs its gradient",
            Fallback::CalibratedRule => "the calibrated rule needs whole rows",
            Fallback::SystematicSampler => "the systematic sampler needs whole rows",
            Fallback::LargeBudget => "a budget above 2^32",
            Fallback::LargeScores => "scores so large that rounding decides",
            Fallback::GivenForward => "a mask from a given forward pass",
            Fallback::Size => "more than 2^32 rows or entries",
        })
    }
}

/// The paths of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backends {
    /// The forward pass; none if it was given.
    pub forward: Option<Backend>,
    /// The draw of the mask, for SUS.
    pub mask: Option<Backend>,
    /// The backward pass.
    pub backward: Backend,
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(forward) = self.forward {
            write!(f, "forward {forward}, ")?;
        }
        if let Some(mask) = self.mask {
            write!(f, "mask {mask}, ")?;
        }
        write!(f, "backward {}", self.backward)
    }
}

/// The path of the dense backward pass.
#[must_use]
pub fn backward_backend<T: Real>(problem: &Problem<T>) -> Backend {
    if problem.inputs().bias.is_some() {
        Backend::Reference(Fallback::BiasGradient)
    } else {
        Backend::Fast
    }
}

/// The path of the SUS backward pass.
#[must_use]
pub fn sus_backward_backend<T: Real>(problem: &Problem<T>, sample: &Sample) -> Backend {
    if problem.inputs().bias.is_some() {
        Backend::Reference(Fallback::BiasGradient)
    } else if problem.row_count().max(sample.pattern.count()) > u32::MAX as usize {
        Backend::Reference(Fallback::Size)
    } else {
        Backend::Fast
    }
}

/// The path of a draw in the arithmetic of `T`, from the problem's own forward pass.
///
/// # Examples
/// ```
/// use sus_fast::{Backend, Fallback, sample_backend};
/// use sus_reference::sus::{Budget, Draw};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// assert_eq!(sample_backend::<f32>(&problem, &draw), Backend::Fast);
/// // Scores a million times as large: f32 knows no weight well enough, and f64 does.
/// let large = problem.map(|x| 1e3 * x)?;
/// assert_eq!(sample_backend::<f32>(&large, &draw), Backend::Reference(Fallback::LargeScores));
/// assert_eq!(sample_backend::<f64>(&large, &draw), Backend::Fast);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn sample_backend<T: Real>(problem: &Problem<f64>, draw: &Draw) -> Backend {
    let reason = if draw.rule == Rule::Calibrated {
        Fallback::CalibratedRule
    } else if draw.sampler == Sampler::Systematic {
        Fallback::SystematicSampler
    } else if draw.c.get() > 4_294_967_296.0 {
        Fallback::LargeBudget
    } else if problem.sizes().keys > u32::MAX as usize {
        Fallback::Size
    } else if largest_magnitude(problem).log_error(T::ROUNDOFF) < 1.0 {
        return Backend::Fast;
    } else {
        Fallback::LargeScores
    };
    Backend::Reference(reason)
}
