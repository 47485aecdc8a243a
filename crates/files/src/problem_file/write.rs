//! A problem as a file that [`ProblemFile::read`](super::ProblemFile::read) reads back.

use crate::gradient_file::slopes_shape;
use crate::settings::Settings;
use crate::tensor_file::{Array, Numbers, TensorFile};
use safetensors::Dtype;
use sus_reference::mask::{AttnMask, BlockMask, KeySet};
use sus_reference::problem::{Dropout, Inputs, Problem};
use sus_reference::tensor::Tensor;

/// A problem as named tensors, numbers in F32, with these settings. In the padding, which is never read, stands NaN.
///
/// # Examples
/// ```
/// use sus_files::{ProblemFile, Settings, problem_to_tensors};
/// let problem = sus_reference::problem::example();
/// let file = problem_to_tensors(&problem, &Settings::default());
/// let read = ProblemFile::from_tensors(file, Settings::default())?;
/// assert_eq!(read.problem, problem);
/// # Ok::<(), sus_files::error::Reason>(())
/// ```
#[must_use]
pub fn problem_to_tensors(problem: &Problem<f64>, settings: &Settings) -> TensorFile {
    let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes, .. } = problem.inputs();
    let mask = problem.mask();
    let mut file = TensorFile { metadata: Some(settings.to_json()), ..TensorFile::default() };
    let mut put = |name: &str, shape: &[usize], data: Vec<f64>| {
        file.arrays.insert(name.to_owned(), Array::f32(shape, data));
    };
    put("q", &q.shape(), with_nan(q, |b, i| mask.is_padding(b, i)));
    put("k", &k.shape(), with_nan(k, |b, j| mask.is_padding_key(b, j)));
    if !problem.options().v_of_k {
        put("v", &v.shape(), with_nan(v, |b, j| mask.is_padding_key(b, j)));
    }
    put("do", &g.shape(), with_nan(g, |b, i| mask.is_padding(b, i)));
    if let Some(bias) = bias {
        put("bias", &bias.shape(), bias.as_slice().to_vec());
    }
    if let Some(dlse) = dlse {
        put("dlse", &dlse.shape()[..3], with_nan(dlse, |b, i| mask.is_padding(b, i)));
    }
    if let Some(sink) = sink {
        put("sink", &[sink.len()], sink.clone());
    }
    if let (Some(slopes), Some(shape)) = (alibi_slopes, slopes_shape(problem)) {
        put("alibi_slopes", &shape, slopes.as_slice().to_vec());
    }
    put_structure(&mut file, problem, settings);
    file
}

/// The numbers of a tensor, with NaN in the rows that are padding.
fn with_nan(x: &Tensor<f64>, is_padding: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let [_, heads, length, width] = x.shape();
    let mut numbers = x.as_slice().to_vec();
    for (at, row) in numbers.chunks_mut(width).enumerate() {
        if is_padding(at / length / heads, at % length) {
            row.fill(f64::NAN);
        }
    }
    numbers
}

/// The tensors that say which keys a query sees, and the mask of dropout.
fn put_structure(file: &mut TensorFile, problem: &Problem<f64>, settings: &Settings) {
    let options = problem.options();
    let bytes = |shape: [usize; 4], data: &[u8]| {
        let numbers = Numbers::Integer(data.iter().map(|&x| x.into()).collect());
        Array { dtype: Dtype::U8, shape: shape.to_vec(), numbers }
    };
    for set in &options.key_sets {
        let array = match set {
            KeySet::AttnMask(AttnMask { shape, seen })
            | KeySet::BlockMask(BlockMask { shape, seen, .. }) => bytes(*shape, seen),
            KeySet::Indices(indices) => Array::i32(&indices.shape(), indices.as_slice().to_vec()),
        };
        file.arrays.insert(set.name().to_owned(), array);
    }
    if let Some(Dropout { shape, kept, .. }) = &options.dropout {
        file.arrays.insert("dropout_mask".into(), bytes(*shape, kept));
    }
    let mut put = |name: &str, lengths: &[usize]| {
        let lengths: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
        file.arrays.insert(name.to_owned(), Array::i32(&[lengths.len()], lengths));
    };
    // Packed sequences stand in the settings, or in tensors.
    let in_tensors = options.segments.as_ref().filter(|_| settings.segments_q.is_none());
    if let Some(segments) = in_tensors {
        put("cu_seqlens_q", &segments.queries);
        put("cu_seqlens_k", &segments.keys);
    }
    if let Some(lengths) = &options.lengths {
        let names = match in_tensors {
            Some(_) => ["seqused_q", "seqused_k"],
            None => ["lengths_q", "lengths_k"],
        };
        for (name, lengths) in names.into_iter().zip([&lengths.queries, &lengths.keys]) {
            if let Some(lengths) = lengths {
                put(name, lengths);
            }
        }
    }
}
