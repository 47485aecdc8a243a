//! `exp`, `exp_m1`, `ln`, `tanh` and `sqrt` of [`Dd`].
//!
//! Everything rests on one argument reduction, `x = n ln(2)/64 + s`, and one polynomial, `e^s - 1` for
//! `|s| <= ln(2)/128`. The bounds count in units of `u² = 2^-106` and use those of the four operations (3 for
//! a sum, 5 for a product, 15 for a quotient); terms of third order are left out, the totals rounded up.

use super::Dd;
use super::arithmetic::{fast_two_sum, power_of_two, times_power, two_prod, two_sum};
use super::table::{EXP2_M1, INVERSE_FACTORIALS, INVERSE_FACTORIALS_F64, LN_2_BY_64};

const ONE: Dd = Dd::new(1.0);
const HALF: Dd = Dd::new(0.5);

/// `e^x`, with a relative error below `7u²`.
///
/// `e^x = 2^k (T + T q)`, `T = 2^(j/64)`, `q = e^s - 1`. `T` carries the rounding of its table entry (0.2)
/// and of `1 +` (3); `T q`, at most 0.0055 `T`, adds 0.2; the last sum 3; the reduction 0.02.
pub(super) fn exp(x: Dd) -> Dd {
    // ln(2^1024) = 709.7827..., ln(2^-1075) = -745.1332...
    if x.hi > 709.79 {
        return Dd::new(f64::INFINITY);
    }
    if x.hi < -745.2 {
        return Dd::new(0.0);
    }
    if x.is_nan() {
        return x;
    }
    let Reduced { k, t_m1, s } = reduce(x);
    let t = ONE + t_m1;
    times_two_to(t + t * exp_m1_near_zero(s), k)
}

/// `e^x - 1`, with a relative error below `28u²`, and below `21u²` for `|x| < 0.34`.
///
/// With `k = 0` it is `(T - 1) + T q`, where `T - 1` comes from the table (0.5) without cancellation. At
/// worst `T - 1` is twice and `T q` once the result, so 2 * 0.5 + (6.2 + 5 + 3) + 3. For other `k` it is
/// `e^x - 1`, where `e^x` is at most 3.5 times the result: 3.5 * 7 + 3.
pub(super) fn exp_m1(x: Dd) -> Dd {
    if x.hi.abs() < 0.5 {
        let Reduced { k, t_m1, s } = reduce(x);
        if k == 0 {
            return t_m1 + (ONE + t_m1) * exp_m1_near_zero(s);
        }
    }
    exp(x) - ONE
}

/// `tanh x`, with a relative error below `43u²`.
///
/// With `e = exp_m1(-2|x|)` it is `-e / (e + 2)`, up to the sign. There is nothing to cancel for small `x`
/// and nothing to overflow for large. An error of `e` counts `2 / (e + 2)` times: at most 25. The sum adds 3,
/// the quotient 15.
pub(super) fn tanh(x: Dd) -> Dd {
    let e = exp_m1(times_power(x.abs(), -2.0));
    let t = -e / (e + Dd::new(2.0));
    if x.hi < 0.0 { -t } else { t }
}

/// `ln x`, with a relative error below `42u²`; `-inf` at 0 and NaN below.
///
/// `x = 2^k m` with `m` in `[√½, √2]`, and `y = ln(m)` solves `e^y = m`. From `y0`, the `f64` logarithm,
/// Halley's step is `y0 + 2(m - e^y0) / (m + e^y0)`, taken with `m - 1` and `e^y0 - 1` for the difference,
/// so that it stays accurate for `m` close to 1. The method's own error is `(y - y0)³ / 12`, below `2^-160`.
///
/// The two differences from 1 carry 3 and 21, and count up to 1.2 times in `y`: 29. The step itself, never
/// more than a quarter of `y` unless `y0 = 0` and the difference is exact, adds 5, the sum 3. With `k ≠ 0`,
/// `y` is at most the result in size, and `k ln 2` (one rounding, counting twice) and the last sum add 5.
pub(super) fn ln(x: Dd) -> Dd {
    if x.hi <= 0.0 || !x.is_finite() {
        return Dd::new(match x.hi {
            0.0 => f64::NEG_INFINITY,
            f64::INFINITY => f64::INFINITY,
            _ => f64::NAN,
        });
    }
    let (m, k) = mantissa_and_exponent(x);
    let y0 = libm::log(m.hi);
    let exp_m1_y0 = exp_m1(Dd::new(y0));
    let m_m1 = m - ONE;
    let step = times_power(m_m1 - exp_m1_y0, 2.0) / (m_m1 + exp_m1_y0 + Dd::new(2.0));
    let y = Dd::new(y0) + step;
    if k == 0 {
        return y;
    }
    let n = f64::from(64 * k);
    let [a, b, c] = LN_2_BY_64;
    (Dd::from_parts(n * a, n * b) + Dd::new(n * c)) + y
}

