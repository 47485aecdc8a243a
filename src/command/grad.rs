//! `sus-oracle grad`: gradients of a problem file, dense or SUS.

use crate::command::options::{DrawOptions, ProblemOptions};
use crate::command::terminal::spinner;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sus_oracle::evaluation::{KeptCounts, relative_errors, visible_count};
use sus_oracle::fast::{Backends, Evaluated, Passes};
use sus_oracle::files::gradient_file::{Stored, to_tensors};
use sus_oracle::files::{FileError, Pass, ProblemFile, Settings, TensorFile};
use sus_oracle::problem::Problem;
use sus_oracle::scalar::{Dd, Scalar};
use sus_oracle::sus::Draw;
use sus_oracle::{Error, TensorName, error};

/// Gradients of an attention problem: o, lse, dq, dk, dv (dbias, dsink) and, for SUS, the mask
///
/// Reads q [B,Hq,Nq,D], k [B,Hk,Nk,D], v [B,Hk,Nk,E] and do [B,Hq,Nq,E] (optional: dlse [B,Hq,Nq], bias
/// [B|1,Hq|1,Nq|1,Nk], sink [Hq]) from a safetensors file, in F64, F32, F16 or BF16, and writes the results in F64.
/// Options may also stand in the file, as JSON in the metadata entry `sus_oracle`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle grad fixtures/real/layer2.safetensors --c 30 --out sus.safetensors
  sus-oracle grad fixtures/real/layer2.safetensors --dense --out dense.safetensors
  sus-oracle grad problem.safetensors --softcap 50 --sampler systematic --seed 7 --out sus.safetensors

The output is a legal candidate: keep it beside your kernel's and compare.")]
pub(crate) struct Arguments {
    /// The problem, a safetensors file
    problem: PathBuf,
    /// Where the results go, whole or not at all
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// All weights instead of a sample
    #[arg(
        long,
        conflicts_with_all = ["c", "rule", "sampler", "seed", "stream", "layout", "uniform_bits"]
    )]
    dense: bool,
    /// Arithmetic: dd has about 106 bits [default: dd where that is quick, else f64]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Arithmetic>,
    /// Compute the forward pass, or take the o and lse that the file holds
    #[arg(long, default_value = "exact")]
    mode: Mode,
    /// The definition, instead of the faster kernels that f64 and f32 have
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

/// Multiply-adds of one pass up to which double-double arithmetic takes well under a second.
const QUICK_IN_DD: u64 = 1 << 22;

/// Visible entries up to which a SUS run also computes the dense gradients, to tell its error.
const COMPARED_ENTRIES: u64 = 1 << 26;

/// A run and how long its parts took.
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
    let arithmetic = dtype.unwrap_or_else(|| quick_arithmetic(&input.problem));
    let settings = resolved(&input.settings, draw.as_ref());
    let problem = &input.problem;
    let draw_ref = draw.as_ref();
    let run = match (arithmetic, plain) {
        (Arithmetic::F64, false) => {
            compute(&Passes::<f64>::fast(), problem, given, draw_ref, &settings, Stored::F64)
        }
        (Arithmetic::F64, true) => compute(
            &Passes::<f64>::reference_requested(),
            problem,
            given,
            draw_ref,
            &settings,
            Stored::F64,
        ),
        (Arithmetic::F32, false) => {
            compute(&Passes::<f32>::fast(), problem, given, draw_ref, &settings, Stored::F32)
        }
        (Arithmetic::F32, true) => compute(
            &Passes::<f32>::reference_requested(),
            problem,
            given,
            draw_ref,
            &settings,
            Stored::F32,
        ),
        (Arithmetic::Dd, _) => {
            compute(&Passes::<Dd>::reference(), problem, given, draw_ref, &settings, Stored::F64)
        }
    }
    .map_err(in_file)?;
    run.file.write(&out)?;
    let report = Report { path: &path, out: &out, input: &input, draw, arithmetic, run };
    Ok(if json { report.json() } else { report.text() })
}

/// Bad news about the output comes before the work.
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

fn quick_arithmetic(problem: &Problem<f64>) -> Arithmetic {
    let sizes = problem.sizes();
    let features = (sizes.features + sizes.value_features) as u64;
    if visible_count(problem).saturating_mul(features) <= QUICK_IN_DD {
        Arithmetic::Dd
    } else {
        Arithmetic::F64
    }
}

