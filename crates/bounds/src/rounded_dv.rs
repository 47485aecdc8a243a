//! `dv` from a `P` whose rounding is known, and sums that are exact. Sections 7.2 and 7.3 of `docs/bounds.md`.

use super::context::BoundContext;
use super::format::Format;
use super::operands::converts;
use super::range::RoundingRange;
use super::recipe::{Gqa, Recipe};
use super::roundoff::Roundoff;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::store::GRADIENT_ROUNDINGS;
use super::sums::{Sums, only};
use super::term::Term;
use super::weight::KeptWeight;
use sus_reference::problem::Row;

/// Whether the `P` of `dv` is normalised and then rounded to nearest, once, so that its rounding may be known, and its product with
/// `G` as well.
pub(super) fn rounds_p_once(a: &Roundoff<'_>, recipe: &Recipe) -> bool {
    let once = !a.is_narrow(recipe.elementwise) || recipe.elementwise == recipe.p;
    let plain = recipe.normalised_p && recipe.row_maximum && !converts(recipe);
    let plain = plain && recipe.running_dv == 0;
    once && plain && a.is_narrow(recipe.p) && recipe.p != Format::Tf32
}

impl BoundContext<'_> {
    /// Whether the ranges of `dv` count the rounding of `P`. Under dropout it is that of `P` or of `P Z`, and where the values are in the
    /// keys there is no `dv`: then the rounding stands in the error.
    pub(super) fn follows_p(&self) -> bool {
        let options = self.input.problem.options();
        let is_of_p = options.dropout.is_none() && !options.v_of_k;
        self.follows_known && is_of_p && rounds_p_once(&self.roundoff, self.input.recipe)
    }

    /// Section 7.2: the largest relative error of a kept weight.
    pub(super) fn relative_error_of_weight(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &KeptWeight,
    ) -> f64 {
        let of_w = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
        let of_lambda = kept.constant + 2.0 * self.roundoff.u;
        // A floored weight has the error of 1 / lambda alone.
        match self.input.sample {
            None => of_w,
            Some(_) if kept.varies == 0.0 => of_lambda,
            Some(_) => of_w + of_lambda,
        }
    }

    /// Section 7.2: the least and the largest number that `P` may be stored as for `dv`.
    fn stored_weight(&self, errors: &RowErrors, e: &EntryError, kept: &KeptWeight) -> [f64; 2] {
        let (a, format) = (&self.roundoff, self.input.recipe.p);
        let relative = self.relative_error_of_weight(errors, e, kept);
        // This W itself is an f64, by the steps that the recipe's errors were counted for: 2^-53 / u of them, and
        // 8 2^-53 for the truth's lse and the functions exp and expm1 here.
        let own = libm::ldexp(1.0, -53);
        let relative = relative * (1.0 + own / a.u) + 8.0 * own;
        // RN(W (1 - r)) and RN(W (1 + r)).
        let (least, most) = (kept.w * (1.0 - relative), kept.w * (1.0 + relative));
        if least < format.smallest_normal() {
            // A kernel may scale it first, or flush it to zero.
            let error = a.narrow_scaled(format, most);
            return [least - error, most + error];
        }
        [format.round(least), format.round(most)]
    }
}

/// The largest power of two that a number is a multiple of; infinite for 0.
pub(super) fn lowest_bit(x: f64) -> f64 {
    let significand = (x.to_bits() & ((1 << 52) - 1)) | 1 << 52;
    let drop = significand.trailing_zeros() as i32;
    match x {
        0.0 => f64::INFINITY,
        _ if !x.is_normal() => 0.0,
        _ => libm::ldexp(1.0, libm::ilogb(x) - 52 + drop),
    }
}

/// Section 7.2: `dv` of some keys of one key head, from weights that are rounded.
pub(super) struct RoundedDv {
    first_key: usize,
    width: usize,
    sums: Vec<Sums>,
    least: Vec<f64>,
    most: Vec<f64>,
    abs: Vec<f64>,
    /// A number that all terms are multiples of; 0 if a term is not known.
    unit: Vec<f64>,
}

