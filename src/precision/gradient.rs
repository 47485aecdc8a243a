//! The bounds of `dq`, `dk` and `dv`.

use super::bound::{Core, equal_rows};
use super::entry::Term;
use super::ranges::Rounded;
use super::recipe::Gqa;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::{Element, Sums, Terms};
use super::terms::add_row_terms;
use crate::problem::Row;
use crate::tensor::Tensor;
use rayon::prelude::*;

impl Core<'_> {
    /// `dq, dk, dv`: one task for each key head.
    pub(super) fn heads(&self) -> [Vec<Element>; 3] {
        let p = self.q.problem;
        let sizes = p.sizes();
        let heads: Vec<_> = (0..sizes.batch * sizes.key_heads)
            .into_par_iter()
            .map(|at| {
                let (b, key_head) = (at / sizes.key_heads, at % sizes.key_heads);
                if self.is_large() {
                    self.head_by_keys(b, key_head)
                } else {
                    self.head(b, key_head, None)
                }
            })
            .collect();
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for head in heads {
            for (all, elements) in all.iter_mut().zip(head) {
                all.extend(elements);
            }
        }
        all
    }

    /// Sections "dq", "dk" and "dv" of one key head; its rows are shown to `rounded` too.
    pub(super) fn head(
        &self,
        b: usize,
        key_head: usize,
        mut rounded: Option<&mut Rounded>,
    ) -> [Vec<Element>; 3] {
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
                if let Some(rounded) = &mut rounded {
                    rounded.add_row(self, row, &errors);
                }
            }
            if let Some(rounded) = &mut rounded {
                rounded.end_head(a);
            }
            for sums in dk.iter_mut().chain(&mut dv) {
                sums.end_head(a);
            }
        }
        let tail = self.tail(rho, equal_rows(lses, a.u));
        let truth = |tensor: &Tensor<f64>, j: usize, d: usize| tensor.row(b, key_head, j)[d];
        let finish = |all: &[Sums], tensor: &Tensor<f64>| {
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
    pub(super) fn store_gradient(&self, element: &mut Element, truth: f64) {
        let recipe = self.q.recipe;
        let scale = 2.0 * self.a.u * truth.abs();
        element.add(Stage::Sum as usize, scale, scale);
        element.store(truth, |x| recipe.output.rounding_error(x, recipe.flush_to_zero));
        if truth.abs() + element.worst >= recipe.output.overflow() {
            (element.worst, element.decides) = (f64::INFINITY, f64::INFINITY);
        }
    }

    /// One row: its `dq`, and its share of `dk` and `dv`.
    pub(super) fn row(
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
            add_row_terms(errors, &kept, t, e.slope, &mut alone);
            dk[e.j].add(dz, &alone, p.q(row));
            let (mut terms, lse, _) = self.weight_terms(errors, e, &kept);
            terms[Stage::Lse as usize] = lse;
            // Ranges treat the rounding of P apart.
            if !self.follows_p() {
                let of_p = a.narrow_scaled(recipe.p, kept.w * (1.0 + r));
                terms[Stage::P as usize] = Term::certain(of_p);
            }
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

    /// An entry that a kernel may keep or drop adds itself to the bounds of its row and its key.
    pub(super) fn borderline(
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
}
