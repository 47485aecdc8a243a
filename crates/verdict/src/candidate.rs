//! The tensors of a candidate, their shapes and their types.

use super::limits::{MAX_EXTRA_SHOWN, MAX_RUNS_EACH};
use super::{Case, Criterion, Verdict};
use safetensors::Dtype;
use sus_files::error::Reason;
use sus_files::gradient_file::slopes_shape;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, TensorFile, foreign_result};
use sus_reference::TensorName;
use sus_reference::error::Error;
use sus_reference::problem::Problem;
use sus_reference::quote;

/// The results that can be judged, in the order of reports.
pub(super) const RESULTS: [&str; 9] =
    ["o", "lse", "dq", "dk", "dv", "dbias", "dsink", "dslopes", "dkv"];

/// The gradients that depend on the mask, in the order in which all arrays of four have them.
pub(super) const GRADIENTS: [&str; 4] = ["dq", "dk", "dv", "dbias"];

/// All gradients that depend on the mask.
pub(super) const DRAWN: [&str; 6] = ["dq", "dk", "dv", "dbias", "dslopes", "dkv"];

/// The gradients that every candidate must have.
const REQUIRED: [&str; 4] = ["dq", "dk", "dv", "dkv"];

/// Tensors that a candidate may hold beside its results.
const OTHERS: [&str; 6] =
    ["mask", "mask/row_offsets", "mask/columns", "mask/values", "nnz", "seeds"];

/// Tensors of a candidate with many runs that have a number for each run, or for each shard.
pub(super) const RUN_NUMBERS: [&str; 3] = ["seeds", "runs", "shards"];

/// The results whose type shows how a kernel rounds, the most telling first: `lse` and often `dsink` are F32 whatever the kernel.
const TELLING: [&str; 7] = ["dq", "dk", "dv", "dkv", "o", "dbias", "dsink"];

/// The built-in recipe that a candidate's type suggests: that of its first floating-point result, under its name here or
/// under one of another library.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile, foreign_result};
/// let mut candidate = TensorFile::default();
/// candidate.arrays.insert("dq".into(), Array::f32(&[1, 1, 1, 1], vec![0.0]));
/// assert_eq!(sus_verdict::recipe_of(&candidate), "f32");
/// let dq = candidate.arrays.remove("dq").unwrap();
/// candidate.arrays.insert("q.grad".into(), dq);
/// assert_eq!(sus_verdict::recipe_of(&candidate), "f32");
/// ```
#[must_use]
pub fn recipe_of(file: &TensorFile) -> &'static str {
    let dtype = TELLING.iter().find_map(|&name| {
        let means = |found: &str| foreign_result(found).is_some_and(|known| known.as_str() == name);
        let foreign = file.arrays.iter().filter(|(found, _)| means(found)).map(|(_, array)| array);
        let found = file.arrays.get(name).into_iter().chain(foreign);
        let floats = |array: &&Array| matches!(array.numbers, Numbers::Float(_));
        found.filter(floats).map(|array| array.dtype).next()
    });
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
        "dk" | "dv" if problem.options().v_of_k => return None,
        "dk" => inputs.k.shape().to_vec(),
        "dv" => inputs.v.shape().to_vec(),
        "dkv" if problem.options().v_of_k => inputs.k.shape().to_vec(),
        "dslopes" => slopes_shape(problem)?,
        "dbias" => inputs.bias.as_ref()?.shape().to_vec(),
        "dsink" => vec![inputs.sink.as_ref()?.len()],
        _ => return None,
    })
}

