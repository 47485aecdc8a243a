//! What a right kernel can store: rounding to nearest is monotone, so a result known to lie between two numbers is
//! stored between what these round to.
//!
//! Where the error of a result is small against the spacing of its format that says far more than its bound, which has
//! half a spacing to either side. The same holds of what is stored on the way: a weight known to a few units of the
//! accumulator has one rounding, unless it is near a tie. `docs/bounds.md` derives each line, in its section "Ranges".

use super::bound::{BoundsInput, Core};
use super::entry::{Arithmetic, Term};
use super::error_statistics::LARGEST_HEAD;
use super::format::Format;
use super::recipe::{Delta, Gqa, Recipe};
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::{Element, Sums, Terms};
use super::terms::Kept;
use sus_reference::problem::Row;

/// The least and the largest number that an element may be.
///
/// # Examples
/// ```
/// use sus_bounds::Range;
/// let one_number = Range { least: 0.5, most: 0.5 };
/// assert!(one_number.holds(0.5) && !one_number.holds(0.5 + f64::EPSILON));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The least.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Range {
    /// Whether it holds a number.
    ///
    /// # Examples
    /// ```
    /// let range = sus_bounds::Range { least: -0.5, most: 1.0 };
    /// assert!(range.holds(1.0) && !range.holds(1.5) && !range.holds(f64::NAN));
    /// ```
    #[must_use]
    pub fn holds(&self, x: f64) -> bool {
        self.least <= x && x <= self.most
    }

    /// What a result is stored as that is within `before` of `x`.
    fn stored(x: f64, before: f64, format: Format, flush_to_zero: bool) -> Self {
        if !before.is_finite() {
            return Range { least: f64::NEG_INFINITY, most: f64::INFINITY };
        }
        let (least, most) = (x - before, x + before);
        let zero = |x: f64| {
            if flush_to_zero && x.abs() < format.smallest_normal() { 0.0 } else { x }
        };
        Range {
            least: format.round(least).min(zero(format.round(least))),
            most: format.round(most).max(zero(format.round(most))),
        }
    }
}

/// The ranges of all gradients, element by element.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Format, Mode, BoundsInput, Recipe, Truth, ranges};
/// let truth = Truth::exact(&problem)?;
/// let question = BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("flash-bf16").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &truth.gradients(None),
/// };
/// let (ranges, dq) = (ranges(&question).unwrap(), &question.gradients.dq);
/// let mut stored = dq.as_slice().iter().map(|&x| Format::Bf16.round(x));
/// assert!(ranges.dq.iter().all(|range| range.holds(stored.next().unwrap())));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranges {
    /// Of `dq`.
    pub dq: Vec<Range>,
    /// Of `dk`.
    pub dk: Vec<Range>,
    /// Of `dv`, from a `P` that is not rounded for its product.
    pub dv: Vec<Range>,
    /// Of `dv`, from a `P` that is; empty where its rounding is not followed.
    pub dv_rounded: Vec<Range>,
    /// Of `dbias`, if there is a bias.
    pub dbias: Vec<Range>,
    /// Of `dsink`, if there is a sink.
    pub dsink: Vec<Range>,
}

impl Ranges {
    /// The ranges of a gradient: all its elements are in those of one of them.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::{Range, Ranges};
    /// let ranges = Ranges { dq: vec![Range { least: 0.0, most: 1.0 }], ..Ranges::default() };
    /// assert_eq!((ranges.of("dq").len(), ranges.of("dk").len()), (1, 0)); // nothing is known of dk
    /// ```
    #[must_use]
    pub fn of(&self, name: &str) -> Vec<&[Range]> {
        let all: &[&Vec<Range>] = match name {
            "dq" => &[&self.dq],
            "dk" => &[&self.dk],
            "dv" => &[&self.dv_rounded, &self.dv],
            "dbias" => &[&self.dbias],
            "dsink" => &[&self.dsink],
            _ => &[],
        };
        all.iter().map(|ranges| ranges.as_slice()).filter(|ranges| !ranges.is_empty()).collect()
    }
}

