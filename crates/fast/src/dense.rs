//! The dense backward pass by tiles, `W` recomputed in each.
//!
//! # Order, whatever the number of threads
//!
//! The rows of a key head's group are cut into `R` blocks and its keys into `K` blocks. With `M = max(R, K)`, step
//! `t = 0, ..., M - 1` works on the pairs `(r, (r + t) mod M)`, all at once: within a step no two pairs share a block of rows
//! or of keys, so each pair may add to its own `dq` and its own `dk, dv` without a lock. Over all steps each pair comes once.
//! The terms of `dq_r` are therefore added in the order of `t`, those of `dk, dv` likewise, and no sum is split.

use super::panels::{Panels, pack_heads};
use super::product::{BLOCK, Left, Right, Store, multiply, pack_left};
use super::scores::{Addends, RowTerms, Scoring};
use super::scores::{drop_entries, weights_and_derivatives, weights_and_slopes};
use super::simd::{Dispatch, Real};
use super::tiles::{head, tile};
use super::visible::{HeadRows, Part, Visible};
use aligned_vec::{AVec, avec};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};

/// Rows of a tile, a multiple of the rows that a product holds in registers.
const ROWS: usize = 96;

/// Blocks along an axis, about.
const BLOCKS: usize = 32;

/// The memory that a backward pass needs beside its results.
#[derive(Debug, Default)]
pub(super) struct Memory<T: Real> {
    pub(super) keys: Vec<Panels<T>>,
    pub(super) values: Vec<Panels<T>>,
    /// The rows of `q` and of `G` of each query head, [packed](pack_left).
    queries: Vec<Vec<[T; BLOCK]>>,
    cotangents: Vec<Vec<[T; BLOCK]>>,
    /// Of each thread.
    scratch: Vec<Mutex<Scratch<T>>>,
}

/// Data that all blocks share.
struct Shared<'a, T: Real> {
    problem: &'a Problem<T>,
    visible: Visible<'a, T>,
    memory: &'a Memory<T>,
    scoring: Scoring<T>,
    /// `lse` and `delta - dlse` of each row.
    terms: &'a [RowTerms<T>],
}

/// Fills `dq`, `dk` and `dv`, given `delta - dlse` and `lse`; and the sums of each row for `dslopes`, if there are slopes.
pub(super) fn run<T: Real>(
    dispatch: Dispatch,
    problem: &Problem<T>,
    saved: &Saved<T>,
    delta: &[T],
    memory: &mut Memory<T>,
    ([dq, dk, dv], of_slopes): ([&mut [T]; 3], &mut [T]),
) {
    let sizes = problem.sizes();
    for gradient in [&mut *dq, &mut *dk, &mut *dv, &mut *of_slopes] {
        gradient.fill(T::zero());
    }
    if sizes.batch * sizes.queries * sizes.keys == 0 {
        return;
    }
    pack_heads(&mut memory.keys, problem.inputs().k.as_slice(), sizes.keys, sizes.features);
    pack_heads(&mut memory.values, problem.inputs().v.as_slice(), sizes.keys, sizes.value_features);
    pack_rows(&mut memory.queries, problem.inputs().q.as_slice(), sizes.queries, sizes.features);
    pack_rows(
        &mut memory.cotangents,
        problem.inputs().g.as_slice(),
        sizes.queries,
        sizes.value_features,
    );
    memory.scratch.resize_with(rayon::current_num_threads(), Mutex::default);
    let terms: Vec<RowTerms<T>> = delta
        .iter()
        .zip(saved.lse.as_slice())
        .enumerate()
        .map(|(at, (&delta, &lse))| RowTerms { lse, delta: delta - problem.dlse(problem.row(at)) })
        .collect();
    let shared = Shared {
        problem,
        visible: Visible::new(problem),
        memory,
        scoring: Scoring::new(problem.scale(), problem.options().softcap),
        terms: &terms,
    };
    let group = problem.group() * sizes.queries * sizes.features;
    let rows = problem.group() * sizes.queries;
    let heads = dq.par_chunks_mut(group).zip(of_slopes.par_chunks_mut(rows)).zip(
        dk.par_chunks_mut(sizes.keys * sizes.features)
            .zip(dv.par_chunks_mut(sizes.keys * sizes.value_features)),
    );
    heads.enumerate().for_each(|(key_head, ((dq, of_slopes), (dk, dv)))| {
        head_gradients(dispatch, &shared, key_head, ([dq, dk, dv], of_slopes));
    });
}

/// Packs the rows `[n][features]` of each head of a tensor.
fn pack_rows<T: Real>(packed: &mut Vec<Vec<[T; BLOCK]>>, data: &[T], n: usize, features: usize) {
    let heads = data.par_chunks(n * features);
    packed.resize_with(heads.len(), Vec::new);
    packed.par_iter_mut().zip(heads).for_each(|(packed, rows)| pack_left(rows, features, packed));
}

/// Keys or queries per block: about a 32nd of them, in whole tiles.
fn block_length<T: Real>(n: usize) -> usize {
    n.div_ceil(BLOCKS).next_multiple_of(tile::<T>())
}

