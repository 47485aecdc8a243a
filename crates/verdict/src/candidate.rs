//! The tensors of a candidate, their shapes and their types.

use super::{Criterion, Verdict};
use safetensors::Dtype;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, TensorFile};
use sus_reference::problem::Problem;

/// The results that can be judged, in the order of reports.
pub(super) const RESULTS: [&str; 7] = ["o", "lse", "dq", "dk", "dv", "dbias", "dsink"];

/// The gradients that depend on the mask, in the order in which all arrays of four have them.
pub(super) const GRADIENTS: [&str; 4] = ["dq", "dk", "dv", "dbias"];

/// The gradients that every candidate must have.
const REQUIRED: [&str; 3] = ["dq", "dk", "dv"];

/// Tensors that a candidate may hold beside its results.
const OTHERS: [&str; 6] =
    ["mask", "mask/row_offsets", "mask/columns", "mask/values", "nnz", "seeds"];

/// Tensors of a candidate with many runs that have a number for each run, or for each shard.
pub(super) const RUN_NUMBERS: [&str; 3] = ["seeds", "runs", "shards"];

/// The built-in recipe that a candidate's type suggests: that of its first gradient.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile};
/// let mut candidate = TensorFile::default();
/// candidate.arrays.insert("dq".into(), Array::f32(&[1, 1, 1, 1], vec![0.0]));
/// assert_eq!(sus_verdict::recipe_of(&candidate), "f32");
/// ```
#[must_use]
pub fn recipe_of(file: &TensorFile) -> &'static str {
    let dtype = REQUIRED.iter().find_map(|&name| Some(file.arrays.get(name)?.dtype));
    match dtype {
        Some(Dtype::BF16) => "flash-bf16",
        Some(Dtype::F16) => "flash-f16",
        Some(Dtype::F32) => "f32",
        // A projected value has the type of the sum, not of the kernel's gradients.
        None if is_projected(file) => "f32",
        _ => "f64",
    }
}

/// The shape of a result, or `None` if the problem has no such result.
pub(super) fn shape_of(problem: &Problem<f64>, name: &str) -> Option<Vec<usize>> {
    let (s, inputs) = (problem.sizes(), problem.inputs());
    Some(match name {
        "o" => vec![s.batch, s.query_heads, s.queries, s.value_features],
        "lse" => vec![s.batch, s.query_heads, s.queries],
        "dq" => inputs.q.shape().to_vec(),
        "dk" => inputs.k.shape().to_vec(),
        "dv" => inputs.v.shape().to_vec(),
        "dbias" => inputs.bias.as_ref()?.shape().to_vec(),
        "dsink" => vec![inputs.sink.as_ref()?.len()],
        _ => return None,
    })
}

/// The results of a candidate that can be compared, by name; each other one becomes a finding.
pub(super) fn read_results<'a>(
    problem: &Problem<f64>,
    sampled: bool,
    file: &'a TensorFile,
    verdict: &mut Verdict,
) -> Vec<(&'static str, &'a [f64])> {
    for name in file.arrays.keys() {
        let known = RESULTS.contains(&name.as_str()) && shape_of(problem, name).is_some();
        let known = known || (sampled && OTHERS.contains(&name.as_str()));
        if !known {
            let why = "expected no such tensor for this case";
            verdict.fail(&printable(name), Criterion::Extra, why);
        }
    }
    let mut found = Vec::new();
    for name in RESULTS {
        let Some(shape) = shape_of(problem, name) else { continue };
        let Some(array) = file.arrays.get(name) else {
            if REQUIRED.contains(&name) {
                verdict.fail(
                    name,
                    Criterion::Missing,
                    format!("expected shape {shape:?}, found none"),
                );
            } else {
                verdict.notes.push(format!("{name}: not in the candidate, not judged"));
            }
            continue;
        };
        if let Some(data) = floats(name, array, &shape, verdict) {
            found.push((name, data));
        }
    }
    found
}

/// The number of runs, if the gradients have one more leading axis.
pub(super) fn run_count(problem: &Problem<f64>, file: &TensorFile) -> Option<usize> {
    let axis = |name: &str| {
        let (first, rest) = file.arrays.get(name)?.shape.split_first()?;
        (rest == shape_of(problem, name)?).then_some(*first)
    };
    REQUIRED.into_iter().find_map(axis).or_else(|| {
        let projected = file.arrays.iter().filter(|_| is_projected(file));
        let mut projected =
            projected.filter(|(name, array)| name.starts_with("proj/") && array.shape.len() == 2);
        Some(projected.next()?.1.shape[0])
    })
}

/// Whether a candidate holds projected values (`proj/dq` and so on) in place of gradients.
#[must_use]
pub fn is_projected(file: &TensorFile) -> bool {
    GRADIENTS.iter().any(|name| file.arrays.contains_key(&format!("proj/{name}")))
}

/// The elements of a tensor, if its type is right.
pub(super) fn float_numbers<'a>(
    name: &str,
    array: &'a Array,
    verdict: &mut Verdict,
) -> Option<&'a [f64]> {
    let Numbers::Float(data) = &array.numbers else {
        let message = format!("expected F64, F32, F16 or BF16, found {:?}", array.dtype);
        verdict.fail(name, Criterion::Dtype, message);
        return None;
    };
    Some(data)
}

/// The elements of a result, if type and shape are right.
fn floats<'a>(
    name: &str,
    array: &'a Array,
    shape: &[usize],
    verdict: &mut Verdict,
) -> Option<&'a [f64]> {
    let data = float_numbers(name, array, verdict)?;
    // lse is also met as [B, Hq, Nq, 1].
    let with_one = [shape, &[1]].concat();
    if array.shape != shape && !(name == "lse" && array.shape == with_one) {
        let message = format!("expected shape {shape:?}, found {:?}", array.shape);
        verdict.fail(name, Criterion::Shape, message);
        return None;
    }
    if data.len() != shape.iter().product::<usize>() {
        let message = format!("expected {shape:?}, found {} elements", data.len());
        verdict.fail(name, Criterion::Shape, message);
        return None;
    }
    Some(data)
}

/// A name without control characters.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
