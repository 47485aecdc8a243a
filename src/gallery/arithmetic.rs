//! How a simulated kernel rounds: a format for each named point.
//!
//! A kernel is computed in `f64` and rounded after every operation. For `+ - * /` and the square root that is exactly
//! the arithmetic of the narrower type, since 53 bits are more than twice 24 bits and two.

use half::{bf16, f16};

/// A format that numbers are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 53 bits.
    F64,
    /// 24 bits.
    F32,
    /// 11 bits with the exponents of `f32`: what a tensor core keeps of an `f32` operand.
    Tf32,
    /// 11 bits, 5 of exponent.
    F16,
    /// 8 bits with the exponents of `f32`.
    Bf16,
}

impl Format {
    /// `x` rounded to nearest, ties to even.
    #[must_use]
    pub fn round(self, x: f64) -> f64 {
        match self {
            Format::F64 => x,
            Format::F32 => f64::from(x as f32),
            Format::Tf32 => tf32(x),
            Format::F16 => <f16 as crate::scalar::Scalar>::from_f64(x).to_f64(),
            Format::Bf16 => <bf16 as crate::scalar::Scalar>::from_f64(x).to_f64(),
        }
    }
}

/// The 11 leading bits of an `f32`, to nearest even.
fn tf32(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    if !x.is_finite() {
        return x;
    }
    let odd = (bits >> 13) & 1;
    f64::from(f32::from_bits((bits + 0x0fff + odd) & !0x1fff))
}

/// The formats of a kernel, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arithmetic {
    /// The recipe's name.
    pub name: &'static str,
    /// Operands of the products with `q`, `k`, `v`, `G`.
    pub operand: Format,
    /// Sums and everything not named here.
    pub accumulator: Format,
    /// Scores, after each step.
    pub score: Format,
    /// `W` where it is multiplied by `t`.
    pub weight: Format,
    /// `W` as an operand of `W v` and `W^T G`.
    pub weight_operand: Format,
    /// `dP`.
    pub product: Format,
    /// `dS` as an operand.
    pub ds: Format,
    /// The stored `o`.
    pub output: Format,
    /// The stored gradients.
    pub gradient: Format,
    /// Each query head's `dk`, `dv` are rounded to this, and summed in it over the group.
    pub repeated_heads: Option<Format>,
    /// `delta_i = sum_j W_ij dP_ij` in place of `G_i . o_i`.
    pub delta_from_weights: bool,
    /// Weights are normalised before they are rounded, as in three separate passes.
    pub normalised: bool,
}

impl Arithmetic {
    /// Everything in one format.
    #[must_use]
    pub const fn uniform(name: &'static str, format: Format) -> Self {
        Arithmetic {
            name,
            operand: format,
            accumulator: format,
            score: format,
            weight: format,
            weight_operand: format,
            product: format,
            ds: format,
            output: format,
            gradient: format,
            repeated_heads: None,
            delta_from_weights: false,
            normalised: false,
        }
    }

    /// A fused kernel: scores and sums in `f32`; `W`, `dS`, `o` and the gradients in 16 bits.
    #[must_use]
    pub const fn flash(name: &'static str, half: Format) -> Self {
        let base = Self::uniform(name, Format::F32);
        Arithmetic {
            operand: half,
            weight_operand: half,
            ds: half,
            output: half,
            gradient: half,
            ..base
        }
    }

    /// Separate passes that store every matrix in 16 bits.
    #[must_use]
    pub const fn eager(name: &'static str, half: Format) -> Self {
        let base = Self::uniform(name, half);
        Arithmetic {
            accumulator: Format::F32,
            repeated_heads: Some(half),
            delta_from_weights: true,
            normalised: true,
            ..base
        }
    }

    /// A plain kernel whose matrices are all of this format.
    #[must_use]
    pub const fn plain(format: Format) -> Self {
        Self::eager("plain", format)
    }

    /// The recipe of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        RECIPES.iter().copied().find(|recipe| recipe.name == name)
    }
}

/// The recipes that the gallery runs at.
pub const RECIPES: &[Arithmetic] = &[
    Arithmetic::uniform("f64", Format::F64),
    Arithmetic::uniform("f32", Format::F32),
    Arithmetic {
        operand: Format::Tf32,
        weight_operand: Format::Tf32,
        ds: Format::Tf32,
        ..Arithmetic::uniform("tf32", Format::F32)
    },
    Arithmetic::flash("flash-bf16", Format::Bf16),
    Arithmetic::flash("flash-f16", Format::F16),
    Arithmetic::eager("eager-bf16", Format::Bf16),
    Arithmetic::eager("eager-f16", Format::F16),
];
