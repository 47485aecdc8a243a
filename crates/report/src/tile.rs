//! A tile of a map, enlarged: the worst element of each of its cells with what was found, expected and allowed.

use crate::axes::{Axes, head_name, indices, places};
use crate::levels::{level_of, sign};
use crate::numbers::ratio;
use maud::{Markup, html};
use std::ops::Range;
use sus_bounds::Stage;
use sus_verdict::TensorResult;
use sus_verdict::map::{Cell, Grid, bin};

/// Cells of a tile along each axis.
pub(crate) const SIDE: usize = 8;

/// The tile of a grid at these bins.
pub(crate) struct Tile<'a> {
    pub(crate) tensor: &'a TensorResult,
    pub(crate) axes: Axes,
    pub(crate) grid: &'a Grid,
    /// Its place among the tiles of the grid.
    pub(crate) place: [usize; 2],
}

/// How many tiles a grid has along an axis.
pub(crate) fn tiles(bins: usize) -> usize {
    bins.div_ceil(SIDE)
}

impl Tile<'_> {
    /// The identifier of the tile at another place.
    fn id_at(&self, [row, column]: [usize; 2]) -> String {
        format!("{}-{row}-{column}", map_id(self.tensor, self.grid))
    }

    /// Its identifier.
    pub(crate) fn id(&self) -> String {
        self.id_at(self.place)
    }

    /// Its bins along the rows or along the columns.
    pub(crate) fn bins(&self, axis: usize) -> Range<usize> {
        let first = self.place[axis] * SIDE;
        first..(first + SIDE).min(self.grid.bins[axis])
    }

    fn cell(&self, row: usize, column: usize) -> &Cell {
        &self.grid.cells[row * self.grid.bins[1] + column]
    }

    fn worst(&self) -> &Cell {
        let all = self.bins(0).flat_map(|row| self.bins(1).map(move |column| (row, column)));
        let cells = all.map(|(row, column)| self.cell(row, column));
        // Of equal ones the first, as everywhere.
        cells
            .reduce(|a, b| if b.ratio.total_cmp(&a.ratio).is_gt() { b } else { a })
            .expect("a tile has a cell")
    }

    /// The part of the tensor that it shows.
    fn part(&self, axis: usize) -> Range<usize> {
        indices(&self.bins(axis), self.grid.bins[axis], self.tensor.map.size[axis])
    }

    /// What it shows, in words.
    pub(crate) fn title(&self) -> String {
        let Axes { row, column, .. } = self.axes;
        format!(
            "{}, {}: worst {} of its bound",
            places(row, &self.part(0)),
            places(column, &self.part(1)),
            ratio(self.worst().ratio)
        )
    }

    /// The enlarged tile.
    pub(crate) fn draw(&self) -> Markup {
        let Axes { row, column, .. } = self.axes;
        let map = &self.tensor.map;
        let head = head_name(self.axes, &map.head_index(self.grid.head));
        let range = |axis: usize, at: usize| bin(at, self.grid.bins[axis], map.size[axis]);
        let short = |range: Range<usize>| match range.len() {
            1 => range.start.to_string(),
            _ => format!("{}–{}", range.start, range.end - 1),
        };
        let one_element = self.grid.bins == map.size;
        html! {
            div class="zoom" id=(self.id()) {
                h5 {
                    (self.tensor.name) " "
                    @if !head.is_empty() { (head) ", " }
                    (places(row, &self.part(0))) ", " (places(column, &self.part(1)))
                }
                (self.neighbours())
                div class="wide" {
                    table class="cells" {
                        tr { td class="corner" {} @for at in self.bins(1) { th scope="col" { (short(range(1, at))) } } }
                        @for at in self.bins(0) {
                            tr {
                                th scope="row" { (short(range(0, at))) }
                                @for column in self.bins(1) { (draw_cell(self.cell(at, column), one_element)) }
                            }
                        }
                    }
                }
                p class="small" {
                    "Each cell: mark and |err|/bound, "
                    @if !one_element { "the worst element of the cell, " }
                    "found, expected, ± allowed."
                }
                (self.worst_in_words())
            }
        }
    }

    /// Links to the tiles beside it, and back to the map.
    fn neighbours(&self) -> Markup {
        let [row, column] = self.place;
        let [rows, columns] = self.grid.bins.map(tiles);
        let at = |there: bool, row: usize, column: usize, sign: &str, words: &str| {
            html! { @if there { a href={ "#" (self.id_at([row, column])) } aria-label=(words) { (sign) } " " } }
        };
        html! {
            nav class="neighbours" aria-label="other parts of the map" {
                (at(column > 0, row, column.wrapping_sub(1), "←", "left"))
                (at(row > 0, row.wrapping_sub(1), column, "↑", "up"))
                (at(row + 1 < rows, row + 1, column, "↓", "down"))
                (at(column + 1 < columns, row, column + 1, "→", "right"))
                a class="close" href={ "#" (map_id(self.tensor, self.grid)) } { "close" }
            }
        }
    }

    fn worst_in_words(&self) -> Markup {
        let cell = self.worst();
        let mut index = self.tensor.map.head_index(self.grid.head);
        index.extend(cell.at);
        index.drain(..index.len().saturating_sub(self.tensor.shape.len()));
        let (Cell { found, expected, bound, .. }, error) =
            (cell, (cell.found - cell.expected).abs());
        html! {
            p class="small" {
                "The worst here, " code { (format!("{:?}", index)) } ": found " code { (format!("{found:e}")) }
                ", expected " code { (format!("{expected:e}")) } "; the error " code { (format!("{error:.3e}")) }
                " is " (ratio(cell.ratio)) " times the bound " code { (format!("{bound:.3e}")) } ", which is made of "
                (stages(cell.stages)) "."
            }
        }
    }
}

/// One cell: its mark and numbers, a line each.
fn draw_cell(cell: &Cell, one_element: bool) -> Markup {
    let Cell { at: [row, column], found, expected, bound, .. } = cell;
    let level = level_of(cell.ratio);
    let place = if one_element { String::new() } else { format!("[{row},{column}]\n") };
    let numbers = format!("{found:.3e}\n{expected:.3e}\n±{bound:.1e}");
    html! { td class={ "l" (level) } { b { (sign(level)) " " (ratio(cell.ratio)) } "\n" (place) (numbers) } }
}

/// The stages with the largest shares, as `check` prints them.
fn stages(shares: [f32; Stage::COUNT]) -> String {
    let mut shares: Vec<(Stage, f32)> =
        Stage::ALL.into_iter().zip(shares).filter(|of| of.1 > 0.0).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let words: Vec<String> = shares
        .iter()
        .take(3)
        .map(|(stage, share)| format!("{} {:.0} %", stage.name(), 100.0 * share))
        .collect();
    if words.is_empty() { "no stage".into() } else { words.join(", ") }
}

/// The identifier of a head's map.
pub(crate) fn map_id(tensor: &TensorResult, grid: &Grid) -> String {
    format!("{}-head-{}", tensor.name, grid.head)
}
