//! Charts as SVG: analyses, verdicts, kill matrices and benchmarks.
//!
//! No font, file or clock of the machine takes part: the same numbers give the same bytes.

pub mod analysis;
mod axis;
mod chart;
mod errors;
mod kill_matrix;
mod passes;

pub use errors::errors;
pub use kill_matrix::kill_matrix;
pub use passes::passes;
