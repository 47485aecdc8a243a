//! The errors of a weight: dense, or kept by a mask. Sections 5.1 and 5.2 of `docs/bounds.md`.

use super::context::BoundContext;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::Terms;
use super::term::Term;

/// The weight `W~` in the gradients.
pub(super) struct KeptWeight {
    /// `W~`.
    pub(super) w: f64,
    /// `W~` if it varies with `W`, 0 where it is `1 / lambda`.
    pub(super) varies: f64,
    /// Relative error of `1 / lambda`.
    pub(super) constant: f64,
}

/// The errors of a weight.
pub(super) struct WeightErrors {
    /// By stage, without `lse`.
    pub(super) terms: Terms,
    /// The share of `lse`.
    pub(super) lse: Term,
    /// Bound of the relative error of `W`.
    pub(super) relative: f64,
    /// The same of the first order that the threshold has.
    pub(super) relative_threshold: f64,
}

impl BoundContext<'_> {
    /// The weight in force of one entry, if it is kept.
    pub(super) fn kept(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        number: usize,
    ) -> Option<KeptWeight> {
        let Some(sample) = self.input.sample else {
            return Some(KeptWeight { w: e.w, varies: e.w, constant: 0.0 });
        };
        sample.pattern.row(number).binary_search(&(e.j as u32)).ok()?;
        Some(self.sampled(errors, e, sample.lambda[number]))
    }

    /// Section 5.2: `max(W, 1 / lambda)`.
    pub(super) fn sampled(&self, errors: &RowErrors, e: &EntryError, lambda: f64) -> KeptWeight {
        let least = 1.0 / lambda;
        // W may reach 1 / lambda within its error.
        let log = e.log.worst_case + e.log_stored + errors.lse_error.worst_case;
        let w = e.w.max(least);
        // 8 u: the kernel's 1 / lambda errs by 2 u, the error of this exp and of this W (an f64 as well) by less than 6 u.
        let varies = e.w * libm::exp(log) >= least * (1.0 - 8.0 * self.roundoff.u);
        // The calibrated lambda is a ratio whose error is that of the row's weights.
        let varies_by_row = lambda.is_finite() && self.calibrated;
        let of_lambda = if varies_by_row { errors.largest_log() } else { 0.0 };
        // 2 u: lambda is rounded, and 1 / lambda.
        KeptWeight {
            w,
            varies: if varies { w } else { 0.0 },
            constant: 2.0 * self.roundoff.u + of_lambda,
        }
    }

    /// Section 5.2: a kept weight and its bound. It is stored in `f32` or better with the rounding of the accumulator, or as
    /// `P` is.
    pub(super) fn kept_weight(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        number: usize,
    ) -> Option<(f64, f64)> {
        let kept = self.kept(errors, e, number)?;
        let WeightErrors { terms, lse, relative, .. } = self.weight_terms(errors, e, &kept);
        let of_weight: f64 = terms.iter().map(|term| term.worst_case).sum::<f64>() + lse.worst_case;
        let size = kept.w * (1.0 + relative);
        // 4 u: W / q with q = lambda W is a conversion of lambda, a product, a quotient and a store.
        let stored = self.roundoff.p(size, errors.lse) + 4.0 * self.roundoff.u * size;
        Some((kept.w, of_weight + stored))
    }

    /// Section 5.1: the errors of a weight by stage; that of `lse` apart.
    ///
    /// The orders beyond the first in `ln W` are counted with the score. Section 3.4.
    pub(super) fn weight_terms(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &KeptWeight,
    ) -> WeightErrors {
        let lse = errors.lse_error;
        // e^x - 1 of the worst case of ln W.
        let r = libm::expm1(e.log.worst_case + e.log_stored + lse.worst_case);
        let mut terms = Terms::default();
        // Section 3.4: expm1(x) - x of the first order that the threshold has.
        let first = e.log.threshold(self.lambda) + e.log_stored + lse.threshold(self.lambda);
        let relative_threshold = libm::expm1(first);
        let score = Term {
            worst_case: r - lse.worst_case - e.log_stored,
            deterministic: e.log.deterministic + relative_threshold - first,
            ..e.log
        };
        let constant =
            if kept.w > kept.varies || self.input.sample.is_some() { kept.constant } else { 0.0 };
        terms[Stage::Score as usize] =
            score.times(kept.varies).plus(Term::deterministic(constant * kept.w));
        terms[Stage::ScoreStore as usize] = Term::deterministic(kept.varies * e.log_stored);
        WeightErrors { terms, lse: lse.times(kept.varies), relative: r, relative_threshold }
    }
}
