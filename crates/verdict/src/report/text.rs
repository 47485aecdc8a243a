//! The report for people.

use super::Report;
use super::error_map::error_map;
use crate::limits::MAX_FINDINGS_SHOWN;
use crate::statistics::statistic_name;
use crate::{Outcome, Runs, Spread, StageShare, StatisticResult, TensorResult, Verdict, Worst};
use std::fmt::Write;
use sus_bounds::ELEMENTWISE_FALSE_ALARM;

/// The stages of a bound that are printed.
const STAGES_SHOWN: usize = 3;

/// Lines of a label and a text.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.0, "{label:<10} {text}");
    }
}

/// The report for people: of a failure first the cause and the place; then the tensors, the findings, maps of the errors, and the
/// verdict in the last line.
///
/// # Examples
/// ```
/// use sus_verdict::{Criterion, Finding, Outcome, Verdict, report};
/// let finding = Finding {
///     tensor: "dq".into(),
///     rule: Criterion::Zero,
///     outcome: Outcome::Fail,
///     message: "every element is zero".into(),
/// };
/// let verdict = Verdict { outcome: Outcome::Fail, findings: vec![finding], ..Verdict::default() };
/// let report = report::Report {
///     verdict: &verdict,
///     case: "case.safetensors".into(),
///     candidate: "mine.safetensors".into(),
///     recipe: "f32".into(),
///     mode: "exact",
///     pass: "dense".into(),
///     command: "sus-oracle check case.safetensors mine.safetensors".into(),
///     passes_as: None,
///     diagnosis: None,
///     place: None,
///     explanation: None,
/// };
/// assert!(report::text(&report).contains("FAIL       dq zero: every element is zero"));
/// ```
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let mut lines = Lines::default();
    if verdict.outcome == Outcome::Fail {
        lines.push("verdict", verdict.outcome.name());
        lines.push("diagnosis", report.diagnosis.as_deref().unwrap_or("none was looked for"));
        if let Some(place) = &report.place {
            lines.push("where", place);
        }
    }
    lines.push("case", &report.case);
    lines.push("candidate", &report.candidate);
    lines.push("recipe", &report.recipe);
    lines.push("judged", &format!("{}; forward pass: {}", report.pass, report.mode));
    push_tensors(&mut lines, verdict);
    if let Some(runs) = &verdict.runs {
        push_runs(&mut lines, runs);
    }
    push_findings(&mut lines, verdict);
    let failed = verdict.tensors.iter().filter(|t| t.outcome == Outcome::Fail);
    for part in failed.flat_map(explain) {
        lines.push("", &part);
    }
    if let Some(name) = &report.passes_as {
        lines.push(
            "hint",
            &format!("PASSes as {name}: write --recipe {name} if the kernel works so"),
        );
    }
    if verdict.outcome != Outcome::Pass {
        lines.push("again", &report.command);
    }
    lines.push("verdict", verdict.outcome.name());
    lines.0
}

/// Each tensor, and the statistics that are above their limits.
fn push_tensors(lines: &mut Lines, verdict: &Verdict) {
    for tensor in &verdict.tensors {
        lines.push(tensor.name, &summary(tensor));
        for statistic in tensor.statistics.iter().filter(|of| of.ratio() > 1.0) {
            lines.push("", &statistic_line(statistic));
        }
    }
}

/// How many runs have each outcome, and how much they differ.
fn push_runs(lines: &mut Lines, runs: &Runs) {
    let count = |wanted: Outcome| runs.outcomes.iter().filter(|&&of| of == wanted).count();
    let all = [Outcome::Pass, Outcome::Inconclusive, Outcome::Refused, Outcome::Fail];
    let counts: Vec<String> = all
        .into_iter()
        .filter(|&outcome| count(outcome) > 0)
        .map(|outcome| format!("{} {}", count(outcome), outcome.name()))
        .collect();
    let text = format!("{}; the tensors above are those of run {}", counts.join(", "), runs.shown);
    lines.push("runs", &text);
    for (at, of) in runs.spread.iter().enumerate() {
        lines.push(if at == 0 { "spread" } else { "" }, &spread_line(of));
    }
}

