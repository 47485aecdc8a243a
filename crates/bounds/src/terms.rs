//! The errors of one entry's terms: of its weight, of `dS`, of `dZ`, by stage.

use super::bound::Core;
use super::entry::{Term, is_power_of_two};
use super::format::Format;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::Terms;
use sus_reference::problem::Row;

/// What a kernel uses for a weight, and what that depends on.
pub(super) struct Kept {
    /// `W~`.
    pub(super) w: f64,
    /// `W~` if it varies with `W`, 0 where it is `1 / lambda`.
    pub(super) varies: f64,
    /// Relative error of `1 / lambda`.
    pub(super) constant: f64,
}

impl Core<'_> {
    /// The weight in force of one entry, if it is kept.
    pub(super) fn kept(&self, errors: &RowErrors, e: &EntryError, number: usize) -> Option<Kept> {
        let Some(sample) = self.q.sample else {
            return Some(Kept { w: e.w, varies: e.w, constant: 0.0 });
        };
        sample.pattern.row(number).binary_search(&(e.j as u32)).ok()?;
        Some(self.sampled(errors, e, sample.lambda[number]))
    }

    /// Section "SUS": `max(W, 1 / lambda)`.
    pub(super) fn sampled(&self, errors: &RowErrors, e: &EntryError, lambda: f64) -> Kept {
        let least = 1.0 / lambda;
        let log = e.log.worst_case + e.log_stored + errors.lse_error.worst_case;
        let w = e.w.max(least);
        let varies = e.w * libm::exp(log) >= least * (1.0 - 8.0 * self.a.u);
        // The calibrated lambda is a ratio whose error is that of the row's weights.
        let varies_by_row = lambda.is_finite() && self.calibrated;
        let of_lambda = if varies_by_row { errors.largest_log() } else { 0.0 };
        Kept { w, varies: if varies { w } else { 0.0 }, constant: 2.0 * self.a.u + of_lambda }
    }

    /// A kept weight and its bound. However it is stored, `f32` or better, its rounding is that of the accumulator; or it
    /// is stored as `P` is.
    pub(super) fn kept_weight(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        number: usize,
    ) -> Option<(f64, f64)> {
        let kept = self.kept(errors, e, number)?;
        let (terms, lse, r) = self.weight_terms(errors, e, &kept);
        let of_weight: f64 = terms.iter().map(|term| term.worst_case).sum::<f64>() + lse.worst_case;
        let size = kept.w * (1.0 + r);
        let stored = self.a.narrow_scaled(self.q.recipe.p, size) + 4.0 * self.a.u * size;
        Some((kept.w, of_weight + stored))
    }

    /// Section "W": the errors of a weight by stage; that of `lse` apart.
    ///
    /// What exceeds the first order in `ln W` is counted with the score.
    pub(super) fn weight_terms(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &Kept,
    ) -> (Terms, Term, f64) {
        let lse = errors.lse_error;
        let r = libm::expm1(e.log.worst_case + e.log_stored + lse.worst_case);
        let mut terms = Terms::default();
        let first = e.log.threshold(self.lambda) + e.log_stored + lse.threshold(self.lambda);
        let score = Term {
            worst_case: r - lse.worst_case - e.log_stored,
            deterministic: e.log.deterministic + libm::expm1(first) - first,
            ..e.log
        };
        let constant =
            if kept.w > kept.varies || self.q.sample.is_some() { kept.constant } else { 0.0 };
        terms[Stage::Score as usize] =
            score.times(kept.varies).plus(Term::deterministic(constant * kept.w));
        terms[Stage::ScoreStore as usize] = Term::deterministic(kept.varies * e.log_stored);
        (terms, lse.times(kept.varies), r)
    }

    /// Section "dS": the value and the errors of `dS` but for what `lse` and `delta` share over the row.
    pub(super) fn ds_terms(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        kept: &Kept,
    ) -> (f64, Terms, f64) {
        let a = &self.a;
        let dlse = self.q.problem.dlse(row);
        let t = e.dp - errors.delta + dlse;
        let (mut terms, _, r) = self.weight_terms(errors, e, kept);
        for term in &mut terms {
            *term = term.times(t);
        }
        let w = kept.w;
        terms[Stage::P as usize] =
            Term::deterministic(t.abs() * a.narrow_scaled(self.q.recipe.p_in_ds, w * (1.0 + r)));
        let mut dp = e.dp_sum.times(w).plus(Term::deterministic(w * e.dp_stored));
        dp.worst_case = dp.worst_case * (1.0 + r)
            + w * r * (errors.delta_error.worst_case + errors.delta_stored);
        // The same, second order, of the bound that decides.
        let log =
            e.log.threshold(self.lambda) + e.log_stored + errors.lse_error.threshold(self.lambda);
        let of_delta = errors.delta_error.threshold(self.lambda) + errors.delta_stored;
        dp.deterministic +=
            w * libm::expm1(log) * (of_delta + e.dp_sum.threshold(self.lambda) + e.dp_stored);
        let size = e.dp.abs() + errors.delta.abs() + dlse.abs();
        let ds = w * t;
        let before = terms.iter().map(|term| term.worst_case).sum::<f64>() + dp.worst_case;
        // Two subtractions and two products.
        let difference = Term::rounding(a.u * (3.0 * w * size + 2.0 * ds.abs()));
        terms[Stage::Dp as usize] = dp.beside(difference);
        terms[Stage::Ds as usize] = Term::deterministic(a.elementwise(ds.abs() + before));
        (ds, terms, r)
    }

    /// Section "dZ": `dS` times the slope, rounded for the products.
    pub(super) fn dz_terms(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &Kept,
        ds: f64,
        mut terms: Terms,
    ) -> (f64, Terms) {
        let dz = ds * e.slope;
        let before: f64 = terms.iter().map(|term| term.worst_case).sum();
        for term in &mut terms {
            *term = term.times(e.slope);
        }
        let shared = kept.w * (errors.delta_error.worst_case + errors.delta_stored) * e.slope.abs();
        let rounded = dz.abs() + before * e.slope.abs() + shared;
        let slope = e.slope_error * (ds.abs() + before);
        let slope = if self.q.problem.options().softcap.is_some() { slope } else { 0.0 };
        let stored = self.dz_rounding(rounded + slope);
        terms[Stage::Score as usize] =
            terms[Stage::Score as usize].plus(Term::deterministic(slope));
        terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::deterministic(stored));
        (dz, terms)
    }

    /// The roundings of `dZ` of this magnitude for the products, and between elementwise steps.
    pub(super) fn dz_rounding(&self, rounded: f64) -> f64 {
        let (a, recipe) = (&self.a, self.q.recipe);
        // Underflow happens before or after the scale.
        let flush = recipe.flush_to_zero;
        let unscaled = 1.0_f64.max(self.q.problem.scale().abs());
        let narrow = |format: Format| {
            if !a.is_narrow(format) {
                return 0.0;
            }
            (format.unit_roundoff() * rounded).max(format.underflow_error(flush) * unscaled)
        };
        // Where dS is stored between steps: by the scale unless it is a power of two, twice by the softcap. The
        // products then read what is stored already.
        let capped = self.q.problem.options().softcap.is_some();
        let steps = f64::from(u8::from(!is_power_of_two(self.q.problem.scale().abs())))
            + 2.0 * f64::from(u8::from(capped));
        if a.is_narrow(recipe.elementwise) {
            steps * narrow(recipe.elementwise) + recipe.elementwise.underflow_error(flush)
        } else {
            narrow(recipe.ds)
        }
    }
}

/// The errors of `lse` and `delta` in one entry.
pub(super) fn add_row_terms(
    errors: &RowErrors,
    kept: &Kept,
    t: f64,
    slope: f64,
    terms: &mut Terms,
) {
    let by_weight = kept.w * slope;
    terms[Stage::Lse as usize] = errors.lse_error.times(kept.varies * t * slope);
    terms[Stage::Delta as usize] = errors.delta_error.times(by_weight);
    terms[Stage::StoredO as usize] = Term::deterministic(errors.delta_stored).times(by_weight);
}
