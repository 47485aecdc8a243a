//! `Dual` against closed forms in `Dd`, against the `num-dual` crate in `f64`, and at infinities.

use num_dual::{Dual64, DualNum};
use num_traits::Zero;
use proptest::prelude::*;
use sus_reference::scalar::{Dd, Dual, Scalar};

/// `2^-106`, the square of the unit roundoff of `f64`.
const U2: f64 = 1.0 / ((1_u128 << 106) as f64);

fn dd(x: f64) -> Dd {
    Dd::from(x)
}

/// `|got - want| <= bound * 2^-106 * |size|`, and `bound` is a sum of the bounds in `Dd`'s documentation.
fn assert_near(what: &str, got: Dd, want: Dd, bound: f64, size: Dd) {
    let error = (got - want).abs().to_f64();
    assert!(
        error <= bound * U2 * size.abs().to_f64(),
        "{what}: got {got}, want {want}, off by {error:e}"
    );
}

#[test]
fn derivatives_over_dd_agree_with_closed_forms_to_1e_30() {
    for x in [0.1, 0.7, 1.3, 2.9, 5.5].map(|x| dd(x) / dd(3.0)) {
        let v = Dual::variable(x);
        let (one, three) = (dd(1.0), Dual::constant(dd(3.0)));
        // On the left the rules, on the right a closed form that uses none of them.
        // One rounding, 3, 5 or 15, for each operation on the right or the left; functions as documented.
        let e = x.exp();
        assert_near(
            "exp(3x)",
            (three * v).exp().eps,
            dd(3.0) * e * e * e,
            90.0,
            e * e * e * dd(3.0),
        );
        assert_near("ln x", v.ln().eps, one / x, 15.0, one / x);
        assert_near("sqrt x", v.sqrt().eps, x.sqrt() / (x + x), 50.0, x.sqrt() / (x + x));
        let sech2 = dd(4.0) / ((e + one / e) * (e + one / e));
        // `1 - t` and `1 + t` carry the 43 of `t`, absolutely.
        assert_near("tanh x", v.tanh().eps, sech2, 200.0, one);
        assert_near("x³", (v * v * v).eps, dd(3.0) * x * x, 30.0, x * x * dd(3.0));
        let quotient = (v / (three + v)).eps;
        let want = dd(3.0) / ((dd(3.0) + x) * (dd(3.0) + x));
        // Its numerator `1 - x/(3 + x)` is above 0.6, so 18 of the quotient within count no more than twice.
        assert_near("x/(3 + x)", quotient, want, 80.0, want);
        assert_near("-x", (-v).eps, -one, 0.0, one);
        assert_near("3 - x", (three - v).eps, -one, 0.0, one);
    }
}

#[test]
fn a_dual_of_duals_gives_the_second_derivative() {
    for x in [0.3, 1.1, 2.2].map(dd) {
        let v = Dual::new(Dual::variable(x), Dual::constant(dd(1.0)));
        let six_x = dd(6.0) * x;
        assert_near("(x³)''", (v * v * v).eps.eps, six_x, 30.0, six_x);
        assert_near("(ln x)''", v.ln().eps.eps, -dd(1.0) / (x * x), 40.0, dd(1.0) / (x * x));
        assert_near("exp''", v.exp().eps.eps, x.exp(), 20.0, x.exp());
    }
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
