//! The gradient of a bias that several key heads share.

use super::Unknown;
use crate::statistical::model::{Model, for_each_part, slices};

/// The `dbias` of a bias that heads or sequences share. It depends on the masks of several key heads, so it is judged once all are
/// recovered.
#[derive(Debug, Clone)]
pub(super) struct SharedBias {
    /// The terms of the entries of `q = 1`.
    pub offsets: Vec<f64>,
    /// By unknown: the element that it contributes to, and its term if it is kept.
    pub parts: Vec<(usize, f64)>,
}

pub(super) fn heads_share_bias(model: &Model<'_>) -> bool {
    let s = model.problem.sizes();
    let bias = model.problem.inputs().bias.as_ref();
    bias.is_some_and(|bias| bias.shape()[0] < s.batch || bias.shape()[1] < s.query_heads)
}

impl SharedBias {
    pub(super) fn new(model: &Model<'_>, unknowns: &[Unknown]) -> Self {
        let part = |row: usize, n: usize| {
            let (mut part, entry) = ((0, 0.0), &model.rows[row].entries[n]);
            for_each_part(model.problem, model.rows[row].row, entry, |tensor, index, x| {
                if tensor == 3 {
                    part = (index, model.rows[row].distribution.kept[n] * x);
                }
            });
            part
        };
        let mut offsets = vec![0.0; slices(&model.bounds)[3].len()];
        for (row, model) in model.rows.iter().enumerate() {
            for (n, entry) in model.entries.iter().enumerate() {
                if !model.distribution.is_stochastic(n) && entry.w > 0.0 {
                    let (index, x) = part(row, n);
                    offsets[index] += x;
                }
            }
        }
        let parts = unknowns.iter().map(|unknown| part(unknown.row, unknown.n)).collect();
        SharedBias { offsets, parts }
    }
}
