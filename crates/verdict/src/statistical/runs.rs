//! The runs of a candidate: its gradients with a leading axis of runs, or their projections.

use super::projection_vectors::{DIGEST, Directions};
use crate::candidate::{GRADIENTS, RESULTS, float_numbers, shape_of};
use crate::{Criterion, Verdict};
use safetensors::Dtype;
use sus_files::TensorFile;
use sus_files::tensor_file::{Array, Numbers};
use sus_reference::problem::Problem;

/// The gradients of all runs, each `[S, ...]` flat, in the order `dq, dk, dv, dbias`.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs<'a> {
    pub count: usize,
    pub gradients: [&'a [f64]; 4],
    /// `nnz` by run and row.
    pub counts: Option<Vec<f64>>,
    /// A dense mask by run, row and key.
    pub masks: Option<Vec<bool>>,
}

/// Tensors that a candidate of many runs may hold beside its results; `runs` and `shards` say where these come from.
const BESIDE: [&str; 5] = ["nnz", "mask", "seeds", "runs", "shards"];

/// The projections of gradients on the directions of the case, which a candidate may hold in place of its gradients.
#[derive(Debug, Clone, Default)]
pub(super) struct Projected {
    pub count: usize,
    /// Of each gradient, `[S, P]` flat; empty if there is none.
    pub values: [Vec<f64>; 4],
    /// The rounding error of a projection over the sum of the absolute values of its terms, at most.
    pub unit: f64,
}

impl Projected {
    /// Reads the projections; `None`, and a finding, if they cannot be read.
    pub(super) fn read(
        problem: &Problem<f64>,
        directions: &Directions,
        count: usize,
        file: &TensorFile,
        verdict: &mut Verdict,
    ) -> Option<Self> {
        let before = verdict.findings.len();
        let mut projected = Projected { count, ..Projected::default() };
        for name in file.arrays.keys() {
            let gradient = name
                .strip_prefix("proj/")
                .is_some_and(|rest| GRADIENTS.contains(&rest) && shape_of(problem, rest).is_some());
            let exact = ["o", "lse", "dsink"].contains(&name.as_str());
            let exact = exact && shape_of(problem, name).is_some();
            let beside = name == DIGEST || BESIDE.contains(&name.as_str()) && name != "mask";
            if !(gradient || exact || beside) {
                let name = crate::candidate::printable(name);
                let why = "expected no such tensor beside projected values";
                verdict.fail(&name, Criterion::Extra, why);
            }
        }
        if let Some(Numbers::Integer(found)) = file.arrays.get(DIGEST).map(|array| &array.numbers) {
            let expected = directions.digest();
            if found != &[expected] {
                let message = format!(
                    "expected {expected}, the directions of this case, found {found:?}: those of another one"
                );
                verdict.fail(DIGEST, Criterion::Values, message);
            }
        }
        for (at, name) in GRADIENTS.into_iter().enumerate() {
            let Some(shape) = shape_of(problem, name) else { continue };
            let stored = format!("proj/{name}");
            let Some(array) = file.arrays.get(&stored) else {
                if name == "dbias" {
                    verdict.notes.push(format!("{stored}: not in the candidate, not judged"));
                } else {
                    let message =
                        format!("expected shape [{count}, {}], found none", directions.count());
                    verdict.fail(&stored, Criterion::Missing, message);
                }
                continue;
            };
            let unit = match array.dtype {
                Dtype::F64 => libm::exp2(-53.0),
                Dtype::F32 => libm::exp2(-24.0),
                other => {
                    verdict.fail(
                        &stored,
                        Criterion::Dtype,
                        format!("expected F64 or F32, found {other:?}"),
                    );
                    continue;
                }
            };
            // A sum of n products in any order: n additions and products, and the rounding to the stored type.
            let terms = shape.iter().product::<usize>() as f64 + 2.0;
            projected.unit = projected.unit.max(terms * unit / (1.0 - (terms * unit).min(0.5)));
            let of = [directions.count()];
            let data = floats(&stored, array, count, &of, verdict).unwrap_or(&[]);
            projected.values[at] = data.to_vec();
        }
        (verdict.findings.len() == before).then_some(projected)
    }
}

