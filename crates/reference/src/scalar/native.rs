//! [`Scalar`] for the hardware floats and the 16-bit storage types.
//!
//! The functions of `f32` and `f64` are those of the `libm` crate: `exp` and `ln` to one unit in the last place, `tanh`
//! to four, `sqrt` correctly rounded. Those of the 16-bit types are all correctly rounded.

use super::Scalar;
use half::{bf16, f16};

macro_rules! scalar_by_libm {
    ($t:ty, $from_f64:expr, $exp:path, $ln:path, $tanh:path, $sqrt:path) => {
        impl Scalar for $t {
            fn from_f64(x: f64) -> Self {
                $from_f64(x)
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $exp(self)
            }
            fn ln(self) -> Self {
                $ln(self)
            }
            fn tanh(self) -> Self {
                $tanh(self)
            }
            fn sqrt(self) -> Self {
                $sqrt(self)
            }
        }
    };
}

scalar_by_libm!(f64, |x| x, libm::exp, libm::log, libm::tanh, libm::sqrt);
scalar_by_libm!(f32, |x| x as f32, libm::expf, libm::logf, libm::tanhf, libm::sqrtf);

/// The 16-bit types compute `+ - * /` in `f32`, as `half` does, and the functions in `f64`, and round once.
///
/// Every result is the correctly rounded one: for `+ - * /` and the square root because 24 bits are more than
/// twice 11 bits and two, and for the functions because a test compares all 2^16 arguments.
macro_rules! scalar_of_16_bits {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            fn from_f64(x: f64) -> Self {
                <$t>::from_f32(round_to_odd(x))
            }
            fn to_f64(self) -> f64 {
                <$t>::to_f64(self)
            }
            fn exp(self) -> Self {
                Scalar::from_f64(libm::exp(self.to_f64()))
            }
            fn ln(self) -> Self {
                Scalar::from_f64(libm::log(self.to_f64()))
            }
            fn tanh(self) -> Self {
                Scalar::from_f64(libm::tanh(self.to_f64()))
            }
            fn sqrt(self) -> Self {
                Scalar::from_f64(libm::sqrt(self.to_f64()))
            }
        }
    )*};
}

scalar_of_16_bits!(f16, bf16);

/// The neighbouring `f32` of `x` with an odd last bit; `x` if it is an `f32`.
///
/// Rounding this number to nearest, to at most 22 bits, gives the correctly rounded `x`: the odd bit tells on which side
/// of a tie `x` is (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums:
/// proved algorithms using rounding to odd", IEEE Transactions on Computers 57(4), 2008). `half`'s own conversion
/// drops the last 32 bits of `x` first or, with hardware support, rounds to `f32` first; both lose this information.
#[expect(clippy::float_cmp, reason = "whether `x` is an `f32` is an exact question")]
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let bits = nearest.to_bits();
    if f64::from(nearest) == x || nearest.is_nan() || bits & 1 == 1 {
        nearest
    } else if f64::from(nearest).abs() > x.abs() {
        f32::from_bits(bits - 1)
    } else {
        f32::from_bits(bits + 1)
    }
}
