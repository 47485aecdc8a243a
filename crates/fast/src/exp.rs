//! `e^x` by a polynomial, without branches or tables, of several vectors at a time, step by step: a step depends on the one before, and
//! its coefficient is loaded once for all of them.
//!
//! With `n` the integer nearest to `x / ln 2` and `r = x - n ln 2`, so `|r| < 0.347`:
//!
//! ```text
//! e^x = 2^n e^r,    e^r = 1 + r + r^2/2! + ... + r^K/K!,    K = 13 in f64, 7 in f32
//! ```
//!
//! # Error, relative
//!
//! - The series is cut at `r^(K+1)/(K+1)! / e^r`: below `0.347^14 / 14! * 1.42 = 6e-18` in f64 and
//!   `0.347^8 / 8! * 1.42 = 8e-9` in f32, `0.06 u` and `0.13 u`.
//! - `n ln2_high` is exact (its low bits are zeros), subtracting it from `x` is exact (Sterbenz) or rounds by `u |r|`, and so
//!   does subtracting `n ln2_low`: together below `0.7 u`.
//! - Horner's last two steps round by `u` and `0.35 u * 1.42`, or one each more without fused operations; the steps before
//!   add up to less than `0.2 u`.
//!
//! So below `2.5 u` fused and below `4 u` in any case ([`ERROR`]); `2^n` is exact.
//!
//! # Ends
//!
//! Below `-708.7` (f64) and `-87.6` (f32) the result is 0, where the true one is about to become subnormal; above `709.4`
//! and `88.3` it is infinite, less than half a power of two early. NaN gives 0; a NaN score is refused before.

use super::simd::Real;
use pulp::Simd;

/// Bound of the relative error, in units of the roundoff.
pub(super) const ERROR: f64 = 4.0;

/// The numbers of the polynomial in one type.
pub trait Series: Sized + 'static {
    /// `1 / K!, ..., 1 / 2!, 1, 1`.
    const COEFFICIENTS: &'static [Self];
    /// Adding it puts the nearest integer into the low bits.
    const SHIFTER: Self;
    /// `1 / ln 2`.
    const LOG2_E: Self;
    /// `-ln 2`, to as many bits as leave its product with `n` exact, and the rest of it.
    const MINUS_LN2: [Self; 2];
    /// The arguments between which the exponent of `2^n` is that of a number, of zero or of infinity.
    const ENDS: [Self; 2];
}

impl Series for f64 {
    const COEFFICIENTS: &'static [f64] = &[
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    const SHIFTER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const MINUS_LN2: [f64; 2] = [-6.931_471_803_691_238e-1, -1.908_214_929_270_587_7e-10]; // -0x3fe62e42fee00000
    const ENDS: [f64; 2] = [-709.0, 710.0];
}

