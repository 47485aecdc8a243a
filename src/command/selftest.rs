//! `sus-oracle selftest`: the properties of the specification, and the kill matrix.

use super::terminal;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use sus_oracle::explain::coverage::{self, Coverage};
use sus_oracle::files::FileError;
use sus_oracle::files::tensor_file::write_atomically;
use sus_oracle::mutants::fp8::matrix as fp8;
use sus_oracle::mutants::matrix::{Matrix, QUICK, RECIPES};
use sus_oracle::mutants::{cases, kernels};
use sus_properties::PROPERTIES;

/// Check every property of the specification on this machine, and run the kill matrix
///
/// The kill matrix judges simulated kernels: mutants (wrong) and controls (right). Exit code 0 if every property holds, no
/// control is rejected and no mutant passes except those listed in docs/kill-matrix.md; else 1.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle selftest --quick
  sus-oracle selftest --plot ratios.svg")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
pub(crate) struct Arguments {
    /// All properties, but only a few cases of the kill matrix
    #[arg(long)]
    quick: bool,
    /// Print the kill matrix, as in docs/kill-matrix.md
    #[arg(long, conflicts_with_all = ["quick", "gallery"])]
    matrix: bool,
    /// Print the list of mutants and controls, as in docs/gallery.md
    #[arg(long, conflicts_with = "quick")]
    gallery: bool,
    /// Print the kill matrix of kernels of 8 bits and the widths of their bounds, as in docs/fp8.md
    #[arg(long, conflicts_with_all = ["quick", "matrix", "gallery", "json"])]
    fp8: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["matrix", "gallery"])]
    json: bool,
    /// Also write an SVG chart of error over bound, for mutants and controls
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Runs the command: the text to print and the exit code.
pub(crate) fn run(arguments: &Arguments) -> Result<(String, u8), FileError> {
    let _spinner = terminal::spinner("kill matrix");
    if arguments.fp8 {
        return fp8_tables();
    }
    let mut cases = cases::all();
    cases.retain(|case| !arguments.quick || QUICK.contains(&case.name));
    let matrix = Matrix::run(kernels(), &cases, &RECIPES)
        .map_err(|e| FileError::new(Path::new("gallery"), e))?;
    if let Some(path) = &arguments.plot {
        write_atomically(path, sus_charts::kill_matrix(&matrix).as_bytes())
            .map_err(|e| FileError::new(path, e))?;
    }
    if arguments.matrix {
        let explained = Coverage::run(&coverage::CASES, &coverage::RECIPES)
            .map_err(|e| FileError::new(Path::new("gallery"), e))?;
        let text = matrix.markdown() + &explained.markdown();
        return Ok((text, code(matrix.mistakes().is_empty())));
    }
    if arguments.gallery {
        return Ok((matrix.gallery_markdown(), code(matrix.mistakes().is_empty())));
    }
    let results: Vec<_> =
        PROPERTIES.iter().map(|property| (property.name, (property.check)())).collect();
    let mistakes = matrix.mistakes();
    let good = mistakes.is_empty() && results.iter().all(|(_, result)| result.is_ok());
    if arguments.json {
        let laws: Vec<Value> = results
            .iter()
            .map(|(name, result)| match result {
                Ok(found) => json!({ "law": name, "holds": true, "found": found }),
                Err(found) => json!({ "law": name, "holds": false, "found": found }),
            })
            .collect();
        let value =
            json!({ "spec": "sus-oracle-selftest/1", "laws": laws, "matrix": matrix.json() });
        return Ok((format!("{value}\n"), code(good)));
    }
    let mut text = String::new();
    for (name, result) in &results {
        let (word, found) = match result {
            Ok(found) => ("PASS", found),
            Err(found) => ("FAIL", found),
        };
        let _ = writeln!(text, "{word}  {name}: {found}");
    }
    let ours = matrix.ours();
    let word = if mistakes.is_empty() { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "{word}  kill matrix: no wrong run passes but those listed in docs/kill-matrix.md ({} of {}), and {} of {} right runs are rejected",
        ours.passed, ours.judged, ours.rejected, ours.right
    );
    for mistake in &mistakes {
        let _ = writeln!(text, "      {mistake}");
    }
    Ok((text, code(good)))
}

/// The kill matrix of kernels of 8 bits, and the widths of their bounds.
fn fp8_tables() -> Result<(String, u8), FileError> {
    let failed = |e| FileError::new(Path::new("gallery"), e);
    let rows = fp8::matrix().map_err(failed)?;
    let good = rows.iter().all(|row| (row.ours[0] > 0) == row.is_wrong);
    let widths = fp8::widths().map_err(failed)?;
    Ok((format!("{}\n{widths}", fp8::markdown(&rows)), code(good)))
}

/// The exit code.
fn code(good: bool) -> u8 {
    u8::from(!good)
}
