//! One layer: its problem with the forward pass, what its variances count, and a pass over the rows of a head.

use super::curve::{Curve, Sums, entry, interval};
use super::estimator::Estimator;
use crate::choose::RelativeTo;
use crate::entries::{EntrySource, entries, for_each_row};
use crate::limits::BLOCKS_TOGETHER;
use crate::passes::{self, DensePass};
use crate::spread::{self, Spread};
use crate::totals::PerGradient;
use rayon::prelude::*;
use sus_fast::Backends;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::Sampler;
use sus_reference::sus::moments::{ROWS_PER_TASK, RowDistribution, RowEntry};
use sus_reference::tensor::dot;

/// A layer, ready to be passed over.
pub(super) struct Layer {
    pub(super) problem: Problem<f64>,
    saved: Saved<f64>,
    by_reference: bool,
    /// What the variance of each gradient, summed over the sequences, is multiplied by.
    pub(super) factors: PerGradient<f64>,
    pub(super) paths: Backends,
}

/// The exact expectations of one head at one budget, summed over rows and sequences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HeadTotals {
    /// The expected number of kept entries.
    pub expected: f64,
    /// The largest of a row.
    pub most_expected: f64,
    /// The mask variance of each gradient.
    pub variance: PerGradient<f64>,
}

/// Squared norms for one row's entries.
struct RowFactors<'a> {
    /// Of the keys of the row's head.
    keys: &'a [f64],
    query: f64,
    cotangent: f64,
}

/// A row as it is sampled: what of each entry's weight is sampled, and the row's scale.
struct SampledRow<'a> {
    row: Row,
    s: f64,
    entries: &'a [RowEntry<f64>],
    weights: &'a [f64],
    factors: RowFactors<'a>,
}

impl SampledRow<'_> {
    /// What of the weight is sampled, and `|d(gradient)/dW~|^2`, of each entry.
    fn for_each(&self, mut visit: impl FnMut(f64, PerGradient<f64>)) {
        for (&w, entry) in self.weights.iter().zip(self.entries) {
            visit(w, self.factors.of(entry));
        }
    }
}

impl RowFactors<'_> {
    /// `|d(gradient)/dW~|^2` of an entry.
    fn of(&self, entry: &RowEntry<f64>) -> PerGradient<f64> {
        let f_squared = entry.f * entry.f;
        PerGradient {
            dq: f_squared * self.keys[entry.j],
            dk: f_squared * self.query,
            dv: entry.of_v * entry.of_v * self.cotangent,
        }
    }
}

impl Layer {
    /// The layer with its forward and dense backward pass.
    ///
    /// # Errors
    /// [`Error::Option`] if there is nothing to compare the variance with, [`Error::Overflow`] if a gradient is not finite.
    pub(super) fn new(
        problem: Problem<f64>,
        weight: f64,
        of: PerGradient<bool>,
        relative_to: RelativeTo,
        by_reference: bool,
    ) -> Result<Self, Error> {
        let DensePass { saved, gradients, paths } = passes::in_f64(&problem, by_reference);
        let sizes = problem.sizes();
        let mut spread = PerGradient::<Spread>::default();
        let names = PerGradient { dq: "dq", dk: "dk", dv: "dv" };
        for b in 0..sizes.batch {
            let all = PerGradient { dq: &gradients.dq, dk: &gradients.dk, dv: &gradients.dv };
            spread.add(&all.map(|g| spread::sequence(g, b)), sizes.key_heads, &names)?;
        }
        let sequences = sizes.batch as f64;
        let divisor = |spread: &Spread| match relative_to {
            RelativeTo::Nothing => Some(sequences),
            RelativeTo::Norm => Some(spread.squared_norm(None)),
            RelativeTo::Sequences => spread.variance(None).map(|between| between * sequences),
        };
        let factor = |spread: &Spread, used: bool| match divisor(spread).filter(|&x| x > 0.0) {
            _ if !used => Ok(0.0),
            Some(divisor) => Ok(weight / divisor),
            None if relative_to == RelativeTo::Sequences => {
                let expected = "at least 2 sequences that differ (or --relative-to norm)";
                Err(Error::option("problem", expected, format!("{} of them", sizes.batch)))
            }
            None => Err(Error::option("problem", "gradients that are not all zero", "zeros")),
        };
        let factors = PerGradient {
            dq: factor(&spread.dq, of.dq)?,
            dk: factor(&spread.dk, of.dk)?,
            dv: factor(&spread.dv, of.dv)?,
        };
        Ok(Layer { problem, saved, by_reference, factors, paths })
    }

