//! Which path serves: the fast one, or the plain one and why.

use super::sampling::largest_norm;
use super::score_error::Magnitude;
use super::simd::Real;
use std::fmt;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Rule, Sample, Sampler};

/// The path that a computation took.
///
/// # Examples
/// ```
/// use sus_fast::{Backend, Fallback};
/// assert_eq!(Backend::Fast.to_string(), "fast");
/// assert_eq!(Backend::Reference(Fallback::GivenForward).to_string(), "plain (a mask from a given forward pass)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernels of this module.
    Fast,
    /// The definition, because the kernels do not cover the case.
    Reference(Fallback),
}

/// Why the plain path ran.
///
/// # Examples
/// ```
/// use sus_fast::{Backend, Fallback, sample_backend};
/// use sus_reference::sus::{Budget, Draw, Rule, Sampler};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let paper = Draw::paper(Budget::new(4.0)?, 7);
/// let path = |draw| sample_backend::<f32>(&problem, &draw);
/// assert_eq!(path(paper.with_rule(Rule::Calibrated)), Backend::Reference(Fallback::CalibratedRule));
/// assert_eq!(path(paper.with_sampler(Sampler::Systematic)), Backend::Reference(Fallback::SystematicSampler));
/// assert_eq!(path(Draw::paper(Budget::new(f64::INFINITY)?, 7)), Backend::Reference(Fallback::LargeBudget));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It was asked for.
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
///
/// # Examples
/// ```
/// use sus_fast::{Backend, Backends, Fallback};
/// let path = Backend::Reference(Fallback::GivenForward);
/// let paths = Backends { forward: None, mask: Some(path), backward: Backend::Fast };
/// assert_eq!(paths.to_string(), "mask plain (a mask from a given forward pass), backward fast");
/// ```
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
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_fast::{Backend, backward_backend};
/// assert_eq!(backward_backend(&problem), Backend::Fast);
/// ```
#[must_use]
pub fn backward_backend<T: Real>(problem: &Problem<T>) -> Backend {
    if problem.inputs().bias.is_some() {
        Backend::Reference(Fallback::BiasGradient)
    } else {
        Backend::Fast
    }
}

/// The path of the SUS backward pass.
///
/// # Examples
/// ```
/// use sus_fast::{Backend, Fallback, sus_backward_backend};
/// use sus_reference::sus::{Budget, Draw, sample};
/// let path = |name| {
///     let problem = sus_corpus::named(name).unwrap().problem;
///     let saved = sus_reference::forward::forward(&problem);
///     let mask = sample(&problem, &saved, &Draw::paper(Budget::new(4.0)?, 7))?;
///     Ok::<_, sus_reference::Error>(sus_backward_backend(&problem, &mask))
/// };
/// assert_eq!(path("primes")?, Backend::Fast);
/// assert_eq!(path("bias_broadcast")?, Backend::Reference(Fallback::BiasGradient));
/// # Ok::<(), sus_reference::Error>(())
/// ```
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

/// What bounds the scores of all rows.
pub(super) fn largest_magnitude(problem: &Problem<f64>) -> Magnitude {
    let (inputs, sizes) = (problem.inputs(), problem.sizes());
    let largest = |x: &[f64]| x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let product = problem.scale().abs()
        * largest_norm(inputs.q.as_slice(), sizes.features)
        * largest_norm(inputs.k.as_slice(), sizes.features);
    Magnitude {
        product,
        chain: (sizes.features + 1) as f64 * product,
        bias: inputs.bias.as_ref().map_or(0.0, |bias| largest(bias.as_slice())),
        sink: inputs.sink.as_ref().map_or(0.0, |sink| largest(sink)),
        softcap: problem.options().softcap,
        features: sizes.features,
        keys: sizes.keys,
    }
}
