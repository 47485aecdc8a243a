//! The stored values that a right kernel can have: rounding to nearest is monotone, so a result that lies between two
//! numbers is stored between the roundings of these. Section 7 of `docs/bounds.md`.
//!
//! Where the error of a result is small against the spacing of its format that says far more than its bound, which has
//! half a spacing to either side. The same holds of intermediate results: a weight known to a few units of the accumulator
//! has one rounding, unless it is near a tie.

use super::bias_sink::Element;
use super::context::BoundContext;
use super::input::BoundsInput;
use super::limits::LARGEST_HEAD;
use super::range::RoundingRange;
use super::recipe::Recipe;
use super::rounded_dv::rounds_p_once;
use super::roundoff::Roundoff;
use super::sums::ElementError;
use sus_reference::TensorName;
use sus_reference::tensor::Tensor;

/// The ranges of all gradients, element by element.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundingRanges {
    /// Of `o`; empty but for a recipe of 8 bits.
    pub o: Vec<RoundingRange>,
    /// Of `dq`.
    pub dq: Vec<RoundingRange>,
    /// Of `dk`.
    pub dk: Vec<RoundingRange>,
    /// Of `dv`, from a `P` that is not rounded for its product.
    pub dv: Vec<RoundingRange>,
    /// Of `dv`, from a `P` that is rounded; empty where its rounding is not known.
    pub dv_rounded: Vec<RoundingRange>,
    /// Of `dbias`, if there is a bias.
    pub dbias: Vec<RoundingRange>,
    /// Of `dsink`, if there is a sink.
    pub dsink: Vec<RoundingRange>,
    /// Of `dslopes`, if there are slopes.
    pub dslopes: Vec<RoundingRange>,
    /// Of `dkv`, if the values are in the keys; there are none of `dk` and `dv` then.
    pub dkv: Vec<RoundingRange>,
}

impl RoundingRanges {
    /// The ranges of a gradient: all its elements are in the first ones, or all in the second ones. None of a tensor without.
    #[must_use]
    pub fn of(&self, tensor: TensorName) -> Vec<&[RoundingRange]> {
        let all: &[&Vec<RoundingRange>] = match tensor {
            TensorName::O => &[&self.o],
            TensorName::Dq => &[&self.dq],
            TensorName::Dk => &[&self.dk],
            TensorName::Dv => &[&self.dv_rounded, &self.dv],
            TensorName::Dbias => &[&self.dbias],
            TensorName::Dsink => &[&self.dsink],
            TensorName::Dslopes => &[&self.dslopes],
            TensorName::Dkv => &[&self.dkv],
            _ => &[],
        };
        all.iter().map(|ranges| ranges.as_slice()).filter(|ranges| !ranges.is_empty()).collect()
    }
}

/// The ranges of the gradients; `None` for a recipe that stores nothing in a narrow format, and for a large problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("one_key").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, ranges};
/// let truth = Truth::exact(&problem)?;
/// let gradients = truth.gradients(None);
/// let (recipe, saved) = (Recipe::built_in("flash-bf16").unwrap(), truth.saved());
/// let ranges = ranges(&BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients));
/// // With one key every weight is 1, and nearly every dv one number.
/// let dv = ranges.unwrap().dv_rounded;
/// assert!(dv.iter().filter(|range| range.least == range.most).count() > dv.len() * 9 / 10);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn ranges(input: &BoundsInput<'_>) -> Option<RoundingRanges> {
    let p = input.problem;
    let s = p.sizes();
    let work = s.queries.saturating_mul(s.keys).saturating_mul(p.group());
    if work > LARGEST_HEAD || !has_ranges(input.recipe) {
        return None;
    }
    let context = BoundContext { follows_known: true, ..BoundContext::new(input) };
    let all_keys = 0..s.keys;
    let (rows, dq) = context.each_row(|row, errors| match input.sample {
        None => context.dq_row(row, errors, &errors.entries),
        Some(_) => context.dq_row(row, errors, &context.entries(row, errors, &all_keys)),
    });
    let (mut dk, mut dv, mut dv_rounded) = (Vec::new(), Vec::new(), Vec::new());
    let mut dkv = Vec::new();
    for block in context.each_key_block(&rows, |block| block) {
        if let Some(of_block) = block.dkv {
            dkv.extend(of_block);
        } else {
            dk.extend(block.dk);
            dv.extend(block.dv);
        }
        dv_rounded.extend(block.dv_rounded);
    }
    let g = input.gradients;
    let of_elements = |all: Option<Vec<Element>>| {
        all.unwrap_or_default().into_iter().map(|(x, error)| context.range(x, &error)).collect()
    };
    Some(RoundingRanges {
        o: Vec::new(),
        dq: context.stored(g.dq.as_slice(), &dq.concat()),
        dk: context.stored(g.dk.as_slice(), &dk),
        dv: context.stored(g.dv.as_slice(), &dv),
        dv_rounded,
        dbias: of_elements(context.dbias(None)),
        dsink: of_elements(context.dsink(&rows, None)),
        dslopes: of_elements(context.dslopes()),
        dkv: context.stored(g.dkv.as_ref().map_or(&[], Tensor::as_slice), &dkv),
    })
}

/// Whether a recipe stores something in a narrow format, `P` or its results.
#[must_use]
pub fn has_ranges(recipe: &Recipe) -> bool {
    let a = Roundoff::new(recipe);
    a.is_narrow(recipe.output) || rounds_p_once(&a, recipe)
}

impl BoundContext<'_> {
    fn stored(&self, truth: &[f64], elements: &[ElementError]) -> Vec<RoundingRange> {
        truth.iter().zip(elements).map(|(&x, element)| self.range(x, element)).collect()
    }

    pub(super) fn range(&self, truth: f64, element: &ElementError) -> RoundingRange {
        let recipe = self.input.recipe;
        RoundingRange::stored(truth, element.before, recipe.output, recipe.flush_to_zero)
    }
}
