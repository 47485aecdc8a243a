//! The softcap `s = cap tanh(z / cap)` and its derivative `1 - tanh^2(z / cap)`.

use super::{BugType, define_kernels};
use crate::simulated_kernel::Point;

define_kernels! { Some(BugType::Softcap);
    /// The derivative of the softcap is left out.
    ["11"] [Dq, Dk, Dbias]
    fn softcap_derivative_missing(config) {
        config.problem.options().softcap?;
        Some(config.mutate(Point::Scores, |w| w.cap.fill(1.0)))
    }
    /// The derivative is computed from a score that is capped already.
    ["11"] [Dq, Dk, Dbias]
    fn softcap_derivative_of_capped(config) {
        let cap = config.problem.options().softcap?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                let tanh = libm::tanh((w.s[at] - w.bias(row, j)) / cap);
                w.cap[at] = w.fl(1.0 - tanh * tanh);
            }
        }))
    }
    /// The derivative is `1 - tanh`, not `1 - tanh^2`.
    [] [Dq, Dk, Dbias]
    fn softcap_derivative_unsquared(config) {
        let cap = config.problem.options().softcap?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                w.cap[at] = w.fl(1.0 - libm::tanh(w.scaled_product(row, j) / cap));
            }
        }))
    }
    /// The score is recomputed as `(z / cap) tanh(z / cap)`.
    ["11"] [Dq, Dk, Dv, Dbias, Dsink]
    fn softcap_factor_wrong(config) {
        let cap = config.problem.options().softcap?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                let z = w.scaled_product(row, j) / cap;
                w.s[at] = w.fl(z * libm::tanh(z) + w.bias(row, j));
            }
        }))
    }
    /// The backward pass adds the bias before the softcap.
    [] [Dq, Dk, Dv, Dbias]
    fn bias_before_softcap(config) {
        let cap = config.problem.options().softcap?;
        config.problem.inputs().bias.as_ref()?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                let tanh = libm::tanh((w.scaled_product(row, j) + w.bias(row, j)) / cap);
                (w.s[at], w.cap[at]) = (w.fl(cap * tanh), w.fl(1.0 - tanh * tanh));
            }
        }))
    }
    /// The derivative is computed from the score with the bias in it.
    [] [Dq, Dk, Dbias]
    fn softcap_derivative_with_bias(config) {
        let cap = config.problem.options().softcap?;
        config.problem.inputs().bias.as_ref()?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, _, _) in w.entries() {
                let y = w.s[at] / cap;
                w.cap[at] = w.fl(1.0 - y * y);
            }
        }))
    }
    /// The kernel was compiled for another call's cap.
    ["11"] [Dq, Dk, Dv, Dbias, Dsink]
    fn softcap_of_another_call(config) {
        config.problem.options().softcap?;
        Some(config.mutate(Point::Saved, |w| w.softcap = w.softcap.map(|cap| cap * 1.5)))
    }
    /// The backward pass has no softcap.
    [] [Dq, Dk, Dv, Dbias, Dsink]
    fn softcap_ignored(config) {
        config.problem.options().softcap?;
        Some(config.mutate(Point::Saved, |w| w.softcap = None))
    }
    /// `dbias` carries the softcap's derivative, which comes before the bias.
    [] [Dbias]
    fn dbias_with_softcap_derivative(config) {
        config.problem.options().softcap?;
        config.problem.inputs().bias.as_ref()?;
        Some(config.mutate(Point::Slopes, |w| {
            for (at, _, _, _) in w.entries() {
                w.ds[at] *= w.cap[at];
            }
        }))
    }
}
