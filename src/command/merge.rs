//! `sus-oracle merge`: the shards of many jobs or machines as one candidate.

use clap::Args;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use sus_oracle::files::tensor_file::{expect_writable, write_atomically};
use sus_oracle::files::{FileError, TensorFile};
use sus_oracle::verdict::Case;
use sus_oracle::verdict::merge::{MergeError, merge, merge_dense};
use sus_oracle::verdict::part::{self, Document};

/// Put the runs of several files into one candidate, in their order, or reports of parts into one report
///
/// Reports are those of `check --json` with --heads, --rows, --keys or --sample, of one problem and candidate. The joined report
/// says what was judged twice and what was not judged, and the exit code is that of the worst verdict.
/// A shard holds runs (gradients with a leading axis, or projected values), or one run. Shards of different cases and runs
/// given twice are refused. Repeated runs are found by the tensors `seeds` or `runs` (a number for each run), if there are
/// any, and by their values. Merging in any grouping gives the same bytes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle merge shard-*.safetensors --out runs.safetensors
  sus-oracle check problem.safetensors runs.safetensors --c 30
check takes the shards, too: sus-oracle check problem.safetensors shard-*.safetensors --c 30
Reports of heads that were judged in two processes:
  sus-oracle check problem.safetensors mine.safetensors --heads 0..4 --json > low.json
  sus-oracle check problem.safetensors mine.safetensors --heads 4..8 --json > high.json
  sus-oracle merge low.json high.json --out report.json")]
pub(crate) struct Arguments {
    /// The shards, safetensors files, in the order of their runs; or reports, JSON files, in any order
    #[arg(required = true)]
    shards: Vec<PathBuf>,
    /// The file to write; of reports, the report as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the joined report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(String, u8), FileError> {
    let Arguments { shards, out, json } = arguments;
    if is_report(&shards[0])? {
        return join(&shards, out.as_deref(), json);
    }
    let out = out.ok_or_else(|| invalid(&shards[0], "a shard: expected --out, found none"))?;
    if json {
        return Err(invalid(&shards[0], "a shard: expected no --json, which is for reports"));
    }
    let (merged, runs) = merge(&read(&shards)?).map_err(|e| of_shard(&shards, e))?;
    merged.write(&out)?;
    let names: Vec<&str> = merged.arrays.keys().map(String::as_str).collect();
    let said = format!(
        "shards     {}\nruns       {runs}\nwrote      {}: {}\n",
        shards.len(),
        out.display(),
        names.join(" ")
    );
    Ok((said, 0))
}

/// Whether a file is a report: text that begins with a brace. A safetensors file begins with a length of 8 bytes below 100 MB, so
/// that one of them is 0.
fn is_report(path: &Path) -> Result<bool, FileError> {
    let mut start = [0; 8];
    let mut file = File::open(path).map_err(|e| FileError::new(path, e))?;
    let read = file.read(&mut start).map_err(|e| FileError::new(path, e))?;
    let start = &start[..read];
    Ok(start.trim_ascii_start().starts_with(b"{") && !start.contains(&0))
}

/// Joins reports of parts.
fn join(paths: &[PathBuf], out: Option<&Path>, json: bool) -> Result<(String, u8), FileError> {
    if let Some(out) = out {
        expect_writable(out).map_err(|e| FileError::new(out, e))?;
    }
    let mut all: Option<Document> = None;
    for path in paths {
        let text = std::fs::read_to_string(path).map_err(|e| FileError::new(path, e))?;
        let next = Document::parse(&text).map_err(|e| invalid(path, &e))?;
        all = Some(match all {
            None => next,
            Some(all) => all.join(&next).map_err(|e| invalid(path, &e))?,
        });
    }
    let all = all.ok_or_else(|| invalid(Path::new("merge"), "expected at least one report"))?;
    // What a single report says of itself follows from its units, too.
    let all = all.made_again();
    if let Some(out) = out {
        write_atomically(out, all.json().as_bytes()).map_err(|e| FileError::new(out, e))?;
    }
    let said = if json { all.json() } else { part::text(&all) };
    Ok((said, all.exit_code()))
}

fn invalid(path: &Path, said: &str) -> FileError {
    FileError::new(path, io::Error::new(io::ErrorKind::InvalidInput, said))
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
