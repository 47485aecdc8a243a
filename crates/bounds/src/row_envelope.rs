//! The errors of `lse` and of `delta` in a row from norms and three sums, in place of all of its entries. Section 6.10 of
//! `docs/bounds.md`.
//!
//! The bounds of some keys need these two errors of every row that sees them. By entries they cost as much as the bounds of the
//! rows themselves; here they cost a few times a forward pass, and are wider.

use super::context::BoundContext;
use super::input::BoundsInput;
use super::limits::TERMS;
use super::operands::{Operands, converts};
use super::progress::Progress;
use super::recipe::Recipe;
use super::roundoff::Products;
use super::row::{Envelope, Mode, RowErrors, RowRoundoff, row_errors_of};
use super::score::{EntryError, Scores, exponential};
use super::simd::RunningSums;
use rayon::prelude::*;
use sus_fast::Dispatch;
use sus_fast::entries::RowEntries;
use sus_reference::evaluation::visible_count;
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::moments::RowEntry;
use sus_reference::tensor::{Tensor, dot};

/// Rows whose entries are made together: the block of the kernels.
const TOGETHER: usize = 6;

/// The sums of the kernels err by less than `(n + 200) 2^-53` of their absolute terms, all positive: `1e-9` for `n` up to `2^22`.
const SLACK: f64 = 1.0 + 1e-9;

/// Whether [`summaries_by_norms`] covers a problem at a recipe: scores are `scale q . k` alone, operands are not converted, and no
/// score is stored in a narrow format.
#[must_use]
pub fn has_row_envelopes(problem: &Problem<f64>, recipe: &Recipe) -> bool {
    let (options, inputs) = (problem.options(), problem.inputs());
    let plain =
        options.softcap.is_none() && options.dropout.is_none() && options.key_sets.is_empty();
    let without = inputs.bias.is_none() && inputs.sink.is_none() && inputs.alibi_slopes.is_none();
    let narrow =
        |format: super::format::Format| format.precision() < recipe.accumulator.precision();
    let wide = !narrow(recipe.elementwise) && !narrow(recipe.shifted);
    let usual = recipe.row_maximum && recipe.normalised_p && !converts(recipe);
    plain && without && wide && usual && problem.sizes().keys < 1 << 22
}

/// Upper bounds of [`summaries_of`](super::summaries_of), for a problem that [`has_row_envelopes`] covers, dense and in mode `exact`.
#[must_use]
pub fn summaries_by_norms(input: &BoundsInput<'_>, progress: &dyn Progress) -> Vec<RowErrors> {
    let p = input.problem;
    let sizes = p.sizes();
    progress.stage("errors of the rows", visible_count(p));
    let context =
        BoundContext { operands: Operands::unpacked(p, input.recipe), ..BoundContext::new(input) };
    let entries = RowEntries::new(Dispatch::Native, p, input.saved);
    let norms = |x: &Tensor<f64>| -> Vec<f64> {
        let [batch, heads, n, width] = x.shape();
        let head = |at: usize| {
            let rows = (0..n).map(|j| norm(x.row(at / heads, at % heads, j)));
            rows.fold(0.0, f64::max)
        };
        debug_assert!(width > 0);
        (0..batch * heads).map(head).collect()
    };
    let (keys, values) = (norms(&p.inputs().k), norms(&p.inputs().v));
    let of_head = sizes.queries.div_ceil(TOGETHER);
    let block = |at: usize| -> Vec<RowErrors> {
        let (head, first) = (at / of_head, at % of_head * TOGETHER);
        let (b, h) = (head / sizes.query_heads, head % sizes.query_heads);
        let rows = first..(first + TOGETHER).min(sizes.queries);
        let mut lists: Vec<Vec<RowEntry<f64>>> = vec![Vec::new(); rows.len()];
        entries.rows_into((b, h), rows.clone(), &mut lists);
        progress.done(lists.iter().map(|list| list.len() as u64).sum());
        let key_head = b * sizes.key_heads + p.key_head(h);
        let largest = [keys[key_head], values[key_head]];
        let one = |(list, i): (&Vec<RowEntry<f64>>, usize)| {
            let row = Row { b, h, i };
            row_summary(&context, row, list, largest)
        };
        lists.iter().zip(rows).map(one).collect()
    };
    let blocks = sizes.batch * sizes.query_heads * of_head;
    (0..blocks).into_par_iter().map(block).collect::<Vec<_>>().into_iter().flatten().collect()
}