/// The results of a candidate that can be compared, by name; each other one becomes a finding.
pub(super) fn read_results<'a>(
    problem: &Problem<f64>,
    sampled: bool,
    only: Option<&[TensorName]>,
    file: &'a TensorFile,
    verdict: &mut Verdict,
) -> Vec<(&'static str, &'a [f64])> {
    let is_judged = |name: &str| only.is_none_or(|only| only.iter().any(|it| it.as_str() == name));
    refuse_extra(problem, sampled, file, verdict);
    let renamed = |name: &str| {
        let means = |found: &String| foreign_result(found).is_some_and(|it| it.as_str() == name);
        file.arrays.keys().any(means)
    };
    let mut found = Vec::new();
    for name in RESULTS {
        let Some(shape) = shape_of(problem, name) else { continue };
        if !is_judged(name) {
            if file.arrays.contains_key(name) {
                verdict.notes.push(format!("{name}: not asked for, not judged"));
            }
            continue;
        }
        let Some(array) = file.arrays.get(name) else {
            if renamed(name) {
                // It has a finding already, with the name to write.
            } else if only.is_some() || REQUIRED.contains(&name) {
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

/// Finds the tensors that the case does not have, and says what to write for the names of other libraries.
pub(super) fn refuse_extra(
    problem: &Problem<f64>,
    sampled: bool,
    file: &TensorFile,
    verdict: &mut Verdict,
) {
    let known = |name: &str| {
        RESULTS.contains(&name) && shape_of(problem, name).is_some()
            || sampled && OTHERS.contains(&name)
    };
    let extra: Vec<&String> = file.arrays.keys().filter(|name| !known(name)).collect();
    for name in extra.iter().take(MAX_EXTRA_SHOWN) {
        let why = match foreign_result(name).map(TensorName::as_str) {
            Some(ours) if file.arrays.contains_key(ours) => {
                format!("expected no such tensor beside {ours}")
            }
            Some(ours) if known(ours) => format!("write it as {ours}"),
            _ => "expected no such tensor for this case".into(),
        };
        verdict.fail(name, Criterion::Extra, why);
    }
    if let Some(more) = extra.len().checked_sub(MAX_EXTRA_SHOWN).filter(|&more| more > 0) {
        let why = format!("{more} more tensors that this case does not have");
        verdict.fail("candidate", Criterion::Extra, why);
    }
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

/// An error if a candidate has more runs than are judged one by one; the distribution of the mask judges any number.
///
/// # Errors
/// [`Reason::Invalid`], which names the number of runs and the most.
pub fn expect_few_runs(case: &Case, candidate: &TensorFile) -> Result<(), Reason> {
    let dense = case.draw()?.is_none();
    let each = !is_projected(candidate) && (dense || case.has_seed());
    match run_count(&case.problem, candidate) {
        Some(runs) if each && runs > MAX_RUNS_EACH => {
            let expected = format!("at most {MAX_RUNS_EACH} that are judged one by one");
            Err(Error::option("runs", expected, runs).into())
        }
        _ => Ok(()),
    }
}

/// Whether a candidate holds projected values (`proj/dq` and so on) in place of gradients.
#[must_use]
pub fn is_projected(file: &TensorFile) -> bool {
    GRADIENTS.iter().any(|name| file.arrays.contains_key(&format!("proj/{name}")))
}

/// The candidate with the padding of its results as the reference has it: 0, and `lse` `-inf`.
pub(super) fn clear_padding(problem: &Problem<f64>, file: &TensorFile) -> TensorFile {
    let mut file = file.clone();
    let (sizes, mask) = (problem.sizes(), problem.mask());
    for name in ["o", "lse", "dq", "dk", "dv", "dkv"] {
        let (Some(array), Some(shape)) = (file.arrays.get_mut(name), shape_of(problem, name))
        else {
            continue;
        };
        let Numbers::Float(data) = &mut array.numbers else { continue };
        let [heads, length, ..] = shape[1..] else { continue };
        let width = shape[3..].iter().product::<usize>();
        let by_keys = !matches!(name, "o" | "lse" | "dq");
        let empty = if name == "lse" { f64::NEG_INFINITY } else { 0.0 };
        // Several runs follow one another.
        for (at, row) in data.chunks_mut(width.max(1)).enumerate() {
            let (head, n) = (at / length.max(1), at % length.max(1));
            let b = head / heads % sizes.batch.max(1);
            if if by_keys { mask.is_padding_key(b, n) } else { mask.is_padding(b, n) } {
                row.fill(empty);
            }
        }
    }
    file
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

/// A name as a message quotes it.
pub(super) fn printable(name: &str) -> String {
    quote::text(name).to_string()
}
