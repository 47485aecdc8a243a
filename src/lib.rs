//! A verified reference and test oracle for attention backward passes.
pub mod graph;
pub mod scalar;
pub mod sus;
