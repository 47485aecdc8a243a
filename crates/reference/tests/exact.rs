//! Attention over exact rationals: the weights are data, so nothing is rounded and "equal" means `==`.

use crate::common::{Shape, numbers, small_integer};
use num_rational::Ratio;
use num_traits::{One, Zero};
use rand_core::Rng;
use std::ops::Range;
use sus_reference::backward::{Gradients, Weight, Weights, backward_from_weights, delta};
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::rule::{expected_count, keep_probability, kept_weight};
use sus_reference::tensor::{Tensor, add_scaled};

pub(crate) type Rational = Ratio<i128>;

/// The rational `n / d`.
pub(crate) fn ratio(n: i128, d: i128) -> Rational {
    Ratio::new(n, d)
}

/// A matrix of weights and slopes given as data, one row per row of the problem.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) queries: usize,
    pub(crate) heads: usize,
    pub(crate) rows: Vec<Vec<Weight<Rational>>>,
}

impl Weights<Rational> for Table {
    fn for_each(&self, row: Row, keys: Range<usize>, visit: impl FnMut(Weight<Rational>)) {
        let row = &self.rows[(row.b * self.heads + row.h) * self.queries + row.i];
        row.iter().copied().filter(|weight| keys.contains(&weight.j)).for_each(visit);
    }
}

/// A problem over rationals with its weights, outputs and `delta`.
#[derive(Debug, Clone)]
pub(crate) struct Exact {
    pub(crate) problem: Problem<Rational>,
    pub(crate) weights: Table,
    pub(crate) delta: Vec<Rational>,
}

/// Weights of each row are multiples of one fraction that add up to 1, or to less where there is a sink; slopes
/// are integers. With `zeros`, some weights are 0, as where `exp` underflows.
pub(crate) fn exact(shape: &Shape, zeros: bool) -> Exact {
    exact_with(shape, zeros, false)
}

/// The problem with slopes, whose gradients are asked; the weights are given.
fn with_slopes(problem: &Problem<Rational>) -> Problem<Rational> {
    let heads = problem.sizes().query_heads;
    let slopes = Tensor::from_fn([1, heads, 1, 1], |_| Rational::one());
    let inputs = problem.inputs().clone().with_alibi_slopes(slopes);
    Problem::new(inputs, problem.options().clone()).expect("a legal problem")
}

/// The same; with `factors` each weight has a factor of dropout from 0 to 2 and a derivative by the bias, both integers.
pub(crate) fn exact_with(shape: &Shape, zeros: bool, factors: bool) -> Exact {
    let problem: Problem<Rational> =
        shape.fill(|rng| Ratio::from_integer(small_integer(rng).into()));
    let mut rng = numbers(shape.seed ^ 0x5eed);
    let problem = if factors { with_slopes(&problem) } else { problem };
    let mut rows = Vec::new();
    let mut o = Tensor::zeros(problem.inputs().g.shape());
    for at in 0..problem.row_count() {
        let row = problem.row(at);
        let visible = problem.span(row);
        let least = u32::from(!zeros);
        let parts: Vec<i128> =
            visible.clone().map(|_| (least + rng.next_u32() % 4).into()).collect();
        let sink: i128 = if shape.sink { 2 } else { 0 };
        let whole = (parts.iter().sum::<i128>() + sink).max(1);
        let weights: Vec<Weight<Rational>> = visible
            .zip(parts)
            .map(|(j, part)| {
                let slope = Ratio::from_integer(small_integer(&mut rng).into());
                let weight = Weight::new(j, ratio(part, whole), slope);
                let mut integer =
                    |least: i64| Ratio::from_integer((least + small_integer(&mut rng)).into());
                let [dropout, bias_slope] = [1, 0].map(|least| factors.then(|| integer(least)));
                // -1 to 3, of which -1 is no factor of dropout.
                let dropout = dropout.map(|z| if z < Rational::zero() { -z } else { z });
                Weight { dropout, bias_slope, ..weight }
            })
            .collect();
        let o = &mut o.as_mut_slice()[at * shape.value_features..][..shape.value_features];
        for weight in &weights {
            let wz = weight.dropout.map_or(weight.w, |z| weight.w * z);
            add_scaled(o, wz, problem.v(row, weight.j));
        }
        rows.push(weights);
    }
    let sizes = problem.sizes();
    let delta = delta(&problem, &o);
    let weights = Table { queries: sizes.queries, heads: sizes.query_heads, rows };
    Exact { problem, weights, delta }
}

impl Exact {
    /// The gradients with these weights.
    pub(crate) fn gradients(&self, weights: &Table) -> Gradients<Rational> {
        backward_from_weights(&self.problem, weights, &self.delta)
    }

    /// The keep probabilities of a row.
    pub(crate) fn q(&self, lambda: Rational, row: usize) -> Vec<Rational> {
        self.weights.rows[row].iter().map(|weight| keep_probability(lambda, weight.w)).collect()
    }

