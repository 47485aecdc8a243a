//! The forward and the dense backward pass of a problem that is analysed, and the entries of its rows: by the kernels where they
//! serve, or by the definition.

use super::scan::{Definition, Source};
use sus_fast::entries::RowEntries;
use sus_fast::{self as fast, Backend, Backends, Dispatch, Fallback, Workspace};
use sus_reference::backward::{Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::Problem;
use sus_reference::scalar::Scalar;

/// What the sums of an analysis start from.
pub(super) struct Passed<T> {
    pub(super) saved: Saved<T>,
    pub(super) gradients: Gradients<T>,
    pub(super) paths: Backends,
}

/// By the definition.
pub(super) fn plain<T: Scalar>(problem: &Problem<T>, reason: Fallback) -> Passed<T> {
    let saved = forward(problem);
    let path = Backend::Reference(reason);
    let paths = Backends { forward: Some(path), mask: None, backward: path };
    Passed { gradients: backward(problem, &saved), saved, paths }
}

/// In `f64` by the kernels, unless the definition is asked for.
pub(super) fn in_f64(problem: &Problem<f64>, reference_requested: bool) -> Passed<f64> {
    if reference_requested {
        return plain(problem, Fallback::Asked);
    }
    let mut workspace = Workspace::default();
    let saved = fast::forward(problem, &mut workspace);
    let (gradients, backward) = fast::backward(problem, &saved, &mut workspace);
    let paths = Backends { forward: Some(Backend::Fast), mask: None, backward };
    Passed { saved, gradients, paths }
}

/// The entries of rows, by the kernels unless the definition is asked for.
pub(super) fn entries<'a>(
    problem: &'a Problem<f64>,
    saved: &'a Saved<f64>,
    reference_requested: bool,
) -> Box<dyn Source<f64> + 'a> {
    if reference_requested {
        Box::new(Definition::new(problem, saved))
    } else {
        Box::new(RowEntries::new(Dispatch::Native, problem, saved))
    }
}

/// The paths of several problems: of the first one, or of the first that the kernels do not serve.
pub(super) fn note(all: &mut Option<Backends>, paths: Backends) {
    if all.is_none_or(|all| all.backward == Backend::Fast) {
        *all = Some(paths);
    }
}
