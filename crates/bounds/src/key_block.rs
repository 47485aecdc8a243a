//! The bounds of `dk` and `dv`, by blocks of keys. Section 6.2 of `docs/bounds.md`.
//!
//! The rows come without their entries, so that memory grows with the rows and the keys and not with their product. The
//! entries that count are computed again: all of a dense pass, those of a mask. The terms of an element are added in the
//! order of its rows, whatever the blocks and the threads.

use super::context::BoundContext;
use super::ds::{DzErrors, add_row_terms};
use super::limits::{KEYS, ROWS};
use super::range::RoundingRange;
use super::recipe::Product;
use super::rounded_dv::RoundedDv;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::store::tiles_of;
use super::sums::{ElementError, Sums, Tail, TermBatch, only};
use super::term::Term;
use super::weight::WeightErrors;
use rayon::prelude::*;
use std::ops::Range;
use sus_reference::problem::Row;
use sus_reference::tensor::Tensor;

/// The bounds of a block of keys.
pub(super) struct KeyBlock {
    pub(super) dk: Vec<ElementError>,
    pub(super) dv: Vec<ElementError>,
    /// Of the gradient of keys whose first features are the values.
    pub(super) dkv: Option<Vec<ElementError>>,
    /// Of a `dv` from weights whose rounding is known.
    pub(super) dv_rounded: Vec<RoundingRange>,
}

