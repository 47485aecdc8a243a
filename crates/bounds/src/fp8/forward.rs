//! The stored `o` of a forward pass whose `P` has 8 bits. Section 9.4.

use super::super::interval::Interval;
use super::super::range::RoundingRange;
use super::super::row::RowErrors;
use super::super::stage::Stage;
use super::super::sums::ElementError;
use super::quantise::quantised;
use super::sums::{IntervalSums, Stored};
use super::{Fp8, PreparedRows, StoredRows};
use rayon::prelude::*;
use std::f64::consts::LN_2;
use sus_reference::problem::Row;

/// What the `P` of the forward pass is relative to when it is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardWay {
    /// `P = exp(s - lse)`, as in the backward pass.
    Normalised,
    /// `exp(s - m)` with the largest score `m` of the keys up to the end of the tile, from the first key or from the last one; the sum
    /// is divided. A tile of 0 is the whole row.
    Maximum {
        /// Keys of a tile.
        tile: usize,
        /// From the last key.
        reversed: bool,
        /// The maximum is changed where a tile's is above it by more than a factor `2^lazy` of `exp`.
        lazy: u8,
    },
    /// The same with the largest score of the tile itself: parts that are computed apart and merged.
    OwnMaximum {
        /// Keys of a part.
        tile: usize,
    },
    /// Any number between the two: a kernel that rescales as it likes. Then the codes are not known.
    Any,
}

/// The tiles that are tried, the usual ones first: what kernels have, in steps of the 16 keys of a matrix instruction, and short ones.
const TILES: [usize; 23] = [
    64, 128, 32, 16, 256, 48, 80, 96, 112, 144, 160, 176, 192, 208, 224, 240, 320, 384, 512, 8, 4,
    2, 1,
];

/// The thresholds of a maximum that is not changed for a little: 8 in FlashAttention 4, 2 and 4 in cudnn-frontend's tests of 8 bits.
const LAZY: [u8; 3] = [2, 4, 8];

/// The numbers of parts that are tried, whose keys are tiles.
const PARTS: [usize; 4] = [2, 3, 4, 8];

/// A uniform variable in `[-a, a]` is sub-Gaussian with the squared parameter `a^2 / 3`: see `rounding_model`.
const UNIFORM: f64 = 1.0 / 3.0;

impl ForwardWay {
    /// The ways in which the codes are known, for this many keys: the usual ones first.
    #[must_use]
    pub fn known(keys: usize) -> Vec<Self> {
        let whole =
            [ForwardWay::Normalised, ForwardWay::Maximum { tile: 0, reversed: false, lazy: 0 }];
        let parts = PARTS.into_iter().map(|parts| keys.div_ceil(parts));
        let mut tiles: Vec<usize> = Vec::new();
        for tile in TILES.into_iter().chain(parts).filter(|&tile| 0 < tile && tile < keys) {
            if !tiles.contains(&tile) {
                tiles.push(tile);
            }
        }
        let running =
            |reversed| move |&tile: &usize| ForwardWay::Maximum { tile, reversed, lazy: 0 };
        let lazy = LAZY.into_iter().flat_map(|lazy| {
            let tiles = [64, 128].into_iter().filter(|&tile| tile < keys);
            tiles.flat_map(move |tile| {
                [false, true].map(|reversed| ForwardWay::Maximum { tile, reversed, lazy })
            })
        });
        let own = tiles.iter().map(|&tile| ForwardWay::OwnMaximum { tile });
        let running = tiles.iter().map(running(false)).chain(tiles.iter().map(running(true)));
        whole.into_iter().chain(running).chain(lazy).chain(own).collect()
    }

    /// In words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            ForwardWay::Normalised => "P of the forward pass is normalised before it is rounded".into(),
            ForwardWay::Maximum { tile: 0, .. } => {
                "P of the forward pass is relative to the row's maximum when it is rounded".into()
            }
            ForwardWay::Maximum { tile, reversed, lazy } => {
                let lazy = match lazy {
                    0 => String::new(),
                    lazy => format!(", changed where exp would be above 2^{lazy}"),
                };
                let from = if reversed { "last" } else { "first" };
                format!(
                    "P of the forward pass is relative to a running maximum when it is rounded, in tiles of {tile} keys from the {from}{lazy}"
                )
            }
            ForwardWay::OwnMaximum { tile } => format!(
                "P of the forward pass is relative to the maximum of its part when it is rounded, in parts of {tile} keys"
            ),
            ForwardWay::Any => {
                "it is not known what P of the forward pass is relative to when it is rounded: o has half a step of E4M3 for each P"
                    .into()
            }
        }
    }
}

