//! The rounding model of one key head: the roundings that the statistics follow, as independent sub-Gaussian variables.
//!
//! `docs/verdict.md` derives each line, in its section "The statistics".

use super::context::BoundContext;
use super::format::Format;
use super::linear_sums::add_squares;
use super::row::{Mode, RowErrors};
use super::score::EntryError;
use super::simd::add_products;
use super::ties::tied;
use sus_reference::problem::Row;

/// A uniform variable in `[-a, a]` is sub-Gaussian with the squared parameter `a^2 / 3`, its variance: the moment generating
/// function is `sinh(x a) / (x a) = sum (x a)^2n / (2n + 1)!`, at most `sum (x a)^2n / (6^n n!) = exp(x^2 a^2 / 6)`.
const UNIFORM: f64 = 1.0 / 3.0;

/// One kept entry: its roundings, as sub-Gaussian parameters.
pub(super) struct EntryRoundings {
    /// The row, numbered in the key head.
    pub at: u32,
    /// The key.
    pub j: u32,
    /// The rounding of `dZ` where the scale comes before it, and where it comes after.
    pub ds: [f32; 2],
    /// The rounding of `P`.
    pub p: f32,
    /// What the error of the factor of dropout adds to the product with `G`, and a second store of it: of one sign for all entries.
    pub of_dropout: f32,
    /// The factor of dropout, and how much larger than `Z` times the rounding of `P` that of `P Z` may be.
    pub dropout: [f32; 2],
    /// The part of `dZ` that the rounding of the `P` in `dS` adds, with its sign.
    pub p_in_ds: f32,
    /// The roundings of `dZ` together.
    pub total_ds: f32,
    /// The factor of an error of `delta` in `dZ`.
    pub by_weight: f32,
    /// The error of a `P` whose rounding is the same in all right kernels, and its part of `dZ` if `dS` is made of it.
    pub known: f32,
    pub known_ds: f32,
    /// `dP`.
    pub dp: f32,
    /// For the bias: the rounding of `dS`, the part of the rounding of `P` in it, and the factor of `delta`.
    pub bias: [f32; 3],
    /// The logarithms of the numbers that are rounded.
    log_ds: f32,
    log_p: f32,
}

impl EntryRoundings {
    /// The rounding of `P` in the product with `G`, of `P` or of `P Z`.
    pub(super) fn p_in_dv(&self) -> f32 {
        let [z, larger] = self.dropout;
        self.p * z * larger
    }
}

/// The roundings of one key head.
pub(super) struct RoundingModel {
    pub b: usize,
    pub key_head: usize,
    entries: Vec<EntryRoundings>,
    /// By row: the parameters of `delta`, from `P` in the forward pass and from the stored `o`.
    pub delta: Vec<[f64; 2]>,
    /// By row: both, where the first may depend on the roundings of `P` in `dS` and is inflated.
    pub inflated_delta: Vec<f64>,
    /// By row: what the error of the factor of dropout adds to `delta`.
    pub delta_of_dropout: Vec<f64>,
    /// The factor of the squares of `P` in the product with `G`, where the others may be in the same sum.
    pub for_dv: f64,
}

impl RoundingModel {
    /// `rows` are the errors of all rows of the problem, whose entries are not needed.
    pub(super) fn new(
        context: &BoundContext<'_>,
        rows: &[RowErrors],
        b: usize,
        key_head: usize,
    ) -> Self {
        let p = context.input.problem;
        let all_keys = 0..p.sizes().keys;
        let (s, group) = (p.sizes(), p.group());
        let (mut entries, mut delta, mut lses) = (Vec::new(), Vec::new(), Vec::new());
        let mut delta_of_dropout = Vec::new();
        let heads = key_head * group..(key_head + 1) * group;
        if context.input.sample.is_none() {
            let rows = heads.clone().flat_map(|h| (0..s.queries).map(move |i| Row { b, h, i }));
            entries.reserve_exact(rows.map(|row| p.span(row).len()).sum());
        }
        for h in heads {
            for i in 0..s.queries {
                let row = Row { b, h, i };
                let errors = &rows[p.row_number(row)];
                // Of a row without keys nothing is rounded.
                lses.push(if errors.lse.is_finite() { errors.lse as f32 } else { 0.0 });
                let at = delta.len() as u32;
                let of_row = context.entries(row, errors, &all_keys);
                entries.extend(of_row.iter().filter_map(|e| entry(context, row, at, errors, e)));
                delta.push(errors.delta_stored_norms);
                delta_of_dropout.push(of_dropout_in_delta(context, row));
            }
        }
        let inflated_delta = Vec::new();
        let for_dv = 1.0;
        let mut model =
            RoundingModel { b, key_head, entries, delta, inflated_delta, delta_of_dropout, for_dv };
        model.inflate_dependent_variance(context, &lses);
        model
    }

