//! The errors of one entry of the score matrix: of the score, of its slope, of `exp` and of `dP`. Sections 4.1 to 4.4
//! and 5.3 of `docs/bounds.md`.

use super::limits::SMALLEST_PACKED;
use super::operands::{Operands, ProductChanges};
use super::roundoff::{Products, Roundoff};
use super::simd::{PANEL, PackedRows};
use super::term::Term;
use rayon::prelude::*;
use std::ops::Range;
use sus_reference::problem::{Problem, Row};
use sus_reference::tensor::Tensor;

/// One visible entry of a row, with the errors of a kernel in it.
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
    /// The same from scores that are stored in a narrow format, or whose operands are converted to one.
    pub log_stored: f64,
    /// Error of the slope.
    pub slope_error: f64,
    /// Error of `dP` from its sum.
    pub dp_sum: Term,
    /// Error of `dP` from its storage, or from the conversion of its operands.
    pub dp_stored: f64,
    /// Sum of absolute products of `dP`.
    pub dp_abs: f64,
    /// Change of `dP` where `v` is converted as it is for `P v`, and `G` is not.
    pub dp_of_v: f64,
    /// `Z`, the factor of dropout: 1 without dropout. `dP` and its errors have it.
    pub dropout: f64,
    /// `ds / dbias`: 1, or the softcap's derivative.
    pub bias_slope: f64,
    /// Error of the last.
    pub bias_slope_error: f64,
}

/// The constants of the scores of a problem.
pub(super) struct Scores<'a> {
    problem: &'a Problem<f64>,
    roundoff: &'a Roundoff<'a>,
    operands: &'a Operands,
    scale: f64,
}

/// The keys and the values of each key head as panels, which is how the products of one row and many keys are computed in vectors.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    keys: Vec<PackedRows>,
    values: Vec<PackedRows>,
}

impl Packed {
    /// Of a problem that is large enough.
    pub(super) fn of(problem: &Problem<f64>) -> Option<Self> {
        let large = sus_reference::evaluation::visible_count(problem) >= SMALLEST_PACKED;
        large.then(|| Packed::new(problem))
    }

    pub(super) fn new(problem: &Problem<f64>) -> Self {
        Packed { keys: packed(&problem.inputs().k), values: packed(&problem.inputs().v) }
    }
}

/// The rows of each head as panels.
pub(super) fn packed(x: &Tensor<f64>) -> Vec<PackedRows> {
    let [.., n, width] = x.shape();
    let heads = x.as_slice().par_chunks((n * width).max(1));
    heads.map(|head| PackedRows::new(head, width)).collect()
}

impl<'a> Scores<'a> {
    pub(super) fn new(
        problem: &'a Problem<f64>,
        roundoff: &'a Roundoff<'a>,
        operands: &'a Operands,
    ) -> Self {
        Scores { problem, roundoff, operands, scale: problem.scale() }
    }

    /// Some keys of a row, but for those that a bias of `-inf` hides.
    pub(super) fn entries(&self, row: Row, keys: Range<usize>, lse: f64) -> Vec<EntryError> {
        let p = self.problem;
        let Operands { packed: Some(packed), converted } = self.operands else {
            let seen = keys.filter(|&j| !p.hides(row, j));
            return seen.map(|j| self.entry(row, j, lse)).collect();
        };
        let head = row.b * p.sizes().key_heads + p.key_head(row.h);
        let (of_keys, of_values) = (&packed.keys[head], &packed.values[head]);
        let mut entries = Vec::with_capacity(keys.len());
        for panel in keys.start / PANEL..keys.end.div_ceil(PANEL) {
            let qk = of_keys.products(p.q(row), panel);
            let dp = of_values.products(p.g(row), panel);
            let changes = converted.as_ref().map(|converted| converted.panel(p, row, panel));
            let first = panel * PANEL;
            let keys = keys.start.max(first)..keys.end.min(first + PANEL);
            for j in keys.filter(|&j| !p.hides(row, j)) {
                let changes = changes.as_ref().map(|changes| changes[j - first]);
                entries.push(self.entry_of(row, j, lse, [qk[j - first], dp[j - first]], changes));
            }
        }
        entries
    }

