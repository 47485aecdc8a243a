//! The weights of a head, and the entries that one draw keeps.

use super::Picture;
use std::fmt::Write;
use sus_reference::backward::DenseWeights;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::rule::keep_probability;
use sus_reference::sus::{Budget, Draw, sample};

/// Queries and keys that are shown at most: the last ones.
const SHOWN: usize = 96;

/// Side of a panel and the room around it, in pixels.
const SIDE: usize = 340;
const LEFT: usize = 52;
const TOP: usize = 66;
const GAP: usize = 54;

/// The smallest keep probability of each level, with its colour and its name.
const LEVELS: [(f64, &str, &str); 4] = [
    (1.0, "#084081", "q = 1"),
    (0.1, "#2b8cbe", "q from 0.1"),
    (0.01, "#7bccc4", "q from 0.01"),
    (0.0, "#e0f3db", "below"),
];

/// The colours of the draw, with their names: kept surely, kept by chance, dropped.
const OUTCOMES: [(&str, &str); 3] =
    [("#084081", "kept, counts as W"), ("#d55e00", "kept, counts as 1/c"), ("#ececec", "dropped")];

/// The first head of the first sequence, under the paper's rule and seed 0.
pub(super) fn plot(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    c: Budget,
) -> Result<Option<Picture>, Error> {
    let sizes = problem.sizes();
    if sizes.batch == 0 || sizes.queries == 0 || sizes.keys == 0 {
        return Ok(None);
    }
    let draw = Draw::paper(c, 0);
    let sample = sample(problem, saved, &draw)?;
    let weights = DenseWeights { problem, saved };
    let (first_query, first_key) =
        (sizes.queries.saturating_sub(SHOWN), sizes.keys.saturating_sub(SHOWN));
    let (mut levels, mut outcomes) = (vec![Cells::default(); 4], vec![Cells::default(); 3]);
    for i in first_query..sizes.queries {
        let row = Row { b: 0, h: 0, i };
        let kept = sample.pattern.row(problem.row_number(row));
        for j in problem.visible(row).filter(|&j| j >= first_key) {
            let q = keep_probability(c.get(), weights.at(row, j).w);
            let level = LEVELS.iter().position(|level| q >= level.0).unwrap_or(3);
            let outcome = match kept.binary_search(&(j as u32)) {
                Ok(_) => usize::from(q < 1.0),
                Err(_) => 2,
            };
            levels[level].add(j - first_key, i - first_query);
            outcomes[outcome].add(j - first_key, i - first_query);
        }
    }
    let (mut kept, mut visible) = (0, 0);
    for i in 0..sizes.queries {
        let row = Row { b: 0, h: 0, i };
        kept += sample.pattern.row(problem.row_number(row)).len();
        visible += problem.visible_keys(row);
    }
    let share = |n: usize| n as f64 / sizes.queries as f64;
    let title = format!(
        "head 0, c = {}, seed 0: of {:.1} visible keys per query {:.1} are kept",
        c.get(),
        share(visible),
        share(kept)
    );
    let (rows, columns) = (sizes.queries - first_query, sizes.keys - first_key);
    let mut svg = String::new();
    let (width, height) = (2 * (LEFT + SIDE) + GAP - 30, TOP + SIDE + 76);
    let _ = writeln!(
        svg,
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
    );
    text(&mut svg, width / 2, 22, "middle", 16, &title);
    let panel = Panel { rows, columns, first_query, first_key };
    let names = LEVELS.map(|level| (level.1, level.2));
    panel.draw(&mut svg, LEFT, "keep probability q = min(1, c W)", &levels, &names);
    panel.draw(&mut svg, LEFT + SIDE + GAP, "one draw", &outcomes, &OUTCOMES);
    svg.push_str("</svg>\n");
    Ok(Some(Picture { file: "weights.svg", svg }))
}

/// Unit squares of one colour, as the path of an SVG; neighbours in a row are one rectangle.
#[derive(Debug, Clone, Default)]
struct Cells {
    path: String,
    /// Column, row and length of the rectangle that may still grow.
    open: Option<(usize, usize, usize)>,
}

impl Cells {
    fn add(&mut self, x: usize, y: usize) {
        match &mut self.open {
            Some((at, row, length)) if *row == y && *at + *length == x => *length += 1,
            _ => {
                if let Some(rectangle) = self.open.replace((x, y, 1)) {
                    add_rectangle(&mut self.path, rectangle);
                }
            }
        }
    }

    /// The path with the last rectangle.
    fn closed(&self) -> String {
        let mut path = self.path.clone();
        if let Some(rectangle) = self.open {
            add_rectangle(&mut path, rectangle);
        }
        path
    }
}

fn add_rectangle(path: &mut String, (x, y, length): (usize, usize, usize)) {
    let _ = write!(path, "M{x} {y}h{length}v1h-{length}z");
}

/// What both panels share.
struct Panel {
    rows: usize,
    columns: usize,
    first_query: usize,
    first_key: usize,
}

impl Panel {
    fn draw(
        &self,
        svg: &mut String,
        left: usize,
        caption: &str,
        cells: &[Cells],
        names: &[(&str, &str)],
    ) {
        let scale = SIDE as f64 / self.rows.max(self.columns) as f64;
        text(svg, left + SIDE / 2, TOP - 14, "middle", 14, caption);
        let _ = writeln!(svg, "<g transform=\"translate({left} {TOP}) scale({scale:.4})\">");
        for (cells, (colour, _)) in cells.iter().zip(names) {
            let _ = writeln!(svg, "<path fill=\"{colour}\" d=\"{}\"/>", cells.closed());
        }
        svg.push_str("</g>\n");
        let (right, bottom) =
            ((self.columns as f64 * scale) as usize, (self.rows as f64 * scale) as usize);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{TOP}\" width=\"{right}\" height=\"{bottom}\" fill=\"none\" stroke=\"#999999\"/>"
        );
        let ends = [(self.first_query, TOP + 11), (self.first_query + self.rows - 1, TOP + bottom)];
        for (query, y) in ends {
            text(svg, left - 6, y, "end", 12, &query.to_string());
        }
        text(svg, left - 6, TOP + bottom / 2, "end", 12, "query");
        text(svg, left, TOP + bottom + 16, "start", 12, &self.first_key.to_string());
        let last = (self.first_key + self.columns - 1).to_string();
        text(svg, left + right, TOP + bottom + 16, "end", 12, &last);
        text(svg, left + right / 2, TOP + bottom + 16, "middle", 12, "key");
        let step = SIDE / names.len();
        for (n, (colour, name)) in names.iter().enumerate() {
            let (x, y) = (left + n * step, TOP + SIDE + 44);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{}\" width=\"11\" height=\"11\" fill=\"{colour}\"/>",
                y - 10
            );
            text(svg, x + 15, y, "start", 11, name);
        }
    }
}

fn text(svg: &mut String, x: usize, y: usize, anchor: &str, size: usize, said: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{said}</text>"
    );
}
