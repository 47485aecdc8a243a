//! An attention problem: the inputs, the cotangents and the options, validated once.

mod example;
mod inputs;
mod part;
mod validate;

pub use example::example;
pub use inputs::{Dropout, Inputs, Options};
pub use part::Part;
pub use validate::Sizes;

use crate::error::Error;
use crate::mask::Mask;
use crate::scalar::{Ring, Scalar};
use crate::tensor::{Tensor, is_finite};
use std::ops::Range;

/// A validated attention problem.
///
/// | field | shape |
/// |---|---|
/// | `q`, `k`, `v` | `[B,Hq,Nq,D]`, `[B,Hk,Nk,D]`, `[B,Hk,Nk,E]` |
/// | `g` | `[B,Hq,Nq,E]` |
/// | `dlse` | `[B,Hq,Nq,1]` |
/// | `bias` | `[B or 1, Hq or 1, Nq or 1, Nk]` |
/// | `sink` | `[Hq]` |
/// | `alibi_slopes` | `[1, Hq, 1, 1]`, or `[B, 1, 1, Hq]` for slopes of each sequence |
///
/// Query head `h` reads key head `h / (Hq / Hk)`. `B`, `Nq` and `Nk` may be 0. All numbers are finite, but for a `-inf` in the
/// bias, which hides the key. What stands in the padding is never read, and the problem holds zeros there.
///
/// # Examples
/// ```
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// // Two equal keys share the weight: the result is the mean of their values.
/// let zeros = || Tensor::zeros([1, 1, 2, 1]);
/// let v = Tensor::new("v", [1, 1, 2, 1], &[1.0_f64, 3.0])?;
/// let inputs = Inputs::new(zeros(), zeros(), v, zeros());
/// let problem = Problem::new(inputs, Options::default())?;
/// assert!((sus_reference::forward::forward(&problem).o.as_slice()[0] - 2.0).abs() < 1e-15);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Problem<T> {
    inputs: Inputs<T>,
    options: Options,
    sizes: Sizes,
    mask: Mask,
    /// Whether the bias has an element of `-inf`.
    bias_hides: bool,
}

/// One row of the score matrix: query `i` of query head `h` of sequence `b`.
///
/// # Examples
/// ```
/// use sus_reference::problem::Row;
/// let problem = sus_reference::problem::example();
/// let row = Row { b: 0, h: 0, i: 2 };
/// assert_eq!(problem.q(row), problem.inputs().q.row(0, 0, 2));
/// assert_eq!(problem.row_number(row), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Index into the batch.
    pub b: usize,
    /// Query head.
    pub h: usize,
    /// Query.
    pub i: usize,
}

impl<T: Ring> Problem<T> {
    /// Checks the shapes, the numbers and the options.
    ///
    /// # Errors
    /// One [`Error`] that names the first operand found wrong.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::problem::{Inputs, Options, Problem};
    /// use sus_reference::tensor::Tensor;
    /// let zeros = Tensor::zeros;
    /// let (q, k, v) = (zeros([1, 4, 5, 8]), zeros([1, 2, 7, 8]), zeros([1, 2, 7, 16]));
    /// let inputs = Inputs::new(q, k, v, zeros([1, 4, 5, 16]));
    /// let problem: Problem<f64> = Problem::new(inputs.clone(), Options::default())?;
    /// assert_eq!((problem.group(), problem.row_count()), (2, 20));
    ///
    /// let error = Problem::new(inputs.with_g(zeros([1, 4, 5, 8])), Options::default()).unwrap_err();
    /// assert_eq!(error.to_string(), "tensor 'do': expected shape [1, 4, 5, 16], found [1, 4, 5, 8]");
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn new(mut inputs: Inputs<T>, options: Options) -> Result<Self, Error> {
        let sizes = validate::sizes_of(&inputs)?;
        validate::check_options(&options)?;
        let part = options.part.as_deref();
        let whole = part.map_or(sizes, |part| part.whole);
        let mask = Mask::new(
            whole.queries,
            whole.keys,
            options.causal,
            options.alignment,
            options.window,
            options.segments.clone(),
        )?
        .with_lengths(options.lengths.clone(), sizes.batch)?;
        let mask = match part {
            Some(part) => mask.at_positions(part.queries.clone(), part.keys.clone()),
            None => mask,
        };
        if mask.has_padding(whole.queries, whole.keys) {
            validate::clear_padding(&mut inputs, &sizes, &mask);
        }
        let bias_hides = validate::check_numbers(&inputs)?;
        validate::check_structure(&inputs, &options, &sizes, &mask)?;
        Ok(Problem { inputs, options, sizes, mask, bias_hides })
    }

