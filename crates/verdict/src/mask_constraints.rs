//! The entries of a mask that every right kernel keeps, and the ambiguous ones, which it may keep or drop (docs/verdict.md, "Masks").

use crate::limits::MAX_LOG_ERROR;
use rayon::prelude::*;
use sus_bounds::{EntryError, Mode, Operands, Recipe, RowErrors, Term, row_errors_of};
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::sampler::row_uniform;
use sus_reference::sus::uniform::{ForcedDecision, Uniforms, forced_decision};
use sus_reference::sus::{Draw, Rule, Sample, Sampler};

/// The entries that every right kernel keeps, and those that it may keep or drop, by row, columns ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MaskConstraints {
    /// Entries that must be kept.
    pub must_keep: Vec<Vec<u32>>,
    /// Entries that may be kept or dropped.
    pub ambiguous: Vec<Vec<u32>>,
}

/// The constraints that the errors of a recipe leave on the mask of a draw, given its exact sample.
///
/// # Errors
/// As [`sample`](fn@sus_reference::sus::sample).
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Draw, sample};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::mask_constraints;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let saved = sus_reference::forward::forward(&problem);
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mask = sample(&problem, &saved, &draw)?;
/// let recipe = Recipe::built_in("f64").unwrap();
/// let forced = mask_constraints(&problem, &saved, &recipe, Mode::Exact, &draw, &mask)?;
/// assert!(forced.ambiguous.iter().all(Vec::is_empty)); // 53 bits decide all
/// assert_eq!(forced.must_keep[0], mask.pattern.row(0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn mask_constraints(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    mode: Mode,
    draw: &Draw,
    sample: &Sample,
) -> Result<MaskConstraints, Error> {
    let decider = Decider::new(problem, None, recipe, draw, sample)?;
    let operands = Operands::of(problem, recipe);
    let decided: Vec<(Vec<u32>, Vec<u32>)> = (0..problem.row_count())
        .into_par_iter()
        .map(|at| {
            let row = problem.row(at);
            decider.row(row, &row_errors_of(problem, saved, recipe, mode, row, &operands))
        })
        .collect();
    Ok(MaskConstraints::of_rows(decided))
}

impl MaskConstraints {
    /// From the entries that each row must and may keep.
    pub(super) fn of_rows(rows: Vec<(Vec<u32>, Vec<u32>)>) -> Self {
        let (must_keep, ambiguous) = rows.into_iter().unzip();
        MaskConstraints { must_keep, ambiguous }
    }
}

/// Decides the rows of a draw.
pub(super) struct Decider<'a> {
    problem: &'a Problem<f64>,
    /// Bounds of the errors of the reference's own `lse`, by row.
    lse_errors: Option<&'a [f64]>,
    recipe: &'a Recipe,
    draw: &'a Draw,
    sample: &'a Sample,
    uniforms: Uniforms,
    /// The factor of random errors.
    lambda: f64,
}

impl<'a> Decider<'a> {
    /// Of an exact sample.
    pub(super) fn new(
        problem: &'a Problem<f64>,
        lse_errors: Option<&'a [f64]>,
        recipe: &'a Recipe,
        draw: &'a Draw,
        sample: &'a Sample,
    ) -> Result<Self, Error> {
        let (uniforms, lambda) = (uniforms(problem, draw)?, tail_factor(problem));
        Ok(Decider { problem, lse_errors, recipe, draw, sample, uniforms, lambda })
    }

    /// The entries of a row that every right kernel keeps, and those that it may keep or drop.
    pub(super) fn row(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let at = self.problem.row_number(row);
        let of_reference = self.lse_errors.map_or(0.0, |errors| errors[at]);
        let lse_error = errors.lse_error.plus(Term::deterministic(of_reference));
        let decisions = RowDecisions { of: self, rate: self.sample.lambda[at], lse_error };
        match self.draw.sampler {
            Sampler::Bernoulli => decisions.bernoulli(row, errors),
            Sampler::Systematic => decisions.systematic(row, errors),
        }
    }
}

