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
pub use foreign::foreign_result;
pub use problem_file::ProblemFile;
pub use settings::{Pass, Settings};
pub use tensor_file::{Array, TensorFile};
