//! The bound of every element of every result.

use super::entry::{Arithmetic, Term};
use super::progress::{Progress, Silent};
use super::recipe::Recipe;
use super::row::{Mode, RowErrors, row_errors_packed};
use super::rows::{OfRows, rows_of};
use super::score::{EntryError, Packed};
use super::stage::Stage;
use super::sums::{Element, Sums, Tail, Terms};
use super::ties::most_equal;
use super::vectors::TERMS;
use rayon::prelude::*;
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::Sample;

/// The bounds of one tensor, in the order of its elements.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let dq = bounds(&question).dq;
/// assert!(dq.threshold.iter().zip(&dq.worst_case).all(|(threshold, worst_case)| threshold <= worst_case));
/// assert!((dq.stages[0].iter().sum::<f32>() - 1.0).abs() < 1e-5); // shares of a whole
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    /// The bound that decides: by stage the smaller of the worst case and of what independent roundings exceed with
    /// the stated probability.
    pub threshold: Vec<f64>,
    /// The worst case.
    pub worst_case: Vec<f64>,
    /// The share of each stage in the bound that decides.
    pub stages: Vec<[f32; Stage::COUNT]>,
}

/// The bounds of all results of a problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let bounds = bounds(&question);
/// assert_eq!(bounds.lse.threshold.len(), problem.row_count());
/// assert!(bounds.dbias.is_none()); // the problem has no bias
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds {
    /// Of `o`.
    pub o: Bound,
    /// Of `lse`.
    pub lse: Bound,
    /// Of `dq`.
    pub dq: Bound,
    /// Of `dk`.
    pub dk: Bound,
    /// Of `dv`.
    pub dv: Bound,
    /// Of `dbias`, if there is a bias.
    pub dbias: Option<Bound>,
    /// Of `dsink`, if there is a sink.
    pub dsink: Option<Bound>,
    /// The factor of the random part.
    pub lambda: f64,
}

/// What bounds are asked for.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let (exact, given) = (bounds(&question), bounds(&BoundsInput { mode: Mode::Given, ..question }));
/// // Where the stored forward pass is data, its errors do not count.
/// assert!(given.dq.threshold.iter().sum::<f64>() < exact.dq.threshold.iter().sum::<f64>());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BoundsInput<'a> {
    /// The problem, its inputs rounded to the recipe's input format.
    pub problem: &'a Problem<f64>,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Exact or given.
    pub mode: Mode,
    /// The forward pass in force: the truth, or what was stored.
    pub saved: &'a Saved<f64>,
    /// The mask, for SUS.
    pub sample: Option<&'a Sample>,
    /// Entries, by row, that a kernel may keep or drop against the mask.
    pub ambiguous: Option<&'a [Vec<u32>]>,
    /// The truth of the gradients.
    pub gradients: &'a Gradients<f64>,
}

/// The share of the false-alarm budget that the elementwise bounds of one problem may spend.
///
/// # Examples
/// ```
/// use sus_bounds::{ELEMENTWISE_FALSE_ALARM, STATISTICAL_FALSE_ALARM};
/// // The elements, the functionals and the norms together.
/// assert!(ELEMENTWISE_FALSE_ALARM + 2.0 * STATISTICAL_FALSE_ALARM < 1e-9);
/// ```
pub const ELEMENTWISE_FALSE_ALARM: f64 = 2.5e-10;

/// Bounds of every element. The result does not depend on the number of threads.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let (saved, gradients) = (truth.saved(), truth.gradients(None));
/// let recipe = Recipe::built_in("f32").unwrap();
/// let bounds = bounds(&BoundsInput {
///     problem: &problem,
///     recipe: &recipe,
///     mode: Mode::Exact,
///     saved: &saved,
///     sample: None,
///     ambiguous: None,
///     gradients: &gradients,
/// });
/// let bound = &bounds.dq.threshold;
/// assert!(bound.len() == gradients.dq.as_slice().len() && bound.iter().all(|&b| 0.0 < b && b < 1e-3));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn bounds(question: &BoundsInput<'_>) -> Bounds {
    let (rows, of_rows, _) = rows_of(question, &Silent, |_, _| ());
    bounds_of(question, &Silent, &rows, of_rows)
}

