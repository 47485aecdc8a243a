//! The optional operands of a problem file that say which keys a query sees, and those beside `q`, `k` and `v`.

use super::{axes, floats};
use crate::error::Reason;
use crate::settings::Settings;
use crate::tensor_file::{Array, Numbers, TensorFile};
use sus_reference::error::Error;
use sus_reference::mask::{AttnMask, BlockMask, Indices, KeySet, Lengths, Segments};
use sus_reference::problem::{Dropout, Options};
use sus_reference::tensor::Tensor;

/// The options of the settings, with what the tensors add. `lengths` are `Nq` and `Nk`.
pub(super) fn options(
    file: &mut TensorFile,
    settings: &Settings,
    lengths: [usize; 2],
) -> Result<Options, Reason> {
    let mut options = settings.options()?;
    if let Some(segments) = &options.segments {
        let [queries, keys] = lengths;
        let sides =
            [("segments_q", &segments.queries, queries), ("segments_k", &segments.keys, keys)];
        for (name, cumulative, total) in sides {
            if cumulative.last() != Some(&total) {
                let expected = format!("cumulative lengths from 0 to {total}, never decreasing");
                let found = sus_reference::quote::list(cumulative);
                return Err(Error::option(name, expected, found).into());
            }
        }
    }
    let mut take = |name: &'static str| file.arrays.remove(name);
    let packed = pair(&mut take, ["cu_seqlens_q", "cu_seqlens_k"])?;
    if let [Some(queries), Some(keys)] = packed.clone() {
        if options.segments.is_some() {
            return Err(beside("cu_seqlens_q", "segments_q"));
        }
        let sides = [("cu_seqlens_q", &queries, lengths[0]), ("cu_seqlens_k", &keys, lengths[1])];
        for (name, cumulative, total) in sides {
            let legal =
                cumulative.first() == Some(&0) && cumulative.len() > 1 && cumulative.is_sorted();
            if !legal || cumulative.last() > Some(&total) {
                let expected =
                    format!("cumulative lengths from 0 to at most {total}, never decreasing");
                let found = sus_reference::quote::list(cumulative);
                return Err(Error::option(name, expected, found).into());
            }
        }
        options = options.with_segments(Segments { queries, keys });
    } else if packed != [None, None] {
        let [there, missing] = if packed[0].is_some() { ["q", "k"] } else { ["k", "q"] };
        let expected = format!("one beside 'cu_seqlens_{there}'");
        let name = if missing == "k" { "cu_seqlens_k" } else { "cu_seqlens_q" };
        return Err(Error::option(name, expected, "none").into());
    }
    let used = pair(&mut take, ["seqused_q", "seqused_k"])?;
    let padded = pair(&mut take, ["lengths_q", "lengths_k"])?;
    let given = |pair: &[Option<Vec<usize>>; 2]| pair.iter().any(Option::is_some);
    if given(&used) && packed == [None, None] {
        return Err(Error::option(
            "seqused_q",
            "'cu_seqlens_q' and 'cu_seqlens_k' beside it",
            "none",
        )
        .into());
    }
    if given(&padded) && options.segments.is_some() {
        return Err(beside("lengths_q", "packed sequences"));
    }
    if given(&used) || given(&padded) {
        let [queries, keys] = if given(&used) { used } else { padded };
        options = options.with_lengths(Lengths { queries, keys });
    }
    let sets = key_sets(&mut take, settings)?;
    let dropout = dropout(&mut take, settings)?;
    Ok(options.with_key_sets(sets).with_dropout(dropout))
}

/// Two operands that may not stand together.
fn beside(one: &'static str, other: &str) -> Reason {
    Error::option(one, format!("none beside {other}"), "both").into()
}