/// The running sums of `o`: of `W_ij v_je` by keys.
fn sums_of_o(p: &Problem<f64>, row: Row, entries: &[RowEntry<f64>]) -> RunningSums {
    let mut sums = RunningSums::new(p.sizes().value_features);
    let (mut values, mut x) = (Vec::new(), Vec::new());
    for entries in entries.chunks(TERMS) {
        values.clear();
        values.extend(entries.iter().map(|e| e.w));
        x.clear();
        x.extend(entries.iter().map(|e| p.v(row, e.j)));
        sums.add(&values, &x);
    }
    sums
}

fn norm(x: &[f64]) -> f64 {
    libm::sqrt(dot(x, x))
}

/// Section 6.10.
fn row_summary(
    context: &BoundContext<'_>,
    row: Row,
    entries: &[RowEntry<f64>],
    [key_norm, value_norm]: [f64; 2],
) -> RowErrors {
    let (input, a) = (context.input, &context.roundoff);
    let (p, saved, recipe) = (input.problem, input.saved, input.recipe);
    let lse = saved.lse.row(row.b, row.h, row.i)[0];
    if entries.is_empty() || !lse.is_finite() {
        return row_errors_of(p, saved, recipe, Mode::Exact, row, &context.operands)
            .without_entries();
    }
    let g = p.g(row);
    let delta = dot(g, saved.o.row(row.b, row.h, row.i));
    let shift = delta - p.dlse(row);
    // sum W |dP| and sum |dP|, with dP = t + delta - dlse.
    let (mut weighted, mut all) = (0.0, 0.0);
    for e in entries {
        let dp = (e.t + shift).abs();
        weighted += e.w * dp;
        all += dp;
    }
    // An entry whose errors are those of the largest score that any key may have (Cauchy-Schwarz), and of the largest dP.
    let most = |x: f64| Products { sum: x, abs: x, partial: x };
    let of_score = SLACK * norm(p.q(row)) * key_norm;
    let scores = Scores::new(p, a, &context.operands);
    let products = [most(of_score), most(SLACK * norm(g) * value_norm)];
    let e = scores.entry_of(row, 0, lse, products, None);
    let largest = e.s.abs();
    let s = if lse > 0.0 { -largest } else { largest };
    let log = e.log.plus(exponential(a, s, lse, largest));
    // sum W |dP - delta| <= sum W |dP| + |delta|: two entries of half the weight each, with dP of either sign, have both sums.
    let size = SLACK * weighted + delta.abs();
    let sums = sums_of_o(p, row, entries);
    let of_o = (0..g.len()).map(|d| sums.partial(d) + (SLACK - 1.0) * sums.abs(d)).collect();
    let dp_abs = g.iter().enumerate().map(|(d, g)| SLACK * g.abs() * sums.abs(d)).sum();
    let half = |dp: f64| EntryError { w: 0.5 * SLACK, dp, dp_abs, log, ..e };
    let count = entries.len();
    let envelope = Envelope { count, below_largest: lse.abs() + largest, of_o };
    let mut errors = RowErrors {
        entries: vec![half(size), half(-size)],
        visible: count,
        span: p.span(row).len(),
        // lse - ln n <= max s: a smaller one makes no entry vanish that counts.
        peak: lse - libm::log(count as f64) - 1e-9 * (lse.abs() + 1.0),
        largest_score: largest,
        largest_entry: log.worst_case + e.log_stored,
        // Both entries depend on each other: sub-Gaussian parameters add, whatever the entries of the row have in common (Minkowski).
        multiplicity: 2.0,
        lse,
        delta,
        ..RowErrors::default()
    };
    let roundoff = *a;
    let of_row =
        RowRoundoff { problem: p, saved, roundoff, row, largest, envelope: Some(&envelope) };
    of_row.forward(&mut errors, Mode::Exact);
    of_row.delta(&mut errors, Mode::Exact);
    // max(u_h W, eta) <= u_h W + eta for each entry: the first is in the sums already.
    if a.is_narrow(recipe.p) {
        let divisor = (1.0 - errors.weight_error).max(0.0);
        let underflow = recipe.p.underflow_error(recipe.flush_to_zero);
        errors.delta_stored += SLACK * underflow * all / divisor;
    }
    errors.multiplicity = count as f64;
    errors.without_entries()
}

