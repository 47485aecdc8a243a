//! The bound of every element of every result.

use super::entry::{Arithmetic, Term, is_power_of_two};
use super::format::Format;
use super::recipe::{Gqa, Recipe};
use super::row::{EntryError, Mode, RowErrors, row_errors};
use super::stage::Stage;
use super::sums::{Element, Sums, Tail, Terms};
use crate::backward::Gradients;
use crate::forward::Saved;
use crate::problem::{Problem, Row, bias_row};
use crate::sus::Sample;
use rayon::prelude::*;

/// The bounds of one tensor, in the order of its elements.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    /// The bound that decides: by stage the smaller of the worst case and of what independent roundings exceed with
    /// the stated probability.
    pub decides: Vec<f64>,
    /// The worst case.
    pub worst: Vec<f64>,
    /// The bound that decides, by stage.
    pub stages: Vec<[f32; Stage::COUNT]>,
}

/// The bounds of all results of a problem.
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
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
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
    pub borderline: Option<&'a [Vec<u32>]>,
    /// The truth of the gradients.
    pub gradients: &'a Gradients<f64>,
}

/// The share of the false-alarm budget that the elementwise bounds of one problem may spend.
pub const ELEMENTWISE_FALSE_ALARM: f64 = 2.5e-10;

/// Bounds of every element. The result does not depend on the number of threads.
#[must_use]
pub fn bounds(question: &Question<'_>) -> Bounds {
    let core = Core::new(question);
    let lambda = core.lambda;
    let (o, lse) = core.forward();
    let (dq, dk, dv) = core.heads();
    Bounds { o, lse, dq, dk, dv, dbias: core.dbias(), dsink: core.dsink(), lambda }
}

/// The weights `W~` of a mask and their bounds, in the order of its columns.
#[must_use]
pub fn kept_weights(question: &Question<'_>) -> Vec<(f64, f64)> {
    let core = Core::new(question);
    let p = question.problem;
    let rows: Vec<Vec<(f64, f64)>> = (0..p.row_count())
        .into_par_iter()
        .map(|at| {
            let errors = core.row_errors(p.row(at), question.mode);
            let entries = errors.entries.iter();
            entries.filter_map(|e| core.kept_weight(&errors, e, at)).collect()
        })
        .collect();
    rows.concat()
}

/// Hoeffding's factor: a sub-Gaussian variable of parameter `tau` exceeds `lambda tau` in magnitude with probability at
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
    fn from_elements(elements: impl IntoIterator<Item = Element>) -> Self {
        let mut bound = Bound::default();
        for element in elements {
            bound.decides.push(element.decides);
            bound.worst.push(element.worst);
            bound.stages.push(element.stages);
        }
        bound
    }
}

/// What a kernel uses for a weight, and what that depends on.
pub(super) struct Kept {
    /// `W~`.
    pub(super) w: f64,
    /// `W~` if it varies with `W`, 0 where it is `1 / lambda`.
    pub(super) varies: f64,
    /// Relative error of `1 / lambda`.
    pub(super) constant: f64,
}

/// The operands that all bounds share.
pub(super) struct Core<'a> {
    pub(super) q: &'a Question<'a>,
    pub(super) a: Arithmetic<'a>,
    pub(super) lambda: f64,
}

impl<'a> Core<'a> {
    pub(super) fn new(q: &'a Question<'a>) -> Self {
        Core { q, a: Arithmetic::new(q.recipe), lambda: lambda(q.problem) }
    }

    pub(super) fn row_errors(&self, row: Row, mode: Mode) -> RowErrors {
        row_errors(self.q.problem, self.q.saved, self.q.recipe, mode, row)
    }

    fn tail(&self, rho: f64, multiplicity: f64) -> Tail {
        Tail { lambda: self.lambda, rho, multiplicity }
    }

    /// Sections "o" and "lse".
    fn forward(&self) -> (Bound, Bound) {
        let p = self.q.problem;
        let rows: Vec<(Vec<Element>, Element)> = (0..p.row_count())
            .into_par_iter()
            .map(|at| {
                let row = p.row(at);
                let errors = self.row_errors(row, Mode::Exact);
                (self.o_row(row, &errors), self.lse_row(&errors))
            })
            .collect();
        let lse = Bound::from_elements(rows.iter().map(|row| row.1));
        (Bound::from_elements(rows.into_iter().flat_map(|row| row.0)), lse)
    }