/// A block of rows of one query head.
struct RowBlock<'a, T> {
    /// `b Hq + h`.
    head: usize,
    rows: Range<usize>,
    dq: &'a mut [T],
    of_slopes: &'a mut [T],
}

/// A block of keys.
struct KeyBlock<'a, T> {
    keys: Range<usize>,
    dk: &'a mut [T],
    dv: &'a mut [T],
}

/// The gradients of one key head; `number` is `b Hk + key head`, so its query heads are `number g, ...`.
fn head_gradients<T: Real>(
    dispatch: Dispatch,
    shared: &Shared<'_, T>,
    number: usize,
    ([dq, dk, dv], of_slopes): ([&mut [T]; 3], &mut [T]),
) {
    let sizes = shared.problem.sizes();
    let length = block_length::<T>(sizes.queries);
    let mut row_blocks: Vec<RowBlock<'_, T>> = Vec::new();
    let heads = dq.chunks_mut(sizes.queries * sizes.features);
    for (at, (dq, of_slopes)) in heads.zip(of_slopes.chunks_mut(sizes.queries)).enumerate() {
        let blocks = dq.chunks_mut(length * sizes.features).zip(of_slopes.chunks_mut(length));
        row_blocks.extend(blocks.enumerate().map(|(block, (dq, of_slopes))| {
            let first = block * length;
            let rows = first..first + of_slopes.len();
            RowBlock { head: number * shared.problem.group() + at, rows, dq, of_slopes }
        }));
    }
    let length = block_length::<T>(sizes.keys);
    let blocks =
        dk.chunks_mut(length * sizes.features).zip(dv.chunks_mut(length * sizes.value_features));
    let mut key_blocks: Vec<KeyBlock<'_, T>> = blocks
        .enumerate()
        .map(|(block, (dk, dv))| {
            let first = block * length;
            KeyBlock { keys: first..first + dk.len() / sizes.features, dk, dv }
        })
        .collect();
    let steps = row_blocks.len().max(key_blocks.len());
    for step in 0..steps {
        let mut free: Vec<Option<&mut KeyBlock<'_, T>>> = key_blocks.iter_mut().map(Some).collect();
        let pairs: Vec<_> = row_blocks
            .iter_mut()
            .enumerate()
            .filter_map(|(at, rows)| {
                let keys = free.get_mut((at + step) % steps)?.take()?;
                let heads = sizes.query_heads;
                let here = HeadRows {
                    b: rows.head / heads,
                    h: rows.head % heads,
                    rows: rows.rows.clone(),
                };
                shared.visible.any(here, &keys.keys).then_some((rows, keys))
            })
            .collect();
        pairs.into_par_iter().for_each(|(rows, keys)| {
            // A pair starts no other task, so no thread asks twice.
            let thread = rayon::current_thread_index().unwrap_or(0);
            let scratch = shared.memory.scratch[thread].lock();
            let scratch = &mut scratch.unwrap_or_else(PoisonError::into_inner);
            dispatch.run(Pair { shared, number, rows, keys, scratch });
        });
    }
}

/// The memory of one task: a tile of `W` and one of `dS`.
#[derive(Debug)]
struct Scratch<T: Real> {
    w: AVec<T::TileRow>,
    ds: AVec<T::TileRow>,
    /// Of one row, where there are slopes.
    derivatives: T::TileRow,
}

impl<T: Real> Default for Scratch<T> {
    fn default() -> Self {
        let [w, ds] = [avec![T::BLANK; ROWS], avec![T::BLANK; ROWS]];
        Scratch { w, ds, derivatives: T::BLANK }
    }
}

