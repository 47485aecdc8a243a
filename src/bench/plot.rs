//! The times over `n` on logarithmic axes, as SVG.

use super::report::{Report, Timing};
use plotters::prelude::*;
use std::collections::BTreeMap;

/// The plot of a report: one line per pass, arithmetic and pattern.
///
/// # Errors
/// The plotting library's, in words.
pub fn svg(report: &Report) -> Result<String, String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let range = |of: fn(&Timing) -> f64, margin: f64| {
        let values = || report.rows.iter().map(of);
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        (least / margin)..(most * margin)
    };
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &report.rows {
        let label = format!("{} {} {}", row.op, row.dtype, row.pattern);
        lines.entry(label).or_default().push((row.n as f64, row.seconds));
    }
    let area = SVGBackend::with_string(text, (900, 600)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            range(|row| row.n as f64, 1.1).log_scale(),
            range(|row| row.seconds, 1.5).log_scale(),
        )?;
    chart.configure_mesh().x_desc("queries and keys n").y_desc("seconds").draw()?;
    for (at, (label, points)) in lines.into_iter().enumerate() {
        let color = Palette99::pick(at).to_rgba();
        let dots = points.clone();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        chart.draw_series(dots.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