    fn o_row(&self, row: Row, errors: &RowErrors) -> Vec<Element> {
        let (p, a, recipe) = (self.q.problem, &self.a, self.q.recipe);
        let o = self.q.saved.o.row(row.b, row.h, row.i);
        let mut sums = Sums::new(o.len());
        let divisor = 1.0 - errors.weight_error;
        let amplify = if divisor > 0.0 { 1.0 / divisor } else { f64::INFINITY };
        let mut away = vec![0.0; o.len()];
        for e in &errors.entries {
            let v = p.v(row, e.j);
            let mut terms = Terms::default();
            terms[Stage::P as usize] = Term::certain(a.narrow_scaled(recipe.p, e.w) * amplify);
            sums.add(e.w, &terms, v);
            let log = e.log.plus(errors.rescale);
            let relative = Term { worst: libm::expm1(log.worst + e.log_stored) * amplify, ..log };
            let mut terms = Terms::default();
            terms[Stage::Score as usize] = relative.times(e.w);
            terms[Stage::Score as usize].worst -= e.w * e.log_stored;
            terms[Stage::ScoreStore as usize] = Term::certain(e.w * e.log_stored);
            away.iter_mut().zip(v.iter().zip(o)).for_each(|(x, (v, o))| *x = v - o);
            sums.add_errors(&terms, &away);
        }
        if let Some((w, log)) = errors.sink {
            let mut terms = Terms::default();
            terms[Stage::Score as usize] = log.plus(errors.rescale).times(w * amplify);
            sums.add_errors(&terms, o);
        }
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        let more = errors.forward_roundings - errors.entries.len();
        (0..o.len())
            .map(|d| {
                let mut element = sums.element(d, a, tail, more);
                // The denominator's sum, and the division.
                let of_sum = Term {
                    worst: a.gamma(errors.forward_roundings) * amplify,
                    tau: a.u * libm::sqrt(errors.forward_roundings as f64),
                    certain: 0.0,
                };
                let of_sum = of_sum.times(o[d].abs());
                element.add(Stage::Sum as usize, of_sum.worst, self.decides(of_sum));
                element.store(o[d], |x| recipe.o.rounding_error(x, recipe.flush_to_zero));
                element
            })
            .collect()
    }

    fn decides(&self, term: Term) -> f64 {
        term.decides(self.lambda)
    }

    fn lse_row(&self, errors: &RowErrors) -> Element {
        let recipe = self.q.recipe;
        let mut element = Element { worst: 0.0, decides: 0.0, stages: [0.0; Stage::COUNT] };
        if errors.lse == f64::NEG_INFINITY {
            return element;
        }
        element.add(Stage::Lse as usize, errors.lse_error.worst, self.decides(errors.lse_error));
        element.store(errors.lse, |x| recipe.lse.rounding_error(x, recipe.flush_to_zero));
        element
    }

    /// The weight in force of one entry, if it is kept.
    pub(super) fn kept(&self, errors: &RowErrors, e: &EntryError, number: usize) -> Option<Kept> {
        let Some(sample) = self.q.sample else {
            return Some(Kept { w: e.w, varies: e.w, constant: 0.0 });
        };
        sample.pattern.row(number).binary_search(&(e.j as u32)).ok()?;
        Some(self.sampled(errors, e, sample.lambda[number]))
    }

    /// Section "SUS": `max(W, 1 / lambda)`.
    fn sampled(&self, errors: &RowErrors, e: &EntryError, lambda: f64) -> Kept {
        let least = 1.0 / lambda;
        let log = e.log.worst + e.log_stored + errors.lse_error.worst;
        let w = e.w.max(least);
        let varies = e.w * libm::exp(log) >= least * (1.0 - 8.0 * self.a.u);
        // The calibrated lambda is a ratio whose error is that of the row's weights.
        let of_lambda = if lambda.is_finite() { errors.largest_log() } else { 0.0 };
        let of_lambda = if self.q.is_calibrated() { of_lambda } else { 0.0 };
        Kept { w, varies: if varies { w } else { 0.0 }, constant: 2.0 * self.a.u + of_lambda }
    }

