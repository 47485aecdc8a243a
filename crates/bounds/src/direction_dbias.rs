//! The limit of a weighted sum of the errors of `dbias`. "Directions" in `docs/verdict.md`.

use super::bound::Bound;
use super::context::BoundContext;
use super::rounding_model::{RoundingModel, square};
use super::statistic_weights::{followed, rest_and_store, stored_parameter};
use sus_reference::problem::{Row, bias_row};

/// The weights and the limit of a sum of the errors of `dbias`; the weights are those of independent errors.
pub(super) fn dbias_limit(
    context: &BoundContext<'_>,
    heads: &[RoundingModel],
    bound: &Bound,
    additions: &[f64],
    tail: f64,
) -> (Vec<f64>, f64) {
    let (recipe, keys) = (context.input.recipe, context.input.problem.sizes().keys);
    let truth = context.input.gradients.dbias.as_ref().expect("a bound is that of a gradient");
    let shape = truth.shape();
    let place = |row: Row, j: usize| {
        let Row { b, h, i } = bias_row(shape, row);
        ((b * shape[1] + h) * shape[2] + i) * keys + j
    };
    let mut squares = vec![0.0; truth.as_slice().len()];
    let mut of_dropout = squares.clone();
    for model in heads {
        for entries in model.by_row() {
            let (at, row) = model.row(context, entries);
            let delta = model.delta[at].iter().map(|x| x * x).sum::<f64>();
            for e in entries {
                let [ds, p, w] = e.bias.map(square);
                squares[place(row, e.j as usize)] += ds + p + w * delta;
                of_dropout[place(row, e.j as usize)] +=
                    f64::from(e.bias[2]).abs() * model.delta_of_dropout[at];
            }
        }
    }
    // The weights m / s^2 of independent errors.
    let followed = followed(context);
    let (mut weights, mut stored, mut rest) = (Vec::new(), 0.0, 0.0);
    for (at, (&truth, &m)) in truth.as_slice().iter().zip(additions).enumerate() {
        let (of_rest, store) = rest_and_store(recipe, bound, at, truth, followed);
        let of_rest = of_rest + of_dropout[at];
        let of_store = stored_parameter(recipe.output, truth) * store * store;
        let scale = squares[at] + of_store + of_rest * of_rest;
        let weight = if scale > 0.0 && scale.is_finite() { m / scale } else { 0.0 };
        stored += weight * weight * of_store;
        rest += weight.abs() * of_rest;
        weights.push(weight);
    }
    // The squared parameter of the weighted sum: delta is one error for all keys of a row.
    let mut sum = stored;
    for model in heads {
        for entries in model.by_row() {
            let (at, row) = model.row(context, entries);
            let (mut ds, mut of_p, mut shared) = (0.0, 0.0, 0.0);
            for e in entries {
                let weight = weights[place(row, e.j as usize)];
                ds += weight * weight * square(e.bias[0]);
                of_p += weight * weight * square(e.bias[1]);
                shared += weight * f64::from(e.bias[2]);
            }
            let [forward, stored] = model.delta[at].map(|delta| shared.abs() * delta);
            // The P in dS may be that of the forward pass.
            let p = libm::sqrt(of_p) + forward;
            sum += ds + p * p + stored * stored;
        }
    }
    (weights, tail * libm::sqrt(sum) + rest)
}
