//! The forward pass by tiles, and the draw of the mask in the same pass.
//!
//! A task owns a tile of rows. It walks over tiles of keys with a running maximum `m` and sum `l`, so that a row's
//! `o = sum_j exp(s_j - m) v_j / l` and `lse = m + ln l` need no second pass. `l` is kept in `f64`.
//!
//! A weight is `exp(s - m) / l` at the end, and `l` only grows, so while the row runs `c exp(s - m) / l` is at least the final
//! `c W`: entries whose word is below it are candidates, and few of them are dropped at the end. A lower bound of the remaining
//! keys' sum is added to `l` there, see [`search`](super::search).

use super::draw::{Drawing, TileDraw};
use super::panels::{Panels, pack_heads};
use super::product::{BLOCK, Left, Right, Store, multiply, pack_left};
use super::running_softmax::Running;
use super::scores::{Addends, Scoring, drop_entries};
use super::search::{GROUP, Memory, TileSearch};
use super::simd::{Dispatch, Real};
use super::tiles::{ROWS, head, tile};
use super::visible::{HeadRows, Part, Visible, within};
use aligned_vec::{AVec, avec};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;
use sus_reference::problem::{Problem, Row};

/// One tile of rows of one head.
struct RowTile<'a, T: Real> {
    problem: &'a Problem<T>,
    visible: &'a Visible<'a, T>,
    panels: &'a Panels<T>,
    scoring: Scoring<T>,
    b: usize,
    h: usize,
    rows: Range<usize>,
    o: &'a mut [T],
    lse: &'a mut [T],
    scratch: &'a mut Scratch<T>,
    drawing: Option<Drawing<'a>>,
}

/// The memory of one task.
struct Scratch<T: Real> {
    /// The rows of `q`, packed.
    q: Vec<[T; BLOCK]>,
    tile: AVec<T::TileRow>,
    search: Memory,
}

impl<T: Real> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { q: Vec::new(), tile: avec![T::BLANK; ROWS], search: Memory::default() }
    }
}

/// Fills `o` and `lse`, and draws the mask if `drawing` is given. Tiles come in `(b, h, i)` order.
pub(super) fn run<T: Real>(
    dispatch: Dispatch,
    problem: &Problem<T>,
    panels: &mut Vec<Panels<T>>,
    (o, lse): (&mut [T], &mut [T]),
    drawing: Option<Drawing<'_>>,
) -> Vec<TileDraw> {
    let sizes = problem.sizes();
    pack_heads(panels, problem.inputs().k.as_slice(), sizes.keys, sizes.features);
    let visible = Visible::new(problem);
    let scoring = Scoring::new(problem.scale(), problem.options().softcap);
    let (panels, visible) = (&*panels, &visible);
    let mut tiles = Vec::new();
    let heads = o
        .chunks_mut((sizes.queries * sizes.value_features).max(1))
        .zip(lse.chunks_mut(sizes.queries.max(1)));
    for (head, (o, lse)) in heads.enumerate() {
        let (b, h) = (head / sizes.query_heads, head % sizes.query_heads);
        let blocks = o.chunks_mut(ROWS * sizes.value_features).zip(lse.chunks_mut(ROWS));
        tiles.extend(blocks.enumerate().map(|(block, (o, lse))| {
            let rows = block * ROWS..block * ROWS + lse.len();
            (b, h, rows, o, lse)
        }));
    }
    tiles
        .into_par_iter()
        .map_init(Scratch::default, |scratch, (b, h, rows, o, lse)| {
            let panels = panels.get(b * sizes.key_heads + problem.key_head(h));
            let empty = Panels::default();
            let panels = panels.unwrap_or(&empty);
            dispatch.run(RowTile {
                problem,
                visible,
                panels,
                scoring,
                b,
                h,
                rows,
                o,
                lse,
                scratch,
                drawing,
            })
        })
        .collect()
}

