//! A verdict for people, and for machines as JSON and as `JUnit` XML.

mod json;
mod junit;
mod picture;

pub use json::json;
pub use junit::junit;

use super::{Outcome, StatisticResult, TensorResult, Verdict, Worst};
use picture::bars;
use std::fmt::Write;
use sus_bounds::Statistic;

/// A verdict and what stands around it.
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
/// assert!(report::text(&report).contains("dq zero: all < 1e-9"));
/// ```
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The verdict.
    pub verdict: &'a Verdict,
    /// The case's file.
    pub case: String,
    /// The candidate's file.
    pub candidate: String,
    /// The recipe, and what it was chosen by.
    pub recipe: String,
    /// Exact or given.
    pub mode: &'static str,
    /// Dense or SUS, with the draw.
    pub pass: String,
    /// The command that does this again.
    pub command: String,
    /// The known bug that explains the failure, if one was looked for.
    pub diagnosis: Option<String>,
}

/// Findings that are printed of each tensor.
const SHOWN: usize = 12;

/// The report for people.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge, report};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
/// let case = Case::new(case.problem.clone(), case.settings.clone());
/// let verdict = sus_mutants::judge(&case, &recipe).build()?.check(&wrong);
/// let report = report::Report {
///     verdict: &verdict,
///     case: case.label.clone(),
///     candidate: "wrong".into(),
///     recipe: recipe.name.clone(),
///     mode: Mode::Exact.name(),
///     pass: case.describe_pass(),
///     command: "cargo test".into(),
///     diagnosis: None,
/// };
/// assert!(report::text(&report).ends_with("verdict    FAIL\n"));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let mut out = String::new();
    let mut line = |label: &str, said: &str| {
        let _ = writeln!(out, "{label:<10} {said}");
    };
    line("case", &report.case);
    line("candidate", &report.candidate);
    line("recipe", &report.recipe);
    line("judged", &format!("{}; forward pass: {}", report.pass, report.mode));
    for tensor in &verdict.tensors {
        line(tensor.name, &summary(tensor));
        for statistic in &tensor.statistics {
            if ratio(statistic) > 1.0 {
                line("", &statistic_line(statistic));
            }
        }
    }
    for finding in verdict.findings.iter().take(SHOWN) {
        let said = format!("{} {}: {}", finding.tensor, finding.rule.name(), finding.message);
        line(finding.outcome.name(), &said);
    }
    if verdict.findings.len() > SHOWN {
        line("", &format!("and {} more findings", verdict.findings.len() - SHOWN));
    }
    for note in &verdict.notes {
        line("note", note);
    }
    if verdict.ambiguous > 0 {
        line(
            "note",
            &format!("{} mask entries are ambiguous: either decision is right", verdict.ambiguous),
        );
    }
    let failed = verdict.tensors.iter().filter(|t| t.outcome == Outcome::Fail);
    for tensor in failed {
        for part in explain(tensor) {
            line("", &part);
        }
    }
    if verdict.outcome == Outcome::Fail {
        line("diagnosis", report.diagnosis.as_deref().unwrap_or("none was looked for"));
    }
    if verdict.outcome != Outcome::Pass {
        line("again", &report.command);
    }
    line("verdict", verdict.outcome.name());
    out
}

/// The outcome, the worst element and the width of the bounds.
fn summary(tensor: &TensorResult) -> String {
    let outcome = tensor.outcome.name();
    let Some(worst) = &tensor.worst else { return format!("{outcome:<8} no elements") };
    let mut said = format!(
        "{outcome:<8} max |err|/bound {:.3} at {:?}, rms {:.4}; bounds are {:.1e} of the tensor",
        worst.ratio, worst.index, tensor.rms, tensor.width
    );
    if tensor.rows_below_noise > 0 {
        let _ = write!(said, "; {} rows below the noise", tensor.rows_below_noise);
    }
    said
}

fn ratio(result: &StatisticResult) -> f64 {
    result.all.ratio().max(result.head.1.ratio()).max(result.row.1.ratio())
}

/// The name of a statistic.
///
/// # Examples
/// ```
/// use sus_bounds::Statistic;
/// use sus_verdict::report::statistic_name;
/// let all = [Statistic::Mean, Statistic::Slope, Statistic::Rms];
/// assert_eq!(all.map(statistic_name), ["mean", "slope", "rms"]);
/// ```
#[must_use]
pub const fn statistic_name(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Mean => "mean",
        Statistic::Slope => "slope",
        Statistic::Rms => "rms",
    }
}

fn statistic_line(result: &StatisticResult) -> String {
    let name = statistic_name(result.statistic);
    format!(
        "         {name}: tensor {:+.2e} (limit {:.1e}), head {} {:+.2e} ({:.1e}), row {} {:+.2e} ({:.1e})",
        result.all.found,
        result.all.limit,
        result.head.0,
        result.head.1.found,
        result.head.1.limit,
        result.row.0,
        result.row.1.found,
        result.row.1.limit,
    )
}

/// What is known of a tensor that failed.
fn explain(tensor: &TensorResult) -> Vec<String> {
    let Some(worst) = &tensor.worst else { return Vec::new() };
    let Worst { index, found, expected, bound, worst_case, ratio, stages } = worst;
    let mut lines = vec![format!(
        "{} worst element {index:?}: found {found:e}, expected {expected:e}, error {:.3e}, bound {bound:.3e} ({ratio:.3} of it; worst case {worst_case:.3e})",
        tensor.name,
        (found - expected).abs(),
    )];
    let shares: Vec<String> = stages
        .iter()
        .take(3)
        .map(|(stage, share)| format!("{} {:.0} %", stage.name(), 100.0 * share))
        .collect();
    let exceeded = match (found - expected).abs() {
        error if error > *worst_case => "; exceeded, certainly",
        error if error > *bound => "; exceeded, but for chance",
        _ => "; not exceeded: a statistic is, or another element is no number",
    };
    lines.push(format!("   the bound is made of {}{exceeded}", shares.join(", ")));
    lines.extend(bars(tensor));
    lines
}
