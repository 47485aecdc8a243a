//! The passes: forward, dense backward, SUS backward; into new tensors or into given ones.

use super::backend::{Backend, backward_backend, sus_backward_backend};
use super::simd::{Dispatch, Real};
use super::{dense, product_rows, sparse};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use sus_reference::backward::{Gradients, joined, sink_gradient};
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::Sample;
use sus_reference::tensor::Tensor;

/// Memory that passes over problems of the same sizes use again and again.
///
/// # Examples
/// ```
/// use sus_fast::{Workspace, backward, forward};
/// let named = |name| sus_corpus::named(name).unwrap().problem;
/// // One workspace serves problems of any sizes, one after the other; what it held before changes nothing.
/// let mut workspace = Workspace::default();
/// for name in ["primes", "one_query", "primes"] {
///     let problem = named(name);
///     let saved = forward(&problem, &mut workspace);
///     assert_eq!(saved, forward(&problem, &mut Workspace::default()));
///     let gradients = backward(&problem, &saved, &mut workspace).0;
///     assert_eq!(gradients, backward(&problem, &saved, &mut Workspace::default()).0);
/// }
/// ```
#[derive(Debug, Default)]
pub struct Workspace<T: Real> {
    pub(super) dispatch: Dispatch,
    pub(super) dense: dense::Memory<T>,
    sparse: sparse::Memory<T>,
    delta: Vec<T>,
    /// The sums of each row for the gradient of its slope.
    of_slopes: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// An empty workspace for kernels that use these instructions.
    #[must_use]
    pub fn new(dispatch: Dispatch) -> Self {
        Workspace { dispatch, ..Workspace::default() }
    }
}

/// The forward pass.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_fast::{Dispatch, Workspace, forward};
/// let saved = forward(&problem, &mut Workspace::new(Dispatch::Portable));
/// let plain = sus_reference::forward::forward(&problem);
/// let pairs = saved.o.as_slice().iter().zip(plain.o.as_slice());
/// assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-13));
/// ```
#[must_use]
pub fn forward<T: Real>(problem: &Problem<T>, workspace: &mut Workspace<T>) -> Saved<T> {
    let mut saved = blank_saved(problem);
    forward_into(problem, &mut saved, workspace);
    saved
}

/// The forward pass, into tensors of the problem's sizes.
///
/// # Panics
/// If `saved` has other sizes than the problem.
///
/// # Examples
/// ```
/// use sus_fast::{Workspace, blank_saved, forward, forward_into};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let mut workspace = Workspace::default();
/// let mut saved = blank_saved(&problem);
/// saved.o.as_mut_slice().fill(f64::NAN); // every element is written
/// forward_into(&problem, &mut saved, &mut workspace);
/// assert_eq!(saved, forward(&problem, &mut workspace));
/// ```
pub fn forward_into<T: Real>(
    problem: &Problem<T>,
    saved: &mut Saved<T>,
    workspace: &mut Workspace<T>,
) {
    assert_eq!(saved.lse.as_slice().len(), problem.row_count(), "one lse per row");
    assert_eq!(saved.o.shape(), problem.inputs().g.shape(), "o has the shape of its cotangent");
    T::forward(problem, saved, workspace);
}

/// The kernels of the forward pass.
pub(super) fn run_forward<T: Real>(
    problem: &Problem<T>,
    saved: &mut Saved<T>,
    workspace: &mut Workspace<T>,
) {
    in_pool(|| {
        let results = (saved.o.as_mut_slice(), saved.lse.as_mut_slice());
        super::forward::run(workspace.dispatch, problem, &mut workspace.dense.keys, results, None)
    });
}

/// The dense backward pass, and which path it took.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::evaluation::relative_errors;
/// use sus_fast::{Dispatch, Workspace, backward, forward};
/// let mut workspace = Workspace::new(Dispatch::default());
/// let saved = forward(&problem, &mut workspace);
/// let (gradients, _path) = backward(&problem, &saved, &mut workspace);
/// let plain = sus_reference::backward::backward(&problem, &sus_reference::forward::forward(&problem));
/// assert!(relative_errors(&gradients, &plain).iter().all(|&(_, error)| error < 1e-13));
/// ```
#[must_use]
pub fn backward<T: Real>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    workspace: &mut Workspace<T>,
) -> (Gradients<T>, Backend) {
    let mut gradients = blank_gradients(problem);
    let path = backward_into(problem, saved, &mut gradients, workspace);
    (gradients, path)
}