    /// From bounds of single roundings to sub-Gaussian parameters: squares are multiplied by the number of ties, and where a
    /// rounding may be in two parts of one sum both squares are inflated.
    fn inflate_dependent_variance(&mut self, context: &BoundContext<'_>, lses: &[f32]) {
        let recipe = context.input.recipe;
        // "Ties": each square is multiplied by the number of roundings that may be equal to it.
        let of_entries = |log: fn(&EntryRoundings) -> f32, format| {
            tied(&self.entries.iter().map(log).collect::<Vec<_>>(), format)
        };
        let of_ds = of_entries(|e| e.log_ds, recipe.ds);
        let of_p = of_entries(|e| e.log_p, recipe.p);
        let of_rows = tied(lses, recipe.o);
        let in_ds = context.roundoff.is_narrow(recipe.p_in_ds);
        let in_one_sum = context.values_in_keys() && context.roundoff.is_narrow(recipe.p);
        let [for_p, for_dv, for_delta] = dependent_factors(in_ds, in_one_sum);
        self.for_dv = for_dv;
        let root = |tied: u32| libm::sqrt(f64::from(tied) * UNIFORM) as f32;
        for ((e, of_ds), of_p) in self.entries.iter_mut().zip(of_ds).zip(of_p) {
            let (of_ds, of_p) = (root(of_ds), root(of_p));
            e.ds = e.ds.map(|ds| ds * of_ds);
            (e.p, e.p_in_ds) = (e.p * of_p, e.p_in_ds * of_p);
            e.bias = [e.bias[0] * of_ds, e.bias[1] * of_p, e.bias[2]];
            e.total_ds = f32::hypot(e.ds[0].max(e.ds[1]), e.p_in_ds * libm::sqrt(for_p) as f32);
        }
        for (delta, of_row) in self.delta.iter_mut().zip(of_rows) {
            *delta = delta.map(|delta| delta * libm::sqrt(UNIFORM * f64::from(of_row)));
        }
        let both = |[p, o]: &[f64; 2]| libm::hypot(*p * libm::sqrt(for_delta), *o);
        self.inflated_delta = self.delta.iter().map(both).collect();
    }

    /// Nothing yet, for each element of `dq`, `dk` and `dv`.
    fn zeros(&self, context: &BoundContext<'_>) -> [Vec<f64>; 3] {
        let (keys, [of_dq, of_dk, of_dv]) = (context.input.problem.sizes().keys, context.widths());
        [self.delta.len() * of_dq, keys * of_dk, keys * of_dv].map(|length| vec![0.0; length])
    }

    /// The part of the known roundings in the elements of `dq`, `dk`, `dv`: "Known" in `docs/verdict.md`.
    pub(super) fn known(&self, context: &BoundContext<'_>) -> [Vec<f64>; 3] {
        let p = context.input.problem;
        let mut all = self.zeros(context);
        let of_values = context.of_values();
        for entries in self.by_row() {
            let (at, row) = self.row(context, entries);
            let g = context.g_of_values(row);
            for e in entries.iter().filter(|e| e.known != 0.0 || e.known_ds != 0.0) {
                let j = e.j as usize;
                add(&mut all[0], at, e.known_ds.into(), p.k(row, j));
                add(&mut all[1], j, e.known_ds.into(), p.q(row));
                add(&mut all[of_values], j, e.known.into(), &g);
            }
        }
        all
    }