    /// The coefficient `a_ij` of entry `n` of a row in a functional of the gradients, from the gradients of a weight of 1
    /// in this entry alone.
    pub(crate) fn coefficient(
        &self,
        functional: &Gradients<Rational>,
        row: usize,
        n: usize,
    ) -> Rational {
        let mut unit = self.weights.clone();
        for (at, weights) in unit.rows.iter_mut().enumerate() {
            for (m, weight) in weights.iter_mut().enumerate() {
                weight.w = if (at, m) == (row, n) { Rational::one() } else { Rational::zero() };
            }
        }
        let gradients = flat(&self.gradients(&unit));
        flat(functional).iter().zip(gradients).map(|(r, g)| r * g).sum()
    }

    /// The weights of a mask that keeps, in each row, the entries with these indices.
    pub(crate) fn kept(&self, lambda: &[Rational], mask: &[Vec<usize>]) -> Table {
        let mut table = self.weights.clone();
        for (at, row) in table.rows.iter_mut().enumerate() {
            *row = mask[at]
                .iter()
                .map(|&n| Weight { w: kept_weight(lambda[at], row[n].w), ..row[n] })
                .collect();
        }
        table
    }
}

/// `lambda` with `sum min(1, lambda w) = min(c, positive weights)`, by trying every number of saturated weights.
pub(crate) fn calibrated(c: Rational, weights: &[Rational]) -> Rational {
    let mut positive: Vec<Rational> = weights.iter().copied().filter(|w| !w.is_zero()).collect();
    positive.sort_unstable();
    let count = ratio(positive.len() as i128, 1);
    if c >= count {
        // Any lambda that saturates all.
        return positive.first().map_or(Rational::one(), Rational::recip);
    }
    (0..positive.len())
        .map(|unsaturated| {
            let rest: Rational = positive[..=unsaturated].iter().copied().sum();
            let saturated = ratio((positive.len() - 1 - unsaturated) as i128, 1);
            (c - saturated) / rest
        })
        .find(|&lambda| lambda > Rational::zero() && expected_count(lambda, weights) == c)
        .expect("some number of weights is saturated")
}

/// The distribution of the mask of one row: probabilities and kept indices.
pub(crate) type RowMasks = Vec<(Rational, Vec<usize>)>;

/// All masks of a row of independent entries with these probabilities.
pub(crate) fn bernoulli_masks(q: &[Rational]) -> RowMasks {
    let (zero, one) = (Rational::zero(), Rational::one());
    let mut masks: RowMasks = vec![(one, Vec::new())];
    for (n, &q) in q.iter().enumerate() {
        let drop = masks.clone().into_iter().map(|(p, mask)| (p * (one - q), mask));
        let keep = masks.into_iter().map(|(p, mut mask)| {
            mask.push(n);
            (p * q, mask)
        });
        masks = drop.chain(keep).filter(|&(p, _)| p > zero).collect();
    }
    masks
}

/// All masks of a row under systematic sampling: the mask is constant between the fractional parts of the running
/// sums, so the mask in the middle of each piece is that of the piece.
pub(crate) fn systematic_masks(q: &[Rational], most: Rational) -> RowMasks {
    let mut cuts = vec![Rational::zero(), Rational::one()];
    let mut sum = Rational::zero();
    for &q in q.iter().filter(|&&q| q < Rational::one()) {
        sum += q;
        cuts.push(sum.fract());
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2)
        .map(|piece| {
            let middle = (piece[0] + piece[1]) / ratio(2, 1);
            (piece[1] - piece[0], sus_reference::sus::sampler::systematic(q, middle, most))
        })
        .collect()
}

/// Calls `visit` with every combination of the rows' masks and its probability.
pub(crate) fn for_each_mask(rows: &[RowMasks], mut visit: impl FnMut(Rational, &[Vec<usize>])) {
    let mut at = vec![0; rows.len()];
    loop {
        let picked = rows.iter().zip(&at);
        let (p, mask): (Vec<_>, Vec<_>) =
            picked.map(|(row, &n)| (row[n].0, row[n].1.clone())).unzip();
        visit(p.into_iter().product(), &mask);
        let Some(turn) = (0..rows.len()).find(|&row| at[row] + 1 < rows[row].len()) else {
            return;
        };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}

/// The number of combinations that [`for_each_mask`] visits.
pub(crate) fn mask_count(rows: &[RowMasks]) -> u128 {
    rows.iter().map(|row| row.len() as u128).product()
}

/// `sum += p * gradients`, for `dq, dk, dv, dbias` as one list.
pub(crate) fn add_gradients(sum: &mut Vec<Rational>, p: Rational, gradients: &Gradients<Rational>) {
    let all = flat(gradients);
    sum.resize(all.len(), Rational::zero());
    add_scaled(sum, p, &all);
}

/// `dq, dk, dv, dbias` as one list.
pub(crate) fn flat(gradients: &Gradients<Rational>) -> Vec<Rational> {
    let Gradients { dq, dk, dv, dbias, dslopes, .. } = gradients;
    let tensors = [Some(dq), Some(dk), Some(dv), dbias.as_ref(), dslopes.as_ref()];
    tensors.into_iter().flatten().flat_map(|tensor| tensor.as_slice().iter().copied()).collect()
}
