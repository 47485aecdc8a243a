//! The truth that bounds are centred on.

use crate::backward::{Gradients, backward};
use crate::error::Error;
use crate::forward::{Saved, forward};
use crate::problem::Problem;
use crate::scalar::{Dd, Scalar};
use crate::sus::{Sample, sus_backward};
use crate::tensor::Tensor;

/// A forward pass in double-double arithmetic, or one that somebody stored, and the gradients that follow from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    problem: Problem<Dd>,
    saved: Saved<Dd>,
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
    ///
    /// # Examples
    /// ```
    /// let problem = sus_oracle::gallery::cases::named("primes").unwrap().problem;
    /// use sus_oracle::{backward::backward, evaluation::relative_errors, precision::Truth};
    /// let truth = Truth::exact(&problem)?;
    /// let in_f64 = backward(&problem, &sus_oracle::forward::forward(&problem));
    /// let errors = relative_errors(&in_f64, &truth.gradients(None));
    /// assert!(errors.iter().all(|&(_, error)| error < 1e-14));
    /// # Ok::<(), sus_oracle::Error>(())
    /// ```
    pub fn exact(problem: &Problem<f64>) -> Result<Self, Error> {
        let problem: Problem<Dd> = problem.cast()?;
        let saved = forward(&problem);
        Ok(Truth { problem, saved })
    }

    /// A forward pass that somebody stored, taken as it is.
    ///
    /// # Errors
    /// As [`Truth::exact`].
    pub fn given(problem: &Problem<f64>, saved: &Saved<f64>) -> Result<Self, Error> {
        Ok(Truth { problem: problem.cast()?, saved: saved.cast() })
    }

    /// `o` and `lse`, rounded to `f64`.
    #[must_use]
    pub fn saved(&self) -> Saved<f64> {
        self.saved.cast()
    }

    /// The gradients, dense or of a mask, rounded to `f64`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_oracle::gallery::cases::named("primes").unwrap().problem;
    /// use sus_oracle::precision::Truth;
    /// let dense = Truth::exact(&problem)?.gradients(None);
    /// assert_eq!(dense.dv.shape(), problem.inputs().v.shape());
    /// # Ok::<(), sus_oracle::Error>(())
    /// ```
    #[must_use]
    pub fn gradients(&self, sample: Option<&Sample>) -> Gradients<f64> {
        let gradients = match sample {
            None => backward(&self.problem, &self.saved),
            Some(sample) => sus_backward(&self.problem, &self.saved, sample),
        };
        let round = |tensor: &Tensor<Dd>| tensor.map(Scalar::to_f64);
        Gradients {
            dq: round(&gradients.dq),
            dk: round(&gradients.dk),
            dv: round(&gradients.dv),
            dbias: gradients.dbias.as_ref().map(round),
            dsink: gradients.dsink.map(|dsink| dsink.into_iter().map(Scalar::to_f64).collect()),
        }
    }
}