    /// Bounds of what the error of the factor of dropout adds to the elements of `dq`, `dk`, `dv`: in the bounds it stands in the shares of
    /// `P` and of the stored `o`, which this model follows otherwise. `None` without dropout.
    pub(super) fn of_dropout(&self, context: &BoundContext<'_>) -> Option<[Vec<f64>; 3]> {
        let p = context.input.problem;
        p.options().dropout.as_ref()?;
        let mut all = self.zeros(context);
        let of_values = context.of_values();
        let add = |sums: &mut [f64], row: usize, by: f64, x: &[f64]| {
            let sums = &mut sums[row * x.len()..][..x.len()];
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += by * x.abs());
        };
        for entries in self.by_row() {
            let (at, row) = self.row(context, entries);
            let g = context.g_of_values(row);
            let mut shared = vec![0.0; p.sizes().features];
            for e in entries {
                let j = e.j as usize;
                let of_delta = f64::from(e.by_weight) * self.delta_of_dropout[at];
                shared.iter_mut().zip(p.k(row, j)).for_each(|(sum, k)| *sum += of_delta * k);
                add(&mut all[1], j, of_delta.abs(), p.q(row));
                add(&mut all[of_values], j, e.of_dropout.into(), &g);
            }
            add(&mut all[0], at, 1.0, &shared);
        }
        Some(all)
    }

    /// Squared parameters of the elements of `dq`, `dk`, `dv`.
    pub(super) fn elements(&self, context: &BoundContext<'_>) -> [Vec<f64>; 3] {
        let p = context.input.problem;
        let mut all = self.zeros(context);
        let of_values = context.of_values();
        let add = |sums: &mut [f64], row: usize, square: f64, x: &[f64]| {
            add_squares(square, x, &mut sums[row * x.len()..][..x.len()]);
        };
        for entries in self.by_row() {
            let (at, row) = self.row(context, entries);
            let mut shared = vec![0.0; p.sizes().features];
            let g = context.g_of_values(row);
            for e in entries {
                let (j, k, q) = (e.j as usize, p.k(row, e.j as usize), p.q(row));
                // An error of delta is one variable for the row: its factors in an element of dq add up before the square.
                let delta = f64::from(e.by_weight) * self.inflated_delta[at];
                add_products(&[delta], &[k], &mut shared);
                // sum_j a_j^2 k_jd^2 of independent roundings, and so for dk and dv.
                add(&mut all[0], at, square(e.total_ds), k);
                add(&mut all[1], j, square(e.total_ds) + delta * delta, q);
                add(&mut all[of_values], j, square(e.p_in_dv()) * self.for_dv, &g);
            }
            add(&mut all[0], at, 1.0, &shared);
        }
        all
    }

    /// The entries of one row after the other.
    pub(super) fn by_row(&self) -> impl Iterator<Item = &[EntryRoundings]> {
        self.entries.chunk_by(|a, b| a.at == b.at)
    }

    pub(super) fn row(
        &self,
        context: &BoundContext<'_>,
        entries: &[EntryRoundings],
    ) -> (usize, Row) {
        let (at, queries) = (entries[0].at as usize, context.input.problem.sizes().queries);
        let h = self.key_head * context.input.problem.group() + at / queries;
        (at, Row { b: self.b, h, i: at % queries })
    }
}

/// Adds `value x` to one row.
pub(super) fn add(sums: &mut [f64], row: usize, value: f64, x: &[f64]) {
    let sums = &mut sums[row * x.len()..][..x.len()];
    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += value * x);
}

/// The factors of the squares of `a`, from the `P` in `dS`, `b`, from the `P` in the product with `G`, and `c`, from the `P` of the
/// forward pass in `delta`, in a bound of the square of their sum: they are one rounding in some kernels. `b` is in a sum with the others
/// only where the values are in the keys.
///
/// Cauchy and Schwarz: `(a + b + c)^2 <= a^2 / x + b^2 / y + c^2 / z` for positive `x + y + z = 1`. With `z = 1/4` most of the room is
/// given to `c`, the smaller part: it is a sum over the row, times a weight. `a` and `b` share the rest.
pub(super) fn dependent_factors(in_ds: bool, in_one_sum: bool) -> [f64; 3] {
    match (in_ds, in_one_sum) {
        (false, false) => [1.0, 1.0, 1.0],
        (true, false) => [4.0 / 3.0, 1.0, 4.0],
        (false, true) => [1.0, 4.0 / 3.0, 4.0],
        (true, true) => [8.0 / 3.0, 8.0 / 3.0, 4.0],
    }
}

