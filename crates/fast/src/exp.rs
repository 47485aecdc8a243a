//! `e^x` by a polynomial, without branches or tables, so that the compiler turns it into vectors: of several numbers at a time, step
//! by step: a step depends on the one before, and its coefficient is loaded once for all of them.
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

/// Bound of the relative error, in units of the roundoff.
pub(super) const ERROR: f64 = 4.0;

/// `1 / 13!, ..., 1 / 2!, 1, 1`.
const COEFFICIENTS_F64: [f64; 14] = [
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

/// `1 / 7!, ..., 1 / 2!, 1, 1`.
const COEFFICIENTS_F32: [f32; 8] =
    [1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// `e^x` of each number; `fused` is `a b + c`, fused or not.
#[inline(always)]
pub(super) fn exp_f64<const N: usize>(
    mut x: [f64; N],
    fused: impl Fn(f64, f64, f64) -> f64,
) -> [f64; N] {
    /// Adding it puts the nearest integer into the low bits.
    const SHIFTER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1; // 0x3fe62e42fee00000
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const LEAST: f64 = -709.0;
    const MOST: f64 = 710.0;
    let [first, rest @ ..] = COEFFICIENTS_F64;
    let mut shifted = [0.0; N];
    for (x, shifted) in x.iter_mut().zip(&mut shifted) {
        *x = if *x > LEAST { *x } else { LEAST };
        *x = if *x < MOST { *x } else { MOST };
        *shifted = fused(*x, std::f64::consts::LOG2_E, SHIFTER);
        let n = *shifted - SHIFTER;
        *x = fused(n, -LN2_LOW, fused(n, -LN2_HIGH, *x));
    }
    let mut sum = [first; N];
    for coefficient in rest {
        for (sum, &r) in sum.iter_mut().zip(&x) {
            *sum = fused(*sum, r, coefficient);
        }
    }
    // The exponent field of 2^n: 0 for n = -1023, which is zero; 2047 for n = 1024, which is infinity.
    for (sum, shifted) in sum.iter_mut().zip(shifted) {
        *sum *= f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    }
    sum
}

/// `e^x` of each number; `fused` is `a b + c`, fused or not.
#[inline(always)]
pub(super) fn exp_f32<const N: usize>(
    mut x: [f32; N],
    fused: impl Fn(f32, f32, f32) -> f32,
) -> [f32; N] {
    const SHIFTER: f32 = 12_582_912.0; // 1.5 * 2^23
    const LN2_HIGH: f32 = 0.693_138_1; // 0x3f317180
    const LN2_LOW: f32 = 9.058_001e-6;
    const LEAST: f32 = -88.0;
    const MOST: f32 = 88.9;
    let [first, rest @ ..] = COEFFICIENTS_F32;
    let mut shifted = [0.0; N];
    for (x, shifted) in x.iter_mut().zip(&mut shifted) {
        *x = if *x > LEAST { *x } else { LEAST };
        *x = if *x < MOST { *x } else { MOST };
        *shifted = fused(*x, std::f32::consts::LOG2_E, SHIFTER);
        let n = *shifted - SHIFTER;
        *x = fused(n, -LN2_LOW, fused(n, -LN2_HIGH, *x));
    }
    let mut sum = [first; N];
    for coefficient in rest {
        for (sum, &r) in sum.iter_mut().zip(&x) {
            *sum = fused(*sum, r, coefficient);
        }
    }
    // The exponent field of 2^n: 0 for n = -1023, which is zero; 2047 for n = 1024, which is infinity.
    for (sum, shifted) in sum.iter_mut().zip(shifted) {
        *sum *= f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use sus_reference::scalar::{Dd, Scalar};

    /// The largest relative error over a grid, in units of `u`.
    fn worst(
        exp: impl Fn(f64) -> f64,
        u: f64,
        from: f64,
        to: f64,
        round: impl Fn(f64) -> f64,
    ) -> f64 {
        (0..200_000)
            .map(|n| round(from + (to - from) * f64::from(n) / 200_000.0))
            .map(|x| {
                let truth = Dd::from_f64(x).exp();
                ((Dd::from_f64(exp(x)) - truth) / truth).to_f64().abs() / u
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn the_error_in_f64_is_below_its_bound_and_not_absent() {
        let u = f64::EPSILON / 2.0;
        for (from, to) in [(-708.0, 709.0), (-1.0, 1.0)] {
            let fused = worst(|x| exp_f64([x], f64::mul_add)[0], u, from, to, |x| x);
            let portable = worst(|x| exp_f64([x], |a, b, c| a * b + c)[0], u, from, to, |x| x);
            assert!((0.5..2.5).contains(&fused), "fused: {fused} u");
            assert!((0.5..ERROR).contains(&portable), "portable: {portable} u");
        }
    }

    #[test]
    fn the_error_in_f32_is_below_its_bound_and_not_absent() {
        let u = f64::from(f32::EPSILON) / 2.0;
        for (from, to) in [(-87.0, 88.0), (-1.0, 1.0)] {
            let round = |x: f64| f64::from(x as f32);
            let fused = worst(|x| exp_f32([x as f32], f32::mul_add)[0].into(), u, from, to, round);
            let portable =
                worst(|x| exp_f32([x as f32], |a, b, c| a * b + c)[0].into(), u, from, to, round);
            assert!((0.5..2.5).contains(&fused), "fused: {fused} u");
            assert!((0.5..ERROR).contains(&portable), "portable: {portable} u");
        }
    }

    #[test]
    fn the_ends_are_zero_and_infinite_and_zero_gives_one() {
        for x in [f64::NEG_INFINITY, -1e300, -709.0] {
            assert_eq!(exp_f64([x], f64::mul_add), [0.0]);
        }
        for x in [710.0, 1e300, f64::INFINITY] {
            assert_eq!(exp_f64([x], f64::mul_add), [f64::INFINITY]);
        }
        for x in [f32::NEG_INFINITY, -1e30, -88.0] {
            assert_eq!(exp_f32([x], f32::mul_add), [0.0]);
        }
        for x in [88.9, 1e30, f32::INFINITY] {
            assert_eq!(exp_f32([x], f32::mul_add), [f32::INFINITY]);
        }
        assert_eq!((exp_f64([0.0], f64::mul_add), exp_f32([-0.0], f32::mul_add)), ([1.0], [1.0]));
    }
}
