//! `+ - * /` of [`Dd`], from error-free sums and products of `f64`.
//!
//! Each operation runs the published algorithm and tests its low part once. It is NaN exactly if some intermediate result
//! was not finite. A cold path then separates infinite results from intermediate overflow, and repeats the latter on
//! scaled operands.

use super::Dd;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// `(s, e)` with `s = RN(a + b)` and `s + e = a + b` exactly (Knuth), unless `s` overflows.
#[inline]
pub(super) const fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let b_seen = s - a;
    (s, (a - (s - b_seen)) + (b - b_seen))
}

/// [`two_sum`] in three operations (Dekker), for `|a| >= |b|` or `a = 0`.
#[inline]
pub(super) const fn fast_two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    (s, b - (s - a))
}

/// `a` as a sum of two numbers of at most 26 bits each.
///
/// Rounds the upper part by integer operations: Veltkamp's multiplication by `2^27 + 1` overflows from `2^996` on, this
/// one only within `2^997` of the largest number.
#[inline]
const fn split(a: f64) -> (f64, f64) {
    const HALF: u64 = 1 << 26;
    const LOW_BITS: u64 = (1 << 27) - 1;
    let upper = f64::from_bits(a.to_bits().wrapping_add(HALF) & !LOW_BITS);
    (upper, a - upper)
}

/// `(p, e)` with `p = RN(ab)` and `p + e = ab` exactly (Dekker), for `2^-968 <= |p|`.
///
/// Below, each of the four partial products may lose `2^-1075`. `e` is NaN where `p` is not finite or a
/// factor cannot be split.
#[inline]
pub(super) const fn two_prod(a: f64, b: f64) -> (f64, f64) {
    let p = a * b;
    let (a1, a2) = split(a);
    let (b1, b2) = split(b);
    (p, (((a1 * b1 - p) + a1 * b2) + a2 * b1) + a2 * b2)
}

/// JMP, algorithm 6.
#[inline]
const fn sum(a: Dd, b: Dd) -> (f64, f64) {
    let (s, s_err) = two_sum(a.hi, b.hi);
    let (t, t_err) = two_sum(a.lo, b.lo);
    let (v, v_err) = fast_two_sum(s, s_err + t);
    fast_two_sum(v, t_err + v_err)
}

/// JMP, algorithm 10.
#[inline]
const fn product(a: Dd, b: Dd) -> (f64, f64) {
    let (p, p_err) = two_prod(a.hi, b.hi);
    let cross = a.hi * b.lo + a.lo * b.hi;
    fast_two_sum(p, p_err + cross)
}

/// JMP, algorithm 17, from its first quotient `q = RN(a.hi / b.hi)` on.
#[inline]
const fn quotient(a: Dd, b: Dd, q: f64) -> (f64, f64) {
    // `r = b q` by JMP's algorithm 7, then the quotient of the rest of `a`.
    let (p, p_err) = two_prod(b.hi, q);
    let (t, t_err) = fast_two_sum(p, b.lo * q);
    let (r, r_err) = fast_two_sum(t, t_err + p_err);
    let rest = (a.hi - r) + (a.lo - r_err);
    fast_two_sum(q, rest / b.hi)
}

/// `2^k` for a normal result.
#[inline]
pub(super) const fn power_of_two(k: i32) -> f64 {
    f64::from_bits(((1023 + k) as u64) << 52)
}

/// Times a power of two, exactly unless it underflows.
#[inline]
pub(super) const fn times_power(a: Dd, power: f64) -> Dd {
    Dd::or_not_finite(a.hi * power, a.lo * power)
}

#[cold]
#[inline(never)]
fn sum_not_finite(a: Dd, b: Dd) -> Dd {
    if !(a.is_finite() && b.is_finite()) {
        return Dd::new(a.hi + b.hi);
    }
    let (hi, lo) = sum(times_power(a, 0.5), times_power(b, 0.5));
    times_power(Dd { hi, lo }, 2.0)
}

#[cold]
#[inline(never)]
fn product_not_finite(a: Dd, b: Dd) -> Dd {
    if !(a.is_finite() && b.is_finite()) {
        return Dd::new(a.hi * b.hi);
    }
    // Factors above 1 are brought below 2^504, so their product can neither overflow nor, since it was large
    // or had a factor of almost 2^1024, underflow.
    let shift = |x: Dd| if x.hi.abs() > 1.0 { 520 } else { 0 };
    let scaled = |x: Dd| times_power(x, power_of_two(-shift(x)));
    let (hi, lo) = product(scaled(a), scaled(b));
    times_power(times_power(Dd { hi, lo }, power_of_two(shift(a))), power_of_two(shift(b)))
}

/// The quotient, with the operands multiplied by `2^a_shift` and `2^b_shift` on the way.
#[cold]
#[inline(never)]
fn quotient_scaled(a: Dd, b: Dd, a_shift: i32, b_shift: i32) -> Dd {
    let a = times_power(a, power_of_two(a_shift));
    let b = times_power(b, power_of_two(b_shift));
    let (hi, lo) = quotient(a, b, a.hi / b.hi);
    times_power(Dd { hi, lo }, power_of_two(b_shift - a_shift))
}

impl Add for Dd {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        let (hi, lo) = sum(self, other);
        if lo.is_finite() { Self { hi, lo } } else { sum_not_finite(self, other) }
    }
}

impl Sub for Dd {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Dd {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        let (hi, lo) = product(self, other);
        if lo.is_finite() { Self { hi, lo } } else { product_not_finite(self, other) }
    }
}

impl Div for Dd {
    type Output = Self;
    #[inline]
    fn div(self, other: Self) -> Self {
        const TINY: f64 = power_of_two(-900);
        const HUGE: f64 = power_of_two(1000);
        let q = self.hi / other.hi;
        if q == 0.0 || !q.is_finite() {
            return Self::new(q);
        }
        if self.hi.abs() < TINY {
            // `a - bq` would lose bits to underflow that a small `b` makes visible again. As `q` is not 0, `b` is
            // below 2^175, and no factor of 2^200 overflows.
            return quotient_scaled(self, other, 200, 200);
        }
        let (hi, lo) = quotient(self, other, q);
        if lo.is_finite() {
            Self { hi, lo }
        } else if q.abs() > HUGE {
            quotient_scaled(self, other, -60, 0)
        } else {
            quotient_scaled(self, other, -60, -60)
        }
    }
}

impl Neg for Dd {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

macro_rules! assign {
    ($($Trait:ident $method:ident $op:tt;)*) => {$(
        impl $Trait for Dd {
            #[inline]
            fn $method(&mut self, other: Self) {
                *self = *self $op other;
            }
        }
    )*};
}

assign! {
    AddAssign add_assign +;
    SubAssign sub_assign -;
    MulAssign mul_assign *;
    DivAssign div_assign /;
}
