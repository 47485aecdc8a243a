//! The bounds of the gradients that are sums over rows: `dbias` and `dsink`. Section 6.2 of `docs/bounds.md`.

use super::context::BoundContext;
use super::ds::{DsErrors, add_row_terms};
use super::known_o::{KnownDelta, Shift};
use super::row::RowErrors;
use super::stage::Stage;
use super::sums::{ElementError, Sums, Terms, only};
use super::term::Term;
use rayon::prelude::*;
use std::borrow::Cow;
use sus_reference::problem::{Row, bias_row};

/// An element: its truth, and its error.
pub(super) type Element = (f64, ElementError);

impl BoundContext<'_> {
    /// Section 6.2: `dbias`. A broadcast bias sums over the rows that read it.
    pub(super) fn dbias(&self, known: Option<&KnownDelta>) -> Option<Vec<Element>> {
        let p = self.input.problem;
        let truth = self.input.gradients.dbias.as_ref()?;
        let [batch, heads, queries, keys] = truth.shape();
        let rows: Vec<Row> = (0..p.row_count()).map(|at| p.row(at)).collect();
        let bias_rows: Vec<Row> = (0..batch * heads * queries)
            .map(|at| Row { b: at / queries / heads, h: at / queries % heads, i: at % queries })
            .collect();
        let elements: Vec<Vec<Element>> = bias_rows
            .into_par_iter()
            .map(|mine| {
                let mut sums = vec![Sums::new(1); keys];
                let mut shifts = vec![Shift::default(); keys];
                let (mut rho, mut lses) = (0.0_f64, Vec::new());
                for &row in rows.iter().filter(|&&row| bias_row(truth.shape(), row) == mine) {
                    let mut errors = self.row_errors(row, self.input.mode);
                    rho = rho.max(libm::expm1(errors.largest_log()));
                    lses.push(errors.lse);
                    if let Some(known) = known {
                        known.apply(p.row_number(row), &mut errors);
                        self.shift_bias_row(row, &errors, known, &mut shifts);
                    }
                    self.bias_row(row, &errors, &mut sums);
                }
                let rows = lses.len();
                let tail = self.tail(rho, self.equal_rows(lses));
                let truth = truth.row(mine.b, mine.h, mine.i);
                let elements = sums.iter_mut().zip(&shifts).zip(truth);
                elements
                    .map(|((sums, shift), &truth)| {
                        let truth = shift.of(truth, self.roundoff.u, rho, rows, sums);
                        (truth, self.stored_sum(sums, 0, tail, truth))
                    })
                    .collect()
            })
            .collect();
        Some(elements.concat())
    }

    pub(super) fn bias_row(&self, row: Row, errors: &RowErrors, sums: &mut [Sums]) {
        let number = self.input.problem.row_number(row);
        for e in &errors.entries {
            if let Some(whole) = self.ambiguous(row, errors, e) {
                sums[e.j].add_errors(&[only(Stage::Mask, whole.ds)], &[&[1.0]]);
            }
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let DsErrors { ds, mut terms, .. } =
                self.ds_terms(row, errors, e, &kept, &self.weight_terms(errors, e, &kept));
            let t = e.dp - errors.delta + self.input.problem.dlse(row);
            add_row_terms(errors, &kept, t, 1.0, &mut terms);
            if self.input.problem.options().bias_first {
                // Section 4.2: dS times the softcap's derivative, which errs.
                let before: f64 = terms.iter().map(|term| term.worst_case).sum();
                terms = terms.map(|term| term.times(e.bias_slope));
                let of_slope = Term::deterministic(e.bias_slope_error * (ds.abs() + before));
                terms[Stage::Score as usize] = terms[Stage::Score as usize].plus(of_slope);
            }
            let ds = ds * e.bias_slope;
            // dbias is a sum of dS, which is rounded as it is for the products.
            let before: f64 = terms.iter().map(|term| term.worst_case).sum();
            let stored = self.roundoff.narrow(self.input.recipe.ds, ds.abs() + before);
            terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::deterministic(stored));
            sums[e.j].add(&[ds], &[terms], &[&[1.0]]);
        }
    }

    /// Section 6.2: `dslopes`, a sum of `dS` times a distance. What `lse` and `delta` of a row err by, its entries share.
    pub(super) fn dslopes(&self) -> Option<Vec<Element>> {
        let p = self.input.problem;
        let truth = self.input.gradients.dslopes.as_ref()?;
        let element = |(at, &truth_of_one): (usize, &f64)| -> Element {
            let (mut sums, mut rho, mut lses) = (Sums::new(1), 0.0_f64, Vec::new());
            let mut alike = 1.0_f64;
            for row in (0..p.row_count()).map(|at| p.row(at)) {
                if p.slope_index(row) != at {
                    continue;
                }
                let errors = self.row_errors(row, self.input.mode);
                rho = rho.max(libm::expm1(errors.largest_log()));
                lses.push(errors.lse);
                alike = alike.max(errors.multiplicity);
                self.slope_row(row, &errors, &mut sums);
            }
            let tail = self.tail(rho, self.equal_rows(lses) * alike);
            (truth_of_one, self.stored_sum(&sums, 0, tail, truth_of_one))
        };
        Some(truth.as_slice().par_iter().enumerate().map(element).collect())
    }

    fn slope_row(&self, row: Row, errors: &RowErrors, sums: &mut Sums) {
        let p = self.input.problem;
        let (number, u) = (p.row_number(row), self.roundoff.u);
        let (mut of_lse, mut of_delta) = (0.0, 0.0);
        for e in &errors.entries {
            let distance = p.alibi_distance(row, e.j);
            if let Some(whole) = self.ambiguous(row, errors, e) {
                sums.add_errors(&[only(Stage::Mask, whole.ds)], &[&[distance]]);
            }
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let DsErrors { ds, mut terms, .. } =
                self.ds_terms(row, errors, e, &kept, &self.weight_terms(errors, e, &kept));
            let before: f64 = terms.iter().map(|term| term.worst_case).sum();
            let shared = kept.w * (errors.delta_error.worst_case + errors.delta_stored)
                + ds.abs() * errors.lse_error.worst_case;
            // dS may be rounded as it is for the products; 2 u: the product with the distance, which may be scaled.
            let stored = self.roundoff.narrow(self.input.recipe.ds, ds.abs() + before + shared);
            let stored = stored + 2.0 * u * (ds.abs() + before + shared);
            terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::deterministic(stored));
            sums.add(&[ds], &[terms], &[&[distance]]);
            of_lse += kept.varies * (e.dp - errors.delta + p.dlse(row)) * distance;
            of_delta += kept.w * distance;
        }
        let of_stored = Term::deterministic(errors.delta_stored);
        for (stage, term) in [
            (Stage::Lse, errors.lse_error.times(of_lse)),
            (Stage::Delta, errors.delta_error.times(of_delta)),
            (Stage::StoredO, of_stored.times(of_delta)),
        ] {
            sums.add_errors(&[only(stage, term)], &[&[1.0]]);
        }
    }

    /// Section 6.9: `dS` has `-W~ delta`.
    fn shift_bias_row(
        &self,
        row: Row,
        errors: &RowErrors,
        known: &KnownDelta,
        shifts: &mut [Shift],
    ) {
        let number = self.input.problem.row_number(row);
        for e in &errors.entries {
            if let Some(kept) = self.kept(errors, e, number) {
                // The slope is 1, or the softcap's derivative where the bias comes before it.
                shifts[e.j].add_capped([-kept.w, e.bias_slope], known, number);
            }
        }
    }

    /// Section 6.2: `dsink`.
    pub(super) fn dsink(
        &self,
        rows: &[RowErrors],
        known: Option<&KnownDelta>,
    ) -> Option<Vec<Element>> {
        let p = self.input.problem;
        let truth = self.input.gradients.dsink.as_ref()?;
        let elements: Vec<Element> = (0..truth.len())
            .into_par_iter()
            .map(|h| {
                let (mut sums, mut shift) = (Sums::new(1), Shift::default());
                let (mut rho, mut lses) = (0.0_f64, Vec::new());
                for (at, errors) in rows.iter().enumerate() {
                    let row = p.row(at);
                    if row.h != h {
                        continue;
                    }
                    rho = rho.max(libm::expm1(errors.largest_log()));
                    lses.push(errors.lse);
                    let mut errors = Cow::Borrowed(errors);
                    if let Some(known) = known {
                        known.apply(at, errors.to_mut());
                        // Section 6.9: dsink has -w delta.
                        shift.add(-errors.sink.map_or(0.0, |(w, _)| w), known, at);
                    }
                    self.sink_row(row, &errors, &mut sums);
                }
                let rows = lses.len();
                let tail = self.tail(rho, self.equal_rows(lses));
                let truth = shift.of(truth[h], self.roundoff.u, rho, rows, &mut sums);
                (truth, self.stored_sum(&sums, 0, tail, truth))
            })
            .collect();
        Some(elements)
    }

    pub(super) fn sink_row(&self, row: Row, errors: &RowErrors, sums: &mut Sums) {
        let Some((w, log)) = errors.sink else { return };
        let dlse = self.input.problem.dlse(row);
        let t = errors.delta - dlse;
        let lse = errors.lse_error;
        // dsink = -sum w (delta - dlse) with w = exp(sink - lse): |t| e_w, and w e_t.
        let r = libm::expm1(log.worst_case + lse.worst_case);
        let mut terms = Terms::default();
        terms[Stage::Score as usize] = Term { worst_case: r - lse.worst_case, ..log }.times(w * t);
        terms[Stage::Lse as usize] = lse.times(w * t);
        terms[Stage::Delta as usize] = errors.delta_error.times(w * (1.0 + r));
        terms[Stage::StoredO as usize] = Term::deterministic(errors.delta_stored * w * (1.0 + r));
        let size = errors.delta.abs() + dlse.abs();
        // 3 u: delta - dlse, its product with the weight, and a store between two kernels.
        terms[Stage::Dp as usize] = Term::rounding(3.0 * self.roundoff.u * w * size);
        sums.add(&[-w * t], &[terms], &[&[1.0]]);
    }
}
