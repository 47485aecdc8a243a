//! The runs of several files as one candidate: the shards of an array job, of machines, or of a loop.
//!
//! Runs are concatenated in the order of the shards, number by number, so merging is associative to the bit. A run that would count
//! twice is refused: by its `seeds`, by its `runs`, or by the digest of a shard whose numbers are all those of another.

use super::candidate::printable;
use super::statistical::DIGEST;
use std::collections::{BTreeMap, BTreeSet};
use sus_files::error::Reason;
use sus_files::hash::sha256;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, Settings, TensorFile};
use sus_reference::quote;

/// Why shards cannot be merged.
#[derive(Debug)]
pub struct MergeError {
    /// The shard, by its place.
    pub shard: usize,
    /// The reason.
    pub reason: Reason,
}

/// The tensor of the digests of the merged shards.
const SHARDS: &str = "shards";
/// Tensors and the number of their axes for one run.
const RESULTS: [(&str, usize); 14] = [
    ("dq", 4),
    ("dk", 4),
    ("dv", 4),
    ("dbias", 4),
    ("dkv", 4),
    ("proj/dq", 1),
    ("proj/dk", 1),
    ("proj/dv", 1),
    ("proj/dbias", 1),
    ("o", 4),
    ("lse", 3),
    ("dsink", 1),
    ("mask", 4),
    ("nnz", 3),
];
/// Results that do not depend on the mask: a shard may give them once for all of its runs.
const EXACT: [&str; 3] = ["o", "lse", "dsink"];
/// Tensors with a number for each run that no other run has.
const NUMBERS: [&str; 2] = ["seeds", "runs"];

/// One shard; its tensors have an axis of runs, except those that are given once.
struct Shard {
    file: TensorFile,
    settings: Settings,
    runs: usize,
}

/// All runs of some shards, and their number.
///
/// # Errors
/// [`MergeError`] names the first shard that is no shard, is one of another case, or repeats a run.
///
/// # Panics
/// If there are no shards.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile};
/// use sus_verdict::merge::merge;
/// let shard = |dq: f64| TensorFile {
///     arrays: [("dq".into(), Array::f64(&[1, 1, 1, 1], vec![dq]))].into(),
///     metadata: None,
/// };
/// let (merged, runs) = merge(&[shard(0.5), shard(0.25)]).unwrap();
/// assert_eq!((runs, &merged.arrays["dq"].shape), (2, &vec![2, 1, 1, 1, 1]));
/// ```
pub fn merge(shards: &[TensorFile]) -> Result<(TensorFile, usize), MergeError> {
    merged(shards, true)
}

/// All runs of some files of a dense kernel. Files with equal numbers are repetitions that agree, and no error.
///
/// # Errors
/// As [`merge`].
///
/// # Panics
/// If there are no files.
///
/// # Examples
/// ```
/// use sus_files::{Array, TensorFile};
/// use sus_verdict::merge::{merge, merge_dense};
/// let arrays = [("dq".into(), Array::f64(&[1, 1, 1, 1], vec![0.5]))];
/// let files = vec![TensorFile { arrays: arrays.into(), metadata: None }; 2];
/// assert!(merge(&files).is_err());
/// assert_eq!(merge_dense(&files).unwrap().1, 2);
/// ```
pub fn merge_dense(files: &[TensorFile]) -> Result<(TensorFile, usize), MergeError> {
    merged(files, false)
}

/// All runs; shards of a pass that draws masks have digests, by which those that are equal are found.
fn merged(shards: &[TensorFile], draws: bool) -> Result<(TensorFile, usize), MergeError> {
    assert!(!shards.is_empty(), "shards to merge");
    let at = |shard: usize| move |reason: Reason| MergeError { shard, reason };
    let mut merged: Option<Shard> = None;
    for (number, file) in shards.iter().enumerate() {
        let next = read(file, draws).map_err(at(number))?;
        merged = Some(match merged {
            None => next,
            Some(before) => append(before, &next).map_err(at(number))?,
        });
    }
    let Shard { mut file, settings, runs } = merged.expect("at least one shard");
    if file.metadata.is_some() {
        file.metadata = Some(settings.to_json());
    }
    Ok((file, runs))
}

