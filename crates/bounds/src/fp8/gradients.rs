//! `dq`, `dk` and `dv` from codes of `P` and `dS`, given the `o` that `delta` is made of. Sections 9.2 and 9.3.

use super::super::interval::Interval;
use super::super::known_o::U64;
use super::super::range::RoundingRange;
use super::super::roundoff::Products;
use super::super::row::RowErrors;
use super::super::score::EntryError;
use super::super::stage::Stage;
use super::super::store::GRADIENT_ROUNDINGS;
use super::super::term::Term;
use super::quantise::quantised;
use super::sums::{IntervalSums, Stored};
use super::{Fp8, PreparedRows, StoredRows};
use rayon::prelude::*;
use sus_reference::problem::Row;

/// Roundings of a term beyond those of other recipes: the operand is a stored number times a scale, and the code is divided by its
/// scale, whose reciprocal may be rounded first.
const ROUNDINGS_OF_SCALES: usize = 3;

impl Fp8<'_> {
    /// `dq` of some rows, one after the other; `o` are the numbers that the stored `o` of these rows may be.
    #[must_use]
    pub fn dq(&self, o: &[RoundingRange], rows: &PreparedRows) -> StoredRows {
        let p = self.context.input.problem;
        let width = p.sizes().value_features;
        let one = |(at, (row, errors)): (usize, &(Row, RowErrors))| {
            let errors = self.with_delta(*row, errors.clone(), &o[at * width..(at + 1) * width]);
            let mut sums = IntervalSums::new(p.sizes().features);
            for e in &errors.entries {
                sums.add(self.dz(*row, &errors, e, self.weight(&errors, e)), p.k(*row, e.j));
            }
            let mut stored = StoredRows::default();
            sums.stored(&self.context, &self.as_gradient(Stage::Ds, self.factor()), &mut stored);
            stored
        };
        StoredRows::concat(rows.rows.par_iter().enumerate().map(one).collect())
    }

    /// `dq`, `dk` and `dv`; `o` are the numbers that each element of the stored `o` may be.
    #[must_use]
    pub fn gradients(&self, o: &[RoundingRange]) -> [StoredRows; 3] {
        let p = self.context.input.problem;
        let s = p.sizes();
        let by = self.as_gradient(Stage::Ds, self.factor());
        let one = |head: usize| {
            let mut stored = [(); 3].map(|()| StoredRows::default());
            let mut dk = vec![IntervalSums::new(s.features); s.keys];
            let mut dv = vec![IntervalSums::new(s.value_features); s.keys];
            let of_head = p.group() * s.queries;
            for number in head * of_head..(head + 1) * of_head {
                let row = p.row(number);
                let at = number * s.value_features;
                let errors = self.context.row_errors(row, self.context.input.mode);
                let errors = self.with_delta(row, errors, &o[at..at + s.value_features]);
                let mut dq = IntervalSums::new(s.features);
                for e in &errors.entries {
                    let w = self.weight(&errors, e);
                    let dz = self.dz(row, &errors, e, w);
                    dq.add(dz, p.k(row, e.j));
                    dk[e.j].add(dz, p.q(row));
                    dv[e.j].add(self.dropped(self.code(w), e), p.g(row));
                }
                dq.stored(&self.context, &by, &mut stored[0]);
            }
            for (dk, dv) in dk.iter().zip(&dv) {
                dk.stored(&self.context, &by, &mut stored[1]);
                dv.stored(&self.context, &self.as_gradient(Stage::P, 1.0), &mut stored[2]);
            }
            stored
        };
        let heads: Vec<[StoredRows; 3]> =
            (0..s.batch * s.key_heads).into_par_iter().map(one).collect();
        let mut all = [(); 3].map(|()| Vec::new());
        for head in heads {
            all.iter_mut().zip(head).for_each(|(all, of_head)| all.push(of_head));
        }
        all.map(StoredRows::concat)
    }

    /// The errors of a row whose `delta` is `G . o` with an `o` in these ranges.
    fn with_delta(&self, row: Row, mut errors: RowErrors, o: &[RoundingRange]) -> RowErrors {
        let g = self.context.input.problem.g(row);
        let middle: Vec<f64> = o.iter().map(|o| f64::midpoint(o.least, o.most)).collect();
        let products = Products::of(g, &middle);
        let half: f64 = g.iter().zip(o).map(|(g, o)| g.abs() * (o.most - o.least) / 2.0).sum();
        // gamma_{E+1} of the kernel's own sum, of the sizes that o may have; E operations of f64 here.
        let mut sum = self.context.roundoff.sum(products, g.len(), 1);
        sum.worst_case += self.context.roundoff.gamma(g.len() + 1) * half;
        let own = (g.len() + 2) as f64 * U64 * (products.abs + half);
        errors.delta = products.sum;
        errors.delta_error = Term::deterministic(sum.worst_case + half + own);
        errors.delta_stored = 0.0;
        errors
    }

    /// `W` before it is rounded.
    pub(super) fn weight(&self, errors: &RowErrors, e: &EntryError) -> Interval {
        let kept = self.context.kept(errors, e, 0).expect("a dense pass keeps all");
        self.context.weight_interval(errors, e, &kept, self.of_lse)
    }

    /// `P` as the products read it.
    pub(super) fn code(&self, w: Interval) -> Interval {
        let recipe = self.context.input.recipe;
        quantised(w, recipe.p, recipe.p_scale, self.context.roundoff.u)
    }

    /// A `P` times the factor of dropout.
    pub(super) fn dropped(&self, p: Interval, e: &EntryError) -> Interval {
        if self.context.input.problem.options().dropout.is_none() {
            return p;
        }
        let of_z = self.context.roundoff.of_dropout(self.context.input.problem);
        let z = p.times(Interval::about(e.dropout, 0.0));
        z.widened(of_z * z.size())
    }

    /// `dS` as the products read it, but for the scale that comes after it.
    fn dz(&self, row: Row, errors: &RowErrors, e: &EntryError, w: Interval) -> Interval {
        let (recipe, u) = (self.context.input.recipe, self.context.roundoff.u);
        let mut ds = self.context.ds_interval(row, errors, e, w);
        if recipe.scaled_ds {
            // 2 u: the scale is rounded and multiplied.
            ds = ds.times(Interval::about(self.context.input.problem.scale(), 0.0));
            ds = ds.widened(2.0 * u * ds.size());
        }
        quantised(ds, recipe.ds, recipe.ds_scale, u)
    }

    /// The factor of the sums `dq` and `dk`.
    fn factor(&self) -> f64 {
        if self.context.input.recipe.scaled_ds { 1.0 } else { self.context.input.problem.scale() }
    }

    fn as_gradient(&self, stage: Stage, scale: f64) -> Stored {
        let (more, format) =
            (GRADIENT_ROUNDINGS + ROUNDINGS_OF_SCALES, self.context.input.recipe.output);
        Stored { stage, more, shared: 0.0, scale, format }
    }
}
