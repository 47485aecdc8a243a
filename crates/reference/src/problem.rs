//! An attention problem: the inputs, the cotangents and the options, validated once.

use crate::error::Error;
use crate::mask::{Alignment, Mask, Segments, Window};
use crate::scalar::{Ring, Scalar};
use crate::setters;
use crate::tensor::{Tensor, is_finite};

/// The tensors of a problem, not yet validated. Shapes as in [`Problem`].
///
/// # Examples
/// ```
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// let one = Tensor::new("q", [1, 1, 1, 1], &[2.0_f64])?;
/// let inputs = Inputs::new(one.clone(), one.clone(), one.clone(), one).with_sink(vec![4.0]);
/// // The score 2 * 2 and the sink 4 are equal: the key has half of the weight.
/// let problem = Problem::new(inputs, Options::default())?;
/// assert!((sus_reference::forward::forward(&problem).o.as_slice()[0] - 1.0).abs() < 1e-15);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inputs<T> {
    /// Queries `[B, Hq, Nq, D]`.
    pub q: Tensor<T>,
    /// Keys `[B, Hk, Nk, D]`.
    pub k: Tensor<T>,
    /// Values `[B, Hk, Nk, E]`.
    pub v: Tensor<T>,
    /// Cotangent of `o`, `[B, Hq, Nq, E]`; `do` in the files, `G` in the equations.
    pub g: Tensor<T>,
    /// Cotangent of `lse`, `[B, Hq, Nq, 1]`.
    pub dlse: Option<Tensor<T>>,
    /// Added to the scores, `[B or 1, Hq or 1, Nq or 1, Nk]`.
    pub bias: Option<Tensor<T>>,
    /// One logit per query head, `[Hq]`, that takes part in the softmax and carries no value.
    pub sink: Option<Vec<T>>,
}

impl<T> Inputs<T> {
    /// The four tensors that every problem has.
    #[must_use]
    pub fn new(q: Tensor<T>, k: Tensor<T>, v: Tensor<T>, g: Tensor<T>) -> Self {
        Inputs { q, k, v, g, dlse: None, bias: None, sink: None }
    }
}

setters! { Inputs<T>, [T];
    with_q(q: Tensor<T>);
    with_k(k: Tensor<T>);
    with_v(v: Tensor<T>);
    with_g(g: Tensor<T>);
    with_dlse(dlse: Option<Tensor<T>>);
    with_bias(bias: Option<Tensor<T>>);
    with_sink(sink: Option<Vec<T>>);
}

/// The options of a problem.
///
/// # Examples
/// ```
/// use sus_reference::mask::Window;
/// use sus_reference::problem::Options;
/// let window = Some(Window { left: Some(128), right: None });
/// let options = Options::default().with_causal(true).with_window(window).with_softcap(50.0);
/// assert_eq!(options.scale, None); // 1 / sqrt(D)
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Options {
    /// Factor of `q . k`; `None` is `1 / sqrt(D)`.
    pub scale: Option<f64>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// A query sees no key after its diagonal.
    pub causal: bool,
    /// Where the diagonal lies.
    pub alignment: Alignment,
    /// How far a query sees from its diagonal.
    pub window: Option<Window>,
    /// Packed sequences.
    pub segments: Option<Segments>,
}

setters! { Options, [];
    with_scale(scale: Option<f64>);
    with_softcap(softcap: Option<f64>);
    with_causal(causal: bool);
    with_alignment(alignment: Alignment);
    with_window(window: Option<Window>);
    with_segments(segments: Option<Segments>);
}

/// The sizes of a problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let sizes = problem.sizes();
/// assert_eq!(sizes.query_heads % sizes.key_heads, 0);
/// assert_eq!(problem.inputs().q.shape(), [sizes.batch, sizes.query_heads, sizes.queries, sizes.features]);
/// assert_eq!(problem.inputs().v.shape(), [sizes.batch, sizes.key_heads, sizes.keys, sizes.value_features]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// `B`.
    pub batch: usize,
    /// `Hq`.
    pub query_heads: usize,
    /// `Hk`, a divisor of `Hq`.
    pub key_heads: usize,
    /// `Nq`.
    pub queries: usize,
    /// `Nk`.
    pub keys: usize,
    /// `D`, the features of a query and of a key.
    pub features: usize,
    /// `E`, the features of a value.
    pub value_features: usize,
}

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
/// Query head `h` reads key head `h / (Hq / Hk)`. `B`, `Nq` and `Nk` may be 0.
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
}

