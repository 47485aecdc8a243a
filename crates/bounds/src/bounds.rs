//! The bounds of all results of a problem.

use super::bias_sink::Element;
use super::bound::{Bound, Bounds};
use super::context::BoundContext;
use super::input::BoundsInput;
use super::progress::{Progress, Silent};
use super::row::{Mode, RowErrors, with_own_forward};
use rayon::prelude::*;
use std::borrow::Cow;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::Row;

/// The bounds that need all entries of a row.
#[derive(Debug, Clone, Default)]
pub struct RowBounds {
    pub(super) o: Bound,
    pub(super) lse: Bound,
    /// Of a dense pass: a mask keeps few entries, which are computed again when its ambiguous entries are known.
    pub(super) dq: Option<Bound>,
}

/// The errors of all rows without their entries, the bounds that need the entries, and the results of `visit` for each row.
///
/// The first do not depend on a mask.
pub fn rows_of<T: Send>(
    input: &BoundsInput<'_>,
    progress: &dyn Progress,
    visit: impl Fn(Row, &RowErrors) -> T + Sync,
) -> (Vec<RowErrors>, RowBounds, Vec<T>) {
    let context = BoundContext::new(input);
    progress.stage("bounds, by rows", visible_count(input.problem));
    let (rows, made) = context.each_row(|row, errors| {
        let made = (context.of_row(row, errors), visit(row, errors));
        progress.done(errors.entries.len() as u64);
        made
    });
    let mut of_rows =
        RowBounds { dq: input.sample.is_none().then(Bound::default), ..RowBounds::default() };
    let mut visited = Vec::with_capacity(made.len());
    for (of_row, visited_row) in made {
        of_rows.o.extend(of_row.o);
        of_rows.lse.extend(of_row.lse);
        of_rows.dq.iter_mut().zip(of_row.dq).for_each(|(dq, of_row)| dq.extend(of_row));
        visited.push(visited_row);
    }
    (rows, of_rows, visited)
}

/// Bounds of every element. The result does not depend on the number of threads.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, bounds};
/// let truth = Truth::exact(&problem)?;
/// let (saved, gradients) = (truth.saved(), truth.gradients(None));
/// let recipe = Recipe::built_in("f32").unwrap();
/// let bounds = bounds(&BoundsInput::dense(&problem, &recipe, Mode::Exact, &saved, &gradients));
/// let bound = &bounds.dq.threshold;
/// assert!(bound.len() == gradients.dq.as_slice().len() && bound.iter().all(|&b| 0.0 < b && b < 1e-3));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn bounds(input: &BoundsInput<'_>) -> Bounds {
    let (rows, of_rows, _) = rows_of(input, &Silent, |_, _| ());
    bounds_of(input, &Silent, &rows, of_rows)
}

/// As [`bounds`](fn@bounds), from the results of [`rows_of`].
pub fn bounds_of(
    input: &BoundsInput<'_>,
    progress: &dyn Progress,
    rows: &[RowErrors],
    of_rows: RowBounds,
) -> Bounds {
    let context = BoundContext::new(input);
    let lambda = context.lambda;
    let [o, lse, dq] = by_rows(&context, rows, of_rows);
    let (dk, dv, dkv) = by_keys(&context, progress, rows);
    let of_elements = |all: Vec<Element>| Bound::from_elements(all.into_iter().map(|of| of.1));
    let [dbias, dsink, dslopes] =
        [context.dbias(None), context.dsink(rows, None), context.dslopes()]
            .map(|all| all.map(of_elements));
    Bounds { o, lse, dq, dk, dv, dbias, dsink, dslopes, dkv, lambda }
}

/// The bounds of `o`, `lse` and `dq` of all rows, from the results of [`rows_of`].
#[must_use]
pub fn row_bounds(input: &BoundsInput<'_>, rows: &[RowErrors], of_rows: RowBounds) -> [Bound; 3] {
    by_rows(&BoundContext::new(input), rows, of_rows)
}

