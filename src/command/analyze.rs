//! `sus-oracle analyze`: the exact variance of budgets, and the entries that they keep.

use crate::command::options::{ProblemOptions, budget};
use crate::command::terminal::spinner;
use clap::Args;
use std::path::{Path, PathBuf};
use sus_charts::analysis as plot;
use sus_oracle::Error;
use sus_oracle::analysis::{Analysis, DEFAULT_BUDGETS, settings};
use sus_oracle::files::tensor_file::write_atomically;
use sus_oracle::files::{FileError, ProblemFile};
use sus_oracle::sus::{Budget, Rule, Sampler};

/// Compute the exact mask variance, kept entries and relative increase of several c, rules and samplers
///
/// Several files, or one file with a batch, are a set of sequences; all have the same shape. The settings of a draw in
/// a file (c, rule, sampler, seed) are ignored: every rule is computed with every sampler. The results are exact
/// expectations; only the charts of a row's count and of a head's weights sample masks.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle analyze fixtures/real/layer2.safetensors
  sus-oracle analyze fixtures/real/sequences.safetensors --c 5,10,30,100 --out analysis")]
pub(crate) struct Arguments {
    /// The problems, safetensors files
    #[arg(required = true, value_name = "PROBLEM")]
    problems: Vec<PathBuf>,
    /// Budgets, each above 0; inf keeps all [default: 5,10,20,30]
    #[arg(long, value_name = "C,...", value_delimiter = ',', value_parser = budget, allow_negative_numbers = true)]
    c: Option<Vec<Budget>>,
    /// Only this rule, paper or calibrated [default: both]
    #[arg(long, value_name = "NAME")]
    rule: Option<Rule>,
    /// Only this sampler, bernoulli or systematic [default: both]
    #[arg(long, value_name = "NAME")]
    sampler: Option<Sampler>,
    /// A folder for analysis.json and the charts; it is created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use the reference implementation in place of the fast kernels
    #[arg(long)]
    plain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ProblemOptions,
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { problems, c, rule, sampler, out, plain, options, json } = arguments;
    if let Some(out) = out.as_deref().filter(|out| out.exists() && !out.is_dir()) {
        let error = Error::option("out", "a folder", "a file");
        return Err(FileError::new(out, error));
    }
    let default = || DEFAULT_BUDGETS.iter().map(|&c| Budget::new(c)).collect();
    let c = c.map_or_else(default, Ok).map_err(|e| FileError::new(&problems[0], e))?;
    let command = options.settings();
    let mut analysis = Analysis::new(settings(&c, rule, sampler));
    if plain {
        analysis = analysis.by_reference();
    }
    let mut plots = Vec::new();
    for (n, path) in problems.iter().enumerate() {
        let progress = spinner("exact moments");
        progress.set_message(format!("exact moments of {}", path.display()));
        let ProblemFile { problem, x, .. } = ProblemFile::read(path, command.clone())?;
        analysis.add(&problem, x.as_ref()).map_err(|e| FileError::new(path, e))?;
        if n == 0 && out.is_some() {
            plots = plot::of_problem(&problem, &c).map_err(|e| FileError::new(path, e))?;
        }
        progress.finish_and_clear();
    }
    let report = format!("{:#}\n", analysis.to_json());
    let mut text = if json { report.clone() } else { analysis.to_table() };
    if let Some(out) = out {
        plots.extend(plot::of_analysis(&analysis));
        let written = write(&out, &report, &plots)?;
        if !json {
            text.push_str(&written);
        }
    }
    Ok(text)
}

/// Writes the report and the plots, each whole or not at all, and names them.
fn write(out: &Path, report: &str, plots: &[plot::Picture]) -> Result<String, FileError> {
    std::fs::create_dir_all(out).map_err(|e| FileError::new(out, e))?;
    let mut files = vec![("analysis.json", report)];
    files.extend(plots.iter().map(|plot| (plot.file, plot.svg.as_str())));
    let mut names = Vec::new();
    for (name, content) in files {
        let path = out.join(name);
        write_atomically(&path, content.as_bytes()).map_err(|e| FileError::new(&path, e))?;
        names.push(name);
    }
    Ok(format!("wrote {}: {}\n", out.display(), names.join(" ")))
}
