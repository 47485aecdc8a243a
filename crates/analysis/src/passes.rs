//! The forward and the dense backward pass of a problem, by the fast kernels or by the reference.

use sus_fast::{self as fast, Backend, Backends, Fallback, Workspace};
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::Problem;
use sus_reference::scalar::Scalar;

/// The results of both passes, and which implementation computed them.
pub(super) struct DensePass<T> {
    pub(super) saved: Saved<T>,
    pub(super) gradients: Gradients<T>,
    pub(super) paths: Backends,
}

/// By the reference; `reason` says why.
pub(super) fn by_reference<T: Scalar>(problem: &Problem<T>, reason: Fallback) -> DensePass<T> {
    let saved = forward(problem);
    let path = Backend::Reference(reason);
    let paths = Backends { forward: Some(path), mask: None, backward: path };
    DensePass { gradients: backward(problem, &saved), saved, paths }
}

/// In `f64` by the fast kernels, unless the reference is requested.
pub(super) fn in_f64(problem: &Problem<f64>, reference_requested: bool) -> DensePass<f64> {
    if reference_requested {
        return by_reference(problem, Fallback::Asked);
    }
    let mut workspace = Workspace::default();
    let saved = fast::forward(problem, &mut workspace);
    let (gradients, backward) = fast::backward(problem, &saved, &mut workspace);
    let paths = Backends { forward: Some(Backend::Fast), mask: None, backward };
    DensePass { saved, gradients, paths }
}

/// Keeps the backends of the first problem, or of the first that the fast kernels do not serve.
pub(super) fn note(all: &mut Option<Backends>, paths: Backends) {
    if all.is_none_or(|all| all.backward == Backend::Fast) {
        *all = Some(paths);
    }
}
