//! Which known bug explains a candidate: the wrong kernels' formulas, run in `f64`, held against it.
//!
//! A wrong kernel explains an output if its own result is much closer to the candidate than the truth is. Rounding
//! sets how close: what is left over must be less than a tenth of the candidate's deviation from the truth, in each
//! output that deviates.

mod head;

use super::arithmetic::Arithmetic;
use super::{Family, RunConfig, control_kernel, kernels};
use head::worst_head;
use rayon::prelude::*;
use std::fmt;
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// The outputs that are compared.
const OUTPUTS: [&str; 5] = ["dq", "dk", "dv", "dbias", "dsink"];

/// What may be left over, relative to the deviation from the truth.
const EXPLAINED: f64 = 0.1;

/// A bug that explains a candidate.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic, diagnosis::diagnose};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let wrong = (gallery::named("delta_halved").unwrap().run)(&config).unwrap();
/// let found = diagnose(&problem, None, &wrong, &["dq", "dk"]).unwrap();
/// assert!(found.to_string().starts_with("dq, dk match") && found.outputs.len() == 2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What it gets wrong.
    pub what: &'static str,
    /// The public bugs that it copies.
    pub upstream: Option<String>,
    /// The outputs that deviate, with the candidate's distance to the wrong kernel's result, relative to that
    /// result's norm, and relative to the candidate's distance to the truth.
    pub outputs: Vec<Fit>,
    /// How many other kernels of the gallery explain it as well, and give the same numbers on this problem.
    pub alike: Vec<&'static str>,
}

/// How well one output is explained.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic, diagnosis::diagnose};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let wrong = (gallery::named("delta_halved").unwrap().run)(&config).unwrap();
/// let found = diagnose(&problem, None, &wrong, &["dq", "dk"]).unwrap();
/// assert!(found.outputs.iter().all(|fit| fit.residual < 1e-5 && fit.unexplained < 1e-4));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The output.
    pub output: &'static str,
    /// `|candidate - wrong| / |wrong|`.
    pub residual: f64,
    /// `|candidate - wrong| / |candidate - truth|`.
    pub unexplained: f64,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<&str> = self.outputs.iter().map(|fit| fit.output).collect();
        let verb = if outputs.len() == 1 { "matches" } else { "match" };
        let largest = |of: fn(&Fit) -> f64| self.outputs.iter().map(of).fold(0.0, f64::max);
        write!(
            f,
            "{} {verb} \"{}\" to {:.1e} ({}: {:.1e} of the deviation is left unexplained",
            outputs.join(", "),
            self.what.trim_end_matches('.'),
            largest(|fit| fit.residual),
            self.kernel,
            largest(|fit| fit.unexplained),
        )?;
        if let Some(upstream) = &self.upstream {
            write!(f, "; seen in {upstream}")?;
        }
        if !self.alike.is_empty() {
            write!(f, "; the same here: {}", self.alike.join(", "))?;
        }
        write!(f, ")")
    }
}

/// The sum of squares of the differences, infinite if a NaN meets a number.
fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let square = |(a, b): (&f64, &f64)| match a - b {
        _ if a == b || a.is_nan() && b.is_nan() => 0.0,
        d if d.is_nan() => f64::INFINITY,
        d => d * d,
    };
    a.iter().zip(b).map(square).sum()
}

fn floats<'a>(file: &'a TensorFile, name: &str) -> Option<&'a [f64]> {
    match &file.arrays.get(name)?.numbers {
        Numbers::Float(data) => Some(data),
        _ => None,
    }
}

