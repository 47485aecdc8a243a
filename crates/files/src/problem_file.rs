//! A problem file: `q`, `k`, `v`, `do`, the optional inputs, and the settings.

mod fp8;
mod operands;
mod write;

pub use write::problem_to_tensors;

use super::error::{FileError, Reason};
use super::foreign::foreign_operand;
use super::settings::Settings;
use super::tensor_file::{Array, Numbers, TensorFile};
use std::path::Path;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// What a problem file may hold beside its inputs.
const NAMES: &[&str] = &[
    "q",
    "k",
    "v",
    "do",
    "q_scale",
    "k_scale",
    "v_scale",
    "do_scale",
    "dlse",
    "bias",
    "sink",
    "alibi_slopes",
    "attn_mask",
    "block_mask",
    "indices",
    "lengths_q",
    "lengths_k",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "seqused_q",
    "seqused_k",
    "dropout_mask",
    "x",
    "o",
    "lse",
    "expected_nnz",
];
const PREFIXES: &[&str] = &["expected/", "bound/", "mask/", "variance/", "proj/"];
const KNOWN: &str = "q, k, v, do, q_scale, k_scale, v_scale, do_scale, dlse, bias, sink, alibi_slopes, attn_mask, block_mask, indices, lengths_q, lengths_k, cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k, dropout_mask, x, o, lse, expected_nnz, expected/..., bound/..., mask/..., variance/..., proj/...";

/// A problem read from a file, every number exact in `f64`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProblemFile {
    /// The problem.
    pub problem: Problem<f64>,
    /// The file's settings, merged with the command's.
    pub settings: Settings,
    /// The type that `q` is stored in.
    pub dtype: String,
    /// Whether an operand has 8 bits and a scale.
    pub has_fp8: bool,
    /// The layer's input `[B,1,Nq,M]`, for the gradients by the projections, `x^T dq` and so on.
    pub x: Option<Tensor<f64>>,
    /// `o` and `lse` as a kernel stored them, for the evaluation mode "given".
    pub saved: Option<Saved<f64>>,
}

impl ProblemFile {
    /// Reads a problem; `command` are the settings given beside the file.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn read(path: &Path, command: Settings) -> Result<Self, FileError> {
        let file = TensorFile::read(path)?;
        Self::from_tensors(file, command).map_err(|reason| FileError::new(path, reason))
    }

    /// As [`ProblemFile::read`], from tensors in memory.
    ///
    /// # Errors
    /// What is wrong with them.
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Array, ProblemFile, Settings, TensorFile};
    /// let mut file = TensorFile::default();
    /// for name in ["q", "k", "v", "do"] {
    ///     file.arrays.insert(name.into(), Array::f32(&[1, 1, 2, 4], vec![0.5; 8]));
    /// }
    /// let read = ProblemFile::from_tensors(file.clone(), Settings::default())?;
    /// assert_eq!((read.dtype.as_str(), read.problem.sizes().features), ("F32", 4));
    /// file.arrays.remove("v");
    /// let reason = ProblemFile::from_tensors(file, Settings::default()).unwrap_err();
    /// assert_eq!(reason.to_string(), "tensor 'v': expected one of shape [B,Hk,Nk,E], found none");
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    pub fn from_tensors(mut file: TensorFile, command: Settings) -> Result<Self, Reason> {
        for name in file.arrays.keys() {
            let known = NAMES.contains(&name.as_str())
                || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if let Some(advice) = foreign_operand(name).filter(|_| !known) {
                return Err(Reason::Foreign { what: "tensor", name: name.clone(), advice });
            }
            if !known {
                return Err(Reason::UnknownTensor { tensor: name.clone(), expected: KNOWN });
            }
        }
        let settings = match &file.metadata {
            Some(text) => Settings::from_json(text)?,
            None => Settings::default(),
        };
        let settings = settings.merge(command)?;
        let dtype = file.arrays.get("q").map_or_else(String::new, |q| format!("{:?}", q.dtype));
        let has_fp8 = fp8::dequantise(&mut file)?;
        let mut take = |name: &'static str| file.arrays.remove(name);
        let mut required =
            |name, expected| take(name).ok_or(Reason::Missing { tensor: name, expected });
        let q = tensor("q", required("q", "[B,Hq,Nq,D]")?)?;
        let k = tensor("k", required("k", "[B,Hk,Nk,D]")?)?;
        let v = match settings.v_of_k {
            None => tensor("v", required("v", "[B,Hk,Nk,E]")?)?,
            Some(features) => operands::first_features(&k, features)?,
        };
        let g = tensor("do", required("do", "[B,Hq,Nq,E]")?)?;
        let dlse = take("dlse").map(|array| rows("dlse", array)).transpose()?;
        let bias = take("bias").map(|array| tensor("bias", array)).transpose()?;
        let sink = take("sink").map(|array| vector("sink", array)).transpose()?;
        let x = take("x").map(layer_input).transpose()?;
        let slopes = take("alibi_slopes");
        let by_sequence = slopes.as_ref().is_some_and(|slopes| slopes.shape.len() == 2);
        let slopes = slopes.map(operands::slopes).transpose()?;
        let lengths = [q.shape()[2], k.shape()[2]];
        let options = operands::options(&mut file, &settings, lengths)?;
        let options = options.with_slopes_by_sequence(by_sequence);
        let inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias).with_sink(sink);
        let problem = Problem::new(inputs.with_alibi_slopes(slopes), options)?;
        if let (Some(_), true) = (settings.v_of_k, file.arrays.contains_key("v")) {
            let expected = "no tensor 'v' beside it".into();
            let found = "one".into();
            return Err(Reason::Metadata { key: "v_of_k".into(), expected, found });
        }
        let mut take = |name: &'static str| file.arrays.remove(name);
        let saved = match (take("o"), take("lse")) {
            (None, None) => None,
            (Some(o), Some(lse)) => {
                Some(Saved::given(&problem, tensor("o", o)?, rows("lse", lse)?)?)
            }
            (Some(_), None) => {
                return Err(Reason::Missing { tensor: "lse", expected: "[B,Hq,Nq], beside 'o'" });
            }
            (None, Some(_)) => {
                return Err(Reason::Missing { tensor: "o", expected: "[B,Hq,Nq,E], beside 'lse'" });
            }
        };
        if let Some(x) = &x {
            let (sizes, [b, _, n, m]) = (problem.sizes(), x.shape());
            if [b, n] != [sizes.batch, sizes.queries] || m == 0 {
                let expected = format!("[{}, {}, M >= 1]", sizes.batch, sizes.queries);
                return Err(Error::Shape { tensor: "x", expected, found: vec![b, n, m] }.into());
            }
        }
        Ok(ProblemFile { problem, settings, dtype, has_fp8, x, saved })
    }
}

