//! The bounds of `dq`, by rows. Section 6.1 of `docs/bounds.md`.

use super::context::BoundContext;
use super::ds::DzErrors;
use super::limits::TERMS;
use super::recipe::Product;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::store::tiles_of;
use super::sums::{ElementError, Sums, TermBatch, only};
use super::term::Term;
use sus_reference::problem::Row;

impl BoundContext<'_> {
    /// Section 6.1: `dq` of one row, from its entries that count.
    pub(super) fn dq_row(
        &self,
        row: Row,
        errors: &RowErrors,
        entries: &[EntryError],
    ) -> Vec<ElementError> {
        let p = self.input.problem;
        let number = p.row_number(row);
        let mut dq = Sums::new(p.sizes().features);
        let (mut batch, mut of_lse, mut of_delta) = (TermBatch::default(), Vec::new(), Vec::new());
        for entries in entries.chunks(TERMS) {
            of_lse.clear();
            of_delta.clear();
            for e in entries {
                let k = p.k(row, e.j);
                if let Some(whole) = self.ambiguous(row, errors, e) {
                    dq.add_errors(&[only(Stage::Mask, whole.dz)], &[k]);
                }
                let Some(kept) = self.kept(errors, e, number) else { continue };
                let of_ds =
                    self.ds_terms(row, errors, e, &kept, &self.weight_terms(errors, e, &kept));
                let DzErrors { dz, terms, largest } = self.dz_terms(errors, e, &kept, &of_ds);
                // Section 4.9: the conversion of k.
                if let Some(of_k) = self.operands.change(p, Product::Dq, row, e.j) {
                    batch.push_error(Stage::Ds, largest, of_k);
                    of_lse.push(0.0);
                    of_delta.push(0.0);
                }
                let t = e.dp - errors.delta + p.dlse(row);
                batch.push(dz, &terms, k);
                // The factors of the errors of lse and of delta in the row.
                of_lse.push(kept.varies * t * e.slope);
                of_delta.push(kept.w * e.slope);
            }
            dq.share([&of_lse, &of_delta], &batch.x);
            batch.add_to(&mut dq);
        }
        let stored = Term::deterministic(errors.delta_stored);
        dq.settle([
            (Stage::Lse, errors.lse_error, 0),
            (Stage::Delta, errors.delta_error, 1),
            (Stage::StoredO, stored, 1),
        ]);
        // Sections 3.3 and 3.4: equal scores round alike, and a first order of the weights is off by their own error.
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        let truth = self.input.gradients.dq.row(row.b, row.h, row.i);
        let tiles = tiles_of(errors.span, self.input.recipe.running_dq);
        let stored =
            |(d, &truth): (usize, &f64)| self.stored_running_sum(&dq, d, tail, truth, tiles);
        truth.iter().enumerate().map(stored).collect()
    }
}
