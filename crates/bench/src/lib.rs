//! The benchmark: what the passes cost over `n`, beside what the machine could do at best.
//!
//! Times are the best of a few repetitions; memory is the peak above inputs, results and mask.

mod memory;
mod report;
mod workload;

pub use memory::{Memory, Uncounted};
pub use report::{BenchReport, Ceilings, Gather, Op, Timing};
pub use workload::{Shape, Workload};

use std::time::Instant;
use sus_fast::roofline::{gather_rate, multiply_add_rate};
use sus_fast::{self as fast, Dispatch, Real, Workspace};
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Budget, Draw, Sample};
use sus_reference::tensor::Tensor;

/// Repetitions stop after this many seconds.
const ENOUGH_SECONDS: f64 = 2.0;

/// The arithmetic of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Double precision.
    F64,
    /// Single precision.
    F32,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// Shapes of the problems.
    pub shapes: Vec<Shape>,
    /// The instructions of the kernels.
    pub dispatch: Dispatch,
    /// The budget of SUS.
    pub c: Budget,
    /// Arithmetics.
    pub dtypes: Vec<Dtype>,
    /// Patterns of attention.
    pub patterns: Vec<Workload>,
    /// Whether queries see earlier keys only.
    pub causal: bool,
    /// At least this many repetitions of what is quick.
    pub repetitions: usize,
}

/// Runs a plan; `memory` counts what the passes allocate, `progress` hears what is being measured.
///
/// # Errors
/// Those of [`Problem::new`] and of a draw.
///
/// # Examples
/// ```
/// use sus_bench::{BenchPlan, Dtype, Shape, Uncounted, Workload, run};
/// let plan = BenchPlan {
///     shapes: vec![Shape::one_head(32)],
///     dispatch: sus_fast::Dispatch::Native,
///     c: sus_reference::sus::Budget::new(4.0)?,
///     dtypes: vec![Dtype::F64],
///     patterns: vec![Workload::Random],
///     causal: true,
///     repetitions: 1,
/// };
/// let report = run(&plan, &Uncounted, |_| ())?;
/// assert!(report.rows.iter().all(|timing| timing.seconds > 0.0));
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn run(
    plan: &BenchPlan,
    memory: &dyn Memory,
    progress: impl Fn(String),
) -> Result<BenchReport, Error> {
    let mut report = BenchReport {
        spec: "sus-oracle-bench/1".into(),
        rows: Vec::new(),
        ceilings: Ceilings { threads: rayon::current_num_threads(), ..Ceilings::default() },
    };
    for &dtype in &plan.dtypes {
        match dtype {
            Dtype::F64 => measure::<f64>("f64", plan, memory, &progress, &mut report)?,
            Dtype::F32 => measure::<f32>("f32", plan, memory, &progress, &mut report)?,
        }
    }
    Ok(report)
}

fn measure<T: Real>(
    dtype: &'static str,
    plan: &BenchPlan,
    memory: &dyn Memory,
    progress: &impl Fn(String),
    report: &mut BenchReport,
) -> Result<(), Error> {
    progress(format!("{dtype}: multiply-adds"));
    let rate = multiply_add_rate::<T>(plan.dispatch);
    report.ceilings.multiply_add_flops_per_second.insert(dtype.into(), rate);
    for &pattern in &plan.patterns {
        for &shape in &plan.shapes {
            progress(format!("{dtype}, {pattern}, n = {}", shape.n));
            let exact = pattern.problem(shape, plan.causal)?;
            let problem: Problem<T> = exact.cast()?;
            let draw = Draw::paper(plan.c, 1);
            let one = One { exact: &exact, problem: &problem, plan, memory, draw };
            let (timings, gathered) = one.measure()?;
            report.rows.extend(timings.into_iter().map(|(op, seconds, kept, peak_bytes)| Timing {
                op,
                dtype: dtype.into(),
                shape,
                instructions: plan.dispatch.instructions().into(),
                c: plan.c.get(),
                pattern,
                causal: plan.causal,
                threads: rayon::current_num_threads(),
                seconds,
                kept,
                peak_bytes,
            }));
            report.ceilings.gather.push(Gather {
                dtype: dtype.into(),
                shape,
                pattern,
                bytes_per_second: gathered,
            });
        }
    }
    Ok(())
}