/// The dense backward pass, into tensors of the problem's sizes.
///
/// # Panics
/// If `saved` or `gradients` has other sizes than the problem.
pub fn backward_into<T: Real>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    gradients: &mut Gradients<T>,
    workspace: &mut Workspace<T>,
) -> Backend {
    let path = backward_backend(problem);
    if path == Backend::Fast {
        T::backward(problem, saved, gradients, workspace);
    } else {
        *gradients = sus_reference::backward::backward(problem, saved);
    }
    path
}

/// The kernels of the dense backward pass.
pub(super) fn run_backward<T: Real>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    gradients: &mut Gradients<T>,
    workspace: &mut Workspace<T>,
) {
    in_pool(|| {
        delta_into(problem, saved, workspace);
        let Workspace { dispatch, dense, delta, of_slopes, .. } = workspace;
        of_slopes.resize(problem.row_count(), T::zero());
        let results = (slices(problem, gradients), &mut of_slopes[..]);
        dense::run(*dispatch, problem, saved, delta, dense, results);
        gradients.dslopes = slope_gradient(problem, of_slopes);
        gradients.dsink = sink_gradient(problem, saved, delta);
        gradients.dkv = joined_gradient(problem, gradients);
    });
}

/// The SUS backward pass, and which path it took.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_reference::sus::{Budget, Draw, sample};
/// let saved = sus_reference::forward::forward(&problem);
/// let draw = Draw::paper(Budget::new(4.0)?, 7);
/// let mask = sample(&problem, &saved, &draw)?;
/// use sus_reference::evaluation::relative_errors;
/// use sus_fast::{self as fast, Dispatch, Workspace};
/// let mut workspace = Workspace::new(Dispatch::default());
/// let (gradients, _path) = fast::sus_backward(&problem, &saved, &mask, &mut workspace);
/// let plain = sus_reference::sus::sus_backward(&problem, &saved, &mask);
/// assert!(relative_errors(&gradients, &plain).iter().all(|&(_, error)| error < 1e-13));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn sus_backward<T: Real>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    sample: &Sample,
    workspace: &mut Workspace<T>,
) -> (Gradients<T>, Backend) {
    let mut gradients = blank_gradients(problem);
    let path = sus_backward_into(problem, saved, sample, &mut gradients, workspace);
    (gradients, path)
}

/// The SUS backward pass, into tensors of the problem's sizes.
///
/// # Panics
/// If `saved`, `sample` or `gradients` has other sizes than the problem.
pub fn sus_backward_into<T: Real>(
    problem: &Problem<T>,
    saved: &Saved<T>,
    sample: &Sample,
    gradients: &mut Gradients<T>,
    workspace: &mut Workspace<T>,
) -> Backend {
    let path = sus_backward_backend(problem, sample);
    if path == Backend::Fast {
        T::sus_backward(problem, (saved, sample), gradients, workspace);
    } else {
        *gradients = sus_reference::sus::sus_backward(problem, saved, sample);
    }
    path
}

/// The kernels of the SUS backward pass.
pub(super) fn run_sus_backward<T: Real>(
    problem: &Problem<T>,
    (saved, sample): (&Saved<T>, &Sample),
    gradients: &mut Gradients<T>,
    workspace: &mut Workspace<T>,
) {
    in_pool(|| {
        let Workspace { dispatch, sparse, delta, of_slopes, .. } = workspace;
        blank_delta(problem, saved, delta);
        of_slopes.resize(problem.row_count(), T::zero());
        let results = (slices(problem, gradients), &mut of_slopes[..]);
        sparse::run(*dispatch, problem, (saved, sample), delta, sparse, results);
        gradients.dslopes = slope_gradient(problem, of_slopes);
        gradients.dsink = sink_gradient(problem, saved, delta);
        gradients.dkv = joined_gradient(problem, gradients);
    });
}

