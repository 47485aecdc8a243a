//! Mask recovery: the gradients of a run of a small problem determine which entries were kept (docs/statistics.md, "Mask recovery").
//!
//! For one key head, `dq`, `dk`, `dv` are `y = A w + y_0`, with `w` the kept weights of its stochastic entries and `y_0` the terms of
//! the entries of `q = 1`. If `|y - A w - y_0| <= beta` element by element, and `P` is a left inverse of `A / beta` (its rows divided
//! by `beta`), then `|P (y - y_0) / beta - w|_n <= sum_e |P_ne|`. An entry whose weight is known to less than half of its kept weight
//! is identified in every run. Its terms are then known, the others have fewer unknowns and a left inverse of their own, and so on in
//! stages. The stages depend on the case, not on the runs. The gradients of a right kernel are those of its mask within `beta`.

mod block;
mod shared_bias;

use super::model::{Model, slices};
use super::runs::Runs;
use crate::limits::MAX_STOCHASTIC;
use block::{Block, RecoveredEntry};
use rayon::prelude::*;
use shared_bias::{SharedBias, heads_share_bias};

/// A stochastic entry: its row's number, its place in the row, and its weight if it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unknown {
    pub row: usize,
    pub n: usize,
    pub kept: f64,
}

/// The recovery of the masks of a case.
#[derive(Debug, Clone)]
pub(super) struct MaskRecovery {
    blocks: Vec<Block>,
    shared: Option<SharedBias>,
    pub unknowns: Vec<Unknown>,
}

/// The largest difference between a run's gradients and those of its recovered mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Residual {
    pub run: usize,
    pub tensor: usize,
    pub index: usize,
    pub found: f64,
    pub expected: f64,
    pub ratio: f64,
}

/// The masks of all runs, and the gradients that no mask explains.
#[derive(Debug, Clone)]
pub(super) struct RecoveredMasks {
    /// By unknown: one bit for each run, 64 to a word.
    pub bits: Vec<Vec<u64>>,
    /// The worst residual of each gradient, if any is outside its bound, with the number of runs.
    pub wrong: Vec<(Residual, usize)>,
    /// The runs with an entry that is neither dropped nor kept with its right weight, and the first such entry and its value.
    pub unsupported: Option<(usize, Unknown, f64)>,
}

/// The stochastic entries of a model, by key head.
pub(super) fn unknowns(model: &Model<'_>) -> Vec<Unknown> {
    let mut all: Vec<Unknown> = model
        .rows
        .iter()
        .enumerate()
        .flat_map(|(row, r)| {
            (0..r.entries.len())
                .filter(|&n| r.distribution.is_stochastic(n))
                .map(move |n| Unknown { row, n, kept: r.distribution.kept[n] })
        })
        .collect();
    all.sort_by_key(|u| head_of(model, u.row));
    all
}

fn head_of(model: &Model<'_>, row: usize) -> usize {
    let row = model.rows[row].row;
    row.b * model.problem.sizes().key_heads + model.problem.key_head(row.h)
}

impl MaskRecovery {
    /// The recovery of a case, if its gradients determine its masks. Masks that are `given` need no inverse.
    pub(super) fn new(model: &Model<'_>, with_bias: bool, given: bool) -> Option<Self> {
        let unknowns = unknowns(model);
        if unknowns.len() > MAX_STOCHASTIC {
            return None;
        }
        let heads = model.problem.sizes().batch * model.problem.sizes().key_heads;
        let blocks: Option<Vec<Block>> = (0..heads)
            .into_par_iter()
            .map(|head| {
                let of = |u: &Unknown| head_of(model, u.row);
                let first = unknowns.partition_point(|u| of(u) < head);
                let end = unknowns.partition_point(|u| of(u) <= head);
                Block::new(model, head, first, &unknowns[first..end], with_bias, given)
            })
            .collect();
        let shared =
            (with_bias && heads_share_bias(model)).then(|| SharedBias::new(model, &unknowns));
        Some(MaskRecovery { blocks: blocks?, shared, unknowns })
    }

