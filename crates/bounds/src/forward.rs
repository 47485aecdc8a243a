//! The bounds of `o` and `lse`. Sections 4.6 and 4.7 of `docs/bounds.md`.

use super::context::BoundContext;
use super::limits::TERMS;
use super::recipe::Product;
use super::row::RowErrors;
use super::score::EntryError;
use super::stage::Stage;
use super::sums::{ElementError, Sums, only};
use super::term::Term;
use std::borrow::Cow;
use sus_reference::problem::{Problem, Row};

/// `Z_j v_j`.
fn dropped<'a>(p: &'a Problem<f64>, row: Row, e: &EntryError) -> Cow<'a, [f64]> {
    let v = p.v(row, e.j);
    match p.options().dropout {
        None => Cow::Borrowed(v),
        Some(_) => v.iter().map(|v| e.dropout * v).collect(),
    }
}

impl BoundContext<'_> {
    /// Section "o".
    pub(super) fn o_row(&self, row: Row, errors: &RowErrors) -> Vec<ElementError> {
        let (p, a, recipe) = (self.input.problem, &self.roundoff, self.input.recipe);
        let o = self.input.saved.o.row(row.b, row.h, row.i);
        // Section 4.7: sum W_j t_j (v_j - o) / (1 + sum W_j t_j).
        let mut sums = Sums::of_values(&errors.of_o, errors.entries.len());
        let divisor = 1.0 - errors.weight_error;
        let amplify = if divisor > 0.0 { 1.0 / divisor } else { f64::INFINITY };
        let (mut terms, mut away) = (Vec::new(), Vec::new());
        for entries in errors.entries.chunks(TERMS) {
            let values: Vec<Cow<'_, [f64]>> = entries.iter().map(|e| dropped(p, row, e)).collect();
            let x: Vec<&[f64]> = values.iter().map(|v| &**v).collect();
            // max(u_h W, eta) |v|: the rounding of P acts on v and not on v - o, as the denominator has none.
            if a.is_narrow(recipe.p) || !recipe.row_maximum {
                let of_p = |e: &EntryError| Term::deterministic(a.p(e.w, errors.lse) * amplify);
                terms.clear();
                terms.extend(entries.iter().map(|e| only(Stage::P, of_p(e))));
                sums.add_errors(&terms, &x);
            }
            // Section 4.9: the conversion of v, times the weight with its rounding.
            for e in entries {
                let Some(of_v) = self.operands.change(p, Product::O, row, e.j) else { continue };
                let weight = (e.w + a.p(e.w, errors.lse)) * e.dropout * amplify;
                sums.add_errors(&[only(Stage::P, Term::deterministic(weight))], &[of_v]);
            }
            // The factor of dropout and its product.
            if p.options().dropout.is_some() {
                let of_z = |e: &EntryError| {
                    let stored = a.stored_again(p, e.w) * amplify;
                    Term::deterministic(e.w * a.of_dropout(p) * amplify + stored)
                };
                terms.clear();
                terms.extend(entries.iter().map(|e| only(Stage::P, of_z(e))));
                sums.add_errors(&terms, &x);
            }
            terms.clear();
            for e in entries {
                let log = e.log.plus(errors.rescale);
                let relative = Term {
                    worst_case: libm::expm1(log.worst_case + e.log_stored) * amplify,
                    ..log
                };
                let mut of_score = relative.times(e.w);
                of_score.worst_case -= e.w * e.log_stored;
                // Section 3.4: the second order of the threshold.
                let first = log.threshold(self.lambda) + e.log_stored;
                of_score.deterministic += e.w * (libm::expm1(first) - first);
                let mut of_entry = only(Stage::Score, of_score);
                of_entry[Stage::ScoreStore as usize] = Term::deterministic(e.w * e.log_stored);
                terms.push(of_entry);
            }
            away.clear();
            for v in &x {
                away.extend(v.iter().zip(o).map(|(v, o)| v - o));
            }
            let away: Vec<&[f64]> = away.chunks(o.len().max(1)).collect();
            sums.add_errors(&terms, &away);
        }
        // The sink has the value 0: its difference from o is -o.
        if let Some((w, log)) = errors.sink {
            let of_sink = log.plus(errors.rescale).times(w * amplify);
            sums.add_errors(&[only(Stage::Score, of_sink)], &[o]);
        }
        let tail = self.tail(libm::expm1(errors.largest_log()), errors.multiplicity);
        // The rescalings and the division, beyond one rounding for each entry.
        let more = errors.forward_roundings - errors.entries.len();
        (0..o.len())
            .map(|d| {
                let mut element = sums.element(d, a, tail, more);
                // The denominator's sum, and the division.
                let of_sum = Term {
                    worst_case: a.gamma(errors.forward_roundings) * amplify,
                    sub_gaussian: a.u * libm::sqrt(errors.forward_roundings as f64),
                    deterministic: 0.0,
                };
                let of_sum = of_sum.times(o[d].abs());
                element.add(Stage::Sum as usize, of_sum.worst_case, self.threshold(of_sum));
                element.store(o[d], |x| recipe.o.rounding_error(x, recipe.flush_to_zero));
                element
            })
            .collect()
    }

    /// Section "lse".
    pub(super) fn lse_row(&self, errors: &RowErrors) -> ElementError {
        let recipe = self.input.recipe;
        let mut element = ElementError::default();
        if errors.lse == f64::NEG_INFINITY {
            return element;
        }
        element.add(
            Stage::Lse as usize,
            errors.lse_error.worst_case,
            self.threshold(errors.lse_error),
        );
        element.store(errors.lse, |x| recipe.lse.rounding_error(x, recipe.flush_to_zero));
        element
    }
}
