//! Masks: alignment, causality, windows, packed sequences, rows that see nothing.

use super::{BugType, define_kernels, only_if};
use crate::RunConfig;
use crate::simulated_kernel::Point;
use sus_files::TensorFile;
use sus_reference::mask::{Alignment, Mask, Window};
use sus_reference::problem::Options;

/// The backward pass with the mask of other options.
fn masked_by(config: &RunConfig<'_>, options: &Options) -> TensorFile {
    let Options { causal, alignment, window, segments, .. } = options.clone();
    let sizes = config.sizes();
    let mask = Mask::new(sizes.queries, sizes.keys, causal, alignment, window, segments)
        .expect("options of a legal problem");
    config.mutate(Point::Scores, |w| w.see(|row, j| mask.span(row.b, row.i).contains(&j)))
}

/// The launch's options with one thing changed.
fn changed(config: &RunConfig<'_>, change: impl FnOnce(&mut Options)) -> TensorFile {
    let mut options = config.problem.options().clone();
    change(&mut options);
    masked_by(config, &options)
}

define_kernels! { Some(BugType::Masks);
    /// The diagonal is aligned to the other corner.
    ["26"] [Dq, Dk, Dv, Dbias]
    fn alignment_of_other_corner(config) {
        let options = config.problem.options();
        only_if(options.causal || options.window.is_some())?;
        Some(changed(config, |options| options.alignment = match options.alignment {
            Alignment::BottomRight => Alignment::TopLeft,
            Alignment::TopLeft => Alignment::BottomRight,
        }))
    }
    /// The backward pass is causal, the forward pass is not.
    ["27"] [Dq, Dk, Dv, Dbias]
    fn always_causal(config) {
        only_if(!config.problem.options().causal)?;
        Some(changed(config, |options| options.causal = true))
    }
    /// The backward pass is not causal, the forward pass is.
    ["28"] [Dq, Dk, Dv, Dbias]
    fn never_causal(config) {
        only_if(config.problem.options().causal)?;
        Some(changed(config, |options| options.causal = false))
    }
    /// A window turns causality off as well, and is itself forgotten.
    ["28"] [Dq, Dk, Dv, Dbias]
    fn no_mask_with_a_window(config) {
        config.problem.options().window?;
        Some(changed(config, |options| (options.causal, options.window) = (false, None)))
    }
    /// The window is ignored.
    ["29"] [Dq, Dk, Dv, Dbias]
    fn window_ignored(config) {
        config.problem.options().window?;
        Some(changed(config, |options| options.window = None))
    }
    /// The window's left end is taken as exclusive.
    [] [Dq, Dk, Dv, Dbias]
    fn window_left_exclusive(config) {
        let Window { left, right } = config.problem.options().window?;
        let left = Some(left?.checked_sub(1)?);
        Some(changed(config, |options| options.window = Some(Window { left, right })))
    }
    /// The window reaches one key too far to the left.
    [] [Dq, Dk, Dv, Dbias]
    fn window_left_one_more(config) {
        let Window { left, right } = config.problem.options().window?;
        let left = Some(left? + 1);
        Some(changed(config, |options| options.window = Some(Window { left, right })))
    }
    /// The window's right end is taken as exclusive.
    [] [Dq, Dk, Dv, Dbias]
    fn window_right_exclusive(config) {
        let Window { left, right } = config.problem.options().window?;
        let right = Some(right?.checked_sub(1)?);
        Some(changed(config, |options| options.window = Some(Window { left, right })))
    }
    /// The window reaches one key too far to the right.
    [] [Dq, Dk, Dv, Dbias]
    fn window_right_one_more(config) {
        let Window { left, right } = config.problem.options().window?;
        only_if(!config.problem.options().causal)?;
        let right = Some(right? + 1);
        Some(changed(config, |options| options.window = Some(Window { left, right })))
    }
    /// Causal without the diagonal itself.
    [] [Dq, Dk, Dv, Dbias]
    fn diagonal_excluded(config) {
        only_if(config.problem.options().causal)?;
        let mask = config.problem.mask();
        Some(config.mutate(Point::Scores, |w| {
            let mut seen = w.seen.clone();
            for (at, _, row, j) in w.entries() {
                let visible = mask.span(row.b, row.i);
                seen[at] &= j + 1 != visible.end || visible.end == w.sizes.keys && row.i + 1 != w.sizes.queries;
            }
            w.seen = seen;
        }))
    }
    /// Packed sequences see each other.
    [] [Dq, Dk, Dv, Dbias]
    fn sequences_leak(config) {
        config.problem.options().segments.as_ref()?;
        Some(changed(config, |options| options.segments = None))
    }
    /// The diagonal of the whole pack serves every packed sequence.
    [] [Dq, Dk, Dv, Dbias]
    fn diagonal_of_whole_pack(config) {
        let options = config.problem.options();
        options.segments.as_ref()?;
        only_if(options.causal || options.window.is_some())?;
        let sizes = config.sizes();
        let free = Mask::new(sizes.queries, sizes.keys, false, options.alignment, None, options.segments.clone());
        let whole = Mask::new(sizes.queries, sizes.keys, options.causal, options.alignment, options.window, None);
        let (free, whole) = (free.ok()?, whole.ok()?);
        Some(config.mutate(Point::Scores, |w| {
            w.see(|row, j| free.span(row.b, row.i).contains(&j) && whole.span(row.b, row.i).contains(&j));
        }))
    }
    /// A tile that the mask cuts is treated as one that it does not.
    ["31"] [Dq, Dk, Dv, Dbias]
    fn partial_tile_counts_as_full(config) {
        let tile = 4;
        let mask = config.problem.mask();
        let queries = config.sizes().queries;
        let touched = |i: usize, j: usize| {
            let (first, key) = (i / tile * tile, j / tile * tile);
            (first..(first + tile).min(queries)).any(|i| {
                let visible = mask.span(0, i);
                visible.start < key + tile && visible.end > key && !visible.is_empty()
            })
        };
        Some(config.mutate(Point::Scores, |w| {
            let lse = w.lse.clone();
            w.entries().for_each(|(at, n, row, j)| w.seen[at] = lse[n].is_finite() && touched(row.i, j));
        }))
    }
    /// A row that sees no key divides 0 by 0: its `dq` is NaN.
    ["41"] [Dq]
    fn empty_row_is_nan(config) {
        Some(config.mutate(Point::Stored, |w| {
            let features = w.sizes.features;
            for (n, row) in w.rows() {
                if w.config.problem.visible_keys(row) == 0 {
                    w.dq.as_mut_slice()[n * features..][..features].fill(f64::NAN);
                }
            }
        }))
    }
    /// Masked scores are a finite number: a row that sees no key spreads its weight over all of them.
    ["33"] [Dq, Dk, Dv, Dbias]
    fn finite_sentinel(config) {
        only_if(config.draw.is_none())?;
        Some(config.mutate(Point::Weights, |w| {
            let even = w.fl(1.0 / w.sizes.keys as f64);
            w.entries().filter(|&(_, n, _, _)| w.lse[n] == f64::NEG_INFINITY).for_each(|(at, _, _, _)| w.p[at] = even);
        }))
    }
    /// The `lse` of a row that sees no key has the other sign: `exp(s + inf)` is infinite, and 0 times that is NaN.
    ["40"] [Dq, Dk, Dv, Dbias]
    fn infinity_of_other_sign(config) {
        only_if(config.draw.is_none())?;
        Some(config.mutate(Point::Weights, |w| {
            w.entries().filter(|&(_, n, _, _)| w.lse[n] == f64::NEG_INFINITY).for_each(|(at, _, _, _)| w.p[at] = f64::NAN);
        }))
    }
    /// The mask of query `j` and key `i`.
    [] [Dq, Dk, Dv, Dbias]
    fn mask_transposed(config) {
        let (queries, keys) = (config.sizes().queries, config.sizes().keys);
        only_if(queries == keys)?;
        let mask = config.problem.mask();
        Some(config.mutate(Point::Scores, |w| w.see(|row, j| mask.span(row.b, j).contains(&row.i))))
    }
}
