//! Several runs of one kernel: the outcome of each, and how much they differ.

use crate::numbers::{outcome_sign, ratio};
use maud::{Markup, html};
use sus_verdict::{Outcome, Runs};

/// Runs whose outcomes are drawn one by one, at most.
const RUNS_SHOWN: usize = 512;

/// The runs of a verdict.
pub(crate) fn runs(runs: &Runs) -> Markup {
    let count = |wanted: Outcome| runs.outcomes.iter().filter(|&&of| of == wanted).count();
    let all = [Outcome::Pass, Outcome::Inconclusive, Outcome::Refused, Outcome::Fail];
    let signs: String = runs.outcomes.iter().take(RUNS_SHOWN).map(|&of| outcome_sign(of)).collect();
    html! {
        section id="runs" {
            h2 { "Runs" }
            p {
                (runs.count) " runs: "
                @for outcome in all.into_iter().filter(|&outcome| count(outcome) > 0) {
                    (count(outcome)) " " (outcome_sign(outcome)) " " (outcome.name()) " "
                }
                ". The tensors below are those of run " (runs.shown) "."
            }
            pre class="signs" { (signs) }
            @if runs.outcomes.len() > RUNS_SHOWN { p class="small" { "The first " (RUNS_SHOWN) " runs." } }
            @if !runs.spread.is_empty() {
                div class="wide" {
                    table class="list" {
                        tr { th { "tensor" } th { "elements that differ" } th { "largest difference" } th { "of the bound" } th { "at" } }
                        @for of in &runs.spread {
                            tr {
                                th scope="row" { code { (of.name) } }
                                @if of.same_bits { td colspan="4" { "the same bits in all runs" } }
                                @else {
                                    td { (of.elements) }
                                    td { (format!("{:.3e}", of.difference)) }
                                    td { (ratio(of.difference_over_bound)) }
                                    td { @if let Some(index) = &of.index { code { (format!("{index:?}")) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
