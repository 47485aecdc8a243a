//! A weight and `dS` as intervals: what a kernel may have before it rounds them for its products. Section 7.5 of `docs/bounds.md`.

use super::context::BoundContext;
use super::interval::Interval;
use super::known_o::U64;
use super::row::RowErrors;
use super::score::EntryError;
use super::weight::KeptWeight;
use sus_reference::problem::Row;

/// An error of a kernel whose roundoff is `u`, and that of the number of this size here, which is one of `f64` by the steps that the
/// kernel's errors were counted for, and `8 2^-53` for its functions.
pub(super) fn with_own(u: f64, error: f64, size: f64) -> f64 {
    error * (1.0 + U64 / u) + 8.0 * U64 * size
}

impl BoundContext<'_> {
    /// The weight of an entry, before it is rounded; `of_lse` is the truth's own relative error.
    pub(super) fn weight_interval(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &KeptWeight,
        of_lse: f64,
    ) -> Interval {
        let of_w = self.relative_error_of_weight(errors, e, kept) + of_lse;
        Interval::about(kept.w, with_own(self.roundoff.u, of_w, 1.0) * kept.w)
    }

    /// `dS` of this weight with the slope of the softcap, before the scale and before it is rounded.
    pub(super) fn ds_interval(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        w: Interval,
    ) -> Interval {
        let (p, a) = (self.input.problem, &self.roundoff);
        let with_own = |error: f64, size: f64| with_own(a.u, error, size);
        // Section 5.3: dP, delta, two subtractions, and a delta that is stored between two kernels.
        let dlse = p.dlse(row);
        let size = e.dp.abs() + errors.delta.abs() + dlse.abs();
        let of_t =
            e.dp_sum.worst_case + e.dp_stored + errors.delta_error.worst_case + 3.0 * a.u * size;
        let t = Interval::about(e.dp - errors.delta + dlse, with_own(of_t, size));
        // Section 5.5: the slope of the softcap, and the scale. 2 u: P t, and the product with the slope or the scale.
        let scale = p.scale();
        let of_cap = if scale == 0.0 { 0.0 } else { e.slope_error / scale.abs() };
        let capped = p.options().softcap.is_some() && scale != 0.0;
        let slope = if capped { e.slope / scale } else { 1.0 };
        let slope = Interval::about(slope, if capped { with_own(of_cap, 1.0) } else { 0.0 });
        let ds = w.times(t).times(slope);
        ds.widened(with_own(2.0 * a.u, 1.0) * ds.size())
    }
}
