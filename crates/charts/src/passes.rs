//! The times of a benchmark over `n`, on logarithmic axes, as SVG.

use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use sus_bench::{BenchReport, Timing, Workload};

/// The plot of a report: a colour for each pass, a stroke for each arithmetic and pattern.
///
/// # Examples
/// ```
/// use sus_bench::{BenchReport, Ceilings, Op, Shape, Timing, Workload};
/// let timing = |n: usize| Timing {
///     op: Op::Forward, dtype: "f32".into(), shape: Shape::one_head(n), instructions: "avx2".into(), c: 30.0,
///     pattern: Workload::Random, causal: true, threads: 1, seconds: n as f64 * 1e-3, kept: 0, peak_bytes: None,
/// };
/// let report = BenchReport { spec: String::new(), rows: vec![timing(16), timing(32)], ceilings: Ceilings::default() };
/// let plot = sus_charts::passes(&report);
/// assert!(plot.starts_with("<svg") && plot.contains("forward f32 random"));
/// ```
#[must_use]
pub fn passes(report: &BenchReport) -> String {
    let mut series: Vec<Series> = Vec::new();
    for row in &report.rows {
        let name = format!("{} {} {}", row.op, row.dtype, row.pattern);
        let point = (row.shape.n as f64, row.seconds);
        if let Some(series) = series.iter_mut().find(|series| series.name == name) {
            series.points.push(point);
        } else {
            let colour = COLOURS[row.op as usize];
            series.push(Series { name, colour, stroke: stroke(row), points: vec![point] });
        }
    }
    let axis = |of: fn(&Timing) -> f64| Axis::log(report.rows.iter().map(of));
    let chart = Chart {
        title: "time of a pass".into(),
        x: ("queries and keys n".into(), axis(|row| row.shape.n as f64)),
        y: ("seconds".into(), axis(|row| row.seconds)),
        series,
    };
    chart.to_svg()
}

fn stroke(row: &Timing) -> Stroke {
    match (row.dtype == "f64", row.pattern) {
        (true, Workload::Random) => Stroke::Solid,
        (false, Workload::Random) => Stroke::Dashed,
        (true, Workload::Local | Workload::Blocks) => Stroke::Dotted,
        (false, Workload::Local | Workload::Blocks) => Stroke::Points,
    }
}
