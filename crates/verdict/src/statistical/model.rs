//! The distribution of a case: its rows, its keep probabilities, and the terms of every gradient.

use crate::limits::MAX_LOG_ERROR;
use crate::mask_constraints::{GRID, entry_log_error};
use sus_bounds::{BoundsInput, Mode, Operands, Recipe, RowErrors, bounds, row_errors_of};
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row, bias_row};
use sus_reference::sus::moments::{MaskDistribution, RowDistribution, RowEntry};
use sus_reference::sus::{Draw, Pattern, Rule, Sample, Sampler};
use sus_reference::tensor::Tensor;

/// One row of the distribution.
#[derive(Debug, Clone)]
pub(super) struct ModelRow {
    pub row: Row,
    pub entries: Vec<RowEntry<f64>>,
    pub distribution: RowDistribution<f64>,
    /// The error of `ln (lambda W)` of each entry, at most.
    pub log_errors: Vec<f64>,
    /// The unit roundoff of a kernel's sums.
    pub unit: f64,
    /// The error of a keep probability that is the words'.
    pub grid: f64,
}

/// The distribution of a case, and bounds of the rounding errors of any run.
#[derive(Debug, Clone)]
pub(super) struct Model<'a> {
    pub problem: &'a Problem<f64>,
    pub draw: Draw,
    pub rows: Vec<ModelRow>,
    /// For every element, a bound that holds for every mask.
    pub bounds: Gradients<f64>,
    /// For every element, the sum of the absolute values of its terms if every entry is kept.
    pub sizes: Gradients<f64>,
    /// `lambda` of each row.
    pub lambda: Vec<f64>,
}

/// Visits the terms of every gradient that one entry has: `visit(tensor, flat index, x)`, where a kept weight `w` adds `w x`.
pub(super) fn for_each_part(
    problem: &Problem<f64>,
    row: Row,
    entry: &RowEntry<f64>,
    mut visit: impl FnMut(usize, usize, f64),
) {
    let s = problem.sizes();
    let head = row.b * s.key_heads + problem.key_head(row.h);
    let q_at = problem.row_number(row) * s.features;
    let k_at = (head * s.keys + entry.j) * s.features;
    let v_at = (head * s.keys + entry.j) * s.value_features;
    for (d, &k) in problem.k(row, entry.j).iter().enumerate() {
        visit(0, q_at + d, entry.f * k);
    }
    for (d, &q) in problem.q(row).iter().enumerate() {
        visit(1, k_at + d, entry.f * q);
    }
    for (e, &g) in problem.g(row).iter().enumerate() {
        visit(2, v_at + e, entry.of_v * g);
    }
    if let Some(bias) = &problem.inputs().bias {
        let [_, heads, rows, keys] = bias.shape();
        let Row { b, h, i } = bias_row(bias.shape(), row);
        visit(3, ((b * heads + h) * rows + i) * keys + entry.j, entry.of_bias);
    }
}

/// The gradients as flat slices, in the order of [`for_each_part`].
pub(super) fn slices(gradients: &Gradients<f64>) -> [&[f64]; 4] {
    let bias = gradients.dbias.as_ref().map_or(&[][..], Tensor::as_slice);
    [gradients.dq.as_slice(), gradients.dk.as_slice(), gradients.dv.as_slice(), bias]
}

fn slices_mut(gradients: &mut Gradients<f64>) -> [&mut [f64]; 4] {
    let bias = gradients.dbias.as_mut().map_or(&mut [][..], Tensor::as_mut_slice);
    [gradients.dq.as_mut_slice(), gradients.dk.as_mut_slice(), gradients.dv.as_mut_slice(), bias]
}

