//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod diagnosis;
mod emulate;
mod fp8;
mod gallery;
mod precision;
mod verdict;
mod verdict_large;
