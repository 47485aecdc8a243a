//! A drawn mask, as data: which entries are kept, and the rate that upweights them.
//!
//! The mask is drawn once, in `f64`, and replayed in every scalar: a kept weight is `max(W, 1 / lambda_i)`, with `W`
//! recomputed in the scalar at hand.

use super::rule::{Budget, Rule, expected_count, keep_probability, kept_weight};
use super::sampler::{Sampler, UniformBits, bernoulli, row_uniform, systematic};
use super::uniform::{Grid, Layout, Uniforms};
use crate::backward::{DenseWeights, Gradients, Weight, Weights, backward_with};
use crate::error::Error;
use crate::forward::Saved;
use crate::problem::{Problem, Row};
use crate::scalar::Scalar;
use crate::setters;
use rayon::prelude::*;
use std::ops::Range;

/// Everything that determines a mask, given the weights.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler, UniformBits};
/// let draw = Draw {
///     c: Budget::new(30.0)?,
///     rule: Rule::Calibrated,
///     sampler: Sampler::Systematic,
///     seed: 42,
///     stream: 3, // such as the layer
///     layout: Layout::Coord4,
///     bits: UniformBits::Bits32,
/// };
/// assert_ne!(draw, Draw::paper(draw.c, 42));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Draw {
    /// Interactions per row, in expectation.
    pub c: Budget,
    /// Weights to probabilities.
    pub rule: Rule,
    /// Probabilities to a mask.
    pub sampler: Sampler,
    /// Seed of `sus-u/1`.
    pub seed: u64,
    /// Layer or step, below `2^31`.
    pub stream: u32,
    /// Which word serves which weight.
    pub layout: Layout,
    /// How many bits decide an entry.
    pub bits: UniformBits,
}

impl Draw {
    /// The paper's draw: its rule, independent entries, `coord4` words, stream 0.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Draw, Sampler};
    /// let draw = Draw::paper(Budget::new(30.0)?, 7).with_sampler(Sampler::Systematic);
    /// assert_eq!((draw.seed, draw.stream), (7, 0));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn paper(c: Budget, seed: u64) -> Self {
        Draw {
            c,
            rule: Rule::Paper,
            sampler: Sampler::Bernoulli,
            seed,
            stream: 0,
            layout: Layout::Coord4,
            bits: UniformBits::Bits32,
        }
    }
}

setters! { Draw, [];
    with_c(c: Budget);
    with_rule(rule: Rule);
    with_sampler(sampler: Sampler);
    with_seed(seed: u64);
    with_stream(stream: u32);
    with_layout(layout: Layout);
    with_bits(bits: UniformBits);
}

/// Which entries are kept, by rows in `(b, h, i)` order: compressed sparse rows without the values.
///
/// # Examples
/// ```
/// use sus_reference::sus::Pattern;
/// // What a kernel kept, one bit per entry, as rows of keys.
/// let kept = [[true, false, true], [false, false, false], [false, true, false]];
/// let (mut offsets, mut columns) = (vec![0], Vec::new());
/// for row in kept {
///     columns.extend((0..3_u32).filter(|&j| row[j as usize]));
///     offsets.push(columns.len());
/// }
/// let pattern = Pattern::new(3, 3, offsets, columns)?;
/// assert_eq!([0, 1, 2].map(|row| pattern.row(row).to_vec()), [vec![0, 2], vec![], vec![1]]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    offsets: Vec<usize>,
    columns: Vec<u32>,
}

impl Pattern {
    /// A pattern over `rows` rows and `keys` columns.
    ///
    /// # Errors
    /// [`Error::Option`] named `mask` unless `offsets` has `rows + 1` numbers from 0 to the number of columns, never
    /// decreasing, and each row's columns ascend strictly and stay below `keys`.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::Pattern;
    /// let pattern = Pattern::new(2, 4, vec![0, 2, 3], vec![0, 3, 1])?;
    /// assert_eq!((pattern.row(0), pattern.row(1)), (&[0, 3][..], &[1][..]));
    /// assert!(Pattern::new(2, 4, vec![0, 2, 3], vec![3, 0, 1]).is_err()); // not ascending
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn new(
        rows: usize,
        keys: usize,
        offsets: Vec<usize>,
        columns: Vec<u32>,
    ) -> Result<Self, Error> {
        let legal = offsets.len() == rows + 1
            && offsets[0] == 0
            && offsets.is_sorted()
            && offsets[rows] == columns.len();
        if !legal {
            let expected = format!(
                "{} row offsets from 0 to the {} columns, never decreasing",
                rows + 1,
                columns.len()
            );
            return Err(Error::option("mask", expected, format!("{} offsets", offsets.len())));
        }
        for (at, range) in offsets.windows(2).enumerate() {
            let row = &columns[range[0]..range[1]];
            let ascending = row.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || row.last().is_some_and(|&j| j as usize >= keys) {
                let expected = format!("columns ascending and below {keys}");
                return Err(Error::option("mask", expected, format!("row {at} with {row:?}")));
            }
        }
        Ok(Pattern { offsets, columns })
    }