    /// The tensors.
    #[must_use]
    pub fn inputs(&self) -> &Inputs<T> {
        &self.inputs
    }

    /// The options as given.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::problem::{Options, Problem};
    /// let problem = sus_reference::problem::example();
    /// let causal = problem.options().clone().with_causal(true);
    /// let problem = Problem::new(problem.inputs().clone(), causal)?;
    /// assert!(problem.options().causal);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The sizes.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The sequences, causality and the window. More may hide a key of a row, see [`ranges`](Problem::ranges).
    #[must_use]
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The range of keys that sequences, causality and the window leave to a row; some of it may be hidden.
    #[inline]
    #[must_use]
    pub fn span(&self, row: Row) -> Range<usize> {
        self.mask.span(row.b, row.i)
    }

    /// Whether a row is padding: it sees no key and no sink, its results are 0, its `lse` is `-inf`.
    #[inline]
    #[must_use]
    pub fn is_padding(&self, row: Row) -> bool {
        self.mask.is_padding(row.b, row.i)
    }

    /// Whether any key of the [`span`](Problem::span) of any row may be hidden.
    #[inline]
    #[must_use]
    pub fn hides_keys(&self) -> bool {
        self.bias_hides || !self.options.key_sets.is_empty()
    }

    /// Whether a key of the [`span`](Problem::span) of a row is hidden: by a key set, or by a `-inf` in the bias.
    #[inline]
    #[must_use]
    pub fn hides(&self, row: Row, j: usize) -> bool {
        self.hides_keys() && self.next_run(row, j..j + 1).is_none()
    }

    /// The first run of keys in `range` that neither a key set nor the bias hides from a row.
    #[must_use]
    pub fn next_run(&self, row: Row, range: Range<usize>) -> Option<Range<usize>> {
        let Range { mut start, end } = range;
        loop {
            let mut run = start..end;
            let mut take = |shown: Range<usize>| {
                run = run.start.max(shown.start)..run.end.min(shown.end);
            };
            for set in &self.options.key_sets {
                take(set.next_run(row, start..end, &self.sizes)?);
            }
            if self.bias_hides {
                take(self.next_finite_bias(row, start..end)?);
            }
            // Each set shows its first run from `start` on. Once none of them begins later, all show the keys up to the first end.
            if run.start == start {
                return (start < end).then_some(run);
            }
            start = run.start;
        }
    }

    /// The first run of keys in `range` whose bias is finite.
    fn next_finite_bias(&self, row: Row, range: Range<usize>) -> Option<Range<usize>> {
        let Some(bias) = self.bias(row) else { return Some(range) };
        let start = range.start + bias[range.clone()].iter().position(|&x| is_finite(x))?;
        let length = bias[start..range.end].iter().position(|&x| !is_finite(x));
        Some(start..length.map_or(range.end, |length| start + length))
    }