/// The same, given the rows; without `o` and `lse` where these are.
pub fn bounds_of(
    question: &BoundsInput<'_>,
    progress: &dyn Progress,
    rows: &[RowErrors],
    of_rows: OfRows,
) -> Bounds {
    let core = Core::new(question);
    let lambda = core.lambda;
    let OfRows { o, lse, dq } = of_rows;
    let dq = dq.unwrap_or_else(|| {
        let all = 0..question.problem.sizes().keys;
        let dq = |(at, errors): (usize, &RowErrors)| {
            let row = question.problem.row(at);
            Bound::from_elements(core.dq_row(row, errors, &core.entries(row, errors, &all)))
        };
        Bound::concat(rows.par_iter().enumerate().map(dq).collect())
    });
    progress.stage("bounds, by keys", core.key_blocks() as u64);
    let blocks = core.each_key_block(rows, |block| {
        progress.done(1);
        [block.dk, block.dv].map(Bound::from_elements)
    });
    let (dk, dv) = blocks.into_iter().map(|[dk, dv]| (dk, dv)).unzip();
    let [dbias, dsink] =
        [core.dbias(), core.dsink(rows)].map(|elements| elements.map(Bound::from_elements));
    Bounds { o, lse, dq, dk: Bound::concat(dk), dv: Bound::concat(dv), dbias, dsink, lambda }
}

/// The weights `W~` of a mask and their bounds, in the order of its columns.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::sus::{Budget, Draw, sample};
/// let saved = sus_reference::forward::forward(&problem);
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mask = sample(&problem, &saved, &draw)?;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, kept_weights};
/// let weights = kept_weights(&BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("f32").unwrap(),
///     mode: Mode::Exact,
///     saved: &saved,
///     sample: Some(&mask),
///     ambiguous: None,
///     gradients: &Truth::exact(&problem)?.gradients(Some(&mask)),
/// });
/// assert!(weights.len() == mask.pattern.count() && weights.iter().all(|w| 0.0 < w.1 && w.1 < w.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn kept_weights(question: &BoundsInput<'_>) -> Vec<(f64, f64)> {
    let (rows, _) = Core::new(question).each_row(|_, _| ());
    kept_weights_of(question, &rows)
}

/// The same, given the rows.
pub fn kept_weights_of(question: &BoundsInput<'_>, rows: &[RowErrors]) -> Vec<(f64, f64)> {
    let core = Core::new(question);
    let (p, all) = (question.problem, 0..question.problem.sizes().keys);
    let weights = |(at, errors): (usize, &RowErrors)| -> Vec<(f64, f64)> {
        let entries = core.entries(p.row(at), errors, &all);
        entries.iter().filter_map(|e| core.kept_weight(errors, e, at)).collect()
    };
    rows.par_iter().enumerate().map(weights).collect::<Vec<_>>().concat()
}

/// Hoeffding's factor: a sub-Gaussian variable of parameter `sub_gaussian` exceeds `lambda sub_gaussian` in magnitude with probability at
/// most `2 exp(-lambda^2 / 2)`; every stage of every element is one of them.
fn lambda(problem: &Problem<f64>) -> f64 {
    let inputs = problem.inputs();
    let bias = inputs.bias.as_ref().map_or(0, |bias| bias.as_slice().len());
    let elements = 2 * inputs.q.as_slice().len()
        + inputs.k.as_slice().len()
        + inputs.v.as_slice().len()
        + inputs.g.as_slice().len()
        + bias
        + problem.row_count()
        + problem.sizes().query_heads;
    let events = (elements.max(1) * Stage::COUNT) as f64;
    libm::sqrt(2.0 * libm::log(2.0 * events / ELEMENTWISE_FALSE_ALARM))
}

impl Bound {
    pub(super) fn from_elements(elements: impl IntoIterator<Item = Element>) -> Self {
        let mut bound = Bound::default();
        for element in elements {
            bound.threshold.push(element.threshold);
            bound.worst_case.push(element.worst_case);
            bound.stages.push(element.shares());
        }
        bound
    }

    pub(super) fn extend(&mut self, other: Bound) {
        self.threshold.extend(other.threshold);
        self.worst_case.extend(other.worst_case);
        self.stages.extend(other.stages);
    }

    fn concat(all: Vec<Bound>) -> Self {
        let mut bound = Bound::default();
        for other in all {
            bound.extend(other);
        }
        bound
    }
}

/// The errors of one stage.
fn only(stage: Stage, term: Term) -> Terms {
    let mut terms = Terms::default();
    terms[stage as usize] = term;
    terms
}

/// The operands that all bounds share.
pub(super) struct Core<'a> {
    pub(super) q: &'a BoundsInput<'a>,
    pub(super) a: Arithmetic<'a>,
    pub(super) lambda: f64,
    pub(super) calibrated: bool,
    pub(super) packed: Option<Packed>,
    /// Roundings of numbers that are known well enough are taken for what they are.
    pub(super) known: bool,
}

impl<'a> Core<'a> {
    pub(super) fn new(q: &'a BoundsInput<'a>) -> Self {
        Core {
            q,
            a: Arithmetic::new(q.recipe),
            lambda: lambda(q.problem),
            calibrated: q.is_calibrated(),
            packed: Packed::of(q.problem),
            known: false,
        }
    }

