//! `sus-oracle grad`: gradients of a problem file, dense or SUS.

mod report;

use crate::command::limits::{COMPARED_ENTRIES, DOUBLE_DOUBLE_WORK};
use crate::command::options::{DrawOptions, ProblemOptions};
use crate::command::terminal::spinner;
use clap::{Args, ValueEnum};
use report::Report;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sus_oracle::evaluation::{KeptCounts, relative_errors, visible_count};
use sus_oracle::fast::{Backends, Evaluated, Passes, Real};
use sus_oracle::files::gradient_file::{Stored, to_tensors_of};
use sus_oracle::files::{FileError, Pass, ProblemFile, Settings, TensorFile};
use sus_oracle::problem::Problem;
use sus_oracle::scalar::{Dd, Scalar};
use sus_oracle::sus::Draw;
use sus_oracle::{Error, TensorName, error};

/// Compute the gradients of a problem: o, lse, dq, dk, dv (dbias, dsink, dslopes, dkv) and, for SUS, the mask
///
/// Reads q [B,Hq,Nq,D], k [B,Hk,Nk,D], v [B,Hk,Nk,E] and do [B,Hq,Nq,E] (optional: dlse [B,Hq,Nq], bias
/// [B|1,Hq|1,Nq|1,Nk], sink [Hq]) from a safetensors file, in F64, F32, F16 or BF16, and writes the results in F64. A bias
/// of -inf hides its key. docs/operands.md names the masks, lists of keys, lengths, dropout masks and slopes that may stand beside them.
/// Options may also stand in the file, as JSON in the metadata entry `sus_oracle`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle grad fixtures/real/layer2.safetensors --c 30 --out sus.safetensors
  sus-oracle grad fixtures/real/layer2.safetensors --dense --out dense.safetensors
  sus-oracle grad problem.safetensors --softcap 50 --sampler systematic --seed 7 --out sus.safetensors

The output has the format of a candidate, so `check` accepts it.")]
pub(crate) struct Arguments {
    /// The problem, a safetensors file
    problem: PathBuf,
    /// The file to write; it is replaced whole or left as it was
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Use all weights instead of a sample
    #[arg(
        long,
        conflicts_with_all = ["c", "rule", "sampler", "seed", "stream", "layout", "uniform_bits"]
    )]
    dense: bool,
    /// Arithmetic; dd is double-double, about 106 bits [default: dd for small problems, else f64]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Arithmetic>,
    /// Where o and lse come from: computed (exact), or read from the file (given)
    #[arg(long, default_value = "exact")]
    mode: Mode,
    /// Use the reference implementation in place of the fast kernels for f64 and f32
    #[arg(long)]
    plain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ProblemOptions,
    #[command(flatten)]
    draw: DrawOptions,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Arithmetic {
    F64,
    F32,
    Dd,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Exact,
    Given,
}

/// The results of a run and the time of its parts.
struct Run {
    file: TensorFile,
    paths: Backends,
    kept: Option<KeptCounts>,
    errors: Option<Vec<(TensorName, f64)>>,
    seconds: f64,
    dense_seconds: Option<f64>,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { problem: path, out, dense, options, draw, dtype, mode, plain, json } =
        arguments;
    check_out(&path, &out)?;
    let mut command = draw.add_to(options.settings());
    if dense {
        command.pass = Some(Pass::Dense);
    }
    let input = ProblemFile::read(&path, command)?;
    let in_file = |reason: Error| FileError::new(&path, reason);
    let draw = input.settings.draw().map_err(in_file)?;
    let given = match mode {
        Mode::Exact => None,
        Mode::Given => Some(input.saved.as_ref().ok_or_else(|| {
            in_file(Error::option("mode", "'exact' for a file without 'o' and 'lse'", "'given'"))
        })?),
    };
    let arithmetic = dtype.unwrap_or_else(|| default_arithmetic(&input.problem));
    let settings = input.settings.with_draw(draw.as_ref());
    let (problem, draw_ref) = (&input.problem, draw.as_ref());
    let run = match arithmetic {
        Arithmetic::F64 => {
            compute(&passes::<f64>(plain), problem, given, draw_ref, &settings, Stored::F64)
        }
        Arithmetic::F32 => {
            compute(&passes::<f32>(plain), problem, given, draw_ref, &settings, Stored::F32)
        }
        Arithmetic::Dd => {
            compute(&Passes::<Dd>::reference(), problem, given, draw_ref, &settings, Stored::F64)
        }
    }
    .map_err(in_file)?;
    run.file.write(&out)?;
    let report = Report { path: &path, out: &out, input: &input, draw, arithmetic, run };
    Ok(if json { report.json() } else { report.text() })
}

/// Refuses an output that cannot be written, before the work.
fn check_out(problem: &Path, out: &Path) -> Result<(), FileError> {
    let refuse = |text: &str| {
        let kind = std::io::ErrorKind::InvalidInput;
        Err(FileError::new(out, std::io::Error::new(kind, text.to_owned())))
    };
    if out.is_dir() {
        return refuse("option 'out': expected a file, found a folder");
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refuse("option 'out': expected a file in an existing folder, found none such");
    }
    match (problem.canonicalize(), out.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => {
            refuse("option 'out': expected another file than the problem, found the same")
        }
        _ => Ok(()),
    }
}

/// Double-double for small problems, else `f64`.
fn default_arithmetic(problem: &Problem<f64>) -> Arithmetic {
    let sizes = problem.sizes();
    let features = (sizes.features + sizes.value_features) as u64;
    if visible_count(problem).saturating_mul(features) <= DOUBLE_DOUBLE_WORK {
        Arithmetic::Dd
    } else {
        Arithmetic::F64
    }
}

/// The fast kernels, or the reference where it is requested.
fn passes<T: Real>(reference_requested: bool) -> Passes<T> {
    if reference_requested { Passes::reference_requested() } else { Passes::fast() }
}

fn compute<T: Scalar>(
    passes: &Passes<T>,
    problem: &Problem<f64>,
    given: Option<&sus_oracle::forward::Saved<f64>>,
    draw: Option<&Draw>,
    settings: &Settings,
    stored: Stored,
) -> Result<Run, error::Error> {
    let progress = spinner(if draw.is_some() { "SUS gradients" } else { "dense gradients" });
    let start = Instant::now();
    let Evaluated { evaluation, paths } = (passes.evaluate)(problem, given, draw)?;
    let seconds = start.elapsed().as_secs_f64();
    let file = to_tensors_of(problem, &evaluation, settings, stored)?;
    let kept = evaluation.mask.as_ref().map(|mask| KeptCounts::of(problem, &mask.sample));
    let (mut errors, mut dense_seconds) = (None, None);
    if draw.is_some() && visible_count(problem) <= COMPARED_ENTRIES {
        progress.set_message("dense gradients, to compare");
        let start = Instant::now();
        let dense = (passes.backward)(&problem.cast::<T>()?, &evaluation.saved);
        dense_seconds = Some(start.elapsed().as_secs_f64());
        errors = Some(relative_errors(&evaluation.gradients, &dense));
    }
    progress.finish_and_clear();
    Ok(Run { file, paths, kept, errors, seconds, dense_seconds })
}
