//! `sus-oracle bench --verdict`: the cost of a PASS and of a FAIL.

use std::fmt::Write;
use std::time::Instant;
use sus_oracle::bounds::Format;
use sus_oracle::explain::cost::verdict_costs;
use sus_oracle::files::FileError;

/// A table of times and of ratios to the PASS of the same repetition.
pub(super) fn run(
    heads: usize,
    sizes: &[usize],
    formats: &[(&str, Format)],
    repetitions: usize,
) -> Result<String, FileError> {
    let start = Instant::now();
    let of_process = processor_seconds().is_some();
    let clock = move || processor_seconds().unwrap_or_else(|| start.elapsed().as_secs_f64());
    let what = if of_process { "processor time of all threads" } else { "elapsed time" };
    let mut out = format!("{what}, median of {repetitions}; ratios: median, least and most\n");
    let _ = writeln!(
        out,
        "{:<5} {:>6}  {:<14} {:<13} {:>9}  {:>22}  {:>22}",
        "dtype", "n", "candidate", "verdict", "seconds", "over the PASS", "over the f64 passes"
    );
    for &(name, format) in formats {
        for &n in sizes {
            let (passes, costs) = verdict_costs((heads, n), format, repetitions, &clock)?;
            let Some(right) = costs.first().cloned() else { continue };
            for cost in &costs {
                let _ = writeln!(
                    out,
                    "{name:<5} {n:>6}  {:<14} {:<13} {:>9.3}  {:>22}  {:>22}",
                    cost.candidate,
                    cost.outcome.name(),
                    median(&cost.seconds),
                    ratios(&cost.seconds, &right.seconds),
                    ratios(&cost.seconds, &passes),
                );
            }
        }
    }
    Ok(out)
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The ratios of readings that were made one after the other.
fn ratios(of: &[f64], over: &[f64]) -> String {
    let all: Vec<f64> = of.iter().zip(over).map(|(a, b)| a / b).collect();
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(&all))
}

/// Seconds that the processors have worked for this process; `None` where the system does not say.
fn processor_seconds() -> Option<f64> {
    // Nanoseconds on a processor, of each thread.
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let of = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    let all: Vec<f64> = tasks.filter_map(of).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() * 1e-9)
}
