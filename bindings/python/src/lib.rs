//! The compiled part of the Python package `sus_oracle`.
//!
//! Arrays cross as the bytes of safetensors files, which the command reads as well, so a problem in memory and the same
//! problem in a file take one path. The functions here take and return bytes and JSON; `python/sus_oracle` gives them
//! arrays, layouts and names.

mod analysis;
mod attention;
mod gradients;
mod job;
mod source;
mod suites;
mod verdict;

use pyo3::prelude::*;

/// The functions of `sus_oracle`, over bytes and JSON.
#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::analysis::{analyze, choose_c, power};
    #[pymodule_export]
    use crate::attention::SampledForward;
    #[pymodule_export]
    use crate::gradients::grad;
    #[pymodule_export]
    use crate::job::InputError;
    #[pymodule_export]
    use crate::suites::{fixture, fixture_names};
    #[pymodule_export]
    use crate::verdict::check;
}