    /// One key of a row.
    pub(super) fn entry(&self, row: Row, j: usize, lse: f64) -> EntryError {
        let p = self.problem;
        let products = [Products::of(p.q(row), p.k(row, j)), Products::of(p.g(row), p.v(row, j))];
        let converted = self.operands.converted.as_ref();
        let changes = converted.map(|converted| converted.entry(p, row, j));
        self.entry_of(row, j, lse, products, changes)
    }

    /// Sections 4.1 to 4.3, 4.9 and 5.3.
    pub(super) fn entry_of(
        &self,
        row: Row,
        j: usize,
        lse: f64,
        [qk, dp]: [Products; 2],
        changes: Option<ProductChanges>,
    ) -> EntryError {
        let (p, a) = (self.problem, self.roundoff);
        let changes = match (&self.operands.converted, changes) {
            (Some(converted), Some(changes)) => converted.with_second_order(changes, qk, dp),
            _ => ProductChanges::default(),
        };
        let u = a.u;
        let features = p.sizes().features;
        let mut z = self.scale * qk.sum;
        // Section 4.1. Of 8 roundings beyond the inner product two are of the scale and its product, four of its square root
        // and product on either side, two of log2(e) and its product. 2.5 u |z| of them all scores share: two constants are
        // rounded, u each, and fl(log2 e) errs by less than u / 4 in f32 and in f64.
        let shared = Term::deterministic(2.5 * u * z.abs());
        // gamma_{D + 8} |scale| |q|.|k|.
        let mut error = a.sum(qk, features, 8).times(self.scale).plus(shared);
        // Section 4.9: q and k are converted. q . k and its scaled value are stored.
        let converted = changes.qk * self.scale.abs();
        let mut stored = converted + a.scaled(z.abs() + error.worst_case + converted, self.scale);
        // 2 u: the scale is rounded and multiplied.
        let (mut s, mut slope, mut slope_error) = (z, self.scale, 2.0 * u * self.scale.abs());
        // Section 4.3, before the softcap.
        let first = p.bias(row).filter(|_| p.options().bias_first);
        if let Some(bias) = first {
            z += bias[j];
            s = z;
            error = error.beside(Term::rounding(u * z.abs()));
            stored += a.elementwise(z.abs() + error.worst_case);
        }
        let (mut bias_slope, mut bias_slope_error) = (1.0, 0.0);
        // Section 4.2.
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
            // A unit in the last place is 2 u at most. 4 u: cap is rounded for z / cap and for the product, and both are
            // rounded; an error of y is one of tanh y of at most the same relative size.
            let function = (2.0 * a.recipe.tanh_ulp + 4.0) * u * s.abs();
            error = error.plus(Term::rounding(function));
            // 1 - tanh^2 from the rounded tanh T: 2 |T| e_T + e_T^2. 4 u: its square, the difference from 1, the scale and its
            // product.
            let of_tanh = (error.worst_case + stored) / cap;
            let square = 2.0 * (s / cap).abs() * of_tanh + of_tanh * of_tanh;
            slope_error = self.scale.abs() * (square + 4.0 * u + 2.0 * a.elementwise(1.0));
            slope = self.scale * sech2;
            if first.is_some() {
                (bias_slope, bias_slope_error) =
                    (sech2, square + 4.0 * u + 2.0 * a.elementwise(1.0));
            }
        }
        // Section 4.3.
        if let Some(bias) = p.bias(row).filter(|_| first.is_none()) {
            s += bias[j];
            error = error.beside(Term::rounding(u * s.abs()));
            stored += a.elementwise(s.abs() + error.worst_case);
        }
        // Section 4.3: slope |i + Nk - Nq - j|, or slope j where only differences within a row count. 4 u: the slope divided by
        // the scale, its product with the distance, and both times log2(e).
        if let Some(slope) = p.alibi_slope(row) {
            let distance = p.alibi_distance(row, j);
            s += slope * distance;
            let of_product = 4.0 * u * slope.abs() * distance.abs().max(j as f64);
            error = error.beside(Term::rounding(u * s.abs())).plus(Term::deterministic(of_product));
            stored += a.elementwise(s.abs() + error.worst_case);
        }
        let dropout = p.dropout(row, j).unwrap_or(1.0);
        let dp = Products {
            sum: dp.sum * dropout,
            abs: dp.abs * dropout,
            partial: dp.partial * dropout,
        };
        let changes =
            ProductChanges { gv: changes.gv * dropout, v: changes.v * dropout, ..changes };
        // Section 5.3: one more addition where the sum begins with -delta, and the product with the factor of dropout.
        let of_dropout = a.of_dropout(p) * dp.sum.abs();
        let dp_sum = a.sum(dp, p.sizes().value_features, 1).plus(Term::deterministic(of_dropout));
        // Section 4.9: G and v are converted, or G is divided by the row's sum and rounded.
        let of_gv = changes.gv + a.of_division(dp.abs);
        // Under dropout dP is stored before the product with Z, too: what is lost below the normal range is multiplied by it.
        let of_gv =
            of_gv + a.stored_again(p, dp.sum.abs() + dp_sum.worst_case + of_gv) * dropout.max(1.0);
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
            dp_stored: of_gv + a.elementwise(dp.sum.abs() + dp_sum.worst_case + of_gv),
            dp_abs: dp.abs,
            dp_of_v: changes.v,
            dropout,
            bias_slope,
            bias_slope_error,
        }
    }
}

