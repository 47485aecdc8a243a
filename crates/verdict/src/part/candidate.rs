//! A candidate, cut to the results of a part.

use crate::candidate::{RESULTS, is_projected, shape_of};
use crate::{Criterion, Verdict};
use std::ops::Range;
use sus_files::TensorFile;
use sus_files::tensor_file::{Array, Numbers};
use sus_reference::error::Error;
use sus_reference::problem::Problem;

/// What a unit reads of a candidate, and what is wrong with the rest.
pub(super) struct Cut {
    pub(super) file: TensorFile,
    /// Findings on tensors whose shape is not that of the whole problem, and notes on results that no part can be judged by.
    pub(super) verdict: Verdict,
    /// The results that were taken out: they have a finding or a note already.
    pub(super) without: Vec<&'static str>,
}

/// The results of one key head and its query heads.
///
/// # Errors
/// [`Error::Option`] if the candidate holds projected values.
pub(super) fn of_key_head(
    problem: &Problem<f64>,
    file: &TensorFile,
    key_head: usize,
) -> Result<Cut, Error> {
    if is_projected(file) {
        let expected = "gradients, of which a part can be judged";
        return Err(Error::option(
            "candidate",
            expected,
            "projections, which are sums over all heads",
        ));
    }
    let group = problem.group();
    let (of_queries, of_keys) = (key_head * group..(key_head + 1) * group, key_head..key_head + 1);
    let sizes = problem.sizes();
    let mut cut = Cut { file: file.clone(), verdict: Verdict::default(), without: Vec::new() };
    for name in RESULTS {
        let (Some(array), Some(shape)) = (cut.file.arrays.remove(name), shape_of(problem, name))
        else {
            continue;
        };
        let by_keys = matches!(name, "dk" | "dv" | "dkv");
        let heads = if by_keys { &of_keys } else { &of_queries };
        let axis = usize::from(shape.len() > 1);
        if name == "dbias" && shape[1] != sizes.query_heads {
            cut.without.push(name);
            cut.verdict.notes.push("dbias: a sum over all heads, not judged in a part".into());
            continue;
        }
        let with_one = [&shape[..], &[1]].concat();
        let legal = [Some(&array.shape[..]), array.shape.get(1..)].map(|found| {
            found.is_some_and(|found| found == shape || name == "lse" && found == with_one)
        });
        if let Some(leading) = legal.iter().position(|&legal| legal) {
            cut.file.arrays.insert(name.into(), take(&array, axis + leading, heads.clone()));
        } else {
            let message = format!("expected shape {shape:?}, found {:?}", array.shape);
            cut.verdict.fail(name, Criterion::Shape, message);
            cut.without.push(name);
        }
    }
    let rows = [sizes.batch, sizes.query_heads, sizes.queries];
    for (name, shape) in [("mask", [&rows[..], &[sizes.keys]].concat()), ("nnz", rows.to_vec())] {
        let Some(array) = cut.file.arrays.get_mut(name) else { continue };
        let leading = array.shape.len().saturating_sub(shape.len());
        if leading <= 1 && array.shape[leading..] == shape {
            *array = take(array, 1 + leading, of_queries.clone());
        }
    }
    cut_csr(&mut cut.file, rows, &of_queries);
    Ok(cut)
}

/// The indices `range` of an axis.
fn take(array: &Array, axis: usize, range: Range<usize>) -> Array {
    take_indices(array, axis, &range.collect::<Vec<_>>())
}

/// Some of each `length` blocks of `inner` numbers.
fn some<T: Copy>(data: &[T], length: usize, inner: usize, indices: &[usize]) -> Vec<T> {
    let blocks = data.chunks((length * inner).max(1));
    let of_block = |block: &[T]| -> Vec<T> {
        indices.iter().flat_map(|&at| &block[at * inner..(at + 1) * inner]).copied().collect()
    };
    blocks.flat_map(of_block).collect()
}

/// Some indices of an axis.
pub(super) fn take_indices(array: &Array, axis: usize, indices: &[usize]) -> Array {
    let length = array.shape[axis];
    let inner: usize = array.shape[axis + 1..].iter().product();
    let numbers = match &array.numbers {
        Numbers::Float(data) => Numbers::Float(some(data, length, inner, indices)),
        Numbers::Integer(data) => Numbers::Integer(some(data, length, inner, indices)),
        Numbers::Unsigned(data) => Numbers::Unsigned(some(data, length, inner, indices)),
    };
    let mut shape = array.shape.clone();
    shape[axis] = indices.len();
    Array { dtype: array.dtype, shape, numbers }
}

/// The rows of a mask in CSR. One that is not well formed stays as it is: it is no mask of the part either.
fn cut_csr(file: &mut TensorFile, [batch, heads, queries]: [usize; 3], of: &Range<usize>) {
    let offsets = match file.arrays.get("mask/row_offsets").map(|array| &array.numbers) {
        Some(Numbers::Integer(offsets)) => offsets.clone(),
        _ => return,
    };
    let Some(columns) = file.arrays.get("mask/columns").map(|array| array.shape.clone()) else {
        return;
    };
    let legal = offsets.len() == batch * heads * queries + 1
        && offsets.is_sorted()
        && offsets.first() == Some(&0)
        && columns.len() == 1
        && offsets.last() == Some(&(columns[0] as i64));
    if !legal {
        return;
    }
    let rows = (0..batch)
        .flat_map(|b| of.clone().map(move |h| b * heads + h))
        .flat_map(|head| head * queries..(head + 1) * queries);
    let (mut entries, mut found) = (Vec::new(), vec![0]);
    for row in rows {
        entries.extend(offsets[row] as usize..offsets[row + 1] as usize);
        found.push(entries.len() as i64);
    }
    for name in ["mask/columns", "mask/values"] {
        if let Some(array) = file.arrays.get_mut(name)
            && array.shape == columns
        {
            *array = take_indices(array, 0, &entries);
        }
    }
    file.arrays.insert("mask/row_offsets".into(), Array::i64(&[found.len()], found));
}
