//! `sus-oracle choose-c`: the smallest budget that meets a target.

mod layers;

use crate::command::options::ProblemOptions;
use crate::command::terminal::spinner;
use clap::{ArgGroup, Args};
use std::path::PathBuf;
use sus_oracle::analysis::choose::RelativeTo;
use sus_oracle::analysis::{IncreaseTarget, TargetGradients, choose};
use sus_oracle::files::{FileError, ProblemFile};
use sus_oracle::sus::{Rule, Sampler};

/// Find the smallest c whose relative variance increase meets a target, and the entries that it keeps; with --layers a c
/// for every head of several layers
///
/// Several files, or one file with a batch, are a set of sequences; all have the same shape. The increase is the mask
/// variance, averaged over the sequences, divided by the between-sequence variance. The settings of a draw in a file are
/// ignored.
///
/// With --layers each file is a layer, its batch the sequences, and the budget is spread over the heads so that the sum of
/// their mask variances is least: at a given count of kept entries (--count, --count-of), or with the smallest count that
/// brings the sum down to --target. The rule is then the paper's, with independent entries.
#[derive(Args)]
#[command(group(ArgGroup::new("spend").required(true)))]
#[command(after_help = "\
Examples:
  sus-oracle choose-c fixtures/real/sequences.safetensors --target 0.01
  sus-oracle choose-c fixtures/real/layer2.safetensors --target 0.05 --relative-to norm --of dv
  sus-oracle choose-c layer*.safetensors --layers --count-of 30 --relative-to norm --out c.json")]
pub(crate) struct Arguments {
    /// The problems, safetensors files
    #[arg(required = true, value_name = "PROBLEM")]
    problems: Vec<PathBuf>,
    /// The largest relative increase allowed
    #[arg(long, value_name = "X", allow_negative_numbers = true, group = "spend")]
    target: Option<f64>,
    /// The gradient that has to meet it: dq, dk, dv, max for each of the three, or sum [default: max, with --layers sum]
    #[arg(long, value_name = "NAME")]
    of: Option<TargetGradients>,
    /// The divisor: sequences (the between-sequence variance), norm (the gradient's squared norm) or nothing
    #[arg(long, value_name = "NAME", default_value_t)]
    relative_to: RelativeTo,
    /// How weights become keep probabilities: paper or calibrated
    #[arg(long, value_name = "NAME", default_value_t)]
    rule: Rule,
    /// How probabilities become a mask: bernoulli or systematic
    #[arg(long, value_name = "NAME", default_value_t)]
    sampler: Sampler,
    /// Use the reference implementation in place of the fast kernels
    #[arg(long)]
    plain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: layers::Options,
    #[command(flatten)]
    options: ProblemOptions,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    if arguments.layers.layers {
        return layers::run(arguments);
    }
    let Arguments {
        problems: paths,
        target,
        of,
        relative_to,
        rule,
        sampler,
        plain,
        options,
        json,
        ..
    } = arguments;
    let command = options.settings();
    let progress = spinner("the smallest c");
    let problems = paths
        .iter()
        .map(|path| Ok(ProblemFile::read(path, command.clone())?.problem))
        .collect::<Result<Vec<_>, FileError>>()?;
    let (at_most, of) = (target.unwrap_or_default(), of.unwrap_or_default());
    let target = IncreaseTarget { at_most, of, relative_to, rule, sampler, by_reference: plain };
    let last = paths.last().map_or_else(PathBuf::new, Clone::clone);
    let choice = choose(problems, &target).map_err(|e| FileError::new(&last, e))?;
    progress.finish_and_clear();
    Ok(if json { format!("{:#}\n", choice.to_json(&target)) } else { choice.to_text(&target) })
}
