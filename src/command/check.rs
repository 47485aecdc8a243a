//! `sus-oracle check`: the verdict on somebody else's results.

use crate::command::merge;
use crate::command::options::{DrawOptions, ProblemOptions};
use crate::command::terminal::Watched;
use clap::{Args, ValueEnum};
use std::ops::Range;
use std::path::{Path, PathBuf};
use sus_oracle::TensorName;
use sus_oracle::bounds::Mode;
use sus_oracle::evaluation::visible_count;
use sus_oracle::explain::{PartRequest, Request, assess, assess_part};
use sus_oracle::files::tensor_file::{expect_writable, write_atomically};
use sus_oracle::files::{FileError, Padding, Pass, Settings};
use sus_oracle::verdict::report::{json, junit, text};
use sus_oracle::verdict::{Case, Reference, part};

/// Judge a kernel's results: PASS, FAIL, REFUSED or INCONCLUSIVE
///
/// CASE is a fixture or any problem file; expected values that it lacks are computed. CANDIDATE is a safetensors file with
/// dq, dk, dv and, if the kernel has them, o, lse, dbias, dsink, dslopes, dkv, in F16, BF16, F32 or F64; for SUS also its mask, as CSR or
/// dense, and nnz. One more leading axis means many runs: each is judged by itself if the pass is dense, or by its seed if
/// the case names one, else all are judged by the distribution of the mask. Runs may hold projections in place of gradients (see `projections`).
#[derive(Args)]
#[command(after_help = "\
A first example, a wrong kernel that comes with the source. It prints a diagnosis and exits with 1:
  sus-oracle check fixtures/broken/case.safetensors fixtures/broken/candidate.safetensors

Examples:
  sus-oracle check problem.safetensors mine.safetensors --recipe flash-bf16 --html report.html
  sus-oracle check problem.safetensors mine.safetensors --plot errors.svg
  sus-oracle check problem.safetensors mine.safetensors --c 30 --seed 7 --mode given
  sus-oracle check problem.safetensors mine.safetensors --recipe mine.toml --json
  sus-oracle check problem.safetensors runs-0.safetensors runs-1.safetensors --c 30

Recipes (how a kernel rounds): f64, f32, tf32, flash-bf16, flash-f16, eager-bf16, eager-f16,
flash-bf16-repeated, flash-f16-repeated, f32-repeated, flash-fp8; or a TOML file with base = \"flash-bf16\"
and the keys in which the kernel differs.
Exit codes: 0 PASS, 1 FAIL, 2 bad input or usage, 3 REFUSED, 4 INCONCLUSIVE.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub(crate) struct Arguments {
    /// The problem or fixture, a safetensors file
    case: PathBuf,
    /// The kernel's results, a safetensors file; several files are runs, or the shards of many runs, in their order
    #[arg(required = true)]
    candidate: Vec<PathBuf>,
    /// A recipe, which says how the kernel rounds [default: by the candidate's dtype; flash-fp8 where an operand has 8 bits]
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// The o and lse that the gradients are judged by: exact computes them, given takes the candidate's
    #[arg(long, default_value = "exact")]
    mode: ModeName,
    /// Judge many runs by the distribution of the mask alone, even if the case names a seed
    #[arg(long)]
    law: bool,
    /// What several runs of a kernel have to be: each within its bounds, or all equal in every bit as well
    #[arg(long, value_name = "RULE", default_value = "bounds")]
    repeat: Repeat,
    /// Judge these results alone, such as dq,dk or, of a forward pass, o,lse; the candidate needs no others
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = result_name)]
    only: Option<Vec<TensorName>>,
    /// What a candidate holds in the padding: zero, or any, which is not judged [default: zero]
    #[arg(long, value_name = "WHAT")]
    padding: Option<Padding>,
    /// Use all weights instead of a sample
    #[arg(
        long,
        conflicts_with_all = ["c", "rule", "sampler", "seed", "stream", "layout", "uniform_bits"]
    )]
    dense: bool,
    /// Compute the reference in double-double at any size, in place of blocked f64 for large problems
    #[arg(long)]
    plain: bool,
    /// Judge these query heads alone, such as 0,3 or 0..4, in every sequence, with the heads that share their keys
    #[arg(long, value_name = "LIST", value_parser = ranges, help_heading = "Part")]
    heads: Option<Ranges>,
    /// Judge o, lse and dq of these rows alone, such as 0..64,1000 (64 is not included)
    #[arg(long, value_name = "RANGE[,..]", value_parser = ranges, help_heading = "Part")]
    rows: Option<Ranges>,
    /// Judge dk and dv of these keys alone
    #[arg(long, value_name = "RANGE[,..]", value_parser = ranges, help_heading = "Part")]
    keys: Option<Ranges>,
    /// Judge N rows and N keys, drawn by the problem's numbers, of the heads given or of one that is drawn
    #[arg(long, value_name = "N", help_heading = "Part",
        value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Draw the sample by this number
    #[arg(long, value_name = "SEED", help_heading = "Part", requires = "sample")]
    sample_seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write `JUnit` XML
    #[arg(long, value_name = "FILE", help = "Also write JUnit XML")]
    junit: Option<PathBuf>,
    /// Also write an SVG chart of the errors, by query and by key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["heads", "rows", "keys", "sample"])]
    plot: Option<PathBuf>,
    /// Also write the report as one page of HTML, with maps of the errors; it needs no network and no script
    #[arg(long, value_name = "FILE", conflicts_with_all = ["heads", "rows", "keys", "sample"])]
    html: Option<PathBuf>,
    #[command(flatten)]
    options: ProblemOptions,
    #[command(flatten)]
    draw: DrawOptions,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ModeName {
    Exact,
    Given,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Repeat {
    Bounds,
    Bitwise,
}

/// Ascending ranges of numbers.
#[derive(Clone)]
struct Ranges(Vec<Range<usize>>);

fn ranges(text: &str) -> Result<Ranges, String> {
    part::ranges::parse(text).map(Ranges)
}

/// The part that is judged; `None` is everything.
fn part_of(arguments: &Arguments) -> Option<PartRequest> {
    let ranges = |of: &Option<Ranges>| of.as_ref().map(|Ranges(ranges)| ranges.clone());
    let selection = part::Selection {
        heads: ranges(&arguments.heads),
        rows: ranges(&arguments.rows),
        keys: ranges(&arguments.keys),
    };
    let sample = arguments.sample.map(|count| count as usize);
    let asked = sample.is_some() || selection != part::Selection::default();
    let (sample_seed, command) = (arguments.sample_seed, again());
    asked.then_some(PartRequest { selection, sample, sample_seed, command })
}

/// The name of a result.
fn result_name(name: &str) -> Result<TensorName, &'static str> {
    let expected = "expected results: o, lse, dq, dk, dv, dbias, dsink, dslopes or dkv";
    name.parse().ok().filter(|name: &TensorName| name.is_result()).ok_or(expected)
}

