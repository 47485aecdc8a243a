//! The scale: missing, twice, on what it does not belong to.

use super::{BugType, define_kernels, only_if};
use crate::arithmetic::Format;
use crate::simulated_kernel::Point;

define_kernels! { Some(BugType::Scale);
    /// The scale is missing from `dq`.
    [] [Dq]
    fn dq_unscaled(config) {
        Some(config.mutate(Point::Slopes, |w| w.scale_q = 1.0))
    }
    /// The scale is missing from `dk`.
    [] [Dk]
    fn dk_unscaled(config) {
        Some(config.mutate(Point::Slopes, |w| w.scale_k = 1.0))
    }
    /// The scale is in `dq` twice.
    ["34"] [Dq]
    fn dq_scaled_twice(config) {
        Some(config.mutate(Point::Slopes, |w| w.scale_q *= w.scale))
    }
    /// The scale is in `dk` twice.
    ["34"] [Dk]
    fn dk_scaled_twice(config) {
        Some(config.mutate(Point::Slopes, |w| w.scale_k *= w.scale))
    }
    /// The scale is applied to the bias too.
    ["33"] [Dq, Dk, Dv, Dbias]
    fn bias_scaled(config) {
        only_if(config.problem.inputs().bias.is_some())?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                w.s[at] = w.fl(w.s[at] + (w.scale - 1.0) * w.bias(row, j));
            }
        }))
    }
    /// The scale is `1 / sqrt(E)`.
    ["20"] [Dq, Dk, Dv, Dbias, Dsink]
    fn scale_of_value_features(config) {
        let sizes = config.sizes();
        only_if(config.problem.options().scale.is_none() && sizes.features != sizes.value_features)?;
        Some(config.mutate(Point::Saved, |w| {
            w.scale = w.fl(1.0 / libm::sqrt(sizes.value_features as f64));
            (w.scale_q, w.scale_k) = (w.scale, w.scale);
        }))
    }
    /// The backward pass ignores the scale it is given.
    [] [Dq, Dk, Dv, Dbias, Dsink]
    fn given_scale_ignored(config) {
        only_if(config.problem.options().scale.is_some())?;
        Some(config.mutate(Point::Saved, |w| {
            w.scale = w.fl(1.0 / libm::sqrt(w.sizes.features as f64));
            (w.scale_q, w.scale_k) = (w.scale, w.scale);
        }))
    }
    /// `k` is multiplied by the scale and `log2 e` and rounded to 16 bits: the scores are not those of the saved `lse`.
    ["30"] [Dq, Dk, Dv, Dbias]
    fn keys_prescaled_and_rounded(config) {
        let format = config.arithmetic.operand;
        only_if(matches!(format, Format::Bf16 | Format::F16) && config.problem.options().softcap.is_none())?;
        Some(config.mutate(Point::Scores, |w| {
            let factor = w.scale * std::f64::consts::LOG2_E;
            let right = std::mem::replace(&mut w.k, w.config.problem.inputs().k.map(|k| format.round(k * factor)));
            let scale = std::mem::replace(&mut w.scale, std::f64::consts::LN_2);
            for (at, _, row, j) in w.entries() {
                w.s[at] = w.score(row, j).0;
            }
            (w.k, w.scale) = (right, scale);
        }))
    }
    /// The saved `lse` is a natural logarithm and is read as one of base 2.
    [] [Dq, Dk, Dv, Dbias, Dsink]
    fn lse_read_in_base_two(config) {
        Some(config.mutate(Point::Saved, |w| w.lse.iter_mut().for_each(|lse| *lse *= std::f64::consts::LN_2)))
    }
    /// `lse` as `scale max + ln(sum)` of scores that are scaled already.
    ["34"] [Dq, Dk, Dv, Dbias, Dsink]
    fn lse_scaled_twice(config) {
        Some(config.mutate(Point::Scores, |w| {
            let keys = w.sizes.keys;
            for (n, _) in w.rows() {
                let seen = (n * keys..(n + 1) * keys).filter(|&at| w.seen[at]);
                let largest = seen.map(|at| w.s[at]).fold(f64::NEG_INFINITY, f64::max);
                if largest.is_finite() {
                    w.lse[n] += (w.scale - 1.0) * largest;
                }
            }
        }))
    }
    /// The scale is not applied when the backward pass recomputes the scores.
    [] [Dq, Dk, Dv, Dbias]
    fn scores_unscaled(config) {
        Some(config.mutate(Point::Saved, |w| w.scale = 1.0))
    }
}
