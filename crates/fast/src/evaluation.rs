//! One evaluation end to end: by the kernels where they cover the problem, else by the reference.

use super::backend::{Backend, Backends, Fallback};
use super::passes::{Workspace, backward, forward, sus_backward};
use super::sampling::forward_and_sample;
use super::simd::Real;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::evaluation::{Evaluation, SampledMask};
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::scalar::Scalar;
use sus_reference::sus::{Draw, sample, sampled_values};

/// An evaluation, and the paths that it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated<T> {
    /// The results.
    pub evaluation: Evaluation<T>,
    /// How they came about.
    pub paths: Backends,
}

/// [`evaluate`](sus_reference::evaluation::evaluate) by the kernels where they cover the problem: the same mask, and numbers within rounding.
///
/// # Errors
/// Those of [`evaluate`](sus_reference::evaluation::evaluate).
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let fast = sus_fast::evaluate::<f64>(&problem, None, None)?;
/// assert_eq!(fast.evaluation.gradients.dq.shape(), problem.inputs().q.shape());
/// println!("{}", fast.paths); // which path each pass took, and why
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn evaluate<T: Real>(
    exact: &Problem<f64>,
    given: Option<&Saved<f64>>,
    draw: Option<&Draw>,
) -> Result<Evaluated<T>, Error> {
    let problem: Problem<T> = exact.cast()?;
    let mut workspace = Workspace::default();
    let (saved, sample, mask_path) = match (given, draw) {
        (Some(given), Some(draw)) => {
            let path = Backend::Reference(Fallback::GivenForward);
            (given.cast(), Some(sample(exact, given, draw)?), Some(path))
        }
        (Some(given), None) => (given.cast(), None, None),
        (None, Some(draw)) => {
            let (saved, sample, path) = forward_and_sample(exact, &problem, draw, &mut workspace)?;
            (saved, Some(sample), Some(path))
        }
        (None, None) => (forward(&problem, &mut workspace), None, None),
    };
    let (gradients, backward, mask) = match sample {
        None => {
            let (gradients, path) = backward(&problem, &saved, &mut workspace);
            (gradients, path, None)
        }
        Some(sample) => {
            let (gradients, path) = sus_backward(&problem, &saved, &sample, &mut workspace);
            let values = sampled_values(&problem, &saved, &sample);
            (gradients, path, Some(SampledMask { sample, values }))
        }
    };
    let forward = given.is_none().then_some(Backend::Fast);
    let paths = Backends { forward, mask: mask_path, backward };
    Ok(Evaluated { evaluation: Evaluation { saved, gradients, mask }, paths })
}

/// An implementation of all passes in one arithmetic: the kernels or the reference.
///
/// # Examples
/// ```
/// use sus_reference::evaluation::relative_errors;
/// use sus_fast::Passes;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let gradients = |passes: Passes<f64>| (passes.evaluate)(&problem, None, None).map(|it| it.evaluation.gradients);
/// // The choice of an implementation is a value; the two differ by rounding.
/// let errors = relative_errors(&gradients(Passes::fast())?, &gradients(Passes::reference())?);
/// assert!(errors.iter().all(|&(_, error)| error < 1e-13));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Passes<T> {
    /// Problem, given forward pass, draw.
    pub evaluate: Evaluate<T>,
    /// The dense backward pass.
    pub backward: fn(&Problem<T>, &Saved<T>) -> Gradients<T>,
}

/// Problem, given forward pass and draw to an evaluation.
pub type Evaluate<T> =
    fn(&Problem<f64>, Option<&Saved<f64>>, Option<&Draw>) -> Result<Evaluated<T>, Error>;

impl<T: Real> Passes<T> {
    /// By the kernels, where they serve.
    #[must_use]
    pub fn fast() -> Self {
        Passes {
            evaluate,
            backward: |problem, saved| backward(problem, saved, &mut Workspace::default()).0,
        }
    }
}

impl<T: Scalar> Passes<T> {
    /// By the reference, as requested.
    #[must_use]
    pub fn reference_requested() -> Self {
        let evaluate: Evaluate<T> =
            |p, given, draw| evaluate_by_reference(p, given, draw, Fallback::Asked);
        Passes { evaluate, backward: sus_reference::backward::backward }
    }

    /// By the reference, because there are no kernels in this arithmetic.
    ///
    /// # Examples
    /// ```
    /// use sus_fast::{Passes, Backend, Fallback};
    /// use sus_reference::scalar::Dd;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let found = (Passes::<Dd>::reference().evaluate)(&problem, None, None)?; // there are no kernels in double-double
    /// assert_eq!(found.paths.backward, Backend::Reference(Fallback::Arithmetic));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn reference() -> Self {
        let evaluate: Evaluate<T> =
            |p, given, draw| evaluate_by_reference(p, given, draw, Fallback::Arithmetic);
        Passes { evaluate, backward: sus_reference::backward::backward }
    }
}

fn evaluate_by_reference<T: Scalar>(
    problem: &Problem<f64>,
    given: Option<&Saved<f64>>,
    draw: Option<&Draw>,
    reason: Fallback,
) -> Result<Evaluated<T>, Error> {
    let evaluation = sus_reference::evaluation::evaluate(problem, given, draw)?;
    let path = Backend::Reference(reason);
    let paths = Backends {
        forward: given.is_none().then_some(path),
        mask: draw.is_some().then_some(path),
        backward: path,
    };
    Ok(Evaluated { evaluation, paths })
}
