//! The sizes of a problem, and the checks of its shapes, numbers and options.

use super::inputs::{Inputs, Options};
use crate::error::Error;
use crate::scalar::Ring;
use crate::tensor::{Tensor, is_finite};

/// The sizes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// `B`.
    pub batch: usize,
    /// `Hq`.
    pub query_heads: usize,
    /// `Hk`, a divisor of `Hq`.
    pub key_heads: usize,
    /// `Nq`.
    pub queries: usize,
    /// `Nk`.
    pub keys: usize,
    /// `D`, the features of a query and of a key.
    pub features: usize,
    /// `E`, the features of a value.
    pub value_features: usize,
}

/// The sizes, from the shapes of `q` and `v`; every other shape is compared with them.
pub(super) fn sizes_of<T: Ring>(inputs: &Inputs<T>) -> Result<Sizes, Error> {
    let [batch, query_heads, queries, features] = inputs.q.shape();
    let [_, key_heads, keys, value_features] = inputs.v.shape();
    let shape = |tensor, legal: bool, expected: String, found: &[usize]| {
        if legal { Ok(()) } else { Err(Error::Shape { tensor, expected, found: found.to_vec() }) }
    };
    let q = inputs.q.shape();
    shape("q", query_heads > 0 && features > 0, "[B, Hq >= 1, Nq, D >= 1]".into(), &q)?;
    let v = inputs.v.shape();
    let legal = v[0] == batch && key_heads > 0 && value_features > 0;
    shape("v", legal, format!("[{batch}, Hk >= 1, Nk, E >= 1]"), &v)?;
    let exact = |tensor, expected: [usize; 4], found: [usize; 4]| {
        shape(tensor, expected == found, format!("{expected:?}"), &found)
    };
    exact("k", [batch, key_heads, keys, features], inputs.k.shape())?;
    exact("do", [batch, query_heads, queries, value_features], inputs.g.shape())?;
    if query_heads % key_heads != 0 {
        return Err(Error::Group { query_heads, key_heads });
    }
    if let Some(dlse) = &inputs.dlse {
        exact("dlse", [batch, query_heads, queries, 1], dlse.shape())?;
    }
    if let Some(bias) = &inputs.bias {
        let found = bias.shape();
        let full = [batch, query_heads, queries, keys];
        let legal = found[3] == keys && (0..3).all(|a| found[a] == 1 || found[a] == full[a]);
        let [b, h, i, j] = full;
        shape("bias", legal, format!("[{b} or 1, {h} or 1, {i} or 1, {j}]"), &found)?;
    }
    if let Some(sink) = &inputs.sink {
        shape("sink", sink.len() == query_heads, format!("[{query_heads}]"), &[sink.len()])?;
    }
    Ok(Sizes { batch, query_heads, key_heads, queries, keys, features, value_features })
}

/// Checks that every number is finite, but for `-inf` in the bias; whether there is one.
pub(super) fn check_numbers<T: Ring>(inputs: &Inputs<T>) -> Result<bool, Error> {
    let wrong = |tensor, data: &[T], index: usize| Error::NotFinite {
        tensor,
        index,
        found: format!("{:?}", data[index]),
    };
    let check = |tensor, data: &[T]| match data.iter().position(|&x| !is_finite(x)) {
        Some(index) => Err(wrong(tensor, data, index)),
        None => Ok(()),
    };
    check("q", inputs.q.as_slice())?;
    check("k", inputs.k.as_slice())?;
    check("v", inputs.v.as_slice())?;
    check("do", inputs.g.as_slice())?;
    check("dlse", inputs.dlse.as_ref().map_or(&[], Tensor::as_slice))?;
    let bias = inputs.bias.as_ref().map_or(&[][..], Tensor::as_slice);
    if let Some(index) = bias.iter().position(|&x| !is_finite(x) && !is_negative_infinity(x)) {
        return Err(wrong("bias", bias, index));
    }
    check("sink", inputs.sink.as_deref().unwrap_or(&[]))?;
    Ok(bias.iter().any(|&x| !is_finite(x)))
}

/// Whether a number that is not finite is `-inf`, by a ring's operations: of the three only `inf` is its own square.
fn is_negative_infinity<T: Ring>(x: T) -> bool {
    -x * -x == -x
}

/// Checks that the scale is finite, and that the softcap is finite and above 0.
pub(super) fn check_options(options: &Options) -> Result<(), Error> {
    match options.scale {
        Some(scale) if !scale.is_finite() => {
            return Err(Error::option("scale", "a finite number", scale));
        }
        _ => {}
    }
    match options.softcap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => {
            Err(Error::option("softcap", "a finite number above 0", cap))
        }
        _ => Ok(()),
    }
}
