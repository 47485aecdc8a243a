//! `sus-oracle power`: how many runs a statistical verdict needs.

use crate::command::options::{DrawOptions, ProblemOptions};
use crate::command::terminal::spinner;
use clap::Args;
use std::path::{Path, PathBuf};
use sus_oracle::bounds::Recipe;
use sus_oracle::files::{FileError, Pass};
use sus_oracle::verdict::{Case, statistical};

/// Predict how many runs of a kernel a statistical verdict needs
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle power fixtures/smoke/sus_heads.safetensors
  sus-oracle power problem.safetensors --c 30 --bias 0.01
  sus-oracle power problem.safetensors --c 30 --sampler systematic --recipe flash-bf16
  sus-oracle power problem.safetensors --c 30 --bugs")]
pub(crate) struct Arguments {
    /// The problem, a safetensors file
    problem: PathBuf,
    /// The relative bias to detect
    #[arg(long, value_name = "X", default_value_t = 0.01)]
    bias: f64,
    /// The relative error of a variance to detect
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    variance: f64,
    /// A recipe, which says how the kernel rounds
    #[arg(long, value_name = "NAME|FILE", default_value = "f32")]
    recipe: String,
    /// Also list how many runs each known sampler bug needs, if the gradients identify the masks
    #[arg(long)]
    bugs: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ProblemOptions,
    #[command(flatten)]
    draw: DrawOptions,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { problem: path, bias, variance, recipe: name, bugs, options, draw, json } =
        arguments;
    let mut case = Case::read(&path, draw.add_to(options.settings()))?;
    case.settings.pass.get_or_insert(Pass::Sus);
    let wrong = |name: &str, said: String| {
        let kind = std::io::ErrorKind::InvalidInput;
        FileError::new(Path::new(name), std::io::Error::new(kind, said))
    };
    let recipe = Recipe::named(&name).map_err(|e| wrong(&name, e.to_string()))?;
    let draw = case.draw().map_err(|e| FileError::new(&path, e))?;
    let Some(draw) = draw else {
        return Err(wrong(
            &path.display().to_string(),
            "expected a SUS problem, found a dense one".into(),
        ));
    };
    let progress = spinner("distributions");
    let plan = statistical::power_analysis(&case.problem, &recipe, &draw);
    let known = if bugs { statistical::bugs(&case.problem, &recipe, &draw) } else { Ok(None) };
    progress.finish_and_clear();
    let plan = plan.map_err(|e| FileError::new(&path, e))?;
    let known = known.map_err(|e| FileError::new(&path, e))?;
    if json {
        return Ok(plan.to_json(bias, variance, known.as_deref()));
    }
    let table = match known {
        Some(known) => statistical::bugs_to_text(&known),
        None if bugs => {
            "bugs                not predicted, as the gradients do not identify the masks\n".into()
        }
        None => String::new(),
    };
    Ok(plan.to_text(bias, variance) + &table)
}
