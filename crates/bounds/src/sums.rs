//! The errors of a sum of terms, element by element: one row of `dq`, `dk`, `dv`, `o`, `dbias`. Section 6 of
//! `docs/bounds.md`.

use super::roundoff::Roundoff;
use super::simd::{RunningSums, add_errors, add_products};
use super::stage::Stage;
use super::term::Term;
use super::truth::Truth;

/// The errors of one term of a sum, by stage.
pub(super) type Terms = [Term; Stage::COUNT];

/// The errors of one stage.
pub(super) fn only(stage: Stage, term: Term) -> Terms {
    let mut terms = Terms::default();
    terms[stage as usize] = term;
    terms
}

/// The error of an element of a result.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ElementError {
    pub worst_case: f64,
    pub threshold: f64,
    /// The threshold before the result is rounded to its format, the truth's own error included.
    pub before: f64,
    pub stages: [f64; Stage::COUNT],
}

/// Sums of `value x` and of their errors, where `x` is a vector of exact numbers.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    width: usize,
    terms: usize,
    /// By stage, then by element.
    worst_case: Vec<f64>,
    squares: Vec<f64>,
    deterministic: Vec<f64>,
    used: [bool; Stage::COUNT],
    values: RunningSums,
    /// `sum c x` for errors that all terms share, for `lse` and for `delta`.
    shared: [Vec<f64>; 2],
    /// The sum when the present query head began, and the parts of the heads before it in the error of repeated heads.
    head: Vec<f64>,
    heads_abs: Vec<f64>,
    heads_error: Vec<f64>,
    /// Of the terms that are being added, at one stage.
    errors: Vec<Term>,
}

impl Sums {
    pub(super) fn new(width: usize) -> Self {
        let by_stage = || vec![0.0; Stage::COUNT * width];
        Sums {
            width,
            terms: 0,
            worst_case: by_stage(),
            squares: by_stage(),
            deterministic: by_stage(),
            used: [false; Stage::COUNT],
            values: RunningSums::new(width),
            shared: [Vec::new(), Vec::new()],
            head: vec![0.0; width],
            heads_abs: vec![0.0; width],
            heads_error: vec![0.0; width],
            errors: Vec::new(),
        }
    }

    /// Sums to which some terms were added already, without their errors.
    pub(super) fn of_values(values: &RunningSums, terms: usize) -> Self {
        Sums { terms, values: values.clone(), ..Sums::new(values.width()) }
    }

    /// Adds the terms `value x` with their errors, one after the other.
    pub(super) fn add(&mut self, values: &[f64], terms: &[Terms], x: &[&[f64]]) {
        self.terms += values.len();
        self.values.add(values, x);
        self.add_errors(terms, x);
    }

    /// Adds errors alone.
    pub(super) fn add_errors(&mut self, terms: &[Terms], x: &[&[f64]]) {
        for stage in 0..Stage::COUNT {
            if terms.iter().all(|terms| terms[stage].worst_case == 0.0) {
                continue;
            }
            self.used[stage] = true;
            let at = stage * self.width..(stage + 1) * self.width;
            let [worst_case, squares, deterministic] =
                [&mut self.worst_case, &mut self.squares, &mut self.deterministic];
            let of_stage = terms.iter().map(|terms| match terms[stage] {
                term if term.worst_case == 0.0 => Term::default(),
                term => term,
            });
            self.errors.clear();
            self.errors.extend(of_stage);
            add_errors(
                &self.errors,
                x,
                [&mut worst_case[at.clone()], &mut squares[at.clone()], &mut deterministic[at]],
            );
        }
    }

    /// Section 6.1: adds `coefficients x` to the factors of the errors of `lse` and of `delta` that the terms share.
    pub(super) fn share(&mut self, coefficients: [&[f64]; 2], x: &[&[f64]]) {
        for (shared, coefficients) in self.shared.iter_mut().zip(coefficients) {
            shared.resize(self.width, 0.0);
            add_products(coefficients, x, shared);
        }
    }

    /// How many terms were added.
    pub(super) fn terms(&self) -> usize {
        self.terms
    }

    /// Section 6.1: the errors of `lse` and `delta`, times the factors that the terms share, as errors of the elements.
    pub(super) fn settle(&mut self, of: [(Stage, Term, usize); 3]) {
        for (stage, term, which) in of {
            if term.worst_case == 0.0 || self.shared[which].is_empty() {
                continue;
            }
            self.used[stage as usize] = true;
            for d in 0..self.width {
                let at = stage as usize * self.width + d;
                let term = term.times(self.shared[which][d]);
                self.worst_case[at] += term.worst_case;
                self.squares[at] += term.sub_gaussian * term.sub_gaussian;
                self.deterministic[at] += term.deterministic;
            }
        }
    }

