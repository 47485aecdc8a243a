//! A sampled mask, as data: which entries are kept, and the `lambda` that upweights them.
//!
//! The mask is drawn once, in `f64`, and applied in every scalar: a kept weight is `max(W, 1 / lambda_i)`, with `W`
//! computed in that scalar.

use super::draw::Draw;
pub use super::draw::uniforms;
use super::pattern::Pattern;
use super::rule::{expected_count, keep_probability, kept_weight};
use super::sampler::{Sampler, UniformBits, bernoulli, row_uniform, systematic};
use super::uniform::Uniforms;
use crate::backward::{DenseWeights, Gradients, Weight, Weights, backward_with};
use crate::error::Error;
use crate::forward::Saved;
use crate::problem::{Problem, Row};
use crate::scalar::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// One draw of the mask of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The kept entries.
    pub pattern: Pattern,
    /// `lambda_i` of each row: a kept weight is `max(W, 1 / lambda_i)`.
    pub lambda: Vec<f64>,
    /// `sum_j q_ij` of each row: the expected number of kept entries.
    pub expected: Vec<f64>,
}

/// Draws the mask of a problem.
///
/// # Errors
/// [`Error::Uniform`] if the layout does not give every weight a word of its own; [`Error::Option`] if
/// [`UniformBits::Bits64`] is combined with the systematic sampler, which has one uniform per row, or with the layout `arrival`.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Draw, sample};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let all = sample(&problem, &saved, &Draw::paper(Budget::new(f64::INFINITY)?, 0))?;
/// assert_eq!(all.pattern.count() as u64, sus_reference::evaluation::visible_count(&problem));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn sample(problem: &Problem<f64>, saved: &Saved<f64>, draw: &Draw) -> Result<Sample, Error> {
    if draw.bits == UniformBits::Bits64 && draw.sampler == Sampler::Systematic {
        return Err(Error::option("uniform_bits", "32 with the systematic sampler", 64));
    }
    let uniforms = uniforms(problem, draw)?;
    let rows: Vec<_> = (0..problem.row_count())
        .into_par_iter()
        .map(|at| sample_row(problem, saved, draw, &uniforms, problem.row(at)))
        .collect();
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    let mut columns = Vec::with_capacity(rows.iter().map(|row| row.kept.len()).sum());
    offsets.push(0);
    for row in &rows {
        columns.extend_from_slice(&row.kept);
        offsets.push(columns.len());
    }
    Ok(Sample {
        pattern: Pattern::from_parts(offsets, columns),
        lambda: rows.iter().map(|row| row.lambda).collect(),
        expected: rows.iter().map(|row| row.expected).collect(),
    })
}

/// The sample of one row.
struct RowSample {
    kept: Vec<u32>,
    lambda: f64,
    expected: f64,
}

fn sample_row(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    draw: &Draw,
    uniforms: &Uniforms,
    row: Row,
) -> RowSample {
    // Words belong to positions within the segment, weights to positions in the tensors.
    let visible = problem.span(row);
    let weights = DenseWeights { problem, saved };
    let w: Vec<f64> = visible.clone().map(|j| weights.at(row, j).w).collect();
    let lambda = draw.rule.lambda(draw.c, &w);
    let q: Vec<f64> = w.iter().map(|&w| keep_probability(lambda, w)).collect();
    let place = problem.mask().place(row.i);
    let b = row.b * problem.mask().segment_count() + place.segment;
    let kept = match draw.sampler {
        Sampler::Bernoulli => {
            let at = [b, row.h, place.query];
            bernoulli(&q, uniforms, draw.bits, at, visible.start - place.first_key)
        }
        Sampler::Systematic => {
            let u = row_uniform(uniforms.row_word(b, row.h, place.query));
            systematic(&q, u, draw.c.get())
        }
    };
    RowSample {
        kept: kept.into_iter().map(|n| (visible.start + n) as u32).collect(),
        lambda,
        // In exact arithmetic the sum is at most c; a rounded sum may be an ulp above.
        expected: expected_count(lambda, &w).min(draw.c.get()),
    }
}

/// The weights `W~` of a sample: `max(W, 1 / lambda_i)` where kept, 0 elsewhere.
///
/// # Examples
/// ```
/// use sus_reference::backward::{DenseWeights, Weights};
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::sus::{Pattern, Sample, SampledWeights};
/// use sus_reference::tensor::Tensor;
/// // Three equal keys, of which the first and the last were kept with lambda = 2: 1/3 counts as 1/2.
/// let [one, three] = [1, 3].map(|n| Tensor::from_fn([1, 1, n, 1], |_| 0.0));
/// let inputs = Inputs::new(one.clone(), three.clone(), three, one);
/// let problem = Problem::new(inputs, Options::default())?;
/// let saved = sus_reference::forward::forward(&problem);
/// let pattern = Pattern::new(1, 3, vec![0, 2], vec![0, 2])?;
/// let sample = Sample { pattern, lambda: vec![2.0], expected: vec![2.0] };
/// let weights = SampledWeights { dense: DenseWeights { problem: &problem, saved: &saved }, sample: &sample };
/// let mut row = Vec::new();
/// weights.for_each(problem.row(0), 0..3, |weight| row.push((weight.j, weight.w)));
/// assert_eq!(row, [(0, 0.5), (2, 0.5)]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SampledWeights<'a, T> {
    /// The weights that were sampled.
    pub dense: DenseWeights<'a, T>,
    /// The mask.
    pub sample: &'a Sample,
}

impl<T: Scalar> Weights<T> for SampledWeights<'_, T> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<T>)) {
        let number = self.dense.problem.row_number(row);
        let kept = self.sample.pattern.row(number);
        // The kept keys ascend, so those of the range are consecutive.
        let first = kept.partition_point(|&j| (j as usize) < keys.start);
        let lambda = T::from_f64(self.sample.lambda[number]);
        for &j in kept[first..].iter().take_while(|&&j| (j as usize) < keys.end) {
            let weight = self.dense.at(row, j as usize);
            visit(Weight { w: kept_weight(lambda, weight.w), ..weight });
        }
    }
}

/// The SUS backward pass: [`backward`](crate::backward::backward) with `W~` in place of `W`.
///
/// # Examples
/// ```
/// use sus_reference::backward::backward;
/// use sus_reference::sus::{Budget, Draw, sample, sus_backward};
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// let all = sample(&problem, &saved, &Draw::paper(Budget::new(f64::INFINITY)?, 0))?;
/// assert_eq!(sus_backward(&problem, &saved, &all), backward(&problem, &saved));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn sus_backward<T: Scalar>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    sample: &Sample,
) -> Gradients<T> {
    let dense = DenseWeights { problem, saved };
    backward_with(problem, saved, &SampledWeights { dense, sample })
}

/// The values `W~` of the kept entries, in the order of [`Pattern::columns`].
#[must_use]
pub fn sampled_values<T: Scalar>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    sample: &Sample,
) -> Vec<T> {
    let weights = SampledWeights { dense: DenseWeights { problem, saved }, sample };
    let mut values = Vec::with_capacity(sample.pattern.count());
    for at in 0..problem.row_count() {
        weights.for_each(problem.row(at), 0..problem.sizes().keys, |weight| values.push(weight.w));
    }
    values
}
