//! The corpus: known bugs, flags and cases as data, and the inputs of a case.
//!
//! The data files are in `data/` (`data/README.md` describes them) and are part of the program: `bugs.toml` lists what
//! was reported in public, `flags.toml` what can be true of a case, `cases/*.toml` the problems, each with its
//! purpose. A [`Fixture`] is one row of `cases/*.toml`; a [`NamedProblem`] is a problem of the kill matrix, ready to run.

mod bug;
mod data;
mod fixture;
mod flag;
mod inputs;
#[cfg(test)]
mod lint;
mod named_problem;
mod text;

pub use bug::{Bug, BugType, OtherKind, OtherLabel, Project, Report, bug, bugs, other_labels};
pub use data::Suite;
pub use fixture::{BiasAxes, Fixture, FixtureDraw, FixtureOptions, OptionalOperands, Seeds};
pub use flag::Flag;
pub use inputs::{KEY, Numbers, REAL_CUT, Values, draw_inputs};
pub use named_problem::{NamedProblem, all, named};
