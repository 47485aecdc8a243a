//! The report as `JUnit` XML: one test case for each tensor, and one for the candidate as a whole.

use super::Report;
use crate::{Finding, Outcome};
use std::fmt::Write;

/// The report for continuous integration.
#[must_use]
pub fn junit(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let mut cases: Vec<String> = verdict.tensors.iter().map(|t| t.name.to_owned()).collect();
    for finding in &verdict.findings {
        if !cases.contains(&finding.tensor) {
            cases.push(finding.tensor.clone());
        }
    }
    let of =
        |case: &str| verdict.findings.iter().filter(move |f| f.tensor == case).collect::<Vec<_>>();
    let worst =
        |findings: &[&Finding]| findings.iter().map(|f| f.outcome).max().unwrap_or_default();
    let count =
        |wanted: fn(Outcome) -> bool| cases.iter().filter(|c| wanted(worst(&of(c)))).count();
    let failures = count(|outcome| outcome == Outcome::Fail);
    let skipped = count(|outcome| outcome == Outcome::Refused || outcome == Outcome::Inconclusive);
    let suite = escape(&format!("{} at {}", report.case, report.recipe));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">",
        cases.len()
    );
    let explained = [("diagnosis", &report.diagnosis), ("where", &report.place)];
    let explained: Vec<(&str, &str)> =
        explained.into_iter().filter_map(|(name, of)| Some((name, of.as_deref()?))).collect();
    if !explained.is_empty() && verdict.outcome == Outcome::Fail {
        out.push_str("  <properties>\n");
        for (name, value) in explained {
            let value = escape(value);
            let _ = writeln!(out, "    <property name=\"{name}\" value=\"{value}\"/>");
        }
        out.push_str("  </properties>\n");
    }
    for case in &cases {
        let findings = of(case);
        let class = escape(&report.candidate);
        let name = escape(case);
        let lines: Vec<String> =
            findings.iter().map(|f| format!("{}: {}", f.rule.name(), f.message)).collect();
        let text = escape(&lines.join("\n"));
        let element = match worst(&findings) {
            Outcome::Pass => None,
            Outcome::Fail => Some("failure"),
            Outcome::Refused | Outcome::Inconclusive => Some("skipped"),
        };
        let _ = match element {
            None => writeln!(out, "  <testcase classname=\"{class}\" name=\"{name}\"/>"),
            Some(element) => writeln!(
                out,
                "  <testcase classname=\"{class}\" name=\"{name}\"><{element} message=\"{text}\"/></testcase>"
            ),
        };
    }
    out.push_str("</testsuite>\n");
    out
}

/// Text as an attribute of XML 1.0, which cannot hold most control characters.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