impl BoundContext<'_> {
    /// Section 6.2: the results of `make` for each block of keys, in their order, given the rows without their entries.
    pub(super) fn each_key_block<T: Send>(
        &self,
        rows: &[RowErrors],
        make: impl Fn(KeyBlock) -> T + Sync,
    ) -> Vec<T> {
        let p = self.input.problem;
        let (sizes, of_head) = (p.sizes(), p.group() * p.sizes().queries);
        let rows = |head: usize| &rows[head * of_head..(head + 1) * of_head];
        // Sections 3.3 and 3.4: rows with equal lse round alike.
        let tail = |head: usize| {
            let rho = rows(head).iter().map(|errors| libm::expm1(errors.largest_log()));
            let lses = rows(head).iter().map(|errors| errors.lse).collect();
            self.tail(rho.fold(0.0, f64::max), self.equal_rows(lses))
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
        let sizes = self.input.problem.sizes();
        sizes.batch * sizes.key_heads * sizes.keys.div_ceil(KEYS)
    }

    /// `dk` and `dv` of some keys of a key head, counted over the batch.
    fn key_block(
        &self,
        rows: &[RowErrors],
        key_head: usize,
        keys: Range<usize>,
        tail: Tail,
    ) -> KeyBlock {
        let p = self.input.problem;
        let sizes = p.sizes();
        let mut dk = vec![Sums::new(sizes.features); keys.len()];
        let mut dv = vec![Sums::new(sizes.value_features); keys.len()];
        let mut rounded =
            self.follows_p().then(|| RoundedDv::new(keys.clone(), sizes.value_features));
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
            // Section 6.4.
            for sums in dk.iter_mut().chain(&mut dv) {
                sums.end_head(&self.roundoff);
            }
            if let Some(rounded) = &mut rounded {
                rounded.end_head(&self.roundoff);
            }
        }
        let (b, h) = (key_head / sizes.key_heads, key_head % sizes.key_heads);
        let of = |all: &[Sums], truth: &Tensor<f64>, tiles: usize| {
            let mut elements = Vec::new();
            for (sums, j) in all.iter().zip(keys.clone()) {
                let truth = truth.row(b, h, j).iter().enumerate();
                let stored =
                    |(d, &truth): (usize, &f64)| self.stored_key_sum(sums, d, tail, truth, tiles);
                elements.extend(truth.map(stored));
            }
            elements
        };
        // The rows of each query head are a range of their own.
        let tiles = |tile: usize| p.group() * tiles_of(p.whole_sizes().queries, tile);
        let dk = of(&dk, &self.input.gradients.dk, tiles(self.input.recipe.running_dk));
        let dv = of(&dv, &self.input.gradients.dv, tiles(self.input.recipe.running_dv));
        let truth = self.input.gradients.dkv.as_ref();
        let joined = |j: usize| truth.map_or(&[][..], |truth| truth.row(b, h, j));
        let truth_of_keys: Vec<f64> = keys.clone().flat_map(|j| joined(j).to_vec()).collect();
        KeyBlock {
            dkv: truth.map(|_| self.joined_keys(&dk, &dv, &truth_of_keys)),
            dk,
            dv,
            dv_rounded: rounded.map_or_else(Vec::new, |rounded| rounded.finish(self)),
        }
    }

    /// Section 6.2: `dk`, and `dv` in its first features, each as it is stored, and the rounding of their sum.
    fn joined_keys(
        &self,
        dk: &[ElementError],
        dv: &[ElementError],
        truth: &[f64],
    ) -> Vec<ElementError> {
        let sizes = self.input.problem.sizes();
        let mut joined = dk.to_vec();
        for (at, (element, &truth)) in joined.iter_mut().zip(truth).enumerate() {
            let (key, d) = (at / sizes.features, at % sizes.features);
            if d < sizes.value_features {
                element.join(&dv[key * sizes.value_features + d]);
            }
            self.store_gradient(element, truth);
        }
        joined
    }

    /// Section 6.2: the share of one entry in the `dk` and the `dv` of its key.
    fn key_entry<'a>(
        &'a self,
        row: Row,
        errors: &RowErrors,
        e: &EntryError,
        [dk, dv]: [&mut Sums; 2],
        key: &mut KeyTerms<'a>,
    ) {
        let (p, a) = (self.input.problem, &self.roundoff);
        if let Some(whole) = self.ambiguous(row, errors, e) {
            dk.add_errors(&[only(Stage::Mask, whole.dz)], &[p.q(row)]);
            dv.add_errors(&[only(Stage::Mask, whole.w.times(e.dropout))], &[p.g(row)]);
        }
        let Some(kept) = self.kept(errors, e, p.row_number(row)) else { return };
        let of_weight = self.weight_terms(errors, e, &kept);
        let of_ds = self.ds_terms(row, errors, e, &kept, &of_weight);
        let relative = of_ds.relative;
        let DzErrors { dz, terms: mut of_dk, largest } = self.dz_terms(errors, e, &kept, &of_ds);
        // Section 4.9: the conversions of q and G.
        if let Some(of_q) = self.operands.change(p, Product::Dk, row, e.j) {
            key.dk.push_error(Stage::Ds, largest, of_q);
        }
        if let Some(of_g) = self.operands.change(p, Product::Dv, row, e.j) {
            let most = kept.w * (1.0 + relative);
            let weight = (most + a.p(most, errors.lse)) * e.dropout;
            key.dv.push_error(Stage::P, weight, of_g);
        }
        let t = e.dp - errors.delta + p.dlse(row);
        add_row_terms(errors, &kept, t, e.slope, &mut of_dk);
        let WeightErrors { terms: mut of_dv, lse, .. } = of_weight;
        of_dv[Stage::Lse as usize] = lse;
        // The ranges of dv count the rounding of P apart. Section 7.2.
        if !self.follows_p() {
            let most = kept.w * (1.0 + relative);
            let of_p = a.p(most, errors.lse) + a.of_division(most);
            of_dv[Stage::P as usize] = Term::deterministic(of_p);
        }
        if p.options().dropout.is_some() {
            let most = kept.w * (1.0 + relative);
            let of_z = a.of_dropout(p) * kept.w * (1.0 + relative) + a.stored_again(p, most);
            of_dv[Stage::P as usize] = of_dv[Stage::P as usize].plus(Term::deterministic(of_z));
            of_dv = of_dv.map(|term| term.times(e.dropout));
        }
        key.dk.push(dz, &of_dk, p.q(row));
        key.dv.push(kept.w * e.dropout, &of_dv, p.g(row));
    }
}

/// Terms of one key.
#[derive(Default)]
struct KeyTerms<'a> {
    dk: TermBatch<'a>,
    dv: TermBatch<'a>,
}

impl KeyTerms<'_> {
    fn add_to(&mut self, dk: &mut Sums, dv: &mut Sums) {
        self.dk.add_to(dk);
        self.dv.add_to(dv);
    }
}

#[cfg(test)]
mod tests {
    use super::super::operands::Operands;
    use super::super::score::Packed;
    use super::super::{BoundsInput, Mode, Recipe, Truth};
    use super::*;
    use sus_reference::sus::{Budget, Draw, Rule, Sampler, sample};

