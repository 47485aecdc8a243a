//! The draw of the mask, beside the running rows of the forward pass.

use super::decide::{Candidate, Decider, Magnitude};
use super::forward::Running;
use super::lanes::Real;
use super::words::fill;
use crate::problem::Row;
use pulp::Simd;
use std::ops::Range;

/// The kept keys of the rows of one tile.
#[derive(Debug, Default)]
pub(super) struct TileDraw {
    /// Kept keys of each row.
    pub(super) counts: Vec<u32>,
    /// The kept keys, row after row.
    pub(super) columns: Vec<u32>,
    /// Expected kept entries of each row.
    pub(super) expected: Vec<f64>,
}

/// What a draw needs while the rows run.
#[derive(Clone, Copy)]
pub(super) struct Drawing<'a> {
    pub(super) decider: Decider<'a>,
    /// For each `(b, key head)`, the largest norm of a key.
    pub(super) key_norms: &'a [f64],
    /// The largest bias.
    pub(super) bias: f64,
    /// `e^d` for the largest bound `d` of all rows: the candidates' threshold is this factor above `c p / l`.
    pub(super) slack: f64,
}

/// `2^32`.
const GRID: f64 = 4_294_967_296.0;

/// Appends the visible entries of a row of a tile whose word is at most `2^32 c p / l`, with `l` as far as the row has run;
/// `first` is the key of the first entry.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled for the instruction set of its caller")]
pub(super) fn collect<S: Simd, T: Real>(
    simd: S,
    drawing: &Drawing<'_>,
    Row { b, h, i }: Row,
    p: &[T],
    first: usize,
    running: Running,
    (words, excess): (&mut [u32], &mut [T]),
    candidates: &mut Vec<Candidate>,
) {
    let Decider { exact, draw, uniforms, .. } = drawing.decider;
    let place = exact.mask().place(i);
    let b = b * exact.mask().segment_count() + place.segment;
    let skip = fill(uniforms, [b, h, place.query], first - place.first_key, p.len(), words);
    let words = &words[skip..skip + p.len()];
    let shift = running.m;
    let limit = T::from_f64(draw.c.get() / running.l * GRID * drawing.slack);
    let mut push = |p: T, word: u32, j: usize| {
        candidates.push(Candidate { j: j as u32, word, p: p.to_f64(), shift });
    };
    let excess = &mut excess[..p.len()];
    for ((excess, &p), &word) in excess.iter_mut().zip(p).zip(words) {
        *excess = p * limit - T::from_word(word);
    }
    let (vectors, rest) = T::vectors::<S>(excess);
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    let rest = p.len() - rest.len()..p.len();
    let mut scan = |entries: Range<usize>| {
        for at in entries {
            if excess[at] >= T::zero() {
                push(p[at], words[at], first + at);
            }
        }
    };
    for (at, &vector) in vectors.iter().enumerate() {
        if T::largest(simd, vector) >= T::zero() {
            scan(at * lanes..(at + 1) * lanes);
        }
    }
    scan(rest);
}

/// The kept keys of the rows, from their candidates.
pub(super) fn decide_rows<T: Real>(
    drawing: &Drawing<'_>,
    (b, h, rows): (usize, usize, Range<usize>),
    running: &[Running],
    candidates: &[Vec<Candidate>],
) -> TileDraw {
    let mut tile = TileDraw::default();
    let exact = drawing.decider.exact;
    let sink = exact.inputs().sink.as_ref().map(|sink| sink[h]);
    let sizes = exact.sizes();
    for ((i, running), candidates) in rows.zip(running).zip(candidates) {
        let row = Row { b, h, i };
        let before = tile.columns.len();
        let lse = running.lse();
        let key_norm = drawing.key_norms[b * sizes.key_heads + exact.key_head(h)];
        let magnitude = Magnitude {
            product: exact.scale().abs() * norm(exact.q(row)) * key_norm,
            bias: drawing.bias,
            sink: sink.unwrap_or(0.0).abs(),
            softcap: exact.options().softcap,
            features: sizes.features,
            keys: sizes.keys,
        };
        let surplus = drawing.decider.row::<T>(row, candidates, lse, &magnitude, &mut tile.columns);
        let keys = if exact.mask().visible(i).is_empty() {
            0.0
        } else {
            sink.map_or(1.0, |sink| 1.0 - libm::exp(sink - lse))
        };
        let expected = drawing.decider.draw.c.get() * keys - surplus;
        tile.expected.push(expected.max(0.0));
        tile.counts.push((tile.columns.len() - before) as u32);
    }
    tile
}

/// The Euclidean norm, not below the true one by more than the factor that the bound's ten per cent cover.
pub(super) fn norm(x: &[f64]) -> f64 {
    libm::sqrt(x.iter().map(|x| x * x).sum())
}
