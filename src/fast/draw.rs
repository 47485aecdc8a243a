//! The draw of the mask, beside the running rows of the forward pass.

use super::decide::{Candidate, Decider, Magnitude};
use super::floor::Floors;
use super::forward::Running;
use super::lanes::Real;
use crate::problem::Row;
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
    /// What is known of scores before they are computed.
    pub(super) floors: Option<&'a Floors>,
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
        let keys = if exact.mask().visible(i).is_empty() {
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

/// The Euclidean norm of `(D + 1) q_1, D q_2, ..., 2 q_D`, see [`Magnitude::chain`].
fn norm_of_chain(q: &[f64]) -> f64 {
    let weights = (2..q.len() + 2).rev().map(|n| n as f64);
    libm::sqrt(q.iter().zip(weights).map(|(q, n)| (n * q) * (n * q)).sum())
}

/// The Euclidean norm, not below the true one by more than the factor that the bound's ten per cent cover.
pub(super) fn norm(x: &[f64]) -> f64 {
    libm::sqrt(x.iter().map(|x| x * x).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::Dispatch;
    use crate::fast::lanes::private::Vectors as _;
    use crate::problem::{Inputs, Options, Problem};
    use crate::tensor::Tensor;

    /// One key, so `lse` is the score. Each sum but the first rounds up by nearly half a unit of the last place.
    #[test]
    fn a_score_errs_by_nearly_as_much_as_the_bound_of_its_sum_and_not_by_more() {
        let small = libm::exp2(-12.0) * (1.0 + libm::exp2(-10.0));
        let row = || Tensor::from_fn([1, 1, 1, 64], |[.., d]| if d == 0 { 1.0 } else { small });
        let inputs =
            Inputs { q: row(), k: row(), v: row(), g: row(), dlse: None, bias: None, sink: None };
        let exact = Problem::new(inputs, Options { scale: Some(1.0), ..Options::default() });
        let exact = exact.unwrap();
        let q = exact.q(Row { b: 0, h: 0, i: 0 });
        let truth = q.iter().map(|x| x * x).sum::<f64>();
        let magnitude = Magnitude {
            product: norm(q) * norm(q),
            chain: norm(q) * norm_of_chain(q),
            bias: 0.0,
            sink: 0.0,
            softcap: None,
            features: 64,
            keys: 1,
        };
        let bound = magnitude.score_error(f32::ROUNDOFF);
        for dispatch in [Dispatch::Native, Dispatch::Portable] {
            let mut workspace = crate::fast::Workspace::new(dispatch);
            let saved = crate::fast::forward(&exact.cast::<f32>().unwrap(), &mut workspace);
            let ratio = (f64::from(saved.lse.as_slice()[0]) - truth).abs() / bound;
            assert!((0.8..1.0).contains(&ratio), "{ratio}, {dispatch:?}");
        }
    }
}