    /// A query head ends: repeated heads round its sum to the output format.
    pub(super) fn end_head(&mut self, roundoff: &Roundoff<'_>) {
        let recipe = roundoff.recipe;
        for d in 0..self.width {
            // Section 6.4: half a spacing at the size of the head's sum.
            let of_head = (self.values.sum(d) - self.head[d]).abs();
            self.head[d] = self.values.sum(d);
            self.heads_abs[d] += of_head;
            self.heads_error[d] += recipe.output.rounding_error(of_head, recipe.flush_to_zero);
        }
    }

    /// The error of element `d`, but for its storage.
    ///
    /// `rho` bounds the second order of the random part, `multiplicity` the entries that round alike.
    pub(super) fn element(
        &self,
        d: usize,
        roundoff: &Roundoff<'_>,
        tail: Tail,
        more: usize,
    ) -> ElementError {
        let mut element = ElementError::default();
        // Section 3.1, for each stage: min(worst case, lambda tau + deterministic), to second order.
        for stage in (0..Stage::COUNT).filter(|&stage| self.used[stage]) {
            let at = stage * self.width + d;
            let worst_case = self.worst_case[at];
            let sub_gaussian = libm::sqrt(self.squares[at] * tail.multiplicity);
            let threshold = worst_case.min(tail.lambda * sub_gaussian + self.deterministic[at])
                * (1.0 + tail.rho);
            element.add(stage, worst_case, threshold);
        }
        // Section 6.3: gamma_{n + more} sum (|x| + e_x), and an underflow for each term.
        let n = self.terms;
        let gamma = roundoff.gamma(n + more);
        let eta = n as f64 * roundoff.eta;
        let worst_case = gamma * (self.values.abs(d) + element.worst_case) + eta;
        let random = roundoff.partial_sums(n + more, self.values.partial(d));
        let threshold = tail.lambda * random.sub_gaussian
            + random.deterministic
            + gamma * element.threshold
            + eta;
        let threshold = worst_case.min(threshold);
        element.add(Stage::Sum as usize, worst_case, threshold);
        element.threshold = element.threshold.min(element.worst_case);
        element
    }

    /// Section 6.8: adds the roundings of a total that is stored in the output format after each of at most `tiles` tiles, and of the
    /// tiles' sums, which atomics round before they add them.
    pub(super) fn add_running(
        &self,
        element: &mut ElementError,
        d: usize,
        roundoff: &Roundoff<'_>,
        tiles: usize,
    ) {
        let (format, flush) = (roundoff.recipe.output, roundoff.recipe.flush_to_zero);
        if tiles == 0 || !roundoff.is_narrow(format) {
            return;
        }
        // A tile without a term changes nothing.
        let tiles = tiles.min(self.terms) as f64;
        // u sum |tile| <= u sum |x|, and half a spacing of the total after each tile.
        let rounded = |error: f64, partial: f64| {
            let of_tiles = format.unit_roundoff() * (self.values.abs(d) + error)
                + tiles * format.underflow_error(flush);
            of_tiles + tiles * format.rounding_error(partial + error + of_tiles, flush)
        };
        let worst_case = rounded(element.worst_case, self.values.abs(d));
        let threshold = rounded(element.threshold, self.values.partial(d));
        element.add(Stage::Store as usize, worst_case, threshold);
    }

    /// Section 6.4: the errors of repeated heads: each head's rounding, and the sum of the rounded heads.
    pub(super) fn repeated(&self, d: usize, roundoff: &Roundoff<'_>, group: usize) -> f64 {
        let u = roundoff.recipe.output.unit_roundoff();
        // g roundings of heads, and g - 1 additions of rounded heads: u of a partial sum each.
        let additions = group.saturating_sub(1) as f64;
        self.heads_error[d] + additions * u * (self.heads_abs[d] + self.heads_error[d])
    }
}

/// Terms of one sum, in their order.
#[derive(Default)]
pub(super) struct TermBatch<'a> {
    values: Vec<f64>,
    terms: Vec<Terms>,
    pub(super) x: Vec<&'a [f64]>,
    /// How many of them are errors alone.
    errors: usize,
}

impl<'a> TermBatch<'a> {
    pub(super) fn push(&mut self, value: f64, terms: &Terms, x: &'a [f64]) {
        self.values.push(value);
        self.terms.push(*terms);
        self.x.push(x);
    }

