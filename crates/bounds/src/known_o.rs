//! The references and the bounds of `dbias` and `dsink` when the `o` that a kernel stored is known. Section 6.9 of
//! `docs/bounds.md`.

use super::bias_sink::Element;
use super::bound::Bound;
use super::context::BoundContext;
use super::input::BoundsInput;
use super::range::RoundingRange;
use super::recipe::Delta;
use super::roundoff::Products;
use super::row::{Mode, RowErrors};
use super::stage::Stage;
use super::sums::{Sums, only};
use super::term::Term;
use super::truth::Truth;
use sus_fast::ReferenceErrorBounds;
use sus_reference::tensor::dot;

/// The unit roundoff of `f64`.
pub(super) const U64: f64 = 1.0 / 9_007_199_254_740_992.0;

/// A gradient that follows from a known `o`: its reference and the bounds about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownOGradient {
    /// The reference.
    pub reference: Vec<f64>,
    /// Its bounds.
    pub bound: Bound,
    /// The numbers that a result can be stored as: section 7.1 of `docs/bounds.md`. Empty if the truth errs itself.
    pub ranges: Vec<RoundingRange>,
}

/// The gradients that are sums over rows, from a known `o`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownOGradients {
    /// `dbias`, if there is a bias.
    pub dbias: Option<KnownOGradient>,
    /// `dsink`, if there is a sink.
    pub dsink: Option<KnownOGradient>,
}

/// Whether the `o` that a kernel stored says what its `delta` is: `delta` is `G . o` with `o` as stored, in a narrow format, and
/// the forward pass is not given already.
#[must_use]
pub fn has_known_delta(input: &BoundsInput<'_>) -> bool {
    input.mode == Mode::Exact
        && input.recipe.delta == Delta::Stored
        && input.recipe.o.precision() < input.recipe.accumulator.precision()
}

/// `dbias` and `dsink` of a kernel whose `delta` is `G . o` with this stored `o`, in the order of the elements of `o`. `rows` are those
/// of [`rows_of`](crate::rows_of), and `own` the errors of the truth, if it has any.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("sink").unwrap().problem;
/// use sus_bounds::{BoundsInput, Format, Mode, Recipe, Silent, Truth, known_o_gradients, bounds, rows_of};
/// let truth = Truth::exact(&problem)?;
/// let (recipe, saved, gradients) = (Recipe::built_in("flash-bf16").unwrap(), truth.saved(), truth.gradients(None));
/// let input = BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients);
/// let (rows, ..) = rows_of(&input, &Silent, |_, _| ());
/// let o: Vec<f64> = input.saved.o.as_slice().iter().map(|&o| Format::Bf16.round(o)).collect();
/// let by_o = known_o_gradients(&input, &rows, &o, None).dsink.unwrap();
/// // What is left is the sum `G . o`, and the rounding of the result.
/// let threshold = |bound: &sus_bounds::Bound| bound.threshold[0];
/// assert!(threshold(&by_o.bound) < 0.5 * threshold(bounds(&input).dsink.as_ref().unwrap()));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn known_o_gradients(
    input: &BoundsInput<'_>,
    rows: &[RowErrors],
    o: &[f64],
    own: Option<&ReferenceErrorBounds>,
) -> KnownOGradients {
    let context = BoundContext::new(input);
    let known = KnownDelta::new(&context, Some(o), own);
    context.sums_over_rows(rows, Some(&known), own)
}

/// The same of a kernel that is more exact than its recipe: it rounds its results alone, as one of `f32` whose results are cast to 16 bits.
#[must_use]
pub fn unrounded_gradients(
    input: &BoundsInput<'_>,
    own: Option<&ReferenceErrorBounds>,
) -> KnownOGradients {
    let accumulator = input.recipe.accumulator;
    let recipe = input.recipe.clone().with_elementwise(accumulator).with_shifted(accumulator);
    let recipe = recipe.with_p(accumulator).with_p_in_ds(accumulator).with_ds(accumulator);
    let recipe = recipe.with_o(accumulator);
    let input = BoundsInput { recipe: &recipe, ..*input };
    let context = BoundContext::new(&input);
    let (rows, _) = context.each_row(|_, _| ());
    context.sums_over_rows(&rows, None, own)
}

impl BoundContext<'_> {
    fn sums_over_rows(
        &self,
        rows: &[RowErrors],
        known: Option<&KnownDelta>,
        own: Option<&ReferenceErrorBounds>,
    ) -> KnownOGradients {
        let gradients = own.map(|own| &own.gradients);
        let of_bias = gradients.and_then(|own| Some(own.dbias.as_ref()?.as_slice()));
        let of_sink = gradients.and_then(|own| own.dsink.as_deref());
        KnownOGradients {
            dbias: self.dbias(known).map(|all| self.gradient(&all, of_bias)),
            dsink: self.dsink(rows, known).map(|all| self.gradient(&all, of_sink)),
        }
    }
}

/// Each row's `delta`, from a known `o`, or from one that no narrow format touched.
pub(super) struct KnownDelta {
    rows: Option<Vec<KnownRow>>,
    /// The largest relative error of a weight of the truth that comes from the error of its `lse`.
    pub(super) of_lse: f64,
}

