//! Whether a kernel's results are right: PASS, FAIL, REFUSED or INCONCLUSIVE.
//!
//! A [`Case`] is a problem with its settings. A [`Judge`] holds the reference, the mask and the bounds of a case at a recipe;
//! [`Judge::check`] compares a candidate with them and returns a [`Verdict`]. A wrong candidate is a value, never an `Err`.
//! `docs/verdict.md` states the rules and how often a right kernel fails; `docs/statistics.md` does so for [many runs](statistical).

mod candidate;
mod case;
mod criterion;
mod elements;
mod expected;
mod findings;
mod judge;
mod known_bugs;
mod limits;
pub mod map;
mod mask;
mod mask_constraints;
pub mod merge;
mod one_head;
mod outcome;
pub mod part;
pub mod report;
mod spread;
pub mod statistical;
mod statistics;

pub use candidate::{expect_few_runs, is_projected, recipe_of};
pub use case::Case;
pub use criterion::Criterion;
pub use elements::{StageShare, TensorResult, Worst};
pub use findings::{Finding, Verdict};
pub use judge::{Judge, JudgeBuilder, Reference};
pub use known_bugs::KnownBugs;
pub use limits::LARGE;
pub use map::ErrorMap;
pub use mask_constraints::{MaskConstraints, mask_constraints};
pub use one_head::OneHead;
pub use outcome::Outcome;
pub use spread::{FirstDifference, Runs, Spread};
pub use statistics::{DirectionResult, SetResult, StatisticResult, WorstSet};

pub use sus_bounds::{Mode, Progress, Silent};