impl<T: Real> WithSimd for RowTile<'_, T> {
    type Output = TileDraw;

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) -> TileDraw {
        let RowTile { problem, visible, panels, scoring, b, h, rows, o, lse, scratch, drawing } =
            self;
        let sizes = problem.sizes();
        let (features, value_features) = (sizes.features, sizes.value_features);
        let width = tile::<T>();
        let key_head = problem.key_head(h);
        let q = &head(
            problem.inputs().q.as_slice(),
            b * sizes.query_heads + h,
            sizes.queries * features,
        )[rows.start * features..rows.end * features];
        let v = head(
            problem.inputs().v.as_slice(),
            b * sizes.key_heads + key_head,
            sizes.keys * value_features,
        );
        let mut running = [Running { m: f64::NEG_INFINITY, l: 0.0 }; ROWS];
        for (i, running) in rows.clone().zip(&mut running) {
            if let Some(sink) = problem.sink(Row { b, h, i }) {
                *running = Running { m: sink.to_f64(), l: 1.0 };
            }
        }
        o.fill(T::zero());
        let Scratch { q: packed, tile: s, search: memory } = scratch;
        pack_left(q, features, packed);
        let mut search =
            drawing.map(|drawing| TileSearch::new(drawing, (b, h, rows.clone()), memory));
        let hull = visible.hull(b, &rows);
        let hull = hull.start / width * width..hull.end;
        let here = HeadRows { b, h, rows: rows.clone() };
        let cover = visible.cover(&here, &hull, T::PANEL);
        let tiles = hull.clone().step_by(width);
        let count = tiles.len();
        for (at, first) in tiles.enumerate() {
            if let Some(search) = &mut search {
                search.look_ahead((at, count), (first, width), visible, &running);
            }
            let part = cover.part(&(first..(first + width).min(hull.end)));
            let Some(Part { rows: seeing, keys, whole }) = part else { continue };
            let filled = keys.len().next_multiple_of(T::PANEL);
            let packed = &packed[seeing.start / BLOCK * features..];
            for (at, key) in keys.clone().step_by(T::PANEL).enumerate() {
                multiply(
                    simd,
                    Store::Replace,
                    (Left::Packed(packed), seeing.len()),
                    (panels.panel(key / T::PANEL), T::PANEL),
                    features,
                    (&mut T::flat(&mut s[seeing.start..])[at * T::PANEL..], width),
                );
            }
            for group in seeing.clone().step_by(GROUP) {
                let group = group..(group + GROUP).min(seeing.end);
                for r in group.clone() {
                    let row = Row { b, h, i: rows.start + r };
                    let s = &mut s[r].as_mut()[..filled];
                    let seen = within(&visible.row(b, row.i), &keys);
                    if seen.is_empty() {
                        s.fill(T::zero());
                        continue;
                    }
                    Addends::of(problem, row, keys.clone()).apply(simd, &scoring, s);
                    if !whole || keys.len() < filled {
                        visible.hide(row, &keys, s, T::from_f64(f64::NEG_INFINITY));
                    }
                    let o = &mut o[r * value_features..][..value_features];
                    let before = running[r].m;
                    running[r].add(simd, s, o);
                    if let (true, Some(search)) = (running[r].m > before, &mut search) {
                        search.shift(r, running[r].m);
                    }
                }
                if let Some(search) = &mut search {
                    search.search::<S, T>(simd, group, (s, &keys), visible, &running);
                }
            }
            for (s, r) in s[seeing.clone()].iter_mut().zip(seeing.clone()) {
                drop_entries(problem, Row { b, h, i: rows.start + r }, keys.clone(), s.as_mut());
            }
            multiply(
                simd,
                Store::Add,
                (Left::Rows(&s[seeing.start..]), seeing.len()),
                (
                    Right {
                        data: &v[keys.start * value_features..keys.end * value_features],
                        stride: value_features,
                    },
                    value_features,
                ),
                keys.len(),
                (&mut o[seeing.start * value_features..], value_features),
            );
        }
        finish(&running, o, lse, value_features);
        search.map_or_else(TileDraw::default, |search| search.decide::<T>(&running))
    }
}

/// Divides by `l`, and writes `lse`.
fn finish<T: Real>(running: &[Running], o: &mut [T], lse: &mut [T], features: usize) {
    for ((o, lse), row) in o.chunks_exact_mut(features).zip(lse).zip(running) {
        *lse = T::from_f64(row.lse());
        if row.l > 0.0 {
            let inverse = T::from_f64(1.0 / row.l);
            for o in o.iter_mut() {
                *o *= inverse;
            }
        }
    }
}
