//! The page: the verdict and why, the tensors, the findings, the maps, what was judged, and the whole report as text.

use crate::MAX_CELLS;
use crate::facts::facts;
use crate::levels;
use crate::numbers::{outcome_class, outcome_sign, ratio, short, whole};
use crate::runs::runs;
use crate::tensor::{heads_drawn, section};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sus_bounds::Recipe;
use sus_verdict::report::{Report, text};
use sus_verdict::{Case, Outcome, TensorResult, Verdict};

/// Findings, and remarks, that are listed.
const MAX_LISTED: usize = 100;

/// Nothing is loaded and no script runs, whatever stands in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The report as one page of HTML.
///
/// # Examples
/// ```
/// use sus_bounds::Recipe;
/// use sus_files::Settings;
/// use sus_verdict::{Case, Verdict, report::Report};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let verdict = Verdict::default();
/// let report = Report {
///     verdict: &verdict,
///     case: "case.safetensors".into(),
///     candidate: "<script>.safetensors".into(),
///     recipe: "f32".into(),
///     mode: "exact",
///     pass: "dense".into(),
///     command: "sus-oracle check case.safetensors '<script>.safetensors'".into(),
///     passes_as: None,
///     diagnosis: None,
///     place: None,
///     explanation: None,
/// };
/// let page = sus_report::page(&report, &case, &Recipe::built_in("f32").unwrap());
/// assert!(page.starts_with("<!DOCTYPE html>") && page.contains("✓ PASS"));
/// assert!(page.contains("&lt;script&gt;.safetensors") && !page.contains("<script"));
/// ```
#[must_use]
pub fn page(report: &Report<'_>, case: &Case, recipe: &Recipe) -> String {
    let verdict = report.verdict;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "sus-oracle " (env!("CARGO_PKG_VERSION")) };
                link rel="icon" href="data:,";
                title { (verdict.outcome.name()) ": " (whole(&report.candidate)) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (levels::patterns())
                (header(report))
                main {
                    (table(verdict))
                    (findings(verdict))
                    @if let Some(of) = &verdict.runs { (runs(of)) }
                    (maps(verdict))
                    (facts(report, case, recipe))
                    section id="text" {
                        details {
                            summary { "The report as " code { "check" } " prints it" }
                            pre class="report" { (multiline(&text(report))) }
                        }
                    }
                }
                footer { "sus-oracle " (env!("CARGO_PKG_VERSION")) ". This page is whole: it loads nothing and runs no script." }
            }
        }
    };
    markup.into_string()
}

/// Text of several lines, each without control characters.
fn multiline(text: &str) -> String {
    text.lines().map(|line| whole(line) + "\n").collect()
}

/// The verdict, what explains it and where.
fn header(report: &Report<'_>) -> Markup {
    let outcome = report.verdict.outcome;
    let class = outcome_class(outcome);
    let meaning = match outcome {
        Outcome::Pass => "Every result is within the bounds that are derived for it.",
        Outcome::Fail => "A right kernel does not give these results.",
        Outcome::Refused => "The bounds are too wide to judge by: a made-up answer could pass.",
        Outcome::Inconclusive => "Too little was given to decide.",
    };
    html! {
        header class=(class) {
            h1 { span class={ "badge " (class) } { (outcome_sign(outcome)) " " (outcome.name()) } " " span class="name" { (whole(&report.candidate)) } }
            p { (meaning) }
            @if outcome == Outcome::Fail {
                @if let Some(diagnosis) = &report.diagnosis { p id="diagnosis" { b { "Why: " } (whole(diagnosis)) } }
                @if let Some(place) = &report.place { p id="where" { b { "Where: " } (whole(place)) } }
            }
        }
    }
}

