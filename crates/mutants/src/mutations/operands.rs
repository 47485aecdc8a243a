//! Masks by elements, blocks and lists; padding; dropout; slopes; values in the keys.

use super::{BugType, define_kernels, only_if};
use crate::RunConfig;
use crate::simulated_kernel::Point;
use sus_files::TensorFile;
use sus_reference::mask::{BlockMask, KeySet};
use sus_reference::problem::{Problem, Row};

/// The key set of this name.
fn set<'a>(config: &RunConfig<'a>, name: &str) -> Option<&'a KeySet> {
    config.problem.options().key_sets.iter().find(|set| set.name() == name)
}

/// Whether a set shows a key.
fn shows(problem: &Problem<f64>, set: &KeySet, row: Row, j: usize) -> bool {
    set.next_run(row, j..j + 1, &problem.sizes()).is_some()
}

/// The backward pass with another answer of the set of this name: `answer` of whether it shows a key.
fn with_other_set(
    config: &RunConfig<'_>,
    name: &str,
    answer: impl Fn(Row, usize, bool) -> bool,
) -> Option<TensorFile> {
    set(config, name)?;
    let problem = config.problem;
    Some(config.mutate(Point::Scores, |w| {
        w.see(|row, j| {
            let all = problem.options().key_sets.iter();
            let mut shown = all.map(|set| (set.name(), shows(problem, set, row, j)));
            let seen =
                shown.all(|(of, shown)| if of == name { answer(row, j, shown) } else { shown });
            problem.span(row).contains(&j) && seen
        });
    }))
}

