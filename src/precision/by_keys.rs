//! The bounds of `dq`, `dk` and `dv` of a large head: first by rows, all at once, then by blocks of keys, all at once.
//!
//! The numbers are those of [`head`](Core::head), bit for bit: each element's terms are added in the same order. What is kept between
//! the two passes is a summary of each row, so that memory grows with the rows and the keys, and not with their product; the
//! entries of the kept weights are computed twice.

use super::bound::Core;
use super::bound::equal_rows;
use super::entry::Term;
use super::recipe::Gqa;
use super::row::RowErrors;
use super::score::{EntryError, Scores, exponential};
use super::stage::Stage;
use super::sums::{Element, Sums, Tail, Terms};
use super::terms::add_row_terms;
use crate::problem::Row;
use rayon::prelude::*;
use std::ops::Range;

/// Visible entries of a head from which it is worth to compute its entries twice.
const LARGE: usize = 1 << 16;

/// Keys of a task, and rows whose entries it holds at a time.
const KEYS: usize = 32;
const ROWS: usize = 32;

impl Core<'_> {
    /// Whether a head is computed by rows and by blocks of keys.
    pub(super) fn is_large(&self) -> bool {
        let sizes = self.q.problem.sizes();
        sizes.queries.saturating_mul(sizes.keys) >= LARGE
    }

    /// Sections "dq", "dk" and "dv" of one key head.
    pub(super) fn head_by_keys(&self, b: usize, key_head: usize) -> [Vec<Element>; 3] {
        let p = self.q.problem;
        let (sizes, group) = (p.sizes(), p.group());
        let rows: Vec<Row> = (key_head * group..(key_head + 1) * group)
            .flat_map(|h| (0..sizes.queries).map(move |i| Row { b, h, i }))
            .collect();
        let (rows, dq): (Vec<(Row, RowErrors)>, Vec<Vec<Element>>) = rows
            .into_par_iter()
            .map(|row| {
                let mut errors = self.row_errors(row, self.q.mode);
                let dq = self.dq_row(row, &errors);
                errors.entries = Vec::new();
                ((row, errors), dq)
            })
            .unzip();
        let rho = rows.iter().map(|(_, errors)| libm::expm1(errors.largest_log()));
        let lses = rows.iter().map(|(_, errors)| errors.lse).collect();
        let tail = self.tail(rho.fold(0.0, f64::max), equal_rows(lses, self.a.u));
        let blocks: Vec<[Vec<Element>; 2]> = (0..sizes.keys.div_ceil(KEYS))
            .into_par_iter()
            .map(|block| {
                let keys = block * KEYS..((block + 1) * KEYS).min(sizes.keys);
                self.key_block(&rows, (b, key_head), keys, tail)
            })
            .collect();
        let [mut dk, mut dv] = [Vec::new(), Vec::new()];
        for [of_dk, of_dv] in blocks {
            dk.extend(of_dk);
            dv.extend(of_dv);
        }
        [dq.concat(), dk, dv]
    }

    /// The `dq` of one row.
    fn dq_row(&self, row: Row, errors: &RowErrors) -> Vec<Element> {
        let p = self.q.problem;
        let number = p.row_number(row);
        let mut dq = Sums::new(p.sizes().features);
        for e in &errors.entries {
            let k = p.k(row, e.j);
            if let Some((of_ds, _)) = self.either(row, errors, e) {
                dq.add_errors(&of_ds, k);
            }
            let Some(kept) = self.kept(errors, e, number) else { continue };
            let (ds, terms, _) = self.ds_terms(row, errors, e, &kept);
            let (dz, terms) = self.dz_terms(errors, e, &kept, ds, terms);
            let t = e.dp - errors.delta + p.dlse(row);
            dq.add(dz, &terms, k);
            dq.share([kept.varies * t * e.slope, kept.w * e.slope], k);
        }
        let stored = Term::certain(errors.delta_stored);
        dq.settle([
            (Stage::Lse, errors.lse_error, 0),
            (Stage::Delta, errors.delta_error, 1),
            (Stage::StoredO, stored, 1),
        ]);
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        let truth = self.q.gradients.dq.row(row.b, row.h, row.i);
        let finish = |(d, &truth): (usize, &f64)| {
            let mut element = dq.element(d, &self.a, tail, 6);
            self.store_gradient(&mut element, truth);
            element
        };
        truth.iter().enumerate().map(finish).collect()
    }

    /// What an entry that a kernel may keep or drop adds to the errors of `dS` and of `W~`.
    fn either(&self, row: Row, errors: &RowErrors, e: &EntryError) -> Option<(Terms, Terms)> {
        let number = self.q.problem.row_number(row);
        let (all, sample) = (self.q.borderline?, self.q.sample?);
        all[number].binary_search(&(e.j as u32)).ok()?;
        let kept = self.sampled(errors, e, sample.lambda[number]);
        let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
        let spread = ds.abs() + terms.iter().map(|term| term.worst).sum::<f64>();
        let mut of_ds = Terms::default();
        of_ds[Stage::Mask as usize] = Term::certain(spread * (e.slope.abs() + e.slope_error));
        let mut of_w = Terms::default();
        of_w[Stage::Mask as usize] = Term::certain(kept.w * (1.0 + r));
        Some((of_ds, of_w))
    }

    /// `dk` and `dv` of some keys.
    fn key_block(
        &self,
        rows: &[(Row, RowErrors)],
        (b, key_head): (usize, usize),
        keys: Range<usize>,
        tail: Tail,
    ) -> [Vec<Element>; 2] {
        let p = self.q.problem;
        let sizes = p.sizes();
        let mut dk = vec![Sums::new(sizes.features); keys.len()];
        let mut dv = vec![Sums::new(sizes.value_features); keys.len()];
        for head in rows.chunks(sizes.queries) {
            for rows in head.chunks(ROWS) {
                let entries: Vec<Vec<EntryError>> =
                    rows.iter().map(|(row, errors)| self.entries(*row, errors, &keys)).collect();
                // By keys, so that a key's sums stay in the cache for all the rows.
                let mut next = vec![0; rows.len()];
                for (j, (dk, dv)) in keys.clone().zip(dk.iter_mut().zip(&mut dv)) {
                    for (at, (row, errors)) in rows.iter().enumerate() {
                        let Some(e) = entries[at].get(next[at]).filter(|e| e.j == j) else {
                            continue;
                        };
                        next[at] += 1;
                        self.key_entry(*row, errors, e, dk, dv);
                    }
                }
            }
            for sums in dk.iter_mut().chain(&mut dv) {
                sums.end_head(&self.a);
            }
        }
        let group = p.group();
        let of = |all: &[Sums], truth: &dyn Fn(usize) -> Vec<f64>| {
            let mut elements = Vec::new();
            for (sums, j) in all.iter().zip(keys.clone()) {
                for (d, truth) in truth(j).into_iter().enumerate() {
                    let mut element = sums.element(d, &self.a, tail, 6);
                    if self.q.recipe.gqa == Gqa::Repeated && group > 1 {
                        let more = sums.repeated(d, &self.a, group);
                        element.add(Stage::Store as usize, more, more);
                    }
                    self.store_gradient(&mut element, truth);
                    elements.push(element);
                }
            }
            elements
        };
        let truth = self.q.gradients;
        [
            of(&dk, &|j| truth.dk.row(b, key_head, j).to_vec()),
            of(&dv, &|j| truth.dv.row(b, key_head, j).to_vec()),
        ]
    }

    /// The entries of a row among some keys that add to `dk` and `dv`: the visible ones, or what a mask keeps of them, or may keep.
    fn entries(&self, row: Row, errors: &RowErrors, keys: &Range<usize>) -> Vec<EntryError> {
        let p = self.q.problem;
        let visible = p.mask().visible(row.i);
        let seen = visible.start.max(keys.start)..visible.end.min(keys.end);
        if seen.is_empty() {
            return Vec::new();
        }
        let scores = Scores::new(p, &self.a, self.packed.as_ref());
        let mut entries = match self.q.sample {
            None => scores.entries(row, seen, errors.lse),
            Some(sample) => {
                let number = p.row_number(row);
                let either = self.q.borderline.map_or(&[][..], |all| &all[number]);
                let mut found = Vec::new();
                for keys in [sample.pattern.row(number), either] {
                    let first = keys.partition_point(|&j| (j as usize) < seen.start);
                    let after = keys.partition_point(|&j| (j as usize) < seen.end);
                    found.extend_from_slice(&keys[first..after]);
                }
                found.sort_unstable();
                found.dedup();
                found.iter().map(|&j| scores.entry(row, j as usize, errors.lse)).collect()
            }
        };
        for e in &mut entries {
            e.log = e.log.plus(exponential(&self.a, e.s, errors.lse, errors.largest_score));
        }
        entries
    }

    /// The share of one entry in the `dk` and the `dv` of its key.
    fn key_entry(
        &self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        dk: &mut Sums,
        dv: &mut Sums,
    ) {
        let (p, a) = (self.q.problem, &self.a);
        if let Some((of_ds, of_w)) = self.either(row, errors, e) {
            dk.add_errors(&of_ds, p.q(row));
            dv.add_errors(&of_w, p.g(row));
        }
        let Some(kept) = self.kept(errors, e, p.row_number(row)) else { return };
        let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
        let (dz, mut terms) = self.dz_terms(errors, e, &kept, ds, terms);
        let t = e.dp - errors.delta + p.dlse(row);
        add_row_terms(errors, &kept, t, e.slope, &mut terms);
        dk.add(dz, &terms, p.q(row));
        let (mut terms, lse, _) = self.weight_terms(errors, e, &kept);
        terms[Stage::Lse as usize] = lse;
        terms[Stage::P as usize] =
            Term::certain(a.narrow_scaled(self.q.recipe.p, kept.w * (1.0 + r)));
        dv.add(kept.w, &terms, p.g(row));
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::Packed;
    use super::super::{Mode, Question, Recipe, Truth};
    use super::*;
    use crate::gallery::cases;
    use crate::sus::{Budget, Draw, Rule, Sampler, sample};
    use crate::verdict::forced_mask;

    /// All cases of the gallery (masks, groups, sinks, softcap, bias, cotangents, packed sequences), dense and sampled.
    #[test]
    fn rows_and_blocks_of_keys_have_the_bits_of_the_plain_order() {
        let (mut compared, mut either) = (0, 0);
        for case in cases::all() {
            let p = &case.problem;
            let saved = Truth::exact(p).unwrap().saved();
            let paper = Draw::paper(Budget::new(2.5).unwrap(), 3);
            let other = Draw { rule: Rule::Calibrated, sampler: Sampler::Systematic, ..paper };
            for name in ["f32", "flash-bf16", "eager-f16"] {
                let recipe = Recipe::built_in(name).unwrap();
                for draw in [None, Some(paper), Some(other)] {
                    let mask = draw.map(|draw| sample(p, &saved, &draw).unwrap());
                    let forced = draw.zip(mask.as_ref()).map(|(draw, mask)| {
                        forced_mask(p, &saved, &recipe, Mode::Exact, &draw, mask).unwrap()
                    });
                    let question = Question {
                        problem: p,
                        recipe: &recipe,
                        mode: if draw.is_none() { Mode::Given } else { Mode::Exact },
                        saved: &saved,
                        sample: mask.as_ref(),
                        borderline: forced.as_ref().map(|forced| forced.either.as_slice()),
                        gradients: &Truth::given(p, &saved).unwrap().gradients(mask.as_ref()),
                    };
                    let core = Core { packed: None, ..Core::new(&question) };
                    let packed = Core { packed: Some(Packed::new(p)), ..Core::new(&question) };
                    for at in 0..p.sizes().batch * p.sizes().key_heads {
                        let (b, h) = (at / p.sizes().key_heads, at % p.sizes().key_heads);
                        assert_eq!(
                            packed.head_by_keys(b, h),
                            core.head(b, h, None),
                            "{}",
                            case.name
                        );
                        compared += 1;
                    }
                    either += forced.map_or(0, |f| f.either.iter().map(Vec::len).sum());
                }
            }
        }
        assert!(compared > 100 && either > 10, "{compared} heads, {either} borderline entries");
    }
}
