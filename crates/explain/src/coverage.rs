//! How many failures of the gallery's wrong kernels are explained.

use crate::{Explanation, Kind, explain};
use rayon::prelude::*;
use std::fmt::Write;
use sus_bounds::Recipe;
use sus_mutants::arithmetic::Arithmetic;
use sus_mutants::{BugType, Kernel, RunConfig, kernels};
use sus_reference::error::Error;
use sus_verdict::{Case, Judge, Outcome};

/// The cases of the table: grouped heads with sizes that are primes, and a causal one.
pub const CASES: [&str; 2] = ["primes", "square_causal"];

/// The recipes of the table.
pub const RECIPES: [&str; 2] = ["f32", "flash-bf16"];

/// One failure of a wrong kernel, explained.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// The case.
    pub case: &'static str,
    /// The recipe.
    pub recipe: &'static str,
    /// Its explanation.
    pub why: Explanation,
}

impl Failure {
    /// Whether every failed result has a cause.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.why.unexplained.is_empty() && !self.why.causes.is_empty()
    }

    /// Whether the causes were read off the deviation, none from the gallery's own list.
    #[must_use]
    pub fn is_read_off(&self) -> bool {
        self.is_explained() && self.why.causes.iter().all(|cause| cause.kind != Kind::KnownBug)
    }
}

/// The failures of all wrong kernels on some cases.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Coverage {
    /// The failures, by case, recipe and kernel.
    pub failures: Vec<Failure>,
}

impl Coverage {
    /// Explains every failure.
    ///
    /// # Errors
    /// Those of [`sus_verdict::JudgeBuilder::build`].
    ///
    /// # Panics
    /// If a recipe is not built in.
    pub fn run(cases: &[&'static str], recipes: &[&'static str]) -> Result<Self, Error> {
        let mut failures = Vec::new();
        for &name in cases {
            let Some(case) = sus_mutants::cases::named(name) else { continue };
            for &recipe_name in recipes {
                let recipe = Recipe::built_in(recipe_name).expect("a built-in recipe");
                let arithmetic = Arithmetic::of(&recipe);
                let config = RunConfig::new(&case.problem, arithmetic, case.draw.as_ref());
                let judged = Case::new(case.problem.clone(), case.settings.clone());
                let judge = Judge::builder(&judged, &recipe).build()?;
                let of_kernel = |kernel: &'static Kernel| {
                    let candidate = (kernel.run)(&config)?;
                    let verdict = judge.check(&candidate);
                    let why = (verdict.outcome == Outcome::Fail)
                        .then(|| explain(&judge, &verdict, &candidate))
                        .flatten()?;
                    Some(Failure { kernel, case: name, recipe: recipe_name, why })
                };
                let wrong: Vec<_> = kernels().into_iter().filter(|it| it.is_mutant).collect();
                let found: Vec<Failure> = wrong.into_par_iter().filter_map(of_kernel).collect();
                failures.extend(found);
            }
        }
        Ok(Coverage { failures })
    }

    /// The table of the book.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "\n## Failures that explain themselves\n\n\
             Failures of the wrong kernels on some of the cases, and how many of them the diagnosis explains; *read off* are those\n\
             for which the gallery's own list of bugs was not needed. A bug of rounding leaves no formula behind.\n\n\
             | case | recipe | failures of formulas | explained | read off | failures of roundings | explained |\n\
             |---|---|---|---|---|---|---|\n",
        );
        let mut columns: Vec<(&str, &str)> =
            self.failures.iter().map(|of| (of.case, of.recipe)).collect();
        columns.dedup();
        for (case, recipe) in columns {
            let of = |rounding: bool| {
                let is_rounding = move |of: &&Failure| {
                    (of.kernel.bug_type == Some(BugType::Rounding)) == rounding
                };
                let here = self.failures.iter().filter(|of| of.case == case && of.recipe == recipe);
                here.filter(is_rounding).collect::<Vec<_>>()
            };
            let (formulas, roundings) = (of(false), of(true));
            let count = |of: &[&Failure], test: fn(&Failure) -> bool| {
                of.iter().filter(|failure| test(failure)).count()
            };
            let _ = writeln!(
                text,
                "| `{case}` | {recipe} | {} | {} | {} | {} | {} |",
                formulas.len(),
                count(&formulas, Failure::is_explained),
                count(&formulas, Failure::is_read_off),
                roundings.len(),
                count(&roundings, Failure::is_explained),
            );
        }
        let missed: Vec<String> = self
            .failures
            .iter()
            .filter(|of| !of.is_explained() && of.kernel.bug_type != Some(BugType::Rounding))
            .map(|of| format!("`{}` on `{}` at {}", of.kernel.name, of.case, of.recipe))
            .collect();
        let missed = if missed.is_empty() { "none".into() } else { missed.join(", ") };
        let _ = writeln!(text, "\nFormulas that are not explained: {missed}.");
        text
    }
}