impl Series for f32 {
    const COEFFICIENTS: &'static [f32] =
        &[1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    const SHIFTER: f32 = 12_582_912.0; // 1.5 * 2^23
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const MINUS_LN2: [f32; 2] = [-0.693_138_1, -9.058_001e-6]; // -0x3f317180
    const ENDS: [f32; 2] = [-88.0, 88.9];
}

/// `e^x` of each number of some vectors.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the vectors"
)]
pub(super) fn exponentials<S: Simd, T: Real, const N: usize>(
    simd: S,
    mut x: [T::Vector<S>; N],
) -> [T::Vector<S>; N] {
    let spread = |x| T::splat(simd, x);
    let [least, most] = T::ENDS.map(spread);
    let [high, low] = T::MINUS_LN2.map(spread);
    let (log2_e, shifter) = (spread(T::LOG2_E), spread(T::SHIFTER));
    let mut shifted = x;
    for (x, shifted) in x.iter_mut().zip(&mut shifted) {
        // NaN is not above the least number.
        *x = T::smaller(simd, T::where_below(simd, [least, *x], *x, least), most);
        *shifted = T::multiply_add(simd, *x, log2_e, shifter);
        let n = T::minus(simd, *shifted, shifter);
        *x = T::multiply_add(simd, n, low, T::multiply_add(simd, n, high, *x));
    }
    let mut sums = [spread(T::COEFFICIENTS[0]); N];
    for &coefficient in &T::COEFFICIENTS[1..] {
        let coefficient = spread(coefficient);
        for (sum, &r) in sums.iter_mut().zip(&x) {
            *sum = T::multiply_add(simd, *sum, r, coefficient);
        }
    }
    for (sum, shifted) in sums.iter_mut().zip(shifted) {
        *sum = T::times(simd, *sum, T::power_of_two(simd, shifted));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::simd::Dispatch;
    use super::*;
    use pulp::WithSimd;
    use sus_reference::scalar::{Dd, Scalar};

    /// `e^x` of some numbers, in place.
    struct Exponentials<'a, T>(&'a mut [T]);

    impl<T: Real> WithSimd for Exponentials<'_, T> {
        type Output = ();

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "as above")]
        fn with_simd<S: Simd>(self, simd: S) {
            let (groups, rest) = T::vectors_mut::<S>(self.0).0.as_chunks_mut::<4>();
            for group in groups {
                *group = exponentials::<S, T, 4>(simd, *group);
            }
            for x in rest {
                [*x] = exponentials::<S, T, 1>(simd, [*x]);
            }
        }
    }

    /// `e^x` with each kind of vectors.
    fn exp<T: Real>(x: &[T]) -> [Vec<T>; 3] {
        Dispatch::ALL.map(|dispatch| {
            // Whole vectors; what fills them up is not read.
            let mut all = x.to_vec();
            all.resize(x.len().next_multiple_of(64) + 16, T::one());
            dispatch.run(Exponentials(&mut all));
            all.truncate(x.len());
            all
        })
    }

    /// The largest relative errors over a grid, in units of `u`, with each kind of vectors.
    fn worst<T: Real>(from: f64, to: f64) -> [f64; 3] {
        let at = |n| T::from_f64(from + (to - from) * f64::from(n) / 200_000.0);
        let x: Vec<T> = (0..200_000).map(at).collect();
        exp(&x).map(|exp| {
            let errors = x.iter().zip(exp).map(|(x, exp)| {
                let truth = Dd::from_f64(x.to_f64()).exp();
                ((Dd::from_f64(exp.to_f64()) - truth) / truth).to_f64().abs() / T::ROUNDOFF
            });
            errors.fold(0.0, f64::max)
        })
    }

    #[test]
    fn the_error_is_below_its_bound_and_not_absent() {
        for errors in [
            worst::<f64>(-708.0, 709.0),
            worst::<f64>(-1.0, 1.0),
            worst::<f32>(-87.0, 88.0),
            worst::<f32>(-1.0, 1.0),
        ] {
            for (dispatch, error) in Dispatch::ALL.into_iter().zip(errors) {
                let instructions = dispatch.instructions();
                let bound = if instructions == "portable" { ERROR } else { 2.5 };
                assert!((0.5..bound).contains(&error), "{instructions}: {error} u");
            }
        }
    }

    #[test]
    fn the_ends_and_no_number_are_zero_or_infinite_and_zero_gives_one() {
        assert!(exp(&[f64::NAN]).iter().all(|got| got == &[0.0]));
        assert!(exp(&[f32::NAN]).iter().all(|got| got == &[0.0]));
        for got in exp(&[f64::NEG_INFINITY, -1e300, -709.0, 0.0, -0.0, 710.0, 1e300, f64::INFINITY])
        {
            assert_eq!(got, [0.0, 0.0, 0.0, 1.0, 1.0, f64::INFINITY, f64::INFINITY, f64::INFINITY]);
        }
        for got in exp(&[f32::NEG_INFINITY, -1e30, -88.0, 0.0, -0.0, 88.9, 1e30, f32::INFINITY]) {
            assert_eq!(got, [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY]);
        }
    }
}
