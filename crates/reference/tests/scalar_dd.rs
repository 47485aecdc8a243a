//! `Dd` against mpmath, against itself and at the edges of its range.
//!
//! `tests/data/dd_mpmath.json` holds inputs and true outputs as bits; `make_dd_mpmath.py` beside it wrote them.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;
use sus_reference::scalar::{Dd, Scalar};

/// `2^-106`, the square of the unit roundoff of `f64`.
const U2: f64 = 1.0 / ((1_u128 << 106) as f64);

/// What underflow may add, absolutely: `8 * 2^-1074`, eight times the spacing of the smallest numbers. A product
/// loses at most 4 halves of it in Dekker's partial products, 2 in the cross terms and 2 in their sums.
const UNDERFLOW: f64 = 8.0 * 5e-324;

fn dd(hi: f64, lo: f64) -> Dd {
    Dd::from_parts(hi, lo)
}

fn parse(text: &Value) -> Dd {
    let part = |word| f64::from_bits(u64::from_str_radix(word, 16).expect("hexadecimal bits"));
    let (hi, lo) = text.as_str().expect("a string").split_once(' ').expect("two words");
    let parsed = dd(part(hi), part(lo));
    assert_eq!(
        (parsed.hi().to_bits(), parsed.lo().to_bits()),
        (part(hi).to_bits(), part(lo).to_bits()),
        "{text} is not normalised"
    );
    parsed
}

/// The rows of one operation: its inputs, then the output.
fn cases(name: &str) -> Vec<Vec<Dd>> {
    let data: Value = serde_json::from_str(include_str!("data/dd_mpmath.json")).expect("JSON");
    let rows = data[name].as_array().expect("known operation");
    rows.iter().map(|row| row.as_array().expect("a row").iter().map(parse).collect()).collect()
}

/// `|got - want|` by `f64` alone: the high parts differ by little, so their difference is exact.
fn distance(got: Dd, want: Dd) -> f64 {
    ((got.hi() - want.hi()) + (got.lo() - want.lo())).abs()
}

/// Checks every row of `name` to a relative error of `bound` times `2^-106`, and that one row comes within a
/// hundredth of that: a bound that nothing comes near would not be testing anything.
///
/// `want` is rounded: half a unit in the last place of its low part is at most `u²/2`. That is added to the bound.
fn agrees(name: &str, bound: f64, f: impl Fn(&[Dd]) -> Dd) {
    let rows = cases(name);
    assert!(rows.len() > 100, "{name}: only {} rows", rows.len());
    let mut worst = 0.0_f64;
    for row in &rows {
        let (want, inputs) = row.split_last().expect("inputs and an output");
        let got = f(inputs);
        if !want.is_finite() {
            assert_eq!((got.hi(), got.lo()), (want.hi(), 0.0), "{name} {inputs:?}");
            continue;
        }
        let error = distance(got, *want);
        let allowed = (bound + 0.5) * U2 * want.hi().abs() + UNDERFLOW;
        assert!(error <= allowed, "{name} {inputs:?}: got {got}, want {want}, off by {error:e}");
        if want.hi().abs() > 1e-270 {
            worst = worst.max(error / want.hi().abs() / U2);
        }
    }
    println!("{name}: at most {worst:.2} u², or {:.1e}, of {bound} u² allowed", worst * U2);
    assert!(worst > bound / 100.0, "{name}: no row is near its bound, {worst} of {bound}");
}

// The bounds are those of the module's own documentation, derived there or proved in the papers it names.

#[test]
fn a_sum_of_dds_agrees_with_mpmath_to_three_u_squared() {
    agrees("add", 3.0, |x| x[0] + x[1]);
}

#[test]
fn a_difference_of_dds_agrees_with_mpmath_to_three_u_squared() {
    agrees("sub", 3.0, |x| x[0] - x[1]);
}

#[test]
fn a_product_of_dds_agrees_with_mpmath_to_five_u_squared() {
    agrees("mul", 5.0, |x| x[0] * x[1]);
}

#[test]
fn a_quotient_of_dds_agrees_with_mpmath_to_fifteen_u_squared() {
    agrees("div", 15.0, |x| x[0] / x[1]);
}

