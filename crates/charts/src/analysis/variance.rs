//! The mask variance against the budget.

use super::Picture;
use crate::axis::Axis;
use crate::chart::{COLOURS, Chart, Series, Stroke};
use sus_analysis::{Analysis, PerGradient, Totals};
use sus_reference::sus::{Rule, Sampler};

/// The distributions shown, with their strokes.
const SHOWN: [(Rule, Sampler, Stroke); 3] = [
    (Rule::Paper, Sampler::Bernoulli, Stroke::Solid),
    (Rule::Calibrated, Sampler::Bernoulli, Stroke::Dashed),
    (Rule::Calibrated, Sampler::Systematic, Stroke::Dotted),
];

pub(super) fn plots(analysis: &Analysis) -> Vec<Picture> {
    let norms = analysis.gradients.as_ref().map(|spread| spread.squared_norm(None)).into_array();
    let norm = chart(analysis, "mask variance / squared norm", |total| {
        let variance = total.variance.into_array();
        [0, 1, 2].map(|n| (norms[n] > 0.0).then(|| variance[n] / norms[n]))
    });
    let increase = chart(analysis, "relative variance increase", |total| {
        let relative = analysis.relative_increase(total.variance, None);
        relative.map_or([None; 3], PerGradient::into_array)
    });
    let named = [("variance.svg", norm), ("increase.svg", increase)];
    named
        .into_iter()
        .filter_map(|(file, chart)| Some(Picture { file, svg: chart?.to_svg() }))
        .collect()
}

/// The chart of one quantity, or none if it is nowhere positive.
fn chart(
    analysis: &Analysis,
    quantity: &str,
    of: impl Fn(&Totals) -> [Option<f64>; 3],
) -> Option<Chart> {
    let mut series = Vec::new();
    for (n, gradient) in ["dq", "dk", "dv"].into_iter().enumerate() {
        for (rule, sampler, stroke) in SHOWN {
            let points: Vec<(f64, f64)> = analysis
                .settings
                .iter()
                .enumerate()
                .filter(|(_, setting)| setting.rule == rule && setting.sampler == sampler)
                .filter_map(|(at, setting)| Some((setting.c.get(), of(&analysis.total(at))[n]?)))
                .filter(|&(c, y)| c.is_finite() && y > 0.0)
                .collect();
            if !points.is_empty() {
                let name = format!("{gradient}: {rule}, {sampler}");
                series.push(Series { name, colour: COLOURS[n], stroke, points });
            }
        }
    }
    let points = || series.iter().flat_map(|series| &series.points);
    points().next()?;
    let mut ticks: Vec<f64> = points().map(|&(c, _)| c).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut x = Axis::log(ticks.iter().copied());
    if ticks.len() <= 8 {
        x = x.with_ticks(&ticks);
    }
    let y = Axis::log(points().map(|&(_, y)| y));
    Some(Chart {
        title: format!("{quantity}, exact"),
        x: ("budget c, kept entries per row".into(), x),
        y: (quantity.into(), y),
        series,
    })
}