/// The ranges of the gradients; `None` for a recipe that stores nothing in a narrow format, and for a large problem.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("one_key").unwrap().problem;
/// use sus_bounds::{Mode, BoundsInput, Recipe, Truth, ranges};
/// let truth = Truth::exact(&problem)?;
/// let gradients = truth.gradients(None);
/// let ranges = ranges(&BoundsInput {
///     problem: &problem,
///     recipe: &Recipe::built_in("flash-bf16").unwrap(),
///     mode: Mode::Exact,
///     saved: &truth.saved(),
///     sample: None,
///     ambiguous: None,
///     gradients: &gradients,
/// });
/// // With one key every weight is 1, and nearly every dv one number.
/// let dv = ranges.unwrap().dv_rounded;
/// assert!(dv.iter().filter(|range| range.least == range.most).count() > dv.len() * 9 / 10);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn ranges(question: &BoundsInput<'_>) -> Option<Ranges> {
    let p = question.problem;
    let s = p.sizes();
    let work = s.queries.saturating_mul(s.keys).saturating_mul(p.group());
    if work > LARGEST_HEAD || !has_ranges(question.recipe) {
        return None;
    }
    let core = Core { known: true, ..Core::new(question) };
    let all_keys = 0..s.keys;
    let (rows, dq) = core.each_row(|row, errors| match question.sample {
        None => core.dq_row(row, errors, &errors.entries),
        Some(_) => core.dq_row(row, errors, &core.entries(row, errors, &all_keys)),
    });
    let (mut dk, mut dv, mut dv_rounded) = (Vec::new(), Vec::new(), Vec::new());
    for block in core.each_key_block(&rows, |block| block) {
        dk.extend(block.dk);
        dv.extend(block.dv);
        dv_rounded.extend(block.dv_rounded);
    }
    let g = question.gradients;
    let dbias = g.dbias.as_ref().map_or(&[][..], |dbias| dbias.as_slice());
    let dsink = g.dsink.as_deref().unwrap_or_default();
    Some(Ranges {
        dq: core.stored(g.dq.as_slice(), &dq.concat()),
        dk: core.stored(g.dk.as_slice(), &dk),
        dv: core.stored(g.dv.as_slice(), &dv),
        dv_rounded,
        dbias: core.stored(dbias, &core.dbias().unwrap_or_default()),
        dsink: core.stored(dsink, &core.dsink(&rows).unwrap_or_default()),
    })
}

/// Whether a recipe stores something in a narrow format, `P` or its results.
///
/// # Examples
/// ```
/// use sus_bounds::{Recipe, has_ranges};
/// assert!(has_ranges(&Recipe::built_in("flash-bf16").unwrap()));
/// assert!(!has_ranges(&Recipe::built_in("f32").unwrap()));
/// ```
#[must_use]
pub fn has_ranges(recipe: &Recipe) -> bool {
    let a = Arithmetic::new(recipe);
    a.is_narrow(recipe.output) || follows_p(&a, recipe)
}

/// Whether the rounding of `P` for `dv` can be followed: to nearest, and once.
fn follows_p(a: &Arithmetic<'_>, recipe: &Recipe) -> bool {
    let once = !a.is_narrow(recipe.elementwise) || recipe.elementwise == recipe.p;
    once && a.is_narrow(recipe.p) && recipe.p != Format::Tf32
}

