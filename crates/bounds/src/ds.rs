//! The errors of `dP`, `dS` and `dZ` in one entry, by stage. Sections 5.3 to 5.5 of `docs/bounds.md`.

use super::context::BoundContext;
use super::format::Format;
use super::roundoff::is_power_of_two;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::Terms;
use super::term::Term;
use super::weight::{KeptWeight, WeightErrors};
use sus_reference::problem::Row;

/// `dS` and its errors.
pub(super) struct DsErrors {
    pub(super) ds: f64,
    pub(super) terms: Terms,
    /// Bound of the relative error of `W`.
    pub(super) relative: f64,
}

/// `dZ` and its errors.
pub(super) struct DzErrors {
    pub(super) dz: f64,
    pub(super) terms: Terms,
    /// The largest magnitude that it may have, all errors counted.
    pub(super) largest: f64,
}

impl BoundContext<'_> {
    /// Sections 5.3 and 5.4: `dS` and its errors but for what `lse` and `delta` share over the row.
    pub(super) fn ds_terms(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        kept: &KeptWeight,
        weight: &WeightErrors,
    ) -> DsErrors {
        let a = &self.roundoff;
        let dlse = self.input.problem.dlse(row);
        let t = e.dp - errors.delta + dlse;
        let WeightErrors { mut terms, relative: r, relative_threshold, .. } = *weight;
        // |t| e_W.
        for term in &mut terms {
            *term = term.times(t);
        }
        let w = kept.w;
        // The P in P t, which may be stored narrow.
        terms[Stage::P as usize] = Term::deterministic(
            t.abs() * a.narrow_scaled(self.input.recipe.p_in_ds, w * (1.0 + r)),
        );
        // W e_dP, and the second orders of the worst case.
        let mut dp = e.dp_sum.times(w).plus(Term::deterministic(w * e.dp_stored));
        dp.worst_case = dp.worst_case * (1.0 + r)
            + w * r * (errors.delta_error.worst_case + errors.delta_stored);
        // The second orders of the threshold. Section 3.4.
        let of_delta = errors.delta_error.threshold(self.lambda) + errors.delta_stored;
        dp.deterministic +=
            w * relative_threshold * (of_delta + e.dp_sum.threshold(self.lambda) + e.dp_stored);
        let size = e.dp.abs() + errors.delta.abs() + dlse.abs();
        let ds = w * t;
        // dS is rounded at the size that it may have with all errors before.
        let before = terms.iter().map(|term| term.worst_case).sum::<f64>() + dp.worst_case;
        // 3 u of the operands: two subtractions, and delta or delta - dlse stored between two kernels. 2 u of the product:
        // P t, and the scale.
        let difference = Term::rounding(a.u * (3.0 * w * size + 2.0 * ds.abs()));
        terms[Stage::Dp as usize] = dp.beside(difference);
        terms[Stage::Ds as usize] = Term::deterministic(a.elementwise(ds.abs() + before));
        DsErrors { ds, terms, relative: r }
    }

    /// Section 5.5: `dS` times the slope, rounded for the products.
    pub(super) fn dz_terms(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &KeptWeight,
        of_ds: &DsErrors,
    ) -> DzErrors {
        let DsErrors { ds, mut terms, .. } = *of_ds;
        // An error of dS, times the slope; an error of the slope, times a dS that errs.
        let dz = ds * e.slope;
        let before: f64 = terms.iter().map(|term| term.worst_case).sum();
        for term in &mut terms {
            *term = term.times(e.slope);
        }
        // The parts of delta and lse, which the row shares: they count in the size that is rounded, and nowhere else here.
        let of_delta = kept.w * (errors.delta_error.worst_case + errors.delta_stored);
        let shared = (of_delta + ds.abs() * errors.lse_error.worst_case) * e.slope.abs();
        let rounded = dz.abs() + before * e.slope.abs() + shared;
        let slope = e.slope_error * (ds.abs() + before);
        let slope = if self.input.problem.options().softcap.is_some() { slope } else { 0.0 };
        let stored = self.dz_rounding(rounded + slope);
        terms[Stage::Score as usize] =
            terms[Stage::Score as usize].plus(Term::deterministic(slope));
        terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::deterministic(stored));
        DzErrors { dz, terms, largest: rounded + slope + stored }
    }

    /// Section 5.5: the roundings of `dZ` of this magnitude for the products, and between elementwise steps.
    pub(super) fn dz_rounding(&self, rounded: f64) -> f64 {
        let (a, recipe) = (&self.roundoff, self.input.recipe);
        // Underflow happens before or after the scale.
        let flush = recipe.flush_to_zero;
        let unscaled = 1.0_f64.max(self.input.problem.scale().abs());
        let narrow = |format: Format| {
            if !a.is_narrow(format) {
                return 0.0;
            }
            (format.unit_roundoff() * rounded).max(format.underflow_error(flush) * unscaled)
        };
        // Where dS is stored between steps: by the scale unless it is a power of two, twice by the softcap. The
        // products then read numbers that are stored already.
        let capped = self.input.problem.options().softcap.is_some();
        let steps = f64::from(u8::from(!is_power_of_two(self.input.problem.scale().abs())))
            + 2.0 * f64::from(u8::from(capped));
        if a.is_narrow(recipe.elementwise) {
            steps * narrow(recipe.elementwise) + recipe.elementwise.underflow_error(flush)
        } else {
            narrow(recipe.ds)
        }
    }
}

/// Section 6.2: the errors of `lse` and `delta` in one entry.
pub(super) fn add_row_terms(
    errors: &RowErrors,
    kept: &KeptWeight,
    t: f64,
    slope: f64,
    terms: &mut Terms,
) {
    // dZ = W t slope: d lse gives -W t slope, d delta gives -W slope.
    let by_weight = kept.w * slope;
    terms[Stage::Lse as usize] = errors.lse_error.times(kept.varies * t * slope);
    terms[Stage::Delta as usize] = errors.delta_error.times(by_weight);
    terms[Stage::StoredO as usize] = Term::deterministic(errors.delta_stored).times(by_weight);
}