/// The tensors, one a line.
fn table(verdict: &Verdict) -> Markup {
    html! {
        section id="tensors" {
            h2 { "Results" }
            @if verdict.tensors.is_empty() { p { "No result was compared element by element." } }
            @else {
                div class="wide" {
                    table class="list" {
                        tr {
                            th { "result" } th { "verdict" } th { "shape" } th { "max |err|/bound" } th { "at" } th { "outside" }
                            th { "rms of err/bound" } th { "bounds of the tensor's size" }
                        }
                        @for tensor in &verdict.tensors { (row(tensor)) }
                    }
                }
            }
        }
    }
}

fn row(tensor: &TensorResult) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "#" (tensor.name) } { code { (tensor.name) } } }
            td { span class={ "badge " (outcome_class(tensor.outcome)) } { (outcome_sign(tensor.outcome)) " " (tensor.outcome.name()) } }
            td { code { (format!("{:?}", tensor.shape)) } }
            @match &tensor.worst {
                None => td colspan="5" { "no elements" },
                Some(worst) => {
                    td { (ratio(worst.ratio)) }
                    td { code { (format!("{:?}", worst.index)) } }
                    td { (tensor.outside) " of " (tensor.ratios.len()) }
                    td { (ratio(tensor.rms)) }
                    td { (format!("{:.1e}", tensor.width)) }
                }
            }
        }
    }
}

/// Everything that is wrong or could not be judged, and remarks.
fn findings(verdict: &Verdict) -> Markup {
    let all = &verdict.findings;
    html! {
        @if !all.is_empty() {
            section id="findings" {
                h2 { "Findings" }
                div class="wide" {
                    table class="list" {
                        tr { th { "" } th { "result" } th { "rule" } th { "what was found" } }
                        @for of in all.iter().take(MAX_LISTED) {
                            tr {
                                td { span class={ "badge " (outcome_class(of.outcome)) } { (outcome_sign(of.outcome)) " " (of.outcome.name()) } }
                                th scope="row" { code { (short(&of.tensor)) } }
                                td { code { (of.rule.name()) } }
                                td { (short(&of.message)) }
                            }
                        }
                    }
                }
                @if all.len() > MAX_LISTED { p { "And " (all.len() - MAX_LISTED) " more." } }
            }
        }
        @if !verdict.notes.is_empty() || verdict.ambiguous > 0 {
            section id="notes" {
                h2 { "Remarks" }
                ul {
                    @for note in verdict.notes.iter().take(MAX_LISTED) { li { (short(note)) } }
                    @if verdict.ambiguous > 0 {
                        li { (verdict.ambiguous) " entries of the mask are ambiguous: a right kernel may keep or drop such an entry" }
                    }
                }
            }
        }
    }
}

/// The maps of all tensors, those that fail first.
fn maps(verdict: &Verdict) -> Markup {
    let mut order: Vec<&TensorResult> = verdict.tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.outcome != Outcome::Fail);
    let with_numbers = with_numbers(&order);
    html! {
        section id="maps" {
            h2 { "Errors over their bounds" }
            @if order.is_empty() {
                p { "The runs were judged together, by the distribution of the mask: no single element has a bound of its own, and there is no map to draw." }
            } @else {
                p { "Each element's error is divided by the bound that is derived for it. A right kernel stays below 1." }
                (levels::legend())
                @for (tensor, with_numbers) in order.iter().zip(&with_numbers) { (section(tensor, with_numbers)) }
            }
        }
    }
}

/// For each drawn head of each tensor, whether its numbers are on the page: in this order, as long as [`MAX_CELLS`] are not used up.
fn with_numbers(order: &[&TensorResult]) -> Vec<Vec<bool>> {
    let mut left = MAX_CELLS;
    let mut fits = |cells: usize| {
        let fits = cells <= left;
        if fits {
            left -= cells;
        }
        fits
    };
    order
        .iter()
        .map(|tensor| {
            let drawn = &tensor.map.grids[..heads_drawn(tensor)];
            drawn.iter().map(|grid| fits(grid.cells.len())).collect()
        })
        .collect()
}
