//! Which entries of a mask every right kernel keeps, and which it may keep or drop.

use crate::error::Error;
use crate::forward::Saved;
use crate::precision::{EntryError, Mode, Recipe, RowErrors, row_errors};
use crate::problem::{Problem, Row};
use crate::sus::sample::uniforms;
use crate::sus::sampler::row_uniform;
use crate::sus::uniform::{Forced, Uniforms, forced};
use crate::sus::{Draw, Rule, Sample, Sampler};
use rayon::prelude::*;

/// The decisions of every right kernel, by row, columns ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForcedMask {
    /// Entries that must be kept.
    pub keep: Vec<Vec<u32>>,
    /// Entries that may be kept or dropped.
    pub either: Vec<Vec<u32>>,
}

/// What the errors of a recipe leave undecided of a draw, given its exact sample.
///
/// # Errors
/// As [`sample`](fn@crate::sus::sample).
pub fn forced_mask(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    mode: Mode,
    draw: &Draw,
    sample: &Sample,
) -> Result<ForcedMask, Error> {
    let uniforms = uniforms(problem, draw)?;
    let lambda = tail(problem);
    let decided: Vec<(Vec<u32>, Vec<u32>)> = (0..problem.row_count())
        .into_par_iter()
        .map(|at| {
            let row = problem.row(at);
            let errors = row_errors(problem, saved, recipe, mode, row);
            let rate = sample.lambda[at];
            let scores = Decisions { problem, recipe, draw, uniforms: &uniforms, rate, lambda };
            scores.row(row, &errors)
        })
        .collect();
    let (keep, either) = decided.into_iter().unzip();
    Ok(ForcedMask { keep, either })
}

/// The factor of a random error that no entry of the problem exceeds but with probability 2.5e-10.
fn tail(problem: &Problem<f64>) -> f64 {
    let entries = crate::evaluation::visible_count(problem).max(1) as f64;
    libm::sqrt(2.0 * libm::log(2.0 * entries / 2.5e-10))
}

struct Decisions<'a> {
    problem: &'a Problem<f64>,
    recipe: &'a Recipe,
    draw: &'a Draw,
    uniforms: &'a Uniforms,
    rate: f64,
    lambda: f64,
}

impl Decisions<'_> {
    /// The log error of `lambda_i W` of one entry.
    fn log_error(&self, errors: &RowErrors, e: &EntryError, largest: f64) -> f64 {
        let u = self.recipe.accumulator.unit_roundoff();
        let decides = |term: crate::precision::Term| term.decides(self.lambda);
        let format = self.recipe.elementwise;
        let stored = if format.precision() < self.recipe.accumulator.precision() {
            let relative = format.rounding_error(e.w, self.recipe.flush_to_zero) / e.w;
            if relative < 0.5 { -libm::log1p(-relative) } else { f64::MAX }
        } else {
            0.0
        };
        let of_rate = match self.draw.rule {
            Rule::Paper => 0.0,
            Rule::Calibrated => largest,
        };
        decides(e.log) + e.log_stored + decides(errors.lse_error) + stored + of_rate + 3.0 * u
    }

    fn row(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let largest = errors.largest_log();
        let deltas: Vec<f64> =
            errors.entries.iter().map(|e| self.log_error(errors, e, largest).min(700.0)).collect();
        match self.draw.sampler {
            Sampler::Bernoulli => self.bernoulli(row, errors, &deltas),
            Sampler::Systematic => self.systematic(row, errors, &deltas),
        }
    }

    fn bernoulli(&self, row: Row, errors: &RowErrors, deltas: &[f64]) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut either) = (Vec::new(), Vec::new());
        let place = self.problem.mask().place(row.i);
        let b = row.b * self.problem.mask().segment_count() + place.segment;
        let Some(first) = errors.entries.first() else { return (keep, either) };
        let mut words = vec![0; errors.entries.len()];
        self.uniforms.row_words(b, row.h, place.query, first.j - place.first_key, &mut words);
        for ((e, &word), &delta) in errors.entries.iter().zip(&words).zip(deltas) {
            let s = if e.w > 0.0 { self.rate * e.w } else { 0.0 };
            match forced(s.min(1e300), word, delta) {
                Forced::Keep => keep.push(e.j as u32),
                Forced::Either => either.push(e.j as u32),
                Forced::Drop => {}
            }
        }
        (keep, either)
    }

    /// An integer must, or may, lie in the interval whatever its ends are within their errors.
    fn systematic(&self, row: Row, errors: &RowErrors, deltas: &[f64]) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut either) = (Vec::new(), Vec::new());
        let place = self.problem.mask().place(row.i);
        let b = row.b * self.problem.mask().segment_count() + place.segment;
        let u = row_uniform(self.uniforms.row_word(b, row.h, place.query));
        let unit = self.recipe.accumulator.unit_roundoff();
        let (mut sum, mut error) = (0.0, 0.0);
        for (at, (e, &delta)) in errors.entries.iter().zip(deltas).enumerate() {
            let s = if e.w > 0.0 { self.rate * e.w } else { 0.0 };
            let (low, high) = (s * libm::exp(-delta), s * libm::exp(delta));
            if low >= 1.0 {
                keep.push(e.j as u32);
                continue;
            }
            let (before, before_error) = (sum, error);
            // Saturated or not: then the running sum has this entry or has not.
            let may_saturate = high >= 1.0;
            let q = s.min(1.0);
            if s < 1.0 {
                sum += q;
            }
            error += (high.min(1.0) - q).max(q - low) + 2.0 * unit * (sum + q);
            if may_saturate {
                error += 1.0;
            }
            let grid = 1.0 / 4_294_967_296.0;
            let integer_in = |from: f64, to: f64| libm::floor(to - u) > libm::floor(from - u);
            let must = integer_in(before + before_error + grid, sum - error - grid)
                && before + before_error < sum - error;
            let may = s > 0.0 && integer_in(before - before_error - grid, sum + error + grid);
            if must && !may_saturate {
                keep.push(e.j as u32);
            } else if may || may_saturate {
                either.push(e.j as u32);
            }
            let _ = at;
        }
        (keep, either)
    }
}
