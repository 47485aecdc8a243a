//! [`Scalar`] for the hardware floats and the 16-bit storage types.

use super::Scalar;
use half::{bf16, f16};

impl Scalar for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn ln(self) -> Self {
        libm::log(self)
    }
    fn tanh(self) -> Self {
        libm::tanh(self)
    }
    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }
}

impl Scalar for f32 {
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn exp(self) -> Self {
        libm::expf(self)
    }
    fn ln(self) -> Self {
        libm::logf(self)
    }
    fn tanh(self) -> Self {
        libm::tanhf(self)
    }
    fn sqrt(self) -> Self {
        libm::sqrtf(self)
    }
}

/// The 16-bit types compute each operation in `f32` and round it, as `half` does for `+ - * /`.
macro_rules! scalar_through_f32 {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            fn from_f64(x: f64) -> Self {
                <$t>::from_f64(x)
            }
            fn to_f64(self) -> f64 {
                <$t>::to_f64(self)
            }
            fn exp(self) -> Self {
                <$t>::from_f32(libm::expf(self.to_f32()))
            }
            fn ln(self) -> Self {
                <$t>::from_f32(libm::logf(self.to_f32()))
            }
            fn tanh(self) -> Self {
                <$t>::from_f32(libm::tanhf(self.to_f32()))
            }
            fn sqrt(self) -> Self {
                <$t>::from_f32(libm::sqrtf(self.to_f32()))
            }
        }
    )*};
}

scalar_through_f32!(f16, bf16);
