//! One budget for the heads of several layers, spread so that the exact mask variance is least.
//!
//! ```text
//! minimise    sum over layers l, heads h of  weight_l (V_dq / D_dq + V_dk / D_dk + V_dv / D_dv)
//! at          sum over l, h of  E nnz_lh  =  a given count,           by the choice of c_lh
//! ```
//!
//! `V` is the mask variance of a gradient with independent entries (`q = min(1, c s_i W)`, [`Estimator`] has the row's scale
//! `s_i`), `D` the divisor of the layer ([`RelativeTo`]). Or the count is least at a given sum of variances. [`Curve`] has both
//! of a head, exact at 4608 budgets; one Lagrange multiplier for all heads picks a point of each; the head that takes what is
//! left of the budget is solved exactly. Variance against count need not be convex, and the method does not assume it: a lower
//! bound over all budgets stands beside the result. Derivation: `docs/budgets.md`.

mod cell;
mod curve;
mod estimator;
mod heads;
mod lagrange;
mod layer;
mod report;
mod result;

pub use curve::{Curve, Point};
pub use estimator::{Estimator, RowBudgets};
pub use layer::HeadTotals;
pub use result::{HeadBudget, LayerBudgets, LayerResult, Spending};

use crate::choose::{RelativeTo, TargetGradients};
use crate::totals::PerGradient;
use heads::Heads;
use lagrange::{Limit, bound};
use layer::Layer;
use sus_reference::error::Error;
use sus_reference::problem::Problem;
use sus_reference::sus::Budget;

/// A layer: its sequences as a batch, and what its variance counts beside that of other layers.
#[derive(Debug, Clone)]
pub struct LayerProblem {
    /// How the report calls it.
    pub name: String,
    /// The sequences; every layer has as many.
    pub problem: Problem<f64>,
    /// The factor of the layer's variances, above 0.
    pub weight: f64,
}

/// What is spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spend {
    /// This many kept entries per row in expectation, on the average over all rows of all layers and heads.
    Count(f64),
    /// As many as the paper's rule with this one `c` for all.
    CountOf(Budget),
    /// As few as bring the sum of the variances down to this.
    Increase(f64),
}

/// What is minimised, and under which condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayersTarget {
    /// What is spent.
    pub spend: Spend,
    /// The gradients whose variances are added: one, or `Sum`.
    pub of: TargetGradients,
    /// The divisor of each layer and gradient.
    pub relative_to: RelativeTo,
    /// What is drawn.
    pub estimator: Estimator,
    /// By the reference alone, without the kernels of [`sus_fast`].
    pub by_reference: bool,
}

/// The budgets of least variance.
///
/// # Errors
/// [`Error::Option`] if the target can not be met or means nothing, if layers have different numbers of sequences, or if there
/// is no variance to compare with.
///
/// # Examples
/// ```
/// use sus_analysis::choose::{RelativeTo, TargetGradients};
/// use sus_analysis::layers::{Estimator, LayerProblem, LayersTarget, Spend, allocate};
/// let layer = |name: &str| LayerProblem { name: name.into(), problem: sus_corpus::named(name).unwrap().problem, weight: 1.0 };
/// let target = LayersTarget {
///     spend: Spend::Count(2.0),
///     of: TargetGradients::Sum,
///     relative_to: RelativeTo::Norm,
///     estimator: Estimator::default(),
///     by_reference: false,
/// };
/// let found = allocate(vec![layer("primes"), layer("primes")], &target)?;
/// assert!((found.chosen.count - 2.0).abs() < 1e-9);
/// assert!(found.chosen.increase <= found.one_c.increase && found.bound <= found.chosen.increase);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn allocate(layers: Vec<LayerProblem>, target: &LayersTarget) -> Result<LayerBudgets, Error> {
    check(&layers, target)?;
    let of = |gradient| [gradient, TargetGradients::Sum].contains(&target.of);
    let of = PerGradient {
        dq: of(TargetGradients::Dq),
        dk: of(TargetGradients::Dk),
        dv: of(TargetGradients::Dv),
    };
    let mut names = Vec::new();
    let mut ready = Vec::new();
    for LayerProblem { name, problem, weight } in layers {
        names.push((name, weight));
        let relative_to = target.relative_to;
        ready.push(Layer::new(problem, weight, of, relative_to, target.by_reference)?);
    }
    let heads = Heads::new(&ready, target.estimator);
    let sus = Estimator::default();
    let paper = (target.estimator != sus).then(|| Heads::new(&ready, sus));
    let paper = paper.as_ref().unwrap_or(&heads);
    let rows = heads.rows_of_all();
    let limit = match target.spend {
        Spend::Count(count) => Limit::Count(count * rows),
        Spend::CountOf(c) => Limit::Count(paper.count_at(c.get())),
        Spend::Increase(most) => Limit::Variance(most),
    };
    if let Limit::Count(count) = limit {
        let most = heads.most();
        if count >= most {
            let expected = format!("fewer than all {:.4} of a row", most / rows);
            return Err(Error::option("count", expected, format!("{:.4}", count / rows)));
        }
    }
    let papers_c = match target.spend {
        Spend::CountOf(c) => c.get(),
        _ => paper.one_budget(limit),
    };
    let one_c = if target.estimator == sus { papers_c } else { heads.one_budget(limit) };
    let (chosen, multiplier) = heads.budgets(limit);
    Ok(LayerBudgets::new(
        *target,
        names,
        &heads,
        [chosen, vec![one_c; heads.places.len()], vec![papers_c; heads.places.len()]],
        multiplier * rows,
        match limit {
            Limit::Count(_) => bound(&heads.points, multiplier, limit),
            Limit::Variance(_) => bound(&heads.points, multiplier, limit) / rows,
        },
    ))
}

/// Whether the target means something for these layers.
fn check(layers: &[LayerProblem], target: &LayersTarget) -> Result<(), Error> {
    let positive = |name, x: f64| {
        let error = || Error::option(name, "a finite number above 0", x);
        if x > 0.0 && x.is_finite() { Ok(()) } else { Err(error()) }
    };
    match target.spend {
        Spend::Count(count) => positive("count", count)?,
        Spend::CountOf(c) => positive("count-of", c.get())?,
        Spend::Increase(most) => positive("target", most)?,
    }
    if target.of == TargetGradients::Max {
        return Err(Error::option("of", "'dq', 'dk', 'dv' or 'sum' with --layers", "'max'"));
    }
    let first = layers.first().map_or(0, |layer| layer.problem.sizes().batch);
    for layer in layers {
        positive("layer-weights", layer.weight)?;
        target.estimator.check(&layer.problem)?;
        let found = layer.problem.sizes().batch;
        if found != first {
            let expected = format!("{first} sequences, as the first layer has");
            return Err(Error::option("problem", expected, format!("{found} in {}", layer.name)));
        }
    }
    Ok(())
}
