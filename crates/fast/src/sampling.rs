//! The forward pass and the draw of the mask in one pass.

use super::backend::{Backend, sample_backend};
use super::decide::Decider;
use super::draw::{Drawing, TileDraw};
use super::forward::run;
use super::lse_lower_bound::LseLowerBounds;
use super::passes::{Workspace, blank_saved, forward, in_pool};
use super::score_error::{largest_magnitude, largest_norm};
use super::simd::Real;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::sample::uniforms;
use sus_reference::sus::{Draw, Pattern, Sample, sample};

/// The forward pass in the arithmetic of `T`, the mask of `exact`, and which path drew it.
///
/// The mask is that of [`sample`](fn@sus_reference::sus::sample) from the plain forward pass of `exact`, whatever `T`. Its
/// `expected` counts are the same but for rounding, of `T` where the path is fast.
///
/// # Errors
/// Those of [`sample`](fn@sus_reference::sus::sample).
///
/// # Panics
/// If `problem` is not `exact` in another type.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_fast::{Dispatch, Workspace, forward_and_sample};
/// use sus_reference::sus::{Budget, Draw, sample};
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mut workspace = Workspace::new(Dispatch::default());
/// let (_, fast, _) = forward_and_sample(&problem, &problem.cast::<f32>()?, &draw, &mut workspace)?;
/// let plain = sample(&problem, &sus_reference::forward::forward(&problem), &draw)?;
/// assert_eq!(fast.pattern, plain.pattern);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn forward_and_sample<T: Real>(
    exact: &Problem<f64>,
    problem: &Problem<T>,
    draw: &Draw,
    workspace: &mut Workspace<T>,
) -> Result<(Saved<T>, Sample, Backend), Error> {
    assert_eq!(exact.sizes(), problem.sizes(), "the same problem in two types");
    let path = sample_backend::<T>(exact, draw);
    if path == Backend::Fast {
        let (saved, sample) =
            in_pool(|| T::forward_and_sample(exact, problem, draw, 1.0, workspace))?;
        return Ok((saved, sample, path));
    }
    let saved = forward(problem, workspace);
    let sample = sample(exact, &sus_reference::forward::forward(exact), draw)?;
    Ok((saved, sample, path))
}

/// Both in one pass; `widen` multiplies the bound of the weights' errors.
pub(super) fn one_pass<T: Real>(
    exact: &Problem<f64>,
    problem: &Problem<T>,
    draw: &Draw,
    widen: f64,
    workspace: &mut Workspace<T>,
) -> Result<(Saved<T>, Sample), Error> {
    let uniforms = uniforms(exact, draw)?;
    let sizes = exact.sizes();
    let size = (sizes.keys * sizes.features).max(1);
    let heads = exact.inputs().k.as_slice().chunks(size);
    let mut key_norms: Vec<f64> = heads.map(|k| largest_norm(k, sizes.features)).collect();
    key_norms.resize(sizes.batch * sizes.key_heads, 0.0); // no keys, no norms
    let all = largest_magnitude(exact);
    let lse_lower_bounds = LseLowerBounds::new(exact, all);
    let dispatch = workspace.dispatch;
    let drawing = Drawing {
        decider: Decider { exact, draw, uniforms: &uniforms, dispatch, widen },
        key_norms: &key_norms,
        bias: all.bias,
        lse_lower_bounds: lse_lower_bounds.as_ref(),
        slack: libm::exp(all.log_error(T::ROUNDOFF) * widen),
    };
    let mut saved = blank_saved(problem);
    let results = (saved.o.as_mut_slice(), saved.lse.as_mut_slice());
    let keys = &mut workspace.dense.keys;
    let tiles = run(dispatch, problem, keys, results, Some(drawing));
    Ok((saved, joined(problem, draw, tiles)?))
}

/// The tiles' draws as one mask.
fn joined<T: Real>(
    problem: &Problem<T>,
    draw: &Draw,
    tiles: Vec<TileDraw>,
) -> Result<Sample, Error> {
    let rows = problem.row_count();
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut columns = Vec::with_capacity(tiles.iter().map(|tile| tile.columns.len()).sum());
    let mut expected = Vec::with_capacity(rows);
    let mut sum = 0;
    offsets.push(0);
    for tile in tiles {
        columns.extend_from_slice(&tile.columns);
        expected.extend_from_slice(&tile.expected);
        offsets.extend(tile.counts.iter().map(|&count| {
            sum += count as usize;
            sum
        }));
    }
    let pattern = Pattern::new(rows, problem.sizes().keys, offsets, columns)?;
    Ok(Sample { pattern, lambda: vec![draw.c.get(); rows], expected })
}
