//! Indices, strides and the tails of tiles.

use super::{BugType, define_kernels, only_if, read_flat, read_rows, write_flat};
use crate::simulated_kernel::{Point, TILE};

define_kernels! { Some(BugType::Indexing);
    /// `lse` is loaded at the first tile: row `i` uses that of row `i mod T`.
    ["1"] [Dq, Dk, Dv, Dbias, Dsink]
    fn lse_of_row_mod_tile(config) {
        only_if(config.sizes().queries > TILE)?;
        Some(config.mutate(Point::Saved, |w| {
            let lse = w.lse.clone();
            w.rows().for_each(|(n, row)| w.lse[n] = lse[n - row.i + row.i % TILE]);
        }))
    }
    /// `delta` is loaded at the first tile: row `i` uses that of row `i mod T`.
    ["1"] [Dq, Dk, Dbias, Dsink]
    fn delta_of_row_mod_tile(config) {
        only_if(config.sizes().queries > TILE)?;
        Some(config.mutate(Point::Delta, |w| {
            let delta = w.delta.clone();
            w.rows().for_each(|(n, row)| w.delta[n] = delta[n - row.i + row.i % TILE]);
        }))
    }
    /// The number of query tiles is computed from the keys: rows from `ceil(Nk/T) T` on are never visited.
    ["2"] [Dq, Dk, Dv, Dbias]
    fn query_tiles_counted_in_keys(config) {
        let end = config.sizes().keys.div_ceil(TILE) * TILE;
        only_if(config.sizes().queries > end)?;
        Some(config.mutate(Point::Slopes, |w| w.lose(|row, _| row.i >= end)))
    }
    /// Padded keys of the last tile are not masked: `exp(0 - lse)` overflows, and infinity times 0 is NaN in `dq`.
    ["3", "31", "39"] [Dq]
    fn padded_keys_overflow(config) {
        only_if(!config.sizes().keys.is_multiple_of(TILE))?;
        let overflows = |lse: f64| lse.is_finite() && config.arithmetic.accumulator.round(libm::exp(-lse)).is_infinite();
        Some(config.mutate(Point::Sums, |w| {
            let features = w.sizes.features;
            for (n, _) in w.rows().filter(|&(n, _)| overflows(w.lse[n])) {
                w.dq.as_mut_slice()[n * features..][..features].fill(f64::NAN);
            }
        }))
    }
    /// The causal branch skips the tail's mask where the rows are past the keys: keys beyond the last are the next head's.
    ["4"] [Dq]
    fn causal_branch_skips_tail_mask(config) {
        let sizes = config.sizes();
        let tail = sizes.keys / TILE * TILE;
        only_if(config.problem.options().causal && !sizes.keys.is_multiple_of(TILE) && sizes.queries > tail + TILE)?;
        Some(config.mutate(Point::Sums, |w| {
            let heads = sizes.batch * sizes.key_heads;
            for (n, row) in w.rows().filter(|(_, row)| row.i / TILE * TILE >= tail + TILE) {
                let head = row.b * sizes.key_heads + w.key_head[row.h] + 1;
                let (b, h) = (head / sizes.key_heads, head % sizes.key_heads);
                for j in 0..if head < heads { tail + TILE - sizes.keys } else { 0 } {
                    let (k, v) = (w.k.row(b, h, j), w.v.row(b, h, j));
                    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    let p = libm::exp(w.scale * dot(w.q.row(row.b, row.h, row.i), k) - w.lse[n]);
                    let ds = p * (dot(w.g.row(row.b, row.h, row.i), v) - w.delta[n]);
                    for (dq, k) in w.dq.as_mut_slice()[n * sizes.features..].iter_mut().zip(k) {
                        *dq += w.scale * ds * k;
                    }
                }
            }
        }))
    }
    /// The loop over keys ends one early.
    [] [Dq, Dk, Dv, Dbias]
    fn last_key_dropped(config) {
        let last = config.sizes().keys.checked_sub(1)?;
        Some(config.mutate(Point::Slopes, |w| w.lose(|_, j| j == last)))
    }
    /// Only whole tiles of keys are visited.
    [] [Dq, Dk, Dv, Dbias]
    fn tail_of_keys_dropped(config) {
        let end = config.sizes().keys / TILE * TILE;
        only_if(end < config.sizes().keys)?;
        Some(config.mutate(Point::Slopes, |w| w.lose(|_, j| j >= end)))
    }
    /// Only whole tiles of queries are visited when `dk` and `dv` are summed.
    [] [Dk, Dv]
    fn tail_of_queries_dropped(config) {
        let end = config.sizes().queries / TILE * TILE;
        only_if(end < config.sizes().queries)?;
        Some(config.mutate(Point::Slopes, |w| w.lose_keys(|row, _| row.i >= end)))
    }
    /// The last row of `dq` is not written.
    [] [Dq]
    fn last_query_unwritten(config) {
        let last = config.sizes().queries.checked_sub(1)?;
        Some(config.mutate(Point::Stored, |w| w.dq = read_rows(&w.dq, |at| (at[2] != last).then_some(at))))
    }
    /// `dv` is stored with as many columns as `dk` has.
    ["9"] [Dv]
    fn dv_columns_of_dk(config) {
        let features = config.sizes().features;
        only_if(config.sizes().value_features > features)?;
        Some(config.mutate(Point::Stored, |w| w.dv = read_flat(&w.dv, |[b, h, j, e]| {
            if e < features { ((b * w.sizes.key_heads + h) * w.sizes.keys + j) * w.sizes.value_features + e } else { usize::MAX }
        })))
    }
    /// `dv` is allocated like `k` and written with its strides.
    ["6"] [Dv]
    fn dv_with_strides_of_k(config) {
        let sizes = config.sizes();
        only_if(sizes.features != sizes.value_features)?;
        Some(config.mutate(Point::Stored, |w| w.dv = write_flat(&w.dv, |[b, h, j, e]| {
            ((b * sizes.key_heads + h) * sizes.keys + j) * sizes.features + e
        })))
    }
    /// The last tile of `dv` of each head but the first is written one head too far.
    ["19"] [Dv]
    fn dv_tail_in_next_head(config) {
        let sizes = config.sizes();
        only_if(sizes.key_heads > 1 && !sizes.keys.is_multiple_of(TILE))?;
        let tail = sizes.keys / TILE * TILE;
        Some(config.mutate(Point::Stored, |w| w.dv = read_rows(&w.dv, |[b, h, j]| match h {
            1 if j >= tail => None,
            h if h > 1 && j >= tail => Some([b, h - 1, j]),
            _ => Some([b, h, j]),
        })))
    }
    /// The offset of a row of `dq` wraps, as a 32-bit one does in long sequences; here at the largest power of two.
    ["17"] [Dq]
    fn dq_offset_wraps(config) {
        let rows = config.problem.row_count();
        only_if(rows > 1 && !rows.is_power_of_two())?;
        let wrap = rows.next_power_of_two() / 2;
        let sizes = config.sizes();
        Some(config.mutate(Point::Stored, |w| w.dq = write_flat(&w.dq, |[b, h, i, d]| {
            (((b * sizes.query_heads + h) * sizes.queries + i) % wrap) * sizes.features + d
        })))
    }
    /// Vectors of four are added at index `t` in place of `4 t`.
    ["18"] [Dq]
    fn dq_vector_index(config) {
        only_if(config.sizes().features > 4)?;
        Some(config.mutate(Point::Sums, |w| {
            for dq in w.dq.as_mut_slice().chunks_mut(config.problem.sizes().features) {
                let right = dq.to_vec();
                dq.fill(0.0);
                right.iter().enumerate().for_each(|(d, x)| dq[d / 4 + d % 4] += x);
            }
        }))
    }
    /// A shadowed loop variable: the sum of `dk` reads the first query of each tile for all of its rows.
    ["18"] [Dk]
    fn dk_of_first_query_of_tile(config) {
        Some(config.mutate(Point::Slopes, |w| w.q = read_rows(&w.q, |[b, h, i]| Some([b, h, i / TILE * TILE]))))
    }
    /// Shared memory of a key tile is overwritten by the next one before `dq` has read it.
    ["15"] [Dq]
    fn dq_reads_next_key_tile(config) {
        let keys = config.sizes().keys;
        only_if(keys > TILE)?;
        Some(config.mutate(Point::Slopes, |w| {
            w.k = read_rows(&w.k, |[b, h, j]| Some([b, h, if j + TILE < keys { j + TILE } else { j }]));
        }))
    }
    /// Strides of a contiguous `[B, N, H, D]` are taken for granted when `k` and `v` are read.
    ["16", "36"] [Dq, Dk, Dv, Dbias, Dsink]
    fn contiguous_strides_assumed(config) {
        only_if(config.sizes().key_heads > 1)?;
        Some(config.mutate(Point::Saved, |w| {
            let sizes = w.sizes;
            let from = |features: usize| move |[b, h, j, d]: [usize; 4]| {
                ((b * sizes.keys + j) * sizes.key_heads + h) * features + d
            };
            w.k = read_flat(&w.k, from(sizes.features));
            w.v = read_flat(&w.v, from(sizes.value_features));
        }))
    }
    /// Packed sequences: who writes `dq` pads each to 8 rows, who reads it to 4.
    ["8"] [Dq]
    fn padded_offsets_differ(config) {
        let segments = &config.problem.options().segments.as_ref()?.queries;
        let padded = |s: usize, tile: usize| -> usize {
            segments[..=s].windows(2).map(|pair| (pair[1] - pair[0]).next_multiple_of(tile)).sum()
        };
        let queries = config.sizes().queries;
        Some(config.mutate(Point::Stored, |w| w.dq = read_rows(&w.dq, |[b, h, i]| {
            let s = w.config.problem.mask().place(i).segment;
            let from = i + padded(s, 8) - padded(s, 4);
            (from < queries).then_some([b, h, from])
        })))
    }
    /// Keys of a sequence without queries: `dk` and `dv` are not written, and hold what the memory held.
    ["13"] [Dk, Dv]
    fn empty_sequence_unwritten(config) {
        let segments = config.problem.options().segments.as_ref()?;
        let empty: Vec<_> = (0..segments.keys.len() - 1)
            .filter(|&s| segments.queries[s] == segments.queries[s + 1])
            .map(|s| segments.keys[s]..segments.keys[s + 1])
            .collect();
        only_if(empty.iter().any(|keys| !keys.is_empty()))?;
        Some(config.mutate(Point::Stored, |w| {
            for tensor in [&mut w.dk, &mut w.dv] {
                let [_, _, keys, features] = tensor.shape();
                for (at, x) in tensor.as_mut_slice().iter_mut().enumerate() {
                    if empty.iter().any(|range| range.contains(&(at / features % keys))) {
                        *x = f64::NAN;
                    }
                }
            }
        }))
    }
    /// Padding rows of the last query tile hold an uninitialised `lse`: `dk` and `dv` are NaN.
    ["18", "32", "39"] [Dk, Dv]
    fn padding_of_lse_uninitialised(config) {
        only_if(!config.sizes().queries.is_multiple_of(TILE))?;
        Some(config.mutate(Point::Stored, |w| {
            w.dk = w.dk.map(|_| f64::NAN);
            w.dv = w.dv.map(|_| f64::NAN);
        }))
    }
    /// Rows beyond the used length contribute: a row that sees no key is treated as one that sees all.
    ["14"] [Dq, Dk, Dv, Dbias]
    fn unused_rows_contribute(config) {
        only_if(config.draw.is_none())?;
        Some(config.mutate(Point::Weights, |w| {
            for (at, n, _, _) in w.entries().filter(|&(_, n, _, _)| w.lse[n] == f64::NEG_INFINITY) {
                let _ = n;
                w.p[at] = w.unmasked_weight(at, 0.0);
            }
        }))
    }
    /// The block lists of the forward pass are used untransposed when `dk` and `dv` are summed.
    ["10"] [Dk, Dv]
    fn forward_block_lists(config) {
        let tile = 8;
        let (queries, keys) = (config.sizes().queries, config.sizes().keys);
        let visited = |m: usize, n: usize| {
            (n * tile..((n + 1) * tile).min(queries)).any(|i| {
                let visible = config.problem.mask().span(0, i);
                visible.start < ((m + 1) * tile).min(keys) && visible.end > m * tile
            })
        };
        Some(config.mutate(Point::Slopes, |w| w.lose_keys(|row, j| !visited(row.i / tile, j / tile))))
    }
    /// The sum of `dk` and `dv` of key tile `n` starts at query tile `n`, as if the problem were square.
    [] [Dk, Dv]
    fn first_query_tile_of_a_square(config) {
        only_if(config.problem.options().causal && config.sizes().queries != config.sizes().keys)?;
        Some(config.mutate(Point::Slopes, |w| w.lose_keys(|row, j| row.i / TILE < j / TILE)))
    }
    /// `dk` and `dv` of a batch start where `Nq` rows each would put them.
    ["25"] [Dk, Dv]
    fn batch_offset_in_queries(config) {
        let sizes = config.sizes();
        only_if(sizes.batch > 1 && sizes.queries != sizes.keys)?;
        let to = |features: usize| move |[b, h, j, d]: [usize; 4]| {
            (b * sizes.key_heads * sizes.queries + h * sizes.keys + j) * features + d
        };
        Some(config.mutate(Point::Stored, |w| {
            w.dk = write_flat(&w.dk, to(sizes.features));
            w.dv = write_flat(&w.dv, to(sizes.value_features));
        }))
    }
}
