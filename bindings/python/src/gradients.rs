//! `grad`: the forward pass, the gradients and the mask.

use crate::job::{self, input_error};
use crate::source::{Beside, Source, wrong_option};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::Path;
use sus_oracle::Error;
use sus_oracle::fast::{Passes, Real};
use sus_oracle::files::gradient_file::{Stored, to_tensors_of};
use sus_oracle::files::{FileError, ProblemFile, Settings, TensorFile};
use sus_oracle::scalar::{Dd, Scalar};
use sus_oracle::sus::Draw;

/// The arithmetic of a pass.
#[derive(Clone, Copy)]
enum Arithmetic {
    F64,
    F32,
    DoubleDouble,
}

/// The results of a problem, as the bytes of a safetensors file.
#[pyfunction]
#[pyo3(signature = (problem, settings, seed, dtype, mode, plain))]
pub(crate) fn grad(
    py: Python<'_>,
    problem: Source,
    settings: String,
    seed: Option<u64>,
    dtype: &str,
    mode: &str,
    plain: bool,
) -> PyResult<Py<PyBytes>> {
    let arithmetic = match dtype {
        "f64" => Arithmetic::F64,
        "f32" => Arithmetic::F32,
        "dd" => Arithmetic::DoubleDouble,
        found => return Err(input_error(&wrong_option("dtype", "'f64', 'f32' or 'dd'", found))),
    };
    let given = match mode {
        "exact" => false,
        "given" => true,
        found => return Err(input_error(&wrong_option("mode", "'exact' or 'given'", found))),
    };
    let bytes = job::run(py, move |_| {
        let input = Beside { settings, seed }.problem(&problem)?;
        let label = problem.label("problem");
        results(&input, arithmetic, given, plain, &label).map(|file| file.to_bytes())
    })?;
    Ok(PyBytes::new(py, &bytes).unbind())
}

fn results(
    input: &ProblemFile,
    arithmetic: Arithmetic,
    given: bool,
    plain: bool,
    label: &Path,
) -> Result<TensorFile, FileError> {
    let saved_missing =
        || Error::option("mode", "'exact' for a file without 'o' and 'lse'", "'given'");
    let wrong = |reason: Error| FileError::new(label, reason);
    let given = match (given, &input.saved) {
        (false, _) => None,
        (true, Some(saved)) => Some(saved),
        (true, None) => return Err(wrong(saved_missing())),
    };
    let draw = input.settings.draw().map_err(wrong)?;
    let settings = input.settings.with_draw(draw.as_ref());
    let (double, single) = (passes::<f64>(plain), passes::<f32>(plain));
    match arithmetic {
        Arithmetic::F64 => compute(&double, input, given, draw.as_ref(), &settings, Stored::F64),
        Arithmetic::F32 => compute(&single, input, given, draw.as_ref(), &settings, Stored::F32),
        Arithmetic::DoubleDouble => {
            let passes = Passes::<Dd>::reference();
            compute(&passes, input, given, draw.as_ref(), &settings, Stored::F64)
        }
    }
    .map_err(wrong)
}

fn compute<T: Scalar>(
    passes: &Passes<T>,
    input: &ProblemFile,
    given: Option<&sus_oracle::forward::Saved<f64>>,
    draw: Option<&Draw>,
    settings: &Settings,
    stored: Stored,
) -> Result<TensorFile, Error> {
    let evaluated = (passes.evaluate)(&input.problem, given, draw)?;
    to_tensors_of(&input.problem, &evaluated.evaluation, settings, stored)
}

fn passes<T: Real>(plain: bool) -> Passes<T> {
    if plain { Passes::reference_requested() } else { Passes::fast() }
}
