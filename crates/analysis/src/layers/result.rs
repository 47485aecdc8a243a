//! The budgets, what they spend, and what one budget for all spends.

use super::heads::Heads;
use super::layer::HeadTotals;
use super::{Estimator, LayersTarget, Spend};
use sus_fast::Backends;

/// The result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerBudgets {
    /// What was asked.
    pub target: LayersTarget,
    /// The layers in order.
    pub layers: Vec<LayerResult>,
    /// By the budgets found.
    pub chosen: Spending,
    /// By one `c` for all, with the same estimator.
    pub one_c: Spending,
    /// By the paper's rule: one `c` for all heads and rows.
    pub paper: Spending,
    /// What one more kept entry per row lowers the increase by, the same in every head up to the grid.
    pub marginal: f64,
    /// No budgets of the heads have a smaller increase at this count; for a given increase, no smaller count.
    pub bound: f64,
}

/// A layer of the result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerResult {
    /// Its name.
    pub name: String,
    /// What its variances count.
    pub weight: f64,
    /// The rows of one query head, over all sequences.
    pub rows: u64,
    /// Its query heads.
    pub heads: Vec<HeadBudget>,
    /// Which implementation computed the passes.
    pub paths: Backends,
}

/// A head of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HeadBudget {
    /// Its budget.
    pub c: f64,
    /// Its expectations at that budget.
    pub chosen: HeadTotals,
    /// What it adds to the sum of variances, with the divisors and weights.
    pub increase: f64,
    /// The expectations of the paper's rule with one `c` for all.
    pub paper: HeadTotals,
    /// What it adds by the paper's rule.
    pub paper_increase: f64,
}

/// What some budgets cost over all layers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Spending {
    /// The budget, where it is one.
    pub c: Option<f64>,
    /// Kept entries per row in expectation.
    pub count: f64,
    /// The sum of the variances, each over its divisor and with its layer's weight.
    pub increase: f64,
}

impl LayerBudgets {
    /// Evaluates the budgets found, one for all, and the paper's, exactly.
    pub(super) fn new(
        target: LayersTarget,
        names: Vec<(String, f64)>,
        heads: &Heads,
        [mut chosen, one, papers]: [Vec<f64>; 3],
        marginal: f64,
        bound: f64,
    ) -> Self {
        let totals: Vec<[HeadTotals; 3]> = (0..heads.places.len())
            .map(|at| {
                let (l, h) = heads.places[at];
                let layer = &heads.layers[l];
                let mine = layer.totals(h, heads.estimator, &[chosen[at], one[at]]);
                let sus = Estimator::default();
                let paper = if heads.estimator == sus {
                    mine[1]
                } else {
                    layer.totals(h, sus, &papers[at..=at])[0]
                };
                [mine[0], mine[1], paper]
            })
            .collect();
        let rows = heads.rows_of_all();
        let increase = |at: usize, which: usize| {
            totals[at][which].weighted(&heads.layers[heads.places[at].0].factors)
        };
        let spending = |which: usize, c: Option<f64>| Spending {
            c,
            count: totals.iter().map(|totals| totals[which].expected).sum::<f64>() / rows,
            increase: (0..totals.len()).map(|at| increase(at, which)).sum(),
        };
        let one_c = spending(1, one.first().copied());
        let paper = spending(2, papers.first().copied());
        let found = spending(0, None);
        // On a grid: where no head gains, one budget for all can be better in the last digits.
        let better = match target.spend {
            Spend::Increase(_) => found.count <= one_c.count,
            Spend::Count(_) | Spend::CountOf(_) => found.increase <= one_c.increase,
        };
        let (which, best) = if better { (0, found) } else { (1, one_c) };
        if !better {
            chosen = one;
        }
        let head = |at: usize| HeadBudget {
            c: chosen[at],
            chosen: totals[at][which],
            increase: increase(at, which),
            paper: totals[at][2],
            paper_increase: increase(at, 2),
        };
        let layer = |(l, (name, weight)): (usize, (String, f64))| {
            let sizes = heads.layers[l].problem.sizes();
            let mine = (0..chosen.len()).filter(|&at| heads.places[at].0 == l);
            LayerResult {
                name,
                weight,
                rows: (sizes.batch * sizes.queries) as u64,
                heads: mine.map(head).collect(),
                paths: heads.layers[l].paths,
            }
        };
        let layers = names.into_iter().enumerate().map(layer).collect();
        let chosen = Spending { c: None, ..best };
        LayerBudgets { target, layers, chosen, one_c, paper, marginal, bound }
    }
}
