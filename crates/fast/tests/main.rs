//! The tests of this crate, in one binary.

mod bounds;
#[path = "../../reference/tests/common.rs"]
mod common;
mod large_shapes;
mod masks;
mod passes;
mod reference_error;
mod threads;