#[test]
fn the_square_root_of_a_dd_agrees_with_mpmath_to_six_u_squared() {
    agrees("sqrt", 6.0, |x| x[0].sqrt());
}

#[test]
fn exp_of_a_dd_agrees_with_mpmath_to_seven_u_squared() {
    agrees("exp", 7.0, |x| x[0].exp());
}

#[test]
fn exp_m1_of_a_dd_agrees_with_mpmath_to_28_u_squared() {
    agrees("exp_m1", 28.0, |x| x[0].exp_m1());
}

#[test]
fn ln_of_a_dd_agrees_with_mpmath_to_42_u_squared() {
    agrees("ln", 42.0, |x| x[0].ln());
}

#[test]
fn tanh_of_a_dd_agrees_with_mpmath_to_43_u_squared() {
    agrees("tanh", 43.0, |x| x[0].tanh());
}

#[test]
fn the_order_of_dds_is_that_of_their_values() {
    // In the table, `a - b` is the true difference: its sign is the order, its being zero the equality.
    for row in cases("sub") {
        let [a, b, difference] = row[..] else { panic!("two inputs and an output") };
        assert_eq!(a.partial_cmp(&b), difference.hi().partial_cmp(&0.0), "{a} {b}");
        assert_eq!(a == b, difference.hi() == 0.0, "{a} {b}");
    }
}

#[test]
fn the_bits_of_a_dd_are_the_same_on_every_machine() {
    let (third, x) = (Dd::from(1.0) / Dd::from(3.0), dd(-2.7, 1.1e-17));
    for (name, value, hi, lo) in [
        ("1/3", third, 0x3fd5_5555_5555_5555, 0x3c75_5555_5555_5555),
        ("x * x", x * x, 0x401d_28f5_c28f_5c2a, 0xbc7b_8606_8b9a_0bd4),
        ("x + 1/3", x + third, 0xc002_eeee_eeee_eeef, 0xbca3_bf81_454d_4384),
        ("sqrt(1/3)", third.sqrt(), 0x3fe2_79a7_4590_331c, 0x3c83_4863_e079_2bec),
        ("exp(x)", x.exp(), 0x3fb1_3461_6754_00c2, 0xbc47_87f3_5f01_eab8),
        ("exp_m1(1/3)", third.exp_m1(), 0x3fd9_51b6_c6e8_b44c, 0x3c70_a7f6_c6f2_7f69),
        ("ln(1/3)", third.ln(), 0xbff1_93ea_7aad_030b, 0x3c9a_256f_99ca_abec),
        ("tanh(x)", x.tanh(), 0xbfef_b655_4374_78d5, 0xbc88_6338_1d01_e8ca),
    ] {
        let bits = (value.hi().to_bits(), value.lo().to_bits());
        assert_eq!(bits, (hi, lo), "{name}: {:#018x}, {:#018x}", bits.0, bits.1);
    }
}

