//! Which known bug explains a candidate: the mutants' formulas, run in `f64`, compared with it.
//!
//! A mutant explains an output if its result is much closer to the candidate than the truth is: at most a tenth of the
//! candidate's deviation from the truth may be left unexplained, in each output that deviates. `EXPLAINED` says why a
//! tenth.

mod empty_rows;
mod refutation;

use super::arithmetic::Arithmetic;
use super::{BugType, RunConfig, control_kernel, kernels};
pub use empty_rows::nan_in_rows_without_keys;
use rayon::prelude::*;
use refutation::Refutation;
use std::fmt;
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::TensorName;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// The part of a candidate's deviation from the truth that a mutant may leave unexplained.
///
/// Let `d` be the deviation, `w` what the mutant adds, and `e = |d - w| / |d|`. All but one tenth has to be explained:
///
/// - Two mutants that explain a candidate differ by at most `2 e |d|`, a fifth of the deviation. From `e = 1/2` on the
///   two could differ by all of it, and name opposite causes.
/// - A multiple `f w` of a bug is named after the bug only if `f` is within `1 / (1 + e)` and `1 / (1 - e)`: between
///   0.91 and 1.11. A `delta` of 40 % (`e = 1/6`) is not "half of `delta`".
/// - A deviation that has nothing to do with the mutants, of `n` numbers in a random direction, lies within the angle
///   `asin e` of one given direction with probability at most `e^(n-1) / 2`, the share of that cap of a sphere. For
///   two hundred mutants and `n = 6` that is `1e-3` at `e = 0.1`, and above 1 (no statement at all) at `e = 0.5`.
/// - Roundings of norm `r` hide a bug only if `r > e |d|`: a bug is recognised once its error is ten times the
///   roundings.
const EXPLAINED: f64 = 0.1;

/// An output that does not deviate speaks against a mutant that changes it by more than this part of its norm: two and a
/// half roundoffs of bf16, the coarsest stored type, so that roundings do not hide the change.
const VISIBLE: f64 = 0.01;

/// The fewest finite numbers of an output that overflowed by which a mutant is recognised: the `n` of [`EXPLAINED`].
const FEWEST_FINITE: usize = 6;

/// Two mutants give the same numbers if they differ by less than this part of the norm: orders of summation in `f64`
/// change sums of up to 10^4 terms by that much at most, `10^4 2^-53`.
const SAME: f64 = 1e-12;

/// A bug that explains a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What it gets wrong.
    pub what: &'static str,
    /// The public bugs that it copies.
    pub upstream: Option<String>,
    /// The outputs that deviate, with the candidate's distance to the mutant's result, relative to that result's norm,
    /// and relative to the candidate's distance to the truth.
    pub outputs: Vec<Fit>,
    /// The other mutants that give the same numbers on this problem.
    pub tied: Vec<&'static str>,
}