/// One row of the score matrix: query `i` of query head `h` of sequence `b`.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::problem::Row;
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
        let sizes = sizes_of(&inputs)?;
        check_finite(&inputs)?;
        check_options(&options)?;
        let mask = Mask::new(
            sizes.queries,
            sizes.keys,
            options.causal,
            options.alignment,
            options.window,
            options.segments.clone(),
        )?;
        Ok(Problem { inputs, options, sizes, mask })
    }

    /// The tensors.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.inputs().g.shape()[..3], problem.inputs().q.shape()[..3]);
    /// ```
    #[must_use]
    pub fn inputs(&self) -> &Inputs<T> {
        &self.inputs
    }

    /// The options as given.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::problem::{Options, Problem};
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
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let sizes = problem.sizes();
    /// assert_eq!(problem.row_count(), sizes.batch * sizes.query_heads * sizes.queries);
    /// ```
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Which keys a query sees.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::problem::{Options, Problem};
    /// let causal = Options::default().with_causal(true);
    /// let problem = Problem::new(problem.inputs().clone(), causal)?;
    /// let last = problem.sizes().queries - 1;
    /// assert_eq!(problem.mask().visible(last).end, problem.sizes().keys);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Number of rows `B Hq Nq`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.row_count() * problem.sizes().features, problem.inputs().q.as_slice().len());
    /// ```
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.sizes.batch * self.sizes.query_heads * self.sizes.queries
    }

    /// The row with number `at` in `(b, h, i)` order.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::problem::Row;
    /// assert_eq!(problem.row(1), Row { b: 0, h: 0, i: 1 });
    /// ```
    #[must_use]
    pub fn row(&self, at: usize) -> Row {
        let Sizes { query_heads, queries, .. } = self.sizes;
        let (head, i) = (at / queries, at % queries);
        Row { b: head / query_heads, h: head % query_heads, i }
    }

    /// The number of a row in `(b, h, i)` order.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.row_number(problem.row(7)), 7);
    /// ```
    #[must_use]
    pub fn row_number(&self, Row { b, h, i }: Row) -> usize {
        (b * self.sizes.query_heads + h) * self.sizes.queries + i
    }

    /// The key head that query head `h` reads.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let heads = problem.sizes().query_heads;
    /// assert_eq!(problem.key_head(0), 0);
    /// assert_eq!(problem.key_head(heads - 1), problem.sizes().key_heads - 1);
    /// ```
    #[inline]
    #[must_use]
    pub fn key_head(&self, h: usize) -> usize {
        h / self.group()
    }

    /// Query heads per key head, `Hq / Hk`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.group() * problem.sizes().key_heads, problem.sizes().query_heads);
    /// ```
    #[inline]
    #[must_use]
    pub fn group(&self) -> usize {
        self.sizes.query_heads / self.sizes.key_heads
    }

    /// The `q` of a row.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.q(problem.row(0)), &problem.inputs().q.as_slice()[..problem.sizes().features]);
    /// ```
    #[inline]
    #[must_use]
    pub fn q(&self, row: Row) -> &[T] {
        self.inputs.q.row(row.b, row.h, row.i)
    }

    /// The `G` of a row.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// assert_eq!(problem.g(problem.row(0)), &problem.inputs().g.as_slice()[..problem.sizes().value_features]);
    /// ```
    #[inline]
    #[must_use]
    pub fn g(&self, row: Row) -> &[T] {
        self.inputs.g.row(row.b, row.h, row.i)
    }

    /// The key `j` that a row reads.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let row = problem.row(problem.row_count() - 1);
    /// let head = problem.sizes().key_heads - 1; // not that of the query
    /// assert_eq!(problem.k(row, 1), problem.inputs().k.row(row.b, head, 1));
    /// ```
    #[inline]
    #[must_use]
    pub fn k(&self, row: Row, j: usize) -> &[T] {
        self.inputs.k.row(row.b, self.key_head(row.h), j)
    }

    /// The value `j` that a row reads.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let row = problem.row(problem.row_count() - 1);
    /// let head = problem.sizes().key_heads - 1;
    /// assert_eq!(problem.v(row, 1), problem.inputs().v.row(row.b, head, 1));
    /// ```
    #[inline]
    #[must_use]
    pub fn v(&self, row: Row, j: usize) -> &[T] {
        self.inputs.v.row(row.b, self.key_head(row.h), j)
    }

    /// The cotangent of a row's `lse`; zero if none is given.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::problem::{Inputs, Problem};
    /// let [b, h, i, _] = problem.inputs().q.shape();
    /// let dlse = Some(sus_reference::tensor::Tensor::from_fn([b, h, i, 1], |[.., i, _]| i as f64));
    /// let with = Problem::new(problem.inputs().clone().with_dlse(dlse), problem.options().clone())?;
    /// assert_eq!(with.dlse(with.row(1)), 1.0);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn dlse(&self, row: Row) -> T {
        self.inputs.dlse.as_ref().map_or(T::zero(), |dlse| dlse.row(row.b, row.h, row.i)[0])
    }

    /// The biases of a row, `[Nk]`, broadcast.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_reference::problem::{Inputs, Problem};
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
    /// [`Error::NotFinite`] if a number leaves the range of `U`.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let doubled = problem.map(|x| 2.0 * x)?;
    /// assert_eq!(doubled.inputs().v.as_slice()[0], 2.0 * problem.inputs().v.as_slice()[0]);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn map<U: Ring>(&self, f: impl Fn(T) -> U) -> Result<Problem<U>, Error> {
        let Inputs { q, k, v, g, dlse, bias, sink } = &self.inputs;
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
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let features = problem.sizes().features as f64;
    /// assert!((problem.scale() * features.sqrt() - 1.0).abs() < 1e-15);
    /// ```
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
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let in_f32 = problem.cast::<f32>()?;
    /// assert_eq!(in_f32.inputs().q.as_slice()[0], problem.inputs().q.as_slice()[0] as f32);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn cast<U: Scalar>(&self) -> Result<Problem<U>, Error> {
        self.map(|x| U::from_f64(x.to_f64()))
    }
}

