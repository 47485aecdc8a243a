//! The tests of this crate, in one binary.

mod analyze;
mod bench_command;
mod book;
mod check_command;
#[path = "../crates/reference/tests/common.rs"]
mod common;
mod diagnosis;
mod fixtures;
mod fuzz;
mod gpu_kernels;
mod grad_command;
mod help;
mod html_report;
mod kill_matrix;
mod part_command;
mod pictures;
mod selftest;
mod shell_command;
mod smoke_matrix;
mod statistical;
mod workspace;