/// How well one output is explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The output.
    pub output: TensorName,
    /// `|candidate - wrong| / |wrong|`.
    pub residual: f64,
    /// `|candidate - wrong| / |candidate - truth|`.
    pub unexplained: f64,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<&str> = self.outputs.iter().map(|fit| fit.output.as_str()).collect();
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
        if !self.tied.is_empty() {
            write!(f, "; the same here: {}", self.tied.join(", "))?;
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

/// The elements by which an output is compared: all, or, if the mutant's numbers leave the range of `f32`, those that the candidate
/// has as numbers. A kernel of 32 bits stores an infinity or a NaN where this overflow reaches; `None` if it leaves too few numbers.
fn compared_elements(x: &[f64], wrong: &[f64]) -> Option<Vec<usize>> {
    let overflows = wrong.iter().any(|x| x.is_finite() && x.abs() > f64::from(f32::MAX));
    let all = 0..x.len();
    if !overflows || x.iter().all(|x| x.is_finite()) {
        return Some(all.collect());
    }
    let finite: Vec<usize> = all.filter(|&at| x[at].is_finite()).collect();
    (finite.len() >= FEWEST_FINITE).then_some(finite)
}

fn floats(file: &TensorFile, name: TensorName) -> Option<&[f64]> {
    match &file.arrays.get(name.as_str())?.numbers {
        Numbers::Float(data) => Some(data),
        _ => None,
    }
}

/// How well the mutant's result `wrong` explains each output of the candidate that deviates from `right`; `None` if it
/// does not explain all of them, or changes one that does not deviate.
fn fit(
    candidate: &TensorFile,
    right: &TensorFile,
    wrong: &TensorFile,
    deviates: &[TensorName],
) -> Option<Vec<Fit>> {
    let mut fits = Vec::new();
    for output in TensorName::GRADIENTS {
        let (Some(x), Some(right), Some(wrong)) =
            (floats(candidate, output), floats(right, output), floats(wrong, output))
        else {
            continue;
        };
        if x.len() != right.len() {
            return None;
        }
        let compared = compared_elements(x, wrong)?;
        let taken = |of: &[f64]| compared.iter().map(|&at| of[at]).collect::<Vec<f64>>();
        let (x, right, wrong) = (taken(x), taken(right), taken(wrong));
        let (to_right, to_wrong) = (squared_distance(&x, &right), squared_distance(&x, &wrong));
        let size: f64 = wrong.iter().filter(|x| x.is_finite()).map(|x| x * x).sum();
        if !deviates.contains(&output) {
            let explained_by_truth = to_right < EXPLAINED * EXPLAINED * to_wrong;
            if explained_by_truth && to_wrong > VISIBLE * VISIBLE * size {
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

/// The bug that explains a candidate best, or `None` if no known bug does.
///
/// `deviates` names the outputs that failed. A known bug must explain every one of them.
///
/// # Panics
/// If the draw's words are too few for the problem, which the verdict reports before.
///
/// # Examples
/// ```
/// use sus_mutants::{RunConfig, arithmetic::Arithmetic, diagnosis::diagnose, named};
/// let case = sus_corpus::named("primes").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::named("f32").unwrap(), None);
/// let wrong = (named("delta_halved").unwrap().run)(&config).unwrap();
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
    let deviates: Vec<TensorName> = TensorName::GRADIENTS
        .into_iter()
        .filter(|output| deviates.contains(&output.as_str()))
        .collect();
    let arithmetic = Arithmetic::named("f64").expect("a built-in recipe");
    let config = RunConfig::new(problem, arithmetic, draw);
    let stages = config.all_stages();
    let config = config.sharing(&stages);
    let right = control_kernel(&config);
    let refutation = Refutation::new(&config, candidate, &right, &deviates);
    let mut found: Vec<_> = kernels()
        .into_par_iter()
        .filter(|kernel| {
            // A rounding bug is no error of a formula; those of a few per cent are.
            kernel.is_mutant
                && deviates.iter().all(|output| kernel.gets_wrong(*output))
                && (kernel.bug_type != Some(BugType::Rounding) || kernel.name.contains("percent"))
        })
        .filter_map(|kernel| {
            if refutation.as_ref().is_some_and(|of| of.refutes(&config, kernel)) {
                return None;
            }
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
        TensorName::GRADIENTS.into_iter().all(|output| {
            match (floats(wrong, output), floats(&best, output)) {
                (Some(a), Some(b)) => {
                    let size = b.iter().map(|x| x * x).sum::<f64>();
                    squared_distance(a, b) <= SAME * SAME * size
                }
                _ => true,
            }
        })
    };
    let tied =
        found.filter(|(_, _, _, wrong)| same(wrong)).map(|(_, kernel, _, _)| kernel.name).collect();
    Some(Diagnosis {
        kernel: kernel.name,
        what: kernel.what,
        upstream: kernel.upstream(),
        outputs,
        tied,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use sus_files::Array;

    fn file(dq: &[f64], dk: &[f64]) -> TensorFile {
        let arrays = [("dq", dq), ("dk", dk)]
            .map(|(name, data)| (name.to_owned(), Array::f64(&[data.len()], data.to_vec())));
        TensorFile { arrays: arrays.into(), metadata: None }
    }

    /// The fit of a mutant that adds 1 to the first number of `dq`, and `of_dk` to a `dk` of 100.
    fn fit_of(dq: [f64; 2], dk: f64, of_dk: f64) -> Option<Vec<Fit>> {
        let (right, wrong) = (file(&[3.0, 4.0], &[100.0]), file(&[4.0, 4.0], &[100.0 + of_dk]));
        fit(&file(&dq, &[dk]), &right, &wrong, &[TensorName::Dq])
    }

    /// Both sides of [`EXPLAINED`], for a deviation along the mutant's error and one that is also perpendicular to it.
    #[test]
    fn at_most_a_tenth_of_the_deviation_may_be_left_unexplained() {
        for (left_over, explained) in [(0.099, true), (0.101, false)] {
            let perpendicular = left_over / libm::sqrt(1.0 - left_over * left_over);
            for deviation in [
                [1.0 / (1.0 - left_over), 0.0],
                [1.0 / (1.0 + left_over), 0.0],
                [1.0, perpendicular],
                [1.0, -perpendicular],
            ] {
                let found = fit_of([3.0 + deviation[0], 4.0 + deviation[1]], 100.0, 0.0);
                assert_eq!(found.is_some(), explained, "{deviation:?}");
                for fit in found.iter().flatten() {
                    // Sums of numbers near 4 err by 1e-15, the part that is left over is 0.1.
                    assert_relative_eq!(fit.unexplained, left_over, max_relative = 1e-13);
                }
            }
        }
    }

    /// Both sides of [`VISIBLE`]: `dk` is right, and the mutant changes it by a little less or more than 1 %.
    #[test]
    fn a_mutant_may_change_an_output_that_is_right_by_one_per_cent() {
        for (share, fits) in [(0.0099, true), (0.0101, false)] {
            let of_dk = 100.0 * share / (1.0 - share);
            assert_eq!(fit_of([4.0, 4.0], 100.0, of_dk).is_some(), fits, "{share}");
        }
    }

    /// An output that is not named as wrong speaks against a mutant if the truth explains it.
    #[test]
    fn an_output_that_the_truth_explains_speaks_against_a_mutant_that_changes_it() {
        for (ratio, fits) in [(0.099, false), (0.101, true)] {
            // At this point the distance to the truth is `ratio` of that to the mutant, which is 10 further up.
            let dk = 100.0 + 10.0 * ratio / (1.0 + ratio);
            assert_eq!(fit_of([4.0, 4.0], dk, 10.0).is_some(), fits, "{ratio}");
        }
    }

    /// The bound of [`EXPLAINED`] on chance: the share of a cap of angle `asin e` is at most `e^(n-1) / 2`.
    #[test]
    fn a_random_direction_is_rarely_within_the_angle_of_a_mutant() {
        let steps = 10_000_u32;
        for n in [2, 3, 6, 20] {
            // The share is the integral of sin^(n-2) over the cap, over that over half a circle; midpoint rule.
            let integral = |end: f64| -> f64 {
                let h = end / f64::from(steps);
                let value = |k| libm::pow(libm::sin((f64::from(k) + 0.5) * h), f64::from(n - 2));
                (0..steps).map(value).sum::<f64>() * h
            };
            for e in [EXPLAINED, 0.5] {
                let share = integral(libm::asin(e)) / integral(std::f64::consts::PI);
                assert!(share <= 0.5 * libm::pow(e, f64::from(n - 1)), "n = {n}, e = {e}: {share}");
            }
        }
    }
}
