//! The same passes faster: blocked `f32` and `f64` kernels on any number of threads, with memory `O(n (c + d))`.
//!
//! The reference ([`forward`](mod@sus_reference::forward), [`backward`](mod@sus_reference::backward), [`sus`](sus_reference::sus)) is the
//! specification of this crate, and the tests compare the two. Guarantees:
//!
//! - **Masks equal the reference's**, entry by entry: a kernel bounds the error of its weights, and the reference decides every
//!   entry that this bound leaves ambiguous.
//! - **Results do not depend on the number of threads**: every sum belongs to one task at a time, in a fixed order.
//! - **Elsewhere it rounds differently.** Sums run in tiles, exponentials are polynomials; the last bits depend on the
//!   machine's vectors ([`Dispatch`]). No stored fixture is computed here.
//! - A problem that the kernels do not cover runs on the reference path; [`Backend`] reports it with the reason.
//!
//! ```
//! use sus_fast::{self as fast, Backend, Workspace};
//! use sus_reference::problem::{Inputs, Options, Problem};
//! use sus_reference::sus::{Budget, Draw, sample};
//! use sus_reference::forward::forward;
//! use sus_reference::tensor::Tensor;
//!
//! let ramp = |[_, _, n, d]: [usize; 4]| (n as f64 - d as f64) / 400.0;
//! let tensor = || Tensor::from_fn([1, 1, 500, 8], ramp);
//! let inputs = Inputs::new(tensor(), tensor(), tensor(), tensor());
//! let problem = Problem::new(inputs, Options::default())?;
//!
//! let mut workspace = Workspace::default();
//! let draw = Draw::paper(Budget::new(5.0)?, 42);
//! let (saved, mask, path) = fast::forward_and_sample(&problem, &problem, &draw, &mut workspace)?;
//! assert_eq!(path, Backend::Fast);
//! assert_eq!(mask.pattern, sample(&problem, &forward(&problem), &draw)?.pattern);
//! let (gradients, _) = fast::sus_backward(&problem, &saved, &mask, &mut workspace);
//! # Ok::<(), sus_reference::Error>(())
//! ```

mod backend;
mod decide;
mod dense;
mod draw;
pub mod entries;
mod evaluation;
mod exp;
mod forward;
mod kernels;
mod lse_lower_bound;
mod panels;
mod passes;
mod philox_simd;
mod product;
mod product_rows;
mod reference_error;
pub mod roofline;
mod running_softmax;
mod sampling;
mod score_error;
mod scores;
mod search;
mod simd;
mod sparse;
mod tiles;
mod visible;

pub use backend::{
    Backend, Backends, Fallback, backward_backend, sample_backend, sus_backward_backend,
};
pub use evaluation::{Evaluate, Evaluated, Passes, evaluate};
pub use passes::{
    Workspace, backward, backward_into, blank_gradients, blank_saved, forward, forward_into,
    sus_backward, sus_backward_into,
};
pub use reference_error::{
    ReferenceErrorBounds, has_reference_error_bounds, reference_error_bounds,
    reference_error_bounds_of_keys,
};
pub use sampling::forward_and_sample;
pub use simd::{Dispatch, Real};
