//! The truth that bounds are centred on.

use sus_fast::{
    self as fast, ReferenceErrorBounds, Workspace, has_reference_error_bounds,
    reference_error_bounds, reference_error_bounds_of_keys,
};
use sus_reference::backward::{Gradients, backward};
use sus_reference::error::Error;
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::Problem;
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::{Draw, Sample, sus_backward};
use sus_reference::tensor::Tensor;

/// A forward pass, or a stored one, and the gradients that follow from it: in double-double arithmetic, or in `f64` by
/// the kernels of [`fast`](sus_fast), whose [own error](Truth::reference_error_bounds) is then part of every bound.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::Truth;
/// let [exact, blocked] = [Truth::exact(&problem)?, Truth::blocked(&problem).unwrap()];
/// let [exact, blocked] = [exact, blocked].map(|truth| truth.gradients(None).dv.as_slice()[0]);
/// assert!((exact - blocked).abs() < 1e-13);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Truth(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// By the definition.
    Exact { problem: Problem<Dd>, saved: Saved<Dd> },
    /// By the kernels; whether the forward pass was given.
    Blocked { problem: Problem<f64>, saved: Saved<f64>, given: bool },
}

impl Truth {
    /// The relative error of a number of the truth against the sum of the absolute values of its terms, before it is
    /// rounded to `f64`.
    ///
    /// Each operation errs by at most `43 2^-106` (its own documentation), a term passes through at most
    /// `n + 64` of them, and an exponent of magnitude `x` amplifies them `x` times: for `n` and `x` below `2^20`
    /// that is below `2^-59`. Rounding to `f64` then adds `2^-53` of the number itself, which is what a
    /// bound counts.
    pub const RELATIVE_ERROR: f64 = 1.0 / 9_007_199_254_740_992.0 * (1.0 + 1.0 / 32.0);

    /// The forward pass of the problem.
    ///
    /// # Errors
    /// [`Error::NotFinite`] never, in practice: the numbers were finite already.
    pub fn exact(problem: &Problem<f64>) -> Result<Self, Error> {
        let problem: Problem<Dd> = problem.cast()?;
        let saved = forward(&problem);
        Ok(Truth(Kind::Exact { problem, saved }))
    }

    /// A forward pass that somebody stored, taken as it is.
    ///
    /// # Errors
    /// As [`Truth::exact`].
    pub fn given(problem: &Problem<f64>, saved: &Saved<f64>) -> Result<Self, Error> {
        Ok(Truth(Kind::Exact { problem: problem.cast()?, saved: saved.cast() }))
    }

