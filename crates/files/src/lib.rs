//! Problems, gradients and masks as safetensors files.

pub mod error;
mod foreign;
pub mod gradient_file;
pub mod hash;
pub mod problem_file;
pub mod settings;
pub mod tensor_file;
mod unique;

pub use error::FileError;
pub use foreign::{foreign_operand, foreign_result, foreign_setting};
pub use problem_file::{ProblemFile, problem_to_tensors};
pub use settings::{Padding, Pass, Settings};
pub use tensor_file::{Array, TensorFile};
