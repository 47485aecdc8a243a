//! What a benchmark found: rows for machines, a table for people.

use super::{Shape, Workload};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// A measured pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `o` and `lse`.
    Forward,
    /// The same with the mask drawn on the way.
    ForwardSample,
    /// All gradients, all weights.
    DenseBackward,
    /// All gradients, the kept weights.
    SparseBackward,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Op::Forward => "forward",
            Op::ForwardSample => "forward_sample",
            Op::DenseBackward => "dense_backward",
            Op::SparseBackward => "sparse_backward",
        })
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// The pass.
    pub op: Op,
    /// `f64` or `f32`.
    pub dtype: String,
    /// Sequences, heads, queries and features.
    #[serde(flatten)]
    pub shape: Shape,
    /// `avx512`, `avx2`, `neon` or `portable`.
    pub instructions: String,
    /// The budget.
    pub c: f64,
    /// Where the weight lies.
    pub pattern: Workload,
    /// Whether queries see earlier keys only.
    pub causal: bool,
    /// Threads.
    pub threads: usize,
    /// The best time.
    pub seconds: f64,
    /// Kept entries; 0 for a pass without a mask.
    pub kept: usize,
    /// Peak memory allocated above inputs, results and mask, where it is [counted](super::Memory).
    pub peak_bytes: Option<u64>,
}

/// What the machine could do at best, in the same run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ceilings {
    /// Threads.
    pub threads: usize,
    /// By arithmetic, two operations per multiply-add.
    pub multiply_add_flops_per_second: BTreeMap<String, f64>,
    /// Sums of gathered rows.
    pub gather: Vec<Gather>,
}

/// The rate at which the rows that a mask names can be gathered.
#[derive(Debug, Clone, Serialize)]
pub struct Gather {
    /// `f64` or `f32`.
    pub dtype: String,
    /// Sequences, heads, queries and features.
    #[serde(flatten)]
    pub shape: Shape,
    /// Where the weight lies.
    pub pattern: Workload,
    /// Bytes per second, all threads.
    pub bytes_per_second: f64,
}

/// A benchmark.
///
/// # Examples
/// ```
/// use sus_bench::{BenchReport, Ceilings, Op, Shape, Timing, Workload};
/// let timing = |op, seconds| Timing {
///     op, dtype: "f32".into(), shape: Shape::one_head(64), instructions: "avx2".into(), c: 30.0,
///     pattern: Workload::Random, causal: true, threads: 1, seconds, kept: 0, peak_bytes: None,
/// };
/// let rows = vec![timing(Op::DenseBackward, 0.6), timing(Op::SparseBackward, 0.2)];
/// let report = BenchReport { spec: String::new(), rows, ceilings: Ceilings::default() };
/// let sparse = report.table().lines().nth(2).unwrap().to_owned();
/// assert!(sparse.starts_with("sparse_backward") && sparse.contains(" 3.00 ")); // three times as fast
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// `sus-oracle-bench/1`.
    pub spec: String,
    /// The measurements.
    pub rows: Vec<Timing>,
    /// The yardsticks.
    pub ceilings: Ceilings,
}

impl BenchReport {
    /// The same pass on the next smaller problem.
    fn smaller(&self, row: &Timing) -> Option<&Timing> {
        let like = |other: &&Timing| {
            other.op == row.op
                && other.dtype == row.dtype
                && other.pattern == row.pattern
                && other.shape == Shape { n: other.shape.n, ..row.shape }
                && other.shape.n < row.shape.n
        };
        self.rows.iter().filter(like).max_by_key(|other| other.shape.n)
    }

    /// Another pass on the same problem.
    fn other(&self, row: &Timing, op: Op) -> Option<&Timing> {
        self.rows.iter().find(|other| {
            other.op == op
                && other.dtype == row.dtype
                && other.pattern == row.pattern
                && other.shape == row.shape
        })
    }

