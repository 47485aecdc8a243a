//! A grid of levels as SVG: runs of one level in a row are one rectangle, and all rectangles of a level one path.

use crate::levels;
use maud::{Markup, html};
use std::fmt::Write;
use std::ops::Range;

/// A part of the picture that leads to another place of the page.
pub(crate) struct Link {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
    /// The identifier that it leads to.
    pub(crate) to: String,
    /// What a pointer or a screen reader is told.
    pub(crate) title: String,
}

/// A grid with words at its corners.
pub(crate) struct Picture<'a> {
    /// What it shows, for who does not see it.
    pub(crate) label: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The level of each cell, row by row.
    pub(crate) levels: &'a [usize],
    /// What stands above the first column, above the last one, beside the first row and beside the last one.
    pub(crate) ends: [String; 4],
    pub(crate) links: Vec<Link>,
}

/// Pixels of a cell: 6 in a large grid, up to 24 in a small one.
fn cell_size(rows: usize, columns: usize) -> f64 {
    (288.0 / rows.max(columns).max(1) as f64).clamp(6.0, 24.0)
}

/// Widths of the words beside and above the grid, in pixels.
const LEFT: f64 = 76.0;
const TOP: f64 = 18.0;

/// The picture.
pub(crate) fn draw(picture: &Picture<'_>) -> Markup {
    let (rows, columns) = (picture.rows, picture.columns);
    let cell = cell_size(rows, columns);
    let (grid_width, grid_height) = (cell * columns as f64, cell * rows as f64);
    let [first_column, last_column, first_row, last_row] = &picture.ends;
    // The words above a narrow grid stand side by side.
    let words = 7.0 * (first_column.len() + last_column.len() + 2) as f64;
    let (width, height) = (LEFT + grid_width.max(words) + 2.0, TOP + grid_height.max(24.0) + 2.0);
    let right = LEFT + grid_width.max(words);
    html! {
        svg class="map" role="group" aria-label=(picture.label) width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
            text x=(LEFT) y="13" { (first_column) }
            @if columns > 1 { text class="end" x=(right) y="13" { (last_column) } }
            text class="end" x=(LEFT - 5.0) y=(TOP + 11.0) { (first_row) }
            @if rows > 1 { text class="end" x=(LEFT - 5.0) y=(TOP + grid_height.max(24.0) - 1.0) { (last_row) } }
            g transform={ "translate(" (LEFT) " " (TOP) ") scale(" (cell) ")" } {
                @for (level, path) in paths(picture).iter().enumerate().filter(|(_, path)| !path.is_empty()) {
                    path fill={ "url(#level-" (level) ")" } d=(path) {}
                }
                rect class="frame" width=(columns) height=(rows) {}
                @for link in &picture.links {
                    a href={ "#" (link.to) } aria-label=(link.title) {
                        rect class="tile" x=(link.columns.start) y=(link.rows.start) width=(link.columns.len()) height=(link.rows.len()) {
                            title { (link.title) }
                        }
                    }
                }
            }
        }
    }
}

/// The rectangles of each level.
fn paths(picture: &Picture<'_>) -> Vec<String> {
    let mut paths = vec![String::new(); levels::COUNT];
    for (y, row) in picture.levels.chunks(picture.columns.max(1)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let width = run.len();
            let _ = write!(paths[run[0]], "M{x} {y}h{width}v1h-{width}z");
            x += width;
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::{Picture, paths};

    #[test]
    fn every_cell_stands_in_the_path_of_its_level_once() {
        let picture = Picture {
            label: String::new(),
            rows: 2,
            columns: 3,
            levels: &[0, 0, 3, 3, 0, 0],
            ends: Default::default(),
            links: Vec::new(),
        };
        let paths = paths(&picture);
        assert_eq!(paths[0], "M0 0h2v1h-2zM1 1h2v1h-2z");
        assert_eq!(paths[3], "M2 0h1v1h-1zM0 1h1v1h-1z");
        assert!(paths[1].is_empty());
    }
}