pub(super) fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}

/// What the error of the factor of dropout adds to `delta`, as in section 4.8 of `docs/bounds.md`; 0 without dropout.
fn of_dropout_in_delta(context: &BoundContext<'_>, row: Row) -> f64 {
    let (a, p) = (&context.roundoff, context.input.problem);
    if p.options().dropout.is_none() || context.input.mode != Mode::Exact {
        return 0.0;
    }
    // All visible entries, those too that a mask of SUS leaves out.
    let errors = context.row_errors(row, Mode::Exact);
    let divisor = (1.0 - errors.weight_error).max(0.0);
    let amplify = if divisor > 0.0 { 1.0 / divisor } else { f64::INFINITY };
    let of = |e: &EntryError| (a.of_dropout(p) * e.w + a.stored_again(p, e.w)) * e.dp.abs();
    errors.entries.iter().map(of).sum::<f64>() * amplify
}

/// The rounding errors of `dZ`, its own and that of the `P` in it, and of `P`, at the sizes that they may have.
fn entry(
    context: &BoundContext<'_>,
    row: Row,
    at: u32,
    errors: &RowErrors,
    e: &EntryError,
) -> Option<EntryRoundings> {
    let (a, p, recipe) = (&context.roundoff, context.input.problem, context.input.recipe);
    let kept = context.kept(errors, e, p.row_number(row))?;
    // dZ = W (dP - delta + dlse) slope; its rounding is at the size that it may have with all errors before.
    let t = e.dp - errors.delta + p.dlse(row);
    let dz = kept.w * t * e.slope;
    let relative = libm::expm1(e.log.worst_case + e.log_stored + errors.lse_error.worst_case);
    let of_t =
        errors.delta_error.worst_case + errors.delta_stored + e.dp_sum.worst_case + e.dp_stored;
    let (w, most) = (kept.w * (1.0 + relative), t.abs() + of_t);
    let slope = e.slope.abs() + e.slope_error;
    let of_bias = e.bias_slope + e.bias_slope_error;
    let of_elementwise = a.elementwise(w * most) * slope;
    // The scale comes before the rounding, or after it: half a spacing in units of the scale.
    let rounded = |unit: f64| unit * a.narrow(recipe.ds, w * most * slope / unit);
    let ds = if a.is_narrow(recipe.elementwise) {
        [libm::hypot(context.dz_rounding(w * most * slope), of_elementwise) as f32; 2]
    } else {
        [rounded(1.0) as f32, rounded(p.scale().abs().max(f64::MIN_POSITIVE)) as f32]
    };
    // A kernel normalises a weight before it rounds it for dv and dS. 2 u: the two roundings of 1 / lambda once more.
    let relative = if kept.varies == 0.0 { kept.constant + 2.0 * a.u } else { relative };
    // "Known": a floored SUS weight is 1 / lambda, the same number in all kernels.
    let known = |format: Format| {
        let known = a.is_narrow(format).then(|| known_error(format, kept.w, relative))??;
        (kept.varies == 0.0).then_some(known)
    };
    let of_p = |format: Format| match known(format) {
        Some(_) => 0.0,
        None => a.narrow(format, w),
    };
    // "Dropout": P Z may be rounded in place of P, at its own size; then nothing is known of it.
    let dropped = p.options().dropout.is_some();
    let of_weight = if dropped { a.narrow(recipe.p, w) } else { of_p(recipe.p) };
    let of_product = e.dropout * of_weight;
    let larger = if of_product > 0.0 {
        (a.narrow(recipe.p, w * e.dropout) / of_product).max(1.0)
    } else {
        1.0
    };
    Some(EntryRoundings {
        at,
        j: e.j as u32,
        ds,
        p: of_weight as f32,
        of_dropout: ((a.of_dropout(p) * w + a.stored_again(p, w)) * e.dropout) as f32,
        dropout: [e.dropout as f32, larger as f32],
        p_in_ds: (of_p(recipe.p_in_ds) * libm::copysign(most * slope, t * e.slope)) as f32,
        total_ds: 0.0,
        by_weight: (kept.w * e.slope) as f32,
        known: known(recipe.p).filter(|_| !dropped).unwrap_or(0.0) as f32,
        known_ds: (known(recipe.p_in_ds).unwrap_or(0.0) * t * e.slope) as f32,
        dp: e.dp as f32,
        bias: [
            a.narrow(recipe.ds, w * most * of_bias),
            of_p(recipe.p_in_ds) * most * of_bias,
            kept.w * e.bias_slope,
        ]
        .map(|x| x as f32),
        log_ds: libm::log(dz.abs().max(f64::MIN_POSITIVE)) as f32,
        log_p: libm::log(kept.w.max(f64::MIN_POSITIVE)) as f32,
    })
}

