//! The tests of this crate, in one binary.

mod arrival;
#[path = "../../reference/tests/common.rs"]
mod common;
mod dense_runs;
mod margins;
mod part;
mod reports;
