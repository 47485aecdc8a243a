//! How much the runs of one kernel differ from each other.

use crate::Outcome;
use crate::candidate::{RESULTS, shape_of};
use crate::expected::Places;
use serde::Serialize;
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_reference::problem::Problem;

/// Several runs of one kernel, each judged by itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Runs {
    /// How many there are.
    pub count: usize,
    /// The run that the tensors and the directions of the verdict belong to: the one with the worst outcome, and of several with
    /// that outcome the one with the largest `error / bound`.
    pub shown: usize,
    /// The outcome of each run.
    pub outcomes: Vec<Outcome>,
    /// The differences between the runs, by tensor. Runs of a sampled pass are compared if they have the same seed.
    pub spread: Vec<Spread>,
}

/// The differences of one tensor between runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// The tensor.
    pub name: &'static str,
    /// Whether all runs have the same bits.
    pub same_bits: bool,
    /// The elements whose bits are not those of the first run in every run.
    pub elements: usize,
    /// The first run whose bits are not those of the run that it is compared with, the latter, and the first element that differs.
    pub first: Option<FirstDifference>,
    /// The largest difference between two runs in one element; infinite if only one of the two is a number.
    pub difference: f64,
    /// The largest difference between two runs as a share of the element's bound in mode `exact`.
    pub difference_over_bound: f64,
    /// The element with that share.
    pub index: Option<Vec<usize>>,
}

/// The first pair of runs with different bits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FirstDifference {
    /// The run.
    pub run: usize,
    /// The run that it is compared with.
    pub with: usize,
    /// The first element that differs.
    pub index: Vec<usize>,
}

/// Compares the runs in each group with each other. Each result in `file` has a leading axis of runs, or is given once for all of
/// them; `bound` has the bounds of a result.
pub(crate) fn spread<'a>(
    problem: &Problem<f64>,
    file: &TensorFile,
    groups: &[Vec<usize>],
    bound: impl Fn(&str) -> Option<&'a [f64]>,
) -> Vec<Spread> {
    let of = |&name: &&'static str| {
        let shape = shape_of(problem, name)?;
        let array = file.arrays.get(name)?;
        let Numbers::Float(data) = &array.numbers else { return None };
        let (length, bound) = (shape.iter().product::<usize>(), bound(name)?);
        let runs = groups.iter().flatten().max().map_or(0, |last| last + 1);
        let has_axis = array.shape.len() > shape.len() && data.len() >= runs * length;
        (has_axis && bound.len() == length).then(|| {
            let runs = |group: &Vec<usize>| -> Vec<(usize, &[f64])> {
                group.iter().map(|&run| (run, &data[run * length..(run + 1) * length])).collect()
            };
            of_tensor(name, &shape, &groups.iter().map(runs).collect::<Vec<_>>(), bound)
        })
    };
    RESULTS.iter().filter_map(of).collect()
}

/// The differences of one tensor; `groups` have the numbers of the runs and their elements.
fn of_tensor(
    name: &'static str,
    shape: &[usize],
    groups: &[Vec<(usize, &[f64])>],
    bound: &[f64],
) -> Spread {
    let mut found = Spread {
        name,
        same_bits: true,
        elements: 0,
        first: None,
        difference: 0.0,
        difference_over_bound: 0.0,
        index: None,
    };
    for (at, &bound) in bound.iter().enumerate() {
        let mut differs = false;
        for group in groups {
            let Some((with, first)) = group.first() else { continue };
            let other = group.iter().find(|run| run.1[at].to_bits() != first[at].to_bits());
            let Some(&(run, _)) = other else { continue };
            differs = true;
            // The first run, and of its elements the first.
            if found.first.as_ref().is_none_or(|before| run < before.run) {
                let index = Places::default().index(shape, at);
                found.first = Some(FirstDifference { run, with: *with, index });
            }
            let difference = largest_difference(group.iter().map(|run| run.1[at]));
            found.difference = found.difference.max(difference);
            let share = share(difference, bound);
            if share > found.difference_over_bound {
                (found.difference_over_bound, found.index) =
                    (share, Some(Places::default().index(shape, at)));
            }
        }
        found.elements += usize::from(differs);
    }
    found.same_bits = found.elements == 0;
    found
}

/// The largest difference of two numbers: 0 if none is a number, infinite if only some are.
fn largest_difference(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut nan, mut all) = (0_usize, 0_usize);
    for x in numbers {
        (least, most) = (least.min(x), most.max(x));
        nan += usize::from(x.is_nan());
        all += 1;
    }
    if nan == all || nan == 0 && least == most {
        0.0
    } else if nan > 0 {
        f64::INFINITY
    } else {
        most - least
    }
}

/// A difference as a share of a bound.
fn share(difference: f64, bound: f64) -> f64 {
    if difference == 0.0 {
        0.0
    } else if difference.is_infinite() {
        f64::INFINITY
    } else {
        difference / bound
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, of_tensor};

    fn of(runs: &[[f64; 3]]) -> Spread {
        let runs = runs.iter().enumerate().map(|(run, x)| (run, x.as_slice())).collect();
        of_tensor("dq", &[1, 1, 3, 1], &[runs], &[0.5, 0.25, 4.0])
    }

    #[test]
    fn the_largest_difference_is_that_of_any_two_runs_and_not_of_the_first() {
        let found = of(&[[1.0, 2.0, 3.0], [1.0, 2.5, 3.0], [1.0, 1.75, 5.0]]);
        assert_eq!((found.same_bits, found.elements), (false, 2));
        assert_eq!((found.difference, found.difference_over_bound), (2.0, 3.0));
        assert_eq!(found.index, Some(vec![0, 0, 1, 0]));
        let first = found.first.unwrap();
        assert_eq!((first.run, first.with, first.index), (1, 0, vec![0, 0, 1, 0]));
    }

    #[test]
    fn a_sign_of_zero_is_a_difference_of_bits_and_none_of_numbers() {
        let found = of(&[[0.0, 1.0, 1.0], [-0.0, 1.0, 1.0]]);
        assert_eq!((found.same_bits, found.elements, found.difference), (false, 1, 0.0));
        assert_eq!(found.index, None);
        assert!(of(&[[0.0, 1.0, 1.0]; 4]).same_bits);
    }

    #[test]
    fn a_nan_in_one_run_is_infinitely_far_and_one_in_all_runs_is_no_difference() {
        let same = of(&[[f64::NAN, f64::INFINITY, 1.0]; 2]);
        assert_eq!((same.same_bits, same.difference), (true, 0.0));
        let found = of(&[[f64::NAN, 1.0, 1.0], [1.0, 1.0, 1.0]]);
        assert_eq!((found.difference, found.elements), (f64::INFINITY, 1));
        assert_eq!(found.index, Some(vec![0, 0, 0, 0]));
        let found = of(&[[f64::INFINITY, 1.0, 1.0], [1.0, 1.0, 1.0]]);
        assert_eq!(found.difference_over_bound, f64::INFINITY);
    }
}
