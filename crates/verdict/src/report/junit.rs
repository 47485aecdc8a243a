//! The report as `JUnit` XML: one test case for each tensor, and one for the candidate as a whole.

use super::Report;
use crate::Outcome;
use std::fmt::Write;

/// The report for continuous integration.
#[must_use]
pub fn junit(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let explained = [("diagnosis", &report.diagnosis), ("where", &report.place)];
    let explained = explained.into_iter().filter_map(|(name, of)| Some((name, of.as_deref()?)));
    TestSuite {
        name: format!("{} at {}", report.case, report.recipe),
        candidate: &report.candidate,
        properties: explained.filter(|_| verdict.outcome == Outcome::Fail).collect(),
        tensors: verdict.tensors.iter().map(|tensor| tensor.name).collect(),
        findings: verdict
            .findings
            .iter()
            .map(|it| TestFinding {
                tensor: &it.tensor,
                outcome: it.outcome,
                text: format!("{}: {}", it.rule.name(), it.message),
            })
            .collect(),
    }
    .to_xml()
}

/// What a verdict on a candidate, or on a part of it, says in the words of `JUnit`.
pub(crate) struct TestSuite<'a> {
    pub(crate) name: String,
    pub(crate) candidate: &'a str,
    /// Names and values.
    pub(crate) properties: Vec<(&'a str, &'a str)>,
    pub(crate) tensors: Vec<&'a str>,
    pub(crate) findings: Vec<TestFinding<'a>>,
}

/// A finding on a tensor, or on another subject.
pub(crate) struct TestFinding<'a> {
    pub(crate) tensor: &'a str,
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

impl TestSuite<'_> {
    fn of<'s>(&'s self, case: &'s str) -> impl Iterator<Item = &'s TestFinding<'s>> {
        self.findings.iter().filter(move |it| it.tensor == case)
    }

    /// One test case for each tensor and for each other subject of a finding: a failure if it fails, skipped if it is not judged.
    pub(crate) fn to_xml(&self) -> String {
        let mut cases = self.tensors.clone();
        for finding in &self.findings {
            if !cases.contains(&finding.tensor) {
                cases.push(finding.tensor);
            }
        }
        let element =
            |case: &str| match self.of(case).map(|it| it.outcome).max().unwrap_or_default() {
                Outcome::Pass => None,
                Outcome::Fail => Some("failure"),
                Outcome::Refused | Outcome::Inconclusive => Some("skipped"),
            };
        let count = |wanted| cases.iter().filter(|case| element(case) == Some(wanted)).count();
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            out,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            escape(&self.name),
            cases.len(),
            count("failure"),
            count("skipped"),
        );
        if !self.properties.is_empty() {
            out.push_str("  <properties>\n");
            for (name, value) in &self.properties {
                let _ =
                    writeln!(out, "    <property name=\"{name}\" value=\"{}\"/>", escape(value));
            }
            out.push_str("  </properties>\n");
        }
        for case in &cases {
            let (class, name) = (escape(self.candidate), escape(case));
            let _ = write!(out, "  <testcase classname=\"{class}\" name=\"{name}\"");
            let _ = match element(case) {
                None => writeln!(out, "/>"),
                Some(element) => {
                    let texts: Vec<&str> = self.of(case).map(|it| it.text.as_str()).collect();
                    let message = escape(&texts.join("\n"));
                    writeln!(out, "><{element} message=\"{message}\"/></testcase>")
                }
            };
        }
        out.push_str("</testsuite>\n");
        out
    }
}

/// Text as an attribute of XML 1.0, which cannot hold most control characters.
fn escape(text: &str) -> String {
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