impl Core<'_> {
    fn stored(&self, truth: &[f64], elements: &[Element]) -> Vec<Range> {
        let recipe = self.q.recipe;
        let one = |(&x, element): (&f64, &Element)| {
            Range::stored(x, element.before, recipe.output, recipe.flush_to_zero)
        };
        truth.iter().zip(elements).map(one).collect()
    }

    /// Whether the rounding of `P` for `dv` is followed.
    pub(super) fn follows_p(&self) -> bool {
        self.known && follows_p(&self.a, self.q.recipe)
    }

    /// What `P` is stored as for `dv`.
    fn stored_weight(&self, errors: &RowErrors, e: &EntryError, kept: &Kept) -> [f64; 2] {
        let (a, format) = (&self.a, self.q.recipe.p);
        let of_w = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
        let of_lambda = kept.constant + 2.0 * a.u;
        let relative = match self.q.sample {
            None => of_w,
            Some(_) if kept.varies == 0.0 => of_lambda,
            Some(_) => of_w + of_lambda,
        };
        // This w itself was computed in f64, by the steps that the recipe's errors were counted for.
        let own = libm::ldexp(1.0, -53);
        let relative = relative * (1.0 + own / a.u) + 8.0 * own;
        let (least, most) = (kept.w * (1.0 - relative), kept.w * (1.0 + relative));
        if least < format.smallest_normal() {
            // A kernel may scale it first, or flush it to zero.
            let error = a.narrow_scaled(format, most);
            return [least - error, most + error];
        }
        [format.round(least), format.round(most)]
    }

    /// A row with one weight: `P` is 1 whether it is `exp(s - m)` or `exp(s - lse)`, and `o` is `v`, both up to errors of
    /// the accumulator, so that their roundings are known.
    pub(super) fn single_weight(&self, row: Row, errors: &mut RowErrors) {
        let (a, recipe) = (&self.a, self.q.recipe);
        let [e] = errors.entries.as_slice() else { return };
        if errors.sink.is_some() || a.is_narrow(recipe.elementwise) || errors.weight_error >= 0.5 {
            return;
        }
        let amplify = 1.0 / (1.0 - errors.weight_error);
        let of_w = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
        let mut of_p = 0.0;
        if a.is_narrow(recipe.p) {
            of_p = a.narrow_scaled(recipe.p, e.w).min(distance(recipe.p, 1.0, of_w));
        }
        let g = self.q.problem.g(row);
        let mut of_o = vec![0.0; g.len()];
        if recipe.delta == Delta::Stored && a.is_narrow(recipe.o) {
            let n = errors.forward_roundings;
            let relative = amplify * (of_p + of_w + (2.0 + of_p) * a.gamma(n));
            for (of_o, &o) in of_o.iter_mut().zip(self.q.saved.o.row(row.b, row.h, row.i)) {
                let error = relative * o.abs() + n as f64 * a.eta;
                *of_o = a.narrow(recipe.o, o.abs()).min(distance(recipe.o, o, error));
            }
        }
        let products = || g.iter().zip(&of_o).map(|(g, o)| g.abs() * o);
        let of_p = of_p * e.dp.abs();
        let norms = [of_p, libm::sqrt(products().map(|x| x * x).sum())];
        let stored = amplify * (of_p + products().sum::<f64>() * (1.0 + 1e-3));
        errors.delta_stored = errors.delta_stored.min(stored);
        for (norm, less) in errors.delta_stored_norms.iter_mut().zip(norms) {
            *norm = norm.min(less);
        }
    }
}

/// How far from `x` a number can be stored that is within `error` of it; infinite where it need not be rounded to nearest.
fn distance(format: Format, x: f64, error: f64) -> f64 {
    let small = x != 0.0 && x.abs() - error < format.smallest_normal();
    if format == Format::Tf32 || small {
        return f64::INFINITY;
    }
    (format.round(x - error) - x).abs().max((format.round(x + error) - x).abs())
}

/// The largest power of two that a number is a multiple of; infinite for 0.
fn lowest_bit(x: f64) -> f64 {
    let significand = (x.to_bits() & ((1 << 52) - 1)) | 1 << 52;
    let drop = significand.trailing_zeros() as i32;
    match x {
        0.0 => f64::INFINITY,
        _ if !x.is_normal() => 0.0,
        _ => libm::ldexp(1.0, libm::ilogb(x) - 52 + drop),
    }
}

/// `dv` of some keys of one key head, from weights that are rounded.
pub(super) struct Rounded {
    first_key: usize,
    width: usize,
    sums: Vec<Sums>,
    least: Vec<f64>,
    most: Vec<f64>,
    abs: Vec<f64>,
    /// A number that all terms are multiples of; 0 if a term is not known.
    unit: Vec<f64>,
}

impl Rounded {
    pub(super) fn new(keys: std::ops::Range<usize>, width: usize) -> Self {
        let zeros = || vec![0.0; keys.len() * width];
        let sums = vec![Sums::new(width); keys.len()];
        let unit = vec![f64::INFINITY; keys.len() * width];
        let first_key = keys.start;
        Rounded { first_key, width, sums, least: zeros(), most: zeros(), abs: zeros(), unit }
    }

