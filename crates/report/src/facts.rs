//! What was judged, by what, and how to judge it again.

use crate::numbers::{short, whole};
use maud::{Markup, html};
use serde_json::Value;
use sus_bounds::Recipe;
use sus_verdict::Case;
use sus_verdict::report::Report;

/// The table of files, problem, recipe and command.
pub(crate) fn facts(report: &Report<'_>, case: &Case, recipe: &Recipe) -> Markup {
    let inputs = case.problem.inputs();
    let shape =
        |name: &str, shape: &[usize]| html! { code { (name) " " (format!("{shape:?}")) } " " };
    html! {
        section id="judged" {
            h2 { "What was judged" }
            div class="wide" {
                table class="facts" {
                    tr { th { "case" } td { code { (whole(&report.case)) } } }
                    tr { th { "candidate" } td { code { (whole(&report.candidate)) } } }
                    tr {
                        th { "shapes" }
                        td { (shape("q", &inputs.q.shape())) (shape("k", &inputs.k.shape())) (shape("v", &inputs.v.shape())) }
                    }
                    tr { th { "settings" } td { code { (short(&case.settings.to_json())) } } }
                    tr { th { "pass" } td { (short(&report.pass)) "; forward pass: " (report.mode) } }
                    tr { th { "recipe" } td { (short(&report.recipe)) (fields(recipe)) } }
                    @if let Some(name) = &report.passes_as {
                        tr { th { "hint" } td { "PASSes as " code { (name) } ": write " code { "--recipe " (name) } " if the kernel works so" } }
                    }
                }
            }
            h3 { "The command that repeats it" }
            pre class="command" { code { (whole(&report.command)) } }
        }
    }
}

/// The keys of a recipe, as a TOML file has them.
fn fields(recipe: &Recipe) -> Markup {
    let Ok(Value::Object(fields)) = serde_json::to_value(recipe) else { return html! {} };
    html! {
        details {
            summary { "how such a kernel rounds" }
            table class="recipe" {
                @for (key, value) in fields.iter().filter(|(key, _)| *key != "name") {
                    tr { th scope="row" { code { (key) } } td { code { (short(&value.to_string())) } } }
                }
            }
        }
    }
}