    /// The time over the one that the ceiling allows: multiply-adds for dense passes, gathered bytes for the sparse one.
    fn over_ceiling(&self, row: &Timing) -> Option<f64> {
        let Shape { batch, heads, n, features } = row.shape;
        let entries = (batch * heads * n * n) as f64 * if row.causal { 0.5 } else { 1.0 };
        let features = features as f64;
        let flops = |products: f64| {
            let rate = self.ceilings.multiply_add_flops_per_second.get(&row.dtype)?;
            Some(2.0 * products * features * entries / rate)
        };
        let least = match row.op {
            Op::Forward | Op::ForwardSample => flops(2.0)?,
            Op::DenseBackward => flops(5.0)?,
            Op::SparseBackward => {
                let same = |g: &&Gather| {
                    g.dtype == row.dtype && g.pattern == row.pattern && g.shape == row.shape
                };
                let rate = self.ceilings.gather.iter().find(same)?.bytes_per_second;
                let size = if row.dtype == "f64" { 8.0 } else { 4.0 };
                4.0 * row.kept as f64 * features * size / rate
            }
        };
        Some(row.seconds / least)
    }

    /// A table for people.
    ///
    /// # Examples
    /// ```
    /// use sus_bench::{BenchReport, Ceilings, Op, Shape, Timing, Workload};
    /// let timing = |n: usize| Timing {
    ///     op: Op::Forward, dtype: "f32".into(), shape: Shape::one_head(n), instructions: "avx2".into(), c: 30.0,
    ///     pattern: Workload::Random, causal: true, threads: 1, seconds: (n * n) as f64 * 1e-6, kept: 0, peak_bytes: None,
    /// };
    /// let report = BenchReport { spec: String::new(), rows: vec![timing(16), timing(32)], ceilings: Ceilings::default() };
    /// let slope = |line: usize| report.table().lines().nth(line).unwrap().split_whitespace().nth(5).unwrap().to_owned();
    /// assert_eq!((slope(1), slope(2)), ("-".into(), "2.00".into())); // the exponent of n since the size before
    /// ```
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<16} {:<5} {:<7} {:>7} {:>10} {:>8} {:>9} {:>9} {:>10} {:>8}",
            "pass",
            "dtype",
            "pattern",
            "n",
            "seconds",
            "slope",
            "ns/kept",
            "x ceiling",
            "ratio",
            "MiB"
        );
        let number = |x: Option<f64>, decimals: usize| {
            x.map_or_else(|| "-".into(), |x| format!("{x:.decimals$}"))
        };
        for row in &self.rows {
            let slope = self.smaller(row).map(|other| {
                libm::log(row.seconds / other.seconds)
                    / libm::log(row.shape.n as f64 / other.shape.n as f64)
            });
            let per_kept = (row.op == Op::SparseBackward && row.kept > 0)
                .then(|| row.seconds * 1e9 / row.kept as f64);
            let ratio = match row.op {
                Op::ForwardSample => self.other(row, Op::Forward).map(|f| row.seconds / f.seconds),
                Op::SparseBackward => {
                    self.other(row, Op::DenseBackward).map(|dense| dense.seconds / row.seconds)
                }
                _ => None,
            };
            let _ = writeln!(
                text,
                "{:<16} {:<5} {:<7} {:>7} {:>10.5} {:>8} {:>9} {:>9} {:>10} {:>8}",
                row.op,
                row.dtype,
                row.pattern,
                row.shape.n,
                row.seconds,
                number(slope, 2),
                number(per_kept, 1),
                number(self.over_ceiling(row), 2),
                number(ratio, 2),
                number(row.peak_bytes.map(|bytes| bytes as f64 / 1_048_576.0), 1),
            );
        }
        let _ = writeln!(
            text,
            "\nratio: forward_sample over forward; dense_backward over sparse_backward"
        );
        let _ = writeln!(
            text,
            "x ceiling: time over that of the multiply-adds alone, or of gathering the kept rows alone, in this run"
        );
        let threads = self.ceilings.threads;
        for (dtype, rate) in &self.ceilings.multiply_add_flops_per_second {
            let _ = writeln!(
                text,
                "multiply-adds, {dtype}, {threads} threads: {:.0} Gflop/s",
                rate / 1e9
            );
        }
        for gather in &self.ceilings.gather {
            let Gather { dtype, shape: Shape { n, .. }, pattern, bytes_per_second } = gather;
            let rate = bytes_per_second / 1e9;
            let _ = writeln!(text, "gather, {dtype}, {pattern}, n = {n}: {rate:.1} GB/s");
        }
        text
    }
}
