//! Which entries of a mask every right kernel keeps, and which it may keep or drop.

use rayon::prelude::*;
use sus_bounds::{EntryError, Mode, Packed, Recipe, RowErrors, Term, row_errors_packed};
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::sampler::row_uniform;
use sus_reference::sus::uniform::{ForcedDecision, Uniforms, forced_decision};
use sus_reference::sus::{Draw, Rule, Sample, Sampler};

/// The decisions of every right kernel, by row, columns ascending.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, Recipe};
/// use sus_reference::sus::{Budget, Draw, sample};
/// use sus_verdict::mask_constraints;
/// let saved = sus_reference::forward::forward(&problem);
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mask = sample(&problem, &saved, &draw)?;
/// let recipe = Recipe::built_in("f32").unwrap();
/// let forced = mask_constraints(&problem, &saved, &recipe, Mode::Exact, &draw, &mask)?;
/// assert!((0..problem.row_count()).all(|row| {
///     let kept = mask.pattern.row(row);
///     forced.must_keep[row].iter().all(|j| kept.contains(j))
///         && kept.iter().all(|j| forced.must_keep[row].contains(j) || forced.ambiguous[row].contains(j))
/// }));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MaskConstraints {
    /// Entries that must be kept.
    pub must_keep: Vec<Vec<u32>>,
    /// Entries that may be kept or dropped.
    pub ambiguous: Vec<Vec<u32>>,
}

/// What the errors of a recipe leave undecided of a draw, given its exact sample.
///
/// # Errors
/// As [`sample`](fn@sus_reference::sus::sample).
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::sus::{Budget, Draw, sample};
/// let saved = sus_reference::forward::forward(&problem);
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mask = sample(&problem, &saved, &draw)?;
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::mask_constraints;
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
    let deciding = Deciding::new(problem, None, recipe, draw, sample)?;
    let packed = Packed::of(problem);
    let decided: Vec<(Vec<u32>, Vec<u32>)> = (0..problem.row_count())
        .into_par_iter()
        .map(|at| {
            let row = problem.row(at);
            let packed = packed.as_ref();
            deciding.row(row, &row_errors_packed(problem, saved, recipe, mode, row, packed))
        })
        .collect();
    Ok(MaskConstraints::of_rows(decided))
}

impl MaskConstraints {
    /// From what each row must and may keep.
    pub(super) fn of_rows(rows: Vec<(Vec<u32>, Vec<u32>)>) -> Self {
        let (must_keep, ambiguous) = rows.into_iter().unzip();
        MaskConstraints { must_keep, ambiguous }
    }
}

/// What decides about the rows of a draw.
pub(super) struct Deciding<'a> {
    problem: &'a Problem<f64>,
    /// What the `lse` of the forward pass may err itself, by row.
    own_lse: Option<&'a [f64]>,
    recipe: &'a Recipe,
    draw: &'a Draw,
    sample: &'a Sample,
    uniforms: Uniforms,
    lambda: f64,
}

impl<'a> Deciding<'a> {
    /// Of an exact sample.
    pub(super) fn new(
        problem: &'a Problem<f64>,
        own_lse: Option<&'a [f64]>,
        recipe: &'a Recipe,
        draw: &'a Draw,
        sample: &'a Sample,
    ) -> Result<Self, Error> {
        let (uniforms, lambda) = (uniforms(problem, draw)?, tail(problem));
        Ok(Deciding { problem, own_lse, recipe, draw, sample, uniforms, lambda })
    }

    /// What every right kernel keeps of a row, and what it may keep or drop.
    pub(super) fn row(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let Deciding { problem, recipe, draw, uniforms, lambda, .. } = self;
        let at = problem.row_number(row);
        let own = self.own_lse.map_or(0.0, |own| own[at]);
        let lse_error = errors.lse_error.plus(Term::deterministic(own));
        let rate = self.sample.lambda[at];
        let decisions =
            Decisions { problem, recipe, draw, uniforms, rate, lse_error, lambda: *lambda };
        decisions.row(row, errors)
    }
}

/// The factor of a random error that no entry of the problem exceeds but with probability 2.5e-10.
fn tail(problem: &Problem<f64>) -> f64 {
    let entries = sus_reference::evaluation::visible_count(problem).max(1) as f64;
    libm::sqrt(2.0 * libm::log(2.0 * entries / 2.5e-10))
}

/// The error of `ln W` that is the entry's own, as the decision reads it: `W` may be stored in a narrow format, and is
/// multiplied by `lambda`.
pub(super) fn reference_error_bounds(recipe: &Recipe, e: &EntryError) -> Term {
    let u = recipe.accumulator.unit_roundoff();
    let format = recipe.elementwise;
    let stored = if format.precision() < recipe.accumulator.precision() {
        let relative = format.rounding_error(e.w, recipe.flush_to_zero) / e.w;
        if relative < 0.5 { -libm::log1p(-relative) } else { f64::MAX }
    } else {
        0.0
    };
    e.log.plus(Term::deterministic(e.log_stored + stored + 3.0 * u))
}

struct Decisions<'a> {
    problem: &'a Problem<f64>,
    recipe: &'a Recipe,
    draw: &'a Draw,
    uniforms: &'a Uniforms,
    rate: f64,
    lse_error: Term,
    lambda: f64,
}

