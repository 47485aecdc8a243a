//! The forward pass: scores, the softmax's denominator and the output.
//!
//! Score order, as FlashAttention and Gemma have it: scale, then softcap, then bias and slopes, then mask:
//!
//! ```text
//! z_ij = scale q_i . k_j        s_ij = softcap tanh(z_ij / softcap) + bias_ij - slope |i + Nk - Nq - j|
//! lse_i = ln(sum_j exp(s_ij) + exp(sink))        W_ij = exp(s_ij - lse_i)        o_i = sum_j W_ij Z_ij v_j
//! ```
//!
//! With `bias_first`, `s_ij = softcap tanh((z_ij + bias_ij) / softcap)`. `Z` is 1 without dropout.

use crate::error::Error;
use crate::problem::{Problem, Row};
use crate::scalar::Scalar;
use crate::tensor::{Tensor, add_scaled, dot, is_finite};
use rayon::prelude::*;

/// The results of the forward pass that the backward pass reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved<T> {
    /// Output `[B, Hq, Nq, E]`.
    pub o: Tensor<T>,
    /// Natural logarithm of the softmax denominator, sink included, `[B, Hq, Nq, 1]`; `-inf` if a row sees no key and has
    /// no sink.
    pub lse: Tensor<T>,
}

impl<T: Scalar> Saved<T> {
    /// A forward pass from outside, such as a kernel's: the evaluation mode "given".
    ///
    /// # Errors
    /// [`Error::Shape`] if a shape is not the problem's; [`Error::NotFinite`] if a number is not finite. The `lse` of a
    /// row that sees no key may be an infinity of either sign, and is read as `-inf`. What stands in the padding is not read.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::forward::{Saved, forward};
    /// let problem = sus_reference::problem::example();
    /// let Saved { o, lse } = forward(&problem);
    /// let stored = Saved::given(&problem, o.map(|x| f64::from(x as f32)), lse)?;
    /// let error = Saved::given(&problem, stored.lse.clone(), stored.lse).unwrap_err();
    /// assert!(error.to_string().starts_with("tensor 'o': expected shape"));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn given(
        problem: &Problem<T>,
        mut o: Tensor<T>,
        mut lse: Tensor<T>,
    ) -> Result<Self, Error> {
        let sizes = problem.sizes();
        let rows = [sizes.batch, sizes.query_heads, sizes.queries];
        for (tensor, found, features) in
            [("o", o.shape(), sizes.value_features), ("lse", lse.shape(), 1)]
        {
            let expected = [rows[0], rows[1], rows[2], features];
            if found != expected {
                let expected = format!("{expected:?}");
                return Err(Error::Shape { tensor, expected, found: found.to_vec() });
            }
        }
        for (at, o) in o.as_mut_slice().chunks_mut(sizes.value_features).enumerate() {
            if problem.is_padding(problem.row(at)) {
                o.fill(T::zero());
            }
        }
        if let Some(index) = o.as_slice().iter().position(|&x| !is_finite(x)) {
            let found = format!("{:?}", o.as_slice()[index]);
            return Err(Error::NotFinite { tensor: "o", index, found });
        }
        for (index, x) in lse.as_mut_slice().iter_mut().enumerate() {
            let row = problem.row(index);
            let padding = problem.is_padding(row);
            let sees_nothing = problem.visible_keys(row) == 0 && problem.sink(row).is_none();
            if padding || (sees_nothing && !x.to_f64().is_nan()) {
                *x = T::from_f64(f64::NEG_INFINITY);
            } else if !is_finite(*x) {
                let found = format!("{:?}", *x);
                return Err(Error::NotFinite { tensor: "lse", index, found });
            }
        }
        Ok(Saved { o, lse })
    }

    /// The same numbers in another scalar.
    #[must_use]
    pub fn cast<U: Scalar>(&self) -> Saved<U> {
        let cast = |x: T| U::from_f64(x.to_f64());
        Saved { o: self.o.map(cast), lse: self.lse.map(cast) }
    }
}

/// A score and its derivative.
///
/// # Examples
/// ```
/// use sus_reference::forward::{Score, score};
/// use sus_reference::problem::{Inputs, Options, Problem};
/// use sus_reference::tensor::Tensor;
/// // q . k = 4 atanh(1/2) with a cap of 4: the score is half of the cap, the slope 1 - (1/2)^2.
/// let number = |name, x: f64| Tensor::new(name, [1, 1, 1, 1], &[x]);
/// let (q, k) = (number("q", 4.0)?, number("k", 0.5_f64.atanh())?);
/// let inputs = Inputs::new(q, k, number("v", 1.0)?, number("do", 1.0)?);
/// let problem = Problem::new(inputs, Options::default().with_softcap(4.0))?;
/// let Score { s, slope, .. } = score(&problem, problem.row(0), 0);
/// assert!((s - 2.0).abs() < 1e-14 && (slope - 0.75).abs() < 1e-14);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<T> {
    /// `s_ij`, after softcap and bias.
    pub s: T,
    /// `ds_ij / d(q_i . k_j)`: the scale times the softcap's derivative `1 - tanh^2(z / softcap)`.
    pub slope: T,
    /// `ds_ij / dbias_ij` where it is not 1: the softcap's derivative, if the bias comes before the softcap.
    pub bias_slope: Option<T>,
}