    /// The keys that a row sees, as ascending ranges that do not touch.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::mask::{AttnMask, KeySet};
    /// use sus_reference::problem::{Options, Problem};
    /// let example = sus_reference::problem::example(); // Nq = 7, Nk = 11
    /// let seen = (0..11).map(|j| u8::from(j % 4 != 2)).collect();
    /// let mask = KeySet::AttnMask(AttnMask { shape: [1, 1, 1, 11], seen });
    /// let options = Options::default().with_causal(true).with_key_sets(vec![mask]);
    /// let problem = Problem::new(example.inputs().clone(), options)?;
    /// assert!(problem.ranges(problem.row(4)).eq([0..2, 3..6, 7..9])); // 4 + 11 - 7 is the last key
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn ranges(&self, row: Row) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
        let span = self.span(row);
        let end = span.end;
        let first = if span.is_empty() { None } else { self.next_run(row, span) };
        std::iter::successors(first, move |run| {
            if run.end >= end { None } else { self.next_run(row, run.end..end) }
        })
    }

    /// The keys that a row sees, ascending.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::problem::Problem;
    /// use sus_reference::tensor::Tensor;
    /// let problem = sus_reference::problem::example();
    /// let keys = problem.sizes().keys;
    /// let every_third = |[.., j]: [usize; 4]| if j % 3 == 0 { 0.0 } else { f64::NEG_INFINITY };
    /// let bias = Some(Tensor::from_fn([1, 1, 1, keys], every_third));
    /// let problem = Problem::new(problem.inputs().clone().with_bias(bias), problem.options().clone())?;
    /// assert!(problem.visible(problem.row(0)).eq([0, 3, 6, 9]));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn visible(&self, row: Row) -> impl Iterator<Item = usize> + Clone + '_ {
        self.ranges(row).flatten()
    }

    /// The number of keys that a row sees.
    #[must_use]
    pub fn visible_keys(&self, row: Row) -> usize {
        self.ranges(row).map(|range| range.len()).sum()
    }

    /// Whether the dropout's mask keeps an entry; true without dropout.
    #[inline]
    #[must_use]
    pub fn keeps(&self, row: Row, j: usize) -> bool {
        self.options.dropout.as_ref().is_none_or(|dropout| {
            let [_, heads, queries, keys] = dropout.shape;
            let Row { b, h, i } = bias_row(dropout.shape, row);
            dropout.kept[((b * heads + h) * queries + i) * keys + j] != 0
        })
    }

    /// The logit of the row's sink; none without one, or if the row is padding.
    #[inline]
    #[must_use]
    pub fn sink(&self, row: Row) -> Option<T> {
        let sink = self.inputs.sink.as_ref()?;
        if self.is_padding(row) { None } else { Some(sink[row.h]) }
    }

    /// The slope of a row.
    #[inline]
    #[must_use]
    pub fn alibi_slope(&self, row: Row) -> Option<T> {
        self.inputs.alibi_slopes.as_ref().map(|slopes| slopes.as_slice()[self.slope_index(row)])
    }

    /// The index of a row's slope among the slopes, of its head or of its sequence and head.
    #[inline]
    #[must_use]
    pub fn slope_index(&self, row: Row) -> usize {
        let by_batch =
            self.inputs.alibi_slopes.as_ref().is_some_and(|slopes| slopes.shape()[0] > 1);
        if by_batch { row.b * self.sizes.query_heads + row.h } else { row.h }
    }

    /// Number of rows `B Hq Nq`.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.sizes.batch * self.sizes.query_heads * self.sizes.queries
    }

    /// The row with number `at` in `(b, h, i)` order.
    #[must_use]
    pub fn row(&self, at: usize) -> Row {
        let Sizes { query_heads, queries, .. } = self.sizes;
        // at = (b Hq + h) Nq + i
        let (head, i) = (at / queries, at % queries);
        Row { b: head / query_heads, h: head % query_heads, i }
    }

    /// The number of a row in `(b, h, i)` order.
    #[must_use]
    pub fn row_number(&self, Row { b, h, i }: Row) -> usize {
        (b * self.sizes.query_heads + h) * self.sizes.queries + i
    }

    /// The key head that query head `h` reads.
    #[inline]
    #[must_use]
    pub fn key_head(&self, h: usize) -> usize {
        h / self.group()
    }

    /// Query heads per key head, `Hq / Hk`.
    #[inline]
    #[must_use]
    pub fn group(&self) -> usize {
        self.sizes.query_heads / self.sizes.key_heads
    }

    /// The `q` of a row.
    #[inline]
    #[must_use]
    pub fn q(&self, row: Row) -> &[T] {
        self.inputs.q.row(row.b, row.h, row.i)
    }

    /// The `G` of a row.
    #[inline]
    #[must_use]
    pub fn g(&self, row: Row) -> &[T] {
        self.inputs.g.row(row.b, row.h, row.i)
    }

    /// The key `j` that a row reads.
    #[inline]
    #[must_use]
    pub fn k(&self, row: Row, j: usize) -> &[T] {
        self.inputs.k.row(row.b, self.key_head(row.h), j)
    }

    /// The value `j` that a row reads.
    #[inline]
    #[must_use]
    pub fn v(&self, row: Row, j: usize) -> &[T] {
        self.inputs.v.row(row.b, self.key_head(row.h), j)
    }

    /// The cotangent of a row's `lse`; zero if none is given.
    #[inline]
    #[must_use]
    pub fn dlse(&self, row: Row) -> T {
        self.inputs.dlse.as_ref().map_or(T::zero(), |dlse| dlse.row(row.b, row.h, row.i)[0])
    }

    /// The biases of a row, `[Nk]`, broadcast.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::problem::{Inputs, Problem};
    /// let problem = sus_reference::problem::example();
    /// let keys = problem.sizes().keys;
    /// let bias = Some(sus_reference::tensor::Tensor::from_fn([1, 1, 1, keys], |[.., j]| j as f64));
    /// let with = Problem::new(problem.inputs().clone().with_bias(bias), problem.options().clone())?;
    /// // One row of biases serves all.
    /// let last = with.row(with.row_count() - 1);
    /// assert_eq!(with.bias(last), with.bias(with.row(0)));
    /// assert_eq!(with.bias(last).unwrap()[keys - 1], (keys - 1) as f64);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn bias(&self, row: Row) -> Option<&[T]> {
        self.inputs.bias.as_ref().map(|bias| {
            let Row { b, h, i } = bias_row(bias.shape(), row);
            bias.row(b, h, i)
        })
    }

    /// `-|i + Nk - Nq - j|`, by which the row's slope is multiplied.
    #[must_use]
    pub fn alibi_distance(&self, row: Row, j: usize) -> T {
        -integer::<T>(self.mask.distance(row.b, row.i, j).unsigned_abs())
    }

    /// The same problem over another ring; the numbers are converted by `f` and validated again.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a number leaves the range of `U`, one of the bias below it included: it would hide a key.
    pub fn map<U: Ring>(&self, f: impl Fn(T) -> U) -> Result<Problem<U>, Error> {
        let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes } = &self.inputs;
        let numbers = bias.as_ref().map_or(&[][..], Tensor::as_slice);
        if let Some(index) = numbers.iter().position(|&x| is_finite(x) && !is_finite(f(x))) {
            let found = format!("{:?}, which becomes {:?},", numbers[index], f(numbers[index]));
            return Err(Error::NotFinite { tensor: "bias", index, found });
        }
        let inputs = Inputs {
            q: q.map(&f),
            k: k.map(&f),
            v: v.map(&f),
            g: g.map(&f),
            dlse: dlse.as_ref().map(|x| x.map(&f)),
            bias: bias.as_ref().map(|x| x.map(&f)),
            sink: sink.as_ref().map(|x| x.iter().map(|&x| f(x)).collect()),
            alibi_slopes: alibi_slopes.as_ref().map(|x| x.map(&f)),
        };
        Problem::new(inputs, self.options.clone())
    }
}

