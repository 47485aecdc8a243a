//! The sizes of a problem, and the checks of its shapes, numbers and options.

use super::inputs::{Dropout, Inputs, Options};
use crate::error::Error;
use crate::mask::Mask;
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
    if let Some(slopes) = &inputs.alibi_slopes {
        let [b, h, i, j] = slopes.shape();
        let by_head = [b, h, i, j] == [1, query_heads, 1, 1];
        let legal = by_head || [b, h, i, j] == [batch, 1, 1, query_heads];
        let found = if (b, j) == (1, 1) { vec![h] } else { vec![b, j] };
        shape(
            "alibi_slopes",
            legal,
            format!("[{query_heads}] or [{batch}, {query_heads}]"),
            &found,
        )?;
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
    check("alibi_slopes", inputs.alibi_slopes.as_ref().map_or(&[], Tensor::as_slice))?;
    Ok(bias.iter().any(|&x| !is_finite(x)))
}

/// Whether a number that is not finite is `-inf`, by a ring's operations: of the three only `inf` is its own square.
fn is_negative_infinity<T: Ring>(x: T) -> bool {
    -x * -x == -x
}

/// Sets to 0 what stands in the padding, which is never read: it may be anything, NaN included.
pub(super) fn clear_padding<T: Ring>(inputs: &mut Inputs<T>, sizes: &Sizes, mask: &Mask) {
    let Sizes { batch, queries, keys, .. } = *sizes;
    let clear = |tensor: &mut Tensor<T>, length: usize, padding: &dyn Fn(usize, usize) -> bool| {
        let [_, heads, _, features] = tensor.shape();
        let rows = tensor.as_mut_slice().chunks_mut(features);
        for (at, row) in rows.enumerate() {
            let (head, n) = (at / length, at % length);
            if padding(head / heads, n) {
                row.fill(T::zero());
            }
        }
    };
    let query = |b, i| mask.is_padding(b, i);
    let key = |b, j| mask.is_padding_key(b, j);
    clear(&mut inputs.q, queries, &query);
    clear(&mut inputs.g, queries, &query);
    inputs.dlse.iter_mut().for_each(|dlse| clear(dlse, queries, &query));
    clear(&mut inputs.k, keys, &key);
    clear(&mut inputs.v, keys, &key);
    if let Some(bias) = &mut inputs.bias {
        // An element is never read if no sequence that it serves reads it.
        let shape = bias.shape();
        let [batches, heads, rows, _] = shape;
        for (at, x) in bias.as_mut_slice().iter_mut().enumerate() {
            let (row, j) = (at / keys, at % keys);
            let (b, i) = (row / rows / heads, row % rows);
            let mut served = if batches == 1 { 0..batch } else { b..b + 1 };
            let unread = |b| {
                key(b, j) || (if rows == 1 { 0..queries } else { i..i + 1 }).all(|i| query(b, i))
            };
            if served.all(unread) {
                *x = T::zero();
            }
        }
    }
}

/// Checks the key sets, the dropout's mask, and that `v` is a part of `k` where it is said to be.
pub(super) fn check_structure<T: Ring>(
    inputs: &Inputs<T>,
    options: &Options,
    sizes: &Sizes,
    mask: &Mask,
) -> Result<(), Error> {
    for set in &options.key_sets {
        set.check(sizes, |row| mask.is_padding(row.b, row.i))?;
    }
    let Sizes { batch, query_heads, queries, keys, value_features, features, .. } = *sizes;
    if let Some(Dropout { shape, p, .. }) = &options.dropout {
        let [b, h, i, j] = *shape;
        let legal =
            (b == 1 || b == batch) && (h == 1 || h == query_heads) && (i, j) == (queries, keys);
        if !legal {
            let expected = format!("[{batch} or 1, {query_heads} or 1, {queries}, {keys}]");
            return Err(Error::Shape { tensor: "dropout_mask", expected, found: shape.to_vec() });
        }
        if !(0.0..1.0).contains(p) {
            return Err(Error::option("dropout_p", "a number from 0 to below 1", p));
        }
    }
    if options.v_of_k {
        let rows =
            inputs.k.as_slice().chunks(features).zip(inputs.v.as_slice().chunks(value_features));
        let legal = value_features <= features && { rows }.all(|(k, v)| k[..value_features] == *v);
        if !legal {
            let expected = format!("the first features of k, at most {features}");
            return Err(Error::option(
                "v_of_k",
                expected,
                format!("a 'v' of {value_features} features"),
            ));
        }
    }
    Ok(())
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
