//! `sus-oracle projections`: the directions that a kernel's gradients may be projected along.

use crate::command::options::{DrawOptions, ProblemOptions};
use crate::command::terminal::spinner;
use clap::Args;
use std::path::{Path, PathBuf};
use sus_oracle::files::{FileError, Pass};
use sus_oracle::verdict::{Case, statistical};

/// Write the directions that runs may be projected along, for runs too many to store
///
/// OUT gets proj/dq, proj/dk, proj/dv (and proj/dbias), each [P, ...] in F32 with the shape of its gradient, and proj/case, which
/// a candidate may carry on. A candidate then sends proj/dq = sum of proj/dq times dq and so on, [S, P] in F64 or F32, in place
/// of its gradients. The directions depend on the problem, c, rule and sampler alone: the same input gives the same directions.
#[derive(Args)]
#[command(after_help = "\
Example, and the line of the kernel's script:
  sus-oracle projections problem.safetensors --c 30 --out directions.safetensors
  values = einsum('pbhnd,sbhnd->sp', directions['proj/dq'], dq)      in float64
  sus-oracle check problem.safetensors values.safetensors --c 30 --recipe f32")]
pub(crate) struct Arguments {
    /// The problem or fixture, a safetensors file
    case: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    options: ProblemOptions,
    #[command(flatten)]
    draw: DrawOptions,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { case: path, out, options, draw } = arguments;
    let mut case = Case::read(&path, draw.add_to(options.settings()))?;
    case.settings.pass.get_or_insert(Pass::Sus);
    let draw = case.draw().map_err(|e| FileError::new(&path, e))?;
    let Some(draw) = draw else {
        let said = "expected a SUS problem, found a dense one";
        let kind = std::io::ErrorKind::InvalidInput;
        return Err(FileError::new(Path::new(&path), std::io::Error::new(kind, said)));
    };
    let progress = spinner("directions");
    let directions = statistical::directions(&case.problem, &draw);
    progress.finish_and_clear();
    let directions = directions.map_err(|e| FileError::new(&path, e))?;
    let mut file = directions.to_file(&case.problem);
    case.settings.seed = None;
    file.metadata = Some(case.settings.to_json());
    file.write(&out)?;
    let names: Vec<&str> = file.arrays.keys().map(String::as_str).collect();
    let mut said = format!("directions {}\n", directions.count());
    for (number, name) in directions.names.iter().enumerate() {
        said += &line(number, name);
    }
    Ok(format!("{said}wrote      {}: {}\n", out.display(), names.join(" ")))
}

fn line(number: usize, name: &str) -> String {
    format!("{number:>10} {name}\n")
}
