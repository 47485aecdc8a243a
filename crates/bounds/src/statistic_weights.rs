//! The scales of the errors of one tensor, and the weights of the linear statistics. "The weights" in `docs/verdict.md`.

use super::bound::Bound;
use super::context::BoundContext;
use super::format::Format;
use super::operands::converts;
use super::recipe::Recipe;
use super::stage::Stage;
use super::ties::tied;
use sus_reference::tensor::Tensor;

/// How many statistics are linear in the errors: the mean and the slope.
pub(super) const LINEAR: usize = 2;

/// Bits beyond its format from which a result's rounding is nearly uniform: `(2/3) 4^-6` is 0.05 % of a third.
const MANY_BITS: i32 = 6;

/// The squared parameter of the rounding of a stored result of about this size, over the square of half a spacing.
///
/// With `k` bits more than the format holds the rounding is one of `2^k` points, and the squared parameter
/// `sum_{i=1}^k 4^-i + 4^-k = 1/3 + (2/3) 4^-k`: "The model" in `docs/verdict.md`.
pub(super) fn stored_parameter(format: Format, truth: f64) -> f64 {
    let significant = 53 - (truth.to_bits() | 1 << 52).trailing_zeros() as i32;
    let more = if significant >= format.precision() + MANY_BITS { MANY_BITS } else { 1 };
    1.0 / 3.0 + libm::ldexp(2.0 / 3.0, -2 * more)
}