impl<'a> Model<'a> {
    /// The distribution of a case, and bounds for every mask.
    pub(super) fn new(
        problem: &'a Problem<f64>,
        saved: &'a Saved<f64>,
        recipe: &Recipe,
        draw: &Draw,
    ) -> Result<Self, Error> {
        let distribution = MaskDistribution::new(problem, saved, draw.c, draw.rule, draw.sampler);
        let operands = Operands::of(problem, recipe);
        let rows: Vec<ModelRow> = (0..problem.row_count())
            .map(|at| {
                let row = problem.row(at);
                let errors = row_errors_of(problem, saved, recipe, Mode::Exact, row, &operands);
                let (entries, of_row) = (distribution.entries(row), distribution.row(row));
                let log_errors = log_errors(recipe, draw.rule, &errors, &entries, &of_row);
                let unit = recipe.accumulator.unit_roundoff();
                let grid = match draw.sampler {
                    Sampler::Bernoulli => draw.layout.keep_error(),
                    Sampler::Systematic => GRID,
                };
                ModelRow { row, entries, distribution: of_row, log_errors, unit, grid }
            })
            .collect();
        let (bounds, sizes) =
            bounds_of_any_mask(problem, saved, recipe, &rows, &distribution.lambda)?;
        Ok(Model { problem, draw: *draw, rows, bounds, sizes, lambda: distribution.lambda })
    }

    /// The probability that a right kernel drops, in one run, an entry of `q = 1`, and the worst such entry, `[b, h, i, j]`: `lambda W` is
    /// at least 1, but a kernel whose `ln W` errs by as much as the recipe allows has `lambda W e^-error < 1`.
    pub(super) fn doubt(&self) -> (f64, [usize; 4]) {
        let (mut sum, mut most, mut place) = (0.0, 0.0, [0; 4]);
        for (row, lambda) in self.rows.iter().zip(&self.lambda).filter(|(_, x)| x.is_finite()) {
            let decided = (0..row.distribution.q.len()).filter(|&n| row.distribution.q[n] >= 1.0);
            for (n, least) in
                decided.map(|n| (n, lambda * row.distribution.w[n] * libm::exp(-row.log_errors[n])))
            {
                let drops = (1.0 - least).max(0.0);
                sum += drops;
                if drops > most {
                    (most, place) = (drops, [row.row.b, row.row.h, row.row.i, row.entries[n].j]);
                }
            }
        }
        (sum, place)
    }
}

impl ModelRow {
    /// The error of the keep probability of entry `n`, at most: `q (e^x - 1)` with the error `x` of `ln (lambda W)`, and the error
    /// that is the words', one step of their grid or the layout's (docs/statistics.md, "Tests of the masks").
    pub(super) fn slack(&self, n: usize) -> f64 {
        if self.distribution.is_stochastic(n) {
            let moved = self.distribution.q[n] * libm::expm1(self.log_errors[n]);
            (moved + self.grid).min(1.0)
        } else {
            0.0
        }
    }

    /// The probability that rounding moves between the sets of a systematic row, at most. One set follows another at the fractional part
    /// of `C_j`. Each `C_j` errs by the errors of its `q`, by its additions, and by a step of the grid; the grid has two ends more.
    pub(super) fn row_slack(&self) -> f64 {
        let (mut sum, mut error, mut slack, mut count) = (0.0, 0.0, 2.0 * GRID, 0.0);
        for n in (0..self.distribution.q.len()).filter(|&n| self.distribution.is_stochastic(n)) {
            sum += self.distribution.q[n];
            count += 1.0;
            error += self.distribution.q[n] * libm::expm1(self.log_errors[n]);
            slack += error + sum * (count + 1.0) * self.unit + GRID;
        }
        slack.min(1.0)
    }
}

/// The error of `ln (lambda W)` of each entry, at most: that of its own weight, and one that the row shares. For the rule `paper` that is
/// the error of `lse`. A calibrated `lambda` solves `sum min(1, lambda W) = c`, whose left side grows with every weight: if no `ln W`
/// errs by more than `x`, nor does `ln lambda`, and `lse` cancels.
fn log_errors(
    recipe: &Recipe,
    rule: Rule,
    errors: &RowErrors,
    entries: &[RowEntry<f64>],
    distribution: &RowDistribution<f64>,
) -> Vec<f64> {
    let own = |entry: &RowEntry<f64>| {
        let at = errors.entries.binary_search_by_key(&entry.j, |e| e.j);
        at.map_or(0.0, |at| entry_log_error(recipe, &errors.entries[at]).worst_case)
    };
    let own: Vec<f64> = entries.iter().map(own).collect();
    let shared = match rule {
        Rule::Paper => errors.lse_error.worst_case,
        Rule::Calibrated => {
            let stochastic = (0..own.len()).filter(|&n| distribution.is_stochastic(n));
            let largest = stochastic.map(|n| own[n]).fold(0.0, f64::max);
            largest + own.len() as f64 * recipe.accumulator.unit_roundoff()
        }
    };
    own.into_iter().map(|x| (x + shared).min(MAX_LOG_ERROR)).collect()
}