/// `lambda` for which no entry's random error is above `lambda` times its sub-Gaussian parameter but with probability
/// [`MASK_FALSE_ALARM`]: a union over the entries of `2 exp(-lambda^2 / 2)`.
fn tail_factor(problem: &Problem<f64>) -> f64 {
    let entries = sus_reference::evaluation::visible_count(problem).max(1) as f64;
    libm::sqrt(2.0 * libm::log(2.0 * entries / (MASK_FALSE_ALARM * problem.share())))
}

/// The share of `1e-9` that the mask has (docs/verdict.md, "False alarms").
const MASK_FALSE_ALARM: f64 = 2.5e-10;

/// One step of the grid of the 32-bit words: an integer `x < s 2^32` decides as the real `x / 2^32 < s` does up to one step.
pub(super) const GRID: f64 = 1.0 / 4_294_967_296.0;

/// The error of `ln (lambda_i W)` that is the entry's own: that of `ln W`, the rounding to the format that `W` is stored in, and three
/// roundings, of `W`, of `lambda_i` and of their product.
pub(super) fn entry_log_error(recipe: &Recipe, e: &EntryError) -> Term {
    let u = recipe.accumulator.unit_roundoff();
    let format = recipe.elementwise;
    let stored = if format.precision() < recipe.accumulator.precision() {
        let relative = format.rounding_error(e.w, recipe.flush_to_zero) / e.w;
        // |ln (1 + x)| <= -ln (1 - |x|); half of the weight or more may be lost by underflow, and nothing is known then.
        if relative < 0.5 { -libm::log1p(-relative) } else { f64::MAX }
    } else {
        0.0
    };
    e.log.plus(Term::deterministic(e.log_stored + stored + 3.0 * u))
}

/// The decisions of one row.
struct RowDecisions<'a> {
    of: &'a Decider<'a>,
    /// `lambda_i` of the row.
    rate: f64,
    lse_error: Term,
}

