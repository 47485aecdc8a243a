//! The bounds of `DdWithError`: they hold, and no bound is much larger than the largest error found.

use proptest::prelude::*;
use sus_reference::scalar::{Dd, DdWithError, Scalar};

/// A third of `n`: a number with a rounding error of its own.
fn third(n: f64) -> DdWithError {
    DdWithError::from_f64(n) / DdWithError::from_f64(3.0)
}

fn share(difference: DdWithError) -> f64 {
    difference.value().abs().to_f64() / difference.error()
}

/// Expressions whose exact value is zero, so that their computed value is their error.
fn zeros(a: DdWithError, b: DdWithError) -> [DdWithError; 8] {
    let one = DdWithError::from_f64(1.0);
    let (p, q) = (a.exp(), (-a).exp());
    [
        (a + b) - b - a,
        (a * b) * (a + b) - (a * b * a + a * b * b),
        a / b * b - a,
        a.exp() * b.exp() - (a + b).exp(),
        a.exp().ln() - a,
        a.tanh() - (p - q) / (p + q),
        a.sqrt() * a.sqrt() - a,
        (one / a + one / b) - (a + b) / (a * b),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_exact_zero_is_within_its_bound(a in 1..60_u32, b in 1..60_u32) {
        for (n, zero) in zeros(third(a.into()), third(b.into())).into_iter().enumerate() {
            prop_assert!(share(zero) <= 1.0, "expression {n}: {zero:?}");
        }
    }

    #[test]
    fn values_have_the_bits_of_dd(a in 1..60_u32, b in 1..60_u32) {
        let (x, y) = (third(a.into()), third(b.into()));
        let (dx, dy) = (x.value(), y.value());
        let pairs = [(x + y, dx + dy), (x - y, dx - dy), (x * y, dx * dy), (x / y, dx / dy),
            (x.exp(), dx.exp()), (x.ln(), dx.ln()), (x.tanh(), dx.tanh()), (x.sqrt(), dx.sqrt())];
        for (found, expected) in pairs {
            prop_assert_eq!(found.value(), expected);
        }
    }
}

/// An expression of `n` roundings has an error of at least `1/n` of its bound for some operands, unless the roundings
/// are all far below their own bounds. The expressions have 3 to 9 roundings; the bounds of [`Dd`] are within a hundredth
/// of errors that occur (`tests/scalar_dd.rs`), so the largest share is above `1/900`.
#[test]
fn no_bound_is_far_above_the_errors() {
    let mut largest = [0.0_f64; 8];
    for (a, b) in (1..40).flat_map(|a| (1..40).map(move |b| (a, b))) {
        let found = zeros(third(a.into()), third(b.into()));
        largest
            .iter_mut()
            .zip(found)
            .for_each(|(largest, zero)| *largest = largest.max(share(zero)));
    }
    println!("largest shares {largest:.3?}");
    assert!(largest.iter().all(|&share| share > 1.0 / 900.0), "{largest:?}");
}

#[test]
fn numbers_without_an_error_have_a_bound_of_zero() {
    let (zero, x) = (DdWithError::from_f64(0.0), third(1.0));
    for exact in [
        zero + zero,
        zero * x,
        zero / x,
        zero.tanh(),
        DdWithError::from_f64(f64::NEG_INFINITY).exp(),
    ] {
        assert_eq!((exact.value(), exact.error()), (Dd::from(0.0), 0.0));
    }
    assert_eq!((x + zero).value(), x.value());
    // The logarithm of a row without keys.
    assert_eq!(zero.ln().value().to_f64(), f64::NEG_INFINITY);
    assert_eq!(zero.ln().error(), 0.0);
}

#[test]
fn a_divisor_that_may_be_zero_has_no_bound() {
    let nothing = third(1.0) + third(1.0) + third(1.0) - DdWithError::from_f64(1.0);
    assert_eq!((DdWithError::from_f64(1.0) / nothing).error(), f64::INFINITY);
}