fn wrong(tensor: &str, expected: &str, found: impl std::fmt::Display) -> Reason {
    Reason::Metadata {
        key: format!("tensor {}", printable(tensor)),
        expected: expected.into(),
        found: found.to_string(),
    }
}

/// One file as a shard.
fn read(file: &TensorFile, draws: bool) -> Result<Shard, Reason> {
    let mut settings = match &file.metadata {
        Some(text) => Settings::from_json(text)?,
        None => Settings::default(),
    };
    let first = ["dq", "dk", "dv", "proj/dq", "proj/dk", "proj/dv"]
        .into_iter()
        .find_map(|name| Some((name, file.arrays.get(name)?)));
    let Some((name, array)) = first else {
        return Err(Reason::Missing { tensor: "dq", expected: "[S,B,Hq,Nq,D], or proj/dq [S,P]" });
    };
    let axes = rank(name).expect("a result");
    let single = array.shape.len() == axes;
    if !single && array.shape.len() != axes + 1 {
        return Err(Reason::Rank {
            tensor: name.into(),
            expected: axes + 1,
            found: array.shape.clone(),
        });
    }
    let runs = if single { 1 } else { array.shape[0] };
    let mut out = TensorFile { arrays: file.arrays.clone(), metadata: file.metadata.clone() };
    for (name, array) in &mut out.arrays {
        match rank(name) {
            Some(axes) => read_result(name, array, axes, single, runs)?,
            None => check_beside(name, array, runs)?,
        }
    }
    // A seed in the settings is that of a single run.
    if let (Some(seed), true) = (settings.seed.take(), single) {
        out.arrays
            .entry("seeds".into())
            .or_insert_with(|| Array::i64(&[1], vec![seed.cast_signed()]));
    }
    if draws && !out.arrays.contains_key(SHARDS) {
        let digest = digest(&out);
        out.arrays.insert(SHARDS.into(), Array::i64(&[1], vec![digest]));
    }
    Ok(Shard { file: out, settings, runs })
}

/// The number of axes of a result for one run.
fn rank(name: &str) -> Option<usize> {
    RESULTS.iter().find(|result| result.0 == name).map(|result| result.1)
}

/// Gives a result of a single run an axis of runs, and checks the number of runs of any other.
fn read_result(
    name: &str,
    array: &mut Array,
    axes: usize,
    single: bool,
    runs: usize,
) -> Result<(), Reason> {
    if single && array.shape.len() == axes {
        array.shape.insert(0, 1);
    }
    let shared = EXACT.contains(&name) && array.shape.len() == axes;
    if !shared && (array.shape.len() != axes + 1 || array.shape[0] != runs) {
        let expected = format!("{} axes, the first of them {runs} runs", axes + 1);
        return Err(wrong(name, &expected, format!("shape {:?}", array.shape)));
    }
    Ok(())
}

/// Checks a tensor that is no result: a number for each run, or a digest.
fn check_beside(name: &str, array: &Array, runs: usize) -> Result<(), Reason> {
    if !(NUMBERS.contains(&name) || name == DIGEST || name == SHARDS) {
        let expected = "results, proj/..., nnz, a dense mask, seeds or runs, and nothing else";
        return Err(wrong(name, expected, "it"));
    }
    let expected = if name == DIGEST { 1 } else { runs };
    if name != SHARDS && array.shape != [expected] {
        let expected = format!("shape [{expected}]");
        return Err(wrong(name, &expected, format!("{:?}", array.shape)));
    }
    Ok(())
}

/// A digest of the names and the contents of all tensors.
fn digest(file: &TensorFile) -> i64 {
    let mut bytes = Vec::new();
    for (name, array) in &file.arrays {
        bytes.extend(name.as_bytes());
        bytes.extend(sha256(&array.to_bytes()));
    }
    let hash = sha256(&bytes);
    i64::from_le_bytes(std::array::from_fn(|at| hash[at]))
}