/// The shared error of a row of `dq`, with its terms of second order, over its term of first order. It passes the rounding of `dS`, which
/// is `2^-8` of it in bf16, the coarsest format; the other 0.6 % are for `e^x - 1 <= 1.006 x` of errors `x` of `lse` up to 0.012.
const SECOND_ORDER: f64 = 1.01;

/// Worst-case bounds that hold for every mask: those of the mask that keeps all, about gradients of absolute values.
///
/// Every stage but one is a sum of absolute values over the kept entries, so it is largest if all are kept. The errors of `lse` and
/// `delta` are shared by a row of `dq` and enter as a signed sum: here their absolute values are added.
fn bounds_of_any_mask(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    rows: &[ModelRow],
    lambda: &[f64],
) -> Result<(Gradients<f64>, Gradients<f64>), Error> {
    let inputs = problem.inputs();
    let [dq, dk, dv] = [&inputs.q, &inputs.k, &inputs.v].map(|x| Tensor::zeros(x.shape()));
    let blank = Gradients::new(dq, dk, dv);
    let zeros = || Gradients {
        dbias: inputs.bias.as_ref().map(|bias| Tensor::zeros(bias.shape())),
        dsink: inputs.sink.as_ref().map(|sink| vec![0.0; sink.len()]),
        ..blank.clone()
    };
    let (mut sizes, mut shared) = (zeros(), zeros());
    let (mut offsets, mut columns) = (vec![0], Vec::new());
    let operands = Operands::of(problem, recipe);
    for row in rows {
        columns.extend(row.entries.iter().map(|e| e.j as u32));
        offsets.push(columns.len());
        let errors = row_errors_of(problem, saved, recipe, Mode::Exact, row.row, &operands);
        let of_delta = errors.delta_error.worst_case + errors.delta_stored;
        for (n, entry) in row.entries.iter().enumerate() {
            let kept = row.distribution.kept[n];
            let slope = errors.entries.iter().find(|e| e.j == entry.j).map_or(0.0, |e| e.slope);
            let of_row = errors.lse_error.worst_case * (entry.f * kept).abs()
                + of_delta * (slope * kept).abs();
            let mut tensors = slices_mut(&mut sizes);
            for_each_part(problem, row.row, entry, |tensor, at, x| {
                tensors[tensor][at] += (kept * x).abs();
            });
            let k = problem.k(row.row, entry.j);
            let first = problem.row_number(row.row) * k.len();
            let dq = &mut shared.dq.as_mut_slice()[first..first + k.len()];
            dq.iter_mut().zip(k).for_each(|(dq, k)| *dq += SECOND_ORDER * of_row * k.abs());
        }
    }
    let pattern = Pattern::new(rows.len(), problem.sizes().keys, offsets, columns)?;
    let expected = vec![0.0; rows.len()];
    let sample = Sample { pattern, lambda: lambda.to_vec(), expected };
    let input = BoundsInput {
        problem,
        recipe,
        mode: Mode::Exact,
        saved,
        sample: Some(&sample),
        ambiguous: None,
        gradients: &sizes,
    };
    let bounds = bounds(&input);
    let dbias = bounds.dbias.as_ref().map_or(&[][..], |bound| &bound.worst_case);
    let all = [&bounds.dq.worst_case[..], &bounds.dk.worst_case, &bounds.dv.worst_case, dbias];
    for (out, worst) in slices_mut(&mut shared).into_iter().zip(all) {
        // The gradients of a mask are predicted in f64, with the errors of a kernel of recipe `f64` at most: 2^-53 / u of the bound.
        let own = 1.0 + libm::exp2(-53.0) / recipe.accumulator.unit_roundoff();
        out.iter_mut().zip(worst).for_each(|(x, worst)| *x = own * (*x + worst));
    }
    Ok((shared, sizes))
}