impl RoundedDv {
    pub(super) fn new(keys: std::ops::Range<usize>, width: usize) -> Self {
        let zeros = || vec![0.0; keys.len() * width];
        let sums = vec![Sums::new(width); keys.len()];
        let unit = vec![f64::INFINITY; keys.len() * width];
        let first_key = keys.start;
        RoundedDv { first_key, width, sums, least: zeros(), most: zeros(), abs: zeros(), unit }
    }

    /// The share of one entry in the `dv` of its key.
    pub(super) fn add_entry(
        &mut self,
        context: &BoundContext<'_>,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
    ) {
        let (p, number) = (context.input.problem, context.input.problem.row_number(row));
        let (g, key) = (p.g(row), e.j - self.first_key);
        if let Some(sample) = context.input.sample
            && context.input.is_ambiguous(row, e.j)
        {
            let kept = context.sampled(errors, e, sample.lambda[number]);
            let [least, most] = context.stored_weight(errors, e, &kept);
            self.add(key, [-most.max(-least), most.max(-least)], g);
        }
        let Some(kept) = context.kept(errors, e, number) else { return };
        let [least, most] = context.stored_weight(errors, e, &kept);
        let of_p = Term::deterministic((least - kept.w).abs().max((most - kept.w).abs()));
        self.sums[key].add(&[kept.w], &[only(Stage::P, of_p)], &[g]);
        self.add(key, [least, most], g);
    }

    fn add(&mut self, key: usize, [low, high]: [f64; 2], g: &[f64]) {
        let at = key * self.width..(key + 1) * self.width;
        // Section 7.3: the unit of a product of two numbers is that of its lowest bit, exact in f64.
        let known = low == high;
        for (unit, g) in self.unit[at.clone()].iter_mut().zip(g) {
            *unit = if known { unit.min(lowest_bit(low * g)) } else { 0.0 };
        }
        let sums = self.least[at.clone()].iter_mut().zip(&mut self.most[at.clone()]);
        for ((least, most), (abs, g)) in sums.zip(self.abs[at].iter_mut().zip(g)) {
            let (a, b) = (low * g, high * g);
            *least += a.min(b);
            *most += a.max(b);
            *abs += a.abs().max(b.abs());
        }
    }

    /// A query head ends: see [`Sums::end_head`].
    pub(super) fn end_head(&mut self, roundoff: &Roundoff<'_>) {
        self.sums.iter_mut().for_each(|sums| sums.end_head(roundoff));
    }

    pub(super) fn finish(&self, context: &BoundContext<'_>) -> Vec<RoundingRange> {
        let (a, recipe, group) =
            (&context.roundoff, context.input.recipe, context.input.problem.group());
        let tail = context.tail(0.0, 1.0);
        let one = |at: usize| {
            let (sums, d) = (&self.sums[at / self.width], at % self.width);
            // Section 7.3: no partial sum of multiples of a unit needs more bits than the sum of absolute values.
            let is_exact = self.abs[at] * a.product_u < self.unit[at];
            // Section 7.2: the least and the most of all terms, and the error of the sum alone.
            let mut error = 0.0;
            if !is_exact {
                // The sums here are f64: an addition and a product for each term, and a few operations after them.
                error = sums.element(d, a, tail, GRADIENT_ROUNDINGS).stages[Stage::Sum as usize]
                    + libm::ldexp((sums.terms() + 4) as f64, -53) * self.abs[at];
            }
            if recipe.gqa == Gqa::Repeated && group > 1 {
                error += sums.repeated(d, a, group);
            }
            let (middle, half) = (
                f64::midpoint(self.least[at], self.most[at]),
                (self.most[at] - self.least[at]) / 2.0,
            );
            RoundingRange::stored(middle, half + error, recipe.output, recipe.flush_to_zero)
        };
        (0..self.least.len()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_divides() {
        for (x, bit) in [(1.0, 1.0), (-0.75, 0.25), (96.0, 32.0), (0.0, f64::INFINITY)] {
            assert_eq!(lowest_bit(x), bit);
        }
    }
}
