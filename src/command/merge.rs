//! `sus-oracle merge`: the shards of many jobs or machines as one candidate.

use clap::Args;
use std::path::PathBuf;
use sus_oracle::files::{FileError, TensorFile};
use sus_oracle::verdict::Case;
use sus_oracle::verdict::merge::{MergeError, merge, merge_dense};

/// Put the runs of several files into one candidate, in their order
///
/// A shard holds runs (gradients with a leading axis, or projected values), or one run. Shards of different cases and runs
/// given twice are refused. Repeated runs are found by the tensors `seeds` or `runs` (a number for each run), if there are
/// any, and by their values. Merging in any grouping gives the same bytes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle merge shard-*.safetensors --out runs.safetensors
  sus-oracle check problem.safetensors runs.safetensors --c 30
check takes the shards, too: sus-oracle check problem.safetensors shard-*.safetensors --c 30")]
pub(crate) struct Arguments {
    /// The shards, safetensors files, in the order of their runs
    #[arg(required = true)]
    shards: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { shards, out } = arguments;
    let (merged, runs) = merge(&read(&shards)?).map_err(|e| of_shard(&shards, e))?;
    merged.write(&out)?;
    let names: Vec<&str> = merged.arrays.keys().map(String::as_str).collect();
    Ok(format!(
        "shards     {}\nruns       {runs}\nwrote      {}: {}\n",
        shards.len(),
        out.display(),
        names.join(" ")
    ))
}

/// Reads and joins the files of a candidate of this case: the shards of a sampled pass, or the runs of a dense one.
pub(crate) fn read_candidate(case: &Case, paths: &[PathBuf]) -> Result<TensorFile, FileError> {
    let mut files = read(paths)?;
    if files.len() == 1 {
        return Ok(files.remove(0));
    }
    let mut completed = case.clone();
    completed.complete_from(&files[0]).map_err(|e| FileError::new(&paths[0], e))?;
    let is_dense = matches!(completed.draw(), Ok(None));
    let merged = if is_dense { merge_dense(&files) } else { merge(&files) };
    merged.map(|(file, _)| file).map_err(|e| of_shard(paths, e))
}

fn read(paths: &[PathBuf]) -> Result<Vec<TensorFile>, FileError> {
    paths.iter().map(|path| TensorFile::read(path)).collect()
}

fn of_shard(paths: &[PathBuf], error: MergeError) -> FileError {
    FileError::new(&paths[error.shard], error.reason)
}