/// The case, of which `only` these results are judged.
fn read_case(
    path: &Path,
    command: Settings,
    only: Option<Vec<TensorName>>,
) -> Result<Case, FileError> {
    let mut case = Case::read(path, command)?;
    if only.is_some() {
        case.settings.gradients = only;
    }
    case.expect_results().map_err(|e| FileError::new(path, e))?;
    Ok(case)
}

pub(crate) fn run(arguments: Arguments) -> Result<(String, u8), FileError> {
    let part = part_of(&arguments);
    let Arguments { case: path, candidate: paths, dense, only, padding, options, draw, .. } =
        arguments;
    let mut command = draw.add_to(options.settings());
    if dense {
        command.pass = Some(Pass::Dense);
    }
    let case = read_case(&path, command.with_padding(padding), only)?;
    let candidate = merge::read_candidate(&case, &paths)?;
    for path in arguments.junit.iter().chain(&arguments.plot).chain(&arguments.html) {
        expect_writable(path).map_err(|e| FileError::new(path, e))?;
    }
    let entries = visible_count(&case.problem) as f64;
    let progress = Watched::new(format!("{entries:.1e} entries"));
    let request = Request {
        label: &paths[0],
        recipe: arguments.recipe.as_deref(),
        mode: match arguments.mode {
            ModeName::Exact => Mode::Exact,
            ModeName::Given => Mode::Given,
        },
        reference: if arguments.plain { Reference::DoubleDouble } else { Reference::Auto },
        law: arguments.law,
        bitwise: arguments.repeat == Repeat::Bitwise,
    };
    if let Some(part) = part {
        let document = assess_part(case, &candidate, &request, &part, &progress)?;
        progress.finish();
        if let Some(path) = &arguments.junit {
            let said = part::junit(&document);
            write_atomically(path, said.as_bytes()).map_err(|e| FileError::new(path, e))?;
        }
        let said = if arguments.json { document.json() } else { part::text(&document) };
        return Ok((said, document.exit_code()));
    }
    let assessment = assess(case, &candidate, &request, &progress)?;
    progress.finish();
    let label = match &paths[..] {
        [path] => path.display().to_string(),
        [first, rest @ ..] => format!("{} and {} more files", first.display(), rest.len()),
        [] => String::new(),
    };
    let (verdict, report) = (&assessment.verdict, assessment.report(label, again()));
    if let Some(path) = &arguments.junit {
        write_atomically(path, junit(&report).as_bytes()).map_err(|e| FileError::new(path, e))?;
    }
    if let Some(path) = &arguments.plot {
        write_atomically(path, sus_charts::errors(verdict).as_bytes())
            .map_err(|e| FileError::new(path, e))?;
    }
    if let Some(path) = &arguments.html {
        let page = sus_report::page(&report, &assessment.case, &assessment.recipe);
        write_atomically(path, page.as_bytes()).map_err(|e| FileError::new(path, e))?;
    }
    let said = if arguments.json { json(&report) } else { text(&report) };
    Ok((said, verdict.outcome.exit_code()))
}

/// The command line, quoted for a shell.
fn again() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    let quote = |word: String| {
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = std::env::args_os().skip(1).map(|word| quote(word.to_string_lossy().into_owned()));
    std::iter::once("sus-oracle".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