/// The stages whose errors the rounding model follows.
pub(super) fn followed(context: &BoundContext<'_>) -> &'static [Stage] {
    let recipe = context.input.recipe;
    // Truncated operands all err to one side; and no model follows the conversion of inputs, which is the same number everywhere.
    let truncated = [recipe.p, recipe.ds, recipe.p_in_ds].contains(&Format::Tf32);
    // Nor that of G where the softmax divides after its product.
    if truncated || converts(recipe) || !recipe.row_maximum || !recipe.normalised_p {
        return &[Stage::Store];
    }
    // Where scores are stored, their roundings are in delta's share too.
    if context.roundoff.is_narrow(recipe.elementwise) || context.roundoff.is_narrow(recipe.shifted)
    {
        return &[Stage::P, Stage::Ds, Stage::Store];
    }
    &[Stage::P, Stage::Ds, Stage::Store, Stage::StoredO]
}

/// The bound of the errors of element `at` that no rounding model follows, and half the spacing of the stored result.
pub(super) fn rest_and_store(
    recipe: &Recipe,
    bound: &Bound,
    at: usize,
    truth: f64,
    followed: &[Stage],
) -> (f64, f64) {
    let threshold = bound.threshold[at];
    let share = |stage: Stage| f64::from(bound.stages[at][stage as usize]) * threshold;
    let random: f64 = followed.iter().map(|&of| share(of)).sum();
    // 1e-6: shares are kept in f32, so that four of them err by less than 8 2^-24 of the threshold.
    let rest = ((threshold - random) + 1e-6 * threshold).max(0.0);
    // Repeated heads round more than once: their share is more than half a spacing.
    let store = recipe.output.rounding_error(truth.abs(), recipe.flush_to_zero);
    (rest, store.max(share(Stage::Store)))
}

/// One tensor: the scales of its errors, and the weights of the linear.
pub(super) struct StatisticWeights {
    /// Of the linear statistics; those of the mean also normalise.
    pub(super) linear: [Tensor<f64>; LINEAR],
    pub scale: Vec<f64>,
    /// Squared parameters of the roundings of the results.
    pub stored: Vec<f64>,
    /// Bounds of the errors that no rounding model follows. Their signs are unknown.
    pub rest: Vec<f64>,
    /// Half the spacing of the results' format.
    pub spacing: Vec<f64>,
    /// The part of the known roundings, if a kernel makes them.
    pub known: Vec<f64>,
    pub truth: Vec<f64>,
}

impl StatisticWeights {
    /// From the squared parameters of the roundings that are followed, and bounds of the errors of dropout, none without it.
    pub(super) fn new(
        context: &BoundContext<'_>,
        truth: &Tensor<f64>,
        bound: &Bound,
        elements: impl Iterator<Item = (f64, f64)>,
        of_dropout: &[f64],
        heads: usize,
    ) -> Self {
        let recipe = context.input.recipe;
        let followed = followed(context);
        let logs =
            truth.as_slice().iter().map(|x| libm::log(x.abs().max(f64::MIN_POSITIVE)) as f32);
        let logs: Vec<f32> = logs.collect();
        let per_head = (logs.len() / heads.max(1)).max(1);
        let ties: Vec<f64> = logs
            .chunks(per_head)
            .flat_map(|logs| tied(logs, recipe.output))
            .map(f64::from)
            .collect();
        let mut all = StatisticWeights {
            linear: std::array::from_fn(|_| Tensor::zeros(truth.shape())),
            scale: Vec::new(),
            stored: Vec::new(),
            rest: Vec::new(),
            spacing: Vec::new(),
            known: Vec::new(),
            truth: truth.as_slice().to_vec(),
        };
        for (at, (of_roundings, known)) in elements.enumerate() {
            let truth = all.truth[at];
            let (rest, store) = rest_and_store(recipe, bound, at, truth, followed);
            let rest = rest + of_dropout.get(at).unwrap_or(&0.0);
            // The squared parameter of the rounding of the result, times its ties.
            let stored = stored_parameter(recipe.output, truth) * store * store * ties[at];
            // s_x^2: squared parameters, and squares of bounds.
            let scale = libm::sqrt(of_roundings + stored + rest * rest + known * known);
            let inverse = if scale > 0.0 && scale.is_finite() { 1.0 / scale } else { 0.0 };
            // "The weights": m_x / s_x^2 with m = s for the mean and m = truth for the slope.
            let of = [inverse, truth * inverse * inverse];
            for (weights, weight) in all.linear.iter_mut().zip(of) {
                weights.as_mut_slice()[at] = weight;
            }
            all.scale.push(scale);
            all.stored.push(stored);
            all.rest.push(rest);
            all.spacing.push(store);
            all.known.push(known);
        }
        all
    }

    /// The weights of one row or key.
    pub(super) fn row(&self, b: usize, h: usize, n: usize) -> [&[f64]; LINEAR] {
        std::array::from_fn(|f| self.linear[f].row(b, h, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// The errors of rounding all numbers in `[1, 1 + 2 spacings)` with `k` bits more than the format, over half a spacing.
    fn errors(format: Format, k: i32) -> Vec<f64> {
        let step = libm::ldexp(1.0, 1 - format.precision() - k);
        let numbers = (0..2_i32 << k).map(|n| 1.0 + f64::from(n) * step);
        let half_spacing = format.unit_roundoff();
        numbers.map(|x| (format.round(x) - x) / half_spacing).collect()
    }

    fn mean(x: impl ExactSizeIterator<Item = f64>) -> f64 {
        let n = x.len() as f64;
        x.sum::<f64>() / n
    }

    /// The variance is a lower limit of a squared sub-Gaussian parameter. It is reached where `k` bits are told apart.
    #[test]
    fn the_parameter_of_a_stored_result_is_the_variance_of_its_rounding() {
        for format in [Format::Bf16, Format::F16] {
            for k in 1..=9 {
                let errors = errors(format, k);
                let variance = mean(errors.iter().map(|e| e * e));
                // Sums of at most 2^10 squares.
                let exact = 1.0 / 3.0 + libm::ldexp(2.0 / 3.0, -2 * k);
                assert_relative_eq!(variance, exact, max_relative = 1e-12);
                let of_k_bits = 1.0 + libm::ldexp(1.0, 1 - format.precision() - k);
                let parameter = stored_parameter(format, of_k_bits);
                assert!(parameter >= variance * (1.0 - 1e-12), "{k}: {parameter} {variance}");
                if k == 1 || k == MANY_BITS {
                    assert_relative_eq!(parameter, variance, max_relative = 1e-12);
                }
                // Sub-Gaussian: E e^(x d) <= e^(parameter x^2 / 2).
                for x in [0.25, 1.0, 3.0, 10.0] {
                    let moment = mean(errors.iter().map(|e| libm::exp(x * e)));
                    let limit = libm::exp(parameter * x * x / 2.0);
                    assert!(moment <= limit * (1.0 + 1e-12), "{k} {x}");
                }
            }
        }
    }
}