/// The counts of kept entries that a candidate states, by run and row.
pub(super) fn counts(
    problem: &Problem<f64>,
    count: usize,
    file: &TensorFile,
    verdict: &mut Verdict,
) -> Option<Vec<f64>> {
    let s = problem.sizes();
    let rows = [count, s.batch, s.query_heads, s.queries];
    small_numbers("nnz", file.arrays.get("nnz")?, &rows, verdict)
}

impl<'a> Runs<'a> {
    /// Reads the runs; `None`, and a finding, if they cannot be read.
    pub(super) fn read(
        problem: &Problem<f64>,
        count: usize,
        file: &'a TensorFile,
        verdict: &mut Verdict,
    ) -> Option<Self> {
        let mut runs = Runs { count, ..Runs::default() };
        let before = verdict.findings.len();
        for name in file.arrays.keys() {
            let result = RESULTS.contains(&name.as_str()) && shape_of(problem, name).is_some();
            if !result && !BESIDE.contains(&name.as_str()) {
                let name = crate::candidate::printable(name);
                verdict.fail(
                    &name,
                    Criterion::Extra,
                    "expected no such tensor for runs of this case",
                );
            }
        }
        for (at, name) in GRADIENTS.into_iter().enumerate() {
            let Some(shape) = shape_of(problem, name) else { continue };
            match file.arrays.get(name) {
                Some(array) => {
                    runs.gradients[at] = floats(name, array, count, &shape, verdict).unwrap_or(&[]);
                }
                None if name == "dbias" => {
                    verdict.notes.push(format!("{name}: not in the candidate, not judged"));
                }
                None => {
                    let message = format!("expected shape [{count}, ...] {shape:?}, found none");
                    verdict.fail(name, Criterion::Missing, message);
                }
            }
        }
        let s = problem.sizes();
        let rows = [count, s.batch, s.query_heads, s.queries];
        runs.counts = counts(problem, count, file, verdict);
        if let Some(array) = file.arrays.get("mask") {
            let shape = [&rows[..], &[s.keys]].concat();
            let mask = small_numbers("mask", array, &shape, verdict);
            runs.masks = mask.map(|mask| mask.iter().map(|&x| x != 0.0).collect());
        }
        (verdict.findings.len() == before).then_some(runs)
    }

    /// One gradient of one run; empty if the candidate has none.
    pub(super) fn of(&self, tensor: usize, run: usize) -> &'a [f64] {
        let all = self.gradients[tensor];
        let length = all.len() / self.count.max(1);
        &all[run * length..(run + 1) * length]
    }
}

/// The elements of a result of all runs, if type, shape and numbers are right.
pub(super) fn floats<'a>(
    name: &str,
    array: &'a Array,
    count: usize,
    shape: &[usize],
    verdict: &mut Verdict,
) -> Option<&'a [f64]> {
    let data = float_numbers(name, array, verdict)?;
    let expected = [&[count], shape].concat();
    if array.shape != expected || data.len() != expected.iter().product::<usize>() {
        let message = format!("expected shape {expected:?}, found {:?}", array.shape);
        verdict.fail(name, Criterion::Shape, message);
        return None;
    }
    if let Some(at) = data.iter().position(|x| !x.is_finite()) {
        let run = at / (data.len() / count).max(1);
        verdict.fail(name, Criterion::NotANumber, format!("found {} in run {run}", data[at]));
        return None;
    }
    Some(data)
}

fn small_numbers(
    name: &str,
    array: &Array,
    shape: &[usize],
    verdict: &mut Verdict,
) -> Option<Vec<f64>> {
    if array.shape != shape {
        let message = format!("expected shape {shape:?}, found {:?}", array.shape);
        verdict.fail(name, Criterion::Shape, message);
        return None;
    }
    Some(match &array.numbers {
        Numbers::Float(data) => data.clone(),
        Numbers::Integer(data) => data.iter().map(|&x| x as f64).collect(),
        Numbers::Unsigned(data) => data.iter().map(|&x| x as f64).collect(),
    })
}
