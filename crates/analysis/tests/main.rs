//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod estimator_exact;
mod layers;
mod moments_statistics;
