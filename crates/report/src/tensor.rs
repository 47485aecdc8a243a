//! A tensor: its worst element, what its bound is made of, and the maps of its heads.

use crate::axes::{Axes, axes, head_name, plural};
use crate::levels::level_of;
use crate::numbers::{outcome_class, outcome_sign, ratio};
use crate::picture::{Link, Picture, draw};
use crate::tile::{Tile, map_id, tiles};
use maud::{Markup, html};
use sus_verdict::map::{Grid, MAX_BINS, bin};
use sus_verdict::{StageShare, TensorResult, Worst};

/// How many heads of a tensor are drawn: those with an element outside its bound, and where there is none the worst one, which shows
/// how near it came.
pub(crate) fn heads_drawn(tensor: &TensorResult) -> usize {
    let map = &tensor.map;
    let wrong = map.grids.iter().filter(|grid| map.heads[grid.head].outside > 0).count();
    wrong.max(1).min(map.grids.len())
}

/// The section of a tensor. `with_numbers` says of each drawn head whether its numbers are on the page.
pub(crate) fn section(tensor: &TensorResult, with_numbers: &[bool]) -> Markup {
    let axes = axes(tensor);
    let drawn = &tensor.map.grids[..with_numbers.len()];
    html! {
        section class="tensor" id=(tensor.name) {
            h3 {
                code { (tensor.name) } " "
                span class={ "badge " (outcome_class(tensor.outcome)) } { (outcome_sign(tensor.outcome)) " " (tensor.outcome.name()) }
            }
            @match &tensor.worst {
                None => p { "No elements." },
                Some(worst) => (worst_element(tensor, worst)),
            }
            @if tensor.map.heads.len() > 1 { (overview(tensor, axes, drawn)) }
            @for (grid, &with_numbers) in drawn.iter().zip(with_numbers) { (head(tensor, axes, grid, with_numbers)) }
        }
    }
}

/// The worst element, and the stages of its bound.
fn worst_element(tensor: &TensorResult, worst: &Worst) -> Markup {
    let by_stored_o = tensor.by_stored_o.as_ref().filter(|by| by.ratio > 1.0 && worst.ratio <= 1.0);
    let worst = by_stored_o.unwrap_or(worst);
    let Worst { index, found, expected, bound, worst_case, stages, .. } = worst;
    let error = (found - expected).abs();
    let outside = match tensor.outside {
        0 => "every element is within its bound".to_owned(),
        n => format!("{n} of {} elements are outside their bounds", tensor.ratios.len()),
    };
    html! {
        p {
            "Shape " code { (format!("{:?}", tensor.shape)) } "; " (outside) ". The worst element"
            @if by_stored_o.is_some() { " by the candidate's own " code { "o" } }
            " is " code { (format!("{index:?}")) } "."
        }
        div class="wide" {
            table class="facts" {
                tr { th { "found" } td { code { (format!("{found:e}")) } } }
                tr { th { "expected" } td { code { (format!("{expected:e}")) } } }
                tr { th { "error" } td { code { (format!("{error:.3e}")) } } }
                tr { th { "allowed" } td { code { (format!("{bound:.3e}")) } " (the error is " (ratio(worst.ratio)) " times that)" } }
                tr { th { "worst case" } td { code { (format!("{worst_case:.3e}")) } " whatever the roundings of a right kernel are" } }
                tr { th { "the bound is made of" } td { (shares(stages)) } }
            }
        }
    }
}

/// The stages of a bound with their percents, each with a bar.
fn shares(stages: &[StageShare]) -> Markup {
    html! {
        @if stages.is_empty() { "no stage" }
        ul class="stages" {
            @for StageShare { stage, share } in stages {
                @let percent = format!("{:.0}", 100.0 * share);
                @if percent != "0" {
                    li { span class="bar" style={ "width:" (percent) "px" } {} " " (stage.name()) " " (percent) " %" }
                }
            }
        }
    }
}