/// The row of a broadcast bias of this shape that serves `row`: an axis of length 1 serves every index.
pub fn bias_row(shape: [usize; 4], row: Row) -> Row {
    let at = |axis: usize, index: usize| if shape[axis] == 1 { 0 } else { index };
    Row { b: at(0, row.b), h: at(1, row.h), i: at(2, row.i) }
}

/// Reads the sizes off `q` and `v` and holds every other shape against them.
fn sizes_of<T: Ring>(inputs: &Inputs<T>) -> Result<Sizes, Error> {
    let [batch, query_heads, queries, features] = inputs.q.shape();
    let [_, key_heads, keys, value_features] = inputs.v.shape();
    let shape = |tensor, legal: bool, expected: String, found: &[usize]| {
        if legal { Ok(()) } else { Err(Error::Shape { tensor, expected, found: found.to_vec() }) }
    };
    let q = inputs.q.shape();
    shape("q", query_heads > 0 && features > 0, "[B, Hq >= 1, Nq, D >= 1]".into(), &q)?;
    let v = inputs.v.shape();
    let legal = v[0] == batch && key_heads > 0 && value_features > 0;
    shape("v", legal, format!("[{batch}, Hk >= 1, Nk, E >= 1]"), &v)?;
    let exact = |tensor, expected: [usize; 4], found: [usize; 4]| {
        shape(tensor, expected == found, format!("{expected:?}"), &found)
    };
    exact("k", [batch, key_heads, keys, features], inputs.k.shape())?;
    exact("do", [batch, query_heads, queries, value_features], inputs.g.shape())?;
    if query_heads % key_heads != 0 {
        return Err(Error::Group { query_heads, key_heads });
    }
    if let Some(dlse) = &inputs.dlse {
        exact("dlse", [batch, query_heads, queries, 1], dlse.shape())?;
    }
    if let Some(bias) = &inputs.bias {
        let found = bias.shape();
        let full = [batch, query_heads, queries, keys];
        let legal = found[3] == keys && (0..3).all(|a| found[a] == 1 || found[a] == full[a]);
        let [b, h, i, j] = full;
        shape("bias", legal, format!("[{b} or 1, {h} or 1, {i} or 1, {j}]"), &found)?;
    }
    if let Some(sink) = &inputs.sink {
        shape("sink", sink.len() == query_heads, format!("[{query_heads}]"), &[sink.len()])?;
    }
    Ok(Sizes { batch, query_heads, key_heads, queries, keys, features, value_features })
}

/// Every number is finite.
fn check_finite<T: Ring>(inputs: &Inputs<T>) -> Result<(), Error> {
    let check = |tensor, data: &[T]| match data.iter().position(|&x| !is_finite(x)) {
        Some(index) => Err(Error::NotFinite { tensor, index, found: format!("{:?}", data[index]) }),
        None => Ok(()),
    };
    check("q", inputs.q.as_slice())?;
    check("k", inputs.k.as_slice())?;
    check("v", inputs.v.as_slice())?;
    check("do", inputs.g.as_slice())?;
    check("dlse", inputs.dlse.as_ref().map_or(&[], Tensor::as_slice))?;
    check("bias", inputs.bias.as_ref().map_or(&[], Tensor::as_slice))?;
    check("sink", inputs.sink.as_deref().unwrap_or(&[]))
}

/// The scale is a number, the softcap a positive one.
fn check_options(options: &Options) -> Result<(), Error> {
    match options.scale {
        Some(scale) if !scale.is_finite() => {
            return Err(Error::option("scale", "a finite number", scale));
        }
        _ => {}
    }
    match options.softcap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => {
            Err(Error::option("softcap", "a finite number above 0", cap))
        }
        _ => Ok(()),
    }
}