/// How well `wrong` explains each output of the candidate that deviates from `right`; `None` if it does not explain
/// all of them, or changes one that does not deviate.
fn fit(
    candidate: &TensorFile,
    right: &TensorFile,
    wrong: &TensorFile,
    deviates: &[&'static str],
) -> Option<Vec<Fit>> {
    let mut fits = Vec::new();
    for output in OUTPUTS {
        let (Some(x), Some(right), Some(wrong)) =
            (floats(candidate, output), floats(right, output), floats(wrong, output))
        else {
            continue;
        };
        if x.len() != right.len() {
            return None;
        }
        let (to_right, to_wrong) = (squared_distance(x, right), squared_distance(x, wrong));
        let size: f64 = wrong.iter().filter(|x| x.is_finite()).map(|x| x * x).sum();
        if !deviates.contains(&output) {
            if to_wrong > 100.0 * to_right && to_wrong > 1e-4 * size {
                return None;
            }
            continue;
        }
        let unexplained =
            if to_right.is_infinite() { 0.0 } else { libm::sqrt(to_wrong / to_right) };
        if to_wrong.is_infinite() || unexplained.is_nan() || unexplained > EXPLAINED {
            return None;
        }
        let residual = if to_wrong == 0.0 { 0.0 } else { libm::sqrt(to_wrong / size) };
        fits.push(Fit { output, residual, unexplained });
    }
    (!fits.is_empty()).then_some(fits)
}

/// The bug that explains a candidate best, or `None` if none of the known ones does.
///
/// `deviates` names the outputs that failed. A known bug must explain every one of them.
///
/// # Panics
/// If the draw's words are too few for the problem, which whoever judged the candidate has seen.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic, diagnosis::diagnose};
/// let case = sus_corpus::named("primes").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::named("f32").unwrap(), None);
/// let wrong = (gallery::named("delta_halved").unwrap().run)(&config).unwrap();
/// let found = diagnose(&case.problem, None, &wrong, &["dq", "dk"]).unwrap();
/// assert_eq!(found.kernel, "delta_halved");
/// ```
#[must_use]
pub fn diagnose(
    problem: &Problem<f64>,
    draw: Option<&Draw>,
    candidate: &TensorFile,
    deviates: &[&str],
) -> Option<Diagnosis> {
    let deviates: Vec<&'static str> =
        OUTPUTS.into_iter().filter(|output| deviates.contains(output)).collect();
    let arithmetic = Arithmetic::named("f64").expect("a built-in recipe");
    let config = RunConfig::new(problem, arithmetic, draw);
    let stages = config.all_stages();
    let config = config.sharing(&stages);
    let right = control_kernel(&config);
    let mut found: Vec<_> = kernels()
        .into_par_iter()
        .filter(|kernel| {
            kernel.is_mutant && kernel.family != Family::Rounding || kernel.name.contains("percent")
        })
        .filter_map(|kernel| {
            let wrong = (kernel.run)(&config)?;
            let outputs = fit(candidate, &right, &wrong, &deviates)?;
            let worst = outputs.iter().map(|fit| fit.unexplained).fold(0.0, f64::max);
            Some((worst, kernel, outputs, wrong))
        })
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.name.cmp(b.1.name)));
    let mut found = found.into_iter();
    let (_, kernel, outputs, best) = found.next()?;
    let same = |wrong: &TensorFile| {
        OUTPUTS.into_iter().all(|output| match (floats(wrong, output), floats(&best, output)) {
            (Some(a), Some(b)) => {
                squared_distance(a, b) <= 1e-24 * b.iter().map(|x| x * x).sum::<f64>()
            }
            _ => true,
        })
    };
    let alike =
        found.filter(|(_, _, _, wrong)| same(wrong)).map(|(_, kernel, _, _)| kernel.name).collect();
    Some(Diagnosis {
        kernel: kernel.name,
        what: kernel.what,
        upstream: kernel.upstream(),
        outputs,
        alike,
    })
}

/// One line for the report of a verdict that failed: the bug that explains the outputs that failed, or that none does.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic, diagnosis::line};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let wrong = (gallery::named("delta_halved").unwrap().run)(&config).unwrap();
/// assert!(line(&problem, None, &wrong, &["dq", "dk"]).contains("delta_halved"));
/// assert!(line(&problem, None, &wrong, &["dv"]).starts_with("none of the known bugs"));
/// ```
#[must_use]
pub fn line(
    problem: &Problem<f64>,
    draw: Option<&Draw>,
    candidate: &TensorFile,
    deviates: &[&str],
) -> String {
    let found = if size(problem) <= LARGEST {
        diagnose(problem, draw, candidate, deviates)
    } else {
        let sizes = problem.sizes();
        let heads = sizes.batch * sizes.key_heads;
        let cut = draw.is_none() && size(problem) / heads.max(1) <= LARGEST;
        match cut.then(|| worst_head(problem, candidate)).flatten() {
            Some(head) => diagnose(&head.problem, None, &head.candidate, deviates),
            None => {
                return "not looked for: the problem is too large; cut it to fewer queries or keys"
                    .into();
            }
        }
    };
    match found {
        Some(diagnosis) => diagnosis.to_string(),
        None if ["o", "lse"].iter().any(|forward| deviates.contains(forward)) => {
            "none of the known bugs explains this. The forward pass is wrong too: look at the scale, the mask, the \
             window, the softcap and the heads first; --mode given judges the backward pass alone"
                .into()
        }
        None => "none of the known bugs explains this".into(),
    }
}

/// Products that one kernel may take: all of the gallery then takes about half a minute.
const LARGEST: usize = 1 << 27;

/// The products of one pass over the matrix.
fn size(problem: &Problem<f64>) -> usize {
    let sizes = problem.sizes();
    problem.row_count() * sizes.keys * (sizes.features + sizes.value_features)
}
