//! The report as JSON, `sus-oracle-verdict/1`. Numbers that are not finite are `null`.

use super::{Report, statistic_name};
use crate::{SetResult, TensorResult};
use serde_json::{Map, Value, json as value};

/// The report for machines.
///
/// # Examples
/// ```
/// use sus_verdict::{Finding, Outcome, Criterion, Verdict, report};
/// let finding = Finding {
///     tensor: "dq".into(),
///     rule: Criterion::Zero,
///     outcome: Outcome::Fail,
///     message: "all < 1e-9".into(),
/// };
/// let verdict = Verdict { outcome: Outcome::Fail, findings: vec![finding], ..Verdict::default() };
/// let report = report::Report {
///     verdict: &verdict,
///     case: "case".into(),
///     candidate: "mine".into(),
///     recipe: "f32".into(),
///     mode: "exact",
///     pass: "dense".into(),
///     command: "again".into(),
///     diagnosis: None,
/// };
/// let said = report::json(&report);
/// assert!(said.contains(r#""verdict":"FAIL""#) && said.contains(r#""exit_code":1"#));
/// ```
#[must_use]
pub fn json(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let findings: Vec<Value> = verdict
        .findings
        .iter()
        .map(|f| {
            value!({
                "tensor": f.tensor, "rule": f.rule.name(), "outcome": f.outcome.name(), "message": f.message,
            })
        })
        .collect();
    let tensors: Vec<Value> = verdict.tensors.iter().map(tensor).collect();
    let directions: Map<String, Value> = verdict
        .directions
        .iter()
        .map(|d| {
            let said =
                value!({ "found": d.sum.found, "limit": d.sum.limit, "expected": d.expected });
            (d.bug.to_owned(), said)
        })
        .collect();
    let document = value!({
        "spec": "sus-oracle-verdict/1",
        "verdict": verdict.outcome.name(),
        "exit_code": verdict.outcome.exit_code(),
        "case": report.case,
        "candidate": report.candidate,
        "recipe": report.recipe,
        "mode": report.mode,
        "pass": report.pass,
        "command": report.command,
        "diagnosis": report.diagnosis,
        "borderline_mask_entries": verdict.ambiguous,
        "tensors": tensors,
        "directions": directions,
        "findings": findings,
        "notes": verdict.notes,
    });
    format!("{document}\n")
}

fn tensor(tensor: &TensorResult) -> Value {
    let worst = tensor.worst.as_ref().map(|worst| {
        let stages: Vec<Value> = worst
            .stages
            .iter()
            .map(|(stage, share)| value!({ "stage": stage.name(), "share": share }))
            .collect();
        value!({
            "index": worst.index, "found": worst.found, "expected": worst.expected,
            "bound": worst.bound, "worst_case_bound": worst.worst_case,
            "error_over_bound": worst.ratio, "stages": stages,
        })
    });
    let set = |set: SetResult| value!({ "found": set.found, "limit": set.limit });
    let statistics: Map<String, Value> = tensor
        .statistics
        .iter()
        .map(|s| {
            let ((head, of_head), (row, of_row)) = (s.head, s.row);
            let said = value!({
                "tensor": set(s.all),
                "head": { "index": head, "found": of_head.found, "limit": of_head.limit },
                "row": { "index": row, "found": of_row.found, "limit": of_row.limit },
            });
            (statistic_name(s.statistic).to_owned(), said)
        })
        .collect();
    value!({
        "name": tensor.name, "shape": tensor.shape, "outcome": tensor.outcome.name(),
        "outside": tensor.outside, "rms_error_over_bound": tensor.rms, "bound_over_truth": tensor.width,
        "rows_below_noise": tensor.rows_below_noise, "worst": worst, "statistics": statistics,
    })
}
