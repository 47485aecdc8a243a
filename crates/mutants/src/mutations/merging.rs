//! Keys in chunks, computed apart and merged; queries in halves.

use super::{BugType, define_kernels, only_if, read_rows};
use crate::simulated_kernel::{Point, State};

/// The `lse` of each row over the keys of its own chunk, for both chunks of keys.
fn chunk_lse(w: &State<'_>) -> [Vec<f64>; 2] {
    let (keys, half) = (w.sizes.keys, w.sizes.keys / 2);
    let of = |n: usize, chunk: std::ops::Range<usize>| {
        let seen: Vec<f64> =
            chunk.map(|j| n * keys + j).filter(|&at| w.seen[at]).map(|at| w.s[at]).collect();
        let largest = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if seen.is_empty() {
            largest
        } else {
            largest + libm::log(seen.iter().map(|s| libm::exp(s - largest)).sum())
        }
    };
    let rows = || w.rows().map(|(n, _)| n);
    [rows().map(|n| of(n, 0..half)).collect(), rows().map(|n| of(n, half..keys)).collect()]
}

define_kernels! { Some(BugType::Merging);
    /// `delta` from the `o` of the key's own chunk, scaled into the whole: `do . o_c` in place of `do . o`.
    ["37"] [Dq, Dk, Dbias]
    fn delta_of_chunk(config) {
        only_if(config.sizes().keys > 1)?;
        Some(config.mutate(Point::Product, |w| {
            let (keys, half) = (w.sizes.keys, w.sizes.keys / 2);
            for (n, _) in w.rows() {
                let part = |chunk: std::ops::Range<usize>| -> f64 {
                    chunk.map(|j| n * keys + j).filter(|&at| w.p[at] != 0.0).map(|at| w.p[at] * w.dp[at]).sum()
                };
                let parts = [part(0..half), part(half..keys)];
                for j in 0..keys {
                    w.dp[n * keys + j] += w.delta[n] - parts[usize::from(j >= half)];
                }
            }
        }))
    }
    /// The weights of a chunk are normalised by the chunk's own `lse`.
    ["38"] [Dq, Dk, Dv, Dbias]
    fn lse_of_chunk(config) {
        only_if(config.sizes().keys > 1)?;
        Some(config.mutate(Point::Weights, |w| {
            let (lse, half) = (chunk_lse(w), w.sizes.keys / 2);
            for (at, n, _, j) in w.entries() {
                if w.seen[at] {
                    w.p[at] = w.unmasked_weight(at, lse[usize::from(j >= half)][n]);
                }
            }
        }))
    }
    /// The second half of the queries reads `lse` at half the total length, not half of its own.
    ["38"] [Dq, Dk, Dv, Dbias, Dsink]
    fn lse_of_half_index(config) {
        let queries = config.sizes().queries;
        only_if(queries > 1)?;
        Some(config.mutate(Point::Saved, |w| {
            let (lse, half) = (w.lse.clone(), queries / 2);
            w.rows().filter(|(_, row)| row.i >= half).for_each(|(n, _)| w.lse[n] = lse[n - half]);
        }))
    }
    /// `dq` is that of the last chunk of keys: each chunk overwrites the one before.
    [] [Dq]
    fn dq_of_last_chunk(config) {
        let half = config.sizes().keys / 2;
        only_if(half > 0)?;
        Some(config.mutate(Point::Slopes, |w| {
            w.entries().filter(|&(_, _, _, j)| j < half).for_each(|(at, _, _, _)| w.zq[at] = 0.0);
        }))
    }
    /// `dk` and `dv` are those of the last chunk of queries.
    [] [Dk, Dv]
    fn key_gradients_of_last_chunk(config) {
        let half = config.sizes().queries / 2;
        only_if(half > 0)?;
        Some(config.mutate(Point::Slopes, |w| w.lose_keys(|row, _| row.i < half)))
    }
    /// A ring: the backward pass of every chunk reads the keys and values of the first.
    ["23"] [Dq, Dk, Dv, Dbias, Dsink]
    fn ring_reuses_first_chunk(config) {
        let half = config.sizes().keys.div_ceil(2);
        only_if(config.sizes().keys > 1)?;
        Some(config.mutate(Point::Saved, |w| {
            w.k = read_rows(&w.k, |[b, h, j]| Some([b, h, j % half]));
            w.v = read_rows(&w.v, |[b, h, j]| Some([b, h, j % half]));
        }))
    }
    /// A ring stops one step early: `dk` and `dv` arrive at the neighbour's chunk.
    ["38"] [Dk, Dv]
    fn ring_stops_early(config) {
        let (keys, half) = (config.sizes().keys, config.sizes().keys / 2);
        only_if(half > 0)?;
        Some(config.mutate(Point::Stored, |w| {
            w.dk = read_rows(&w.dk, |[b, h, j]| Some([b, h, (j + half) % keys]));
            w.dv = read_rows(&w.dv, |[b, h, j]| Some([b, h, (j + half) % keys]));
        }))
    }
    /// The diagonal chunk of a causal ring is added twice.
    [] [Dq, Dk, Dv, Dbias]
    fn diagonal_chunk_twice(config) {
        only_if(config.problem.options().causal)?;
        let (queries, keys) = (config.sizes().queries.div_ceil(2), config.sizes().keys.div_ceil(2));
        Some(config.mutate(Point::Slopes, |w| {
            for (at, _, row, j) in w.entries().filter(|&(_, _, row, j)| row.i >= queries && j >= keys) {
                let _ = (row, j);
                for matrix in [&mut w.zq, &mut w.zk, &mut w.wv, &mut w.ds] {
                    matrix[at] *= 2.0;
                }
            }
        }))
    }
}