/// The error of rounding a number that is known to this relative error, if all numbers within it round to one.
fn known_error(format: Format, x: f64, relative: f64) -> Option<f64> {
    let (least, most) = (format.round(x * (1.0 - relative)), format.round(x * (1.0 + relative)));
    // tf32 operands are truncated, and small numbers may be flushed to zero: the bounds count both.
    let plain = format != Format::Tf32 && x >= format.smallest_normal();
    (plain && least == most).then_some(least - x)
}

#[cfg(test)]
mod tests {
    use super::super::input::BoundsInput;
    use super::super::recipe::Recipe;
    use super::super::truth::Truth;
    use super::*;
    use proptest::prelude::*;
    use sus_reference::forward::score;
    use sus_reference::problem::{Inputs, Options, Problem};
    use sus_reference::tensor::{Tensor, dot};

    proptest! {
        /// The inequality holds for all sizes, with equality where each number is the inverse of its factor: no smaller factors hold.
        #[test]
        fn the_factors_of_dependent_squares_bound_every_sum(
            all in [-8.0..8.0_f64, -8.0..8.0_f64, -8.0..8.0_f64], in_ds in any::<bool>(), in_one_sum in any::<bool>(),
        ) {
            let factors = dependent_factors(in_ds, in_one_sum);
            // What is in a sum with others.
            let is_shared = [in_ds, in_one_sum, in_ds || in_one_sum];
            let of = |x: [f64; 3]| {
                let shared = [0, 1, 2].map(|at| if is_shared[at] { x[at] } else { 0.0 });
                let sum: f64 = shared.iter().sum();
                let squares: f64 = [0, 1, 2].map(|at| factors[at] * shared[at] * shared[at]).iter().sum();
                (sum * sum, squares)
            };
            let (sum, squares) = of(all);
            // Nine operations on numbers below 2^11.
            prop_assert!(sum <= squares + 2048.0 * 9.0 * f64::EPSILON);
            let (sum, squares) = of(factors.map(|factor| 1.0 / factor));
            prop_assert!((sum - squares).abs() <= 16.0 * f64::EPSILON);
        }
    }

