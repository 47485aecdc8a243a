//! The matrix as text: the same on every machine.

use super::Matrix;
use super::cell::Cell;
use super::tally::{Says, Survivor, Tally};
use crate::baseline_tolerances::BASELINE_TOLERANCES;
use crate::{cases, kernels};
use serde_json::{Value, json};
use std::fmt::Write;
use sus_verdict::Outcome;

impl Matrix {
    /// `docs/kill-matrix.md`.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus as cases;
    /// use sus_mutants::{kernels, matrix::Matrix, named};
    /// let right = kernels().into_iter().filter(|kernel| !kernel.is_mutant);
    /// let kernels = right.chain(named("delta_missing")).collect();
    /// let matrix = Matrix::run(kernels, &[cases::named("primes").unwrap()], &["f32"])?;
    /// assert!(matrix.markdown().contains("| **sus-oracle** | 0 of 1 | 0 of 1 | 0 of "));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn markdown(&self) -> String {
        let ours = self.ours();
        let right = kernels().iter().filter(|kernel| !kernel.is_mutant).count();
        let mut text = format!(
            "# The kill matrix\n\n\
             Made by `sus-oracle selftest --matrix`; `tests/kill_matrix.rs` makes it again and compares. [The gallery](gallery.md) says what\n\
             each kernel does.\n\n\
             {} wrong kernels and {right} right ones ran on {} cases at the recipes {}: a run is one kernel on one case at one recipe.\n\
             A run of a wrong kernel counts if it shows: if it changes some output, in its largest element or in its norm, by\n\
             more than twice what any right kernel errs there. A rule should pass none of these and every run of a right kernel.\n\n\
             ## Rules\n\n\
             `pt` is a plain kernel that rounds every matrix it stores; the rival rules do not judge `f64`, and for SUS they are given the\n\
             oracle's own mask.\n\n\
             | rule | wrong runs passed | wrong kernels never caught | right runs rejected | as its source has it |\n|---|---|---|---|---|\n",
            kernels().len() - right,
            cases::all().len(),
            self.recipes().join(", "),
        );
        let mut row = |name: &str, tally: Tally, rule: &str| {
            let Tally { judged, passed, right, rejected, kernels, never_caught } = tally;
            let _ = writeln!(
                text,
                "| {name} | {passed} of {judged} | {never_caught} of {kernels} | {rejected} of {right} | {rule} |"
            );
        };
        row("**sus-oracle**", ours, "a derived bound for every element");
        for (at, baseline) in BASELINE_TOLERANCES.iter().enumerate() {
            let tally = self.tally(&|cell| cell.baselines[at]);
            let rule = format!("{}; {}", baseline.rule, baseline.source).replace('|', "\\|");
            row(baseline.name, tally, &rule);
        }
        self.write_mistakes(&mut text);
        self.write_tightness(&mut text);
        self.write_kernels(&mut text);
        text
    }

    fn write_mistakes(&self, text: &mut String) {
        text.push_str("\n## What passes and should not\n\n");
        let survivors = self.survivors();
        if survivors.is_empty() {
            text.push_str("Nothing: no wrong run that shows is passed.\n");
        } else {
            text.push_str(
                "Roundings at 16-bit recipes: what they add is within what a right kernel may err, though more than twice what the right\n\
                 kernels of the gallery do err. [What remains](verdict.md#what-remains) says why. No other wrong run that shows is passed.\n\n\
                 | kernel | recipe | passes | of runs that show | cases |\n|---|---|---|---|---|\n",
            );
        }
        for Survivor { kernel, recipe, shown, cases } in survivors {
            let _ = writeln!(
                text,
                "| `{}` | {recipe} | {} | {shown} | {} |",
                kernel.name,
                cases.len(),
                cases.join(", ")
            );
        }
        let refusals = self.refusals();
        if !refusals.is_empty() {
            let _ = write!(
                text,
                "\nRefused, since the bounds are too wide to tell: {}.\n",
                refusals.join(", ")
            );
        }
    }

    fn write_tightness(&self, text: &mut String) {
        text.push_str("\n## How much of the bound right kernels use\n\n| recipe | largest error / bound | kernel | case |\n|---|---|---|---|\n");
        for recipe in self.recipes() {
            if let Some((used, kernel, case)) = self.tightness(recipe) {
                let _ = writeln!(text, "| {recipe} | {used:.2} | `{kernel}` | `{case}` |");
            }
        }
    }

    /// One line for each wrong kernel: how many of its runs each rule passes.
    fn write_kernels(&self, text: &mut String) {
        text.push_str("\n## Kernels\n\nRuns that show, and how many of them each rule passes: `.` none, `-` not judged.\n\n| kernel | shows | ours |");
        for baseline in BASELINE_TOLERANCES {
            let _ = write!(text, " {} |", baseline.name);
        }
        text.push_str("\n|---|---|---|");
        text.push_str(&"---|".repeat(BASELINE_TOLERANCES.len()));
        text.push('\n');
        for kernel in kernels().into_iter().filter(|kernel| kernel.is_mutant) {
            let shown: Vec<&Cell> =
                self.row(kernel).map(|(_, cell)| cell).filter(|cell| cell.visible).collect();
            let count = |says: Says<'_>| {
                let judged: Vec<bool> = shown.iter().filter_map(|cell| says(cell)).collect();
                match judged.iter().filter(|&&passes| passes).count() {
                    _ if judged.is_empty() => "-".to_owned(),
                    0 => ".".to_owned(),
                    passed => passed.to_string(),
                }
            };
            let _ = write!(
                text,
                "| `{}` | {} | {} |",
                kernel.name,
                shown.len(),
                count(&|cell| Some(cell.outcome == Outcome::Pass))
            );
            for at in 0..BASELINE_TOLERANCES.len() {
                let _ = write!(text, " {} |", count(&|cell| cell.baselines[at]));
            }
            text.push('\n');
        }
    }

    /// `docs/gallery.md`.
    #[must_use]
    pub fn gallery_markdown(&self) -> String {
        let mut text = String::from(
            "# The gallery of kernels\n\n\
             Made by `sus-oracle selftest --gallery`; `tests/kill_matrix.rs` makes it again and compares. Every kernel is one small\n\
             function in `crates/mutants`, run on a simulated kernel that rounds where a recipe says. [The kill matrix](kill-matrix.md) says\n\
             which rules catch which.\n\n## Wrong kernels\n\n\
             | kernel | family | what is wrong | outputs | seen in | shows on |\n|---|---|---|---|---|---|\n",
        );
        for kernel in kernels().into_iter().filter(|kernel| kernel.is_mutant) {
            let cases = self.shows_on(kernel);
            let shown = match cases.len() {
                0 => kernel.indistinguishable().unwrap_or("nowhere").to_owned(),
                1..=4 => cases.join(", "),
                n => format!("{n} cases, such as {}", cases[..3].join(", ")),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {shown} |",
                kernel.name,
                kernel.bug_type.map(|bug_type| bug_type.to_string()).unwrap_or_default(),
                kernel.what,
                kernel.outputs.iter().map(|output| output.as_str()).collect::<Vec<_>>().join(", "),
                kernel.upstream().unwrap_or_default(),
            );
        }
        text.push_str("\n## Right kernels\n\n| kernel | what it does |\n|---|---|\n");
        for kernel in kernels().into_iter().filter(|kernel| !kernel.is_mutant) {
            let _ = writeln!(text, "| `{}` | {} |", kernel.name, kernel.what);
        }
        text.push_str(
            "\n## Cases\n\n| case | purpose | B, Hq, Hk, Nq, Nk, D, E |\n|---|---|---|\n",
        );
        for case in cases::all() {
            let s = case.problem.sizes();
            let _ = writeln!(
                text,
                "| `{}` | {} | {}, {}, {}, {}, {}, {}, {} |",
                case.name,
                case.purpose,
                s.batch,
                s.query_heads,
                s.key_heads,
                s.queries,
                s.keys,
                s.features,
                s.value_features,
            );
        }
        text.push_str("\n## Known bugs, and who copies them\n\n| bug | source | what was wrong | copied by |\n|---|---|---|---|\n");
        for bug in sus_corpus::bugs() {
            let copies: Vec<String> = kernels()
                .iter()
                .filter(|kernel| kernel.bugs.contains(&bug.id.as_str()))
                .map(|kernel| format!("`{}`", kernel.name))
                .collect();
            let copied = match &bug.not_copied {
                Some(why) => format!("none: {why}"),
                None => copies.join(", "),
            };
            let _ = writeln!(text, "| {} | {} | {} | {copied} |", bug.id, bug.source(), bug.what);
        }
        text
    }

    /// The matrix for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let tally = |name: &str, t: Tally| {
            json!({
                "rule": name, "wrong_judged": t.judged, "wrong_passed": t.passed, "right_judged": t.right,
                "right_rejected": t.rejected, "kernels": t.kernels, "never_caught": t.never_caught,
            })
        };
        let baselines = BASELINE_TOLERANCES
            .iter()
            .enumerate()
            .map(|(at, baseline)| tally(baseline.name, self.tally(&|cell| cell.baselines[at])));
        let rules: Vec<Value> =
            std::iter::once(tally("sus-oracle", self.ours())).chain(baselines).collect();
        json!({ "rules": rules, "mistakes": self.mistakes() })
    }
}
