//! The exact distribution of one row's count, beside draws of it.

use super::Picture;
use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use rayon::prelude::*;
use sus_reference::backward::DenseWeights;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::moments::RowDistribution;
use sus_reference::sus::moments::count::CountDistribution;
use sus_reference::sus::sampler::{bernoulli, row_uniform, systematic};
use sus_reference::sus::uniform::Grid;
use sus_reference::sus::{Budget, Layout, Rule, Sampler, UniformBits, Uniforms};

/// Draws of the histogram: seeds 0, 1, ...
const DRAWS: u64 = 4000;

/// Probabilities below this one are not shown.
const SHOWN: f64 = 2e-4;

/// The chart of the row with the largest count variance under the paper's rule, in the first sequence.
pub(super) fn plot(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    c: Budget,
) -> Result<Option<Picture>, Error> {
    let sizes = problem.sizes();
    if sizes.batch == 0 || sizes.queries == 0 {
        return Ok(None);
    }
    let weights = DenseWeights { problem, saved };
    let w = |row: Row| -> Vec<f64> { problem.span(row).map(|j| weights.at(row, j).w).collect() };
    let distribution =
        |row: Row, sampler| RowDistribution::new(sampler, c.get(), w(row).into_iter());
    let variances: Vec<f64> = (0..sizes.query_heads * sizes.queries)
        .into_par_iter()
        .map(|at| distribution(problem.row(at), Sampler::Bernoulli).count_variance())
        .collect();
    let widest =
        (0..variances.len()).fold(0, |a, b| if variances[b] > variances[a] { b } else { a });
    let row = problem.row(widest);
    let grid = Grid {
        batch: sizes.batch,
        heads: sizes.query_heads,
        queries: sizes.queries,
        keys: sizes.keys,
    };
    let mut series = Vec::new();
    for (n, sampler) in [Sampler::Bernoulli, Sampler::Systematic].into_iter().enumerate() {
        let distribution = distribution(row, sampler);
        let first = problem.span(row).start;
        let draw = |seed| -> Result<usize, Error> {
            let uniforms = Uniforms::new(seed, 0, Layout::Coord4, grid)?;
            Ok(match sampler {
                Sampler::Bernoulli => {
                    let at = [row.b, row.h, row.i];
                    bernoulli(&distribution.q, &uniforms, UniformBits::Bits32, at, first).len()
                }
                Sampler::Systematic => {
                    let u = row_uniform(uniforms.row_word(row.b, row.h, row.i));
                    systematic(&distribution.q, u, c.get()).len()
                }
            })
        };
        let drawn: Vec<usize> =
            (0..DRAWS).into_par_iter().map(draw).collect::<Result<Vec<_>, Error>>()?;
        series.extend(exact_and_drawn(&distribution.count_distribution(), &drawn, sampler, n));
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let (low, high) =
        points().fold((f64::INFINITY, 0.0_f64), |(low, high), &(x, _)| (low.min(x), high.max(x)));
    let chart = Chart {
        title: format!(
            "kept entries of row i = {}, head {}, c = {}, {} rule",
            row.i,
            row.h,
            c.get(),
            Rule::Paper
        ),
        x: ("kept entries".into(), Axis::whole(low - 1.0, high + 1.0)),
        y: ("probability".into(), Axis::log([SHOWN, 1.0].into_iter())),
        series,
    };
    Ok(Some(Picture { file: "counts.svg", svg: chart.to_svg() }))
}

/// The draws as bars and the exact probabilities as points.
fn exact_and_drawn(
    counts: &CountDistribution<f64>,
    drawn: &[usize],
    sampler: Sampler,
    n: usize,
) -> [Series; 2] {
    let most = drawn.iter().copied().max().unwrap_or(0);
    let mut histogram = vec![0_u32; most + 1];
    for &count in drawn {
        histogram[count] += 1;
    }
    let seen = histogram.iter().map(|&seen| f64::from(seen) / drawn.len() as f64);
    let bars = seen.enumerate().filter(|&(_, p)| p > SHOWN).map(|(x, p)| (x as f64, p)).collect();
    let exact = counts.probability.iter().enumerate().filter(|&(_, &p)| p > SHOWN);
    let exact = exact.map(|(x, &p)| ((counts.least + x) as f64, p)).collect();
    let colour = COLOURS[n];
    [
        Series {
            name: format!("{sampler}, {DRAWS} draws"),
            colour,
            stroke: Stroke::Bars,
            points: bars,
        },
        Series {
            name: format!("{sampler}, exact law"),
            colour,
            stroke: Stroke::Points,
            points: exact,
        },
    ]
}