impl RowDecisions<'_> {
    fn own(&self, e: &EntryError) -> Term {
        entry_log_error(self.of.recipe, e)
    }

    /// `s = lambda_i W`, the keep probability before it is cut to 1.
    fn s(&self, e: &EntryError) -> f64 {
        if e.w > 0.0 { self.rate * e.w } else { 0.0 }
    }

    /// The error of `ln (lambda_i W)` that all entries of a row share. For the rule `paper` it is that of `lse`. A calibrated
    /// `lambda_i` solves `sum min(1, lambda_i W) = c`: `lse` cancels, `ln lambda_i` errs by the mean of the errors of `ln W` over the
    /// weights below 1, and the sum of the row's entries is rounded.
    fn shared(&self, errors: &RowErrors) -> f64 {
        let lambda = self.of.lambda;
        match self.of.draw.rule {
            Rule::Paper => self.lse_error.threshold(lambda),
            Rule::Calibrated => {
                let below = errors.entries.iter().filter(|e| self.rate * e.w < 1.0);
                let (mut weight, mut error, mut largest) = (0.0, 0.0, 0.0_f64);
                for e in below {
                    let own = self.own(e).threshold(lambda);
                    weight += e.w;
                    error += e.w * own;
                    largest = largest.max(own);
                }
                let mean = if weight > 0.0 { error / weight } else { largest };
                mean + errors.entries.len() as f64 * self.of.recipe.accumulator.unit_roundoff()
            }
        }
    }

    /// An entry is kept if its word is below `s 2^32`, with `ln s` known to its own error and the shared one, and the word to the error
    /// of the layout's thresholds.
    fn bernoulli(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut ambiguous) = (Vec::new(), Vec::new());
        let Decider { problem, uniforms, lambda, .. } = self.of;
        let place = problem.mask().place(row.i);
        let b = row.b * problem.mask().segment_count() + place.segment;
        let ends = errors.entries.first().zip(errors.entries.last());
        let Some((first, last)) = ends else { return (keep, ambiguous) };
        // Of the keys between, those whose weight is 0 have no entry, and every right kernel drops them.
        let mut words = vec![0; last.j - first.j + 1];
        uniforms.row_words(b, row.h, place.query, first.j - place.first_key, &mut words);
        let unit = self.of.recipe.accumulator.unit_roundoff();
        let of_threshold = self.of.draw.layout.threshold_roundoffs() * unit;
        let shared = self.shared(errors) + of_threshold;
        for e in &errors.entries {
            let word = words[e.j - first.j];
            let delta = (self.own(e).threshold(*lambda) + shared).min(MAX_LOG_ERROR);
            // Every decision is the same above 1; a finite s keeps s e^delta finite.
            match forced_decision(self.s(e).min(1e300), word, delta) {
                ForcedDecision::MustKeep => keep.push(e.j as u32),
                ForcedDecision::Ambiguous => ambiguous.push(e.j as u32),
                ForcedDecision::MustDrop => {}
            }
        }
        (keep, ambiguous)
    }

    /// An entry is kept if an integer lies in `(C_{j-1} - u, C_j - u]`. It is forced if one does, or none does, wherever the two ends
    /// are within their errors. An entry that may reach 1, and is kept outright then, shifts the sums after it by up to 1.
    fn systematic(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut ambiguous) = (Vec::new(), Vec::new());
        let Decider { problem, uniforms, lambda, recipe, .. } = self.of;
        let place = problem.mask().place(row.i);
        let b = row.b * problem.mask().segment_count() + place.segment;
        let u = row_uniform(uniforms.row_word(b, row.h, place.query));
        let shared = self.shared(errors);
        let mut running = RunningSum::new(*lambda, shared, recipe.accumulator.unit_roundoff());
        for e in &errors.entries {
            let own = self.own(e);
            let delta = (own.threshold(*lambda) + shared).min(MAX_LOG_ERROR);
            let s = self.s(e);
            let (low, high) = (s * libm::exp(-delta), s * libm::exp(delta));
            if low >= 1.0 {
                keep.push(e.j as u32);
                continue;
            }
            let may_saturate = high >= 1.0;
            let (from, from_error) = (running.sum, running.error());
            if s < 1.0 {
                running.add(s, own, errors.multiplicity);
            }
            running.shift += f64::from(u8::from(may_saturate));
            let (to, to_error) = (running.sum, running.error());
            let integer_in = |from: f64, to: f64| libm::floor(to - u) > libm::floor(from - u);
            let least = (from + from_error, to - to_error);
            let must = least.0 < least.1 && integer_in(least.0, least.1);
            let may = s > 0.0 && integer_in(from - from_error, to + to_error);
            if must && !may_saturate {
                keep.push(e.j as u32);
            } else if may || may_saturate {
                ambiguous.push(e.j as u32);
            }
        }
        (keep, ambiguous)
    }
}

/// A running sum `C_j` of keep probabilities and its error (docs/verdict.md, "Masks").
struct RunningSum {
    lambda: f64,
    /// The error of every `ln q` that the row shares.
    shared: f64,
    /// The unit roundoff of the additions.
    unit: f64,
    count: f64,
    sum: f64,
    /// `sum q (e^x - 1)` with the worst case `x` of each entry.
    worst: f64,
    /// `sum (q sigma)^2`, each times the number of entries that round alike.
    squares: f64,
    /// `sum q d` with the deterministic errors `d`.
    deterministic: f64,
    /// How many entries may have been kept outright, or added.
    shift: f64,
}

impl RunningSum {
    fn new(lambda: f64, shared: f64, unit: f64) -> Self {
        let (count, sum, worst, squares, deterministic, shift) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        RunningSum { lambda, shared, unit, count, sum, worst, squares, deterministic, shift }
    }

    fn add(&mut self, q: f64, own: Term, multiplicity: f64) {
        self.count += 1.0;
        self.sum += q;
        self.worst += q * libm::expm1(own.worst_case.min(MAX_LOG_ERROR));
        self.squares += (q * own.sub_gaussian) * (q * own.sub_gaussian) * multiplicity;
        self.deterministic += q * own.deterministic;
    }