/// The bounds by rows.
fn by_rows(context: &BoundContext<'_>, rows: &[RowErrors], of_rows: RowBounds) -> [Bound; 3] {
    let RowBounds { o, lse, dq } = of_rows;
    let dq = dq.unwrap_or_else(|| {
        let all = 0..context.input.problem.sizes().keys;
        let dq = |(at, errors): (usize, &RowErrors)| {
            let row = context.input.problem.row(at);
            Bound::from_elements(context.dq_row(row, errors, &context.entries(row, errors, &all)))
        };
        Bound::concat(rows.par_iter().enumerate().map(dq).collect())
    });
    [o, lse, dq]
}

/// The errors of all rows without their entries, and no bounds: what the bounds of keys need of rows that are not judged.
#[must_use]
pub fn summaries_of(input: &BoundsInput<'_>, progress: &dyn Progress) -> Vec<RowErrors> {
    progress.stage("bounds, by rows", visible_count(input.problem));
    let done = |_, errors: &RowErrors| progress.done(errors.entries.len() as u64);
    BoundContext::new(input).each_row(done).0
}

/// The bounds of `dk`, `dv` and, where there is one, `dkv` of a part of the keys, given all rows that see them.
///
/// The problem of `input` is the part of the keys ([`Problem::keys`]), with the rows and the forward pass of the whole.
///
/// [`Problem::keys`]: sus_reference::problem::Problem::keys
pub fn key_bounds(
    input: &BoundsInput<'_>,
    progress: &dyn Progress,
    rows: &[RowErrors],
) -> (Bound, Bound, Option<Bound>) {
    by_keys(&BoundContext::new(input), progress, rows)
}

/// The bounds by blocks of keys.
fn by_keys(
    context: &BoundContext<'_>,
    progress: &dyn Progress,
    rows: &[RowErrors],
) -> (Bound, Bound, Option<Bound>) {
    progress.stage("bounds, by keys", context.key_blocks() as u64);
    let blocks = context.each_key_block(rows, |block| {
        progress.done(1);
        let dkv = block.dkv.map(Bound::from_elements);
        (block.dk, block.dv, dkv)
    });
    let dkv = blocks.iter().map(|(_, _, dkv)| dkv.clone()).collect::<Option<Vec<_>>>();
    let dkv = dkv.filter(|_| context.input.gradients.dkv.is_some()).map(Bound::concat);
    let (dk, dv) = blocks
        .into_iter()
        .map(|(dk, dv, _)| (Bound::from_elements(dk), Bound::from_elements(dv)))
        .unzip();
    (Bound::concat(dk), Bound::concat(dv), dkv)
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
pub fn kept_weights(input: &BoundsInput<'_>) -> Vec<(f64, f64)> {
    let (rows, _) = BoundContext::new(input).each_row(|_, _| ());
    kept_weights_of(input, &rows)
}

/// The same, given the rows.
#[must_use]
pub fn kept_weights_of(input: &BoundsInput<'_>, rows: &[RowErrors]) -> Vec<(f64, f64)> {
    let context = BoundContext::new(input);
    let (p, all) = (input.problem, 0..input.problem.sizes().keys);
    let weights = |(at, errors): (usize, &RowErrors)| -> Vec<(f64, f64)> {
        let entries = context.entries(p.row(at), errors, &all);
        entries.iter().filter_map(|e| context.kept_weight(errors, e, at)).collect()
    };
    rows.par_iter().enumerate().map(weights).collect::<Vec<_>>().concat()
}

impl BoundContext<'_> {
    fn of_row(&self, row: Row, errors: &RowErrors) -> RowBounds {
        let BoundsInput { problem, saved, recipe, mode, sample, .. } = *self.input;
        let own = match mode {
            Mode::Exact => Cow::Borrowed(errors),
            Mode::Given => Cow::Owned(with_own_forward(problem, saved, recipe, row, errors)),
        };
        let dq = || Bound::from_elements(self.dq_row(row, errors, &errors.entries));
        RowBounds {
            o: Bound::from_elements(self.o_row(row, &own)),
            lse: Bound::from_elements([self.lse_row(&own)]),
            dq: sample.is_none().then(dq),
        }
    }
}