impl<T: Scalar> Problem<T> {
    /// The factor of `q . k`: as given, or `1 / sqrt(D)` in the arithmetic of `T`.
    #[must_use]
    pub fn scale(&self) -> T {
        match self.options.scale {
            Some(scale) => T::from_f64(scale),
            None => T::one() / T::from_f64(self.sizes.features as f64).sqrt(),
        }
    }

    /// `Z_ij`, by which dropout multiplies a weight before its product with `v`: 0 or `1 / (1 - p)`; none without dropout.
    #[must_use]
    pub fn dropout(&self, row: Row, j: usize) -> Option<T> {
        let dropout = self.options.dropout.as_ref()?;
        let kept = self.keeps(row, j);
        Some(if kept { T::one() / (T::one() - T::from_f64(dropout.p)) } else { T::zero() })
    }

    /// The same problem in another scalar, each number rounded to it.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a number leaves the range of `U`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_reference::problem::example();
    /// let in_f32 = problem.cast::<f32>()?;
    /// assert_eq!(in_f32.inputs().q.as_slice()[0], problem.inputs().q.as_slice()[0] as f32);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn cast<U: Scalar>(&self) -> Result<Problem<U>, Error> {
        self.map(|x| U::from_f64(x.to_f64()))
    }
}

/// The number `n` in a ring, by doubling.
fn integer<T: Ring>(n: u64) -> T {
    let bits = (0..u64::BITS - n.leading_zeros()).rev();
    bits.fold(T::zero(), |sum, bit| {
        let double = sum + sum;
        if n >> bit & 1 == 1 { double + T::one() } else { double }
    })
}

/// The row of a bias of this shape that is added to `row`: an axis of length 1 is broadcast.
#[must_use]
pub fn bias_row(shape: [usize; 4], row: Row) -> Row {
    let at = |axis: usize, index: usize| if shape[axis] == 1 { 0 } else { index };
    Row { b: at(0, row.b), h: at(1, row.h), i: at(2, row.i) }
}