#[test]
fn infinities_and_nan_behave_as_in_f64() {
    const MAX: f64 = f64::MAX;
    let edges = [0.0, 1.0, -2.5, MAX, -MAX, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let same = |got: Dd, want: f64, what: &str| {
        // `libm`'s functions are good to one unit in the last place, our high part to half of one.
        let close = want.is_finite() && (got.hi() - want).abs() <= 1.5 * f64::EPSILON * want.abs();
        assert!(
            close || got.to_f64().total_cmp(&want).is_eq() || got.is_nan() && want.is_nan(),
            "{what}: {got}, f64 has {want}"
        );
        assert!(want.is_finite() || got.lo() == 0.0, "{what}: {got}");
    };
    for a in edges {
        for b in edges {
            let (x, y) = (Dd::from(a), Dd::from(b));
            same(x + y, a + b, &format!("{a} + {b}"));
            same(x - y, a - b, &format!("{a} - {b}"));
            same(x * y, a * b, &format!("{a} * {b}"));
            same(x / y, a / b, &format!("{a} / {b}"));
            same(Dd::from_parts(a, b), a + b, &format!("parts {a}, {b}"));
            same(Dd::from_prod(a, b), a * b, &format!("product {a}, {b}"));
        }
        same(Dd::from(a).exp(), libm::exp(a), &format!("exp {a}"));
        same(Dd::from(a).exp_m1(), libm::expm1(a), &format!("exp_m1 {a}"));
        same(Dd::from(a).ln(), libm::log(a), &format!("ln {a}"));
        same(Dd::from(a).tanh(), libm::tanh(a), &format!("tanh {a}"));
        same(Dd::from(a).sqrt(), libm::sqrt(a), &format!("sqrt {a}"));
    }
}

#[test]
fn exp_overflows_and_underflows_where_the_range_ends() {
    // ln(2^1024) = 709.78271289338397... and ln(2^-1075) = -745.13321910194122...
    assert!(Dd::from(709.782_712_893_383_9).exp().is_finite());
    assert_eq!(Dd::from(709.782_712_893_384_1).exp(), Dd::from(f64::INFINITY));
    assert_eq!(Dd::from(-745.133_219_101_941).exp(), Dd::from(5e-324));
    assert_eq!(Dd::from(-745.133_219_101_942).exp(), Dd::from(0.0));
}

#[test]
fn a_dd_displays_both_parts() {
    let shown = |hi, lo| dd(hi, lo).to_string();
    assert_eq!(shown(1.5, 0.0), "1.5");
    assert_eq!(shown(1.0, 1e-20), "1.0 + 1e-20");
    assert_eq!(shown(-1.0, -1e-20), "-1.0 - 1e-20");
    assert_eq!(Dd::from(f64::NEG_INFINITY).to_string(), "-inf");
}

/// A double-double of 107 random bits, with `1/2 <= |x| < 2^scale`.
fn any_dd(scale: i32) -> impl Strategy<Value = Dd> {
    let part = -1.0..1.0_f64;
    (any::<bool>(), 0.5..1.0_f64, part, 0..=scale).prop_map(|(negative, hi, lo, exponent)| {
        let power = if negative { -1.0 } else { 1.0 } * 2.0_f64.powi(exponent);
        dd(hi * power, lo * power * 2.0_f64.powi(-54))
    })
}

/// Whether `|got - want| <= bound * 2^-106 * |size|`.
fn near(got: Dd, want: Dd, bound: f64, size: Dd) -> bool {
    distance(got, want) <= bound * U2 * size.hi().abs() * 1.000_001
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn results_are_normalised(a in any_dd(60), b in any_dd(60), tiny in -745.0..-700.0_f64) {
        let functions = [a.abs().sqrt(), a.abs().ln(), a.tanh(), Dd::from(tiny).exp()];
        for x in [a + b, a - b, a * b, a / b, Dd::from_prod(a.hi(), b.hi())].into_iter().chain(functions) {
            prop_assert_eq!((x.hi() + x.lo()).to_bits(), x.hi().to_bits());
        }
    }

    #[test]
    fn products_that_underflow_are_normalised_and_close(a in any_dd(60), b in any_dd(60)) {
        // The product is about 2^-1090 to 2^-970, and times 2^1090 what it was in the full range.
        let (down, up) = (2.0_f64.powi(-545), Dd::from(2.0_f64.powi(545)));
        let product = Dd::from_prod(a.hi() * down, b.hi() * down);
        prop_assert_eq!((product.hi() + product.lo()).to_bits(), product.hi().to_bits());
        let error = distance(product * up * up, Dd::from_prod(a.hi(), b.hi()));
        prop_assert!(error <= UNDERFLOW * 2.0_f64.powi(545) * 2.0_f64.powi(545), "{error:e}");
    }

    #[test]
    fn sums_and_products_commute_bit_for_bit(a in any_dd(60), b in any_dd(60)) {
        prop_assert_eq!(a + b, b + a);
        prop_assert_eq!(a * b, b * a);
    }

    #[test]
    fn negation_and_powers_of_two_commute_with_every_operation(a in any_dd(60), b in any_dd(60)) {
        let four = Dd::from(4.0);
        prop_assert_eq!(-(a + b), -a - b);
        prop_assert_eq!(-(a * b), -a * b);
        prop_assert_eq!(-(a / b), -a / b);
        prop_assert_eq!(-a.tanh(), (-a).tanh());
        prop_assert_eq!(four * (a + b), four * a + four * b);
        prop_assert_eq!(four * (a * b), (four * a) * b);
        prop_assert_eq!(four * (a / b), (four * a) / b);
        prop_assert_eq!((four * a.abs()).sqrt(), Dd::from(2.0) * a.abs().sqrt());
    }

    #[test]
    fn a_product_of_integers_is_exact(a in -(1_i64 << 53)..1_i64 << 53, b in -(1_i64 << 53)..1_i64 << 53) {
        let product = Dd::from_prod(a as f64, b as f64);
        prop_assert_eq!(product, Dd::from(a as f64) * Dd::from(b as f64));
        // Both parts are integers, so i128 adds them exactly.
        prop_assert_eq!(product.hi() as i128 + product.lo() as i128, i128::from(a) * i128::from(b));
    }

    #[test]
    fn a_sum_of_two_f64_is_exact(a in -(1_i64 << 53)..1_i64 << 53, b in -(1_i64 << 53)..1_i64 << 53, shift in 0..70) {
        let sum = Dd::from_parts(a as f64 * 2.0_f64.powi(shift), b as f64);
        prop_assert_eq!(sum.hi() as i128 + sum.lo() as i128, (i128::from(a) << shift) + i128::from(b));
    }

    // Each law runs two operations; their bounds add, the first one's weighed by how far its error reaches.

    #[test]
    fn taking_away_what_was_added_gives_it_back(a in any_dd(30), b in any_dd(30)) {
        // The sum errs by 3 of `a + b`, which the difference keeps, and adds 3 of about `a`.
        prop_assert!(near((a + b) - b, a, 3.0, a.abs() + (a + b).abs()));
    }

    #[test]
    fn dividing_by_what_was_multiplied_gives_it_back(a in any_dd(60), b in any_dd(60)) {
        prop_assert!(near(a * b / b, a, 5.0 + 15.0, a));
        prop_assert!(near(a / b * b, a, 15.0 + 5.0, a));
    }

    #[test]
    fn the_square_of_the_square_root_gives_it_back(a in any_dd(60)) {
        // The root's 6 counts twice in its square.
        let root = a.abs().sqrt();
        prop_assert!(near(root * root, a.abs(), 2.0 * 6.0 + 5.0, a));
    }

    #[test]
    fn exp_of_ln_gives_it_back(a in any_dd(9)) {
        // An absolute error of `ln a` is a relative one of its `exp`.
        let ln = a.abs().ln();
        prop_assert!(near(ln.exp(), a.abs(), 42.0 * ln.hi().abs() + 7.0, a));
    }

    #[test]
    fn ln_of_exp_gives_it_back(a in any_dd(9)) {
        // A relative error of `exp a` is an absolute one of its `ln`.
        prop_assert!(near(a.exp().ln(), a, 42.0 + 7.0 / a.hi().abs(), a));
    }

    #[test]
    fn exp_turns_sums_into_products(a in any_dd(8), b in any_dd(8)) {
        // The sum's error, 3 of `a + b`, is a relative one of its `exp`; then three exponentials and a product.
        let sum = a + b;
        let bound = 3.0 * sum.hi().abs() + 3.0 * 7.0 + 5.0;
        prop_assert!(near(a.exp() * b.exp(), sum.exp(), bound, sum.exp()));
    }

    #[test]
    fn tanh_is_the_quotient_of_exponentials(a in any_dd(4)) {
        // With |a| >= 1/2 the difference is at least 0.46 of the larger exponential: (2 * 7)/0.46 + 3, then the
        // denominator's 7 + 3, the quotient's 15 and our own 43.
        let (p, q) = (a.exp(), (-a).exp());
        let bound = 14.0 / 0.46 + 3.0 + 10.0 + 15.0 + 43.0;
        prop_assert!(near((p - q) / (p + q), a.tanh(), bound, a.tanh()));
    }
}
