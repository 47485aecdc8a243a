//! The elementwise work on one row of a tile of scores.
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]

use super::exp;
use super::simd::Real;
use pulp::Simd;
use std::ops::Range;
use sus_reference::problem::{Problem, Row};

/// A row of a tile is a whole number of them, and they are a whole number of vectors.
pub(super) const LANES: usize = 16;

/// Vectors that are worked on together: the steps of an exponential depend on each other.
const TOGETHER: usize = 4;

/// How products `q . k` become scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scoring<T> {
    pub(super) scale: T,
    /// The softcap and its reciprocal.
    pub(super) softcap: Option<(T, T)>,
}

impl<T: Real> Scoring<T> {
    pub(super) fn new(scale: T, softcap: Option<f64>) -> Self {
        let cap = softcap.map(|cap| (T::from_f64(cap), T::from_f64(1.0 / cap)));
        Scoring { scale, softcap: cap }
    }

    /// Scores from products, in place; the bias is of the first keys of the row.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, simd: S, row: &mut [T], bias: Option<&[T]>) {
        match self.softcap {
            None => row.iter_mut().for_each(|x| *x *= self.scale),
            Some((cap, inverse)) => {
                for x in &mut *row {
                    *x = self.scale * *x * inverse;
                }
                softcapped(simd, cap, row);
            }
        }
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
        }
    }
}

/// What is added to the scores of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addends<'a, T> {
    /// The biases of the first keys.
    bias: Option<&'a [T]>,
    /// Whether the bias is added before the softcap.
    bias_first: bool,
    /// The slope, and `i + Nk - Nq - j` of the first key.
    slope: Option<(T, i64)>,
}

impl<'a, T: Real> Addends<'a, T> {
    /// Of the keys from `first` on.
    pub(super) fn of(problem: &'a Problem<T>, row: Row, keys: Range<usize>) -> Self {
        let first = keys.start;
        Addends {
            bias: problem.bias(row).map(|bias| &bias[keys]),
            bias_first: problem.options().bias_first,
            slope: problem
                .alibi_slope(row)
                .map(|slope| (slope, problem.mask().distance(row.b, row.i, first))),
        }
    }

    /// Scores from products, in place, of whole vectors.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, simd: S, scoring: &Scoring<T>, row: &mut [T]) {
        match (self.bias, scoring.softcap) {
            (Some(bias), Some((cap, inverse))) if self.bias_first => {
                for (x, &bias) in row.iter_mut().zip(bias) {
                    *x = (scoring.scale * *x + bias) * inverse;
                }
                softcapped(simd, cap, row);
            }
            (bias, _) => scoring.apply(simd, row, bias),
        }
        if let Some((slope, first)) = self.slope {
            for (n, x) in row.iter_mut().enumerate() {
                *x -= slope * T::from_f64((first - n as i64).unsigned_abs() as f64);
            }
        }
    }

    /// The derivatives of the scores by the scaled products, of whole vectors: 1, or the softcap's.
    #[inline(always)]
    fn derivatives<S: Simd>(
        &self,
        simd: S,
        scoring: &Scoring<T>,
        products: &[T],
        derivatives: &mut [T],
    ) {
        let Some((_, inverse)) = scoring.softcap else { return derivatives.fill(T::one()) };
        for (derivative, &x) in derivatives.iter_mut().zip(products) {
            *derivative = scoring.scale * x;
        }
        if let Some(bias) = self.bias.filter(|_| self.bias_first) {
            derivatives.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
        }
        for x in &mut *derivatives {
            *x *= inverse;
        }
        for x in T::vectors_mut::<S>(derivatives).0 {
            let [(_, derivative)] = tanh_and_derivative::<S, T, 1>(simd, [*x]);
            *x = derivative;
        }
    }
}

/// The numbers of a row times the factors of dropout, if there is any.
pub(super) fn drop_entries<T: Real>(
    problem: &Problem<T>,
    row: Row,
    keys: impl Iterator<Item = usize>,
    numbers: &mut [T],
) {
    if problem.options().dropout.is_none() {
        return;
    }
    for (x, j) in numbers.iter_mut().zip(keys) {
        *x *= problem.dropout(row, j).unwrap_or(T::one());
    }
}