struct KnownRow {
    /// `G . (o - exact o)`.
    shift: f64,
    /// What is left of the error of `delta`: that of the sum `G . o`, and that of the number above.
    left: Term,
}

impl KnownDelta {
    pub(super) fn new(
        context: &BoundContext<'_>,
        o: Option<&[f64]>,
        own: Option<&ReferenceErrorBounds>,
    ) -> Self {
        let BoundsInput { problem, saved, .. } = *context.input;
        let width = problem.sizes().value_features;
        let row = |at: usize, o: &[f64]| {
            let row = problem.row(at);
            let (g, o) = (problem.g(row), &o[at * width..(at + 1) * width]);
            let exact = saved.o.row(row.b, row.h, row.i);
            let differences: Vec<f64> = o.iter().zip(exact).map(|(o, exact)| o - exact).collect();
            let of_truth = own.map_or(&[][..], |own| own.saved.o.row(row.b, row.h, row.i));
            let sizes = differences.iter().zip(exact).map(|(d, exact)| d.abs() + exact.abs());
            let size: f64 = g.iter().zip(sizes).map(|(g, size)| g.abs() * size).sum();
            // E products and additions, a difference, and the rounding of the truth to f64.
            let own = (width + 4) as f64 * U64 * size
                + g.iter().zip(of_truth).map(|(g, own)| g.abs() * own).sum::<f64>();
            let sum = context.roundoff.sum(Products::of(g, o), g.len(), 1);
            KnownRow { shift: dot(g, &differences), left: sum.plus(Term::deterministic(own)) }
        };
        let of_lse = own.map_or(0.0, |own| {
            let finite = own.saved.lse.as_slice().iter().filter(|own| own.is_finite());
            libm::expm1(finite.fold(0.0, |most: f64, &own| most.max(own)))
        });
        let rows = o.map(|o| (0..problem.row_count()).map(|at| row(at, o)).collect());
        KnownDelta { rows, of_lse }
    }

    /// The errors of a row whose `delta` is known.
    pub(super) fn apply(&self, at: usize, errors: &mut RowErrors) {
        if let Some(rows) = &self.rows {
            let KnownRow { shift, left } = rows[at];
            errors.delta += shift;
            errors.delta_error = left;
        }
        errors.delta_stored = 0.0;
        errors.delta_stored_norms = [0.0; 2];
    }
}

/// What a known `o` adds to an element, and the sum of the absolute values of its terms.
#[derive(Clone, Copy, Default)]
pub(super) struct Shift {
    sum: f64,
    abs: f64,
    of_lse: f64,
    of_slope: f64,
}

impl Shift {
    /// Adds a weight times what is known of a row's `delta`.
    pub(super) fn add(&mut self, weight: f64, known: &KnownDelta, at: usize) {
        let term = weight * known.rows.as_ref().map_or(0.0, |rows| rows[at].shift);
        self.sum += term;
        self.abs += term.abs();
        self.of_lse = known.of_lse;
    }

    /// The same where the weight has the softcap's derivative, `sech^2 y` of at most 1: here it is one of `f64`, whose error is that of
    /// `e^(-2 |y|)`, `2 |y| e^(-2 |y|) <= 1 / e` roundoffs of its argument and one of its own, and of six operations, doubled by the square.
    pub(super) fn add_capped(&mut self, [weight, slope]: [f64; 2], known: &KnownDelta, at: usize) {
        let before = self.abs;
        self.add(weight * slope, known, at);
        if slope != 1.0 {
            let whole = (self.abs - before) / slope;
            self.of_slope += 16.0 * U64 * if whole.is_finite() { whole } else { 0.0 };
        }
    }

    /// The truth with the shift, whose own error is added to the errors of the sum.
    ///
    /// The weights here are those of an `f64` by the steps that the recipe's errors `rho` were counted for; each term has a product, an
    /// addition for each row and 8 for the functions; and the truth is rounded once more.
    pub(super) fn of(&self, truth: f64, u: f64, rho: f64, rows: usize, sums: &mut Sums) -> f64 {
        if self.abs == 0.0 {
            return truth;
        }
        let shifted = truth + self.sum;
        let own = self.abs * (rho * U64 / u + (rows + 9) as f64 * U64 + self.of_lse)
            + self.of_slope
            + Truth::RELATIVE_ERROR * shifted.abs();
        sums.add_errors(&[only(Stage::Delta, Term::deterministic(own))], &[&[1.0]]);
        shifted
    }
}

impl BoundContext<'_> {
    fn gradient(&self, all: &[Element], own: Option<&[f64]>) -> KnownOGradient {
        let mut bound = Bound::from_elements(all.iter().map(|(_, error)| *error));
        let mut ranges = Vec::new();
        match own {
            Some(own) => drop(bound.widen(own)),
            None => ranges = all.iter().map(|(x, error)| self.range(*x, error)).collect(),
        }
        KnownOGradient { reference: all.iter().map(|(x, _)| *x).collect(), bound, ranges }
    }
}
