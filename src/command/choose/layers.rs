//! `sus-oracle choose-c --layers`: one budget, spread over the heads of several layers.

use super::Arguments;
use crate::command::options::budget;
use crate::command::terminal::spinner;
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;
use sus_oracle::Error;
use sus_oracle::analysis::TargetGradients;
use sus_oracle::analysis::layers::{
    Estimator, LayerProblem, LayersTarget, RowBudgets, Spend, allocate,
};
use sus_oracle::files::tensor_file::write_atomically;
use sus_oracle::files::{FileError, ProblemFile};
use sus_oracle::sus::{Budget, Rule, Sampler};

#[derive(Args)]
#[command(next_help_heading = "Options of --layers")]
pub(super) struct Options {
    /// Each file is a layer: find a c for every head of every layer
    #[arg(long)]
    pub(super) layers: bool,
    /// Spend N kept entries per row in expectation, on the average over all heads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(requires = "layers", group = "spend")]
    count: Option<f64>,
    /// Spend as many as one c = C for all
    #[arg(long, value_name = "C", value_parser = budget, allow_negative_numbers = true)]
    #[arg(requires = "layers", group = "spend")]
    count_of: Option<Budget>,
    /// The budgets of a head's rows: uniform, or cotangent (in proportion to the norm of do)
    #[arg(long, value_name = "NAME", requires = "layers", default_value_t)]
    rows: RowBudgets,
    /// Sample dq with the keys less their mean (no softcap)
    #[arg(long, requires = "layers")]
    centred_keys: bool,
    /// Sample each weight less its row's median, and compute the rest exactly (no softcap, no dropout)
    #[arg(long, requires = "layers")]
    remainder: bool,
    /// A factor of each layer's variances [default: 1 each]
    #[arg(long, value_name = "X,...", value_delimiter = ',', requires = "layers")]
    #[arg(allow_negative_numbers = true)]
    layer_weights: Option<Vec<f64>>,
    /// A file for the budgets alone, as JSON: {"c": [[c of a head, ...] of a layer, ...]}
    #[arg(long, value_name = "FILE", requires = "layers")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { problems: paths, target, of, relative_to, rule, sampler, plain, json, .. } =
        arguments;
    let Options { count, count_of, layer_weights, out, .. } = arguments.layers;
    let Options { rows, centred_keys, remainder, .. } = arguments.layers;
    let estimator = Estimator { rows, centred_keys, remainder };
    let refuse = |name, expected: &str, found: String| {
        Err(FileError::new(&paths[0], Error::option(name, expected, found)))
    };
    if (rule, sampler) != (Rule::Paper, Sampler::Bernoulli) {
        let found = format!("{rule} and {sampler}");
        return refuse("rule", "paper and bernoulli with --layers", found);
    }
    let weights = layer_weights.unwrap_or_else(|| vec![1.0; paths.len()]);
    if weights.len() != paths.len() {
        let expected = format!("{}, one for each layer", paths.len());
        return refuse("layer-weights", &expected, weights.len().to_string());
    }
    let spend = match (count, count_of) {
        (Some(count), _) => Spend::Count(count),
        (_, Some(c)) => Spend::CountOf(c),
        _ => Spend::Increase(target.unwrap_or_default()),
    };
    let of = of.unwrap_or(TargetGradients::Sum);
    let target = LayersTarget { spend, of, relative_to, estimator, by_reference: plain };
    let command = arguments.options.settings();
    let progress = spinner("the budgets of the heads");
    let mut layers = Vec::new();
    for (path, weight) in paths.iter().zip(weights) {
        let problem = ProblemFile::read(path, command.clone())?.problem;
        layers.push(LayerProblem { name: path.display().to_string(), problem, weight });
    }
    let found = allocate(layers, &target).map_err(|e| FileError::new(&paths[0], e))?;
    progress.finish_and_clear();
    let mut text = if json { format!("{:#}\n", found.to_json()) } else { found.to_text() };
    if let Some(out) = out {
        let content = format!("{:#}\n", found.to_file());
        write_atomically(&out, content.as_bytes()).map_err(|e| FileError::new(&out, e))?;
        if !json {
            let _ = writeln!(text, "wrote      {}", out.display());
        }
    }
    Ok(text)
}
