//! The elementwise work on one row of a tile of scores.
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]

use super::simd::Real;
use pulp::Simd;
use std::ops::Range;
use sus_reference::problem::{Problem, Row};

/// Running sums and maxima of a row; a row of a tile is a whole number of them.
pub(super) const LANES: usize = 16;

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
    pub(super) fn apply<S: Simd>(&self, row: &mut [T], bias: Option<&[T]>) {
        match self.softcap {
            None => row.iter_mut().for_each(|x| *x *= self.scale),
            Some((cap, inverse)) => row.iter_mut().for_each(|x| {
                *x = cap * tanh_and_slope::<S, T>(self.scale * *x * inverse).0;
            }),
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

    /// Scores from products, in place.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, scoring: &Scoring<T>, row: &mut [T]) {
        match (self.bias, scoring.softcap) {
            (Some(bias), Some((cap, inverse))) if self.bias_first => {
                for (x, &bias) in row.iter_mut().zip(bias) {
                    let y = (scoring.scale * *x + bias) * inverse;
                    *x = cap * tanh_and_slope::<S, T>(y).0;
                }
            }
            (bias, _) => scoring.apply::<S>(row, bias),
        }
        if let Some((slope, first)) = self.slope {
            for (n, x) in row.iter_mut().enumerate() {
                *x -= slope * T::from_f64((first - n as i64).unsigned_abs() as f64);
            }
        }
    }

    /// The derivatives of the scores by the scaled products: 1, or the softcap's.
    #[inline(always)]
    fn derivatives<S: Simd>(&self, scoring: &Scoring<T>, products: &[T], derivatives: &mut [T]) {
        let Some((_, inverse)) = scoring.softcap else { return derivatives.fill(T::one()) };
        let bias = self.bias.filter(|_| self.bias_first).unwrap_or(&[]);
        let (with, without) = derivatives.split_at_mut(bias.len().min(products.len()));
        let (first, rest) = products.split_at(with.len());
        for ((derivative, &x), &bias) in with.iter_mut().zip(first).zip(bias) {
            *derivative = tanh_and_slope::<S, T>((scoring.scale * x + bias) * inverse).1;
        }
        for (derivative, &x) in without.iter_mut().zip(rest) {
            *derivative = tanh_and_slope::<S, T>(scoring.scale * x * inverse).1;
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

/// `tanh y` and `1 - tanh^2 y`, from `e = exp(-2|y|)`: `(1 - e) / (1 + e)` with the sign of `y`, and
/// `4 e / (1 + e)^2`. The absolute error of the first is below `8 u`, the relative error of the second below `16 u`.
#[inline(always)]
fn tanh_and_slope<S: Simd, T: Real>(y: T) -> (T, T) {
    let (one, zero) = (T::one(), T::zero());
    let magnitude = if y < zero { -y } else { y };
    let e = T::exp_fast::<S>(-(magnitude + magnitude));
    let inverse = one / (one + e);
    let tanh = (one - e) * inverse;
    let e = e * inverse * inverse;
    (if y < zero { -tanh } else { tanh }, e + e + (e + e))
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

/// `x <- exp(x - shift)` for each number of a row, and their sum, by lanes.
#[inline(always)]
pub(super) fn exponentials<S: Simd, T: Real>(row: &mut [T], shift: T) -> T {
    let mut lanes = [T::zero(); LANES];
    debug_assert!(row.len().is_multiple_of(LANES), "whole chunks");
    for chunk in row.as_chunks_mut::<LANES>().0 {
        for x in chunk.iter_mut() {
            *x -= shift;
        }
        *chunk = T::exponentials::<S, LANES>(*chunk);
        for (lane, &mut x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.into_iter().fold(T::zero(), |sum, x| sum + x)
}

/// The terms of one row that the backward pass needs beside its scores.
#[derive(Clone, Copy)]
pub(super) struct RowTerms<T> {
    pub(super) lse: T,
    /// `delta - dlse`.
    pub(super) delta: T,
}

/// From products `q . k` and `dP = G . v` to `W` and `dS slope`, both in place.
#[inline(always)]
pub(super) fn weights_and_slopes<S: Simd, T: Real>(
    scoring: &Scoring<T>,
    row: RowTerms<T>,
    products: &mut [T],
    dp: &mut [T],
) {
    weighed_and_slopes::<S, T>(scoring, row, |_, x| x - row.lse, |w| w, products, dp);
}

/// The same of kept entries: to `W~`, which is not below `least`, and `dS slope`. `addends` are added to the scores, if there are any.
#[inline(always)]
pub(super) fn kept_weights_and_slopes<S: Simd, T: Real>(
    scoring: &Scoring<T>,
    row: RowTerms<T>,
    (least, addends): (T, Option<&[T; LANES]>),
    products: &mut [T],
    dp: &mut [T],
) {
    let weighed = |w| if w < least { least } else { w };
    match addends {
        None => {
            let argument = |_, x| x - row.lse;
            weighed_and_slopes::<S, T>(scoring, row, argument, weighed, products, dp);
        }
        Some(addends) => {
            let argument = |n: usize, x| x + addends[n] - row.lse;
            weighed_and_slopes::<S, T>(scoring, row, argument, weighed, products, dp);
        }
    }
}

/// Weights and slopes; `argument` maps a number and its score without slopes to the argument of `exp`, and `weighed` a weight to the one
/// that counts.
#[inline(always)]
fn weighed_and_slopes<S: Simd, T: Real>(
    scoring: &Scoring<T>,
    row: RowTerms<T>,
    argument: impl Fn(usize, T) -> T,
    weighed: impl Fn(T) -> T,
    products: &mut [T],
    dp: &mut [T],
) {
    match scoring.softcap {
        None => {
            debug_assert!(products.len().is_multiple_of(LANES), "whole chunks");
            for (chunk, x) in products.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                for (n, x) in x.iter_mut().enumerate() {
                    *x = argument(chunk * LANES + n, scoring.scale * *x);
                }
                *x = T::exponentials::<S, LANES>(*x);
            }
            for (x, dp) in products.iter_mut().zip(dp) {
                *x = weighed(*x);
                *dp = *x * (*dp - row.delta) * scoring.scale;
            }
        }
        Some((cap, inverse)) => products.iter_mut().zip(dp).enumerate().for_each(|(n, (x, dp))| {
            let (tanh, slope) = tanh_and_slope::<S, T>(scoring.scale * *x * inverse);
            let w = weighed(T::exp_fast::<S>(argument(n, cap * tanh)));
            *x = w;
            *dp = w * (*dp - row.delta) * (slope * scoring.scale);
        }),
    }
}

/// From products `q . k` to `W`, in place, and the derivatives of the scores by the scaled products.
#[inline(always)]
pub(super) fn weights_and_derivatives<S: Simd, T: Real>(
    scoring: &Scoring<T>,
    lse: T,
    addends: &Addends<'_, T>,
    products: &mut [T],
    derivatives: &mut [T],
) {
    addends.derivatives::<S>(scoring, products, derivatives);
    addends.apply::<S>(scoring, products);
    exponentials::<S, T>(products, lse);
}
