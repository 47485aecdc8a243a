//! `power`, `choose_c` and `analyze`: what sampling costs, and how many runs show a bug.

use crate::job::{self, input_error};
use crate::source::{Beside, Source};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use sus_oracle::Error;
use sus_oracle::analysis::choose::RelativeTo;
use sus_oracle::analysis::{
    Analysis, DEFAULT_BUDGETS, IncreaseTarget, TargetGradients, choose, settings as budgets,
};
use sus_oracle::bounds::Recipe;
use sus_oracle::files::{FileError, Pass};
use sus_oracle::sus::{Budget, Rule, Sampler};
use sus_oracle::verdict::statistical;

/// The JSON and the text of `power`.
#[pyfunction]
#[pyo3(signature = (problem, settings, seed, bias, variance, recipe, bugs))]
pub(crate) fn power(
    py: Python<'_>,
    problem: Source,
    settings: String,
    seed: Option<u64>,
    bias: f64,
    variance: f64,
    recipe: String,
    bugs: bool,
) -> PyResult<(String, String)> {
    job::run(py, move |_| {
        let label = problem.label("problem");
        let wrong = |reason: Error| FileError::new(&label, reason);
        let mut case = Beside { settings, seed }.case(&problem)?;
        case.settings.pass.get_or_insert(Pass::Sus);
        let named = Recipe::named(&recipe);
        let recipe = named.map_err(|e| refused(Path::new(&recipe), &e.to_string()))?;
        let Some(draw) = case.draw().map_err(wrong)? else {
            return Err(refused(&label, "expected a SUS problem, found a dense one"));
        };
        let plan = statistical::power_analysis(&case.problem, &recipe, &draw).map_err(wrong)?;
        let known = if bugs { statistical::bugs(&case.problem, &recipe, &draw) } else { Ok(None) };
        let known = known.map_err(wrong)?;
        let table = known.as_deref().map(statistical::bugs_to_text).unwrap_or_default();
        let json = plan.to_json(bias, variance, known.as_deref());
        Ok((json, plan.to_text(bias, variance) + &table))
    })
}

/// The JSON and the text of `choose-c`.
#[pyfunction]
#[pyo3(signature = (problems, settings, target, of, relative_to, rule, sampler, plain))]
pub(crate) fn choose_c(
    py: Python<'_>,
    problems: Vec<Source>,
    settings: String,
    target: f64,
    of: &str,
    relative_to: &str,
    rule: &str,
    sampler: &str,
    plain: bool,
) -> PyResult<(String, String)> {
    let target = IncreaseTarget {
        at_most: target,
        of: parsed::<TargetGradients>(of)?,
        relative_to: parsed::<RelativeTo>(relative_to)?,
        rule: parsed::<Rule>(rule)?,
        sampler: parsed::<Sampler>(sampler)?,
        by_reference: plain,
    };
    job::run(py, move |_| {
        let last =
            problems.last().map_or_else(|| PathBuf::from("problem"), |it| it.label("problem"));
        let beside = Beside { settings, seed: None };
        let problems: Result<Vec<_>, FileError> =
            problems.iter().map(|source| Ok(beside.problem(source)?.problem)).collect();
        let choice = choose(problems?, &target).map_err(|e| FileError::new(&last, e))?;
        Ok::<_, FileError>((choice.to_json(&target).to_string(), choice.to_text(&target)))
    })
}

/// The JSON and the text of `analyze`.
#[pyfunction]
#[pyo3(signature = (problems, settings, c, rule, sampler, plain))]
pub(crate) fn analyze(
    py: Python<'_>,
    problems: Vec<Source>,
    settings: String,
    c: Option<Vec<f64>>,
    rule: Option<&str>,
    sampler: Option<&str>,
    plain: bool,
) -> PyResult<(String, String)> {
    let c = c.unwrap_or_else(|| DEFAULT_BUDGETS.to_vec());
    let c: Result<Vec<Budget>, Error> = c.into_iter().map(Budget::new).collect();
    let c = c.map_err(|e| input_error(&e))?;
    let rule = rule.map(parsed::<Rule>).transpose()?;
    let sampler = sampler.map(parsed::<Sampler>).transpose()?;
    job::run(py, move |watch| {
        let mut analysis = Analysis::new(budgets(&c, rule, sampler));
        if plain {
            analysis = analysis.by_reference();
        }
        let beside = Beside { settings, seed: None };
        for source in &problems {
            watch.check();
            let read = beside.problem(source)?;
            analysis
                .add(&read.problem, read.x.as_ref())
                .map_err(|e| FileError::new(&source.label("problem"), e))?;
        }
        Ok::<_, FileError>((analysis.to_json().to_string(), analysis.to_table()))
    })
}

fn parsed<T: FromStr<Err = Error>>(name: &str) -> PyResult<T> {
    name.parse().map_err(|e: Error| input_error(&e))
}

fn refused(path: &Path, said: &str) -> FileError {
    FileError::new(path, std::io::Error::new(std::io::ErrorKind::InvalidInput, said))
}