/// `√x`, with a relative error below `6u²`; NaN below 0.
///
/// One Newton step from `s`, the root of the high part: `s + (x - s²) / 2s`. `s` is within `1.5u` of the root,
/// so the method leaves `(3u)² / 8`, or 1.2. `|x - s²| <= 3ux` takes two roundings, of 2 and 3, which count
/// half; the rounding of the quotient adds 1.5.
pub(super) fn sqrt(x: Dd) -> Dd {
    const TINY: f64 = power_of_two(-900);
    const HUGE: f64 = power_of_two(1000);
    let s = x.hi.sqrt();
    if s == 0.0 || !s.is_finite() {
        return Dd::new(s);
    }
    // At the ends of the range `s²` would lose bits to underflow, or overflow.
    if x.hi < TINY {
        return times_power(sqrt(times_power(x, power_of_two(200))), power_of_two(-100));
    }
    if x.hi > HUGE {
        return times_power(sqrt(times_power(x, power_of_two(-200))), power_of_two(100));
    }
    let (square, square_err) = two_prod(s, s);
    let rest = ((x.hi - square) - square_err) + x.lo;
    let (hi, lo) = fast_two_sum(s, rest / (2.0 * s));
    Dd { hi, lo }
}

/// `x = (64k + j) ln(2)/64 + s`, with `j` in `-32..32` given as `2^(j/64) - 1`.
struct Reduced {
    k: i32,
    t_m1: Dd,
    s: Dd,
}

/// The reduction, for `|x| < 750`. The absolute error of `s` is below `0.02u²`; for `|x| < 0.005` it is 0.
///
/// `n a` is exact by the length of `a`, and so is `x.hi - n a`: it is below `2^-7`, and a multiple of the last
/// bit of `a` or of `x.hi`, which is at least `2^-60` unless `n = 0`. `n b` is exact too. The error comes from
/// the sum of the two remaining pairs, relative to `s`, and from `n c`, below `2^-114`.
fn reduce(x: Dd) -> Reduced {
    // Adding and taking away 1.5 * 2^52 rounds to an integer, with no call to the platform.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let n = (x.hi * (64.0 * std::f64::consts::LOG2_E) + SHIFT) - SHIFT;
    let [a, b, c] = LN_2_BY_64;
    let (s, s_err) = two_sum(x.hi - n * a, -(n * b));
    let (t, t_err) = two_sum(x.lo, -(n * c));
    let n = n as i32;
    let k = (n + 32) >> 6;
    let j = n - 64 * k;
    Reduced {
        k,
        t_m1: EXP2_M1[(j + 32) as usize],
        s: Dd { hi: s, lo: s_err } + Dd { hi: t, lo: t_err },
    }
}

/// `e^s - 1` for `|s| <= 0.0055`, with a relative error of `3.2u²` beside that of `s`.
///
/// Taylor's series to `s^11`; the rest is below `0.03u²`. The terms from `s^7` on, below `2^-57` of the sum,
/// are computed in `f64`, which costs `0.05u²`. The others are `s + s²(...)`, the second part below 0.003 of the
/// first, so only the last sum counts.
fn exp_m1_near_zero(s: Dd) -> Dd {
    let tail = INVERSE_FACTORIALS_F64.iter().rev().fold(0.0, |sum, c| sum * s.hi + c);
    let sum = INVERSE_FACTORIALS.iter().rev().fold(Dd::new(tail), |sum, &c| sum * s + c);
    s + (s * s) * (sum * s + HALF)
}

/// `2^k x` for `x` in `[½, 2]`, rounded once where it is subnormal.
fn times_two_to(x: Dd, k: i32) -> Dd {
    // In two factors, since 2^k itself may not be a normal number.
    let half = k / 2;
    let y = times_power(times_power(x, power_of_two(half)), power_of_two(k - half));
    if k > -900 { y } else { Dd::from_parts(y.hi, y.lo) }
}

/// `(m, k)` with `x = 2^k m` and `m.hi` in `[√½, √2]`, exactly, for positive finite `x`.
fn mantissa_and_exponent(x: Dd) -> (Dd, i32) {
    // Subnormal numbers first become normal.
    let (x, k) =
        if x.hi < power_of_two(-900) { (times_power(x, power_of_two(200)), -200) } else { (x, 0) };
    let exponent = (x.hi.to_bits() >> 52) as i32 - 1023;
    let m = times_two_to(x, -exponent);
    if m.hi > std::f64::consts::SQRT_2 {
        (times_power(m, 0.5), k + exponent + 1)
    } else {
        (m, k + exponent)
    }
}
