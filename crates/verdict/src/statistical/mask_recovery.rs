//! Decoding: the gradients of a small problem tell which entries were kept.
//!
//! For one key head, `dq`, `dk`, `dv` are `y = A w + y_0`, with `w` the kept weights of its undecided entries and `y_0` what the
//! decided ones add. If `|y - A w - y_0| <= beta` element by element, then with `P` a left inverse of `A / beta` (its rows
//! divided by `beta`) `|P (y - y_0) / beta - w|_n <= sum_e |P_ne|`. Where that is below half of the kept weight, a right
//! kernel's bit is told without doubt. What such entries add is then known, and the rest has fewer unknowns: its own
//! left inverse is smaller. So it goes on, stage by stage; which entries are told in which stage does not depend on the runs.
//! The gradients of a right kernel are, within `beta`, those of the bits.

use super::model::{Model, for_each_part, slices};
use super::runs::Runs;
use nalgebra::DMatrix;
use rayon::prelude::*;

/// The largest number of undecided entries of a key head that are decoded.
const LARGEST: usize = 640;
/// An entry is told where its kept weight is known to this part of it: anything below one half tells it without doubt.
const RECOVERED: f64 = 0.4;
/// The largest number of all undecided entries that are decoded.
const LARGEST_TOTAL: usize = 4096;

/// An undecided entry: its row's number, its place in the row, and what a kept one counts as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unknown {
    pub row: usize,
    pub n: usize,
    pub kept: f64,
}

/// The undecided entries of a key head and the equations that tell them.
#[derive(Debug, Clone)]
struct Block {
    /// The unknowns are `first..first + count` of all.
    first: usize,
    /// `(tensor, index)` of each equation.
    equations: Vec<(usize, usize)>,
    /// By equation, `1 / bound`.
    inverse_bounds: Vec<f64>,
    /// What the decided entries add.
    offsets: Vec<f64>,
    /// By unknown, then by equation.
    columns: Vec<Vec<f64>>,
    /// What is told one after the other, each stage once those before it are known.
    stages: Vec<Vec<Recovered>>,
}

/// How one unknown is told.
#[derive(Debug, Clone)]
struct Recovered {
    /// Its place in the block.
    n: usize,
    /// Its row of the left inverse.
    inverse: Vec<f64>,
    /// What that can be wrong by.
    noise: f64,
}

/// How the masks of a case are decoded.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    blocks: Vec<Block>,
    shared: Option<SharedBias>,
    pub unknowns: Vec<Unknown>,
}

/// `dbias` of a bias that heads or sequences share: it ties their blocks together, and is judged once all bits are known.
#[derive(Debug, Clone)]
struct SharedBias {
    /// What the decided entries add.
    offsets: Vec<f64>,
    /// By unknown: where it adds, and what if it is kept.
    parts: Vec<(usize, f64)>,
}

/// The worst of what a run's gradients leave unexplained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Residual {
    pub run: usize,
    pub tensor: usize,
    pub index: usize,
    pub found: f64,
    pub expected: f64,
    pub ratio: f64,
}

/// The masks of all runs, by unknown; and what no mask explains.
#[derive(Debug, Clone)]
pub(super) struct Decoded {
    /// By unknown: one bit for each run, 64 to a word.
    pub bits: Vec<Vec<u64>>,
    /// The worst residual of each gradient, if any is outside its bound, with the number of runs.
    pub wrong: Vec<(Residual, usize)>,
    /// Runs with an entry that is neither dropped nor kept with its right weight, and the worst: entry, value.
    pub unsupported: Option<(usize, Unknown, f64)>,
}

/// The undecided entries of a model, by key head.
pub(super) fn unknowns(model: &Model<'_>) -> Vec<Unknown> {
    let mut all: Vec<Unknown> = model
        .rows
        .iter()
        .enumerate()
        .flat_map(|(row, r)| {
            (0..r.entries.len()).filter(|&n| r.law.is_stochastic(n)).map(move |n| Unknown {
                row,
                n,
                kept: r.law.kept[n],
            })
        })
        .collect();
    all.sort_by_key(|u| head_of(model, u.row));
    all
}