#[cfg(test)]
mod tests {
    use super::{Model, SECOND_ORDER};
    use crate::mask_constraints::entry_log_error;
    use sus_bounds::{Mode, Recipe, row_errors};
    use sus_reference::forward::forward;
    use sus_reference::sus::{Budget, Draw, Rule};

    /// The premise of `SECOND_ORDER`.
    #[test]
    fn the_second_order_of_the_shared_error_is_below_one_percent() {
        let problem = sus_corpus::named("primes").unwrap().problem;
        let saved = forward(&problem);
        for name in ["f64", "f32", "tf32", "flash-bf16", "flash-f16"] {
            let recipe = Recipe::built_in(name).unwrap();
            for at in 0..problem.row_count() {
                let row = problem.row(at);
                let x =
                    row_errors(&problem, &saved, &recipe, Mode::Exact, row).lse_error.worst_case;
                let of_ds = recipe.ds.unit_roundoff();
                assert!(x.exp_m1() * (1.0 + of_ds) <= SECOND_ORDER * x, "{name} {x}");
            }
        }
    }

    /// Weights that err as the recipe allows, all up, all down, or every other one, and weights that are only stored: no probability errs
    /// by more than its slack, and where neighbours err in opposite directions one errs by 0.3 of it.
    #[test]
    fn weights_that_err_as_a_recipe_allows_move_no_probability_beyond_its_slack() {
        let problem = sus_corpus::named("primes").unwrap().problem;
        let saved = forward(&problem);
        for name in ["f64", "f32", "flash-bf16", "eager-bf16", "eager-f16"] {
            let recipe = Recipe::built_in(name).unwrap();
            for rule in [Rule::Paper, Rule::Calibrated] {
                let budget = Budget::new(3.0).unwrap();
                let draw = Draw::paper(budget, 0).with_rule(rule);
                let model = Model::new(&problem, &saved, &recipe, &draw).unwrap();
                let mut nearest = 0.0_f64;
                for row in &model.rows {
                    let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, row.row);
                    let shared =
                        if rule == Rule::Paper { errors.lse_error.worst_case } else { 0.0 };
                    let own: Vec<f64> = errors
                        .entries
                        .iter()
                        .map(|e| entry_log_error(&recipe, e).worst_case)
                        .collect();
                    for pattern in 0..6 {
                        let moved: Vec<f64> = (0..row.entries.len())
                            .map(|n| match pattern {
                                0 => own[n] + shared,
                                1 => -own[n] - shared,
                                2 | 3 => own[n] * if n % 2 == pattern % 2 { 1.0 } else { -1.0 },
                                4 => own[n] * if n == 0 { 1.0 } else { -1.0 },
                                _ => {
                                    recipe.elementwise.round(row.distribution.w[n]).ln()
                                        - row.distribution.w[n].ln()
                                }
                            })
                            .collect();
                        let w = row.distribution.w.iter().zip(&moved);
                        let w: Vec<f64> = w.map(|(w, moved)| w * moved.exp()).collect();
                        let lambda = rule.lambda(budget, &w);
                        for n in (0..w.len()).filter(|&n| row.distribution.is_stochastic(n)) {
                            let error = ((lambda * w[n]).min(1.0) - row.distribution.q[n]).abs();
                            let place = (name, rule, pattern, row.row, n);
                            assert!(error <= row.slack(n), "{place:?} {error} {}", row.slack(n));
                            nearest = nearest.max(error / row.slack(n));
                        }
                    }
                }
                // In F64 the slack is the grid of the words.
                assert!(name == "f64" || nearest > 0.3, "{name} {rule} {nearest}");
            }
        }
    }
}