/// Zeros of the sizes of a forward pass.
#[must_use]
pub fn blank_saved<T: Real>(problem: &Problem<T>) -> Saved<T> {
    let [b, h, n, e] = problem.inputs().g.shape();
    Saved { o: Tensor::zeros([b, h, n, e]), lse: Tensor::zeros([b, h, n, 1]) }
}

/// Zeros of the sizes of the gradients.
#[must_use]
pub fn blank_gradients<T: Real>(problem: &Problem<T>) -> Gradients<T> {
    let inputs = problem.inputs();
    let [dq, dk, dv] = [&inputs.q, &inputs.k, &inputs.v].map(|x| Tensor::zeros(x.shape()));
    Gradients::new(dq, dk, dv)
}

/// `dk` and `dv` in one tensor, if the values are a part of the keys.
fn joined_gradient<T: Real>(problem: &Problem<T>, gradients: &Gradients<T>) -> Option<Tensor<T>> {
    problem.options().v_of_k.then(|| joined(&gradients.dk, &gradients.dv))
}

/// `dslopes` from the sums of the rows, in their order.
fn slope_gradient<T: Real>(problem: &Problem<T>, rows: &[T]) -> Option<Tensor<T>> {
    let mut dslopes = Tensor::zeros(problem.inputs().alibi_slopes.as_ref()?.shape());
    for (at, &sum) in rows.iter().enumerate() {
        dslopes.as_mut_slice()[problem.slope_index(problem.row(at))] += sum;
    }
    Some(dslopes)
}

/// Runs a pass on a thread of the pool. A loop over tasks that begins elsewhere hands them over, sleeps and is woken again, and a
/// pass has half a dozen of them.
pub(super) fn in_pool<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| pass())
}

/// `dq, dk, dv` to write.
fn slices<'a, T: Real>(problem: &Problem<T>, gradients: &'a mut Gradients<T>) -> [&'a mut [T]; 3] {
    let inputs = problem.inputs();
    let Gradients { dq, dk, dv, .. } = gradients;
    for (gradient, input) in [(&*dq, &inputs.q), (&*dk, &inputs.k), (&*dv, &inputs.v)] {
        assert_eq!(gradient.shape(), input.shape(), "a gradient has the shape of its input");
    }
    [dq.as_mut_slice(), dk.as_mut_slice(), dv.as_mut_slice()]
}

/// `delta_i = G_i . o_i` of each row, into the workspace.
fn delta_into<T: Real>(problem: &Problem<T>, saved: &Saved<T>, workspace: &mut Workspace<T>) {
    /// Rows of one task.
    const ROWS: usize = 256;
    let features = problem.sizes().value_features;
    let Workspace { dispatch, delta, .. } = workspace;
    blank_delta(problem, saved, delta);
    let size = ROWS * features;
    let (g, o) = (problem.inputs().g.as_slice(), saved.o.as_slice());
    let rows = g.par_chunks(size).zip(o.par_chunks(size));
    delta.par_chunks_mut(ROWS).zip(rows).for_each(|(delta, (g, o))| {
        dispatch.run(RowProducts { g, o, features, delta });
    });
}

/// Room for the `delta` of each row.
fn blank_delta<T: Real>(problem: &Problem<T>, saved: &Saved<T>, delta: &mut Vec<T>) {
    assert_eq!(saved.lse.as_slice().len(), problem.row_count(), "one lse per row");
    assert_eq!(saved.o.shape(), problem.inputs().g.shape(), "o has the shape of its cotangent");
    delta.clear();
    delta.resize(problem.row_count(), T::zero());
}

/// Dot products of the rows of two matrices.
struct RowProducts<'a, T> {
    g: &'a [T],
    o: &'a [T],
    features: usize,
    delta: &'a mut [T],
}

impl<T: Real> WithSimd for RowProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for the instruction set of its caller"
    )]
    fn with_simd<S: Simd>(self, simd: S) {
        let RowProducts { g, o, features, delta } = self;
        let rows = g.chunks_exact(features).zip(o.chunks_exact(features));
        for (delta, (g, o)) in delta.iter_mut().zip(rows) {
            *delta = product_rows::dot(simd, g, o);
        }
    }
}