impl Decisions<'_> {
    fn own(&self, e: &EntryError) -> Term {
        reference_error_bounds(self.recipe, e)
    }

    /// The error of `ln (lambda_i W)` that all entries of a row share: that of `lse`, or, where `lambda_i` is calibrated,
    /// of the weights that share the budget, from which `lse` cancels.
    fn shared(&self, errors: &RowErrors) -> f64 {
        let u = self.recipe.accumulator.unit_roundoff();
        match self.draw.rule {
            Rule::Paper => self.lse_error.threshold(self.lambda),
            Rule::Calibrated => {
                let below = errors.entries.iter().filter(|e| self.rate * e.w < 1.0);
                let (mut weight, mut error, mut largest) = (0.0, 0.0, 0.0_f64);
                for e in below {
                    let own = self.own(e).threshold(self.lambda);
                    weight += e.w;
                    error += e.w * own;
                    largest = largest.max(own);
                }
                let mean = if weight > 0.0 { error / weight } else { largest };
                mean + errors.entries.len() as f64 * u
            }
        }
    }

    fn row(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        match self.draw.sampler {
            Sampler::Bernoulli => self.bernoulli(row, errors),
            Sampler::Systematic => self.systematic(row, errors),
        }
    }

    fn bernoulli(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut either) = (Vec::new(), Vec::new());
        let place = self.problem.mask().place(row.i);
        let b = row.b * self.problem.mask().segment_count() + place.segment;
        let Some(first) = errors.entries.first() else { return (keep, either) };
        let mut words = vec![0; errors.entries.len()];
        self.uniforms.row_words(b, row.h, place.query, first.j - place.first_key, &mut words);
        let shared = self.shared(errors);
        for (e, &word) in errors.entries.iter().zip(&words) {
            let delta = (self.own(e).threshold(self.lambda) + shared).min(LARGEST_LOG);
            let s = if e.w > 0.0 { self.rate * e.w } else { 0.0 };
            match forced_decision(s.min(1e300), word, delta) {
                ForcedDecision::MustKeep => keep.push(e.j as u32),
                ForcedDecision::Ambiguous => either.push(e.j as u32),
                ForcedDecision::MustDrop => {}
            }
        }
        (keep, either)
    }

    /// An integer must, or may, lie in the interval whatever its ends are within their errors.
    ///
    /// The running sum errs by its weights' own errors, which are independent, by what they share, and by its
    /// additions. An entry that may or may not be kept outright shifts what follows by up to 1.
    fn systematic(&self, row: Row, errors: &RowErrors) -> (Vec<u32>, Vec<u32>) {
        let (mut keep, mut either) = (Vec::new(), Vec::new());
        let place = self.problem.mask().place(row.i);
        let b = row.b * self.problem.mask().segment_count() + place.segment;
        let u = row_uniform(self.uniforms.row_word(b, row.h, place.query));
        let unit = self.recipe.accumulator.unit_roundoff();
        let shared = self.shared(errors);
        let mut running = Running::default();
        for e in &errors.entries {
            let own = self.own(e);
            let delta = (own.threshold(self.lambda) + shared).min(LARGEST_LOG);
            let s = if e.w > 0.0 { self.rate * e.w } else { 0.0 };
            let (low, high) = (s * libm::exp(-delta), s * libm::exp(delta));
            if low >= 1.0 {
                keep.push(e.j as u32);
                continue;
            }
            let may_saturate = high >= 1.0;
            let (from, from_error) = (running.sum, running.error(self.lambda, shared, unit));
            if s < 1.0 {
                running.add(s, own, errors.multiplicity);
            }
            running.shift += f64::from(u8::from(may_saturate));
            let (to, to_error) = (running.sum, running.error(self.lambda, shared, unit));
            let integer_in = |from: f64, to: f64| libm::floor(to - u) > libm::floor(from - u);
            let least = (from + from_error, to - to_error);
            let must = least.0 < least.1 && integer_in(least.0, least.1);
            let may = s > 0.0 && integer_in(from - from_error, to + to_error);
            if must && !may_saturate {
                keep.push(e.j as u32);
            } else if may || may_saturate {
                either.push(e.j as u32);
            }
        }
        (keep, either)
    }
}

/// Exponents are cut here, where every decision is open anyway.
pub(super) const LARGEST_LOG: f64 = 700.0;

/// A running sum of keep probabilities and what it errs.
#[derive(Default)]
struct Running {
    count: f64,
    sum: f64,
    worst: f64,
    squares: f64,
    deterministic: f64,
    shift: f64,
}

impl Running {
    fn add(&mut self, q: f64, own: Term, multiplicity: f64) {
        self.count += 1.0;
        self.sum += q;
        self.worst += q * libm::expm1(own.worst_case.min(LARGEST_LOG));
        self.squares += (q * own.sub_gaussian) * (q * own.sub_gaussian) * multiplicity;
        self.deterministic += q * own.deterministic;
    }

    /// The factor `e^x` is at most `1 + 2x` for `x` up to 1.
    fn error(&self, lambda: f64, shared: f64, unit: f64) -> f64 {
        let drawn = 2.0 * (lambda * libm::sqrt(self.squares) + self.deterministic);
        let grid = 1.0 / 4_294_967_296.0;
        let additions = 2.0 * unit * self.count * self.sum;
        let drawn = if self.deterministic < 1.0 { drawn } else { f64::INFINITY };
        self.worst.min(drawn)
            + self.sum * libm::expm1(shared.min(LARGEST_LOG))
            + additions
            + grid
            + self.shift
    }
}