    /// Passes over the rows of a head in all sequences: blocks of rows, each into a sum of its own, merged in order.
    fn fold<A: Send>(
        &self,
        h: usize,
        estimator: Estimator,
        new: impl Fn() -> A + Sync,
        visit: impl Fn(&mut A, &SampledRow) + Sync,
        mut merge: impl FnMut(&mut A, A),
    ) -> A {
        let p = &self.problem;
        let sizes = p.sizes();
        let source: Box<dyn EntrySource<f64> + '_> = entries(p, &self.saved, self.by_reference);
        let source = source.as_ref();
        let k_squared = estimator.k_squared(&p.inputs().k);
        let mut sum = new();
        for b in 0..sizes.batch {
            let scales = estimator.rows.scales(p, b, h);
            let first_key = (b * sizes.key_heads + p.key_head(h)) * sizes.keys;
            let k_squared = &k_squared[first_key..first_key + sizes.keys];
            let blocks: Vec<usize> = (0..sizes.queries.div_ceil(ROWS_PER_TASK)).collect();
            for some in blocks.chunks(BLOCKS_TOGETHER) {
                let found: Vec<A> = some
                    .par_iter()
                    .map(|block| {
                        let first = block * ROWS_PER_TASK;
                        let rows = first..sizes.queries.min(first + ROWS_PER_TASK);
                        let (mut part, mut weights) = (new(), Vec::new());
                        for_each_row(source, (b, h), rows, |row, entries| {
                            let factors = RowFactors {
                                keys: k_squared,
                                query: dot(p.q(row), p.q(row)),
                                cotangent: dot(p.g(row), p.g(row)),
                            };
                            weights.clear();
                            weights.extend(entries.iter().map(|entry| entry.w));
                            estimator.sampled(&mut weights);
                            let s = scales[row.i];
                            visit(
                                &mut part,
                                &SampledRow { row, s, entries, weights: &weights, factors },
                            );
                        });
                        part
                    })
                    .collect();
                for part in found {
                    merge(&mut sum, part);
                }
            }
        }
        sum
    }

    /// The curve of a query head.
    pub(super) fn curve(&self, h: usize, estimator: Estimator) -> Curve {
        self.fold(
            h,
            estimator,
            || Curve::new(self.factors),
            |curve, row| row.for_each(|w, a| curve.add(w, row.s, a)),
            |curve, part| curve.add_all(&part),
        )
    }

    /// The entries of a query head between point `n` of the grid and the next.
    pub(super) fn between(&self, h: usize, estimator: Estimator, n: usize) -> Vec<(f64, Sums)> {
        self.fold(
            h,
            estimator,
            Vec::new,
            |found, row| {
                row.for_each(|w, a| {
                    let entry = entry(&self.factors, w, row.s, a);
                    found.extend(entry.filter(|&(y, _)| interval(y) == n + 1));
                });
            },
            Vec::extend,
        )
    }

    /// The expectations of a query head at each of some budgets.
    pub(super) fn totals(
        &self,
        h: usize,
        estimator: Estimator,
        budgets: &[f64],
    ) -> Vec<HeadTotals> {
        self.fold(
            h,
            estimator,
            || vec![HeadTotals::default(); budgets.len()],
            |totals, SampledRow { row, s, entries, weights, factors }| {
                // A row of scale 0 keeps nothing, and has nothing to keep.
                for (total, c) in totals.iter_mut().zip(budgets).filter(|_| *s > 0.0) {
                    let weights = weights.iter().copied();
                    let law = RowDistribution::new(Sampler::Bernoulli, c * s, weights);
                    let k_squared = |j: usize| factors.keys[j];
                    let traces = law.traces(&self.problem, *row, entries, k_squared);
                    let variance = PerGradient { dq: traces.dq, dk: traces.dk, dv: traces.dv };
                    let expected = traces.expected;
                    total.add(&HeadTotals { expected, most_expected: expected, variance });
                }
            },
            |totals, part| totals.iter_mut().zip(&part).for_each(|(total, part)| total.add(part)),
        )
    }
}

impl HeadTotals {
    /// Adds other rows.
    fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.most_expected = self.most_expected.max(other.most_expected);
        self.variance.add(other.variance);
    }

    /// The variances, each by its factor.
    pub(super) fn weighted(&self, factors: &PerGradient<f64>) -> f64 {
        let PerGradient { dq, dk, dv } = self.variance;
        factors.dq * dq + factors.dk * dk + factors.dv * dv
    }
}