/// `cap tanh x` of each number of whole vectors, in place.
#[inline(always)]
fn softcapped<S: Simd, T: Real>(simd: S, cap: T, row: &mut [T]) {
    let cap = T::splat(simd, cap);
    for x in T::vectors_mut::<S>(row).0 {
        let [(tanh, _)] = tanh_and_derivative::<S, T, 1>(simd, [*x]);
        *x = T::times(simd, cap, tanh);
    }
}

/// `tanh y` and `1 - tanh^2 y`, from `e = exp(-2|y|)`: `(1 - e) / (1 + e)` with the sign of `y`, and
/// `4 e / (1 + e)^2`. The absolute error of the first is below `8 u`, the relative error of the second below `16 u`.
#[inline(always)]
fn tanh_and_derivative<S: Simd, T: Real, const N: usize>(
    simd: S,
    y: [T::Vector<S>; N],
) -> [(T::Vector<S>, T::Vector<S>); N] {
    let [zero, one] = [T::zero(), T::one()].map(|x| T::splat(simd, x));
    let arguments = y.map(|y| {
        let least = T::smaller(simd, y, T::minus(simd, zero, y));
        T::plus(simd, least, least)
    });
    let mut e = exp::exponentials::<S, T, N>(simd, arguments).into_iter();
    y.map(|y| {
        let e = e.next().expect("as many");
        let inverse = T::over(simd, one, T::plus(simd, one, e));
        let tanh = T::times(simd, T::minus(simd, one, e), inverse);
        let quarter = T::times(simd, T::times(simd, e, inverse), inverse);
        let half = T::plus(simd, quarter, quarter);
        let negative = T::minus(simd, zero, tanh);
        (T::where_below(simd, [y, zero], negative, tanh), T::plus(simd, half, half))
    })
}

/// The largest number of a row.
#[inline(always)]
pub(super) fn largest<S: Simd, T: Real>(simd: S, row: &[T]) -> T {
    let (vectors, rest) = T::vectors::<S>(row);
    let (groups, others) = vectors.as_chunks::<4>();
    let mut most = [T::splat(simd, T::from_f64(f64::NEG_INFINITY)); 4];
    for group in groups {
        for (most, &x) in most.iter_mut().zip(group) {
            *most = T::larger(simd, *most, x);
        }
    }
    for &x in others {
        most[0] = T::larger(simd, most[0], x);
    }
    let [a, b, c, d] = most;
    let most = T::larger(simd, T::larger(simd, a, b), T::larger(simd, c, d));
    let mut largest = T::largest(simd, most);
    for &x in rest {
        largest = if x > largest { x } else { largest };
    }
    largest
}

/// `x <- exp(x - shift)` for each number of whole vectors, and their sum, by lanes.
#[inline(always)]
pub(super) fn exponentials<S: Simd, T: Real>(simd: S, row: &mut [T], shift: T) -> T {
    let shift = T::splat(simd, shift);
    let mut sums = [T::splat(simd, T::zero()); TOGETHER];
    let (groups, rest) = whole_vectors::<S, T>(row).as_chunks_mut::<TOGETHER>();
    for group in groups {
        *group = exp::exponentials::<S, T, TOGETHER>(simd, group.map(|x| T::minus(simd, x, shift)));
        for (sum, &x) in sums.iter_mut().zip(&*group) {
            *sum = T::plus(simd, *sum, x);
        }
    }
    for x in rest {
        [*x] = exp::exponentials::<S, T, 1>(simd, [T::minus(simd, *x, shift)]);
        sums[0] = T::plus(simd, sums[0], *x);
    }
    let [a, b, c, d] = sums;
    T::sum(simd, T::plus(simd, T::plus(simd, a, b), T::plus(simd, c, d)))
}

/// A row as vectors.
#[inline(always)]
fn whole_vectors<S: Simd, T: Real>(row: &mut [T]) -> &mut [T::Vector<S>] {
    let (vectors, rest) = T::vectors_mut::<S>(row);
    debug_assert!(rest.is_empty(), "whole vectors");
    vectors
}

/// The terms of one row that the backward pass needs beside its scores.
#[derive(Clone, Copy)]
pub(super) struct RowTerms<T> {
    pub(super) lse: T,
    /// `delta - dlse`.
    pub(super) delta: T,
}

