//! The hardware floats and the 16-bit types: one rounding, to nearest even, from anything.

use half::{bf16, f16};
use std::fmt::Debug;
use sus_reference::scalar::{Dd, Scalar};

/// A 16-bit type, seen as its bits.
trait Bits: Scalar + Debug {
    fn of(bits: u16) -> Self;
    fn bits(self) -> u16;

    /// Every number, from the largest negative to the largest, in order and without `-0`.
    fn all_finite() -> Vec<Self> {
        let mut all: Vec<Self> = (0..=u16::MAX).map(Self::of).collect();
        all.retain(|x| x.to_f64().is_finite() && x.bits() != 0x8000);
        all.sort_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
        all
    }
}

impl Bits for f16 {
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

impl Bits for bf16 {
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

/// Between every two neighbours: just below the middle, the middle itself, just above it.
fn rounds_every_tie_to_even<T: Bits>() {
    let all = T::all_finite();
    for pair in all.windows(2) {
        let (low, high) = (pair[0], pair[1]);
        let middle = f64::midpoint(low.to_f64(), high.to_f64());
        let even = if low.bits() & 1 == 0 { low } else { high };
        assert_eq!(T::from_f64(low.to_f64()), low);
        assert_eq!(T::from_f64(middle.next_down()), low, "below {middle:e}");
        assert_eq!(T::from_f64(middle), even, "at {middle:e}");
        assert_eq!(T::from_f64(middle.next_up()), high, "above {middle:e}");
    }
}

#[test]
fn f16_from_f64_rounds_every_tie_to_even() {
    rounds_every_tie_to_even::<f16>();
}

#[test]
fn bf16_from_f64_rounds_every_tie_to_even() {
    rounds_every_tie_to_even::<bf16>();
}

#[test]
fn from_f64_overflows_half_a_unit_above_the_largest_number() {
    // f16: 65504 + 16; bf16: 2^128 (1 - 2^-8) + 2^119.
    let bf16_limit = 2.0_f64.powi(128) - 2.0_f64.powi(119);
    assert_eq!(<f16 as Scalar>::from_f64(65520.0_f64.next_down()), f16::MAX);
    assert_eq!(<f16 as Scalar>::from_f64(65520.0), f16::INFINITY);
    assert_eq!(<bf16 as Scalar>::from_f64(bf16_limit.next_down()), bf16::MAX);
    assert_eq!(<bf16 as Scalar>::from_f64(bf16_limit), bf16::INFINITY);
    for x in [1e39, 1e300, f64::INFINITY] {
        assert_eq!(<f16 as Scalar>::from_f64(-x), f16::NEG_INFINITY);
        assert_eq!(<bf16 as Scalar>::from_f64(-x), bf16::NEG_INFINITY);
    }
    assert!(<f16 as Scalar>::from_f64(f64::NAN).is_nan());
    assert!(<bf16 as Scalar>::from_f64(f64::NAN).is_nan());
}

#[test]
fn from_f64_keeps_the_sign_of_what_underflows() {
    for x in [5e-324, 1e-300, 1e-46] {
        assert_eq!(<f16 as Scalar>::from_f64(-x).to_bits(), 0x8000);
        assert_eq!(<bf16 as Scalar>::from_f64(-x).to_bits(), 0x8000);
        assert_eq!(<f16 as Scalar>::from_f64(x).to_bits(), 0);
    }
}

#[test]
fn f32_from_f64_rounds_ties_to_even() {
    let (one, unit) = (1.0_f64, 2.0_f64.powi(-23));
    for (x, want) in [
        (one + unit / 2.0, 1.0),
        ((one + unit / 2.0).next_up(), 1.0 + f32::EPSILON),
        (one + 1.5 * unit, 1.0 + 2.0 * f32::EPSILON),
        ((one + 1.5 * unit).next_down(), 1.0 + f32::EPSILON),
    ] {
        assert_eq!(<f32 as Scalar>::from_f64(x).to_bits(), f32::to_bits(want), "{x:e}");
    }
}

/// Whether `got` is `truth` rounded: no further from it than half the way to either neighbour of `got`.
///
/// The middle of two 16-bit numbers is exact in `f64`, and `truth` is good to 30 digits, so its side of the middle is
/// certain. No value of these functions is a middle; if one were, the strict comparisons would say so.
fn is_correctly_rounded<T: Bits>(all: &[T], got: T, truth: Dd) -> bool {
    let value = got.to_f64();
    if !value.is_finite() {
        // `T::from_f64` is tested above, at the limit too.
        return T::from_f64(truth.to_f64()).to_f64().total_cmp(&value).is_eq();
    }
    let at = all.partition_point(|x| x.to_f64() < value);
    let middle =
        |neighbour: Option<&T>| neighbour.map(|n| Dd::from(f64::midpoint(n.to_f64(), value)));
    let above_lower = middle(at.checked_sub(1).map(|i| &all[i])).is_none_or(|m| truth > m);
    let below_upper = middle(all.get(at + 1)).is_none_or(|m| truth < m);
    above_lower && below_upper
}

fn functions_are_correctly_rounded<T: Bits>() {
    let all = T::all_finite();
    for &x in &all {
        let wide = Dd::from(x.to_f64());
        for (name, got, truth) in [
            ("exp", x.exp(), wide.exp()),
            ("ln", x.ln(), wide.ln()),
            ("tanh", x.tanh(), wide.tanh()),
            ("sqrt", x.sqrt(), wide.sqrt()),
        ] {
            let both_nan = got.to_f64().is_nan() && truth.is_nan();
            assert!(
                both_nan || is_correctly_rounded(&all, got, truth),
                "{name} {x:?}: {got:?}, truth {truth}"
            );
        }
    }
}

#[test]
fn the_functions_of_f16_are_correctly_rounded_for_every_argument() {
    functions_are_correctly_rounded::<f16>();
}

#[test]
fn the_functions_of_bf16_are_correctly_rounded_for_every_argument() {
    functions_are_correctly_rounded::<bf16>();
}

/// The error of `got` in units in the last place of an `f64` (`digits = 53`) or `f32` (`24`) of the size of `truth`.
fn units_in_the_last_place(got: f64, truth: Dd, digits: i32) -> f64 {
    let exponent = libm::ilogb(truth.to_f64());
    (Dd::from(got) - truth).to_f64().abs() / 2.0_f64.powi(exponent + 1 - digits)
}

#[test]
fn the_functions_of_f64_and_f32_are_as_good_as_libm_states() {
    // `exp` and `ln`: below one unit, by the error analysis in FreeBSD's msun, which `libm` descends from. `tanh` is
    // t/(t + 2), t = expm1(2|x|) good to one unit, or 1 - 2/(t + 2): in halves of a unit, 2 + 1 + 1 relative to the
    // result, and those are at most a unit each. `sqrt` is correctly rounded.
    let mut x = 0.01;
    while x < 700.0 {
        let narrow = x as f32;
        let (wide, narrow_wide) = (Dd::from(x), Dd::from(f64::from(narrow)));
        for (name, allowed, truth, got, narrow_truth, narrow_got) in [
            ("exp", 1.0, wide.exp(), Scalar::exp(x), narrow_wide.exp(), Scalar::exp(narrow)),
            ("ln", 1.0, wide.ln(), Scalar::ln(x), narrow_wide.ln(), Scalar::ln(narrow)),
            ("tanh", 4.0, wide.tanh(), Scalar::tanh(x), narrow_wide.tanh(), Scalar::tanh(narrow)),
            ("sqrt", 0.5, wide.sqrt(), Scalar::sqrt(x), narrow_wide.sqrt(), Scalar::sqrt(narrow)),
        ] {
            let units = units_in_the_last_place(got, truth, 53);
            assert!(units <= allowed, "{name} {x}: {units} units in the last place of f64");
            let units = units_in_the_last_place(f64::from(narrow_got), narrow_truth, 24);
            let overflows = narrow_truth.to_f64() > f64::from(f32::MAX);
            assert!(
                if overflows { narrow_got.is_infinite() } else { units <= allowed },
                "{name} {narrow}: {units} units in the last place of f32"
            );
        }
        x *= 1.002;
    }
}
