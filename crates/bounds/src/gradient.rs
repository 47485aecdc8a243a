//! The bounds of `dq`, `dk` and `dv`: first by rows, all at once, then by blocks of keys, all at once.
//!
//! What is kept between the two is a summary of each row, so that memory grows with the rows and the keys and not with their product.
//! The second pass computes again the entries that it needs: all of a dense pass, those of a mask. The terms of an element are
//! added in the order of its keys, or of its rows, whatever the blocks and the threads.

use super::bound::{Core, equal_rows};
use super::entry::Term;
use super::ranges::{Range, Rounded};
use super::recipe::Gqa;
use super::row::RowErrors;
use super::score::{EntryError, Scores, exponential};
use super::stage::Stage;
use super::sums::{Element, Sums, Tail, Terms};
use super::terms::add_row_terms;
use super::vectors::TERMS;
use rayon::prelude::*;
use std::ops::Range as Keys;
use sus_reference::problem::Row;
use sus_reference::tensor::Tensor;

/// Keys of a task, and rows whose entries it holds at a time.
const KEYS: usize = 32;
const ROWS: usize = 32;

/// What a block of keys has.
pub(super) struct KeyBlock {
    pub(super) dk: Vec<Element>,
    pub(super) dv: Vec<Element>,
    /// Of a `dv` whose rounded weights are followed.
    pub(super) dv_rounded: Vec<Range>,
}

