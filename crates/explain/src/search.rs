//! The search: supposed kernels are compared with the candidate at some rows and keys, and the best of them on the whole result.

use crate::cause::{Cause, Kind};
use crate::evidence::Evidence;
use crate::fit::{Fit, factor, fit};
use crate::kernel::{Machine, Probe};
use crate::numbers::describe;
use crate::supposition::Supposition;
use rayon::prelude::*;
use std::collections::BTreeSet;
use sus_reference::TensorName;

/// Entries of the rows, and of the keys, at which every supposition is tried.
const PROBED: u64 = 1 << 13;

/// Entries up to which the whole problem is looked at; above, a sample of as many.
const WHOLE: u64 = 1 << 24;

/// Suppositions that are tried on the whole problem, at most.
const TRIED_WHOLE: usize = 3;

/// Effects of two suppositions that are added to each other, at most.
const PAIRED: usize = 512;

/// Elements by which two suppositions are chosen whose effects are added, at most.
const SUMMED: usize = 1 << 10;

/// Suppositions that give the same numbers and are named, at most.
const TIES: usize = 3;

/// A supposition at the probe.
struct Trial {
    /// Its place in the list.
    number: usize,
    /// The numbers at the probe, and how they fit, for each result.
    outputs: Vec<Option<(Vec<f64>, Fit)>>,
}

/// How much a supposition has to explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// All but roundings.
    Cause,
    /// All but a tenth of the norm.
    Most,
}

impl Tier {
    fn holds(self, fit: &Fit) -> bool {
        fit.is_cause() || (self == Tier::Most && fit.explains_most())
    }
}

/// Everything that the search compares.
pub(crate) struct Search<'a> {
    pub(crate) evidence: &'a Evidence<'a>,
    pub(crate) machine: &'a Machine<'a>,
    probe: Probe,
    suppositions: Vec<Supposition<'a>>,
    trials: Vec<Trial>,
}

/// Numbers from a list, evenly spread.
fn spread(list: &[usize], count: usize) -> impl Iterator<Item = usize> + '_ {
    let step = list.len().div_ceil(count.max(1)).max(1);
    list.iter().copied().step_by(step)
}

/// Some rows and keys, half of them wrong ones: about as many as have `entries` entries.
fn probe(evidence: &Evidence<'_>, entries: u64) -> Probe {
    let total = evidence.entries();
    if total <= entries {
        return Probe::everything(evidence);
    }
    let wrong = |names: &[TensorName]| -> Vec<usize> {
        let outputs = evidence.outputs.iter().filter(|output| names.contains(&output.name));
        let rows: BTreeSet<usize> = outputs
            .flat_map(|output| {
                let wrong = (0..output.wrong.len()).filter(|&at| output.wrong[at]);
                wrong.map(|at| at / output.shape[3])
            })
            .collect();
        rows.into_iter().collect()
    };
    let sizes = evidence.problem.sizes();
    let choose = |all: usize, wrong: &[usize]| -> Vec<usize> {
        let count = ((all as u64 * entries).div_ceil(total) as usize).clamp(4, all.max(4));
        let everywhere: Vec<usize> = (0..all).collect();
        let half = count.div_ceil(2);
        let chosen: BTreeSet<usize> =
            spread(wrong, half).chain(spread(&everywhere, half)).collect();
        chosen.into_iter().collect()
    };
    let rows = wrong(&[TensorName::O, TensorName::Lse, TensorName::Dq]);
    let keys = wrong(&[TensorName::Dk, TensorName::Dv, TensorName::Dkv]);
    let rows = choose(evidence.problem.row_count(), &rows);
    let keys = choose(sizes.batch * sizes.key_heads * sizes.keys, &keys);
    Probe::of(evidence, rows, keys, false)
}

impl<'a> Search<'a> {
    pub(crate) fn new(evidence: &'a Evidence<'a>, machine: &'a Machine<'a>) -> Self {
        let entries = PROBED.max(evidence.entries() / 64).min(4 * PROBED);
        let probe = probe(evidence, entries);
        Search { evidence, machine, probe, suppositions: Vec::new(), trials: Vec::new() }
    }

    /// Whether the passes of this crate are those of the problem: else no supposition says anything.
    pub(crate) fn is_faithful(&self) -> bool {
        let right = self.machine.run(&crate::kernel::Kernel::default(), &self.probe);
        let mut outputs = self.evidence.outputs.iter().zip(right).zip(&self.probe.elements);
        outputs.all(|((output, right), elements)| {
            let Some(right) = right else { return true };
            // One hundredth of a bound, or the rounding of f64 where the bounds are as narrow.
            elements.iter().zip(right).all(|(&at, right)| {
                let truth = output.truth[at];
                let allowed = (0.01 * output.bound[at]).max(1e-9 * truth.abs());
                truth == right || (truth - right).abs() <= allowed.max(1e-12)
            })
        })
    }