    /// The share of one entry in the `dv` of its key.
    pub(super) fn add_entry(
        &mut self,
        core: &Core<'_>,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
    ) {
        let (p, number) = (core.q.problem, core.q.problem.row_number(row));
        let (g, key) = (p.g(row), e.j - self.first_key);
        if let (Some(all), Some(sample)) = (core.q.ambiguous, core.q.sample)
            && all[number].binary_search(&(e.j as u32)).is_ok()
        {
            let kept = core.sampled(errors, e, sample.lambda[number]);
            let [least, most] = core.stored_weight(errors, e, &kept);
            self.add(key, [-most.max(-least), most.max(-least)], g);
        }
        let Some(kept) = core.kept(errors, e, number) else { return };
        let [least, most] = core.stored_weight(errors, e, &kept);
        let mut terms = Terms::default();
        terms[Stage::P as usize] =
            Term::deterministic((least - kept.w).abs().max((most - kept.w).abs()));
        self.sums[key].add(&[kept.w], &[terms], &[g]);
        self.add(key, [least, most], g);
    }

    fn add(&mut self, key: usize, [low, high]: [f64; 2], g: &[f64]) {
        let at = key * self.width..(key + 1) * self.width;
        let known = low == high;
        for (unit, g) in self.unit[at.clone()].iter_mut().zip(g) {
            *unit = if known { unit.min(lowest_bit(low * g)) } else { 0.0 };
        }
        let sums = self.least[at.clone()].iter_mut().zip(&mut self.most[at.clone()]);
        for ((least, most), (abs, g)) in sums.zip(self.abs[at].iter_mut().zip(g)) {
            let (a, b) = (low * g, high * g);
            *least += a.min(b);
            *most += a.max(b);
            *abs += a.abs().max(b.abs());
        }
    }

    /// A query head ends: see [`Sums::end_head`].
    pub(super) fn end_head(&mut self, arithmetic: &Arithmetic<'_>) {
        self.sums.iter_mut().for_each(|sums| sums.end_head(arithmetic));
    }

    pub(super) fn finish(&self, core: &Core<'_>) -> Vec<Range> {
        let (a, recipe, group) = (&core.a, core.q.recipe, core.q.problem.group());
        let tail = core.tail(0.0, 1.0);
        let one = |at: usize| {
            let (sums, d) = (&self.sums[at / self.width], at % self.width);
            // No partial sum of terms that are multiples of a unit needs more bits than their absolute values.
            let is_exact = self.abs[at] * a.product_u < self.unit[at];
            let mut error = 0.0;
            if !is_exact {
                // With what these sums err themselves.
                error = sums.element(d, a, tail, 6).stages[Stage::Sum as usize]
                    + libm::ldexp((sums.terms() + 4) as f64, -53) * self.abs[at];
            }
            if recipe.gqa == Gqa::Repeated && group > 1 {
                error += sums.repeated(d, a, group);
            }
            let (middle, half) = (
                f64::midpoint(self.least[at], self.most[at]),
                (self.most[at] - self.least[at]) / 2.0,
            );
            Range::stored(middle, half + error, recipe.output, recipe.flush_to_zero)
        };
        (0..self.least.len()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is within the error is stored within the range, and the range is no wider than that.
        #[test]
        fn a_number_within_the_error_is_stored_within_the_range(
            x in -4.0..4.0_f64, exponent in -20..0_i32, at in -1.0..=1.0_f64, small in any::<bool>(),
        ) {
            let x = if small { libm::ldexp(x, -20) } else { x };
            let before = libm::ldexp(1.0, exponent) * x.abs();
            for format in [Format::F16, Format::Bf16] {
                let range = Range::stored(x, before, format, false);
                prop_assert!(range.holds(format.round(x + at * before)));
                prop_assert_eq!(range.least, format.round(x - before));
                prop_assert_eq!(range.most, format.round(x + before));
                let flushed = Range::stored(x, before, format, true);
                let y = x + at * before;
                let small = y.abs() < format.smallest_normal();
                let stored = if small { 0.0 } else { format.round(y) };
                prop_assert!(flushed.holds(stored));
            }
        }

        #[test]
        fn a_stored_number_is_no_further_than_its_distance(x in 0.1..4.0_f64, exponent in -30..-4_i32, at in -1.0..=1.0_f64) {
            let error = libm::ldexp(1.0, exponent);
            for format in [Format::F16, Format::Bf16] {
                prop_assert!((format.round(x + at * error) - x).abs() <= distance(format, x, error));
            }
        }
    }

    #[test]
    fn the_lowest_bit_divides() {
        for (x, bit) in [(1.0, 1.0), (-0.75, 0.25), (96.0, 32.0), (0.0, f64::INFINITY)] {
            assert_eq!(lowest_bit(x), bit);
        }
    }
}