    /// Recovers the mask of every run.
    pub(super) fn recover(&self, model: &Model<'_>, runs: &Runs<'_>) -> RecoveredMasks {
        let words = runs.count.div_ceil(64);
        let bounds = slices(&model.bounds);
        let all: Vec<RunResult> = (0..runs.count)
            .into_par_iter()
            .map(|run| self.recover_run(model, runs, run, bounds))
            .collect();
        let mut bits = vec![vec![0; words]; self.unknowns.len()];
        let (mut wrong, mut unsupported) = (vec![None::<(Residual, usize)>; 4], None);
        let mut unsupported_runs = 0;
        for (run, result) in all.iter().enumerate() {
            for (bits, _) in bits.iter_mut().zip(&result.bits).filter(|(_, bit)| **bit) {
                bits[run / 64] |= 1 << (run % 64);
            }
            for (worst, found) in wrong.iter_mut().zip(&result.worst) {
                let Some(found) = found else { continue };
                let (worst, count) = worst.get_or_insert((*found, 0));
                *count += 1;
                if found.ratio > worst.ratio {
                    *worst = *found;
                }
            }
            if let Some(found) = result.unsupported {
                unsupported_runs += 1;
                unsupported.get_or_insert(found);
            }
        }
        let unsupported = unsupported.map(|(n, x)| (unsupported_runs, self.unknowns[n], x));
        RecoveredMasks { bits, wrong: wrong.into_iter().flatten().collect(), unsupported }
    }

    fn recover_run(
        &self,
        model: &Model<'_>,
        runs: &Runs<'_>,
        run: usize,
        bounds: [&[f64]; 4],
    ) -> RunResult {
        let mut result = RunResult::default();
        for block in &self.blocks {
            let count = block.columns.len();
            let mut bits = vec![false; count];
            let y: Vec<f64> =
                block.equations.iter().map(|&(tensor, at)| runs.of(tensor, run)[at]).collect();
            let mut predicted = block.offsets.clone();
            let keep = |n: usize, predicted: &mut [f64]| {
                let kept = self.unknowns[block.first + n].kept;
                predicted.iter_mut().zip(&block.columns[n]).for_each(|(sum, a)| *sum += kept * a);
            };
            if let Some(masks) = &runs.masks {
                let keys = model.problem.sizes().keys;
                for (n, bit) in bits.iter_mut().enumerate() {
                    let Unknown { row, n: place, .. } = self.unknowns[block.first + n];
                    let j = model.rows[row].entries[place].j;
                    *bit = masks[(run * model.rows.len() + row) * keys + j];
                    if *bit {
                        keep(n, &mut predicted);
                    }
                }
            }
            for stage in &block.stages {
                let left = y.iter().zip(&predicted).zip(&block.inverse_bounds);
                let left: Vec<f64> = left.map(|((y, y0), scale)| (y - y0) * scale).collect();
                for RecoveredEntry { n, inverse, noise } in stage {
                    let kept = self.unknowns[block.first + n].kept;
                    let x: f64 = inverse.iter().zip(&left).map(|(p, y)| p * y).sum();
                    bits[*n] = x > 0.5 * kept;
                    let nearest = if bits[*n] { kept } else { 0.0 };
                    if (x - nearest).abs() > *noise {
                        result.unsupported.get_or_insert((block.first + n, x));
                    }
                }
                for RecoveredEntry { n, .. } in stage.iter().filter(|recovered| bits[recovered.n]) {
                    keep(*n, &mut predicted);
                }
            }
            result.bits.extend(bits);
            for (e, &(tensor, index)) in block.equations.iter().enumerate() {
                result.compare(run, tensor, index, y[e], predicted[e], bounds[tensor][index]);
            }
        }
        if let Some(SharedBias { offsets, parts }) = &self.shared {
            let mut predicted = offsets.clone();
            for (&(index, x), _) in parts.iter().zip(&result.bits).filter(|(_, bit)| **bit) {
                predicted[index] += x;
            }
            for (index, (&found, &expected)) in runs.of(3, run).iter().zip(&predicted).enumerate() {
                result.compare(run, 3, index, found, expected, bounds[3][index]);
            }
        }
        result
    }
}

#[derive(Default)]
struct RunResult {
    bits: Vec<bool>,
    worst: [Option<Residual>; 4],
    unsupported: Option<(usize, f64)>,
}

impl RunResult {
    /// Keeps the largest residual outside its bound.
    fn compare(
        &mut self,
        run: usize,
        tensor: usize,
        index: usize,
        found: f64,
        expected: f64,
        bound: f64,
    ) {
        let error = (found - expected).abs();
        let ratio = if error == 0.0 { 0.0 } else { error / bound };
        let worst = &mut self.worst[tensor];
        if ratio > 1.0 && worst.is_none_or(|worst| ratio > worst.ratio) {
            *worst = Some(Residual { run, tensor, index, found, expected, ratio });
        }
    }
}