impl Fp8<'_> {
    /// `o` of some rows, one after the other.
    #[must_use]
    pub fn o(&self, way: ForwardWay, rows: &PreparedRows) -> StoredRows {
        let one = |(row, errors): &(Row, RowErrors)| self.o_row(way, *row, errors);
        StoredRows::concat(rows.rows.par_iter().map(one).collect())
    }

    /// The whole `o`.
    #[must_use]
    pub fn whole_o(&self, way: ForwardWay) -> StoredRows {
        let p = self.context.input.problem;
        let one = |number: usize| {
            let row = p.row(number);
            self.o_row(way, row, &self.context.row_errors(row, self.context.input.mode))
        };
        StoredRows::concat((0..p.row_count()).into_par_iter().map(one).collect())
    }

    fn o_row(&self, way: ForwardWay, row: Row, errors: &RowErrors) -> StoredRows {
        match way {
            ForwardWay::Normalised => self.normalised(row, errors),
            ForwardWay::Maximum { .. } | ForwardWay::OwnMaximum { .. } => {
                self.by_maximum(row, errors, way)
            }
            ForwardWay::Any => self.by_any(row, errors),
        }
    }

    fn normalised(&self, row: Row, errors: &RowErrors) -> StoredRows {
        let p = self.context.input.problem;
        let mut sums = IntervalSums::new(p.sizes().value_features);
        for e in &errors.entries {
            let code = self.code(self.weight(errors, e));
            sums.add(self.dropped(code, e), p.v(row, e.j));
        }
        self.stored_o(&sums, errors, 0.0)
    }

    /// `sum_t e^{m_t - lse} sum_{j in t} P^_j v_j`.
    fn by_maximum(&self, row: Row, errors: &RowErrors, way: ForwardWay) -> StoredRows {
        let (tile, reversed, running, lazy) = match way {
            ForwardWay::Maximum { tile, reversed, lazy } => (tile, reversed, true, lazy),
            ForwardWay::OwnMaximum { tile } => (tile, false, false, 0),
            ForwardWay::Normalised | ForwardWay::Any => (0, false, true, 0),
        };
        let (p, recipe) = (self.context.input.problem, self.context.input.recipe);
        let u = self.context.roundoff.u;
        let mut sums = IntervalSums::new(p.sizes().value_features);
        let tile_of = |j: usize| j.checked_div(tile).unwrap_or(0);
        let mut order: Vec<usize> = (0..errors.entries.len()).collect();
        if reversed {
            order.reverse();
        }
        let mut most = f64::NEG_INFINITY;
        // The kernel's maximum is one of its scores, with the error of that.
        let of_most = errors.largest_entry;
        // The rescalings, each an exp and a product, are counted for the recipe's smallest tile.
        let more = recipe.tile.checked_div(tile).unwrap_or(1).max(1);
        let rescale = more as f64 * errors.rescale.worst_case;
        for of_tile in
            order.chunk_by(|&a, &b| tile_of(errors.entries[a].j) == tile_of(errors.entries[b].j))
        {
            let before = if running { most } else { f64::NEG_INFINITY };
            let next = of_tile.iter().fold(before, |most, &at| most.max(errors.entries[at].s));
            if next - before > f64::from(lazy) * LN_2 || before == f64::NEG_INFINITY {
                most = next;
            }
            let factor = libm::exp(most - errors.lse);
            for &at in of_tile {
                let e = &errors.entries[at];
                let w = libm::exp(e.s - most);
                let relative = libm::expm1(e.log.worst_case + e.log_stored + of_most) + 8.0 * u;
                let code = quantised(Interval::about(w, relative * w), recipe.p, recipe.p_scale, u);
                let scaled = code.times(Interval::about(factor, 0.0));
                let scaled = scaled.widened(rescale * scaled.size());
                sums.add(self.dropped(scaled, e), p.v(row, e.j));
            }
        }
        // The division by the row's sum, which errs as e^lse does, and the largest score in the factor.
        let of_sum = libm::expm1(errors.lse_error.worst_case + of_most);
        self.stored_o(&sums, errors, of_sum)
    }

    /// Half a step for each `P`, as independent roundings, wherever the number that is rounded lies.
    fn by_any(&self, row: Row, errors: &RowErrors) -> StoredRows {
        let (p, recipe) = (self.context.input.problem, self.context.input.recipe);
        let (lambda, format, width) = (self.context.lambda, recipe.p, p.sizes().value_features);
        // Above the largest number all errors have one sign: then they are no random part.
        let largest = format.round(f64::MAX);
        let saturated = (1.0 - largest / recipe.p_scale).max(0.0);
        let mut sums = IntervalSums::new(width);
        let [mut squares, mut whole] = [(); 2].map(|()| vec![0.0; width]);
        for e in &errors.entries {
            let w = self.weight(errors, e);
            sums.add(self.dropped(w, e), p.v(row, e.j));
            // The number that is rounded is at least p_scale W, and at most p_scale.
            let least = recipe.p_scale * w.least;
            let half =
                format.unit_roundoff().max((format.smallest_subnormal() / 2.0 / least).min(1.0));
            for (d, v) in p.v(row, e.j).iter().enumerate() {
                let term = e.w * e.dropout * v.abs();
                squares[d] += (half * term) * (half * term);
                whole[d] += saturated.max(half) * term;
            }
        }
        let of_sum = libm::expm1(errors.lse_error.worst_case);
        let mut rows = self.stored_o(&sums, errors, of_sum);
        for d in 0..width {
            let random = lambda * libm::sqrt(squares[d] * UNIFORM * errors.multiplicity);
            let of_p = if saturated > 0.0 { whole[d] } else { whole[d].min(random) };
            let at = &mut rows.bound;
            at.threshold[d] += of_p;
            at.worst_case[d] += whole[d];
            let before = at.threshold[d];
            rows.ranges[d] = RoundingRange::stored(rows.reference[d], before, recipe.o, false);
            let mut element = ElementError::default();
            element.add(Stage::P as usize, of_p, of_p);
            element.add(Stage::Sum as usize, before - of_p, before - of_p);
            at.stages[d] = element.shares();
        }
        rows
    }

    fn stored_o(&self, sums: &IntervalSums, errors: &RowErrors, shared: f64) -> StoredRows {
        let mut rows = StoredRows::default();
        // 3: the scale of v, the division of the code by its scale, and the reciprocal of that. The rest as without 8 bits.
        let more = errors.forward_roundings.saturating_sub(errors.entries.len()) + 3;
        let format = self.context.input.recipe.o;
        let by = Stored { stage: Stage::P, more, shared, scale: 1.0, format };
        sums.stored(&self.context, &by, &mut rows);
        rows
    }
}
