//! The report on a part, for people and for continuous integration.

use super::document::{Document, UnitFinding, outcome_of};
use crate::Outcome;
use crate::limits::MAX_FINDINGS_SHOWN;
use crate::report::{TestFinding, TestSuite};
use serde_json::Value;
use std::fmt::Write;

/// The report for people.
#[must_use]
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    let mut push = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<10} {text}");
    };
    let fails = document.verdict == Outcome::Fail.name();
    if fails {
        push("verdict", &document.verdict);
        push(
            "diagnosis",
            document.diagnosis.as_deref().unwrap_or("none was looked for in a part of a head"),
        );
    }
    push("case", &document.case);
    push("candidate", &document.candidate);
    push("recipe", &document.recipe);
    push("judged", &format!("{}; forward pass: {}", document.pass, document.mode));
    let part = &document.part;
    for (label, lines) in [
        ("part", &part.judged),
        ("not judged", &part.not_judged),
        ("twice", &part.overlaps),
        ("rules", &part.rules),
        ("left out", &part.rules_left_out),
    ] {
        for line in lines {
            push(label, line);
        }
    }
    for tensor in &document.tensors {
        let name = tensor.get("name").and_then(Value::as_str).unwrap_or_default();
        push(name, &summary(tensor));
    }
    let findings = &document.findings;
    for UnitFinding { tensor, rule, outcome, message } in findings.iter().take(MAX_FINDINGS_SHOWN) {
        push(outcome, &format!("{tensor} {rule}: {message}"));
    }
    if findings.len() > MAX_FINDINGS_SHOWN {
        push("", &format!("and {} more findings", findings.len() - MAX_FINDINGS_SHOWN));
    }
    for note in &document.notes {
        push("note", note);
    }
    if document.verdict != Outcome::Pass.name() {
        for command in &part.commands {
            push("again", command);
        }
    }
    push("verdict", &document.verdict);
    out
}

fn summary(tensor: &Value) -> String {
    let text = |key: &str| tensor.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |of: Option<&Value>| of.and_then(Value::as_f64).unwrap_or(f64::INFINITY);
    let count = |key: &str| tensor.get(key).and_then(Value::as_u64).unwrap_or_default();
    let outcome = text("outcome");
    let Some(worst) = tensor.get("worst").filter(|worst| !worst.is_null()) else {
        return format!("{outcome:<8} no elements");
    };
    let index = worst.get("index").map_or_else(String::new, ToString::to_string);
    let mut said = format!(
        "{outcome:<8} {} elements, max |err|/bound {:.3} at {}, rms {:.4}; bounds are {:.1e} of the tensor",
        count("judged_elements"),
        number(worst.get("error_over_bound")),
        index.replace(',', ", "),
        number(tensor.get("rms_error_over_bound")),
        number(tensor.get("bound_over_truth")),
    );
    match count("rows_below_noise") {
        0 => {}
        1 => said.push_str("; 1 row is below the noise"),
        rows => {
            let _ = write!(said, "; {rows} rows are below the noise");
        }
    }
    said
}

/// The report as `JUnit` XML: one test case for each tensor and for each other subject of a finding, and the part as properties.
#[must_use]
pub fn junit(document: &Document) -> String {
    let part = &document.part;
    let lists = [
        ("judged", &part.judged),
        ("not judged", &part.not_judged),
        ("judged twice", &part.overlaps),
        ("rules", &part.rules),
        ("rules left out", &part.rules_left_out),
    ];
    let of_part = lists.iter().flat_map(|(name, all)| all.iter().map(|it| (*name, it.as_str())));
    let diagnosis = document.diagnosis.iter().map(|why| ("diagnosis", why.as_str()));
    TestSuite {
        name: format!("{} at {}", document.case, document.recipe),
        candidate: &document.candidate,
        properties: of_part.chain(diagnosis).collect(),
        tensors: document.tensors.iter().filter_map(|of| of.get("name")?.as_str()).collect(),
        findings: document
            .findings
            .iter()
            .map(|it| TestFinding {
                tensor: &it.tensor,
                outcome: outcome_of(&it.outcome).unwrap_or_default(),
                text: format!("{}: {}", it.rule, it.message),
            })
            .collect(),
    }
    .to_xml()
}