    /// The sum of the errors of the weights, of the shared error, of the additions, of the grid of the words, and of the shift.
    fn error(&self) -> f64 {
        // e^x - 1 <= 2x for x up to 1; the random part is below lambda times the root of the sum of squares.
        let random = 2.0 * (self.lambda * libm::sqrt(self.squares) + self.deterministic);
        let random = if self.deterministic < 1.0 { random } else { f64::INFINITY };
        let of_shared = self.sum * libm::expm1(self.shared.min(MAX_LOG_ERROR));
        // n additions in any order: (1 + u)^n - 1 <= 2 n u for n u up to 1.
        let additions = 2.0 * self.unit * self.count * self.sum;
        self.worst.min(random) + of_shared + additions + GRID + self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::{Decider, GRID, RunningSum, entry_log_error, mask_constraints};
    use sus_bounds::{Mode, Recipe, Term, row_errors};
    use sus_reference::forward::forward;
    use sus_reference::problem::Problem;
    use sus_reference::sus::{Budget, Draw, Sampler, sample};
    use sus_reference::tensor::Tensor;

    /// The additions of an F32 running sum, one after the other. The first term is 2022.47 steps of the sums from 4 to 8: each addition
    /// there errs by 0.47 of a step to the same side, of the half that is possible. The bound takes every addition at the size of the
    /// last sum, and twice: the error is a tenth of it.
    #[test]
    fn the_additions_of_a_running_sum_err_within_their_bound_and_near_it() {
        let unit = libm::exp2(-24.0);
        let mut nearest = 0.0_f64;
        let worst = 2022.47 * libm::exp2(-21.0);
        for (q, count) in [(worst, 8192), (0.1, 4000), (1.0 / 3.0, 500), (0.99, 5000)] {
            let q = f64::from(q as f32);
            let mut running = RunningSum::new(8.0, 0.0, unit);
            let mut single = 0.0_f32;
            for _ in 0..count {
                running.add(q, Term::default(), 1.0);
                single += q as f32;
                let error = (f64::from(single) - running.sum).abs();
                assert!(error <= running.error(), "{q} {} {error}", running.count);
                nearest = nearest.max(error / running.error());
            }
        }
        assert!(nearest > 0.1, "{nearest}");
    }

    /// Weights that all err by their worst case, a shared error, and an entry that leaves the sum: each is in the error, and the error
    /// is not much more.
    #[test]
    fn the_error_of_a_running_sum_has_the_errors_of_its_weights_and_of_its_row() {
        let (q, x) = (0.01, 1e-3);
        let own = Term { worst_case: x, sub_gaussian: 0.0, deterministic: x };
        let shared = 2e-3;
        let mut running = RunningSum::new(8.0, shared, 0.0);
        for _ in 0..50 {
            running.add(q, own, 1.0);
        }
        // All weights up: e^(x + s) - 1 = (e^x - 1) + (e^s - 1) + (e^x - 1)(e^s - 1), and the product is left out of the bound.
        let moved = 50.0 * q * (x + shared).exp_m1();
        let product = 50.0 * q * x.exp_m1() * shared.exp_m1();
        assert!(moved - product <= running.error() && running.error() <= moved);
        let before = running.error();
        running.shift = 1.0;
        assert!((running.error() - before - 1.0).abs() < 1e-12);
        // Independent errors: the root of the sum of squares, not the sum.
        let own = Term { worst_case: x, sub_gaussian: x, deterministic: 0.0 };
        let mut running = RunningSum::new(8.0, 0.0, 0.0);
        for _ in 0..10_000 {
            running.add(q, own, 1.0);
        }
        let expected = 2.0 * 8.0 * x * q * 100.0 + GRID;
        assert!((running.error() / expected - 1.0).abs() < 1e-9);
    }

    /// Every other key is hidden by a bias, so that an entry is not at the place of its word: at `f64` the draw itself is forced.
    #[test]
    fn keys_between_hidden_ones_are_decided_by_their_own_words() {
        let p = sus_corpus::named("primes").unwrap().problem;
        let keys = p.sizes().keys;
        let bias = Tensor::from_fn([1, 1, 1, keys], |[.., j]| if j % 2 == 0 { -1e9 } else { 0.0 });
        let problem =
            Problem::new(p.inputs().clone().with_bias(bias), p.options().clone()).unwrap();
        let saved = forward(&problem);
        let recipe = Recipe::built_in("f64").unwrap();
        let mut kept = 0;
        for seed in 0..20 {
            for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
                let draw = Draw::paper(Budget::new(2.0).unwrap(), seed).with_sampler(sampler);
                let exact = sample(&problem, &saved, &draw).unwrap();
                let found = mask_constraints(&problem, &saved, &recipe, Mode::Exact, &draw, &exact)
                    .unwrap();
                for at in 0..problem.row_count() {
                    assert_eq!(found.must_keep[at], exact.pattern.row(at), "seed {seed}, row {at}");
                    kept += found.must_keep[at].len();
                }
            }
        }
        assert!(kept > 100, "{kept}");
    }

