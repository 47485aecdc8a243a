//! The equations of one key head and their left inverses.

use super::shared_bias::heads_share_bias;
use super::{Unknown, head_of};
use crate::limits::MAX_STOCHASTIC_OF_HEAD;
use crate::statistical::model::{Model, for_each_part, slices};
use nalgebra::DMatrix;

/// An entry is identified where its weight is known to this part of its kept weight. Below one half no entry can be mistaken; a tenth is
/// left for the rounding of the inverse and of the predicted gradients.
const IDENTIFIED: f64 = 0.4;
const _: () = assert!(IDENTIFIED < 0.5);

/// The stochastic entries of a key head and their equations.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The unknowns are `first..first + count` of all.
    pub first: usize,
    /// `(tensor, index)` of each equation.
    pub equations: Vec<(usize, usize)>,
    /// By equation, `1 / bound`.
    pub inverse_bounds: Vec<f64>,
    /// The terms of the entries of `q = 1`.
    pub offsets: Vec<f64>,
    /// By unknown, then by equation.
    pub columns: Vec<Vec<f64>>,
    /// The entries that each stage identifies, once those of the stages before it are known.
    pub stages: Vec<Vec<RecoveredEntry>>,
}

/// An entry that a stage identifies.
#[derive(Debug, Clone)]
pub(super) struct RecoveredEntry {
    /// Its place in the block.
    pub n: usize,
    /// Its row of the left inverse.
    pub inverse: Vec<f64>,
    /// The error of the weight that this row gives, at most.
    pub noise: f64,
}

impl Block {
    pub(super) fn new(
        model: &Model<'_>,
        head: usize,
        first: usize,
        unknowns: &[Unknown],
        with_bias: bool,
        given: bool,
    ) -> Option<Self> {
        if unknowns.len() > MAX_STOCHASTIC_OF_HEAD {
            return None;
        }
        let bounds = slices(&model.bounds);
        let tensors = if with_bias && !heads_share_bias(model) { 4 } else { 3 };
        let mut place: Vec<Vec<usize>> =
            bounds.iter().map(|bound| vec![usize::MAX; bound.len()]).collect();
        let mut equations = Vec::new();
        for row in model.rows.iter().enumerate().filter(|(at, _)| head_of(model, *at) == head) {
            for entry in &row.1.entries {
                for_each_part(model.problem, row.1.row, entry, |tensor, index, _| {
                    if tensor < tensors && place[tensor][index] == usize::MAX {
                        place[tensor][index] = equations.len();
                        equations.push((tensor, index));
                    }
                });
            }
        }
        let mut offsets = vec![0.0; equations.len()];
        let mut columns = vec![vec![0.0; equations.len()]; unknowns.len()];
        for (at, row) in model.rows.iter().enumerate().filter(|(at, _)| head_of(model, *at) == head)
        {
            for (n, entry) in row.entries.iter().enumerate() {
                let unknown = unknowns.iter().position(|u| (u.row, u.n) == (at, n));
                for_each_part(model.problem, row.row, entry, |tensor, index, x| {
                    if tensor >= tensors {
                        return;
                    }
                    let e = place[tensor][index];
                    match unknown {
                        Some(n) => columns[n][e] += x,
                        None => {
                            offsets[e] +=
                                row.distribution.kept[n] * if entry.w > 0.0 { x } else { 0.0 }
                        }
                    }
                });
            }
        }
        let inverse_bounds: Vec<f64> = equations
            .iter()
            .map(|&(tensor, index)| {
                let bound = bounds[tensor][index];
                if bound > 0.0 && bound.is_finite() { 1.0 / bound } else { 0.0 }
            })
            .collect();
        let mut block =
            Block { first, equations, inverse_bounds, offsets, columns, stages: Vec::new() };
        if !given {
            block.invert(unknowns)?;
        }
        Some(block)
    }

    /// The stages; `None` if the equations do not identify every unknown.
    fn invert(&mut self, unknowns: &[Unknown]) -> Option<()> {
        let mut left: Vec<usize> = (0..unknowns.len()).collect();
        while !left.is_empty() {
            let recovered = self.recovered(unknowns, &left)?;
            left.retain(|n| recovered.iter().all(|recovered| recovered.n != *n));
            self.stages.push(recovered);
        }
        Some(())
    }

    /// The unknowns of `left` that a left inverse of the scaled columns identifies if all others are known; `None` if there are none.
    fn recovered(&self, unknowns: &[Unknown], left: &[usize]) -> Option<Vec<RecoveredEntry>> {
        let (equations, count) = (self.equations.len(), left.len());
        if equations < count {
            return None;
        }
        let a = DMatrix::from_fn(equations, count, |e, at| {
            self.columns[left[at]][e] * self.inverse_bounds[e] * unknowns[left[at]].kept
        });
        let inverse = a.clone().pseudo_inverse(1e-300).ok()?;
        let product = &inverse * &a;
        let mut recovered = Vec::new();
        for (at, &n) in left.iter().enumerate() {
            let kept = unknowns[n].kept;
            let row: Vec<f64> = inverse.row(at).iter().map(|x| x * kept).collect();
            let of_bounds: f64 = row.iter().map(|x| x.abs()).sum();
            let of_inverse: f64 = (0..count)
                .map(|m| (product[(at, m)] - f64::from(u8::from(m == at))).abs())
                .sum::<f64>()
                * kept;
            let noise = of_bounds + of_inverse;
            if noise < IDENTIFIED * kept {
                recovered.push(RecoveredEntry { n, inverse: row, noise });
            }
        }
        (!recovered.is_empty()).then_some(recovered)
    }
}
