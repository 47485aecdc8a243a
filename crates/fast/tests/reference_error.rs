//! The error that the `f64` kernels state for themselves is not below the formula of docs/fast.md, evaluated term by term.

use crate::common::Shape;
use sus_fast::{Workspace, forward, reference_error_bounds};
use sus_reference::backward::{DenseWeights, Weights as _};
use sus_reference::problem::Problem;

/// `2^-53`.
const U: f64 = f64::EPSILON / 2.0;

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `sum_i (L_i + (N + 16) u) W_ij |G_ie|` with the kernels' own part of `L`: `2 e + u (6 M + 96 + 3 * 4 + 16)`, `e = u (D + 10) a`,
/// `M = a = |scale| |q_i| max_j |k_j|`; tiles have 96 keys and an exponential errs by 4 u.
fn dv_by_the_formula(problem: &Problem<f64>) -> Vec<f64> {
    let (sizes, inputs) = (problem.sizes(), problem.inputs());
    let saved = sus_reference::forward::forward(problem);
    let weights = DenseWeights { problem, saved: &saved };
    let mut dv = vec![0.0; inputs.v.as_slice().len()];
    for number in 0..problem.row_count() {
        let row = problem.row(number);
        let keys = (0..sizes.keys).map(|j| norm(problem.k(row, j)));
        let a = problem.scale().abs() * norm(problem.q(row)) * keys.fold(0.0, f64::max);
        let e = U * (sizes.features as f64 + 10.0) * a;
        let log = 2.0 * e + U * (6.0 * a + 96.0 + 12.0 + 16.0);
        let rows = (problem.group() * sizes.queries) as f64;
        weights.for_each(row, 0..sizes.keys, |weight| {
            let head = row.b * sizes.key_heads + problem.key_head(row.h);
            let first = (head * sizes.keys + weight.j) * sizes.value_features;
            for (dv, g) in dv[first..].iter_mut().zip(problem.g(row)) {
                *dv += (log + (rows + 16.0) * U) * weight.w * g.abs();
            }
        });
    }
    dv
}

#[test]
fn the_stated_error_of_dv_is_the_formulas_or_more_and_at_most_three_times_that() {
    for (queries, keys) in [(1, 1), (7, 5), (40, 70)] {
        let problem = Shape::plain(queries, keys).problem();
        let saved = forward(&problem, &mut Workspace::default());
        let bounds = reference_error_bounds(&problem, &saved, None, false).unwrap();
        let formula = dv_by_the_formula(&problem);
        for (bound, formula) in bounds.gradients.dv.as_slice().iter().zip(formula) {
            // Beside the kernels' part the bound holds the reference's own, which in f64 is no larger than it, and a tenth.
            let ratio = bound / formula;
            assert!((1.0..3.0).contains(&ratio), "{queries} x {keys}: {bound:e} for {formula:e}");
        }
    }
}
