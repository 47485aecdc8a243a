//! The kill matrix of kernels of 8 bits, and how wide their bounds are by size and by peak: `selftest --fp8`.

use super::{Fp8Kernel, Fp8Problem, ScaleBy, bugs, controls, problems};
use std::fmt::Write;
use sus_bounds::Recipe;
use sus_files::tensor_file::Numbers;
use sus_files::{Settings, TensorFile};
use sus_reference::error::Error;
use sus_reference::evaluation::evaluate;
use sus_reference::problem::Problem;
use sus_verdict::{Case, Judge, Outcome};

/// A rule in use: its name, where it stands, and the tensors that it passes, given a result, the unrounded gradient, and its name.
type Rule = (&'static str, fn(&str, &[f64], &[f64]) -> bool);

/// The rules in use for 8 bits, all against gradients whose `P` and `dS` are not rounded.
const RULES: [Rule; 3] = [
    ("TE", |_, x, reference| {
        let range = |x: &[f64]| {
            x.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &x| [a.min(x), b.max(x)])
        };
        let ([a, b], [c, d]) = (range(x), range(reference));
        let squares: f64 = x.iter().zip(reference).map(|(x, r)| (x - r) * (x - r)).sum();
        libm::sqrt(squares / x.len() as f64) < 0.1 * (b.max(d) - a.min(c))
    }),
    ("JAX", |name, x, reference| {
        let absolute = if ["dq", "dk"].contains(&name) { 3.0 } else { 0.5 };
        all_close(x, reference, absolute, 0.5)
    }),
    ("cudnn-frontend", |_, x, reference| all_close(x, reference, 0.08, 0.2)),
];

fn all_close(x: &[f64], reference: &[f64], absolute: f64, relative: f64) -> bool {
    x.iter().zip(reference).all(|(x, r)| (x - r).abs() <= absolute + relative * r.abs())
}

/// One kernel on all problems: how often our verdict is FAIL, REFUSED and PASS, and how often each rule in use fails it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The kernel.
    pub name: &'static str,
    /// Whether it is wrong.
    pub is_wrong: bool,
    /// FAIL, REFUSED, PASS.
    pub ours: [usize; 3],
    /// How often the rules in use fail it.
    pub rules: [usize; RULES.len()],
}

/// A problem, its judge, and the unrounded results.
struct Judged {
    problem: Fp8Problem,
    judge: Judge,
    unrounded: Vec<(&'static str, Vec<f64>)>,
}

impl Judged {
    fn new(problem: Fp8Problem) -> Result<Self, Error> {
        let case = Case::from_tensors(problem.file(), Settings::default(), "fp8")
            .expect("a file that this crate made");
        let recipe = Recipe::built_in("flash-fp8").expect("a built-in recipe");
        let judge = Judge::builder(&case, &recipe).build()?;
        let unrounded = unrounded(&case.problem)?;
        Ok(Judged { problem, judge, unrounded })
    }
}

fn unrounded(problem: &Problem<f64>) -> Result<Vec<(&'static str, Vec<f64>)>, Error> {
    let found = evaluate::<f64>(problem, None, None)?;
    let of = |x: &sus_reference::tensor::Tensor<f64>| x.as_slice().to_vec();
    let gradients = &found.gradients;
    Ok(vec![
        ("o", of(&found.saved.o)),
        ("dq", of(&gradients.dq)),
        ("dk", of(&gradients.dk)),
        ("dv", of(&gradients.dv)),
    ])
}

fn floats<'a>(file: &'a TensorFile, name: &str) -> &'a [f64] {
    match &file.arrays[name].numbers {
        Numbers::Float(numbers) => numbers,
        _ => &[],
    }
}

/// Every kernel on every problem.
///
/// # Errors
/// Those of a judge; they do not happen on these problems.
pub fn matrix() -> Result<Vec<Row>, Error> {
    let judged = problems().into_iter().map(|(_, problem)| Judged::new(problem));
    let judged = judged.collect::<Result<Vec<_>, Error>>()?;
    let right = controls().into_iter().filter(|(_, kernel)| !kernel.without_o);
    let right = right.map(|(name, kernel)| (name, false, kernel));
    let wrong = bugs().into_iter().map(|bug| (bug.name, true, bug.kernel));
    Ok(right
        .chain(wrong)
        .map(|(name, is_wrong, kernel)| row(name, is_wrong, &kernel, &judged))
        .collect())
}

fn row(name: &'static str, is_wrong: bool, kernel: &Fp8Kernel, judged: &[Judged]) -> Row {
    let mut row = Row { name, is_wrong, ours: [0; 3], rules: [0; RULES.len()] };
    for Judged { problem, judge, unrounded } in judged {
        let candidate = kernel.run(problem);
        match judge.check(&candidate).outcome {
            Outcome::Fail => row.ours[0] += 1,
            Outcome::Pass => row.ours[2] += 1,
            _ => row.ours[1] += 1,
        }
        for (count, (_, passes)) in row.rules.iter_mut().zip(RULES) {
            let all = unrounded.iter().all(|(name, x)| passes(name, floats(&candidate, name), x));
            *count += usize::from(!all);
        }
    }
    row
}

/// The tables of `docs/fp8.md`.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "| kernel | FAIL | REFUSED | PASS | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|---|---|{}", "---|".repeat(RULES.len()));
    for row in rows {
        let kind = if row.is_wrong { "" } else { " (right)" };
        let numbers: Vec<String> =
            row.ours.iter().chain(&row.rules).map(ToString::to_string).collect();
        let _ = writeln!(text, "| {}{kind} | {} |", row.name, numbers.join(" | "));
    }
    text
}

/// How wide the bounds are: for each size and peak the root mean square of the bounds over that of the reference, of `dq`, `dk` and `dv`,
/// with an `o` and without.
///
/// # Errors
/// Those of a judge; they do not happen on these problems.
pub fn widths() -> Result<String, Error> {
    let mut text = String::new();
    let _ = writeln!(text, "| keys | D | peak | dq | dk | dv | dq without o | dk without o |");
    let _ = writeln!(text, "|---|---|---|---|---|---|---|---|");
    for (keys, d) in [(16, 64), (64, 64), (256, 64), (1024, 64), (256, 128)] {
        for peak in [0.1, 1.0, 4.0, 16.0] {
            let judged =
                Judged::new(Fp8Problem::drawn([1, 1, 64, keys, d], ScaleBy::Head, peak, 3))?;
            let width = |without_o: bool| -> Vec<f64> {
                let kernel = Fp8Kernel { without_o, ..Fp8Kernel::default() };
                let verdict = judged.judge.check(&kernel.run(&judged.problem));
                let of = |name: &str| {
                    verdict.tensors.iter().find(|of| of.name == name).map_or(0.0, |of| of.width)
                };
                ["dq", "dk", "dv"].map(of).to_vec()
            };
            let (with, without) = (width(false), width(true));
            let all = with.iter().chain(&without[..2]).map(|x| format!("{x:.3}"));
            let all: Vec<String> = all.collect();
            let _ = writeln!(text, "| {keys} | {d} | {peak} | {} |", all.join(" | "));
        }
    }
    Ok(text)
}