fn key_sets(
    take: &mut impl FnMut(&'static str) -> Option<Array>,
    settings: &Settings,
) -> Result<Vec<KeySet>, Reason> {
    let mut sets = Vec::new();
    if let Some(array) = take("attn_mask") {
        let shape = axes::<4>("attn_mask", &array)?;
        sets.push(KeySet::AttnMask(AttnMask { shape, seen: flags("attn_mask", array)?.into() }));
    }
    match (take("block_mask"), settings.block) {
        (None, None) => {}
        (Some(array), Some(block)) => {
            let shape = axes::<4>("block_mask", &array)?;
            let seen = flags("block_mask", array)?.into();
            sets.push(KeySet::BlockMask(BlockMask { shape, block, seen }));
        }
        (Some(_), None) => {
            return Err(Error::option("block", "[m, n], beside 'block_mask'", "none").into());
        }
        (None, Some(_)) => {
            let expected = "[B or 1,Hq or 1,Nq/m,Nk/n], beside 'block'";
            return Err(Reason::Missing { tensor: "block_mask", expected });
        }
    }
    if let Some(array) = take("indices") {
        let shape = axes::<4>("indices", &array)?;
        sets.push(KeySet::Indices(Indices::new(shape, integers("indices", array)?)));
    }
    Ok(sets)
}

fn dropout(
    take: &mut impl FnMut(&'static str) -> Option<Array>,
    settings: &Settings,
) -> Result<Option<Dropout>, Reason> {
    match (take("dropout_mask"), settings.dropout_p) {
        (None, None) => Ok(None),
        (Some(array), Some(p)) => {
            let shape = axes::<4>("dropout_mask", &array)?;
            Ok(Some(Dropout { shape, kept: flags("dropout_mask", array)?.into(), p }))
        }
        (Some(_), None) => {
            Err(Error::option("dropout_p", "a number beside 'dropout_mask'", "none").into())
        }
        (None, Some(_)) => {
            let expected = "[B or 1,Hq or 1,Nq,Nk], beside 'dropout_p'";
            Err(Reason::Missing { tensor: "dropout_mask", expected })
        }
    }
}

/// Slopes `[Hq]` or `[B, Hq]`.
pub(super) fn slopes(array: Array) -> Result<Tensor<f64>, Reason> {
    let shape = match *array.shape {
        [h] => [1, h, 1, 1],
        [b, h] => [b, 1, 1, h],
        _ => {
            let expected = "[Hq] or [B, Hq]".into();
            let found = array.shape.clone();
            return Err(Error::Shape { tensor: "alibi_slopes", expected, found }.into());
        }
    };
    Ok(Tensor::new("alibi_slopes", shape, &floats("alibi_slopes", array)?)?)
}

/// The first features of the keys: the values, where they have no tensor of their own.
pub(super) fn first_features(k: &Tensor<f64>, count: usize) -> Result<Tensor<f64>, Reason> {
    let [b, h, n, features] = k.shape();
    if count > features {
        let expected = format!("at most {features}, the features of k");
        return Err(Error::option("v_of_k", expected, count).into());
    }
    Ok(Tensor::from_fn([b, h, n, count], |[b, h, n, e]| k.row(b, h, n)[e]))
}

/// The bytes of a tensor of truth values.
fn flags(name: &'static str, array: Array) -> Result<Vec<u8>, Reason> {
    let found = format!("{:?}", array.dtype);
    match array.numbers {
        Numbers::Integer(data) if found == "U8" || found == "BOOL" => {
            Ok(data.into_iter().map(|x| u8::from(x != 0)).collect())
        }
        _ => Err(Reason::Dtype { tensor: name.into(), expected: "U8 or BOOL", found }),
    }
}

fn integers(name: &'static str, array: Array) -> Result<Vec<i64>, Reason> {
    let found = format!("{:?}", array.dtype);
    match array.numbers {
        Numbers::Integer(data) if found == "I32" || found == "I64" => Ok(data),
        _ => Err(Reason::Dtype { tensor: name.into(), expected: "I32 or I64", found }),
    }
}

/// Two optional lists of lengths.
fn pair(
    take: &mut impl FnMut(&'static str) -> Option<Array>,
    names: [&'static str; 2],
) -> Result<[Option<Vec<usize>>; 2], Reason> {
    let mut read = |name| -> Result<Option<Vec<usize>>, Reason> {
        let Some(array) = take(name) else { return Ok(None) };
        axes::<1>(name, &array)?;
        let numbers = integers(name, array)?;
        let lengths: Option<Vec<usize>> =
            numbers.iter().map(|&n| usize::try_from(n).ok()).collect();
        lengths.map(Some).ok_or_else(|| {
            let found = sus_reference::quote::list(&numbers);
            Error::option(name, "lengths of at least 0", found).into()
        })
    };
    Ok([read(names[0])?, read(names[1])?])
}