/// The score of one query and one key, whether the mask hides it or not; `-inf` if the bias hides it, and the slope, which
/// nothing reads, is the scale.
///
/// The softcap's derivative is computed as `sech^2`, without the cancellation of `1 - tanh^2`.
///
/// # Examples
/// ```
/// use sus_reference::problem::Row;
/// use sus_reference::forward::score;
/// use sus_reference::tensor::dot;
/// let problem = sus_reference::problem::example();
/// let row = Row { b: 0, h: 0, i: 1 };
/// let plain = problem.scale() * dot(problem.q(row), problem.k(row, 2));
/// assert_eq!(score(&problem, row, 2).s, plain); // no softcap, no bias
/// ```
#[must_use]
pub fn score<T: Scalar>(problem: &Problem<T>, row: Row, j: usize) -> Score<T> {
    let scale = problem.scale();
    if problem.hides(row, j) {
        return Score { s: T::from_f64(f64::NEG_INFINITY), slope: scale, bias_slope: None };
    }
    // z = scale q . k, then s = softcap tanh(z / softcap) + bias - slope distance.
    let z = scale * dot(problem.q(row), problem.k(row, j));
    let bias = problem.bias(row).map_or(T::zero(), |bias| bias[j]);
    let score = match problem.options().softcap {
        None => Score { s: z + bias, slope: scale, bias_slope: None },
        Some(cap) if problem.options().bias_first => {
            let cap = T::from_f64(cap);
            let y = (z + bias) / cap;
            let derivative = sech_squared(y);
            Score { s: cap * y.tanh(), slope: scale * derivative, bias_slope: Some(derivative) }
        }
        Some(cap) => {
            let cap = T::from_f64(cap);
            let slope = scale * sech_squared(z / cap);
            Score { s: cap * (z / cap).tanh() + bias, slope, bias_slope: None }
        }
    };
    match problem.alibi_slope(row) {
        None => score,
        Some(slope) => Score { s: score.s + slope * problem.alibi_distance(row, j), ..score },
    }
}

/// `1 / cosh^2 y = 4 e / (1 + e)^2` with `e = exp(-2 |y|)`.
fn sech_squared<T: Scalar>(y: T) -> T {
    // e <= 1 for either sign of y, so nothing overflows.
    let magnitude = if y < T::zero() { -y } else { y };
    let e = (-(magnitude + magnitude)).exp();
    let root = T::one() + e;
    T::from_f64(4.0) * e / (root * root)
}

/// The forward pass.
///
/// Sums run over the keys in ascending order; rows are independent, so the result does not depend on the number
/// of threads.
///
/// # Examples
/// ```
/// let problem = sus_reference::problem::example();
/// let saved = sus_reference::forward::forward(&problem);
/// assert_eq!(saved.o.shape(), problem.inputs().g.shape());
/// assert!(saved.lse.as_slice().iter().all(|lse| lse.is_finite()));
/// ```
#[must_use]
pub fn forward<T: Scalar>(problem: &Problem<T>) -> Saved<T> {
    let sizes = problem.sizes();
    let rows = [sizes.batch, sizes.query_heads, sizes.queries];
    let mut o = Tensor::zeros([rows[0], rows[1], rows[2], sizes.value_features]);
    let mut lse = Tensor::zeros([rows[0], rows[1], rows[2], 1]);
    o.as_mut_slice()
        .par_chunks_mut(sizes.value_features)
        .zip(lse.as_mut_slice())
        .enumerate()
        .for_each_init(Vec::new, |scores, (at, (o, lse))| {
            let row = problem.row(at);
            let visible = problem.visible(row);
            scores.clear();
            scores.extend(visible.clone().map(|j| score(problem, row, j).s));
            *lse = log_sum_exp(scores, problem.sink(row));
            // o_i = sum_j exp(s_ij - lse_i) Z_ij v_j; the sink has weight but no value.
            for (j, &s) in visible.zip(scores.iter()) {
                let w = (s - *lse).exp();
                let wz = problem.dropout(row, j).map_or(w, |z| w * z);
                add_scaled(o, wz, problem.v(row, j));
            }
        });
    Saved { o, lse }
}

/// `ln(sum exp(s) + exp(sink))`, shifted by the largest term so that nothing overflows; `-inf` without scores and sink.
///
/// The sum runs over the scores in order and adds the sink last.
#[must_use]
pub fn log_sum_exp<T: Scalar>(scores: &[T], sink: Option<T>) -> T {
    let least = T::from_f64(f64::NEG_INFINITY);
    let larger = |a: T, b: T| if b > a { b } else { a };
    let largest = sink.into_iter().chain(scores.iter().copied()).fold(least, larger);
    // No scores and no sink: the logarithm of an empty sum.
    if largest == least {
        return least;
    }
    let keys = scores.iter().fold(T::zero(), |sum, &s| sum + (s - largest).exp());
    let sink = sink.map_or(T::zero(), |sink| (sink - largest).exp());
    largest + (keys + sink).ln()
}