fn spread_line(of: &Spread) -> String {
    let name = of.name;
    if of.same_bits {
        return format!("{name}: the same bits in all runs");
    }
    let at = of.index.as_ref().map_or_else(String::new, |index| format!(" at {index:?}"));
    format!(
        "{name}: runs differ in {} elements, by {:.3e} at most, and by {:.3} of the bound at most{at}",
        of.elements, of.difference, of.difference_over_bound
    )
}

fn push_findings(lines: &mut Lines, verdict: &Verdict) {
    for finding in verdict.findings.iter().take(MAX_FINDINGS_SHOWN) {
        let text = format!("{} {}: {}", finding.tensor, finding.rule.name(), finding.message);
        lines.push(finding.outcome.name(), &text);
    }
    if verdict.findings.len() > MAX_FINDINGS_SHOWN {
        let more = verdict.findings.len() - MAX_FINDINGS_SHOWN;
        lines.push("", &format!("and {more} more findings"));
    }
    for note in &verdict.notes {
        lines.push("note", note);
    }
    if verdict.ambiguous > 0 {
        let count = verdict.ambiguous;
        let entries = if count == 1 { "entry is" } else { "entries are" };
        let note = format!(
            "{count} mask {entries} ambiguous: a right kernel may keep or drop such an entry"
        );
        lines.push("note", &note);
    }
}

/// The outcome, the worst element and the width of the bounds.
fn summary(tensor: &TensorResult) -> String {
    let outcome = tensor.outcome.name();
    let Some(worst) = &tensor.worst else { return format!("{outcome:<8} no elements") };
    let mut text = format!(
        "{outcome:<8} max |err|/bound {:.3} at {:?}, rms {:.4}; bounds are {:.1e} of the tensor",
        worst.ratio, worst.index, tensor.rms, tensor.width
    );
    match tensor.rows_below_noise {
        0 => {}
        1 => text.push_str("; 1 row is below the noise"),
        rows => {
            let _ = write!(text, "; {rows} rows are below the noise");
        }
    }
    text
}

fn statistic_line(of: &StatisticResult) -> String {
    let name = statistic_name(of.statistic);
    let (head, row) = (of.head.result, of.row.result);
    format!(
        "         {name}: tensor {:+.2e} (limit {:.1e}), head {} {:+.2e} (limit {:.1e}), row {} {:+.2e} (limit {:.1e})",
        of.all.found,
        of.all.limit,
        of.head.index,
        head.found,
        head.limit,
        of.row.index,
        row.found,
        row.limit,
    )
}

/// The worst element of a tensor that failed, the stages of its bound, and a map of the errors.
fn explain(tensor: &TensorResult) -> Vec<String> {
    let Some(worst) = &tensor.worst else { return Vec::new() };
    let by_stored_o = tensor.by_stored_o.as_ref().filter(|by| by.ratio > 1.0 && worst.ratio <= 1.0);
    let by = if by_stored_o.is_some() { " by the candidate's own o" } else { "" };
    let worst = by_stored_o.unwrap_or(worst);
    let Worst { index, found, expected, bound, worst_case, ratio, stages } = worst;
    let error = (found - expected).abs();
    let shares = stages.iter().take(STAGES_SHOWN);
    let shares: Vec<String> = shares
        .map(|StageShare { stage, share }| format!("{} {:.0} %", stage.name(), 100.0 * share))
        .collect();
    let name = tensor.name;
    let compared =
        format!("{name} worst element{by} {index:?}: found {found:e}, expected {expected:e}");
    let mut lines = if error.is_finite() {
        vec![
            format!("{compared}; the error {error:.3e} is {ratio:.3} times the bound {bound:.3e}"),
            format!("   the bound is made of {}", shares.join(", ")),
            format!("   {}", meaning(error, *bound, *worst_case)),
        ]
    } else {
        // No bound is a measure of such an element.
        vec![format!("{compared}: no number, where a right kernel has one")]
    };
    lines.extend(error_map(tensor));
    lines
}

/// How likely a right kernel makes this error.
fn meaning(error: f64, bound: f64, worst_case: f64) -> String {
    if error > worst_case {
        format!(
            "no rounding of a right kernel makes this error: the worst case is {worst_case:.3e}"
        )
    } else if error > bound {
        format!(
            "a right kernel makes such an error in any element with probability below {ELEMENTWISE_FALSE_ALARM:e}; the worst case is {worst_case:.3e}"
        )
    } else {
        "every element is within its bound: another rule failed the tensor, see above".into()
    }
}
