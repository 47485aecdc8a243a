//! From a word to a decision: keep a weight or drop it.
//!
//! All comparisons are exact. With `q` in `[0, 1)` and a word `x`:
//!
//! - `q * 2^32` has no rounding error in `f64`: a multiplication by a power of two moves the exponent and
//!   leaves the significand, and it cannot overflow; a subnormal `q` only gains room.
//! - `x` as an `f64` has none either, since 32 bits fit into 53.
//!
//! So `x < q * 2^32` compares two exact numbers. A float made *from* `x` is not exact: `x as f32` drops 8 bits, and the
//! usual conversions to a uniform in `[0, 1)` drop 8 or 9, shift, or fold the sign. A kernel that compares such floats
//! draws another mask.
//!
//! # Bias
//!
//! The kept words are `0, 1, ..., ceil(q 2^32) - 1`, so
//!
//! ```text
//! P(keep) = ceil(q 2^32) / 2^32        0 <= P(keep) - q < 2^-32
//! ```
//!
//! A kept weight counts as `W/q`. Hence `E[W~] - W = (W/q) (P(keep) - q)`: zero where `q = 1`, and where
//! `q = c W < 1` it is below `2^-32 / c`, whatever `W`. It is never negative, and zero as soon as `q` is a
//! multiple of `2^-32`, which every `q >= 2^-9` that comes from an `f32` is. With the second word of
//! [`keep64`] the grid is `2^-64`, and the bias is below `2^-64 / c`.

use std::cmp::Ordering;

/// `2^32`.
const GRID: f64 = 4_294_967_296.0;

/// Whether word `x` keeps a weight of keep probability `q`: `q >= 1`, or `x < q * 2^32`, exactly.
///
/// `q <= 0` and NaN keep nothing.
///
/// ```
/// use sus_reference::sus::uniform::keep32;
/// assert!(keep32(0.25, 0x3fff_ffff) && !keep32(0.25, 0x4000_0000));
/// assert!(keep32(1.0, u32::MAX) && !keep32(0.0, 0) && !keep32(f64::NAN, 0));
/// assert!(keep32(1e-300, 0)); // P(keep) is ceil(q 2^32) / 2^32, here 2^-32
/// ```
#[must_use]
pub fn keep32(q: f64, x: u32) -> bool {
    q >= 1.0 || f64::from(x) < q * GRID
}

/// [`keep32`] on a grid of `2^-64`: whether `(x 2^32 + second) < q * 2^64`, exactly.
///
/// The second word is read only if `x` is the integer part of `q * 2^32`, with probability `2^-32`; it decides the
/// fraction. The fraction consists of the last bits of an exact product, so it and its product with `2^32` are exact,
/// too. As in [`keep32`], `q <= 0` and NaN keep nothing.
///
/// ```
/// use sus_reference::sus::uniform::keep64;
/// let q = (5.0 + 0.5) / 4_294_967_296.0;
/// assert!(keep64(q, 4, || unreachable!()) && !keep64(q, 6, || unreachable!()));
/// assert!(keep64(q, 5, || 0x7fff_ffff) && !keep64(q, 5, || 0x8000_0000));
/// ```
#[must_use]
pub fn keep64(q: f64, x: u32, second: impl FnOnce() -> u32) -> bool {
    if q >= 1.0 {
        return true;
    }
    let threshold = q * GRID;
    let floor = threshold as u32; // below 2^32, since q < 1; 0 for NaN and below zero
    match x.cmp(&floor) {
        Ordering::Less => true,
        Ordering::Equal => f64::from(second()) < (threshold - f64::from(floor)) * GRID,
        Ordering::Greater => false,
    }
}

/// The log factor on `s = c W` that changes the decision: `|ln(s 2^32 / x)|`.
///
/// It is infinite where no finite factor changes the decision: at `x = 0` with `s > 0` (always kept), and at `s <= 0` or
/// NaN (never kept). It ignores the steps of the grid, and serves to choose seeds; [`forced_decision`] tells whether a
/// decision is forced.
#[must_use]
pub fn margin(s: f64, x: u32) -> f64 {
    if s > 0.0 { libm::fabs(libm::log(s * GRID / f64::from(x))) } else { f64::INFINITY }
}

/// The decision that a kernel of limited precision must take for one weight, if there is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForcedDecision {
    /// Every kernel within the bound keeps it.
    MustKeep,
    /// Every kernel within the bound drops it.
    MustDrop,
    /// A kernel within the bound may keep or drop it.
    Ambiguous,
}

/// The decision that a kernel must take on word `x`, if its own `s = c W` errs by a factor of at most `e^±delta`, and its
/// threshold `s 2^32` by at most one step of the grid (a rounding to an integer, up or down):
///
/// ```text
/// must keep   if s e^-delta >= 1  or  x + 1 <= s e^-delta 2^32
/// must drop   if x - 1 >= s e^delta 2^32
/// ```
///
/// A weight whose `s` is zero (masked), negative or NaN must be dropped, as no factor makes it positive.
/// With `delta = 0` the conditions are exact; else `e^±delta` has a relative error of a few `2^-53`.
///
/// # Panics
///
/// If `delta` is negative, infinite or NaN.
///
/// ```
/// use sus_reference::sus::uniform::{ForcedDecision, forced_decision};
/// assert_eq!(forced_decision(0.5, 0x7fff_ffff, 0.0), ForcedDecision::MustKeep);
/// assert_eq!(forced_decision(0.5, 0x8000_0000, 0.0), ForcedDecision::Ambiguous); // one step from the threshold
/// assert_eq!(forced_decision(0.5, 0x8000_0001, 0.0), ForcedDecision::MustDrop);
/// assert_eq!(forced_decision(0.5, 0x8000_0001, 1e-6), ForcedDecision::Ambiguous);
/// ```
#[must_use]
pub fn forced_decision(s: f64, x: u32, delta: f64) -> ForcedDecision {
    assert!(delta >= 0.0 && delta.is_finite(), "delta: expected finite and >= 0, found {delta}");
    let x = f64::from(x);
    let (low, high) = (s * libm::exp(-delta), s * libm::exp(delta));
    // `low >= 1` implies the second condition: `low * 2^32` is above every word.
    if x + 1.0 <= low * GRID {
        ForcedDecision::MustKeep
    } else if s > 0.0 && x - 1.0 < high * GRID {
        ForcedDecision::Ambiguous
    } else {
        ForcedDecision::MustDrop
    }
}
