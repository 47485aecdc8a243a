//! How a simulated kernel rounds: a format for each named point.
//!
//! A kernel is computed in `f64` and rounded after every operation. For `+ - * /` and the square root that is exactly
//! the arithmetic of the narrower type, since 53 bits are more than twice 24 bits and two.

pub use sus_bounds::Format;
use sus_bounds::{Delta, Gqa, Recipe};

/// The formats of a kernel, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arithmetic {
    /// Operands of the products with `q`, `k`, `v`, `G`.
    pub operand: Format,
    /// Sums and everything not named here.
    pub accumulator: Format,
    /// Scores, `W`, `dP` and `dS` between elementwise steps.
    pub elementwise: Format,
    /// `W` as an operand of `W v` and `W^T G`.
    pub weight_operand: Format,
    /// `dS` as an operand.
    pub ds: Format,
    /// The stored `o`.
    pub output: Format,
    /// The stored gradients.
    pub gradient: Format,
    /// The format in which each query head's `dk`, `dv` are rounded and then summed over the group.
    pub repeated_heads: Option<Format>,
    /// `delta_i = sum_j W_ij dP_ij` in place of `G_i . o_i`.
    pub delta_from_weights: bool,
    /// Weights are normalised before they are rounded, as in three separate passes.
    pub normalised: bool,
}

impl Arithmetic {
    /// What a recipe says.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Self {
        let tf32 = recipe.p == Format::Tf32;
        Arithmetic {
            operand: if tf32 { Format::Tf32 } else { recipe.input },
            accumulator: recipe.accumulator,
            elementwise: recipe.elementwise,
            weight_operand: recipe.p,
            ds: recipe.ds,
            output: recipe.o,
            gradient: recipe.output,
            repeated_heads: (recipe.gqa == Gqa::Repeated).then_some(recipe.output),
            delta_from_weights: recipe.delta == Delta::Weights,
            normalised: recipe.tile == 0,
        }
    }

    /// The arithmetic of a built-in recipe.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Recipe::built_in(name).as_ref().map(Self::of)
    }

    /// A kernel whose every operation is in `f64`.
    #[must_use]
    pub(super) fn exact() -> Self {
        let recipe = Recipe::built_in("f64").expect("a built-in recipe");
        Self::of(&recipe)
    }

    /// An unfused kernel: separate passes that round every matrix they store to this format.
    #[must_use]
    pub fn unfused(format: Format) -> Self {
        Arithmetic {
            operand: format,
            accumulator: if format == Format::F64 { format } else { Format::F32 },
            elementwise: format,
            weight_operand: format,
            ds: format,
            output: format,
            gradient: format,
            repeated_heads: Some(format),
            delta_from_weights: true,
            normalised: true,
        }
    }
}
