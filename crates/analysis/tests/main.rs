//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod moments_statistics;