define_kernels! { Some(BugType::Masks);
    /// The backward pass leaves out the mask by elements.
    [] [Dq, Dk, Dv, Dbias]
    fn attn_mask_ignored(config) {
        with_other_set(config, "attn_mask", |_, _, _| true)
    }
    /// The backward pass reads the mask by elements with the other truth value.
    [] [Dq, Dk, Dv, Dbias]
    fn attn_mask_inverted(config) {
        with_other_set(config, "attn_mask", |_, _, shown| !shown)
    }
    /// The backward pass leaves out the mask by blocks.
    [] [Dq, Dk, Dv, Dbias]
    fn block_mask_ignored(config) {
        with_other_set(config, "block_mask", |_, _, _| true)
    }
    /// The blocks of a row of blocks serve the column of blocks with its number, in `dk` and `dv`.
    [] [Dk, Dv]
    fn block_list_of_forward_pass(config) {
        let Some(KeySet::BlockMask(BlockMask { block: [m, n], .. })) = set(config, "block_mask") else { return None };
        let (blocks, problem) = (set(config, "block_mask")?, config.problem);
        let (queries, keys) = (config.sizes().queries, config.sizes().keys);
        Some(config.mutate(Point::Slopes, |w| {
            for (at, _, row, j) in w.entries() {
                let (i, key) = (j / n * m, row.i / m * n);
                if i >= queries || key >= keys || !shows(problem, blocks, Row { i, ..row }, key) {
                    (w.zk[at], w.wv[at]) = (0.0, 0.0);
                }
            }
        }))
    }
    /// The backward pass leaves out the lists of keys.
    [] [Dq, Dk, Dv, Dbias]
    fn indices_ignored(config) {
        with_other_set(config, "indices", |_, _, _| true)
    }
    /// `-1` in a list of keys is read as the last key.
    [] [Dq, Dk, Dv, Dbias]
    fn minus_one_is_last_key(config) {
        let last = config.sizes().keys.checked_sub(1)?;
        let Some(KeySet::Indices(indices)) = set(config, "indices") else { return None };
        only_if(indices.as_slice().iter().any(|&j| j < 0))?;
        with_other_set(config, "indices", |_, j, shown| shown || j == last)
    }
    /// The last place of a list of keys is read twice.
    [] [Dq, Dk, Dv, Dbias]
    fn last_listed_key_counts_twice(config) {
        set(config, "indices")?;
        let keys = config.sizes().keys;
        Some(config.mutate(Point::Slopes, |w| {
            for (n, row) in w.rows() {
                if let Some(j) = w.config.problem.visible(row).last() {
                    let at = n * keys + j;
                    for x in [&mut w.zq[at], &mut w.zk[at], &mut w.wv[at], &mut w.ds[at]] {
                        *x *= 2.0;
                    }
                }
            }
        }))
    }
    /// The backward pass takes the keys in the padding for keys.
    [] [Dq, Dk, Dv, Dbias]
    fn padded_keys_take_part(config) {
        let problem = config.problem;
        only_if(problem.options().lengths.as_ref()?.keys.is_some())?;
        Some(config.mutate(Point::Scores, |w| {
            w.see(|row, j| {
                let span = problem.span(row);
                let sees = |j| span.contains(&j) && !problem.hides(row, j);
                sees(j) || (problem.mask().is_padding_key(row.b, j) && !problem.is_padding(row))
            });
        }))
    }
    /// What stands in the padded rows reaches `dq`: it is NaN.
    [] [Dq]
    fn padded_rows_are_nan(config) {
        let problem = config.problem;
        only_if((0..problem.row_count()).any(|at| problem.is_padding(problem.row(at))))?;
        Some(config.mutate(Point::Stored, |w| {
            let features = w.sizes.features;
            for (n, row) in w.rows() {
                if problem.is_padding(row) {
                    w.dq.as_mut_slice()[n * features..][..features].fill(f64::NAN);
                }
            }
        }))
    }
    /// The backward pass has no dropout.
    [] [Dq, Dk, Dv, Dbias]
    fn dropout_ignored(config) {
        config.problem.options().dropout.as_ref()?;
        Some(config.mutate(Point::Saved, |w| w.has_dropout = false))
    }
    /// `dP` has the factor of dropout twice.
    [] [Dq, Dk, Dbias]
    fn dropout_scaled_twice(config) {
        config.problem.options().dropout.as_ref()?;
        Some(config.mutate(Point::Product, |w| {
            for (at, _, row, j) in w.entries() {
                w.dp[at] *= w.dropout(row, j);
            }
        }))
    }
    /// `dv` is summed with the mask of another query.
    [] [Dv]
    fn dropout_of_other_row_in_dv(config) {
        config.problem.options().dropout.as_ref()?;
        let queries = config.sizes().queries;
        only_if(queries > 1)?;
        Some(config.mutate(Point::Slopes, |w| {
            for (at, _, row, j) in w.entries() {
                w.wv[at] = w.wq[at] * w.dropout(Row { i: (row.i + 1) % queries, ..row }, j);
            }
        }))
    }
    /// `dkv` lacks the part of the values.
    [] [Dkv]
    fn dkv_without_values(config) {
        only_if(config.problem.options().v_of_k)?;
        Some(config.mutate(Point::Stored, |w| w.dkv = Some(w.dk.clone())))
    }
    /// The backward pass has the slope of the next head.
    [] [Dq, Dk, Dv, Dbias]
    fn slope_of_next_head(config) {
        let slopes = config.problem.inputs().alibi_slopes.as_ref()?.as_slice();
        let heads = config.sizes().query_heads;
        only_if(heads > 1)?;
        Some(config.mutate(Point::Scores, |w| {
            for (at, _, row, j) in w.entries() {
                let next = Row { h: (row.h + 1) % heads, ..row };
                let [own, other] = [row, next].map(|row| slopes[w.config.problem.slope_index(row)]);
                let distance: f64 = w.config.problem.alibi_distance(row, j);
                w.s[at] += (other - own) * distance;
            }
        }))
    }
    /// `dslopes` has the other sign.
    [] [Dslopes]
    fn dslopes_of_other_sign(config) {
        config.problem.inputs().alibi_slopes.as_ref()?;
        Some(config.mutate(Point::Stored, |w| w.dslopes = w.dslopes.as_ref().map(|slopes| slopes.map(|x| -x))))
    }
    /// `dbias` lacks the derivative of the softcap that comes after the bias.
    [] [Dbias]
    fn bias_after_softcap_in_dbias(config) {
        let options = config.problem.options();
        config.problem.inputs().bias.as_ref()?;
        only_if(options.bias_first && options.softcap.is_some())?;
        Some(config.mutate(Point::Slopes, |w| w.ds = w.dt.clone()))
    }
}
