//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
#[path = "../../fast/tests/large_shapes.rs"]
mod large_shapes;
mod margins;
mod part;
mod reference_error;