    /// Kernels whose `ln W` errs by nearly all that the recipe allows, up or down: no decision of theirs is outside of the
    /// constraints. 16-bit scores make many entries ambiguous, so that some decision differs.
    #[test]
    fn no_error_that_the_recipe_allows_leads_to_a_forbidden_decision() {
        let problem = sus_corpus::named("primes").unwrap().problem;
        let saved = forward(&problem);
        let recipe = Recipe::built_in("eager-bf16").unwrap();
        let mut differ = [0; 2];
        for seed in 0..40 {
            let draw = Draw::paper(Budget::new(3.0).unwrap(), seed);
            let exact = sample(&problem, &saved, &draw).unwrap();
            let constraints =
                mask_constraints(&problem, &saved, &recipe, Mode::Exact, &draw, &exact).unwrap();
            let decider = Decider::new(&problem, None, &recipe, &draw, &exact).unwrap();
            for at in 0..problem.row_count() {
                let row = problem.row(at);
                let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, row);
                let shared = errors.lse_error.threshold(decider.lambda);
                for e in &errors.entries {
                    let own = entry_log_error(&recipe, e).threshold(decider.lambda);
                    let word = decider.uniforms.word(row.b, row.h, row.i, e.j);
                    let keeps = |x: f64| {
                        f64::from(word) < exact.lambda[at] * e.w * x.exp() * 4_294_967_296.0
                    };
                    let may_drop = !constraints.must_keep[at].contains(&(e.j as u32));
                    let may_keep = !may_drop || constraints.ambiguous[at].contains(&(e.j as u32));
                    for (which, error) in [own, shared].into_iter().enumerate() {
                        for error in [0.99 * error, -0.99 * error] {
                            let kept = keeps(error);
                            assert!(if kept { may_keep } else { may_drop }, "{seed} {row:?}");
                            differ[which] += usize::from(kept != keeps(0.0));
                        }
                    }
                    for error in [0.99 * (own + shared), -0.99 * (own + shared)] {
                        assert!(if keeps(error) { may_keep } else { may_drop }, "{seed} {row:?}");
                    }
                }
            }
        }
        assert!(differ[0] > 0 && differ[1] > 0, "{differ:?}");
    }

    /// An entry that is above 1 by more than its error must be kept, also by the systematic sampler.
    #[test]
    fn an_entry_that_is_certainly_above_1_must_be_kept() {
        let problem = sus_corpus::named("primes").unwrap().problem;
        let saved = forward(&problem);
        let recipe = Recipe::built_in("f32").unwrap();
        for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
            let draw = Draw::paper(Budget::new(8.0).unwrap(), 7).with_sampler(sampler);
            let exact = sample(&problem, &saved, &draw).unwrap();
            let constraints =
                mask_constraints(&problem, &saved, &recipe, Mode::Exact, &draw, &exact).unwrap();
            let mut count = 0;
            for at in 0..problem.row_count() {
                let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, problem.row(at));
                for e in errors.entries.iter().filter(|e| exact.lambda[at] * e.w > 1.001) {
                    assert!(constraints.must_keep[at].contains(&(e.j as u32)), "{sampler}");
                    count += 1;
                }
            }
            assert!(count > 0, "{sampler}");
        }
    }

    #[test]
    fn a_sum_of_nothing_errs_by_the_grid_of_the_words() {
        assert_eq!(RunningSum::new(8.0, 0.5, 1e-3).error(), GRID);
    }
}
