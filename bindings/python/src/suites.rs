//! `fixtures`: the cases of a tier, with their answers.

use crate::job::{self, input_error};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sus_oracle::fixtures::suite::member;
use sus_oracle::fixtures::{Selection, Tier};

/// The names of a tier's cases.
#[pyfunction]
pub(crate) fn fixture_names(tier: &str) -> PyResult<Vec<String>> {
    let tier: Tier = tier.parse().map_err(|e: sus_oracle::Error| input_error(&e))?;
    Ok(tier.cases().map(|case| case.name.clone()).collect())
}

/// One case: its file, and its entry of the manifest as JSON.
#[pyfunction]
pub(crate) fn fixture(py: Python<'_>, tier: &str, name: String) -> PyResult<(Py<PyBytes>, String)> {
    let tier: Tier = tier.parse().map_err(|e: sus_oracle::Error| input_error(&e))?;
    let selection = Selection::of_names(tier, &[name]).map_err(|e| input_error(&e))?;
    let case = *selection.cases().first().ok_or_else(|| input_error(&"the tier has no case"))?;
    let made = job::run(py, move |_| member(case))?;
    let entry = serde_json::to_string(&made.entry).map_err(|e| input_error(&e))?;
    Ok((PyBytes::new(py, &made.bytes).unbind(), entry))
}