    /// An error of the sum that is no term of it.
    pub(super) fn push_error(&mut self, stage: Stage, error: f64, x: &'a [f64]) {
        self.push(0.0, &only(stage, Term::deterministic(error)), x);
        self.errors += 1;
    }

    pub(super) fn add_to(&mut self, sums: &mut Sums) {
        sums.add(&self.values, &self.terms, &self.x);
        sums.terms -= self.errors;
        self.errors = 0;
        self.values.clear();
        self.terms.clear();
        self.x.clear();
    }
}

/// The factors that turn sub-Gaussian parameters into bounds. Section 3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    /// The factor of the scale.
    pub lambda: f64,
    /// Relative size of the second order.
    pub rho: f64,
    /// Terms that may round alike.
    pub multiplicity: f64,
}

impl ElementError {
    /// Adds an error of one stage.
    pub(super) fn add(&mut self, stage: usize, worst_case: f64, threshold: f64) {
        self.worst_case += worst_case;
        self.threshold += threshold;
        self.stages[stage] += threshold;
    }

    /// The part of each stage in the threshold.
    pub(super) fn shares(&self) -> [f32; Stage::COUNT] {
        let total: f64 = self.stages.iter().sum();
        let finite = total > 0.0 && total.is_finite();
        self.stages.map(|x| if finite { (x / total) as f32 } else { 0.0 })
    }

    /// Adds the error of another number that is added to this one.
    pub(super) fn join(&mut self, other: &ElementError) {
        self.worst_case += other.worst_case;
        self.threshold += other.threshold;
        for (stage, x) in self.stages.iter_mut().zip(other.stages) {
            *stage += x;
        }
    }