fn append(mut before: Shard, next: &Shard) -> Result<Shard, Reason> {
    expect_same_case(&before, next)?;
    for (name, array) in &mut before.file.arrays {
        append_array(name, array, &next.file.arrays[name])?;
    }
    before.runs += next.runs;
    Ok(before)
}

/// Shards of one case have the same settings and the same tensors.
fn expect_same_case(before: &Shard, next: &Shard) -> Result<(), Reason> {
    let (one, two) = (before.settings.to_json(), next.settings.to_json());
    if one != two || before.file.metadata.is_some() != next.file.metadata.is_some() {
        let said = |shard: &Shard, text: String| {
            if shard.file.metadata.is_some() { text } else { "no settings".into() }
        };
        return Err(Reason::Metadata {
            key: "of the case".into(),
            expected: format!("that of the shards before, {}", said(before, one)),
            found: said(next, two),
        });
    }
    let (one, two) = (&before.file.arrays, &next.file.arrays);
    if !one.keys().eq(two.keys()) {
        let only = |one: &BTreeMap<String, Array>, two: &BTreeMap<String, Array>| {
            let only: Vec<&String> = one.keys().filter(|name| !two.contains_key(*name)).collect();
            if only.is_empty() { "none".into() } else { quote::entries(&only) }
        };
        let expected = "those of the shards before";
        let found = format!("without {} and with {} beside", only(one, two), only(two, one));
        return Err(wrong("names", expected, found));
    }
    Ok(())
}

/// Appends the runs of a tensor, or checks that a tensor that is given once is the same.
fn append_array(name: &str, array: &mut Array, more: &Array) -> Result<(), Reason> {
    if array.dtype != more.dtype {
        let expected = format!("{:?}, as in the shards before", array.dtype);
        return Err(wrong(name, &expected, format!("{:?}", more.dtype)));
    }
    let given_once =
        name == DIGEST || EXACT.contains(&name) && rank(name) == Some(array.shape.len());
    if given_once {
        if array.shape == more.shape && array.to_bytes() == more.to_bytes() {
            return Ok(());
        }
        let expected = if name == DIGEST {
            "that of the shards before: the directions of one case"
        } else {
            "the numbers of the shards before, as it does not depend on the mask"
        };
        return Err(wrong(name, expected, "others"));
    }
    if array.shape.get(1..) != more.shape.get(1..) {
        let expected = format!("shape [..., {:?}] as in the shards before", &array.shape[1..]);
        return Err(wrong(name, &expected, format!("{:?}", more.shape)));
    }
    if NUMBERS.contains(&name) || name == SHARDS {
        expect_new_runs(name, array, more)?;
    }
    match (&mut array.numbers, &more.numbers) {
        (Numbers::Float(all), Numbers::Float(more)) => all.extend(more),
        (Numbers::Integer(all), Numbers::Integer(more)) => all.extend(more),
        (Numbers::Unsigned(all), Numbers::Unsigned(more)) => all.extend(more),
        _ => return Err(wrong(name, "numbers of one kind", "others")),
    }
    array.shape[0] += more.shape[0];
    Ok(())
}

/// An error if a run of `more` is one of `array` already.
fn expect_new_runs(name: &str, array: &Array, more: &Array) -> Result<(), Reason> {
    let seen: BTreeSet<Vec<u8>> = elements(array);
    let Some(again) = elements(more).into_iter().find(|x| seen.contains(x)) else {
        return Ok(());
    };
    if name == SHARDS {
        return Err(wrong(
            "shards",
            "runs that no shard before has (or seeds or runs that tell equal ones apart)",
            "the very numbers of one of them",
        ));
    }
    let bytes: [u8; 8] = std::array::from_fn(|at| again.get(at).copied().unwrap_or(0));
    let again = format!("{} again", i64::from_le_bytes(bytes));
    Err(wrong(name, "runs that no shard before has", again))
}

/// The stored bytes of each element.
fn elements(array: &Array) -> BTreeSet<Vec<u8>> {
    let bytes = array.to_bytes();
    let width = (bytes.len() / array.shape.iter().product::<usize>().max(1)).max(1);
    bytes.chunks(width).map(<[u8]>::to_vec).collect()
}
