//! The errors of a sum of terms, element by element: one row of `dq`, `dk`, `dv`, `o`, `dbias`.

use super::entry::{Arithmetic, Term};
use super::stage::Stage;
use super::vectors::{Running, add_errors, add_products};

/// The errors of one term of a sum, by stage.
pub(super) type Terms = [Term; Stage::COUNT];

/// What an element of a result may err.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Element {
    pub worst_case: f64,
    pub threshold: f64,
    /// What decides before the result is rounded to its format, the truth's own error included.
    pub before: f64,
    pub stages: [f64; Stage::COUNT],
}

/// Sums of `value x` and of what they err, where `x` is a vector of known numbers.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    width: usize,
    terms: usize,
    /// By stage, then by element.
    worst_case: Vec<f64>,
    squares: Vec<f64>,
    deterministic: Vec<f64>,
    used: [bool; Stage::COUNT],
    values: Running,
    /// `sum c x` for errors that all terms share, for `lse` and for `delta`.
    shared: [Vec<f64>; 2],
    /// The sum when the present query head began, and what the heads before it add to the error of repeated heads.
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
            values: Running::new(width),
            shared: [Vec::new(), Vec::new()],
            head: vec![0.0; width],
            heads_abs: vec![0.0; width],
            heads_error: vec![0.0; width],
            errors: Vec::new(),
        }
    }

    /// Sums to which some terms were added already, without their errors.
    pub(super) fn of_values(values: &Running, terms: usize) -> Self {
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
            self.errors.clear();
            let none = Term::default();
            self.errors.extend(
                terms.iter().map(
                    |terms| {
                        if terms[stage].worst_case == 0.0 { none } else { terms[stage] }
                    },
                ),
            );
            add_errors(
                &self.errors,
                x,
                [&mut worst_case[at.clone()], &mut squares[at.clone()], &mut deterministic[at]],
            );
        }
    }

    /// Adds `coefficients x` to what the terms share of the errors of `lse` and of `delta`.
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

    /// Turns what the terms share into errors of the elements, given those of `lse` and `delta`.
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
    pub(super) fn end_head(&mut self, arithmetic: &Arithmetic<'_>) {
        let recipe = arithmetic.recipe;
        for d in 0..self.width {
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
        arithmetic: &Arithmetic<'_>,
        tail: Tail,
        more: usize,
    ) -> Element {
        let mut element = Element::default();
        for stage in (0..Stage::COUNT).filter(|&stage| self.used[stage]) {
            let at = stage * self.width + d;
            let worst_case = self.worst_case[at];
            let sub_gaussian = libm::sqrt(self.squares[at] * tail.multiplicity);
            let threshold = worst_case.min(tail.lambda * sub_gaussian + self.deterministic[at])
                * (1.0 + tail.rho);
            element.add(stage, worst_case, threshold);
        }
        let n = self.terms;
        let gamma = arithmetic.gamma(n + more);
        let eta = n as f64 * arithmetic.eta;
        let worst_case = gamma * (self.values.abs(d) + element.worst_case) + eta;
        let drawn = arithmetic.partial_sums(n + more, self.values.partial(d));
        let threshold = tail.lambda * drawn.sub_gaussian
            + drawn.deterministic
            + gamma * element.threshold
            + eta;
        let threshold = worst_case.min(threshold);
        element.add(Stage::Sum as usize, worst_case, threshold);
        element.threshold = element.threshold.min(element.worst_case);
        element
    }

    /// What repeated heads add: each head's rounding, and the sum of the rounded heads.
    pub(super) fn repeated(&self, d: usize, arithmetic: &Arithmetic<'_>, group: usize) -> f64 {
        let u = arithmetic.recipe.output.unit_roundoff();
        let additions = group.saturating_sub(1) as f64;
        self.heads_error[d] + additions * u * (self.heads_abs[d] + self.heads_error[d])
    }
}

/// What turns scales into bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    /// The factor of the scale.
    pub lambda: f64,
    /// Relative size of the second order.
    pub rho: f64,
    /// Terms that may round alike.
    pub multiplicity: f64,
}

impl Element {
    /// Adds an error of one stage.
    pub(super) fn add(&mut self, stage: usize, worst_case: f64, threshold: f64) {
        self.worst_case += worst_case;
        self.threshold += threshold;
        self.stages[stage] += threshold;
    }

    /// What part of the bound each stage is.
    pub(super) fn shares(&self) -> [f32; Stage::COUNT] {
        let total: f64 = self.stages.iter().sum();
        let finite = total > 0.0 && total.is_finite();
        self.stages.map(|x| if finite { (x / total) as f32 } else { 0.0 })
    }

    /// Adds the rounding of the result, which is about `truth`, and the error of the truth.
    pub(super) fn store(&mut self, truth: f64, rounding: impl Fn(f64) -> f64) {
        let own = super::Truth::RELATIVE_ERROR * truth.abs();
        let worst_case = rounding(truth.abs() + self.worst_case) + own;
        let threshold = rounding(truth.abs() + self.threshold) + own;
        self.before = self.threshold + own;
        self.add(Stage::Store as usize, worst_case, threshold);
        if self.threshold.is_nan() {
            (self.worst_case, self.threshold) = (f64::INFINITY, f64::INFINITY);
        }
    }
}
