//! The bounds of the gradients that are sums over rows: `dbias` and `dsink`.

use super::bound::{Core, equal_rows};
use super::entry::Term;
use super::row::RowErrors;
use super::stage::Stage;
use super::sums::{Element, Sums, Terms};
use super::terms::add_row_terms;
use rayon::prelude::*;
use sus_reference::problem::{Row, bias_row};

impl Core<'_> {
    /// Section "dbias".
    pub(super) fn dbias(&self) -> Option<Vec<Element>> {
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
        Some(elements.concat())
    }

    pub(super) fn bias_row(&self, row: Row, errors: &RowErrors, sums: &mut [Sums]) {
        let number = self.q.problem.row_number(row);
        for e in &errors.entries {
            if let (Some(all), Some(sample)) = (self.q.ambiguous, self.q.sample)
                && all[number].binary_search(&(e.j as u32)).is_ok()
            {
                let kept = self.sampled(errors, e, sample.lambda[number]);
                let (ds, terms, _) = self.ds_terms(row, errors, e, &kept);
                let spread = ds.abs() + terms.iter().map(|term| term.worst_case).sum::<f64>();
                let mut mask = Terms::default();
                mask[Stage::Mask as usize] = Term::deterministic(spread);
                sums[e.j].add_errors(&[mask], &[&[1.0]]);
            }
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let (ds, mut terms, _) = self.ds_terms(row, errors, e, &kept);
            let t = e.dp - errors.delta + self.q.problem.dlse(row);
            add_row_terms(errors, &kept, t, 1.0, &mut terms);
            let before: f64 = terms.iter().map(|term| term.worst_case).sum();
            let stored = self.a.narrow(self.q.recipe.ds, ds.abs() + before);
            terms[Stage::Ds as usize] = terms[Stage::Ds as usize].plus(Term::deterministic(stored));
            sums[e.j].add(&[ds], &[terms], &[&[1.0]]);
        }
    }

    /// Section "dsink".
    pub(super) fn dsink(&self, rows: &[RowErrors]) -> Option<Vec<Element>> {
        let p = self.q.problem;
        let truth = self.q.gradients.dsink.as_ref()?;
        let elements: Vec<Element> = (0..truth.len())
            .into_par_iter()
            .map(|h| {
                let mut sums = Sums::new(1);
                let (mut rho, mut lses) = (0.0_f64, Vec::new());
                for (at, errors) in rows.iter().enumerate() {
                    let row = p.row(at);
                    if row.h != h {
                        continue;
                    }
                    rho = rho.max(libm::expm1(errors.largest_log()));
                    lses.push(errors.lse);
                    self.sink_row(row, errors, &mut sums);
                }
                let mut element =
                    sums.element(0, &self.a, self.tail(rho, equal_rows(lses, self.a.u)), 6);
                self.store_gradient(&mut element, truth[h]);
                element
            })
            .collect();
        Some(elements)
    }

    pub(super) fn sink_row(&self, row: Row, errors: &RowErrors, sums: &mut Sums) {
        let Some((w, log)) = errors.sink else { return };
        let dlse = self.q.problem.dlse(row);
        let t = errors.delta - dlse;
        let lse = errors.lse_error;
        let r = libm::expm1(log.worst_case + lse.worst_case);
        let mut terms = Terms::default();
        terms[Stage::Score as usize] = Term { worst_case: r - lse.worst_case, ..log }.times(w * t);
        terms[Stage::Lse as usize] = lse.times(w * t);
        terms[Stage::Delta as usize] = errors.delta_error.times(w * (1.0 + r));
        terms[Stage::StoredO as usize] = Term::deterministic(errors.delta_stored * w * (1.0 + r));
        let size = errors.delta.abs() + dlse.abs();
        terms[Stage::Dp as usize] = Term::rounding(3.0 * self.a.u * w * size);
        sums.add(&[-w * t], &[terms], &[&[1.0]]);
    }
}
