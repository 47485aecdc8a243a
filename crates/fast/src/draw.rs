//! The draw of the mask, beside the running rows of the forward pass.

use super::decide::{Candidate, Decider};
use super::lse_lower_bound::LseLowerBounds;
use super::running_softmax::Running;
use super::score_error::{Magnitude, norm, norm_of_chain};
use super::simd::Real;
use std::ops::Range;
use sus_reference::problem::Row;

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

/// The inputs of sampling while the rows run.
#[derive(Clone, Copy)]
pub(super) struct Drawing<'a> {
    pub(super) decider: Decider<'a>,
    /// For each `(b, key head)`, the largest norm of a key.
    pub(super) key_norms: &'a [f64],
    /// The largest bias.
    pub(super) bias: f64,
    /// Lower bounds for keys whose scores are not computed yet.
    pub(super) lse_lower_bounds: Option<&'a LseLowerBounds>,
    /// `e^d` for the largest bound `d` of all rows: the candidates' threshold is this factor above `c p / l`.
    pub(super) slack: f64,
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
        let of_keys = exact.scale().abs() * key_norm;
        let magnitude = Magnitude {
            product: of_keys * norm(exact.q(row)),
            chain: of_keys * norm_of_chain(exact.q(row)),
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
        let keys = if exact.visible_keys(row) == 0 {
            0.0
        } else {
            sink.map_or(1.0, |sink| 1.0 - libm::exp(sink - lse))
        };
        tile.columns[before..].sort_unstable();
        let expected = drawing.decider.draw.c.get() * keys - surplus;
        tile.expected.push(expected.max(0.0));
        tile.counts.push((tile.columns.len() - before) as u32);
    }
    tile
}
