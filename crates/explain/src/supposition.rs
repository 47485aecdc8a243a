//! Supposed kernels with their descriptions.

use crate::cause::Kind;
use crate::kernel::{Kernel, Scope};
use std::sync::Arc;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::tensor::Tensor;

/// Makes a kernel when it is tried: its operands may be copies of whole tensors.
pub(crate) type Build<'a> = Arc<dyn Fn() -> Option<Kernel> + Send + Sync + 'a>;

/// A supposed kernel and what it does, in words that follow "right for a kernel with".
#[derive(Clone)]
pub(crate) struct Supposition<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    build: Build<'a>,
    /// The passes that are changed; `None` leaves that to the kernel.
    scope: Option<Scope>,
}

impl<'a> Supposition<'a> {
    pub(crate) fn new(kind: Kind, text: impl Into<String>, build: Build<'a>) -> Self {
        Supposition { kind, text: text.into(), build, scope: None }
    }

    /// A kernel that is there already.
    pub(crate) fn ready(kind: Kind, text: impl Into<String>, kernel: Kernel) -> Self {
        Self::new(kind, text, Arc::new(move || Some(kernel.clone())))
    }

    pub(crate) fn kernel(&self) -> Option<Kernel> {
        let mut kernel = (self.build)()?;
        kernel.scope = self.scope.unwrap_or(kernel.scope);
        Some(kernel)
    }
}

/// A change of the problem in each scope; where the forward pass is right, it has no other settings.
pub(crate) fn in_scopes<'a>(
    kind: Kind,
    text: &str,
    build: &Build<'a>,
    forward_failed: bool,
) -> Vec<Supposition<'a>> {
    let scopes: &[(Scope, &str)] = if forward_failed {
        &[
            (Scope::Both, "in both passes"),
            (Scope::Forward, "in the forward pass alone"),
            (Scope::Backward, "in the backward pass alone"),
        ]
    } else {
        &[(Scope::Backward, "in the backward pass")]
    };
    let of = |&(scope, words): &(Scope, &str)| Supposition {
        kind,
        text: format!("{text}, {words}"),
        build: Arc::clone(build),
        scope: Some(scope),
    };
    scopes.iter().map(of).collect()
}

/// A kernel whose problem has other options.
pub(crate) fn with_options(problem: &Problem<f64>, options: Options) -> Option<Kernel> {
    let changed = Problem::new(problem.inputs().clone(), options).ok()?;
    Some(Kernel { problem: Some(Arc::new(changed)), ..Kernel::default() })
}

/// A kernel whose problem has other inputs.
pub(crate) fn with_inputs(
    problem: &Problem<f64>,
    change: impl FnOnce(Inputs<f64>) -> Inputs<f64>,
) -> Option<Kernel> {
    let inputs = change(problem.inputs().clone());
    let changed = Problem::new(inputs, problem.options().clone()).ok()?;
    Some(Kernel { problem: Some(Arc::new(changed)), ..Kernel::default() })
}

/// A tensor of the same shape with other numbers.
pub(crate) fn like(tensor: &Tensor<f64>, data: &[f64]) -> Option<Tensor<f64>> {
    Tensor::new("operand", tensor.shape(), data).ok()
}