/// A block of rows and a block of keys.
struct Pair<'a, 'b, T: Real> {
    shared: &'a Shared<'a, T>,
    /// `b Hk + key head`.
    number: usize,
    rows: &'a mut RowBlock<'b, T>,
    keys: &'a mut KeyBlock<'b, T>,
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for Pair<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let Pair { shared, number, rows: row_block, keys: key_block, scratch } = self;
        let inputs = shared.problem.inputs();
        let sizes = shared.problem.sizes();
        let (d, e) = (sizes.features, sizes.value_features);
        let q = head(inputs.q.as_slice(), row_block.head, sizes.queries * d);
        let g = head(inputs.g.as_slice(), row_block.head, sizes.queries * e);
        let k = head(inputs.k.as_slice(), number, sizes.keys * d);
        let terms = head(shared.terms, row_block.head, sizes.queries);
        let (b, h) = (row_block.head / sizes.query_heads, row_block.head % sizes.query_heads);
        let width = tile::<T>();
        let has_slopes = inputs.alibi_slopes.is_some();
        let row_tiles = row_block.rows.clone().step_by(ROWS);
        for (rows, dq) in row_tiles.zip(row_block.dq.chunks_mut(ROWS * d)) {
            let rows = rows..(rows + ROWS).min(row_block.rows.end);
            let here = HeadRows { b, h, rows: rows.clone() };
            let cover = shared.visible.cover(&here, &key_block.keys, T::PANEL);
            let tiles = key_block.keys.clone().step_by(width);
            let tiles = tiles.map(|first| first..(first + width).min(key_block.keys.end));
            let mut parts = tiles.filter_map(|tile| cover.part(&tile)).peekable();
            if parts.peek().is_none() {
                continue;
            }
            let q = &q[rows.start * d..rows.end * d];
            let g = &g[rows.start * e..rows.end * e];
            let packed_q = &shared.memory.queries[row_block.head][rows.start / BLOCK * d..];
            let packed_g = &shared.memory.cotangents[row_block.head][rows.start / BLOCK * e..];
            for Part { rows: seeing, keys, whole } in parts {
                let count = seeing.len();
                let filled = keys.len().next_multiple_of(T::PANEL);
                let (q, g) = (&q[seeing.start * d..], &g[seeing.start * e..]);
                let Scratch { w, ds, derivatives } = &mut *scratch;
                let first = seeing.start / BLOCK;
                for (at, key) in keys.clone().step_by(T::PANEL).enumerate() {
                    let panel = key / T::PANEL;
                    let products = [
                        (&packed_q[first * d..], d, &shared.memory.keys, &mut *w),
                        (&packed_g[first * e..], e, &shared.memory.values, &mut *ds),
                    ];
                    for (left, depth, panels, c) in products {
                        let right = (panels[number].panel(panel), T::PANEL);
                        let c = (&mut T::flat(c)[at * T::PANEL..], width);
                        let left = (Left::Packed(left), count);
                        multiply(simd, Store::Replace, left, right, depth, c);
                    }
                }
                let tile_rows = w.iter_mut().zip(ds.iter_mut()).take(count);
                for (r, (w, ds)) in seeing.clone().zip(tile_rows) {
                    let i = rows.start + r;
                    let (w, ds) = (&mut w.as_mut()[..filled], &mut ds.as_mut()[..filled]);
                    let row = Row { b, h, i };
                    drop_entries(shared.problem, row, keys.clone(), ds);
                    if has_slopes {
                        let derivatives = &mut derivatives.as_mut()[..filled];
                        let all = [&mut *w, ds, derivatives];
                        row_block.of_slopes[i - row_block.rows.start] +=
                            shared.with_slopes(simd, (row, terms[i]), (&keys, whole), all);
                    } else {
                        let scoring = (&shared.scoring, terms[i]);
                        weights_and_slopes(simd, scoring, (T::zero(), None), w, ds);
                        if !whole {
                            for x in [&mut *w, ds] {
                                shared.visible.hide(row, &keys, x, T::zero());
                            }
                        }
                    }
                    drop_entries(shared.problem, row, keys.clone(), w);
                }
                let k = &k[keys.start * d..keys.end * d];
                let own = keys.start - key_block.keys.start..keys.end - key_block.keys.start;
                let dk = &mut key_block.dk[own.start * d..own.end * d];
                let dv = &mut key_block.dv[own.start * e..own.end * e];
                let dq = &mut dq[seeing.start * d..seeing.end * d];
                add(simd, (Left::Columns(w), keys.len()), (g, e), count, dv);
                add(simd, (Left::Columns(ds), keys.len()), (q, d), count, dk);
                add(simd, (Left::Rows(ds), count), (k, d), keys.len(), dq);
            }
        }
    }
}

impl<T: Real> Shared<'_, T> {
    /// From products `q . k` and `dP` of one row and some keys to `W` and `dS slope`, both in place, where the scores have slopes; and the
    /// sum of `dS` times the distances.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_slopes<S: Simd>(
        &self,
        simd: S,
        (row, terms): (Row, RowTerms<T>),
        (keys, whole): (&Range<usize>, bool),
        [w, ds, derivatives]: [&mut [T]; 3],
    ) -> T {
        let addends = Addends::of(self.problem, row, keys.clone());
        weights_and_derivatives(simd, &self.scoring, terms.lse, &addends, w, derivatives);
        for (ds, &w) in ds.iter_mut().zip(&*w) {
            *ds = w * (*ds - terms.delta);
        }
        if !whole {
            for x in [w, &mut *ds, &mut *derivatives] {
                self.visible.hide(row, keys, x, T::zero());
            }
        }
        let mut sum = T::zero();
        for (&ds, j) in ds.iter().zip(keys.clone()) {
            sum += ds * self.problem.alibi_distance(row, j);
        }
        for (ds, &derivative) in ds.iter_mut().zip(&*derivatives) {
            *ds *= derivative * self.scoring.scale;
        }
        sum
    }
}

/// `c += left right`, where `right` and `c` are contiguous and have `columns` columns.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled for the instruction set of its caller")]
fn add<S: Simd, T: Real>(
    simd: S,
    left: (Left<'_, T>, usize),
    (right, columns): (&[T], usize),
    depth: usize,
    c: &mut [T],
) {
    let right = (Right { data: right, stride: columns }, columns);
    multiply(simd, Store::Add, left, right, depth, (c, columns));
}
