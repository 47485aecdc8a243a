//! Error over bound of every run of a kill matrix, as SVG.

use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use plotters::style::BLACK;
use sus_mutants::matrix::{Cell, Matrix};
use sus_verdict::Outcome;

/// Bins per factor of ten.
const PER_DECADE: usize = 4;

/// The decades of the histogram; runs outside stand in its first and its last bin.
const DECADES: std::ops::Range<i32> = -2..7;

/// Whether a run belongs to a group, given whether its kernel is a mutant.
type Belongs<'a> = &'a dyn Fn(bool, &Cell) -> bool;

/// A histogram of the largest `|err| / bound` of each run, for controls, for mutants that fail, and for mutants that
/// change the results and pass.
///
/// Runs below 1e-2 stand in the first bin; those above 1e6, and infinities, in the last.
///
/// # Examples
/// ```
/// use sus_mutants::{kernels, matrix::Matrix};
/// let matrix = Matrix::run(kernels(), &[sus_corpus::named("primes").unwrap()], &["f32"])?;
/// assert!(sus_charts::kill_matrix(&matrix).starts_with("<svg"));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn kill_matrix(matrix: &Matrix) -> String {
    let groups: [(&str, Belongs<'_>); 3] = [
        ("right kernels", &|is_mutant, _| !is_mutant),
        ("wrong, shows, FAIL", &|is_mutant, cell| {
            is_mutant && cell.visible && cell.outcome == Outcome::Fail
        }),
        ("wrong, shows, PASS", &|is_mutant, cell| {
            is_mutant && cell.visible && cell.outcome == Outcome::Pass
        }),
    ];
    let colours = [COLOURS[0], COLOURS[1], COLOURS[3]];
    let mut series = Vec::new();
    for ((name, belongs), colour) in groups.into_iter().zip(colours) {
        let runs = matrix.kernels.iter().flat_map(|kernel| {
            matrix.row(kernel).filter(|(_, cell)| belongs(kernel.is_mutant, cell))
        });
        let used: Vec<f64> = runs.map(|(_, cell)| cell.used).collect();
        let name = format!("{name}: {}", used.len());
        series.push(Series { name, colour, stroke: Stroke::Solid, points: steps(&used) });
    }
    let most = series.iter().flat_map(|s| &s.points).fold(1.0, |m: f64, point| m.max(point.1));
    series.push(Series {
        name: "the bound".into(),
        colour: BLACK,
        stroke: Stroke::Limit,
        points: vec![(1.0, FLOOR), (1.0, most)],
    });
    let ends = [edge(0), edge(bins())];
    let ticks: Vec<f64> = DECADES.map(|n| libm::pow(10.0, n.into())).collect();
    let chart = Chart {
        title: "error over bound of every run of the gallery".into(),
        x: (
            "largest |err| / bound of a run".into(),
            Axis::log(ends.into_iter()).with_ticks(&ticks),
        ),
        y: ("runs".into(), Axis::log([FLOOR, most].into_iter())),
        series,
    };
    chart.to_svg()
}
/// An empty bin, on the logarithmic axis.
const FLOOR: f64 = 0.7;

fn bins() -> usize {
    DECADES.len() * PER_DECADE
}

/// The lower edge of a bin.
fn edge(bin: usize) -> f64 {
    libm::pow(10.0, f64::from(DECADES.start) + bin as f64 / PER_DECADE as f64)
}

/// The outline of the histogram.
fn steps(used: &[f64]) -> Vec<(f64, f64)> {
    let mut count = vec![0_u32; bins()];
    for &used in used {
        let bin = (0..bins()).rev().find(|&bin| used >= edge(bin)).unwrap_or(0);
        count[bin] += 1;
    }
    let height = |count: u32| f64::from(count).max(FLOOR);
    let steps = count
        .iter()
        .enumerate()
        .flat_map(|(bin, &count)| [(edge(bin), height(count)), (edge(bin + 1), height(count))]);
    steps.collect()
}