impl Core<'_> {
    /// Section "dq" of one row, from its entries that count.
    pub(super) fn dq_row(
        &self,
        row: Row,
        errors: &RowErrors,
        entries: &[EntryError],
    ) -> Vec<Element> {
        let p = self.q.problem;
        let number = p.row_number(row);
        let mut dq = Sums::new(p.sizes().features);
        let (mut batch, mut of_lse, mut of_delta) = (Batch::default(), Vec::new(), Vec::new());
        for entries in entries.chunks(TERMS) {
            of_lse.clear();
            of_delta.clear();
            for e in entries {
                let k = p.k(row, e.j);
                if let Some((of_ds, _)) = self.ambiguous(row, errors, e) {
                    dq.add_errors(&[of_ds], &[k]);
                }
                let Some(kept) = self.kept(errors, e, number) else { continue };
                let (ds, terms, _) = self.ds_terms(row, errors, e, &kept);
                let (dz, terms) = self.dz_terms(errors, e, &kept, ds, terms);
                let t = e.dp - errors.delta + p.dlse(row);
                batch.push(dz, &terms, k);
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
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        let truth = self.q.gradients.dq.row(row.b, row.h, row.i);
        let finish = |(d, &truth): (usize, &f64)| {
            let mut element = dq.element(d, &self.a, tail, 6);
            self.store_gradient(&mut element, truth);
            element
        };
        truth.iter().enumerate().map(finish).collect()
    }

    /// Sections "dk" and "dv", given the rows without their entries: what is made of each block of keys, in their order.
    pub(super) fn each_key_block<T: Send>(
        &self,
        rows: &[RowErrors],
        make: impl Fn(KeyBlock) -> T + Sync,
    ) -> Vec<T> {
        let p = self.q.problem;
        let (sizes, of_head) = (p.sizes(), p.group() * p.sizes().queries);
        let rows = |head: usize| &rows[head * of_head..(head + 1) * of_head];
        let tail = |head: usize| {
            let rho = rows(head).iter().map(|errors| libm::expm1(errors.largest_log()));
            let lses = rows(head).iter().map(|errors| errors.lse).collect();
            self.tail(rho.fold(0.0, f64::max), equal_rows(lses, self.a.u))
        };
        let tails: Vec<Tail> =
            (0..sizes.batch * sizes.key_heads).into_par_iter().map(tail).collect();
        let blocks = sizes.keys.div_ceil(KEYS);
        let block = |at: usize| {
            let (head, first) = (at / blocks, at % blocks * KEYS);
            let keys = first..(first + KEYS).min(sizes.keys);
            make(self.key_block(rows(head), head, keys, tails[head]))
        };
        (0..self.key_blocks()).into_par_iter().map(block).collect()
    }

    /// How many blocks of keys there are.
    pub(super) fn key_blocks(&self) -> usize {
        let sizes = self.q.problem.sizes();
        sizes.batch * sizes.key_heads * sizes.keys.div_ceil(KEYS)
    }

    /// `dk` and `dv` of some keys of a key head, counted over the batch.
    fn key_block(
        &self,
        rows: &[RowErrors],
        key_head: usize,
        keys: Keys<usize>,
        tail: Tail,
    ) -> KeyBlock {
        let p = self.q.problem;
        let sizes = p.sizes();
        let mut dk = vec![Sums::new(sizes.features); keys.len()];
        let mut dv = vec![Sums::new(sizes.value_features); keys.len()];
        let mut rounded =
            self.follows_p().then(|| Rounded::new(keys.clone(), sizes.value_features));
        let mut number = key_head * rows.len();
        let mut terms = KeyTerms::default();
        for head in rows.chunks(sizes.queries.max(1)) {
            for rows in head.chunks(ROWS) {
                let rows: Vec<(Row, &RowErrors)> = rows
                    .iter()
                    .enumerate()
                    .map(|(n, errors)| (p.row(number + n), errors))
                    .collect();
                number += rows.len();
                let entries: Vec<Vec<EntryError>> =
                    rows.iter().map(|(row, errors)| self.entries(*row, errors, &keys)).collect();
                // By keys, so that a key's sums stay in the cache for all the rows.
                let mut next = vec![0; rows.len()];
                for (j, (dk, dv)) in keys.clone().zip(dk.iter_mut().zip(&mut dv)) {
                    for (at, &(row, errors)) in rows.iter().enumerate() {
                        let Some(e) = entries[at].get(next[at]).filter(|e| e.j == j) else {
                            continue;
                        };
                        next[at] += 1;
                        self.key_entry(row, errors, e, [dk, dv], &mut terms);
                        if let Some(rounded) = &mut rounded {
                            rounded.add_entry(self, row, errors, e);
                        }
                    }
                    terms.add_to(dk, dv);
                }
            }
            for sums in dk.iter_mut().chain(&mut dv) {
                sums.end_head(&self.a);
            }
            if let Some(rounded) = &mut rounded {
                rounded.end_head(&self.a);
            }
        }
        let (b, h) = (key_head / sizes.key_heads, key_head % sizes.key_heads);
        let of = |all: &[Sums], truth: &Tensor<f64>| {
            let mut elements = Vec::new();
            for (sums, j) in all.iter().zip(keys.clone()) {
                for (d, &truth) in truth.row(b, h, j).iter().enumerate() {
                    let mut element = sums.element(d, &self.a, tail, 6);
                    if self.q.recipe.gqa == Gqa::Repeated && p.group() > 1 {
                        let more = sums.repeated(d, &self.a, p.group());
                        element.add(Stage::Store as usize, more, more);
                    }
                    self.store_gradient(&mut element, truth);
                    elements.push(element);
                }
            }
            elements
        };
        KeyBlock {
            dk: of(&dk, &self.q.gradients.dk),
            dv: of(&dv, &self.q.gradients.dv),
            dv_rounded: rounded.map_or_else(Vec::new, |rounded| rounded.finish(self)),
        }
    }

    /// The entries of a row among some keys that count in the gradients: the visible ones, or what a mask keeps of them, or may
    /// keep.
    pub(super) fn entries(
        &self,
        row: Row,
        errors: &RowErrors,
        keys: &Keys<usize>,
    ) -> Vec<EntryError> {
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
                let either = self.q.ambiguous.map_or(&[][..], |all| &all[number]);
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
    fn key_entry<'a>(
        &'a self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        [dk, dv]: [&mut Sums; 2],
        key: &mut KeyTerms<'a>,
    ) {
        let (p, a) = (self.q.problem, &self.a);
        if let Some((of_ds, of_w)) = self.ambiguous(row, errors, e) {
            dk.add_errors(&[of_ds], &[p.q(row)]);
            dv.add_errors(&[of_w], &[p.g(row)]);
        }
        let Some(kept) = self.kept(errors, e, p.row_number(row)) else { return };
        let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
        let (dz, mut of_dk) = self.dz_terms(errors, e, &kept, ds, terms);
        let t = e.dp - errors.delta + p.dlse(row);
        add_row_terms(errors, &kept, t, e.slope, &mut of_dk);
        let (mut of_dv, lse, _) = self.weight_terms(errors, e, &kept);
        of_dv[Stage::Lse as usize] = lse;
        // Ranges treat the rounding of P apart.
        if !self.follows_p() {
            let of_p = a.narrow_scaled(self.q.recipe.p, kept.w * (1.0 + r));
            of_dv[Stage::P as usize] = Term::deterministic(of_p);
        }
        key.dk.push(dz, &of_dk, p.q(row));
        key.dv.push(kept.w, &of_dv, p.g(row));
    }

    /// What an entry that a kernel may keep or drop adds to the errors of `dS` and of `W~`: itself.
    fn ambiguous(&self, row: Row, errors: &RowErrors, e: &EntryError) -> Option<(Terms, Terms)> {
        let number = self.q.problem.row_number(row);
        let (all, sample) = (self.q.ambiguous?, self.q.sample?);
        all[number].binary_search(&(e.j as u32)).ok()?;
        let kept = self.sampled(errors, e, sample.lambda[number]);
        let (ds, terms, r) = self.ds_terms(row, errors, e, &kept);
        let spread = ds.abs() + terms.iter().map(|term| term.worst_case).sum::<f64>();
        let mut of_ds = Terms::default();
        of_ds[Stage::Mask as usize] = Term::deterministic(spread * (e.slope.abs() + e.slope_error));
        let mut of_w = Terms::default();
        of_w[Stage::Mask as usize] = Term::deterministic(kept.w * (1.0 + r));
        Some((of_ds, of_w))
    }

    /// The rounding of a result; the scale's own rounding is shared by all its terms.
    pub(super) fn store_gradient(&self, element: &mut Element, truth: f64) {
        let recipe = self.q.recipe;
        let scale = 2.0 * self.a.u * truth.abs();
        element.add(Stage::Sum as usize, scale, scale);
        element.store(truth, |x| recipe.output.rounding_error(x, recipe.flush_to_zero));
        if truth.abs() + element.worst_case >= recipe.output.overflow() {
            (element.worst_case, element.threshold) = (f64::INFINITY, f64::INFINITY);
        }
    }
}

/// Terms of one sum, in their order.
#[derive(Default)]
struct Batch<'a> {
    values: Vec<f64>,
    terms: Vec<Terms>,
    x: Vec<&'a [f64]>,
}

