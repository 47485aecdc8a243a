//! The running softmax of a row: the largest score so far, and the sum of exponentials relative to it.

use super::scores::{exponentials, largest};
use super::simd::Real;
use pulp::Simd;

/// The running softmax of a row.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) m: f64,
    pub(super) l: f64,
}

impl Running {
    /// Scores become exponentials and are added to `l`; a larger maximum shrinks `l` and `o`.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    pub(super) fn add<S: Simd, T: Real>(&mut self, simd: S, s: &mut [T], o: &mut [T]) {
        let largest = largest(simd, s).to_f64();
        if largest == f64::NEG_INFINITY {
            // A bias of -inf hides all of these keys.
            s.fill(T::zero());
            return;
        }
        if largest > self.m {
            let shrink = libm::exp(self.m - largest);
            self.l *= shrink;
            let shrink = T::from_f64(shrink);
            for o in o {
                *o *= shrink;
            }
            self.m = largest;
        }
        self.l += exponentials(simd, s, T::from_f64(self.m)).to_f64();
    }

    /// `-inf` where nothing is visible.
    pub(super) fn lse(self) -> f64 {
        if self.l == 0.0 { f64::NEG_INFINITY } else { self.m + libm::log(self.l) }
    }
}