    /// Adds the rounding of the result, which is about `truth`, and the error of the truth.
    pub(super) fn store(&mut self, truth: f64, rounding: impl Fn(f64) -> f64) {
        // Section 6.5: half a spacing at the size that the result may have; the truth's own rounding, before and after it.
        let own = Truth::RELATIVE_ERROR * truth.abs();
        let worst_case = rounding(truth.abs() + self.worst_case) + own;
        let threshold = rounding(truth.abs() + self.threshold) + own;
        self.before = self.threshold + own;
        self.add(Stage::Store as usize, worst_case, threshold);
        if self.threshold.is_nan() {
            (self.worst_case, self.threshold) = (f64::INFINITY, f64::INFINITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::recipe::Recipe;
    use super::*;
    use approx::assert_relative_eq;
    use sus_reference::scalar::{Dd, Scalar};

    const TAIL: Tail = Tail { lambda: 8.0, rho: 0.0, multiplicity: 1.0 };

    /// `n` terms of the value 1 whose errors are these.
    fn sum_of(n: usize, value: f64, errors: &Terms) -> Sums {
        let mut sums = Sums::new(1);
        sums.add(&vec![value; n], &vec![*errors; n], &vec![&[1.0][..]; n]);
        sums
    }

    /// Section 3.1. Powers of two, so that every root is exact.
    #[test]
    fn a_stage_has_the_smaller_of_the_worst_case_and_lambda_roots_of_the_squares() {
        let recipe = Recipe::built_in("f32").unwrap();
        let roundoff = Roundoff::new(&recipe);
        let unit = Term::rounding(1.0);
        let stage = |n: usize, term: Term, tail: Tail| {
            let element = sum_of(n, 0.0, &only(Stage::Score, term)).element(0, &roundoff, tail, 6);
            element.stages[Stage::Score as usize]
        };
        assert_eq!(stage(256, unit, TAIL), 8.0 * 16.0);
        assert_eq!(stage(16, unit, TAIL), 16.0, "8 times 4 is above the worst case");
        assert_eq!(
            stage(256, Term { worst_case: 2.0, deterministic: 0.25, ..unit }, TAIL),
            128.0 + 64.0
        );
        assert_eq!(stage(1024, unit, Tail { multiplicity: 4.0, ..TAIL }), 8.0 * 64.0);
        assert_eq!(stage(256, unit, Tail { rho: 0.5, ..TAIL }), 1.5 * 128.0);
        let other = Term { worst_case: 0.0, ..unit };
        assert_eq!(stage(256, other, TAIL), 0.0, "a term without a worst case has no error");
    }

    /// Section 6.3, for additions that are rounded and for additions that are truncated.
    #[test]
    fn a_sum_errs_by_gamma_of_its_terms_or_by_lambda_roots_of_its_partial_sums() {
        let n = 1000;
        for name in ["f32", "tf32"] {
            let recipe = Recipe::built_in(name).unwrap();
            let roundoff = Roundoff::new(&recipe);
            let sums = sum_of(n, 1.0, &only(Stage::Score, Term::deterministic(0.5)));
            let element = sums.element(0, &roundoff, TAIL, 6);
            let u = Format::F32.unit_roundoff();
            let (gamma, m) = (roundoff.gamma(n + 6), (n + 6) as f64);
            let worst = 500.0 + gamma * 1500.0;
            assert_relative_eq!(element.worst_case, worst, max_relative = 1e-12);
            // All terms have one sign: no partial sum is above the sum of the absolute values.
            let random = if name == "f32" { 8.0 * libm::sqrt(m) * u } else { m * 4.0 * u };
            let expected = (random * 1000.0 + gamma * 500.0).min(gamma * 1500.0);
            assert_relative_eq!(
                element.stages[Stage::Sum as usize],
                expected,
                max_relative = 1e-12
            );
            assert_relative_eq!(element.threshold, 500.0 + expected, max_relative = 1e-12);
        }
    }

    /// Section 6.5. The truth is rounded to `f64`, so that a number just beyond the midpoint of two `f64` is stored one unit
    /// away from it by a kernel without any error; and next to a tie of a narrow format the two round apart.
    #[test]
    fn a_stored_result_is_within_half_a_spacing_and_the_rounding_of_the_truth() {
        let x = Dd::from_f64(1.0) + Dd::from_f64(f64::EPSILON * 0.5 * (1.0 + 1e-6));
        let (truth, stored) = (1.0, 1.0 + f64::EPSILON);
        assert!((x - Dd::from_f64(stored)).to_f64().abs() < f64::EPSILON * 0.5);
        let mut element = ElementError::default();
        element.store(truth, |x| Format::F64.rounding_error(x, false));
        for bound in [element.threshold, element.worst_case] {
            assert!(bound >= stored - truth, "{bound:e}");
            // 2 + 1/32 of the 2 units of 2^-53 that the kernel is off.
            assert!(bound <= (stored - truth) * (1.0 + 1.0 / 32.0));
        }
        // A truth that is a tie of bf16 may be stored as either neighbour.
        let mut element = ElementError::default();
        let tie = 1.0 + 1.0 / 256.0;
        element.store(tie, |x| Format::Bf16.rounding_error(x, false));
        assert!(element.before > 0.0 && element.before <= 2.1 * f64::EPSILON);
        assert_eq!(Format::Bf16.round(tie + element.before), 1.0 + 1.0 / 128.0);
        assert_eq!(Format::Bf16.round(tie - element.before), 1.0);
    }

    /// Section 6.8: a bf16 total of 4 loses each addition below half of its spacing, `2^-6`.
    #[test]
    fn a_running_total_rounds_after_each_tile() {
        let recipe = Recipe::built_in("flash-bf16").unwrap();
        let roundoff = Roundoff::new(&recipe);
        let small = libm::ldexp(0.99, -6);
        let mut sums = sum_of(1, 4.0, &Terms::default());
        sums.add(&[small; 9], &[Terms::default(); 9], &[&[1.0][..]; 9]);
        let carried = (0..9).fold(4.0, |total, _| Format::Bf16.round(total + small));
        assert_eq!(carried, 4.0);
        let error = 9.0 * small;
        let bound = |tiles: usize| {
            let mut element = ElementError::default();
            sums.add_running(&mut element, 0, &roundoff, tiles);
            element.threshold
        };
        // Ten half spacings, and those of ten tiles, 4.14 / 256 together.
        assert!(bound(10) >= error && bound(10) < 1.3 * error, "{} {error}", bound(10));
        assert_eq!([bound(0), bound(11)], [0.0, bound(10)], "there are ten terms");
        assert!(bound(5) < error, "{} {error}", bound(5));
    }

    /// Section 6.4: three heads are rounded, and two additions of the rounded heads.
    #[test]
    fn repeated_heads_round_each_head_and_each_addition() {
        let recipe = Recipe::built_in("flash-bf16-repeated").unwrap();
        let roundoff = Roundoff::new(&recipe);
        let mut sums = Sums::new(1);
        for _ in 0..3 {
            sums.add(&[1.5], &[Terms::default()], &[&[1.0]]);
            sums.end_head(&roundoff);
        }
        let half_spacing = 1.0 / 256.0;
        let expected = 3.0 * half_spacing + 2.0 / 256.0 * (4.5 + 3.0 * half_spacing);
        assert_relative_eq!(sums.repeated(0, &roundoff, 3), expected, max_relative = 1e-12);
    }
}
