//! A verdict as text, as JSON and as `JUnit` XML.

mod error_map;
mod json;
mod junit;
mod text;

pub use json::json;
pub use junit::junit;
pub(crate) use junit::{TestFinding, TestSuite};
pub use text::text;

use crate::Verdict;

/// A verdict with the files, the settings and the command that led to it.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The verdict.
    pub verdict: &'a Verdict,
    /// The case's file.
    pub case: String,
    /// The candidate's file.
    pub candidate: String,
    /// The recipe, and how it was chosen.
    pub recipe: String,
    /// Exact or given.
    pub mode: &'static str,
    /// Dense or SUS, with the draw.
    pub pass: String,
    /// The command that computes this verdict again.
    pub command: String,
    /// Another built-in recipe at which the candidate passes, if one was looked for and found.
    pub passes_as: Option<String>,
    /// What explains the failure, if that was looked for.
    pub diagnosis: Option<String>,
    /// Where the results are wrong, and which are right.
    pub place: Option<String>,
    /// The explanation with its figures, for machines.
    pub explanation: Option<serde_json::Value>,
}