/// The settings with every default of the draw spelled out.
fn resolved(settings: &Settings, draw: Option<&Draw>) -> Settings {
    let settings = settings.clone();
    match draw {
        None => settings.without_draw().with_pass(Pass::Dense),
        Some(draw) => settings
            .with_pass(Pass::Sus)
            .with_c(draw.c)
            .with_rule(draw.rule)
            .with_sampler(draw.sampler)
            .with_seed(draw.seed)
            .with_stream(draw.stream)
            .with_layout(draw.layout)
            .with_uniform_bits(draw.bits),
    }
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
    let file = to_tensors(&evaluation, settings, stored)?;
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

/// What is printed of a run.
struct Report<'a> {
    path: &'a Path,
    out: &'a Path,
    input: &'a ProblemFile,
    draw: Option<Draw>,
    arithmetic: Arithmetic,
    run: Run,
}

impl Report<'_> {
    fn arithmetic(&self) -> &'static str {
        match self.arithmetic {
            Arithmetic::F64 => "f64",
            Arithmetic::F32 => "f32",
            Arithmetic::Dd => "double-double",
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, said: String| {
            let _ = writeln!(text, "{label:<10} {said}");
        };
        let inputs = self.input.problem.inputs();
        let run = &self.run;
        line("problem", format!("{} ({})", self.path.display(), self.input.dtype));
        line(
            "shapes",
            format!("q {:?}  k {:?}  v {:?}", inputs.q.shape(), inputs.k.shape(), inputs.v.shape()),
        );
        line("settings", self.run.file.metadata.clone().unwrap_or_default());
        if let (Some(draw), Some(kept)) = (self.draw, run.kept) {
            let per_row = |n: f64| n / (kept.rows.max(1)) as f64;
            line(
                "kept",
                format!(
                    "{:.2} of {:.1} visible keys per row ({:.2} %), expected {:.2}; c = {}",
                    per_row(kept.kept as f64),
                    per_row(kept.visible as f64),
                    100.0 * kept.kept as f64 / (kept.visible.max(1)) as f64,
                    per_row(kept.expected),
                    draw.c.get()
                ),
            );
            line(
                "",
                format!(
                    "fullest row {}, largest expected count {:.2}",
                    kept.most, kept.most_expected
                ),
            );
        }
        if let Some(errors) = &run.errors {
            let errors: Vec<String> =
                errors.iter().map(|(name, error)| format!("{name} {error:.3e}")).collect();
            line("one draw", format!("|SUS - dense| / |dense|:  {}", errors.join("  ")));
        }
        let dense = run.dense_seconds.map_or(String::new(), |seconds| {
            format!("; dense backward, for comparison, {seconds:.3} s")
        });
        let pass = if self.draw.is_some() {
            "forward, mask, SUS backward"
        } else {
            "forward, dense backward"
        };
        line("time", format!("{pass} in {}: {:.3} s{dense}", self.arithmetic(), run.seconds));
        line("path", run.paths.to_string());
        let names: Vec<&str> = run.file.arrays.keys().map(String::as_str).collect();
        line("wrote", format!("{}: {}", self.out.display(), names.join(" ")));
        text
    }

    fn json(&self) -> String {
        let sizes = self.input.problem.sizes();
        let run = &self.run;
        let settings: Value = run
            .file
            .metadata
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null);
        let kept = run.kept.map(|kept| {
            json!({
                "rows": kept.rows, "visible": kept.visible, "kept": kept.kept, "max": kept.most,
                "expected": kept.expected, "max_expected": kept.most_expected,
            })
        });
        let errors = run.errors.as_ref().map(|errors| {
            errors.iter().map(|&(name, x)| (name.to_string(), json!(x))).collect::<Map<_, _>>()
        });
        let report = json!({
            "spec": "sus-oracle-grad/1",
            "problem": self.path.display().to_string(),
            "sizes": {
                "B": sizes.batch, "Hq": sizes.query_heads, "Hk": sizes.key_heads,
                "Nq": sizes.queries, "Nk": sizes.keys,
                "D": sizes.features, "E": sizes.value_features,
            },
            "settings": settings,
            "arithmetic": self.arithmetic(),
            "paths": {
                "forward": run.paths.forward.map(|path| path.to_string()),
                "mask": run.paths.mask.map(|path| path.to_string()),
                "backward": run.paths.backward.to_string(),
            },
            "kept": kept,
            "relative_error_of_one_draw": errors,
            "seconds": { "evaluation": run.seconds, "dense_backward": run.dense_seconds },
            "out": self.out.display().to_string(),
            "tensors": run.file.arrays.keys().collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }
}
