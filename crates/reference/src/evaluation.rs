//! One evaluation of a problem, end to end, with counts and errors.

use crate::backward::{Gradients, backward};
use crate::error::Error;
use crate::forward::{Saved, forward};
use crate::problem::Problem;
use crate::scalar::Scalar;
use crate::sus::{Draw, Sample, sample, sampled_values, sus_backward};
use crate::tensor_name::TensorName;
use rayon::prelude::*;

/// The results of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation<T> {
    /// The forward pass that the backward pass used.
    pub saved: Saved<T>,
    /// The gradients.
    pub gradients: Gradients<T>,
    /// The mask, for SUS.
    pub mask: Option<SampledMask<T>>,
}

/// A mask and the `W~` of its entries.
///
/// # Examples
/// ```
/// use sus_reference::evaluation::{SampledMask, evaluate};
/// use sus_reference::sus::{Budget, Draw};
/// let problem = sus_reference::problem::example();
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let SampledMask { sample, values } = evaluate::<f64>(&problem, None, Some(&draw))?.mask.unwrap();
/// assert_eq!(values.len(), sample.pattern.count());
/// // A kept weight has the value max(W, 1 / c), at least 1 / c and at most 1.
/// assert!(values.iter().all(|&w| (0.25..=1.0).contains(&w)) && values.contains(&0.25));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SampledMask<T> {
    /// The mask.
    pub sample: Sample,
    /// `W~` of each kept entry.
    pub values: Vec<T>,
}

/// The forward pass and the mask of a problem in the arithmetic of `T`.
///
/// `given` is the forward pass that a kernel stored; without it the problem's own is computed. The mask is drawn
/// from weights in `f64`, whatever `T`.
///
/// # Errors
/// [`Error::NotFinite`] if a number leaves the range of `T`; those of [`sample`](fn@crate::sus::sample).
///
/// # Examples
/// ```
/// use sus_reference::evaluation::{evaluate, relative_error};
/// use sus_reference::sus::{Budget, Draw};
/// let problem = sus_reference::problem::example();
/// let draw = Draw::paper(Budget::new(4.0)?, 0);
/// let dense = evaluate::<f64>(&problem, None, None)?.gradients;
/// let sparse = evaluate::<f32>(&problem, None, Some(&draw))?;
/// assert!(sparse.mask.is_some() && dense.dq.shape() == sparse.gradients.dq.shape());
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn evaluate<T: Scalar>(
    problem: &Problem<f64>,
    given: Option<&Saved<f64>>,
    draw: Option<&Draw>,
) -> Result<Evaluation<T>, Error> {
    // The mask is drawn from weights in f64, so that it is the same for every T.
    let sample = match draw {
        None => None,
        Some(draw) => Some(match given {
            Some(saved) => sample(problem, saved, draw)?,
            None => sample(problem, &forward(problem), draw)?,
        }),
    };
    let problem: Problem<T> = problem.cast()?;
    let saved = match given {
        Some(saved) => saved.cast(),
        None => forward(&problem),
    };
    let (gradients, mask) = match sample {
        None => (backward(&problem, &saved), None),
        Some(sample) => {
            let gradients = sus_backward(&problem, &saved, &sample);
            let values = sampled_values(&problem, &saved, &sample);
            (gradients, Some(SampledMask { sample, values }))
        }
    };
    Ok(Evaluation { saved, gradients, mask })
}

/// The number of visible entries of a problem.
#[must_use]
pub fn visible_count(problem: &Problem<f64>) -> u64 {
    let sizes = problem.sizes();
    if sizes.batch == 0 {
        // Nothing bounds the other sizes of an empty batch.
        return 0;
    }
    if problem.hides_keys() || problem.options().lengths.is_some() {
        let rows = (0..problem.row_count()).into_par_iter();
        return rows.map(|at| problem.visible_keys(problem.row(at)) as u64).sum();
    }
    let one_head: u64 = (0..sizes.queries).map(|i| problem.mask().span(0, i).len() as u64).sum();
    one_head * (sizes.batch * sizes.query_heads) as u64
}

/// The numbers of entries that a sample keeps, over the rows of a problem.
///
/// # Examples
/// ```
/// use sus_reference::evaluation::KeptCounts;
/// use sus_reference::sus::{Budget, Draw, Rule, Sampler, sample};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// // The calibrated rule spends the budget in every row, the systematic sampler never exceeds it.
/// let paper = Draw::paper(Budget::new(4.0)?, 0);
/// let draw = paper.with_rule(Rule::Calibrated).with_sampler(Sampler::Systematic);
/// let counts = KeptCounts::of(&problem, &sample(&problem, &saved, &draw)?);
/// assert!((counts.expected / counts.rows as f64 - 4.0).abs() < 1e-12);
/// assert_eq!(counts.most, 4);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptCounts {
    /// Rows.
    pub rows: usize,
    /// Visible entries.
    pub visible: u64,
    /// Kept entries.
    pub kept: usize,
    /// The largest number of kept entries of a row.
    pub most: usize,
    /// Expected kept entries.
    pub expected: f64,
    /// The largest expected number of kept entries of a row.
    pub most_expected: f64,
}

impl KeptCounts {
    /// Counts the entries of a sample.
    #[must_use]
    pub fn of(problem: &Problem<f64>, sample: &Sample) -> Self {
        let rows = problem.row_count();
        KeptCounts {
            rows,
            visible: visible_count(problem),
            kept: sample.pattern.count(),
            most: (0..rows).map(|row| sample.pattern.row(row).len()).max().unwrap_or(0),
            expected: sample.expected.iter().sum(),
            most_expected: sample.expected.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// `|a - b| / |b|` in the Frobenius norm; 0 if both are zero.
///
/// # Examples
/// ```
/// use sus_reference::evaluation::relative_error;
/// assert_eq!(relative_error(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
/// ```
#[must_use]
pub fn relative_error<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    let squared = |x: T| x.to_f64() * x.to_f64();
    let difference: f64 = a.iter().zip(b).map(|(&a, &b)| squared(a - b)).sum();
    let norm: f64 = b.iter().map(|&b| squared(b)).sum();
    // Zero over zero is no error.
    if difference == 0.0 { 0.0 } else { libm::sqrt(difference / norm) }
}

/// The relative errors of each gradient against another evaluation of the same problem, by name.
#[must_use]
pub fn relative_errors<T: Scalar>(a: &Gradients<T>, b: &Gradients<T>) -> Vec<(TensorName, f64)> {
    let mut errors = vec![
        (TensorName::Dq, relative_error(a.dq.as_slice(), b.dq.as_slice())),
        (TensorName::Dk, relative_error(a.dk.as_slice(), b.dk.as_slice())),
        (TensorName::Dv, relative_error(a.dv.as_slice(), b.dv.as_slice())),
    ];
    if let (Some(a), Some(b)) = (&a.dbias, &b.dbias) {
        errors.push((TensorName::Dbias, relative_error(a.as_slice(), b.as_slice())));
    }
    if let (Some(a), Some(b)) = (&a.dsink, &b.dsink) {
        errors.push((TensorName::Dsink, relative_error(a, b)));
    }
    if let (Some(a), Some(b)) = (&a.dslopes, &b.dslopes) {
        errors.push((TensorName::Dslopes, relative_error(a.as_slice(), b.as_slice())));
    }
    if let (Some(a), Some(b)) = (&a.dkv, &b.dkv) {
        errors.push((TensorName::Dkv, relative_error(a.as_slice(), b.as_slice())));
    }
    errors
}
