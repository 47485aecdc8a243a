//! What a verdict costs, and a FAIL beside a PASS, on problems that are made here.

use crate::{Request, assess};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::path::Path;
use sus_bounds::{Format, Silent};
use sus_fast::{Workspace, backward, forward};
use sus_files::tensor_file::Numbers;
use sus_files::{Array, FileError, Pass, Settings, TensorFile};
use sus_reference::error::Error;
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::tensor::Tensor;
use sus_verdict::{Case, Outcome};

/// Candidates: a right one, and wrong ones whose cause is read off the numbers, is searched for and found, or is not there.
pub const CANDIDATES: [&str; 4] = ["right", "factor", "rows shifted", "noise"];

/// The cost of a verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictCost {
    /// One of [`CANDIDATES`].
    pub candidate: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// The readings of the clock for each repetition, in the order in which they alternated.
    pub seconds: Vec<f64>,
}

/// Seconds of a forward and a dense backward pass in `f64`, and of a verdict on each of [`CANDIDATES`], alternating; `clock` is read
/// before and after each. The problem is causal, of random numbers, `[1, heads, n, 64]`.
///
/// # Errors
/// Those of the problem and of the verdict.
pub fn verdict_costs(
    (heads, n): (usize, usize),
    format: Format,
    repetitions: usize,
    clock: &dyn Fn() -> f64,
) -> Result<(Vec<f64>, Vec<VerdictCost>), FileError> {
    let label = Path::new("bench");
    let problem = problem(heads, n, format).map_err(|e| FileError::new(label, e))?;
    let pass = || {
        let mut workspace = Workspace::default();
        let saved = forward(&problem, &mut workspace);
        let gradients = backward(&problem, &saved, &mut workspace).0;
        (saved, gradients)
    };
    let (saved, gradients) = pass();
    let tensors =
        [("o", &saved.o), ("dq", &gradients.dq), ("dk", &gradients.dk), ("dv", &gradients.dv)];
    let recipe = if format == Format::Bf16 { "flash-bf16" } else { "f32" };
    let files = CANDIDATES.map(|name| candidate(name, tensors, format));
    let settings = Settings::default().with_pass(Pass::Dense);
    let case = Case::new(problem.clone(), settings);
    let timed = |run: &dyn Fn()| {
        let start = clock();
        run();
        clock() - start
    };
    let mut costs = Vec::new();
    for (candidate, file) in CANDIDATES.into_iter().zip(&files) {
        let found = assess(case.clone(), file, &request(label, recipe), &Silent)?;
        costs.push(VerdictCost { candidate, outcome: found.verdict.outcome, seconds: Vec::new() });
    }
    let mut passes = Vec::new();
    for _ in 0..repetitions {
        passes.push(timed(&|| drop(pass())));
        for (cost, file) in costs.iter_mut().zip(&files) {
            let judged = || drop(assess(case.clone(), file, &request(label, recipe), &Silent));
            cost.seconds.push(timed(&judged));
        }
    }
    Ok((passes, costs))
}

fn request<'a>(label: &'a Path, recipe: &'a str) -> Request<'a> {
    Request { recipe: Some(recipe), ..Request::new(label) }
}

/// Numbers of about unit size, sums of four uniform ones, as the format holds them.
fn problem(heads: usize, n: usize, format: Format) -> Result<Problem<f64>, Error> {
    let tensor = |stream: u64| {
        let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle/the cost of a verdict");
        rng.set_stream(stream);
        let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        Tensor::from_fn([1, heads, n, 64], |_| {
            let sum: f64 = (0..4).map(|_| uniform()).sum();
            format.round(1.7 * sum)
        })
    };
    let inputs = Inputs::new(tensor(0), tensor(1), tensor(2), tensor(3));
    Problem::new(inputs, Options::default().with_causal(true))
}

fn candidate(name: &str, tensors: [(&str, &Tensor<f64>); 4], format: Format) -> TensorFile {
    let mut file = TensorFile::default();
    for (tensor, values) in tensors {
        let [.., n, width] = values.shape();
        let mut data = values.as_slice().to_vec();
        match (name, tensor) {
            ("factor", "dk") => data.iter_mut().for_each(|x| *x *= 1.25),
            ("rows shifted", "dq") if n > 1 => {
                for head in data.chunks_mut(n * width) {
                    head.rotate_right(width);
                }
            }
            ("noise", "dq" | "dk" | "dv") => {
                let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle/noise of no known bug");
                let size = data.iter().map(|x| x.abs()).sum::<f64>() / data.len().max(1) as f64;
                for x in &mut data {
                    *x += 0.2 * size * (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5);
                }
            }
            _ => {}
        }
        let data = data.into_iter().map(|x| format.round(x)).collect();
        let shape = values.shape().to_vec();
        let dtype = Array::f32(&[0], Vec::new()).dtype;
        let array = Array { dtype, shape, numbers: Numbers::Float(data) };
        file.arrays.insert(tensor.to_owned(), array);
    }
    file
}