    /// In `f64` by the kernels; `None` where their error has no derived bound ([`has_reference_error_bounds`]).
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Truth;
    /// let (blocked, exact) = (Truth::blocked(&problem).unwrap(), Truth::exact(&problem)?);
    /// let own = blocked.reference_error_bounds(None).unwrap();
    /// let (found, exact) = (blocked.gradients(None).dk, exact.gradients(None).dk);
    /// assert!((found.as_slice()[0] - exact.as_slice()[0]).abs() <= own.gradients.dk.as_slice()[0]);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn blocked(problem: &Problem<f64>) -> Option<Self> {
        has_reference_error_bounds(problem).then(|| {
            let saved = fast::forward(problem, &mut Workspace::default());
            Truth(Kind::Blocked { problem: problem.clone(), saved, given: false })
        })
    }

    /// As [`Truth::blocked`], with the mask of a draw from the same pass.
    ///
    /// # Errors
    /// Those of [`sample`](fn@sus_reference::sus::sample).
    pub fn blocked_and_sampled(
        problem: &Problem<f64>,
        draw: &Draw,
    ) -> Result<Option<(Self, Sample)>, Error> {
        if !has_reference_error_bounds(problem) {
            return Ok(None);
        }
        let mut workspace = Workspace::default();
        let (saved, sample, _) = fast::forward_and_sample(problem, problem, draw, &mut workspace)?;
        let truth = Truth(Kind::Blocked { problem: problem.clone(), saved, given: false });
        Ok(Some((truth, sample)))
    }

    /// As [`Truth::given`], with the gradients in `f64` by the kernels; `None` as [`Truth::blocked`].
    #[must_use]
    pub fn blocked_given(problem: &Problem<f64>, saved: &Saved<f64>) -> Option<Self> {
        has_reference_error_bounds(problem).then(|| {
            let (problem, saved) = (problem.clone(), saved.clone());
            Truth(Kind::Blocked { problem, saved, given: true })
        })
    }

    /// How far the numbers of this truth may be from the exact ones, beyond [`Truth::RELATIVE_ERROR`]; `None` in double-double.
    #[must_use]
    pub fn reference_error_bounds(&self, sample: Option<&Sample>) -> Option<ReferenceErrorBounds> {
        match &self.0 {
            Kind::Exact { .. } => None,
            Kind::Blocked { problem, saved, given } => {
                reference_error_bounds(problem, saved, sample, *given)
            }
        }
    }

    /// `o` and `lse`, rounded to `f64`.
    #[must_use]
    pub fn saved(&self) -> Saved<f64> {
        match &self.0 {
            Kind::Exact { saved, .. } => saved.cast(),
            Kind::Blocked { saved, .. } => saved.clone(),
        }
    }

    /// The gradients, dense or of a mask, rounded to `f64`.
    #[must_use]
    pub fn gradients(&self, sample: Option<&Sample>) -> Gradients<f64> {
        match &self.0 {
            Kind::Exact { problem, saved } => rounded(&match sample {
                None => backward(problem, saved),
                Some(sample) => sus_backward(problem, saved, sample),
            }),
            Kind::Blocked { problem, saved, .. } => {
                let mut workspace = Workspace::default();
                match sample {
                    None => fast::backward(problem, saved, &mut workspace).0,
                    Some(sample) => fast::sus_backward(problem, saved, sample, &mut workspace).0,
                }
            }
        }
    }
}

impl Truth {
    /// The gradients of some keys: `keys` is that part of the problem, and the forward pass is that of all keys.
    ///
    /// # Errors
    /// As [`Truth::exact`].
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::Truth;
    /// let truth = Truth::exact(&problem)?;
    /// let found = truth.gradients_of_keys(&problem.keys(&[2, 3])?, None)?;
    /// assert_eq!(found.dk.row(0, 0, 1), truth.gradients(None).dk.row(0, 0, 3));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn gradients_of_keys(
        &self,
        keys: &Problem<f64>,
        sample: Option<&Sample>,
    ) -> Result<Gradients<f64>, Error> {
        let kind = match &self.0 {
            Kind::Exact { saved, .. } => {
                Kind::Exact { problem: keys.cast()?, saved: saved.clone() }
            }
            Kind::Blocked { saved, given, .. } => {
                Kind::Blocked { problem: keys.clone(), saved: saved.clone(), given: *given }
            }
        };
        Ok(Truth(kind).gradients(sample))
    }

    /// As [`Truth::reference_error_bounds`] for [`Truth::gradients_of_keys`]; the samples are those of all keys and of these.
    #[must_use]
    pub fn error_bounds_of_keys(
        &self,
        keys: &Problem<f64>,
        samples: [Option<&Sample>; 2],
    ) -> Option<ReferenceErrorBounds> {
        match &self.0 {
            Kind::Exact { .. } => None,
            Kind::Blocked { problem, saved, .. } => {
                reference_error_bounds_of_keys(problem, keys, saved, samples)
            }
        }
    }

    /// Gradients in double-double, each number rounded to `f64`.
    #[must_use]
    pub fn rounded(gradients: &Gradients<Dd>) -> Gradients<f64> {
        rounded(gradients)
    }
}

fn rounded(gradients: &Gradients<Dd>) -> Gradients<f64> {
    let round = |tensor: &Tensor<Dd>| tensor.map(Scalar::to_f64);
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = gradients;
    Gradients {
        dq: round(dq),
        dk: round(dk),
        dv: round(dv),
        dbias: dbias.as_ref().map(round),
        dsink: dsink.as_ref().map(|dsink| dsink.iter().map(|x| x.to_f64()).collect()),
        dslopes: dslopes.as_ref().map(round),
        dkv: dkv.as_ref().map(round),
    }
}