    /// Tries more suppositions.
    pub(crate) fn add(&mut self, more: Vec<Supposition<'a>>) {
        let first = self.suppositions.len();
        let tried: Vec<Trial> = more
            .par_iter()
            .enumerate()
            .filter_map(|(at, supposition)| self.trial(first + at, supposition))
            .collect();
        self.suppositions.extend(more);
        self.trials.extend(tried);
    }

    fn trial(&self, number: usize, supposition: &Supposition<'_>) -> Option<Trial> {
        let kernel = supposition.kernel()?;
        let found = self.machine.run(&kernel, &self.probe);
        let outputs = self.evidence.outputs.iter().zip(found).zip(&self.probe.elements);
        let outputs = outputs.map(|((output, found), elements)| {
            let found = found.filter(|_| !elements.is_empty())?;
            let fit = fit(output, elements, &found);
            Some((found, fit))
        });
        Some(Trial { number, outputs: outputs.collect() })
    }

    /// The place of a result in the lists.
    fn place(&self, name: TensorName) -> Option<usize> {
        self.evidence.outputs.iter().position(|output| output.name == name)
    }

    /// The results among `open` that a trial explains, those that it would have changed and that are right, and what is left.
    fn reach(&self, trial: &Trial, open: &[TensorName], by: Tier) -> (Vec<TensorName>, usize, f64) {
        let mut explained = Vec::new();
        let mut left: f64 = 0.0;
        for &name in open {
            let of = self.place(name).and_then(|at| trial.outputs[at].as_ref());
            if let Some((_, fit)) = of
                && by.holds(fit)
            {
                explained.push(name);
                left = left.max(fit.left);
            }
        }
        let against = self.evidence.outputs.iter().zip(&trial.outputs).filter(|(output, of)| {
            of.as_ref().is_some_and(|(_, fit)| !fit.agrees())
                && !explained.contains(&output.name)
                && !(open.contains(&output.name))
        });
        let against = against.count();
        (explained, against, left)
    }

    /// The supposition that explains most of the open results.
    pub(crate) fn best(&self, open: &[TensorName], by: Tier) -> Option<Cause> {
        let mut found: Vec<_> = self
            .trials
            .iter()
            .map(|trial| (trial, self.reach(trial, open, by)))
            .filter(|(_, (explained, ..))| !explained.is_empty())
            .collect();
        // Most results first, then those that speak against nothing, then the least that is left, in steps of a tenth.
        let step = |left: f64| (libm::log10(left.max(1e-12)) * 10.0).round();
        found.sort_by(|(a, (ea, ca, la)), (b, (eb, cb, lb))| {
            eb.len()
                .cmp(&ea.len())
                .then(ca.cmp(cb))
                .then(step(*la).total_cmp(&step(*lb)))
                .then(a.number.cmp(&b.number))
        });
        for (trial, (explained, against, _)) in found.iter().take(TRIED_WHOLE) {
            if let Some(mut cause) = self.confirm(trial, (open, by), *against) {
                let others = found.iter().filter(|(other, _)| other.number != trial.number);
                let ties = others.filter(|(other, _)| self.same(trial, other, explained));
                let text = |(other, _): &(&Trial, _)| self.suppositions[other.number].text.clone();
                cause.tied = ties.take(TIES).map(text).collect();
                return Some(cause);
            }
        }
        None
    }

    /// Whether two trials give the same numbers at the probe.
    fn same(&self, a: &Trial, b: &Trial, names: &[TensorName]) -> bool {
        names.iter().filter_map(|&name| self.place(name)).all(|at| {
            let (Some((x, _)), Some((y, _))) = (&a.outputs[at], &b.outputs[at]) else {
                return false;
            };
            let bounds =
                self.probe.elements[at].iter().map(|&n| self.evidence.outputs[at].bound[n]);
            let close = |((x, y), bound): ((&f64, &f64), f64)| {
                x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-3 * bound
            };
            x.iter().zip(y).zip(bounds).all(close)
        })
    }

    /// The cause on the whole problem, or on a larger sample of it.
    fn confirm(
        &self,
        trial: &Trial,
        (open, by): (&[TensorName], Tier),
        against: usize,
    ) -> Option<Cause> {
        let supposition = &self.suppositions[trial.number];
        let whole;
        let confirmed = if self.probe.is_whole {
            trial
        } else {
            let probe = probe(self.evidence, WHOLE);
            let kernel = supposition.kernel()?;
            let found = self.machine.run(&kernel, &probe);
            let outputs = self.evidence.outputs.iter().zip(found).zip(&probe.elements);
            let outputs = outputs.map(|((output, found), elements)| {
                let found = found.filter(|_| !elements.is_empty())?;
                let fit = fit(output, elements, &found);
                Some((found, fit))
            });
            whole = Trial { number: trial.number, outputs: outputs.collect() };
            &whole
        };
        let (explained, ..) = self.reach(confirmed, open, by);
        let fits: Vec<Fit> = explained
            .iter()
            .filter_map(|&name| confirmed.outputs[self.place(name)?].as_ref().map(|(_, fit)| *fit))
            .collect();
        let is_cause = fits.iter().all(Fit::is_cause);
        let (most, left) = fits.iter().fold((0.0, 0.0), |(most, left): (f64, f64), fit| {
            (most.max(fit.most), left.max(fit.left))
        });
        let alone = if against > 0 { ", in these results alone" } else { "" };
        (!explained.is_empty()).then(|| Cause {
            text: format!(
                "{} {} right for a kernel with {}{alone}",
                list(&explained),
                if explained.len() == 1 { "is" } else { "are" },
                supposition.text
            ),
            tensors: explained,
            kind: supposition.kind,
            is_cause,
            left_over_bound: most,
            unexplained: left,
            tied: Vec::new(),
        })
    }

