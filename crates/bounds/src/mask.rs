//! The entries that count in a mask's gradients, and those that a kernel may keep or drop. Section 6.7 of
//! `docs/bounds.md`.

use super::context::BoundContext;
use super::row::RowErrors;
use super::score::{EntryError, Scores, exponential};
use super::term::Term;
use std::ops::Range;
use sus_reference::problem::Row;

/// The errors of an entry that a kernel may keep or drop: the whole entry.
pub(super) struct WholeEntry {
    pub(super) w: Term,
    pub(super) ds: Term,
    pub(super) dz: Term,
}

impl BoundContext<'_> {
    /// The entries of a row among some keys that count in the gradients: the visible ones, or those of them that a mask keeps or
    /// may keep.
    pub(super) fn entries(
        &self,
        row: Row,
        errors: &RowErrors,
        keys: &Range<usize>,
    ) -> Vec<EntryError> {
        let p = self.input.problem;
        let visible = p.span(row);
        let seen = visible.start.max(keys.start)..visible.end.min(keys.end);
        if seen.is_empty() {
            return Vec::new();
        }
        let scores = Scores::new(p, &self.roundoff, &self.operands);
        let mut entries = match self.input.sample {
            None => {
                let mut entries = scores.entries(row, seen, errors.lse);
                entries.retain(|e| !e.vanishes(&self.roundoff, errors.peak));
                entries
            }
            Some(sample) => {
                let number = p.row_number(row);
                let ambiguous = self.input.ambiguous.map_or(&[][..], |all| &all[number]);
                let mut found = Vec::new();
                for keys in [sample.pattern.row(number), ambiguous] {
                    let first = keys.partition_point(|&j| (j as usize) < seen.start);
                    let after = keys.partition_point(|&j| (j as usize) < seen.end);
                    found.extend_from_slice(&keys[first..after]);
                }
                found.sort_unstable();
                found.dedup();
                found.retain(|&j| !p.hides(row, j as usize));
                found.iter().map(|&j| scores.entry(row, j as usize, errors.lse)).collect()
            }
        };
        // Section 4.4: `Scores` has the errors of the scores; those of exp are added.
        for e in &mut entries {
            e.store_shifted(&self.roundoff, errors.peak);
            e.log = e.log.plus(exponential(&self.roundoff, e.s, errors.lse, errors.largest_score));
        }
        entries
    }

    /// Section 6.7: the whole entry, if a kernel may keep or drop it.
    pub(super) fn ambiguous(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
    ) -> Option<WholeEntry> {
        let sample = self.input.sample.filter(|_| self.input.is_ambiguous(row, e.j))?;
        let kept = self.sampled(errors, e, sample.lambda[self.input.problem.row_number(row)]);
        let of_ds = self.ds_terms(row, errors, e, &kept, &self.weight_terms(errors, e, &kept));
        let whole = of_ds.ds.abs() + of_ds.terms.iter().map(|term| term.worst_case).sum::<f64>();
        Some(WholeEntry {
            w: Term::deterministic(kept.w * (1.0 + of_ds.relative)),
            ds: Term::deterministic(whole),
            dz: Term::deterministic(whole * (e.slope.abs() + e.slope_error)),
        })
    }
}