/// From products `q . k` and `dP = G . v` to `W` and `dS` times the derivative of the score, both in place, of whole vectors. A weight is not below
/// `least`. `addends` are added to the scores, if there are any.
#[inline(always)]
pub(super) fn weights_and_slopes<S: Simd, T: Real>(
    simd: S,
    (scoring, row): (&Scoring<T>, RowTerms<T>),
    (least, addends): (T, Option<&[T; LANES]>),
    products: &mut [T],
    dp: &mut [T],
) {
    let kernel = Weighing::new(simd, scoring, row, least);
    let addends = addends.map(|addends| T::vectors::<S>(addends).0);
    let (products, rest) = whole_vectors::<S, T>(products).as_chunks_mut::<TOGETHER>();
    let (dp, rest_of_dp) = whole_vectors::<S, T>(dp).as_chunks_mut::<TOGETHER>();
    let done = products.len() * TOGETHER;
    for (n, (x, dp)) in products.iter_mut().zip(dp).enumerate() {
        kernel.run(simd, addends.map(|addends| &addends[n * TOGETHER..]), x, dp);
    }
    for (n, (x, dp)) in rest.iter_mut().zip(rest_of_dp).enumerate() {
        let addends = addends.map(|addends| &addends[done + n..]);
        kernel.run(simd, addends, std::array::from_mut(x), std::array::from_mut(dp));
    }
}

/// The terms of a row in all lanes.
struct Weighing<S: Simd, T: Real> {
    scale: T::Vector<S>,
    softcap: Option<[T::Vector<S>; 2]>,
    lse: T::Vector<S>,
    delta: T::Vector<S>,
    least: T::Vector<S>,
}

impl<S: Simd, T: Real> Weighing<S, T> {
    #[inline(always)]
    fn new(simd: S, scoring: &Scoring<T>, row: RowTerms<T>, least: T) -> Self {
        let spread = |x| T::splat(simd, x);
        Weighing {
            scale: spread(scoring.scale),
            softcap: scoring.softcap.map(|(cap, inverse)| [spread(cap), spread(inverse)]),
            lse: spread(row.lse),
            delta: spread(row.delta),
            least: spread(least),
        }
    }

    /// The weights and slopes of some vectors; the addends are those from the first of them on.
    #[inline(always)]
    fn run<const N: usize>(
        &self,
        simd: S,
        addends: Option<&[T::Vector<S>]>,
        products: &mut [T::Vector<S>; N],
        dp: &mut [T::Vector<S>; N],
    ) {
        let mut scores = products.map(|x| T::times(simd, self.scale, x));
        let mut derivatives = [self.scale; N];
        if let Some([cap, inverse]) = self.softcap {
            let arguments = scores.map(|x| T::times(simd, x, inverse));
            let capped = tanh_and_derivative::<S, T, N>(simd, arguments);
            for (n, (tanh, derivative)) in capped.into_iter().enumerate() {
                scores[n] = T::times(simd, cap, tanh);
                derivatives[n] = T::times(simd, derivative, self.scale);
            }
        }
        if let Some(addends) = addends {
            for (score, &addend) in scores.iter_mut().zip(addends) {
                *score = T::plus(simd, *score, addend);
            }
        }
        let arguments = scores.map(|score| T::minus(simd, score, self.lse));
        *products = exp::exponentials::<S, T, N>(simd, arguments);
        for ((w, dp), derivative) in products.iter_mut().zip(dp).zip(derivatives) {
            *w = T::larger(simd, *w, self.least);
            let ds = T::times(simd, *w, T::minus(simd, *dp, self.delta));
            *dp = T::times(simd, ds, derivative);
        }
    }
}

/// From products `q . k` to `W`, in place, and the derivatives of the scores by the scaled products, of whole vectors.
#[inline(always)]
pub(super) fn weights_and_derivatives<S: Simd, T: Real>(
    simd: S,
    scoring: &Scoring<T>,
    lse: T,
    addends: &Addends<'_, T>,
    products: &mut [T],
    derivatives: &mut [T],
) {
    addends.derivatives(simd, scoring, products, derivatives);
    addends.apply(simd, scoring, products);
    exponentials(simd, products, lse);
}
