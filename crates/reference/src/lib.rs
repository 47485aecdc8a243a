//! The reference: attention's forward and backward pass over any scalar, and the sampled backward pass (SUS).
//!
//! It is written to be read beside the paper: [`problem`] holds the operands, [`forward`](mod@forward) gives `o` and `lse`,
//! [`backward`](mod@backward) the gradients for dense or sampled weights, [`sus`] draws the weights and knows their exact
//! moments, and [`graph`] has the general theorem. It uses nothing else of the project.

mod setters;

pub mod backward;
pub mod error;
pub mod evaluation;
pub mod forward;
pub mod graph;
pub mod mask;
pub mod problem;
pub mod quote;
pub mod scalar;
pub mod sus;
pub mod tensor;
pub mod tensor_name;

pub use error::Error;
pub use tensor_name::TensorName;