    /// `dk` and `dv` of all keys of one key head, one row after the other and one term after the other.
    fn in_plain_order(context: &BoundContext<'_>, key_head: usize) -> [Vec<ElementError>; 2] {
        let p = context.input.problem;
        let (sizes, of_head) = (p.sizes(), p.group() * p.sizes().queries);
        let mut dk = vec![Sums::new(sizes.features); sizes.keys];
        let mut dv = vec![Sums::new(sizes.value_features); sizes.keys];
        let (mut rho, mut lses) = (0.0_f64, Vec::new());
        for number in key_head * of_head..(key_head + 1) * of_head {
            let row = p.row(number);
            let errors = context.row_errors(row, context.input.mode);
            rho = rho.max(libm::expm1(errors.largest_log()));
            lses.push(errors.lse);
            for e in &errors.entries {
                let mut terms = KeyTerms::default();
                let sums = [&mut dk[e.j], &mut dv[e.j]];
                context.key_entry(row, &errors, e, sums, &mut terms);
                terms.add_to(&mut dk[e.j], &mut dv[e.j]);
            }
            if row.i + 1 == sizes.queries {
                dk.iter_mut().chain(&mut dv).for_each(|sums| sums.end_head(&context.roundoff));
            }
        }
        let tail = context.tail(rho, context.equal_rows(lses));
        let (b, h) = (key_head / sizes.key_heads, key_head % sizes.key_heads);
        let finish = |all: &[Sums], truth: &Tensor<f64>| {
            let of_key = |(j, sums): (usize, &Sums)| -> Vec<ElementError> {
                let truth = truth.row(b, h, j).iter().enumerate();
                truth.map(|(d, &truth)| context.stored_key_sum(sums, d, tail, truth, 0)).collect()
            };
            all.iter().enumerate().flat_map(of_key).collect()
        };
        [finish(&dk, &context.input.gradients.dk), finish(&dv, &context.input.gradients.dv)]
    }

    /// Some visible entries of each row, as those that a kernel may keep or drop.
    fn every_fifth_entry(p: &sus_reference::problem::Problem<f64>) -> Vec<Vec<u32>> {
        let of = |i| p.mask().span(0, i).filter(|j| (i + j) % 5 == 0).map(|j| j as u32).collect();
        (0..p.row_count()).map(|row| of(p.row(row).i)).collect()
    }

    /// All cases of the corpus (masks, groups, sinks, softcap, bias, cotangents, packed sequences), dense and sampled.
    #[test]
    fn rows_and_blocks_of_keys_have_the_bits_of_the_plain_order() {
        let (mut compared, mut entries) = (0, 0);
        for case in sus_corpus::all() {
            let p = &case.problem;
            let saved = Truth::exact(p).unwrap().saved();
            let paper = Draw::paper(Budget::new(2.5).unwrap(), 3);
            let other = paper.with_rule(Rule::Calibrated).with_sampler(Sampler::Systematic);
            for name in ["f32", "tf32", "flash-bf16", "eager-f16"] {
                let recipe = Recipe::built_in(name).unwrap();
                for draw in [None, Some(paper), Some(other)] {
                    let mask = draw.map(|draw| sample(p, &saved, &draw).unwrap());
                    let ambiguous = mask.is_some().then(|| every_fifth_entry(p));
                    let input = BoundsInput {
                        problem: p,
                        recipe: &recipe,
                        mode: if draw.is_none() { Mode::Given } else { Mode::Exact },
                        saved: &saved,
                        sample: mask.as_ref(),
                        ambiguous: ambiguous.as_deref(),
                        gradients: &Truth::given(p, &saved).unwrap().gradients(mask.as_ref()),
                    };
                    let operands = Operands::unpacked(p, &recipe);
                    let of_panels = Operands { packed: Some(Packed::new(p)), ..operands.clone() };
                    let [context, packed] = [operands, of_panels]
                        .map(|operands| BoundContext { operands, ..BoundContext::new(&input) });
                    let of_all = |row: Row| {
                        let errors = context.row_errors(row, input.mode);
                        context.dq_row(row, &errors, &errors.entries)
                    };
                    let (rows, dq) = packed.each_row(|row, errors| {
                        let all = 0..p.sizes().keys;
                        packed.dq_row(row, errors, &packed.entries(row, errors, &all))
                    });
                    let plain_dq = (0..p.row_count()).map(|at| of_all(p.row(at)));
                    assert!(plain_dq.eq(dq), "{}", case.name);
                    let blocks = packed.each_key_block(&rows, |block| [block.dk, block.dv]);
                    let heads = 0..p.sizes().batch * p.sizes().key_heads;
                    let heads: Vec<_> = heads.map(|head| in_plain_order(&context, head)).collect();
                    compared += heads.len();
                    for which in [0, 1] {
                        let found = blocks.iter().flat_map(|block| &block[which]);
                        let expected = heads.iter().flat_map(|head| &head[which]);
                        assert!(found.eq(expected), "{}", case.name);
                    }
                    entries += ambiguous.map_or(0, |of| of.iter().map(Vec::len).sum());
                }
            }
        }
        assert!(compared > 100 && entries > 10, "{compared} heads, {entries} ambiguous entries");
    }
}