    /// One row whose `P` in `dS` and in `delta` is one rounding, and whose two parts in `dq` have one sign: the keys that carry
    /// `dP` have `k = -1`, and all other weight has `k = 1`.
    ///
    /// The exact squared parameter of `dq` sums the squares of both parts of each rounding together; the model must not be
    /// below it, and is above it only by what Young's inequality gives away at this ratio of the parts.
    #[test]
    fn the_parameter_of_dq_covers_a_rounding_that_is_in_ds_and_in_delta() {
        let column = |x: &[f64]| Tensor::from_fn([1, 1, x.len(), 1], |[.., n, _]| x[n]);
        // Weights just above a power of two: half their spacing is their roundoff. They differ, so that none are tied.
        let light = [0.063, 0.0645];
        let weights = [1.0 - light[0] - light[1], light[0], light[1]];
        let bias = Tensor::from_fn([1, 1, 1, 3], |[.., j]| libm::log(weights[j]));
        // dP = v, and delta = sum W dP = 0.
        let v = [0.0, 1.0, -light[0] / light[1]];
        let inputs =
            Inputs::new(column(&[0.0]), column(&[1.0, -1.0, -1.0]), column(&v), column(&[1.0]));
        let p = Problem::new(inputs.with_bias(Some(bias)), Options::default()).unwrap();
        let truth = Truth::exact(&p).unwrap();
        let (saved, gradients) = (truth.saved(), truth.gradients(None));
        let recipe = Recipe::built_in("flash-bf16").unwrap();
        let input = BoundsInput::dense(&p, &recipe, Mode::Exact, &saved, &gradients);
        let context = BoundContext::new(&input);
        let (rows, _) = context.each_row(|_, _| ());
        let model = RoundingModel::new(&context, &rows, 0, 0);
        let k = |e: &EntryRoundings| p.k(p.row(0), e.j as usize)[0];
        let across: f64 = model.entries.iter().map(|e| f64::from(e.by_weight) * k(e)).sum();
        let of_entry = |e: &EntryRoundings| {
            let in_ds = f64::from(e.p_in_ds) * k(e);
            let in_delta = -f64::from(e.p) * f64::from(e.dp) * across;
            let ds = f64::from(e.ds[0].max(e.ds[1])) * k(e);
            [ds * ds, in_ds, in_delta]
        };
        let parts: Vec<[f64; 3]> = model.entries.iter().map(of_entry).collect();
        let stored_o = model.delta[0][1] * across;
        let exact: f64 = parts.iter().map(|[ds, a, b]| ds + (a + b) * (a + b)).sum::<f64>()
            + stored_o * stored_o;
        let apart: f64 =
            parts.iter().map(|[ds, a, b]| ds + a * a + b * b).sum::<f64>() + stored_o * stored_o;
        let [dq, ..] = model.elements(&context);
        // If the two were counted as independent, the model would be far below.
        assert!(apart < 0.75 * exact, "{apart} {exact}");
        assert!(dq[0] >= exact, "{} {exact}", dq[0]);
        // Young at b = 0.75 a: (4/3 + 4 0.75^2) / 1.75^2 = 1.17. delta counts a roundoff of W, up to 1.032 half spacings.
        assert!(dq[0] <= 1.2 * exact, "{} {exact}", dq[0]);
    }

    /// The rows that a model is made of have no entries; the error of dropout's factor in `delta` is a sum over them.
    #[test]
    fn the_factor_of_dropout_errs_in_every_delta_that_is_not_given() {
        let p = sus_corpus::named("dropout").unwrap().problem;
        let truth = Truth::exact(&p).unwrap();
        let (saved, gradients) = (truth.saved(), truth.gradients(None));
        let recipe = Recipe::built_in("f32").unwrap();
        for mode in [Mode::Exact, Mode::Given] {
            let input = BoundsInput::dense(&p, &recipe, mode, &saved, &gradients);
            let context = BoundContext::new(&input);
            let (rows, _) = context.each_row(|_, _| ());
            let model = RoundingModel::new(&context, &rows, 0, 0);
            let (s, group) = (p.sizes(), p.group());
            assert_eq!(model.delta_of_dropout.len(), group * s.queries);
            for (at, &found) in model.delta_of_dropout.iter().enumerate() {
                let row = Row { b: 0, h: at / s.queries, i: at % s.queries };
                // u sum_j W_ij Z_ij |dP_ij|, by the weights of the forward pass.
                let weight = |j: usize| libm::exp(score(&p, row, j).s - saved.lse.as_slice()[at]);
                let visible = p.span(row).filter(|&j| !p.hides(row, j));
                let of = |j: usize| {
                    let dp = p.dropout(row, j).unwrap() * dot(p.g(row), p.v(row, j));
                    weight(j) * dp.abs()
                };
                let least = visible.map(of).sum::<f64>() * context.roundoff.of_dropout(&p);
                if mode == Mode::Given {
                    assert_eq!(found, 0.0);
                } else {
                    // The weights themselves err by less than a thousandth in f32.
                    assert!(found >= least * (1.0 - 1e-6) && least > 0.0, "{found} {least}");
                    assert!(found <= least * 1.001, "{found} {least}");
                }
            }
        }
    }
}