/// Section 4.4: the argument `s - lse` or `s - m`, in natural or binary logarithms, and the function.
///
/// The rounding of `lse` or `m`, which the row shares, stands with the error of `lse`.
pub(super) fn exponential(roundoff: &Roundoff<'_>, s: f64, lse: f64, largest: f64) -> Term {
    let u = roundoff.u;
    // A unit in the last place is 2 u at most; 1 more for the division by the row's sum.
    let function = (2.0 * roundoff.recipe.exp_ulp + 1.0) * u;
    // s log2(e) is rounded twice, the constant and the product; the difference once, at its own size.
    let argument = libm::hypot(2.0 * s.abs(), (s - lse).abs()) * u;
    Term {
        // 3 u: s log2(e), m log2(e) and their difference, each at most |s| + max |s|.
        worst_case: 3.0 * u * (s.abs() + largest) + function,
        sub_gaussian: libm::hypot(argument, function),
        deterministic: 0.0,
    }
}

/// Section 4.4: whether every right kernel has a weight of exactly 0 for this score, as of a key that a bias of `-1e9` hides.
/// `error` bounds the error of the score, `peak` is the row's largest score.
pub(super) fn vanishes(roundoff: &Roundoff<'_>, s: f64, error: f64, peak: f64) -> bool {
    // 9 u = 3 u + 6 u: the operands of the argument (section 4.4), and those of the rescalings (4.5), whose running maxima lie
    // between s and the largest score.
    let operands = 9.0 * roundoff.u * s.abs() + 9.0 * roundoff.u * peak.abs();
    s - peak + error + operands < roundoff.vanishing
}

impl EntryError {
    /// Section 4.4: `s - peak`, with the row's largest score, is stored in a narrow format.
    pub(super) fn store_shifted(&mut self, roundoff: &Roundoff<'_>, peak: f64) {
        let size = (self.s - peak).abs() + 2.0 * (self.log.worst_case + self.log_stored);
        self.log_stored += roundoff.narrow(roundoff.recipe.shifted, size);
    }

    /// [`vanishes`], before the errors of `exp` are added.
    pub(super) fn vanishes(&self, roundoff: &Roundoff<'_>, peak: f64) -> bool {
        vanishes(roundoff, self.s, self.log.worst_case + self.log_stored, peak)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Bounds, BoundsInput, Mode, Recipe, Truth, bounds, row_errors, row_errors_of,
    };
    use super::{Operands, Packed};
    use sus_reference::problem::{Inputs, Options, Problem};
    use sus_reference::sus::{Budget, Draw, sample};
    use sus_reference::tensor::Tensor;

    fn bounds_of(p: &Problem<f64>, recipe: &str) -> Bounds {
        let truth = Truth::exact(p).unwrap();
        bounds(&BoundsInput::dense(
            p,
            &Recipe::built_in(recipe).unwrap(),
            Mode::Exact,
            &truth.saved(),
            &truth.gradients(None),
        ))
    }

