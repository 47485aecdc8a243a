//! `sus-oracle check`: the verdict on somebody else's results.

use crate::options::{DrawOptions, ProblemOptions};
use clap::Args;
use std::path::PathBuf;
use sus_oracle::file::{FileError, Pass, TensorFile};
use sus_oracle::precision::{Mode, Recipe};
use sus_oracle::verdict::{Case, Judge};

/// Whether a kernel's results are right
#[derive(Args)]
pub(crate) struct Arguments {
    /// The problem or fixture
    case: PathBuf,
    /// The kernel's results
    candidate: PathBuf,
    /// All weights instead of a sample
    #[arg(long)]
    dense: bool,
    #[command(flatten)]
    options: ProblemOptions,
    #[command(flatten)]
    draw: DrawOptions,
    #[arg(long)]
    recipe: String,
    #[arg(long)]
    given: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(String, u8), FileError> {
    let Arguments { case: path, candidate, dense, options, draw, recipe, given } = arguments;
    let mut command = draw.add_to(options.settings());
    if dense {
        command.pass = Some(Pass::Dense);
    }
    let case = Case::read(&path, command)?;
    let file = TensorFile::read(&candidate)?;
    let recipe = Recipe::named(&recipe).unwrap();
    let t = std::time::Instant::now();
    let mode = if given { Mode::Given } else { Mode::Exact };
    let judge = Judge::new(&case, &recipe, mode).map_err(|e| FileError::new(&path, e))?;
    let t1 = t.elapsed();
    let verdict = judge.check(&file);
    let mut text = String::new();
    use std::fmt::Write;
    writeln!(text, "{} {:?} {:?}", verdict.outcome.name(), t1, t.elapsed());
    for t in &verdict.tensors {
        let w = t.worst.as_ref().unwrap();
        writeln!(
            text,
            "{:5} {:8} max {:.4} rms {:.5} width {:.4} outside {} wc {:.3} {:?} {:e} {:e} {:e} {:?}",
            t.name,
            t.outcome.name(),
            w.ratio,
            t.rms,
            t.width,
            t.outside,
            w.bound / w.worst_case,
            w.index,
            w.found,
            w.expected,
            w.bound,
            w.stages
                .iter()
                .take(4)
                .map(|s| (s.0.name(), (s.1 * 100.0).round()))
                .collect::<Vec<_>>()
        );
    }
    for t in &verdict.tensors {
        for r in &t.statistics {
            let _ = writeln!(
                text,
                "  {} {:?} all {:.2e}/{:.2e} head {:.2e}/{:.2e} row {:.3}",
                t.name,
                r.statistic,
                r.all.found,
                r.all.limit,
                r.head.1.found,
                r.head.1.limit,
                r.row.1.ratio()
            );
        }
    }
    for f in &verdict.findings {
        writeln!(text, "{:?}", f);
    }
    for f in &verdict.notes {
        writeln!(text, "{:?}", f);
    }
    Ok((text, verdict.outcome.exit_code()))
}
