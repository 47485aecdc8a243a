//! `check`: the verdict on a kernel's results.

use crate::job::{self, input_error};
use crate::source::{Beside, Source, wrong_option};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use sus_oracle::bounds::Mode;
use sus_oracle::explain::{Request, assess};
use sus_oracle::files::{FileError, TensorFile};
use sus_oracle::verdict::merge::{merge, merge_dense};
use sus_oracle::verdict::report::{json, text};
use sus_oracle::verdict::{Case, Reference};

/// The JSON and the text of a verdict.
#[pyfunction]
#[pyo3(signature = (problem, candidates, settings, seed, recipe, mode, law, bitwise, plain, command))]
pub(crate) fn check(
    py: Python<'_>,
    problem: Source,
    candidates: Vec<Source>,
    settings: String,
    seed: Option<u64>,
    recipe: Option<String>,
    mode: &str,
    law: bool,
    bitwise: bool,
    plain: bool,
    command: String,
) -> PyResult<(String, String)> {
    let mode = match mode {
        "exact" => Mode::Exact,
        "given" => Mode::Given,
        found => return Err(input_error(&wrong_option("mode", "'exact' or 'given'", found))),
    };
    let reference = if plain { Reference::DoubleDouble } else { Reference::Auto };
    job::run(py, move |watch| {
        let case = Beside { settings, seed }.case(&problem)?;
        let labels: Vec<PathBuf> = candidates.iter().map(|it| it.label("candidate")).collect();
        let candidate = read_candidate(&case, &candidates, &labels)?;
        let label = labels.first().map_or(Path::new("candidate"), PathBuf::as_path);
        let request = Request { label, recipe: recipe.as_deref(), mode, reference, law, bitwise };
        watch.check();
        let assessment = assess(case, &candidate, &request, watch)?;
        let said = match labels.len() {
            0 | 1 => label.display().to_string(),
            files => format!("{} and {} more files", label.display(), files - 1),
        };
        let report = assessment.report(said, command);
        Ok::<_, FileError>((json(&report), text(&report)))
    })
}

/// One candidate, or the runs of several as one.
fn read_candidate(
    case: &Case,
    candidates: &[Source],
    labels: &[PathBuf],
) -> Result<TensorFile, FileError> {
    let files: Result<Vec<TensorFile>, FileError> =
        candidates.iter().map(|candidate| candidate.read("candidate")).collect();
    let mut files = files?;
    if files.len() == 1 {
        return Ok(files.remove(0));
    }
    let Some(first) = files.first() else { return Ok(TensorFile::default()) };
    let mut completed = case.clone();
    completed.complete_from(first).map_err(|e| FileError::new(&labels[0], e))?;
    let is_dense = matches!(completed.draw(), Ok(None));
    let merged = if is_dense { merge_dense(&files) } else { merge(&files) };
    merged.map(|(file, _)| file).map_err(|e| FileError::new(&labels[e.shard], e.reason))
}
