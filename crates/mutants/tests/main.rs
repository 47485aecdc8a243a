//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod emulate;
mod gallery;
mod precision;
mod smoke_matrix;
mod verdict;
mod verdict_large;
