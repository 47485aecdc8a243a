//! The kept fraction against the length of a causal sequence.

use super::Picture;
use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use rayon::prelude::*;
use sus_reference::backward::DenseWeights;
use sus_reference::forward::Saved;
use sus_reference::mask::Alignment;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::rule::expected_count;
use sus_reference::sus::{Budget, Rule};

/// The fraction of the visible entries that each budget keeps in the first `n` queries, for every `n`.
///
/// In a causal problem the rows of a prefix are those of the prefix alone. Other problems have no such plot.
pub(super) fn plot(problem: &Problem<f64>, saved: &Saved<f64>, c: &[Budget]) -> Option<Picture> {
    let (sizes, options) = (problem.sizes(), problem.options());
    let square = sizes.queries == sizes.keys || options.alignment == Alignment::TopLeft;
    if !options.causal
        || !square
        || options.segments.is_some()
        || sizes.queries < 2
        || sizes.batch == 0
    {
        return None;
    }
    let rules = [(Rule::Paper, Stroke::Solid), (Rule::Calibrated, Stroke::Dashed)];
    let mut series = Vec::new();
    for (n, &c) in c.iter().filter(|c| c.get().is_finite()).take(COLOURS.len()).enumerate() {
        for (rule, stroke) in rules {
            let points = kept_by_prefix(problem, saved, c, rule);
            let name = format!("c = {}, {rule}", c.get());
            series.push(Series { name, colour: COLOURS[n], stroke, points });
        }
    }
    let points = || series.iter().flat_map(|series| &series.points);
    points().next()?;
    let x = Axis::log(points().map(|&(n, _)| n));
    let y = Axis::log(points().map(|&(_, kept)| kept));
    let chart = Chart {
        title: "kept fraction of the visible entries, exact".into(),
        x: ("n, positions of the prefix".into(), x),
        y: ("expected kept / visible".into(), y),
        series,
    };
    Some(Picture { file: "kept.svg", svg: chart.to_svg() })
}

/// `(n, expected kept entries / visible entries)` of the first `n` queries of all heads, `n` in ratios of about 1.1.
pub(crate) fn kept_by_prefix(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    c: Budget,
    rule: Rule,
) -> Vec<(f64, f64)> {
    let sizes = problem.sizes();
    let weights = DenseWeights { problem, saved };
    let by_query: Vec<(f64, f64)> = (0..sizes.queries)
        .into_par_iter()
        .map(|i| {
            let heads = (0..sizes.batch * sizes.query_heads).map(|head| {
                let row = Row { b: head / sizes.query_heads, h: head % sizes.query_heads, i };
                let w: Vec<f64> = problem.visible(row).map(|j| weights.at(row, j).w).collect();
                (expected_count(rule.lambda(c, &w), &w), w.len() as f64)
            });
            heads.fold((0.0, 0.0), |sum, head| (sum.0 + head.0, sum.1 + head.1))
        })
        .collect();
    let (mut points, mut sum) = (Vec::new(), (0.0, 0.0));
    let mut next = 8;
    for (i, row) in by_query.iter().enumerate() {
        sum = (sum.0 + row.0, sum.1 + row.1);
        if (i + 1 >= next || i + 1 == sizes.queries) && sum.1 > 0.0 {
            points.push(((i + 1) as f64, sum.0 / sum.1));
            next = (next + next / 10).max(next + 1);
        }
    }
    points
}