fn head_of(model: &Model<'_>, row: usize) -> usize {
    let row = model.rows[row].row;
    row.b * model.problem.sizes().key_heads + model.problem.key_head(row.h)
}

impl Decoder {
    /// The decoder of a case, if its gradients tell its masks; `given` masks need no inverse.
    pub(super) fn new(model: &Model<'_>, with_bias: bool, given: bool) -> Option<Self> {
        let unknowns = unknowns(model);
        if unknowns.len() > LARGEST_TOTAL {
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
        Some(Decoder { blocks: blocks?, shared, unknowns })
    }

    /// Decodes every run.
    pub(super) fn decode(&self, model: &Model<'_>, runs: &Runs<'_>) -> Decoded {
        let words = runs.count.div_ceil(64);
        let bounds = slices(&model.bounds);
        let all: Vec<RunResult> = (0..runs.count)
            .into_par_iter()
            .map(|run| self.decode_run(model, runs, run, bounds))
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
        Decoded { bits, wrong: wrong.into_iter().flatten().collect(), unsupported }
    }

    fn decode_run(
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
                for Recovered { n, inverse, noise } in stage {
                    let kept = self.unknowns[block.first + n].kept;
                    let x: f64 = inverse.iter().zip(&left).map(|(p, y)| p * y).sum();
                    bits[*n] = x > 0.5 * kept;
                    let nearest = if bits[*n] { kept } else { 0.0 };
                    if (x - nearest).abs() > *noise {
                        result.unsupported.get_or_insert((block.first + n, x));
                    }
                }
                for Recovered { n, .. } in stage.iter().filter(|recovered| bits[recovered.n]) {
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
    /// Keeps what is worst outside its bound.
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

fn heads_share_bias(model: &Model<'_>) -> bool {
    let s = model.problem.sizes();
    let bias = model.problem.inputs().bias.as_ref();
    bias.is_some_and(|bias| bias.shape()[0] < s.batch || bias.shape()[1] < s.query_heads)
}

impl SharedBias {
    fn new(model: &Model<'_>, unknowns: &[Unknown]) -> Self {
        let part = |row: usize, n: usize| {
            let (mut part, entry) = ((0, 0.0), &model.rows[row].entries[n]);
            for_each_part(model.problem, model.rows[row].row, entry, |tensor, index, x| {
                if tensor == 3 {
                    part = (index, model.rows[row].law.kept[n] * x);
                }
            });
            part
        };
        let mut offsets = vec![0.0; slices(&model.bounds)[3].len()];
        for (row, model) in model.rows.iter().enumerate() {
            for (n, entry) in model.entries.iter().enumerate() {
                if !model.law.is_stochastic(n) && entry.w > 0.0 {
                    let (index, x) = part(row, n);
                    offsets[index] += x;
                }
            }
        }
        let parts = unknowns.iter().map(|unknown| part(unknown.row, unknown.n)).collect();
        SharedBias { offsets, parts }
    }
}

impl Block {
    fn new(
        model: &Model<'_>,
        head: usize,
        first: usize,
        unknowns: &[Unknown],
        with_bias: bool,
        given: bool,
    ) -> Option<Self> {
        if unknowns.len() > LARGEST {
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
                        None => offsets[e] += row.law.kept[n] * if entry.w > 0.0 { x } else { 0.0 },
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

    /// The stages; `None` if an unknown is not told by the equations.
    fn invert(&mut self, unknowns: &[Unknown]) -> Option<()> {
        let mut left: Vec<usize> = (0..unknowns.len()).collect();
        while !left.is_empty() {
            let recovered = self.recovered(unknowns, &left)?;
            left.retain(|n| recovered.iter().all(|recovered| recovered.n != *n));
            self.stages.push(recovered);
        }
        Some(())
    }

    /// Those of some unknowns that are told by a left inverse of the scaled columns, the others known; `None` if none is.
    fn recovered(&self, unknowns: &[Unknown], left: &[usize]) -> Option<Vec<Recovered>> {
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
            if noise < RECOVERED * kept {
                recovered.push(Recovered { n, inverse: row, noise });
            }
        }
        (!recovered.is_empty()).then_some(recovered)
    }
}
