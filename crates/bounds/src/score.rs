//! The errors of one entry of the score matrix: of the score, of its slope, of `exp` and of `dP`.
//!
//! `docs/bounds.md` derives each line; the names of its sections stand beside them.

use super::entry::{Arithmetic, Products, Term};
use super::vectors::{PANEL, Panels};
use rayon::prelude::*;
use std::ops::Range;
use sus_reference::problem::{Problem, Row};
use sus_reference::tensor::Tensor;

/// One visible entry of a row, with what a kernel may err in it.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, Recipe, row_errors};
/// let saved = sus_reference::forward::forward(&problem);
/// let recipe = Recipe::built_in("f32").unwrap();
/// let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, problem.row(0));
/// let entry = errors.entries[0];
/// assert!((entry.w - (entry.s - errors.lse).exp()).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntryError {
    /// The key.
    pub j: usize,
    /// The score.
    pub s: f64,
    /// The dense weight.
    pub w: f64,
    /// `ds / d(q . k)`.
    pub slope: f64,
    /// `dP`.
    pub dp: f64,
    /// Error of `ln W` from the score and from `exp`.
    pub log: Term,
    /// The same from scores that are stored in a narrow format.
    pub log_stored: f64,
    /// Error of the slope.
    pub slope_error: f64,
    /// Error of `dP` from its sum.
    pub dp_sum: Term,
    /// Error of `dP` from its storage.
    pub dp_stored: f64,
    /// Sum of absolute products of `dP`.
    pub dp_abs: f64,
}

/// The constants of the scores of a problem.
pub(super) struct Scores<'a> {
    problem: &'a Problem<f64>,
    arithmetic: &'a Arithmetic<'a>,
    packed: Option<&'a Packed>,
    scale: f64,
}

/// The keys and the values of each key head as panels, which is how the products of one row and many keys are computed in vectors.
#[derive(Debug, Clone)]
pub struct Packed {
    keys: Vec<Panels>,
    values: Vec<Panels>,
}

/// Visible entries from which packing is worth it.
const WORTH_PACKING: u64 = 1 << 12;

impl Packed {
    /// Of a problem that is large enough.
    pub fn of(problem: &Problem<f64>) -> Option<Self> {
        let large = sus_reference::evaluation::visible_count(problem) >= WORTH_PACKING;
        large.then(|| Packed::new(problem))
    }

    pub(super) fn new(problem: &Problem<f64>) -> Self {
        let of = |x: &Tensor<f64>| -> Vec<Panels> {
            let [.., n, width] = x.shape();
            let heads = x.as_slice().par_chunks((n * width).max(1));
            heads.map(|head| Panels::new(head, width)).collect()
        };
        Packed { keys: of(&problem.inputs().k), values: of(&problem.inputs().v) }
    }
}

impl<'a> Scores<'a> {
    pub(super) fn new(
        problem: &'a Problem<f64>,
        arithmetic: &'a Arithmetic<'a>,
        packed: Option<&'a Packed>,
    ) -> Self {
        Scores { problem, arithmetic, packed, scale: problem.scale() }
    }

    /// Some keys of a row.
    pub(super) fn entries(&self, row: Row, keys: Range<usize>, lse: f64) -> Vec<EntryError> {
        let p = self.problem;
        let Some(packed) = self.packed else {
            return keys.map(|j| self.entry(row, j, lse)).collect();
        };
        let head = row.b * p.sizes().key_heads + p.key_head(row.h);
        let (of_keys, of_values) = (&packed.keys[head], &packed.values[head]);
        let mut entries = Vec::with_capacity(keys.len());
        for panel in keys.start / PANEL..keys.end.div_ceil(PANEL) {
            let qk = of_keys.products(p.q(row), panel);
            let dp = of_values.products(p.g(row), panel);
            let first = panel * PANEL;
            for j in keys.start.max(first)..keys.end.min(first + PANEL) {
                entries.push(self.entry_of(row, j, lse, qk[j - first], dp[j - first]));
            }
        }
        entries
    }

