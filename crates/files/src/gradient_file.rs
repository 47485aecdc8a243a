//! A file of results: the forward pass, the gradients and the mask. It is itself a legal candidate for a verdict.

use super::settings::Settings;
use super::tensor_file::{Array, TensorFile};
use sus_reference::TensorName;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::evaluation::{Evaluation, SampledMask};
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::scalar::Scalar;

/// The type in which the numbers of a result are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// F64.
    F64,
    /// F32.
    F32,
}

/// The results of an evaluation as named tensors.
///
/// # Errors
/// [`Error::Overflow`] if a result is not a number: finite inputs can leave the range of the arithmetic.
///
/// # Examples
/// ```
/// use sus_files::{Array, ProblemFile, Settings, TensorFile};
/// use sus_files::gradient_file::{Stored, to_tensors};
/// use sus_reference::evaluation::evaluate;
/// let mut file = TensorFile::default();
/// for name in ["q", "k", "v", "do"] {
///     file.arrays.insert(name.into(), Array::f32(&[1, 1, 2, 4], vec![0.5; 8]));
/// }
/// let input = ProblemFile::from_tensors(file, Settings::default())?;
/// let evaluation = evaluate::<f64>(&input.problem, None, None)?;
/// let results = to_tensors(&evaluation, &input.settings, Stored::F64)?;
/// assert_eq!(results.arrays["dq"].shape, [1, 1, 2, 4]);
/// # Ok::<(), sus_files::error::Reason>(())
/// ```
pub fn to_tensors<T: Scalar>(
    evaluation: &Evaluation<T>,
    settings: &Settings,
    stored: Stored,
) -> Result<TensorFile, Error> {
    let mut file = TensorFile { metadata: Some(settings.to_json()), ..TensorFile::default() };
    let float = |shape: &[usize], data: Vec<f64>| match stored {
        Stored::F64 => Array::f64(shape, data),
        Stored::F32 => Array::f32(shape, data),
    };
    let mut put = |name: TensorName, shape: &[usize], data: &[T]| {
        let data = checked(name, data, stored)?;
        file.arrays.insert(name.to_string(), float(shape, data));
        Ok::<(), Error>(())
    };
    let Saved { o, lse } = &evaluation.saved;
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = &evaluation.gradients;
    let keys = match dkv {
        None => vec![(TensorName::Dk, dk), (TensorName::Dv, dv)],
        Some(dkv) => vec![(TensorName::Dkv, dkv)],
    };
    let dense = [(TensorName::O, o), (TensorName::Dq, dq)].into_iter().chain(keys);
    let optional = dbias.as_ref().map(|dbias| (TensorName::Dbias, dbias));
    for (name, tensor) in dense.chain(optional) {
        put(name, &tensor.shape(), tensor.as_slice())?;
    }
    if let Some(dslopes) = dslopes {
        put(TensorName::Dslopes, &shape_in_file(dslopes.shape(), false), dslopes.as_slice())?;
    }
    if let Some(dsink) = dsink {
        put(TensorName::Dsink, &[dsink.len()], dsink)?;
    }
    put(TensorName::Lse, &lse.shape()[..3], lse.as_slice())?;
    if let Some(SampledMask { sample, values }) = &evaluation.mask {
        let values: Vec<f64> = values.iter().map(|w| w.to_f64()).collect();
        let offsets: Vec<i64> = sample.pattern.offsets().iter().map(|&n| n as i64).collect();
        let columns: Vec<i64> = sample.pattern.columns().iter().map(|&j| i64::from(j)).collect();
        let arrays = [
            ("mask/row_offsets", Array::i64(&[offsets.len()], offsets)),
            ("mask/columns", Array::i32(&[columns.len()], columns)),
            ("mask/values", Array::f64(&[values.len()], values)),
        ];
        file.arrays.extend(arrays.map(|(name, array)| (name.to_owned(), array)));
    }
    Ok(file)
}

/// The same with the gradient of the slopes in the shape that they have in the problem's own file.
///
/// # Errors
/// Those of [`to_tensors`].
pub fn to_tensors_of<T: Scalar>(
    problem: &Problem<f64>,
    evaluation: &Evaluation<T>,
    settings: &Settings,
    stored: Stored,
) -> Result<TensorFile, Error> {
    let mut file = to_tensors(evaluation, settings, stored)?;
    let dslopes = file.arrays.get_mut(TensorName::Dslopes.as_str());
    if let (Some(dslopes), Some(shape)) = (dslopes, slopes_shape(problem)) {
        dslopes.shape = shape;
    }
    Ok(file)
}

/// The shape of a problem's slopes in a file, `[Hq]` or `[B, Hq]`.
///
/// # Examples
/// ```
/// use sus_files::gradient_file::slopes_shape;
/// use sus_reference::problem::{Problem, example};
/// use sus_reference::tensor::Tensor;
/// let of = |by_sequence| {
///     let problem = example();
///     let (batch, heads) = (problem.sizes().batch, problem.sizes().query_heads);
///     let shape = if by_sequence { [batch, 1, 1, heads] } else { [1, heads, 1, 1] };
///     let inputs = problem.inputs().clone().with_alibi_slopes(Some(Tensor::zeros(shape)));
///     let options = problem.options().clone().with_slopes_by_sequence(by_sequence);
///     slopes_shape(&Problem::new(inputs, options).unwrap()).unwrap().len()
/// };
/// assert_eq!([of(false), of(true)], [1, 2]);
/// ```
#[must_use]
pub fn slopes_shape(problem: &Problem<f64>) -> Option<Vec<usize>> {
    let shape = problem.inputs().alibi_slopes.as_ref()?.shape();
    Some(shape_in_file(shape, problem.options().slopes_by_sequence))
}

/// From `[1, Hq, 1, 1]` or `[B, 1, 1, Hq]`.
fn shape_in_file(shape: [usize; 4], by_sequence: bool) -> Vec<usize> {
    let [batch, heads, _, heads_of_each] = shape;
    let of_heads = (batch, heads_of_each) == (1, 1) && (heads > 1 || !by_sequence);
    if of_heads { vec![heads] } else { vec![batch, heads_of_each] }
}

/// The numbers as `f64`; only the `lse` of a row that sees nothing may be infinite.
fn checked<T: Scalar>(tensor: TensorName, data: &[T], stored: Stored) -> Result<Vec<f64>, Error> {
    let numbers: Vec<f64> = data.iter().map(|x| x.to_f64()).collect();
    let legal = |x: f64| {
        let kept = if stored == Stored::F32 { f64::from(x as f32) } else { x };
        kept.is_finite() || (tensor == TensorName::Lse && kept == f64::NEG_INFINITY)
    };
    match numbers.iter().position(|&x| !legal(x)) {
        Some(index) => {
            let found = numbers[index].to_string();
            Err(Error::Overflow { tensor: tensor.as_str(), index, found })
        }
        None => Ok(numbers),
    }
}