/// The elements of a floating-point array.
fn floats(name: &'static str, array: Array) -> Result<Vec<f64>, Reason> {
    match array.numbers {
        Numbers::Float(data) => Ok(data),
        _ => Err(Reason::Dtype {
            tensor: name.into(),
            expected: "F64, F32, F16 or BF16",
            found: format!("{:?}", array.dtype),
        }),
    }
}

/// An array of `N` axes.
fn axes<const N: usize>(name: &'static str, array: &Array) -> Result<[usize; N], Reason> {
    array.shape.as_slice().try_into().map_err(|_| Reason::Rank {
        tensor: name.into(),
        expected: N,
        found: array.shape.clone(),
    })
}

/// A tensor of four axes.
fn tensor(name: &'static str, array: Array) -> Result<Tensor<f64>, Reason> {
    let shape = axes::<4>(name, &array)?;
    Ok(Tensor::new(name, shape, &floats(name, array)?)?)
}

/// One number per row, `[B, Hq, Nq]`.
fn rows(name: &'static str, array: Array) -> Result<Tensor<f64>, Reason> {
    let [b, h, n] = axes::<3>(name, &array)?;
    Ok(Tensor::new(name, [b, h, n, 1], &floats(name, array)?)?)
}

/// The layer's input `[B, Nq, M]`, finite.
fn layer_input(array: Array) -> Result<Tensor<f64>, Reason> {
    let [b, n, m] = axes::<3>("x", &array)?;
    let data = floats("x", array)?;
    if let Some(index) = data.iter().position(|x| !x.is_finite()) {
        let found = format!("{}", data[index]);
        return Err(Error::NotFinite { tensor: "x", index, found }.into());
    }
    Ok(Tensor::new("x", [b, 1, n, m], &data)?)
}

/// One axis.
fn vector(name: &'static str, array: Array) -> Result<Vec<f64>, Reason> {
    let [n] = axes::<1>(name, &array)?;
    let data = floats(name, array)?;
    if data.len() == n {
        return Ok(data);
    }
    let expected = format!("[{}]", data.len());
    Err(Error::Shape { tensor: name, expected, found: vec![n] }.into())
}