    /// One key of a row.
    pub(super) fn entry(&self, row: Row, j: usize, lse: f64) -> EntryError {
        let p = self.problem;
        let qk = Products::of(p.q(row), p.k(row, j));
        self.entry_of(row, j, lse, qk, Products::of(p.g(row), p.v(row, j)))
    }

    /// Sections "score", "softcap" and "dP".
    fn entry_of(&self, row: Row, j: usize, lse: f64, qk: Products, dp: Products) -> EntryError {
        let (p, a) = (self.problem, self.arithmetic);
        let u = a.u;
        let features = p.sizes().features;
        let z = self.scale * qk.sum;
        // Eight roundings: the scale, its product, its square root on both sides, log2(e) and its product.
        let shared = Term::deterministic(2.5 * u * z.abs());
        let mut error = a.sum(qk, features, 8).times(self.scale).plus(shared);
        // q . k and its scaled value are stored.
        let mut stored = a.scaled(z.abs() + error.worst_case, self.scale);
        let (mut s, mut slope, mut slope_error) = (z, self.scale, 2.0 * u * self.scale.abs());
        if let Some(cap) = p.options().softcap {
            let y = z / cap;
            let e = libm::exp(-2.0 * y.abs());
            let sech2 = 4.0 * e / ((1.0 + e) * (1.0 + e));
            s = cap * libm::tanh(y);
            // tanh is Lipschitz with constant sech^2 y at y, and e^{2|x|} sech^2 y within x of it.
            let at_most = |x: f64| (sech2 * libm::exp(2.0 * x / cap)).min(1.0);
            let spacing = cap * a.elementwise(y.abs() + (error.worst_case + stored) / cap);
            let lipschitz = at_most(error.worst_case + stored + spacing);
            error = error.times(lipschitz);
            // z / cap, its tanh and the capped score are stored, each with the spacing of its own size.
            let size = s.abs() + error.worst_case + stored;
            stored = (stored + spacing) * lipschitz
                + cap * a.elementwise(size / cap)
                + a.elementwise(size);
            let function = (2.0 * a.recipe.tanh_ulp + 4.0) * u * s.abs();
            error = error.plus(Term::rounding(function));
            // 1 - tanh^2 from the rounded tanh: the error of its square, and two roundings of numbers up to 1.
            let of_tanh = (error.worst_case + stored) / cap;
            let square = 2.0 * (s / cap).abs() * of_tanh + of_tanh * of_tanh;
            slope_error = self.scale.abs() * (square + 4.0 * u + 2.0 * a.elementwise(1.0));
            slope = self.scale * sech2;
        }
        if let Some(bias) = p.bias(row) {
            s += bias[j];
            error = error.beside(Term::rounding(u * s.abs()));
            stored += a.elementwise(s.abs() + error.worst_case);
        }
        let dp_sum = a.sum(dp, p.sizes().value_features, 1);
        EntryError {
            j,
            s,
            w: libm::exp(s - lse),
            slope,
            dp: dp.sum,
            log: error,
            log_stored: stored,
            slope_error,
            dp_sum,
            dp_stored: a.elementwise(dp.sum.abs() + dp_sum.worst_case),
            dp_abs: dp.abs,
        }
    }
}

/// Section "exp": the argument `s - lse` or `s - m`, in natural or binary logarithms, and the function.
///
/// What the row shares, the rounding of `lse` or `m`, is random in no entry: it stands with the error of `lse`.
pub(super) fn exponential(arithmetic: &Arithmetic<'_>, s: f64, lse: f64, largest: f64) -> Term {
    let u = arithmetic.u;
    let function = (2.0 * arithmetic.recipe.exp_ulp + 1.0) * u;
    let argument = libm::hypot(2.0 * s.abs(), (s - lse).abs()) * u;
    Term {
        worst_case: 3.0 * u * (s.abs() + largest) + function,
        sub_gaussian: libm::hypot(argument, function),
        deterministic: 0.0,
    }
}
