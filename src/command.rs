//! One file for each subcommand, and what they share: the options of a problem, the terminal, the allocator.

mod allocator;
pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod choose;
pub(crate) mod fixtures;
pub(crate) mod grad;
mod limits;
pub(crate) mod merge;
mod options;
pub(crate) mod power;
pub(crate) mod projections;
pub(crate) mod selftest;
pub(crate) mod shell;
pub(crate) mod terminal;
