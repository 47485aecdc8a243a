//! The end of every gradient: its sum, a running total, the reduction over repeated heads and the rounding of the result.
//! Sections 6.3 to 6.5 and 6.8 of `docs/bounds.md`.

use super::context::BoundContext;
use super::recipe::Gqa;
use super::stage::Stage;
use super::sums::{ElementError, Sums, Tail};

/// Roundings of a term of a gradient's sum beyond its `n` products and additions.
///
/// 6: a kernel of base two multiplies `k` by `c = fl(fl(scale) fl(log2 e))` and the sum by `fl(ln 2)`, which makes three
/// constants, the product of two of them, and two products. No layout that a recipe leaves free has more. Section 6.3.
pub(super) const GRADIENT_ROUNDINGS: usize = 6;

/// Tiles that a range of `n` terms reaches into, wherever the first tile begins; 0 where no total is stored between tiles.
pub(super) fn tiles_of(n: usize, tile: usize) -> usize {
    if tile == 0 { 0 } else { n.div_ceil(tile) + 1 }
}

impl BoundContext<'_> {
    /// The error of element `d` of a sum that is stored as a gradient, near `truth`.
    pub(super) fn stored_sum(&self, sums: &Sums, d: usize, tail: Tail, truth: f64) -> ElementError {
        self.stored_running_sum(sums, d, tail, truth, 0)
    }

    /// The same of a sum that is carried in the output format, stored after each of at most `tiles` tiles.
    pub(super) fn stored_running_sum(
        &self,
        sums: &Sums,
        d: usize,
        tail: Tail,
        truth: f64,
        tiles: usize,
    ) -> ElementError {
        let mut element = self.running_sum(sums, d, tail, tiles);
        self.store_gradient(&mut element, truth);
        element
    }

    /// The same of a key's gradient, whose heads may be reduced after they are rounded.
    pub(super) fn stored_key_sum(
        &self,
        sums: &Sums,
        d: usize,
        tail: Tail,
        truth: f64,
        tiles: usize,
    ) -> ElementError {
        let group = self.input.problem.group();
        let mut element = self.running_sum(sums, d, tail, tiles);
        if self.input.recipe.gqa == Gqa::Repeated && group > 1 {
            let more = sums.repeated(d, &self.roundoff, group);
            element.add(Stage::Store as usize, more, more);
        }
        self.store_gradient(&mut element, truth);
        element
    }

    /// Sections 6.3 and 6.8: a sum, and the roundings of its running total.
    fn running_sum(&self, sums: &Sums, d: usize, tail: Tail, tiles: usize) -> ElementError {
        let mut element = sums.element(d, &self.roundoff, tail, GRADIENT_ROUNDINGS);
        sums.add_running(&mut element, d, &self.roundoff, tiles);
        element
    }

    /// Section 6.5: the rounding of a result.
    pub(super) fn store_gradient(&self, element: &mut ElementError, truth: f64) {
        let recipe = self.input.recipe;
        // 2 = 1 + 1: the scale is rounded and multiplied, with one error for all terms.
        let scale = 2.0 * self.roundoff.u * truth.abs();
        element.add(Stage::Sum as usize, scale, scale);
        element.store(truth, |x| recipe.output.rounding_error(x, recipe.flush_to_zero));
        // A result that may overflow has no bound.
        if truth.abs() + element.worst_case >= recipe.output.overflow() {
            (element.worst_case, element.threshold) = (f64::INFINITY, f64::INFINITY);
        }
    }
}
