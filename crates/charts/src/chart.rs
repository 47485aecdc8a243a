//! One chart: axes, lines, and a legend beside it.

use crate::axis::Axis;
use plotters::coord::ranged1d::Ranged;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that differ in print and for the colour-blind (Okabe and Ito).
pub(crate) const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    Solid,
    Dashed,
    Dotted,
    /// Bars from the axis, one unit wide.
    Bars,
    /// Points without a line.
    Points,
    /// A dashed line without points.
    Limit,
}

/// A named series of points.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: RGBColor,
    pub(crate) stroke: Stroke,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a chart shows.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: (String, Axis),
    pub(crate) y: (String, Axis),
    pub(crate) series: Vec<Series>,
}

const WIDTH: u32 = 760;
const HEIGHT: u32 = 440;
const LEGEND: i32 = 210;
const FONT: &str = "Helvetica, Arial, sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Chart {
    /// The chart as SVG.
    ///
    /// # Panics
    /// Never: drawing into memory cannot fail.
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            self.draw(&area).expect("drawing into memory cannot fail");
        }
        svg
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(WIDTH as i32 - LEGEND);
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, (FONT, 16))
            .margin(10)
            .x_label_area_size(46)
            .y_label_area_size(66)
            .build_cartesian_2d(self.x.1.clone(), self.y.1.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(&self.x.0)
            .y_desc(&self.y.0)
            .axis_desc_style((FONT, 15))
            .label_style((FONT, 13))
            .draw()?;
        let floor = self.y.1.range().start;
        for series in &self.series {
            let points = || series.points.iter().copied();
            let line = series.colour.stroke_width(2);
            match series.stroke {
                Stroke::Solid => {
                    chart.draw_series(LineSeries::new(points(), line))?;
                }
                Stroke::Dashed | Stroke::Limit => {
                    chart.draw_series(DashedLineSeries::new(points(), 7, 4, line))?;
                }
                Stroke::Dotted => {
                    chart.draw_series(DashedLineSeries::new(points(), 2, 3, line))?;
                }
                Stroke::Bars => {
                    let fill = series.colour.mix(0.45).filled();
                    chart
                        .draw_series(points().map(|(x, y)| {
                            Rectangle::new([(x - 0.45, floor), (x + 0.45, y)], fill)
                        }))?;
                }
                Stroke::Points => {}
            }
            if series.stroke == Stroke::Points
                || (series.points.len() <= 12
                    && !matches!(series.stroke, Stroke::Bars | Stroke::Limit))
            {
                chart.draw_series(points().map(|at| Circle::new(at, 3, series.colour.filled())))?;
            }
        }
        self.draw_legend(&right)
    }

    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        let style = TextStyle::from((FONT, 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
        for (n, series) in self.series.iter().enumerate() {
            let y = 50 + 20 * n as i32;
            let ends = [(4, y), (32, y)];
            let line = series.colour.stroke_width(2);
            match series.stroke {
                Stroke::Solid => area.draw(&PathElement::new(ends, line))?,
                Stroke::Dashed | Stroke::Limit => {
                    area.draw(&DashedPathElement::new(ends, 7, 4, line))?;
                }
                Stroke::Dotted => area.draw(&DashedPathElement::new(ends, 2, 3, line))?,
                Stroke::Bars => {
                    let fill = series.colour.mix(0.45).filled();
                    area.draw(&Rectangle::new([(8, y - 5), (28, y + 5)], fill))?;
                }
                Stroke::Points => area.draw(&Circle::new((18, y), 3, series.colour.filled()))?,
            }
            area.draw(&Text::new(series.name.clone(), (40, y), &style))?;
        }
        Ok(())
    }
}