    pub(super) fn row_errors(&self, row: Row, mode: Mode) -> RowErrors {
        let BoundsInput { problem, saved, recipe, .. } = *self.q;
        let mut errors = row_errors_packed(problem, saved, recipe, mode, row, self.packed.as_ref());
        if self.known && mode == Mode::Exact {
            self.single_weight(row, &mut errors);
        }
        errors
    }

    pub(super) fn tail(&self, rho: f64, multiplicity: f64) -> Tail {
        Tail { lambda: self.lambda, rho, multiplicity }
    }

    /// Section "o".
    pub(super) fn o_row(&self, row: Row, errors: &RowErrors) -> Vec<Element> {
        let (p, a, recipe) = (self.q.problem, &self.a, self.q.recipe);
        let o = self.q.saved.o.row(row.b, row.h, row.i);
        let mut sums = Sums::of_values(&errors.of_o, errors.entries.len());
        let divisor = 1.0 - errors.weight_error;
        let amplify = if divisor > 0.0 { 1.0 / divisor } else { f64::INFINITY };
        let (mut terms, mut x, mut away) = (Vec::new(), Vec::new(), Vec::new());
        for entries in errors.entries.chunks(TERMS) {
            x.clear();
            x.extend(entries.iter().map(|e| p.v(row, e.j)));
            if a.is_narrow(recipe.p) {
                let of_p =
                    |e: &EntryError| Term::deterministic(a.narrow_scaled(recipe.p, e.w) * amplify);
                terms.clear();
                terms.extend(entries.iter().map(|e| only(Stage::P, of_p(e))));
                sums.add_errors(&terms, &x);
            }
            terms.clear();
            for e in entries {
                let log = e.log.plus(errors.rescale);
                let relative = Term {
                    worst_case: libm::expm1(log.worst_case + e.log_stored) * amplify,
                    ..log
                };
                let mut of_score = relative.times(e.w);
                of_score.worst_case -= e.w * e.log_stored;
                let first = log.threshold(self.lambda) + e.log_stored;
                of_score.deterministic += e.w * (libm::expm1(first) - first);
                let mut of_entry = only(Stage::Score, of_score);
                of_entry[Stage::ScoreStore as usize] = Term::deterministic(e.w * e.log_stored);
                terms.push(of_entry);
            }
            away.clear();
            for v in &x {
                away.extend(v.iter().zip(o).map(|(v, o)| v - o));
            }
            let away: Vec<&[f64]> = away.chunks(o.len().max(1)).collect();
            sums.add_errors(&terms, &away);
        }
        if let Some((w, log)) = errors.sink {
            let of_sink = log.plus(errors.rescale).times(w * amplify);
            sums.add_errors(&[only(Stage::Score, of_sink)], &[o]);
        }
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        let more = errors.forward_roundings - errors.entries.len();
        (0..o.len())
            .map(|d| {
                let mut element = sums.element(d, a, tail, more);
                // The denominator's sum, and the division.
                let of_sum = Term {
                    worst_case: a.gamma(errors.forward_roundings) * amplify,
                    sub_gaussian: a.u * libm::sqrt(errors.forward_roundings as f64),
                    deterministic: 0.0,
                };
                let of_sum = of_sum.times(o[d].abs());
                element.add(Stage::Sum as usize, of_sum.worst_case, self.threshold(of_sum));
                element.store(o[d], |x| recipe.o.rounding_error(x, recipe.flush_to_zero));
                element
            })
            .collect()
    }

    fn threshold(&self, term: Term) -> f64 {
        term.threshold(self.lambda)
    }

    /// Section "lse".
    pub(super) fn lse_row(&self, errors: &RowErrors) -> Element {
        let recipe = self.q.recipe;
        let mut element = Element::default();
        if errors.lse == f64::NEG_INFINITY {
            return element;
        }
        element.add(
            Stage::Lse as usize,
            errors.lse_error.worst_case,
            self.threshold(errors.lse_error),
        );
        element.store(errors.lse, |x| recipe.lse.rounding_error(x, recipe.flush_to_zero));
        element
    }
}

impl BoundsInput<'_> {
    /// Whether `lambda` depends on the weights: it differs from row to row.
    pub(super) fn is_calibrated(&self) -> bool {
        self.sample.is_some_and(|sample| sample.lambda.windows(2).any(|pair| pair[0] != pair[1]))
    }
}

/// The largest number of rows whose `lse` are equal up to rounding, and whose entries so may round alike.
pub(super) fn equal_rows(mut lses: Vec<f64>, u: f64) -> f64 {
    lses.retain(|lse| lse.is_finite());
    most_equal(lses, u)
}