    /// A multiple of what a supposition gives.
    pub(crate) fn multiple(&self, open: &[TensorName]) -> Option<Cause> {
        open.iter().find_map(|&name| {
            let at = self.place(name)?;
            let (output, elements) = (&self.evidence.outputs[at], &self.probe.elements[at]);
            self.trials.iter().find_map(|trial| {
                let (found, _) = trial.outputs[at].as_ref()?;
                let (f, sigma) = factor(output, elements, found)?;
                if f.abs() < 0.01 || elements.len() < 32 {
                    return None;
                }
                let supposed: Vec<f64> = found.iter().map(|x| f * x).collect();
                let fit = fit(output, elements, &supposed);
                fit.is_cause().then(|| Cause {
                    tensors: vec![name],
                    kind: Kind::Sum,
                    text: format!(
                        "{name} is right for a kernel with {}, times {}",
                        self.suppositions[trial.number].text,
                        describe(self.evidence.problem, f, sigma)
                    ),
                    is_cause: true,
                    left_over_bound: fit.most,
                    unexplained: fit.left,
                    tied: Vec::new(),
                })
            })
        })
    }

    /// Two suppositions whose errors add up to the deviation of a result.
    pub(crate) fn sum_of_two(&self, name: TensorName) -> Option<Cause> {
        let at = self.place(name)?;
        let output = &self.evidence.outputs[at];
        let step = self.probe.elements[at].len().div_ceil(SUMMED).max(1);
        let elements: Vec<usize> = self.probe.elements[at].iter().copied().step_by(step).collect();
        let elements = elements.as_slice();
        let in_bounds = |x: &[f64]| -> Vec<f64> {
            let each = elements.iter().zip(x);
            each.map(|(&n, x)| (x - output.truth[n]) / output.bound[n].max(1e-300)).collect()
        };
        let found: Vec<f64> = elements.iter().map(|&n| output.found[n]).collect();
        let deviation = in_bounds(&found);
        let size: f64 = deviation.iter().map(|x| x * x).sum();
        if !size.is_finite() || size == 0.0 {
            return None;
        }
        let mut effects: Vec<(usize, Vec<f64>)> = self
            .trials
            .iter()
            .filter_map(|trial| {
                let (supposed, fit) = trial.outputs[at].as_ref()?;
                let supposed: Vec<f64> = supposed.iter().copied().step_by(step).collect();
                let effect = in_bounds(&supposed);
                let norm: f64 = effect.iter().map(|x| x * x).sum();
                (fit.shows && norm.is_finite() && norm < 4.0 * size)
                    .then_some((trial.number, effect))
            })
            .collect();
        effects.truncate(PAIRED);
        let along: Vec<f64> =
            effects.iter().map(|(_, w)| crate::kernel::dot(w, &deviation)).collect();
        let best = (0..effects.len())
            .into_par_iter()
            .filter_map(|a| {
                let norm = crate::kernel::dot(&effects[a].1, &effects[a].1);
                let of = |b: usize| {
                    let other = &effects[b].1;
                    let both = norm
                        + crate::kernel::dot(other, other)
                        + 2.0 * crate::kernel::dot(&effects[a].1, other);
                    (size - 2.0 * (along[a] + along[b]) + both, a, b)
                };
                (a + 1..effects.len()).map(of).min_by(|x, y| x.0.total_cmp(&y.0))
            })
            .min_by(|x, y| x.0.total_cmp(&y.0))?;
        let (_, a, b) = best;
        let supposed: Vec<f64> = elements
            .iter()
            .enumerate()
            .map(|(n, &flat)| {
                output.truth[flat] + (effects[a].1[n] + effects[b].1[n]) * output.bound[flat]
            })
            .collect();
        let fit = fit(output, elements, &supposed);
        let text = |n: usize| &self.suppositions[effects[n].0].text;
        (fit.is_cause() || fit.explains_most()).then(|| Cause {
            tensors: vec![name],
            kind: Kind::Sum,
            text: format!("{name} has two errors: {}; and {}", text(a), text(b)),
            is_cause: fit.is_cause(),
            left_over_bound: fit.most,
            unexplained: fit.left,
            tied: Vec::new(),
        })
    }
}

/// Names in a list.
pub(crate) fn list(names: &[TensorName]) -> String {
    let words: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