    /// A kept weight and its bound. However it is stored, `f32` or better, its rounding is that of the accumulator; or it
    /// is stored as `P` is.
    fn kept_weight(&self, errors: &RowErrors, e: &EntryError, number: usize) -> Option<(f64, f64)> {
        let kept = self.kept(errors, e, number)?;
        let (terms, lse, r) = self.weight_terms(errors, e, &kept);
        let of_weight: f64 = terms.iter().map(|term| term.worst).sum::<f64>() + lse.worst;
        let size = kept.w * (1.0 + r);
        let stored = self.a.narrow_scaled(self.q.recipe.p, size) + 4.0 * self.a.u * size;
        Some((kept.w, of_weight + stored))
    }

    /// Section "W": the errors of a weight by stage; that of `lse` apart.
    fn weight_terms(&self, errors: &RowErrors, e: &EntryError, kept: &Kept) -> (Terms, Term, f64) {
        let lse = errors.lse_error;
        let log = e.log.worst + e.log_stored + lse.worst;
        let r = libm::expm1(log);
        let mut terms = Terms::default();
        let score = Term { worst: r - lse.worst - e.log_stored, ..e.log };
        let constant =
            if kept.w > kept.varies || self.q.sample.is_some() { kept.constant } else { 0.0 };
        terms[Stage::Score as usize] =
            score.times(kept.varies).plus(Term::certain(constant * kept.w));
        terms[Stage::ScoreStore as usize] = Term::certain(kept.varies * e.log_stored);
        (terms, lse.times(kept.varies), r)
    }

    /// Section "dS": the value and the errors of `dS` but for what `lse` and `delta` share over the row.
    fn ds_terms(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        kept: &Kept,
    ) -> (f64, Terms, f64) {
        let a = &self.a;
        let dlse = self.q.problem.dlse(row);
        let t = e.dp - errors.delta + dlse;
        let (mut terms, _, r) = self.weight_terms(errors, e, kept);
        for term in &mut terms {
            *term = term.times(t);
        }
        let w = kept.w;
        terms[Stage::P as usize] =
            Term::certain(t.abs() * a.narrow_scaled(self.q.recipe.p_in_ds, w * (1.0 + r)));
        let mut dp = e.dp_sum.times(w).plus(Term::certain(w * e.dp_stored));
        dp.worst = dp.worst * (1.0 + r) + w * r * (errors.delta_error.worst + errors.delta_stored);
        let size = e.dp.abs() + errors.delta.abs() + dlse.abs();
        let ds = w * t;
        let before = terms.iter().map(|term| term.worst).sum::<f64>() + dp.worst;
        // Two subtractions and two products.
        let difference = Term::rounding(a.u * (3.0 * w * size + 2.0 * ds.abs()));
        terms[Stage::Dp as usize] = dp.beside(difference);
        terms[Stage::Ds as usize] = Term::certain(a.elementwise(ds.abs() + before));
        (ds, terms, r)
    }

