//! `Dual` against closed forms in double-double arithmetic, against the `num-dual` crate in `f64`, and at infinities.

use num_dual::{Dual64, DualNum};
use num_traits::Zero;
use proptest::prelude::*;
use sus_reference::scalar::{DdWithError, Dual, Scalar};

/// `2^-106`, the square of the unit roundoff of `f64`.
const U2: f64 = 1.0 / ((1_u128 << 106) as f64);

/// The number `x`, without an error.
fn number(x: f64) -> DdWithError {
    DdWithError::from_f64(x)
}

/// Each pair, a derivative by the rules and a closed form that uses none of them, is equal up to the rounding errors that
/// [`DdWithError`] derives from their operations; and some of the pairs are not equal bit for bit.
fn assert_equal(pairs: &[(&str, DdWithError, DdWithError)]) {
    for (name, found, expected) in pairs {
        let difference = *found - *expected;
        assert!(difference.value().abs().hi() <= difference.error(), "{name}: {difference:?}");
        // A wrong rule is off by about the number itself. The two sides have at most 12 roundings, and the worst is 43 u².
        let largest = 12.0 * 43.0 * U2 * expected.value().abs().hi().max(1.0);
        assert!(difference.error() <= largest, "{name}: the bound is too large: {difference:?}");
    }
    assert!(pairs.iter().any(|(_, found, expected)| found.value() != expected.value()));
}

#[test]
fn derivatives_over_dd_agree_with_closed_forms() {
    for x in [0.1, 0.7, 1.3, 2.9, 5.5].map(|x| number(x) / number(3.0)) {
        let v = Dual::variable(x);
        let (one, c, three) = (number(1.0), number(3.0), Dual::constant(number(3.0)));
        let e = x.exp();
        let sech = number(2.0) / (e + one / e);
        assert_equal(&[
            ("exp(3x)", (three * v).exp().eps, c * e * e * e),
            ("ln x", v.ln().eps, one / x),
            ("sqrt x", v.sqrt().eps, x.sqrt() / (x + x)),
            ("tanh x", v.tanh().eps, sech * sech),
            ("x³", (v * v * v).eps, c * x * x),
            ("x/(3 + x)", (v / (three + v)).eps, c / ((c + x) * (c + x))),
            ("-x", (-v).eps, -one),
            ("3 - x", (three - v).eps, -one),
        ]);
    }
}

#[test]
fn a_dual_of_duals_gives_the_second_derivative() {
    for x in [0.3, 1.1, 2.2].map(number) {
        let v = Dual::new(Dual::variable(x), Dual::constant(number(1.0)));
        assert_equal(&[
            ("(x³)''", (v * v * v).eps.eps, number(6.0) * x),
            ("(ln x)''", v.ln().eps.eps, -number(1.0) / (x * x)),
            ("exp''", v.exp().eps.eps, x.exp()),
            ("(tanh x)''", v.tanh().eps.eps, second_derivative_of_tanh(x)),
        ]);
    }
}

/// `-2 tanh x / cosh^2 x`, by exponentials.
fn second_derivative_of_tanh(x: DdWithError) -> DdWithError {
    let (p, q) = (x.exp(), (-x).exp());
    let sech = number(2.0) / (p + q);
    -number(2.0) * ((p - q) / (p + q)) * sech * sech
}

#[test]
fn equality_compares_both_parts_and_order_the_real_part() {
    let (a, b) = (Dual::new(1.0, 2.0), Dual::new(1.0, 3.0));
    assert_ne!(a, b);
    assert_eq!(a, Dual::new(1.0, 2.0));
    assert_eq!(a.partial_cmp(&b), Some(std::cmp::Ordering::Equal));
    assert!(Dual::new(1.0, 9.0) < Dual::new(2.0, 0.0));
    assert_eq!(Dual::constant(f64::NAN).partial_cmp(&a), None);
}

#[test]
fn a_variable_at_zero_is_not_the_constant_zero() {
    assert!(Dual::constant(0.0).is_zero());
    assert!(!Dual::variable(0.0).is_zero());
}

#[test]
fn the_softmax_of_a_masked_key_has_no_derivative() {
    // Two keys, one masked: W = exp(s - lse), with the row's lse depending on the variable.
    let (masked, seen) = (Dual::constant(f64::NEG_INFINITY), Dual::variable(0.7));
    let lse = (masked.exp() + seen.exp()).ln();
    assert_eq!((masked - lse).exp(), Dual::constant(0.0));
    // A softcap on the way: c tanh(z / c), z = -inf.
    let cap = Dual::constant(5.0);
    assert_eq!(cap * (masked / cap).tanh(), Dual::constant(-5.0));
}

#[test]
fn the_logarithm_of_an_empty_sum_stays_constant() {
    let empty = Dual::constant(f64::NEG_INFINITY).exp();
    assert_eq!(empty.ln(), Dual::constant(f64::NEG_INFINITY));
    assert_eq!(Dual::constant(0.0).sqrt(), Dual::constant(0.0));
    assert_eq!(Dual::constant(1.0) / Dual::constant(0.0), Dual::constant(f64::INFINITY));
}

#[test]
fn what_depends_on_the_variable_shows_an_infinite_derivative() {
    assert_eq!(Dual::variable(0.0).sqrt(), Dual::new(0.0, f64::INFINITY));
    assert_eq!(Dual::variable(0.0).ln(), Dual::new(f64::NEG_INFINITY, f64::INFINITY));
    assert!(Dual::variable(f64::NAN).exp().re.is_nan());
}

#[test]
fn a_dual_displays_both_parts() {
    assert_eq!(Dual::new(1.5, -2.0).to_string(), "1.5 + -2ε");
}

/// One formula with every operation and function of a scalar, for both kinds of dual number.
macro_rules! formula {
    ($x:expr, $y:expr, $constant:expr) => {{
        let (x, y) = ($x, $y);
        let softcapped = (x * y / $constant).tanh() * $constant;
        let lse = (softcapped.exp() + (y - x).exp()).ln();
        (softcapped - lse).exp() / (x * x + y * y).sqrt() + -lse
    }};
}

proptest! {
    #[test]
    fn dual_over_f64_agrees_with_num_dual(x in -2.0..2.0_f64, y in 0.5..2.0_f64, dx in -1.0..1.0_f64, dy in -1.0..1.0_f64) {
        let ours = formula!(Dual::new(x, dx), Dual::new(y, dy), Dual::constant(3.0));
        let theirs = formula!(Dual64::new(x, dx), Dual64::new(y, dy), 3.0);
        // About 20 roundings a side, functions counting two units in the last place for `libm` and the
        // platform's alike. No intermediate value or first derivative exceeds 16 in this box, and the
        // condition of no step exceeds 8 (`1/√` of at least 0.5): 2 * 20 * 2 * 16 * 8 units of 2^-53.
        let allowed = 10_240.0 * f64::EPSILON / 2.0;
        prop_assert!((ours.re - theirs.re).abs() <= allowed, "{ours} {theirs}");
        prop_assert!((ours.eps - theirs.eps).abs() <= allowed, "{ours} {theirs}");
    }
}
