//! `sus-oracle choose-c`: the smallest budget that meets a target.

use crate::command::options::ProblemOptions;
use crate::command::terminal::spinner;
use clap::Args;
use std::path::PathBuf;
use sus_oracle::analysis::choose::RelativeTo;
use sus_oracle::analysis::{IncreaseTarget, Tensors, choose};
use sus_oracle::files::{FileError, ProblemFile};
use sus_oracle::sus::{Rule, Sampler};

/// The smallest c whose relative variance increase meets a target, and what it costs
///
/// Several files, or one file with a batch, are a set of sequences; all have the same shape. The increase is the mask
/// variance, averaged over the sequences, over the between-sequence variance. What a file says of a draw is not used.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle choose-c fixtures/real/sequences.safetensors --target 0.01
  sus-oracle choose-c fixtures/real/layer2.safetensors --target 0.05 --relative-to norm --of dv")]
pub(crate) struct Arguments {
    /// The problems, safetensors files
    #[arg(required = true, value_name = "PROBLEM")]
    problems: Vec<PathBuf>,
    /// The largest relative increase allowed
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    target: f64,
    /// Of which gradients: dq, dk, dv, or max for the largest of the three
    #[arg(long, value_name = "NAME", default_value_t)]
    of: Tensors,
    /// Relative to what: the variance between sequences, or the squared norm of the gradient
    #[arg(long, value_name = "NAME", default_value_t)]
    relative_to: RelativeTo,
    /// Weights to probabilities: paper or calibrated
    #[arg(long, value_name = "NAME", default_value_t)]
    rule: Rule,
    /// Probabilities to a mask: bernoulli or systematic
    #[arg(long, value_name = "NAME", default_value_t)]
    sampler: Sampler,
    /// The definition in place of the fast kernels
    #[arg(long)]
    plain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ProblemOptions,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { problems: paths, target, of, relative_to, rule, sampler, plain, options, json } =
        arguments;
    let command = options.settings();
    let progress = spinner("the smallest c");
    let problems = paths
        .iter()
        .map(|path| Ok(ProblemFile::read(path, command.clone())?.problem))
        .collect::<Result<Vec<_>, FileError>>()?;
    let question = IncreaseTarget { target, of, relative_to, rule, sampler, plain };
    let last = paths.last().map_or_else(PathBuf::new, Clone::clone);
    let choice = choose(problems, &question).map_err(|e| FileError::new(&last, e))?;
    progress.finish_and_clear();
    Ok(if json { format!("{:#}\n", choice.to_json(&question)) } else { choice.to_text(&question) })
}
