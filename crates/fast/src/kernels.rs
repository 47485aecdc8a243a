//! The passes of `f32` and `f64`, compiled here once. A generic function is compiled again in every crate that calls it, and a kernel is large:
//! three instruction sets, each with its loops unrolled. So the public generic passes call these.

use super::passes::{self, Workspace};
use super::sampling;
use super::simd::Real;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample};

/// The passes in one arithmetic.
pub trait Kernels: Sized {
    /// See [`forward_into`](crate::forward_into).
    fn forward(problem: &Problem<Self>, saved: &mut Saved<Self>, workspace: &mut Workspace<Self>)
    where
        Self: Real;
    /// See [`forward_and_sample`](crate::forward_and_sample); `widen` multiplies the bound of the weights' errors.
    fn forward_and_sample(
        exact: &Problem<f64>,
        problem: &Problem<Self>,
        draw: &Draw,
        widen: f64,
        workspace: &mut Workspace<Self>,
    ) -> Result<(Saved<Self>, Sample), Error>
    where
        Self: Real;
    /// See [`backward_into`](crate::backward_into).
    fn backward(
        problem: &Problem<Self>,
        saved: &Saved<Self>,
        gradients: &mut Gradients<Self>,
        workspace: &mut Workspace<Self>,
    ) where
        Self: Real;
    /// See [`sus_backward_into`](crate::sus_backward_into).
    fn sus_backward(
        problem: &Problem<Self>,
        given: (&Saved<Self>, &Sample),
        gradients: &mut Gradients<Self>,
        workspace: &mut Workspace<Self>,
    ) where
        Self: Real;
}

macro_rules! kernels_of {
    ($t:ty) => {
        impl Kernels for $t {
            #[inline(never)]
            fn forward(
                problem: &Problem<Self>,
                saved: &mut Saved<Self>,
                workspace: &mut Workspace<Self>,
            ) {
                passes::run_forward(problem, saved, workspace);
            }
            #[inline(never)]
            fn forward_and_sample(
                exact: &Problem<f64>,
                problem: &Problem<Self>,
                draw: &Draw,
                widen: f64,
                workspace: &mut Workspace<Self>,
            ) -> Result<(Saved<Self>, Sample), Error> {
                sampling::one_pass(exact, problem, draw, widen, workspace)
            }
            #[inline(never)]
            fn backward(
                problem: &Problem<Self>,
                saved: &Saved<Self>,
                gradients: &mut Gradients<Self>,
                workspace: &mut Workspace<Self>,
            ) {
                passes::run_backward(problem, saved, gradients, workspace);
            }
            #[inline(never)]
            fn sus_backward(
                problem: &Problem<Self>,
                given: (&Saved<Self>, &Sample),
                gradients: &mut Gradients<Self>,
                workspace: &mut Workspace<Self>,
            ) {
                passes::run_sus_backward(problem, given, gradients, workspace);
            }
        }
    };
}

kernels_of!(f32);
kernels_of!(f64);
