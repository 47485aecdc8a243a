//! An attention problem: the inputs, the cotangents and the options, validated once.

mod example;
mod inputs;
mod validate;

pub use example::example;
pub use inputs::{Inputs, Options};
pub use validate::Sizes;

use crate::error::Error;
use crate::mask::Mask;
use crate::scalar::{Ring, Scalar};
use crate::tensor::{Tensor, is_finite};

/// A validated attention problem.
///
/// | field | shape |
/// |---|---|
/// | `q`, `k`, `v` | `[B,Hq,Nq,D]`, `[B,Hk,Nk,D]`, `[B,Hk,Nk,E]` |
/// | `g` | `[B,Hq,Nq,E]` |
/// | `dlse` | `[B,Hq,Nq,1]` |
/// | `bias` | `[B or 1, Hq or 1, Nq or 1, Nk]` |
/// | `sink` | `[Hq]` |
///
/// Query head `h` reads key head `h / (Hq / Hk)`. `B`, `Nq` and `Nk` may be 0. All numbers are finite, but for a `-inf` in the
/// bias, which hides the key.
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
    hides_keys: bool,
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
    pub fn new(inputs: Inputs<T>, options: Options) -> Result<Self, Error> {
        let sizes = validate::sizes_of(&inputs)?;
        let hides_keys = validate::check_numbers(&inputs)?;
        validate::check_options(&options)?;
        let mask = Mask::new(
            sizes.queries,
            sizes.keys,
            options.causal,
            options.alignment,
            options.window,
            options.segments.clone(),
        )?;
        Ok(Problem { inputs, options, sizes, mask, hides_keys })
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

    /// The keys that the options leave to each query. A `-inf` in the bias may hide some of them, see
    /// [`visible`](Problem::visible).
    #[must_use]
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Whether a `-inf` in the bias hides any key of any row.
    #[inline]
    #[must_use]
    pub fn hides_keys(&self) -> bool {
        self.hides_keys
    }

    /// Whether a `-inf` in the bias hides a key from a row.
    #[inline]
    #[must_use]
    pub fn hides(&self, row: Row, j: usize) -> bool {
        self.hides_keys && self.bias(row).is_some_and(|bias| !is_finite(bias[j]))
    }

    /// The keys that a row sees, ascending: those that the mask leaves to it and no `-inf` in the bias hides.
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
        let hidden = self.bias(row).filter(|_| self.hides_keys);
        let seen = move |j: &usize| hidden.is_none_or(|bias| is_finite(bias[*j]));
        self.mask.visible(row.i).filter(seen)
    }

    /// The number of keys that a row sees.
    #[must_use]
    pub fn visible_keys(&self, row: Row) -> usize {
        if self.hides_keys { self.visible(row).count() } else { self.mask.visible(row.i).len() }
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

    /// The same problem over another ring; the numbers are converted by `f` and validated again.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a number leaves the range of `U`, one of the bias below it included: it would hide a key.
    pub fn map<U: Ring>(&self, f: impl Fn(T) -> U) -> Result<Problem<U>, Error> {
        let Inputs { q, k, v, g, dlse, bias, sink } = &self.inputs;
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

/// The row of a bias of this shape that is added to `row`: an axis of length 1 is broadcast.
#[must_use]
pub fn bias_row(shape: [usize; 4], row: Row) -> Row {
    let at = |axis: usize, index: usize| if shape[axis] == 1 { 0 } else { index };
    Row { b: at(0, row.b), h: at(1, row.h), i: at(2, row.i) }
}
