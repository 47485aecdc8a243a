//! The tests of this crate, in one binary.

mod bounds;
#[path = "../../reference/tests/common.rs"]
mod common;
mod masks;
mod passes;
mod reference_error;
mod threads;