/// Operation, seconds, kept entries, peak bytes.
type Measured = (Op, f64, usize, Option<u64>);

/// One problem.
struct One<'a, T> {
    exact: &'a Problem<f64>,
    problem: &'a Problem<T>,
    plan: &'a BenchPlan,
    memory: &'a dyn Memory,
    draw: Draw,
}

impl<T: Real> One<'_, T> {
    fn measure(&self) -> Result<(Vec<Measured>, f64), Error> {
        let One { exact, problem, draw, .. } = self;
        let mut saved = fast::blank_saved(problem);
        let forward = |workspace: &mut Workspace<T>, saved: &mut Saved<T>| {
            fast::forward_into(problem, saved, workspace);
        };
        let mut rows = Vec::new();
        let mut note = |op, kept, (seconds, peak)| rows.push((op, seconds, kept, peak));
        note(Op::Forward, 0, self.time(0, &mut |workspace| forward(workspace, &mut saved)));
        let fresh = || Workspace::new(self.plan.dispatch);
        let drawn = || fast::forward_and_sample(exact, problem, draw, &mut fresh());
        let sample: Sample = drawn()?.1;
        let kept = sample.pattern.count();
        let results = size_of_results(&saved, &sample);
        note(
            Op::ForwardSample,
            kept,
            self.time(results, &mut |workspace| {
                let drawn = fast::forward_and_sample(exact, problem, draw, workspace);
                std::hint::black_box(&drawn);
            }),
        );
        let mut gradients = fast::blank_gradients(problem);
        note(
            Op::DenseBackward,
            0,
            self.time(0, &mut |workspace| {
                fast::backward_into(problem, &saved, &mut gradients, workspace);
            }),
        );
        note(
            Op::SparseBackward,
            kept,
            self.time(0, &mut |workspace| {
                fast::sus_backward_into(problem, &saved, &sample, &mut gradients, workspace);
            }),
        );
        Ok((rows, self.gather(&sample)))
    }

    /// The best time of a few, and the peak memory of a run in a fresh workspace, less the `results` it returns.
    fn time(&self, results: u64, run: &mut dyn FnMut(&mut Workspace<T>)) -> (f64, Option<u64>) {
        // The first run touches the memory of the results.
        run(&mut Workspace::new(self.plan.dispatch));
        self.memory.restart();
        let mut workspace = Workspace::new(self.plan.dispatch);
        run(&mut workspace);
        let peak = self.memory.peak_bytes().map(|bytes| bytes.saturating_sub(results));
        let (mut best, mut total) = (f64::INFINITY, 0.0);
        for repetition in 0.. {
            let start = Instant::now();
            run(&mut workspace);
            let seconds = start.elapsed().as_secs_f64();
            best = best.min(seconds);
            total += seconds;
            if total > ENOUGH_SECONDS || (repetition + 1 >= self.plan.repetitions && total > 0.2) {
                break;
            }
        }
        (best, peak)
    }

    /// The gather ceiling for the rows that this sample needs, in its own order.
    fn gather(&self, sample: &Sample) -> f64 {
        let inputs = self.problem.inputs();
        let matrices = [&inputs.q, &inputs.k, &inputs.v, &inputs.g].map(Tensor::as_slice);
        let rows = self.problem.row_count().max(1);
        let per_sum = sample.pattern.count().div_ceil(rows).max(1);
        let columns = sample.pattern.columns();
        gather_rate(self.plan.dispatch, matrices, inputs.q.shape()[3], columns, per_sum)
    }
}

/// Bytes of a forward pass and a mask.
fn size_of_results<T: Real>(saved: &Saved<T>, sample: &Sample) -> u64 {
    let numbers = saved.o.as_slice().len() + saved.lse.as_slice().len();
    let rows = sample.lambda.len();
    (numbers * size_of::<T>() + sample.pattern.count() * 4 + 8 * (3 * rows + 1)) as u64
}