    /// A causal mask as a bias has the bounds of the mask itself, but for one rounding of the sum with the bias. Where scores are stored in
    /// 16 bits it is half a spacing beside that of the product and that of the scale, so that no bound is more than twice as wide; else it
    /// is one `u` of about `D + 8` of them. It had 200 to 700 times these bounds, or none.
    #[test]
    fn a_key_that_a_bias_hides_widens_no_bound() {
        let n = 12;
        let x = |at: f64| {
            Tensor::from_fn([1, 1, n, 8], |[.., i, d]| {
                libm::sin(at + 1.7 * i as f64 + 0.9 * d as f64)
            })
        };
        let inputs = Inputs::new(x(0.0), x(1.0), x(2.0), x(3.0));
        let p = Problem::new(inputs, Options::default()).unwrap();
        let causal = Options::default().with_causal(true);
        let masked = Problem::new(p.inputs().clone(), causal).unwrap();
        let most_negative = f64::from(f32::MIN);
        for (recipe, wider) in [("f32", 1.1), ("flash-bf16", 1.1), ("eager-bf16", 2.0)] {
            let expected = bounds_of(&masked, recipe);
            for hidden in [-1e4, -65504.0, -1e6, -1e9, most_negative, f64::NEG_INFINITY] {
                let bias =
                    Tensor::from_fn([1, 1, n, n], |[.., i, j]| if j > i { hidden } else { 0.0 });
                let inputs = p.inputs().clone().with_bias(bias);
                let found = bounds_of(&Problem::new(inputs, Options::default()).unwrap(), recipe);
                for (found, expected) in [
                    (found.o, &expected.o),
                    (found.lse, &expected.lse),
                    (found.dq, &expected.dq),
                    (found.dk, &expected.dk),
                    (found.dv, &expected.dv),
                ] {
                    for (found, expected) in found.threshold.iter().zip(&expected.threshold) {
                        let most = wider * expected;
                        assert!(*found <= most, "{recipe}, {hidden}: {found:e}, {expected:e}");
                    }
                }
            }
        }
    }

    /// A mask as a bias of 0 and `-inf` has the bits of the bounds of the mask beside a bias of 0: dense, and of a draw some of whose
    /// entries are ambiguous, by entries and by panels; in rows that see nothing, too.
    #[test]
    fn a_mask_of_minus_infinity_has_the_bounds_of_the_mask() {
        let (n, keys) = (20, 17);
        let x = |at: f64, n: usize| {
            Tensor::from_fn([1, 2, n, 8], |[_, h, i, d]| {
                libm::sin(at + 1.7 * i as f64 + 0.9 * d as f64 + 0.3 * h as f64)
            })
        };
        let shape = [1, 2, n, keys];
        let inputs = Inputs::new(x(0.0, n), x(1.0, keys), x(2.0, keys), x(3.0, n));
        for sink in [None, Some(vec![0.5, -0.25])] {
            let inputs = inputs.clone().with_sink(sink);
            let causal = Options::default().with_causal(true);
            let zeros = inputs.clone().with_bias(Tensor::zeros(shape));
            let masked = Problem::new(zeros, causal).unwrap();
            let hides = |j: usize, i: usize| j + n > i + keys;
            let bias = Tensor::from_fn(
                shape,
                |[.., i, j]| {
                    if hides(j, i) { f64::NEG_INFINITY } else { 0.0 }
                },
            );
            let hidden = Problem::new(inputs.with_bias(bias), Options::default()).unwrap();
            assert_eq!(
                (hidden.visible_keys(hidden.row(2)), hidden.visible_keys(hidden.row(3))),
                (0, 1)
            );
            for recipe in ["f64", "f32", "flash-bf16", "eager-bf16", "tf32"] {
                let recipe = Recipe::built_in(recipe).unwrap();
                for c in [None, Some(2.0)] {
                    let [found, expected] = [&hidden, &masked].map(|p| {
                        let truth = Truth::exact(p).unwrap();
                        let saved = truth.saved();
                        let draw = c.map(|c| Draw::paper(Budget::new(c).unwrap(), 3));
                        let drawn = draw.map(|draw| sample(p, &saved, &draw).unwrap());
                        // Key 1 of every row that sees it, and key 16 of those that do not.
                        let ambiguous = vec![vec![1, 16]; p.row_count()];
                        let found = bounds(&BoundsInput {
                            problem: p,
                            recipe: &recipe,
                            mode: Mode::Exact,
                            saved: &saved,
                            sample: drawn.as_ref(),
                            ambiguous: c.map(|_| &ambiguous[..]),
                            gradients: &truth.gradients(drawn.as_ref()),
                        });
                        let row = |at| {
                            let row = p.row(at);
                            [None, Some(Packed::new(p))].map(|packed| {
                                let operands = Operands { packed, converted: None };
                                row_errors_of(p, &saved, &recipe, Mode::Exact, row, &operands)
                            })
                        };
                        (found, (0..p.row_count()).map(row).collect::<Vec<_>>())
                    });
                    assert!(found == expected, "{c:?}");
                    assert!(found.0.dq.threshold.iter().any(|&x| x > 0.0 && x < 1e-2));
                }
            }
        }
    }