    /// Section "dZ": `dS` times the slope, rounded for the products.
    fn dz_terms(
        &self,
        errors: &RowErrors,
        e: &EntryError,
        kept: &Kept,
        ds: f64,
        mut terms: Terms,
    ) -> (f64, Terms) {
        let dz = ds * e.slope;
        let before: f64 = terms.iter().map(|term| term.worst).sum();
        for term in &mut terms {
            *term = term.times(e.slope);
        }
        let shared = kept.w * (errors.delta_error.worst + errors.delta_stored) * e.slope.abs();
        let rounded = dz.abs() + before * e.slope.abs() + shared;
        let slope = e.slope_error * (ds.abs() + before);
        let slope = if self.q.problem.options().softcap.is_some() { slope } else { 0.0 };
        let stored = self.dz_rounding(rounded);
        terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::certain(slope + stored));
        (dz, terms)
    }

    /// The roundings of `dZ` of this magnitude for the products, and between elementwise steps.
    pub(super) fn dz_rounding(&self, rounded: f64) -> f64 {
        let (a, recipe) = (&self.a, self.q.recipe);
        // Underflow happens before or after the scale.
        let flush = recipe.flush_to_zero;
        let unscaled = 1.0_f64.max(self.q.problem.scale().abs());
        let narrow = |format: Format| {
            if !a.is_narrow(format) {
                return 0.0;
            }
            (format.unit_roundoff() * rounded).max(format.underflow_error(flush) * unscaled)
        };
        // Where dS is stored between steps: by the scale unless it is a power of two, twice by the softcap. The
        // products then read what is stored already.
        let capped = self.q.problem.options().softcap.is_some();
        let steps = f64::from(u8::from(!is_power_of_two(self.q.problem.scale().abs())))
            + 2.0 * f64::from(u8::from(capped));
        if a.is_narrow(recipe.elementwise) {
            steps * narrow(recipe.elementwise) + recipe.elementwise.underflow_error(flush)
        } else {
            narrow(recipe.ds)
        }
    }

    /// `dq, dk, dv`: one task for each key head.
    fn heads(&self) -> (Bound, Bound, Bound) {
        let p = self.q.problem;
        let sizes = p.sizes();
        let heads: Vec<_> = (0..sizes.batch * sizes.key_heads)
            .into_par_iter()
            .map(|at| self.head(at / sizes.key_heads, at % sizes.key_heads))
            .collect();
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for head in heads {
            for (all, elements) in all.iter_mut().zip(head) {
                all.extend(elements);
            }
        }
        let [dq, dk, dv] = all;
        (Bound::from_elements(dq), Bound::from_elements(dk), Bound::from_elements(dv))
    }

    /// Sections "dq", "dk" and "dv" of one key head.
    fn head(&self, b: usize, key_head: usize) -> [Vec<Element>; 3] {
        let (p, a, recipe) = (self.q.problem, &self.a, self.q.recipe);
        let (sizes, group) = (p.sizes(), p.group());
        let mut dk = vec![Sums::new(sizes.features); sizes.keys];
        let mut dv = vec![Sums::new(sizes.value_features); sizes.keys];
        let mut dq = Vec::new();
        let (mut rho, mut lses) = (0.0_f64, Vec::new());
        for h in key_head * group..(key_head + 1) * group {
            for i in 0..sizes.queries {
                let row = Row { b, h, i };
                let errors = self.row_errors(row, self.q.mode);
                let second = libm::expm1(errors.largest_log());
                rho = rho.max(second);
                lses.push(errors.lse);
                dq.extend(self.row(row, &errors, second, &mut dk, &mut dv));
            }
            for sums in dk.iter_mut().chain(&mut dv) {
                sums.end_head(a);
            }
        }
        let tail = self.tail(rho, equal_rows(lses, a.u));
        let truth =
            |tensor: &crate::tensor::Tensor<f64>, j: usize, d: usize| tensor.row(b, key_head, j)[d];
        let finish = |all: &[Sums], tensor: &crate::tensor::Tensor<f64>| {
            let mut elements = Vec::new();
            for (j, sums) in all.iter().enumerate() {
                for d in 0..tensor.shape()[3] {
                    let mut element = sums.element(d, a, tail, 6);
                    if recipe.gqa == Gqa::Repeated && group > 1 {
                        let more = sums.repeated(d, a, group);
                        element.add(Stage::Store as usize, more, more);
                    }
                    self.store_gradient(&mut element, truth(tensor, j, d));
                    elements.push(element);
                }
            }
            elements
        };
        [dq, finish(&dk, &self.q.gradients.dk), finish(&dv, &self.q.gradients.dv)]
    }

    /// The rounding of a result; the scale's own rounding is shared by all its terms.
    fn store_gradient(&self, element: &mut Element, truth: f64) {
        let recipe = self.q.recipe;
        let scale = 2.0 * self.a.u * truth.abs();
        element.add(Stage::Sum as usize, scale, scale);
        element.store(truth, |x| recipe.output.rounding_error(x, recipe.flush_to_zero));
        if truth.abs() + element.worst >= recipe.output.overflow() {
            (element.worst, element.decides) = (f64::INFINITY, f64::INFINITY);
        }
    }

    /// One row: its `dq`, and its share of `dk` and `dv`.
    fn row(
        &self,
        row: Row,
        errors: &RowErrors,
        rho: f64,
        dk: &mut [Sums],
        dv: &mut [Sums],
    ) -> Vec<Element> {
        let (p, a, recipe) = (self.q.problem, &self.a, self.q.recipe);
        let number = p.row_number(row);
        let mut dq = Sums::new(p.sizes().features);
        for e in &errors.entries {
            self.borderline(row, errors, e, [&mut dq, &mut dk[e.j], &mut dv[e.j]]);
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
            let (dz, terms) = self.dz_terms(errors, e, &kept, ds, terms);
            let t = e.dp - errors.delta + p.dlse(row);
            let k = p.k(row, e.j);
            dq.add(dz, &terms, k);
            dq.share([kept.varies * t * e.slope, kept.w * e.slope], k);
            let mut alone = terms;
            self.add_row_terms(errors, &kept, t, e.slope, &mut alone);
            dk[e.j].add(dz, &alone, p.q(row));
            let (mut terms, lse, _) = self.weight_terms(errors, e, &kept);
            terms[Stage::Lse as usize] = lse;
            terms[Stage::P as usize] = Term::certain(a.narrow_scaled(recipe.p, kept.w * (1.0 + r)));
            dv[e.j].add(kept.w, &terms, p.g(row));
        }
        let stored = Term::certain(errors.delta_stored);
        dq.settle([
            (Stage::Lse, errors.lse_error, 0),
            (Stage::Delta, errors.delta_error, 1),
            (Stage::StoredO, stored, 1),
        ]);
        let tail = self.tail(rho, errors.multiplicity);
        let truth = self.q.gradients.dq.row(row.b, row.h, row.i);
        let finish = |(d, &truth): (usize, &f64)| {
            let mut element = dq.element(d, a, tail, 6);
            self.store_gradient(&mut element, truth);
            element
        };
        truth.iter().enumerate().map(finish).collect()
    }

    /// The errors of `lse` and `delta` in one entry.
    fn add_row_terms(
        &self,
        errors: &RowErrors,
        kept: &Kept,
        t: f64,
        slope: f64,
        terms: &mut Terms,
    ) {
        let by_weight = kept.w * slope;
        terms[Stage::Lse as usize] = errors.lse_error.times(kept.varies * t * slope);
        terms[Stage::Delta as usize] = errors.delta_error.times(by_weight);
        terms[Stage::StoredO as usize] = Term::certain(errors.delta_stored).times(by_weight);
    }

    /// An entry that a kernel may keep or drop adds itself to the bounds of its row and its key.
    fn borderline(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        [dq, dk, dv]: [&mut Sums; 3],
    ) {
        let p = self.q.problem;
        let number = p.row_number(row);
        let (Some(all), Some(sample)) = (self.q.borderline, self.q.sample) else { return };
        if all[number].binary_search(&(e.j as u32)).is_err() {
            return;
        }
        let kept = self.sampled(errors, e, sample.lambda[number]);
        let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
        let spread = ds.abs() + terms.iter().map(|term| term.worst).sum::<f64>();
        let mut mask = Terms::default();
        mask[Stage::Mask as usize] = Term::certain(spread * (e.slope.abs() + e.slope_error));
        dq.add_errors(&mask, p.k(row, e.j));
        dk.add_errors(&mask, p.q(row));
        mask[Stage::Mask as usize] = Term::certain(kept.w * (1.0 + r));
        dv.add_errors(&mask, p.g(row));
    }

    /// Section "dbias".
    fn dbias(&self) -> Option<Bound> {
        let p = self.q.problem;
        let truth = self.q.gradients.dbias.as_ref()?;
        let [batch, heads, queries, keys] = truth.shape();
        let rows: Vec<Row> = (0..p.row_count()).map(|at| p.row(at)).collect();
        let bias_rows: Vec<Row> = (0..batch * heads * queries)
            .map(|at| Row { b: at / queries / heads, h: at / queries % heads, i: at % queries })
            .collect();
        let elements: Vec<Vec<Element>> = bias_rows
            .into_par_iter()
            .map(|mine| {
                let mut sums = vec![Sums::new(1); keys];
                let (mut rho, mut lses) = (0.0_f64, Vec::new());
                for &row in rows.iter().filter(|&&row| bias_row(truth.shape(), row) == mine) {
                    let errors = self.row_errors(row, self.q.mode);
                    rho = rho.max(libm::expm1(errors.largest_log()));
                    lses.push(errors.lse);
                    self.bias_row(row, &errors, &mut sums);
                }
                let tail = self.tail(rho, equal_rows(lses, self.a.u));
                let truth = truth.row(mine.b, mine.h, mine.i);
                let finish = |(sums, &truth): (&Sums, &f64)| {
                    let mut element = sums.element(0, &self.a, tail, 6);
                    self.store_gradient(&mut element, truth);
                    element
                };
                sums.iter().zip(truth).map(finish).collect()
            })
            .collect();
        Some(Bound::from_elements(elements.into_iter().flatten()))
    }

    fn bias_row(&self, row: Row, errors: &RowErrors, sums: &mut [Sums]) {
        let number = self.q.problem.row_number(row);
        for e in &errors.entries {
            if let (Some(all), Some(sample)) = (self.q.borderline, self.q.sample)
                && all[number].binary_search(&(e.j as u32)).is_ok()
            {
                let kept = self.sampled(errors, e, sample.lambda[number]);
                let (ds, terms, _) = self.ds_terms(row, errors, e, &kept);
                let spread = ds.abs() + terms.iter().map(|term| term.worst).sum::<f64>();
                let mut mask = Terms::default();
                mask[Stage::Mask as usize] = Term::certain(spread);
                sums[e.j].add_errors(&mask, &[1.0]);
            }
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let (ds, mut terms, _) = self.ds_terms(row, errors, e, &kept);
            let t = e.dp - errors.delta + self.q.problem.dlse(row);
            self.add_row_terms(errors, &kept, t, 1.0, &mut terms);
            let before: f64 = terms.iter().map(|term| term.worst).sum();
            let stored = self.a.narrow(self.q.recipe.ds, ds.abs() + before);
            terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::certain(stored));
            sums[e.j].add(ds, &terms, &[1.0]);
        }
    }

    /// Section "dsink".
    fn dsink(&self) -> Option<Bound> {
        let p = self.q.problem;
        let truth = self.q.gradients.dsink.as_ref()?;
        let elements: Vec<Element> = (0..truth.len())
            .into_par_iter()
            .map(|h| {
                let mut sums = Sums::new(1);
                let (mut rho, mut lses) = (0.0_f64, Vec::new());
                for at in 0..p.row_count() {
                    let row = p.row(at);
                    if row.h != h {
                        continue;
                    }
                    let errors = self.row_errors(row, self.q.mode);
                    rho = rho.max(libm::expm1(errors.largest_log()));
                    lses.push(errors.lse);
                    self.sink_row(row, &errors, &mut sums);
                }
                let mut element =
                    sums.element(0, &self.a, self.tail(rho, equal_rows(lses, self.a.u)), 6);
                self.store_gradient(&mut element, truth[h]);
                element
            })
            .collect();
        Some(Bound::from_elements(elements))
    }

    fn sink_row(&self, row: Row, errors: &RowErrors, sums: &mut Sums) {
        let Some((w, log)) = errors.sink else { return };
        let dlse = self.q.problem.dlse(row);
        let t = errors.delta - dlse;
        let lse = errors.lse_error;
        let r = libm::expm1(log.worst + lse.worst);
        let mut terms = Terms::default();
        terms[Stage::Score as usize] = Term { worst: r - lse.worst, ..log }.times(w * t);
        terms[Stage::Lse as usize] = lse.times(w * t);
        terms[Stage::Delta as usize] = errors.delta_error.times(w * (1.0 + r));
        terms[Stage::StoredO as usize] = Term::certain(errors.delta_stored * w * (1.0 + r));
        let size = errors.delta.abs() + dlse.abs();
        terms[Stage::Dp as usize] = Term::rounding(3.0 * self.a.u * w * size);
        sums.add(-w * t, &terms, &[1.0]);
    }
}

impl Question<'_> {
    /// Whether `lambda` depends on the weights: it differs from row to row.
    fn is_calibrated(&self) -> bool {
        self.sample.is_some_and(|sample| sample.lambda.windows(2).any(|pair| pair[0] != pair[1]))
    }
}

/// The largest number of rows whose `lse` are equal up to rounding, and whose entries so may round alike.
fn equal_rows(mut lses: Vec<f64>, u: f64) -> f64 {
    lses.retain(|lse| lse.is_finite());
    lses.sort_unstable_by(f64::total_cmp);
    let (mut most, mut first) = (1, 0);
    for (at, &lse) in lses.iter().enumerate() {
        while lse - lses[first] > 4.0 * u * lse.abs().max(1.0) {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most as f64
}
