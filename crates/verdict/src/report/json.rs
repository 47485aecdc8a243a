//! The report as JSON, `sus-oracle-verdict/1`. Numbers that are not finite are `null`.

use super::Report;
use crate::{DirectionResult, Finding, Outcome, Runs, TensorResult};
use serde::{Serialize, Serializer};

/// The document. The keys of all objects are printed in alphabetical order.
#[derive(Serialize)]
struct Document<'a> {
    spec: &'static str,
    verdict: Outcome,
    exit_code: u8,
    case: &'a str,
    candidate: &'a str,
    recipe: &'a str,
    mode: &'a str,
    pass: &'a str,
    command: &'a str,
    diagnosis: Option<&'a str>,
    /// Where the results are wrong, and which are right, in words. Absent unless something failed and was explained.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    /// Absent unless something failed and was explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a serde_json::Value>,
    /// Absent unless another recipe passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    passes_as: Option<&'a str>,
    #[serde(rename = "borderline_mask_entries")]
    ambiguous: usize,
    tensors: &'a [TensorResult],
    #[serde(serialize_with = "by_bug")]
    directions: &'a [DirectionResult],
    /// Absent unless several runs are judged one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<&'a Runs>,
    findings: &'a [Finding],
    notes: &'a [String],
}

/// The directions as a map from their bugs.
fn by_bug<S: Serializer>(of: &&[DirectionResult], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(of.iter().map(|direction| (direction.bug, direction)))
}

/// The report for machines.
///
/// # Panics
/// Never: every key is a string.
#[must_use]
pub fn json(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let document = Document {
        spec: "sus-oracle-verdict/1",
        verdict: verdict.outcome,
        exit_code: verdict.outcome.exit_code(),
        case: &report.case,
        candidate: &report.candidate,
        recipe: &report.recipe,
        mode: report.mode,
        pass: &report.pass,
        command: &report.command,
        diagnosis: report.diagnosis.as_deref(),
        place: report.place.as_deref(),
        explanation: report.explanation.as_ref(),
        passes_as: report.passes_as.as_deref(),
        ambiguous: verdict.ambiguous,
        tensors: &verdict.tensors,
        directions: &verdict.directions,
        runs: verdict.runs.as_ref(),
        findings: &verdict.findings,
        notes: &verdict.notes,
    };
    // By way of a value, whose maps are sorted by key.
    let document = serde_json::to_value(document).expect("every key is a string");
    format!("{document}\n")
}
