//! The choices that a correct kernel is free to make.

use super::super::arithmetic::Format;

/// The order in which tiles are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First to last.
    Ascending,
    /// Last to first.
    Descending,
    /// Halves added recursively, down to single terms.
    Pairwise,
    /// Some order that is none of these, as atomics give.
    Scattered,
}

/// How a sum is carried out: terms within a tile in order, then the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summation {
    /// Terms per tile.
    pub tile: usize,
    /// The order of the tiles.
    pub order: Order,
    /// The format of the running total over the tiles.
    pub carry: Format,
    /// Whether the last total is rounded to it too.
    pub finish: bool,
}

/// How the forward pass normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Softmax {
    /// A running maximum and a running denominator, tile by tile.
    Online,
    /// The maximum first, then the sum.
    TwoPass,
}

/// Where the scale is multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// To the score, and to the finished sums.
    Sums,
    /// To `q` before the product; to the finished sums in the backward pass.
    Query,
    /// To the score, and to `dS` before it is rounded.
    Slopes,
}

/// The choices of one control.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Queries per tile.
    pub query_tile: usize,
    /// Keys per tile.
    pub key_tile: usize,
    /// The order of the tiles in every sum.
    pub order: Order,
    /// The forward's softmax.
    pub softmax: Softmax,
    /// Exponentials as `2^(x log2 e)`.
    pub base_two: bool,
    /// Products enter the sums unrounded.
    pub fused: bool,
    /// Where the scale goes.
    pub fold: Fold,
    /// `delta_i = sum_j W_ij dP_ij` in place of `G_i . o_i`.
    pub delta_from_weights: bool,
    /// The backward pass computes its own `lse`.
    pub recompute_lse: bool,
    /// A kept weight as `W / q` in place of `max(W, 1 / lambda)`.
    pub divide_by_q: bool,
    /// The softcap's derivative as `sech^2` in place of `1 - tanh^2`.
    pub sech: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            query_tile: super::TILE,
            key_tile: super::TILE,
            order: Order::Ascending,
            softmax: Softmax::Online,
            base_two: false,
            fused: true,
            fold: Fold::Sums,
            delta_from_weights: false,
            recompute_lse: false,
            divide_by_q: false,
            sech: false,
        }
    }
}
