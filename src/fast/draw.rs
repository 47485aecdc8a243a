//! The draw of the mask, beside the running rows of the forward pass.

use super::decide::{Candidate, Decider, Magnitude};
use super::forward::{MAX_TILE, Running};
use super::lanes::Real;
use super::words::{SPARE, fill};
use crate::problem::Row;
use aligned_vec::{AVec, avec};
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

/// The memory in which a row of a tile is searched for candidates.
pub(super) struct CollectMemory<T> {
    words: AVec<u32>,
    /// `2^32 c p / l` less the word.
    excess: AVec<T>,
    /// Places of candidates.
    hits: Vec<u32>,
}

impl<T: Real> Default for CollectMemory<T> {
    fn default() -> Self {
        CollectMemory {
            words: avec![0; MAX_TILE + SPARE],
            excess: avec![T::zero(); MAX_TILE],
            hits: vec![0; MAX_TILE + 1],
        }
    }
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
    (p, first): (&[T], usize),
    running: Running,
    CollectMemory { words, excess, hits }: &mut CollectMemory<T>,
    candidates: &mut Vec<Candidate>,
) {
    let Decider { exact, draw, uniforms, .. } = drawing.decider;
    let place = exact.mask().place(i);
    let b = b * exact.mask().segment_count() + place.segment;
    let skip = fill(simd, uniforms, [b, h, place.query], first - place.first_key, p.len(), words);
    let words = &words[skip..skip + p.len()];
    let limit = T::from_f64(draw.c.get() / running.l * GRID * drawing.slack);
    let (excess, hits) = (&mut excess[..p.len()], &mut hits[..=p.len()]);
    for ((excess, &p), &word) in excess.iter_mut().zip(p).zip(words) {
        *excess = p * limit - T::from_word(word);
    }
    // A candidate is written and counted without a branch, which no machine could predict.
    let mut count = 0;
    let mut scan = |entries: Range<usize>| {
        for at in entries {
            hits[count] = at as u32;
            count += usize::from(excess[at] >= T::zero());
        }
    };
    let (vectors, rest) = T::vectors::<S>(excess);
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    for (at, &vector) in vectors.iter().enumerate() {
        if T::largest(simd, vector) >= T::zero() {
            scan(at * lanes..(at + 1) * lanes);
        }
    }
    scan(p.len() - rest.len()..p.len());
    candidates.extend(hits[..count].iter().map(|&at| {
        let at = at as usize;
        Candidate { j: (first + at) as u32, word: words[at], p: p[at].to_f64(), shift: running.m }
    }));
}

/// The kept keys of the rows, from their candidates.
pub(super) fn decide_rows<T: Real>(
    drawing: &Drawing<'_>,
    (b, h, rows): (usize, usize, Range<usize>),
    running: &[Running],
    candidates: &[Vec<Candidate>],
) -> TileDraw {
    let mut tile = TileDraw::default();
    let mut memory = Vec::new();
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
        let surplus = drawing.decider.row::<T>(
            row,
            candidates,
            lse,
            &magnitude,
            &mut memory,
            &mut tile.columns,
        );
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