/// All heads, each as the level of its worst element.
fn overview(tensor: &TensorResult, axes: Axes, drawn: &[Grid]) -> Markup {
    let map = &tensor.map;
    let (rows, columns) = match map.axes[..] {
        [rows, columns] => (rows, columns),
        _ => (1, map.heads.len()),
    };
    let (bins_down, bins_across) = (rows.min(MAX_BINS), columns.min(MAX_BINS));
    let heads_of = |row: usize, column: usize| {
        bin(row, bins_down, rows)
            .flat_map(move |b| bin(column, bins_across, columns).map(move |h| b * columns + h))
    };
    let places_of =
        || (0..bins_down).flat_map(|row| (0..bins_across).map(move |column| (row, column)));
    let level = |(row, column)| {
        heads_of(row, column).map(|head| level_of(map.heads[head].ratio)).max().unwrap_or_default()
    };
    let levels: Vec<usize> = places_of().map(level).collect();
    let link = |(row, column): (usize, usize)| {
        let grid = drawn.iter().find(|grid| heads_of(row, column).any(|head| head == grid.head))?;
        Some(Link {
            rows: row..row + 1,
            columns: column..column + 1,
            to: map_id(tensor, grid),
            title: format!(
                "{}: worst {} of its bound",
                head_name(axes, &map.head_index(grid.head)),
                ratio(map.heads[grid.head].ratio)
            ),
        })
    };
    let wrong = map.heads.iter().filter(|head| head.outside > 0).count();
    let (down, across) = match axes.heads {
        [down, across] => (*down, *across),
        _ => ("", "sequence"),
    };
    let picture = Picture {
        label: format!("the heads of {}", tensor.name),
        rows: bins_down,
        columns: bins_across,
        levels: &levels,
        ends: [
            format!("{across} 0"),
            (columns - 1).to_string(),
            format!("{down} 0").trim_start_matches(" 0").to_owned(),
            (rows - 1).to_string(),
        ],
        links: places_of().filter_map(link).collect(),
    };
    html! {
        figure {
            figcaption {
                b { "All heads. " }
                @if wrong == 0 { "In none is an element outside its bound. " }
                @else { "In " (wrong) " of " (map.heads.len()) " an element is outside its bound. " }
                @if drawn.len() == 1 { "The worst head is drawn below." }
                @else if drawn.len() < map.heads.len() { "The worst " (drawn.len()) " of them are drawn below." }
                @if bins_down * bins_across < map.heads.len() { " A cell here holds several heads and shows the worst." }
            }
            (draw(&picture))
        }
    }
}

/// The map of one head, and its tiles enlarged.
fn head(tensor: &TensorResult, axes: Axes, grid: &Grid, with_numbers: bool) -> Markup {
    let map = &tensor.map;
    let [rows, columns] = grid.bins;
    let all = (0..tiles(rows)).flat_map(|row| (0..tiles(columns)).map(move |column| [row, column]));
    let all: Vec<Tile<'_>> = all.map(|place| Tile { tensor, axes, grid, place }).collect();
    let links = all.iter().map(|tile| Link {
        rows: tile.bins(0),
        columns: tile.bins(1),
        to: tile.id(),
        title: tile.title(),
    });
    let levels: Vec<usize> = grid.cells.iter().map(|cell| level_of(cell.ratio)).collect();
    let name = head_name(axes, &map.head_index(grid.head));
    let last = |axis: usize| (map.size[axis] - 1).to_string();
    let picture = Picture {
        label: format!("the errors of {} {name}", tensor.name),
        rows,
        columns,
        levels: &levels,
        ends: [format!("{} 0", axes.column), last(1), format!("{} 0", axes.row), last(0)],
        links: if with_numbers { links.collect() } else { Vec::new() },
    };
    let outside = map.heads[grid.head].outside;
    // One tile is all there is: it stands open.
    let open = if all.len() == 1 { "zooms open" } else { "zooms" };
    html! {
        figure class="head" id=(map_id(tensor, grid)) {
            figcaption {
                b { (tensor.name) @if !name.is_empty() { ", " (name) } ". " }
                (outside) " of " (map.size[0] * map.size[1]) " elements " (if outside == 1 { "is" } else { "are" }) " outside their bounds. "
                (binned(grid, axes, map.size))
                @if !with_numbers { "The numbers of this head are left out, to keep the page small." }
                @else if all.len() > 1 { "Click on a part to see its numbers." }
            }
            div class="side" {
                (draw(&picture))
                @if with_numbers {
                    div class=(open) { @for tile in &all { (tile.draw()) } }
                }
            }
        }
    }
}

/// What a cell stands for, if for more than one element.
fn binned(grid: &Grid, axes: Axes, size: [usize; 2]) -> String {
    if grid.bins == size {
        return String::new();
    }
    let most = |axis: usize| size[axis].div_ceil(grid.bins[axis]);
    let part = |axis: usize, name: &str| match most(axis) {
        1 => format!("one {name}"),
        n => format!("up to {n} {}", plural(name)),
    };
    format!(
        "A cell holds {} and {}, and shows the worst element. ",
        part(0, axes.row),
        part(1, axes.column)
    )
}
