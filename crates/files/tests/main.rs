//! The tests of this crate, in one binary.

#[path = "../../reference/tests/common.rs"]
mod common;
mod files;
mod known_answers;
