//! The numbers that `dq` can be stored as when the `o` that a kernel stored is known. Section 7.5 of `docs/bounds.md`.
//!
//! With a known `o` all operands of `dS` are known to the accumulator, so that the rounding of `dS`, and that of the `P` in it, is one
//! number for nearly every entry. What is left are the sum and the rounding of the result.

use super::context::BoundContext;
use super::ds_interval::with_own;
use super::format::Format;
use super::input::BoundsInput;
use super::interval::Interval;
use super::known_o::{KnownDelta, U64, has_known_delta};
use super::limits::TERMS;
use super::linear_sums::add_intervals;
use super::operands::converts;
use super::range::RoundingRange;
use super::roundoff::is_power_of_two;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::store::GRADIENT_ROUNDINGS;
use super::sums::{Sums, TermBatch, only};
use super::term::Term;
use super::weight::KeptWeight;
use rayon::prelude::*;
use sus_fast::ReferenceErrorBounds;
use sus_reference::problem::Row;

/// Where a kernel rounds on the way to `dq`. The recipe's formats say to what; a kernel may be more exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DsRounding {
    /// Whether the `P` in `dS` is rounded.
    pub p: bool,
    /// Where `dS` is rounded.
    pub ds: DsRoundingPoint,
}

/// Where `dS` is rounded for the product with `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsRoundingPoint {
    /// Before the scale.
    BeforeScale,
    /// After it.
    AfterScale,
    /// Nowhere.
    Nowhere,
}

/// The ways to `dq` that the recipe allows, the usual ones first; none where a known `o` says nothing of `dS`: where `delta` is of
/// something else, scores are stored, or operands are truncated.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{BoundsInput, Mode, Recipe, Truth, ds_roundings};
/// let truth = Truth::exact(&problem)?;
/// let count = |recipe: &str| {
///     let recipe = Recipe::built_in(recipe).unwrap();
///     ds_roundings(&BoundsInput::dense(&problem, &recipe, Mode::Exact, &truth.saved(), &truth.gradients(None)))
///     .len()
/// };
/// // Two of P, times three of dS where the scale rounds.
/// assert_eq!([count("flash-bf16"), count("f32"), count("eager-bf16")], [6, 0, 0]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn ds_roundings(input: &BoundsInput<'_>) -> Vec<DsRounding> {
    let recipe = input.recipe;
    let is_narrow = |format: Format| format.precision() < recipe.accumulator.precision();
    let truncated = [recipe.p_in_ds, recipe.ds].contains(&Format::Tf32);
    // Another k in its product, or a rounding of the running total or of G, is one more.
    let plain = !converts(recipe) && recipe.running_dq == 0 && recipe.normalised_p;
    if !has_known_delta(input) || is_narrow(recipe.elementwise) || truncated || !plain {
        return Vec::new();
    }
    let mut points = vec![DsRoundingPoint::Nowhere];
    if is_narrow(recipe.ds) {
        // A power of two moves no rounding, but below the normal range: f16 begins where the accumulator is still normal.
        let underflows = recipe.ds.smallest_normal() > recipe.accumulator.smallest_normal();
        if !is_power_of_two(input.problem.scale().abs()) || underflows {
            points.insert(0, DsRoundingPoint::AfterScale);
        }
        points.insert(0, DsRoundingPoint::BeforeScale);
    }
    let of_point = |ds| {
        let rounded = is_narrow(recipe.p_in_ds).then_some(DsRounding { p: true, ds });
        std::iter::once(DsRounding { p: false, ds }).chain(rounded)
    };
    points.into_iter().flat_map(of_point).collect()
}

/// The ranges of some rows of `dq`, one row after the other, of a kernel that rounds so, and whose `delta` is `G . o` with this stored
/// `o`; without an `o`, of one whose `P` and `o` are not rounded before `delta`. `own` are the errors of the truth, if it has any;
/// `all` are those of all rows by [`rows_of`](crate::rows_of), or none, and then they are computed.
#[must_use]
pub fn known_o_dq_ranges(
    input: &BoundsInput<'_>,
    all: &[RowErrors],
    o: Option<&[f64]>,
    own: Option<&ReferenceErrorBounds>,
    rounding: DsRounding,
    rows: &[usize],
) -> Vec<RoundingRange> {
    let context = BoundContext::new(input);
    let known = KnownDelta::new(&context, o, own);
    let all_keys = 0..input.problem.sizes().keys;
    let row = |&at: &usize| {
        let row = input.problem.row(at);
        let (mut errors, entries) = if let Some(errors) = all.get(at) {
            (errors.clone(), context.entries(row, errors, &all_keys))
        } else {
            let mut errors = context.row_errors(row, input.mode);
            let entries = std::mem::take(&mut errors.entries);
            (errors, entries)
        };
        known.apply(at, &mut errors);
        let of_dq = DqRow { context: &context, rounding, row, errors: &errors };
        of_dq.ranges(&entries, known.of_lse)
    };
    rows.par_iter().map(row).collect::<Vec<_>>().concat()
}

