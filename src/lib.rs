//! A verified reference and test oracle for attention backward passes.
pub mod scalar;
pub mod sus;
