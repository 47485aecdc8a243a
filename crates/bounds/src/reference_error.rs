//! Bounds about a truth that has an error of its own. Section 6.6 of `docs/bounds.md`.

use super::bound::{Bound, Bounds};
use super::stage::Stage;
use sus_fast::ReferenceErrorBounds;
use sus_reference::sus::Pattern;
use sus_reference::tensor::Tensor;

impl Bounds {
    /// Section 6.6: adds the error of the truth itself to every bound, with the stage of the sums, which no statistic takes as
    /// random. Returns its largest share in a bound.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
    /// let truth = Truth::blocked(&problem).unwrap();
    /// let (recipe, saved, gradients) = (Recipe::built_in("f32").unwrap(), truth.saved(), truth.gradients(None));
    /// let mut bounds = bounds(&BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients));
    /// let share = bounds.widen(&truth.reference_error_bounds(None).unwrap());
    /// assert!(0.0 < share && share < 1e-5);
    /// ```
    pub fn widen(&mut self, own: &ReferenceErrorBounds) -> f64 {
        let ReferenceErrorBounds { saved, gradients: g } = own;
        let mut tensors = vec![
            (&mut self.o, saved.o.as_slice()),
            (&mut self.lse, saved.lse.as_slice()),
            (&mut self.dq, g.dq.as_slice()),
            (&mut self.dk, g.dk.as_slice()),
            (&mut self.dv, g.dv.as_slice()),
        ];
        tensors.extend(self.dbias.as_mut().zip(g.dbias.as_ref().map(Tensor::as_slice)));
        tensors.extend(self.dsink.as_mut().zip(g.dsink.as_deref()));
        tensors.extend(self.dkv.as_mut().zip(g.dkv.as_ref().map(Tensor::as_slice)));
        tensors.into_iter().map(|(bound, own)| bound.widen(own)).fold(0.0, f64::max)
    }
}

impl Bound {
    /// As [`Bounds::widen`], of one tensor.
    pub fn widen(&mut self, own: &[f64]) -> f64 {
        let mut largest = 0.0_f64;
        let elements = self.threshold.iter_mut().zip(&mut self.worst_case).zip(&mut self.stages);
        for (((threshold, worst_case), stages), own) in elements.zip(own) {
            let before = *threshold;
            (*threshold, *worst_case) = (*threshold + own, *worst_case + own);
            if *own == 0.0 || !threshold.is_finite() {
                continue;
            }
            // The shares of the other stages shrink as the threshold grows.
            let share = own / *threshold;
            for stage in stages.iter_mut() {
                *stage *= (before / *threshold) as f32;
            }
            stages[Stage::Sum as usize] += share as f32;
            largest = largest.max(share);
        }
        largest
    }
}

/// Adds the error of the truth's `lse` to the bounds of a mask's values, in the order of its columns.
pub fn widen_weights(weights: &mut [(f64, f64)], pattern: &Pattern, own_lse: &[f64]) {
    for (at, own) in own_lse.iter().enumerate() {
        let range = pattern.offsets()[at]..pattern.offsets()[at + 1];
        for (value, bound) in &mut weights[range] {
            *bound += *value * libm::expm1(*own);
        }
    }
}
