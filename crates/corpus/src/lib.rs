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
mod lookup;
mod named_problem;
mod structure;
mod text;
mod values;

pub use bug::{Bug, BugType, OtherKind, OtherLabel, Project, Report};
pub use data::Suite;
pub use fixture::{
    BiasAxes, Fixture, FixtureDraw, FixtureOptions, OptionalOperands, Packed, Seeds, Slopes,
};
pub use flag::Flag;
pub use inputs::{KEY, REAL_CUT, draw_inputs};
pub use lookup::{bug, bugs, other_labels};
pub use named_problem::{NamedProblem, all, named};
pub use values::{Numbers, Values};