/// One row of `dq`.
struct DqRow<'a> {
    context: &'a BoundContext<'a>,
    rounding: DsRounding,
    row: Row,
    errors: &'a RowErrors,
}

impl DqRow<'_> {
    fn ranges(&self, entries: &[EntryError], of_lse: f64) -> Vec<RoundingRange> {
        let DqRow { context, row, errors, .. } = *self;
        let (p, a, recipe) = (context.input.problem, &context.roundoff, context.input.recipe);
        let (features, number) = (p.sizes().features, p.row_number(row));
        let mut sums = Sums::new(features);
        let [mut least, mut most, mut abs] = [0; 3].map(|_| vec![0.0; features]);
        let (mut batch, mut known) = (TermBatch::default(), Vec::new());
        for entries in entries.chunks(TERMS) {
            for e in entries {
                let ambiguous =
                    context.input.sample.filter(|_| context.input.is_ambiguous(row, e.j));
                let kept = match ambiguous {
                    Some(sample) => Some(context.sampled(errors, e, sample.lambda[number])),
                    None => context.kept(errors, e, number),
                };
                let Some(kept) = kept else { continue };
                let mut dz = self.dz(e, &kept, of_lse);
                if ambiguous.is_some() {
                    dz = Interval { least: dz.least.min(0.0), most: dz.most.max(0.0) };
                }
                let (middle, half) = (f64::midpoint(dz.least, dz.most), (dz.most - dz.least) / 2.0);
                let error = only(Stage::Ds, Term::deterministic(half));
                batch.push(middle, &error, p.k(row, e.j));
                known.push([dz.least, dz.most]);
            }
            add_intervals(&known, &batch.x, [&mut least, &mut most, &mut abs]);
            known.clear();
            batch.add_to(&mut sums);
        }
        let tail = context.tail(0.0, 1.0);
        let range = |d: usize| {
            let middle = f64::midpoint(least[d], most[d]);
            let half = (most[d] - least[d]) / 2.0;
            // The error of the sum alone; here it is one of f64. 2 u: the scale is rounded and multiplied, with one error for all terms.
            let of_sum = sums.element(d, a, tail, GRADIENT_ROUNDINGS).stages[Stage::Sum as usize];
            let own = (sums.terms() + 6) as f64 * U64 * abs[d];
            let error = of_sum + own + 2.0 * a.u * (middle.abs() + half);
            RoundingRange::stored(middle, half + error, recipe.output, recipe.flush_to_zero)
        };
        (0..features).map(range).collect()
    }

    /// What the product with `k` reads of one entry.
    fn dz(&self, e: &EntryError, kept: &KeptWeight, of_lse: f64) -> Interval {
        let DqRow { context, rounding, row, errors } = *self;
        let (a, recipe) = (&context.roundoff, context.input.recipe);
        let flush = recipe.flush_to_zero;
        let mut w = context.weight_interval(errors, e, kept, of_lse);
        if rounding.p {
            w = w.rounded(recipe.p_in_ds, flush);
        }
        let ds = context.ds_interval(row, errors, e, w);
        let scale = context.input.problem.scale();
        let scaled = |x: Interval| x.times(Interval::about(scale, 0.0));
        match rounding.ds {
            DsRoundingPoint::Nowhere => scaled(ds),
            DsRoundingPoint::BeforeScale => scaled(ds.rounded(recipe.ds, flush)),
            DsRoundingPoint::AfterScale => {
                // 2 u: the scale, and its product.
                let x = scaled(ds);
                x.widened(with_own(a.u, 2.0 * a.u, 1.0) * x.size()).rounded(recipe.ds, flush)
            }
        }
    }
}