    /// Tiles of 32: a running maximum may change once in each that has a visible key, however few there are.
    #[test]
    fn hidden_keys_between_visible_ones_take_up_tiles() {
        let one = Tensor::from_fn([1, 1, 1, 1], |_| 1.0);
        let keys = Tensor::from_fn([1, 1, 100, 1], |[.., j, _]| 1e-3 * j as f64);
        let tiles_of = |seen: &[usize]| {
            let bias = Tensor::from_fn([1, 1, 1, 100], |[.., j]| {
                if seen.contains(&j) { 0.0 } else { f64::NEG_INFINITY }
            });
            let inputs = Inputs::new(one.clone(), keys.clone(), keys.clone(), one.clone());
            let p = Problem::new(inputs.with_bias(bias), Options::default()).unwrap();
            let saved = Truth::exact(&p).unwrap().saved();
            let recipe = Recipe { tile: 32, ..Recipe::built_in("f32").unwrap() };
            let errors = row_errors(&p, &saved, &recipe, Mode::Exact, p.row(0));
            assert_eq!((errors.visible, errors.entries.len()), (seen.len(), seen.len()));
            errors.forward_roundings - errors.entries.len() - 3
        };
        assert_eq!(tiles_of(&[]), 0);
        assert_eq!(tiles_of(&[70]), 1);
        assert_eq!(tiles_of(&[0, 99]), 2);
        assert_eq!(tiles_of(&[0, 40, 99]), 3);
        assert_eq!(tiles_of(&[0, 20, 40, 60, 80, 99]), 4);
        assert_eq!(tiles_of(&[31, 32, 33, 34, 35, 36]), 1);
    }

    /// Both sides of the limit at `f32`: `ln 2^-150 - 40 = -143.97`, with errors of some `144 9 2^-24 = 8e-5`.
    #[test]
    fn a_weight_vanishes_forty_below_what_the_accumulator_rounds_to_zero() {
        let one = Tensor::from_fn([1, 1, 1, 1], |_| 1.0);
        let two = Tensor::from_fn([1, 1, 2, 1], |_| 0.0);
        for (gap, entries) in [(143.9, 2), (144.0, 1)] {
            let bias = Tensor::from_fn([1, 1, 1, 2], |[.., j]| -gap * j as f64);
            let inputs = Inputs::new(one.clone(), two.clone(), two.clone(), one.clone());
            let p = Problem::new(inputs.with_bias(bias), Options::default()).unwrap();
            let saved = Truth::exact(&p).unwrap().saved();
            let recipe = Recipe::built_in("f32").unwrap();
            let errors = row_errors(&p, &saved, &recipe, Mode::Exact, p.row(0));
            assert_eq!((errors.entries.len(), errors.visible), (entries, 2), "{gap}");
        }
    }

    /// A sink that is the most negative float stands for no sink, and widens no bound.
    #[test]
    fn a_sink_whose_weight_vanishes_widens_no_bound() {
        let p = sus_corpus::named("sink").unwrap().problem;
        let none = vec![f64::from(f32::MIN); p.sizes().query_heads];
        let hidden = Problem::new(p.inputs().clone().with_sink(none), p.options().clone()).unwrap();
        let mut inputs = p.inputs().clone();
        inputs.sink = None;
        let without = Problem::new(inputs, p.options().clone()).unwrap();
        let [found, expected] = [&hidden, &without].map(|p| bounds_of(p, "f32"));
        for (found, expected) in [(&found.o, &expected.o), (&found.dq, &expected.dq)] {
            for (found, expected) in found.threshold.iter().zip(&expected.threshold) {
                assert!(*found <= 1.1 * expected, "{found:e}, {expected:e}");
            }
        }
    }
}