impl<'a> Batch<'a> {
    fn push(&mut self, value: f64, terms: &Terms, x: &'a [f64]) {
        self.values.push(value);
        self.terms.push(*terms);
        self.x.push(x);
    }

    fn add_to(&mut self, sums: &mut Sums) {
        sums.add(&self.values, &self.terms, &self.x);
        self.values.clear();
        self.terms.clear();
        self.x.clear();
    }
}

/// Terms of one key.
#[derive(Default)]
struct KeyTerms<'a> {
    dk: Batch<'a>,
    dv: Batch<'a>,
}

impl KeyTerms<'_> {
    fn add_to(&mut self, dk: &mut Sums, dv: &mut Sums) {
        self.dk.add_to(dk);
        self.dv.add_to(dv);
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::Packed;
    use super::super::{BoundsInput, Mode, Recipe, Truth};
    use super::*;
    use sus_corpus as cases;
    use sus_reference::sus::{Budget, Draw, Rule, Sampler, sample};

    /// `dk` and `dv` of all keys of one key head, one row after the other and one term after the other.
    fn plain(core: &Core<'_>, key_head: usize) -> [Vec<Element>; 2] {
        let p = core.q.problem;
        let (sizes, of_head) = (p.sizes(), p.group() * p.sizes().queries);
        let mut dk = vec![Sums::new(sizes.features); sizes.keys];
        let mut dv = vec![Sums::new(sizes.value_features); sizes.keys];
        let (mut rho, mut lses) = (0.0_f64, Vec::new());
        for number in key_head * of_head..(key_head + 1) * of_head {
            let row = p.row(number);
            let errors = core.row_errors(row, core.q.mode);
            rho = rho.max(libm::expm1(errors.largest_log()));
            lses.push(errors.lse);
            for e in &errors.entries {
                let mut terms = KeyTerms::default();
                let sums = [&mut dk[e.j], &mut dv[e.j]];
                core.key_entry(row, &errors, e, sums, &mut terms);
                terms.add_to(&mut dk[e.j], &mut dv[e.j]);
            }
            if row.i + 1 == sizes.queries {
                dk.iter_mut().chain(&mut dv).for_each(|sums| sums.end_head(&core.a));
            }
        }
        let tail = core.tail(rho, equal_rows(lses, core.a.u));
        let (b, h) = (key_head / sizes.key_heads, key_head % sizes.key_heads);
        let finish = |all: &[Sums], truth: &Tensor<f64>| {
            let of_key = |(j, sums): (usize, &Sums)| -> Vec<Element> {
                let truth = truth.row(b, h, j).iter().enumerate();
                let one = |(d, &truth)| {
                    let mut element = sums.element(d, &core.a, tail, 6);
                    if core.q.recipe.gqa == Gqa::Repeated && p.group() > 1 {
                        let more = sums.repeated(d, &core.a, p.group());
                        element.add(Stage::Store as usize, more, more);
                    }
                    core.store_gradient(&mut element, truth);
                    element
                };
                truth.map(one).collect()
            };
            all.iter().enumerate().flat_map(of_key).collect()
        };
        [finish(&dk, &core.q.gradients.dk), finish(&dv, &core.q.gradients.dv)]
    }

    /// Some visible entries of each row, as those that a kernel may keep or drop.
    fn every_fifth_entry(p: &sus_reference::problem::Problem<f64>) -> Vec<Vec<u32>> {
        let of = |i| p.mask().visible(i).filter(|j| (i + j) % 5 == 0).map(|j| j as u32).collect();
        (0..p.row_count()).map(|row| of(p.row(row).i)).collect()
    }

    /// All cases of the corpus (masks, groups, sinks, softcap, bias, cotangents, packed sequences), dense and sampled.
    #[test]
    fn rows_and_blocks_of_keys_have_the_bits_of_the_plain_order() {
        let (mut compared, mut either) = (0, 0);
        for case in cases::all() {
            let p = &case.problem;
            let saved = Truth::exact(p).unwrap().saved();
            let paper = Draw::paper(Budget::new(2.5).unwrap(), 3);
            let other = paper.with_rule(Rule::Calibrated).with_sampler(Sampler::Systematic);
            for name in ["f32", "flash-bf16", "eager-f16"] {
                let recipe = Recipe::built_in(name).unwrap();
                for draw in [None, Some(paper), Some(other)] {
                    let mask = draw.map(|draw| sample(p, &saved, &draw).unwrap());
                    let ambiguous = mask.is_some().then(|| every_fifth_entry(p));
                    let question = BoundsInput {
                        problem: p,
                        recipe: &recipe,
                        mode: if draw.is_none() { Mode::Given } else { Mode::Exact },
                        saved: &saved,
                        sample: mask.as_ref(),
                        ambiguous: ambiguous.as_deref(),
                        gradients: &Truth::given(p, &saved).unwrap().gradients(mask.as_ref()),
                    };
                    let core = Core { packed: None, ..Core::new(&question) };
                    let packed = Core { packed: Some(Packed::new(p)), ..Core::new(&question) };
                    let of_all = |row: Row| {
                        let errors = core.row_errors(row, question.mode);
                        core.dq_row(row, &errors, &errors.entries)
                    };
                    let (rows, dq) = packed.each_row(|row, errors| {
                        let all = 0..p.sizes().keys;
                        packed.dq_row(row, errors, &packed.entries(row, errors, &all))
                    });
                    let plain_dq = (0..p.row_count()).map(|at| of_all(p.row(at)));
                    assert!(plain_dq.eq(dq), "{}", case.name);
                    let blocks = packed.each_key_block(&rows, |block| [block.dk, block.dv]);
                    let heads = 0..p.sizes().batch * p.sizes().key_heads;
                    let heads: Vec<_> = heads.map(|head| plain(&core, head)).collect();
                    compared += heads.len();
                    for which in [0, 1] {
                        let found = blocks.iter().flat_map(|block| &block[which]);
                        let expected = heads.iter().flat_map(|head| &head[which]);
                        assert!(found.eq(expected), "{}", case.name);
                    }
                    either += ambiguous.map_or(0, |of| of.iter().map(Vec::len).sum());
                }
            }
        }
        assert!(compared > 100 && either > 10, "{compared} heads, {either} ambiguous entries");
    }
}