    /// The kept keys of the row with this number, ascending.
    ///
    /// # Panics
    /// If there is no such row.
    ///
    /// # Examples
    /// ```
    /// let pattern = sus_reference::sus::Pattern::new(3, 8, vec![0, 2, 2, 3], vec![1, 7, 4])?;
    /// assert_eq!(pattern.row(0), [1, 7]);
    /// assert!(pattern.row(1).is_empty()); // nothing kept
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn row(&self, number: usize) -> &[u32] {
        &self.columns[self.offsets[number]..self.offsets[number + 1]]
    }

    /// Row `n` holds the columns `offsets[n]..offsets[n + 1]`.
    ///
    /// # Examples
    /// ```
    /// let pattern = sus_reference::sus::Pattern::new(3, 8, vec![0, 2, 2, 3], vec![1, 7, 4])?;
    /// let counts: Vec<usize> = pattern.offsets().windows(2).map(|pair| pair[1] - pair[0]).collect();
    /// assert_eq!(counts, [2, 0, 1]); // kept in each row
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// All columns, row after row.
    ///
    /// # Examples
    /// ```
    /// let pattern = sus_reference::sus::Pattern::new(3, 8, vec![0, 2, 2, 3], vec![1, 7, 4])?;
    /// assert_eq!(pattern.columns(), [pattern.row(0), pattern.row(1), pattern.row(2)].concat());
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The number of kept entries.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::Pattern;
    /// assert_eq!(Pattern::new(3, 8, vec![0, 2, 2, 3], vec![1, 7, 4])?.count(), 3);
    /// assert_eq!(Pattern::new(0, 8, vec![0], vec![])?.count(), 0); // no rows
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn count(&self) -> usize {
        self.columns.len()
    }
}

/// One draw of the mask of a problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// use sus_reference::sus::{Budget, Draw, sample};
/// let sample = sample(&problem, &saved, &Draw::paper(Budget::new(4.0)?, 7))?;
/// assert_eq!(sample.lambda, vec![4.0; problem.row_count()]);
/// assert!(sample.expected.iter().all(|&count| count <= 4.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
/// [`Error::TooLarge`] or [`Error::Option`] if the layout has no word of its own for some weight, or if
/// [`UniformBits::Bits64`] is asked of the systematic sampler, which has one uniform per row.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::sus::{Budget, Draw, sample};
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
        .map(|at| draw_row(problem, saved, draw, &uniforms, problem.row(at)))
        .collect();
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    let mut columns = Vec::with_capacity(rows.iter().map(|row| row.kept.len()).sum());
    offsets.push(0);
    for row in &rows {
        columns.extend_from_slice(&row.kept);
        offsets.push(columns.len());
    }
    Ok(Sample {
        pattern: Pattern { offsets, columns },
        lambda: rows.iter().map(|row| row.lambda).collect(),
        expected: rows.iter().map(|row| row.expected).collect(),
    })
}

/// The words of a draw. With `S` packed segments, segment `s` of sequence `b` counts as sequence `b S + s`.
pub fn uniforms(problem: &Problem<f64>, draw: &Draw) -> Result<Uniforms, Error> {
    let sizes = problem.sizes();
    let grid = Grid {
        batch: sizes.batch * problem.mask().segment_count(),
        heads: sizes.query_heads,
        queries: sizes.queries,
        keys: sizes.keys,
    };
    Ok(Uniforms::new(draw.seed, draw.stream, draw.layout, grid)?)
}

/// What a draw gives one row.
struct DrawnRow {
    kept: Vec<u32>,
    lambda: f64,
    expected: f64,
}

fn draw_row(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    draw: &Draw,
    uniforms: &Uniforms,
    row: Row,
) -> DrawnRow {
    let visible = problem.mask().visible(row.i);
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
    DrawnRow {
        kept: kept.into_iter().map(|n| (visible.start + n) as u32).collect(),
        lambda,
        // Exactly, the sum is at most c; rounding may leave it an ulp above.
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
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::backward::backward;
/// use sus_reference::sus::{Budget, Draw, sample, sus_backward};
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
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::sus::{Budget, Draw, sample, sampled_values};
/// let saved = sus_reference::forward::forward(&problem);
/// let mask = sample(&problem, &saved, &Draw::paper(Budget::new(4.0)?, 0))?;
/// assert!(sampled_values(&problem, &saved, &mask).iter().all(|&w| w >= 0.25)); // 1 / c
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
