//! The known roundings of a row with a single weight. Section 7.4 of `docs/bounds.md`.

use super::context::BoundContext;
use super::operands::converts;
use super::range::distance;
use super::row::{RowErrors, SECOND_ORDER_OF_O};
use sus_reference::problem::Row;

impl BoundContext<'_> {
    /// Section 7.4: in a row with one weight `P` is 1 whether it is `exp(s - m)` or `exp(s - lse)`, and `o` is `v`, both up to
    /// errors of the accumulator, so that their roundings are known.
    pub(super) fn single_weight(&self, row: Row, errors: &mut RowErrors) {
        let (a, recipe) = (&self.roundoff, self.input.recipe);
        let [e] = errors.entries.as_slice() else { return };
        // Without the row's maximum, with a v that is converted, or with dropout, P is not 1 and o not v.
        let as_it_is = recipe.row_maximum && !converts(recipe) && !a.is_narrow(recipe.elementwise);
        let as_it_is = as_it_is && self.input.problem.options().dropout.is_none();
        if errors.sink.is_some() || !as_it_is || errors.weight_error >= 0.5 {
            return;
        }
        let amplify = 1.0 / (1.0 - errors.weight_error);
        let of_w = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
        // RN(1 +- r) - 1.
        let mut of_p = 0.0;
        if a.is_narrow(recipe.p) {
            of_p = a.narrow_scaled(recipe.p, e.w).min(distance(recipe.p, 1.0, of_w));
        }
        let g = self.input.problem.g(row);
        // max |RN(v +- e) - v|.
        let mut of_o = vec![0.0; g.len()];
        if recipe.delta.may_be_stored() && a.is_narrow(recipe.o) {
            let n = errors.forward_roundings;
            // Numerator and denominator are sums with an error of gamma each, of a P that is 1 + of_p at most.
            let relative = amplify * (of_p + of_w + (2.0 + of_p) * a.gamma(n));
            for (of_o, &o) in of_o.iter_mut().zip(self.input.saved.o.row(row.b, row.h, row.i)) {
                let error = relative * o.abs() + n as f64 * a.eta;
                *of_o = a.narrow(recipe.o, o.abs()).min(distance(recipe.o, o, error));
            }
        }
        let products = || g.iter().zip(&of_o).map(|(g, o)| g.abs() * o);
        let of_p = of_p * e.dp.abs();
        let norms = [of_p, libm::sqrt(products().map(|x| x * x).sum())];
        let stored = amplify * (of_p + products().sum::<f64>() * SECOND_ORDER_OF_O);
        errors.delta_stored = errors.delta_stored.min(stored);
        for (norm, less) in errors.delta_stored_norms.iter_mut().zip(norms) {
            *norm = norm.min(less);
        }
    }
}