#[cfg(test)]
mod tests {
    use super::super::{Progress, Silent, Truth, summaries_of};
    use super::*;
    use sus_reference::problem::{Inputs, Options};

    /// Random numbers of unit size: large scores, long rows, groups, a causal mask.
    fn problem(causal: bool, group: usize, size: f64) -> Problem<f64> {
        let x = |seed: f64, heads: usize, n: usize| {
            Tensor::from_fn([1, heads, n, 16], |[_, h, i, d]| {
                let at = seed + 12.9898 * i as f64 + 78.233 * d as f64 + 37.719 * h as f64;
                let x = 43_758.545 * libm::sin(at);
                size * 3.4 * (x - libm::floor(x) - 0.5)
            })
        };
        let inputs =
            Inputs::new(x(0.1, group, 150), x(0.2, 1, 170), x(0.3, 1, 170), x(0.4, group, 150));
        Problem::new(inputs, Options::default().with_causal(causal)).unwrap()
    }

    #[test]
    fn an_envelope_is_no_tighter_than_all_entries_and_not_much_wider() {
        let silent: &dyn Progress = &Silent;
        let mut widest = [0.0_f64; 2];
        for (causal, group, size) in
            [(false, 1, 1.0), (true, 2, 1.0), (true, 1, 0.1), (false, 1, 2.0)]
        {
            let p = problem(causal, group, size);
            for name in ["f32", "flash-bf16", "flash-f16"] {
                let recipe = Recipe::built_in(name).unwrap();
                assert!(has_row_envelopes(&p, &recipe), "{name}");
                let truth = Truth::exact(&p).unwrap();
                let (saved, gradients) = (truth.saved(), truth.gradients(None));
                let input = BoundsInput::dense(&p, &recipe, Mode::Exact, &saved, &gradients);
                let lambda = BoundContext::new(&input).lambda;
                let (all, found) =
                    (summaries_of(&input, silent), summaries_by_norms(&input, silent));
                assert_eq!(all.len(), found.len());
                for (exact, wide) in all.iter().zip(&found) {
                    let terms = |of: &RowErrors| [of.lse_error, of.delta_error];
                    for (exact, wide) in terms(exact).into_iter().zip(terms(wide)) {
                        assert!(exact.worst_case <= wide.worst_case);
                        assert!(exact.deterministic <= wide.deterministic);
                        assert!(exact.threshold(lambda) <= wide.threshold(lambda));
                    }
                    assert!(exact.delta_stored <= wide.delta_stored);
                    assert!(exact.largest_log() <= wide.largest_log());
                    assert!(exact.largest_score <= wide.largest_score && wide.peak <= exact.peak);
                    assert!((exact.lse, exact.delta) == (wide.lse, wide.delta));
                }
                let bounds = |rows: &[RowErrors]| super::super::key_bounds(&input, silent, rows);
                let (exact, wide) = (bounds(&all), bounds(&found));
                for (at, (exact, wide)) in
                    [(exact.0, wide.0), (exact.1, wide.1)].into_iter().enumerate()
                {
                    for (exact, wide) in exact.threshold.iter().zip(&wide.threshold) {
                        assert!(exact <= wide);
                        widest[at] = widest[at].max(wide / exact);
                    }
                }
            }
        }
        // Measured: 5.8 and 2.2.
        assert!(widest[0] < 6.0 && widest[1] < 2.5, "{widest:?}");
    }
}
