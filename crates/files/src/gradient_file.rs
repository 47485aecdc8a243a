//! A file of results: the forward pass, the gradients and the mask. It is itself a legal candidate for a verdict.

use super::settings::Settings;
use super::tensor_file::{Array, TensorFile};
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::evaluation::{Evaluation, SampledMask};
use sus_reference::forward::Saved;
use sus_reference::scalar::Scalar;
use sus_reference::tensor::Tensor;

/// The type in which the numbers of a result are stored.
///
/// # Examples
/// ```
/// use sus_reference::evaluation::evaluate;
/// use sus_files::{Settings, gradient_file::{Stored, to_tensors}};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let evaluation = evaluate::<f64>(&problem, None, None)?;
/// let bytes = |stored| {
///     to_tensors(&evaluation, &Settings::default(), stored).map(|file| file.arrays["dq"].to_bytes().len())
/// };
/// assert_eq!(bytes(Stored::F64)?, 2 * bytes(Stored::F32)?);
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
/// use sus_reference::evaluation::evaluate;
/// use sus_files::{Settings, gradient_file::{Stored, to_tensors}};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let evaluation = evaluate::<f64>(&problem, None, None)?;
/// let file = to_tensors(&evaluation, &Settings::default(), Stored::F64)?;
/// assert!(["o", "lse", "dq", "dk", "dv"].iter().all(|&name| file.arrays.contains_key(name)));
/// # Ok::<(), sus_reference::Error>(())
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
    let mut put = |name: &'static str, shape: &[usize], data: &[T]| {
        let data = checked(name, data, stored)?;
        file.arrays.insert(name.into(), float(shape, data));
        Ok::<(), Error>(())
    };
    let Saved { o, lse } = &evaluation.saved;
    let Gradients { dq, dk, dv, dbias, dsink } = &evaluation.gradients;
    let mut tensors: Vec<(_, &Tensor<T>)> = vec![("o", o), ("dq", dq), ("dk", dk), ("dv", dv)];
    tensors.extend(dbias.as_ref().map(|dbias| ("dbias", dbias)));
    for (name, tensor) in tensors {
        put(name, &tensor.shape(), tensor.as_slice())?;
    }
    if let Some(dsink) = dsink {
        put("dsink", &[dsink.len()], dsink)?;
    }
    put("lse", &lse.shape()[..3], lse.as_slice())?;
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

/// The numbers as `f64`; only the `lse` of a row that sees nothing may be infinite.
fn checked<T: Scalar>(tensor: &'static str, data: &[T], stored: Stored) -> Result<Vec<f64>, Error> {
    let numbers: Vec<f64> = data.iter().map(|x| x.to_f64()).collect();
    let legal = |x: f64| {
        let kept = if stored == Stored::F32 { f64::from(x as f32) } else { x };
        kept.is_finite() || (tensor == "lse" && kept == f64::NEG_INFINITY)
    };
    match numbers.iter().position(|&x| !legal(x)) {
        Some(index) => Err(Error::Overflow { tensor, index, found: format!("{}", numbers[index]) }),
        None => Ok(numbers),
    }
}
