//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod files;
mod fp8;
mod hostile;
mod known_answers;
