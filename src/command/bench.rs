//! `sus-oracle bench`: time and memory of the passes, beside the machine's roofline.

mod verdict;

use crate::command::allocator::Counted;
use crate::command::terminal::spinner;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use sus_bench::{BenchPlan, Dtype, Shape, Workload, run as measure};
use sus_oracle::Error;
use sus_oracle::bounds::Format;
use sus_oracle::fast::Dispatch;
use sus_oracle::files::FileError;
use sus_oracle::sus::Budget;

/// Measure time and memory of the passes: forward, forward with sampling, dense and sparse backward
///
/// Numbers are random, of shape [BATCH, HEADS, N, FEATURES]. The same run measures the machine's roofline: its rate of
/// multiply-adds and of gathered rows.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle bench --n 1024,4096 --dtype f64
  sus-oracle bench --pattern local --causal --threads 2 --out bench-local
  sus-oracle bench --batch 2 --heads 16 --n 512 --instructions avx2
  sus-oracle bench --verdict --n 1024 --dtype bf16,f32 --threads 1

Times are meaningful only on an otherwise idle machine.")]
pub(crate) struct Arguments {
    /// Numbers of queries and keys
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1024, 2048, 4096, 8192, 16384, 32768])]
    n: Vec<u32>,
    /// Expected kept entries per row
    #[arg(long, default_value = "30", value_parser = budget, allow_negative_numbers = true)]
    c: Budget,
    /// Arithmetic: f64, f32; with --verdict the format of the results: f32, bf16
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', default_value = "f64,f32")]
    dtype: Vec<Arithmetic>,
    /// Which keys have the large weights: random, local; or blocks: one block of 128 in twenty may be seen
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "random")]
    pattern: Vec<Workload>,
    /// Queries see earlier keys only
    #[arg(long)]
    causal: bool,
    /// Repetitions of each measurement, fewer for slow ones
    #[arg(long, default_value_t = 5)]
    repetitions: u16,
    /// Measure check instead: a PASS and three FAILs, alternating, and their ratios, of a causal problem [1, HEADS, N, 64]
    #[arg(long, conflicts_with_all = ["c", "pattern", "causal", "out", "json"])]
    verdict: bool,
    /// Sequences
    #[arg(long, value_name = "BATCH", default_value_t = 1, conflicts_with = "verdict",
        value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Heads [default: 1; with --verdict 8]
    #[arg(long, value_name = "HEADS", value_parser = clap::value_parser!(u16).range(1..))]
    heads: Option<u16>,
    /// Features of queries, keys and values
    #[arg(long, value_name = "FEATURES", default_value_t = 64, conflicts_with = "verdict",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    features: u16,
    /// Instructions of the kernels: native (the widest that this machine has), avx2, portable
    #[arg(long, value_name = "NAME", default_value = "native", conflicts_with = "verdict")]
    instructions: Instructions,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A folder for bench.json and bench.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arithmetic {
    F64,
    F32,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Instructions {
    Native,
    Avx2,
    Portable,
}

impl From<Instructions> for Dispatch {
    fn from(name: Instructions) -> Self {
        match name {
            Instructions::Native => Dispatch::Native,
            Instructions::Avx2 => Dispatch::Avx2,
            Instructions::Portable => Dispatch::Portable,
        }
    }
}

fn budget(text: &str) -> Result<Budget, Error> {
    let c = text.parse().map_err(|_| Error::option("c", "a number above 0", text))?;
    Budget::new(c)
}

pub(crate) fn run(arguments: Arguments) -> Result<String, FileError> {
    let Arguments { n, c, dtype, pattern, causal, repetitions, verdict, json, out, .. } = arguments;
    let Arguments { batch, heads, features, instructions, .. } = arguments;
    let command = Path::new("bench");
    let refuse = |name, expected: &str, found: String| {
        Err(FileError::new(command, Error::option(name, expected, found)))
    };
    if n.contains(&0) {
        return refuse("n", "numbers above 0", "0".into());
    }
    if c.get() > 1e6 {
        return refuse("c", "a number up to 1e6", c.get().to_string());
    }
    if verdict {
        let formats = dtype.into_iter().filter_map(|dtype| match dtype {
            Arithmetic::F64 => None,
            Arithmetic::F32 => Some(("f32", Format::F32)),
            Arithmetic::Bf16 => Some(("bf16", Format::Bf16)),
        });
        let sizes: Vec<usize> = n.into_iter().map(|n| n as usize).collect();
        return verdict::run(
            heads.unwrap_or(8).into(),
            &sizes,
            &formats.collect::<Vec<_>>(),
            repetitions.into(),
        );
    }
    if dtype.iter().any(|dtype| matches!(dtype, Arithmetic::Bf16)) {
        return refuse("dtype", "f64 or f32", "bf16".into());
    }
    let dispatch = Dispatch::from(instructions);
    if dispatch == Dispatch::Avx2 && dispatch.instructions() != "avx2" {
        return refuse("instructions", "those of this machine", "avx2".into());
    }
    let shape = |n| Shape {
        batch: batch.into(),
        heads: heads.unwrap_or(1).into(),
        n: n as usize,
        features: features.into(),
    };
    let plan = BenchPlan {
        shapes: n.into_iter().map(shape).collect(),
        dispatch,
        c,
        dtypes: dtype
            .into_iter()
            .map(|dtype| match dtype {
                Arithmetic::F64 => Dtype::F64,
                Arithmetic::F32 | Arithmetic::Bf16 => Dtype::F32,
            })
            .collect(),
        patterns: pattern,
        causal,
        repetitions: repetitions.into(),
    };
    let progress = spinner("benchmark");
    let report = measure(&plan, &Counted, |stage| progress.set_message(stage))
        .map_err(|error| FileError::new(command, error))?;
    progress.finish_and_clear();
    let text = serde_json::to_string(&report)
        .map_err(|error| FileError::new(command, std::io::Error::other(error)))?;
    if let Some(folder) = out {
        std::fs::create_dir_all(&folder).map_err(|error| FileError::new(&folder, error))?;
        let plot = sus_charts::passes(&report);
        for (name, content) in [("bench.json", &text), ("bench.svg", &plot)] {
            let path = folder.join(name);
            std::fs::write(&path, content).map_err(|error| FileError::new(&path, error))?;
        }
    }
    Ok(if json { format!("{text}\n") } else { report.table() })
}
