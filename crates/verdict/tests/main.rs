//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod margins;
mod reports;
