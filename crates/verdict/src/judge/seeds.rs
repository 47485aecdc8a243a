//! Many runs whose seeds are known: each has a reference of its own.

use super::Judge;
use super::dense_runs::fail_different_bits;
use super::expectation::{Expectation, ExpectationInput};
use crate::candidate::{RUN_NUMBERS, shape_of};
use crate::spread::{Runs, spread};
use crate::{Finding, Outcome, Verdict};
use rayon::prelude::*;
use std::collections::BTreeMap;
use sus_bounds::{Mode, Progress, Silent};
use sus_files::tensor_file::Numbers;
use sus_files::{Array, TensorFile};
use sus_reference::sus::Draw;

impl Judge {
    /// Many runs, each with a seed that is known: each is judged exactly, and the worst counts.
    pub(super) fn check_seeds(
        &self,
        draw: &Draw,
        runs: usize,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) -> Result<(), String> {
        let seeds: Vec<u64> = match candidate.arrays.get("seeds") {
            None => (0..runs as u64).map(|run| draw.seed.wrapping_add(run)).collect(),
            Some(Array { shape, numbers, .. }) if *shape == [runs] => match numbers {
                Numbers::Integer(data) => data.iter().map(|x| x.cast_unsigned()).collect(),
                Numbers::Unsigned(data) => data.clone(),
                Numbers::Float(_) => return Err("expected integers, found floats".into()),
            },
            Some(array) => return Err(format!("expected shape [{runs}], found {:?}", array.shape)),
        };
        progress.stage("runs, each by its seed", runs as u64);
        let verdicts: Vec<Result<Verdict, String>> = (0..runs)
            .into_par_iter()
            .map(|run| {
                let draw = draw.with_seed(seeds[run]);
                let input = ExpectationInput {
                    problem: &self.problem,
                    recipe: &self.recipe,
                    mode: Mode::Exact,
                    draw: Some(&draw),
                    known_bugs: self.known_bugs,
                };
                let exact = Expectation::new(input, self.exact.truth.clone(), None, &Silent)
                    .map_err(|e| e.to_string())?;
                let judge = Judge { draw: Some(draw), exact, bitwise: false, ..self.clone() };
                let verdict = judge.check(&self.run_of(candidate, runs, run));
                progress.done(1);
                Ok(verdict)
            })
            .collect();
        verdict.notes.push(format!("{runs} runs, each judged exactly by its own seed"));
        let mut summary = Runs { count: runs, ..Runs::default() };
        for (run, found) in verdicts.into_iter().enumerate() {
            let found = found?;
            summary.outcomes.push(found.outcome);
            if found.outcome != Outcome::Pass && found.outcome >= verdict.outcome {
                let seed = seeds[run];
                summary.shown = run;
                verdict.tensors.clone_from(&found.tensors);
                for finding in found.findings {
                    let message = format!("run {run}, seed {seed}: {}", finding.message);
                    verdict.find(Finding { message, ..finding });
                }
            }
        }
        let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (run, &seed) in seeds.iter().enumerate() {
            groups.entry(seed).or_default().push(run);
        }
        let groups: Vec<Vec<usize>> =
            groups.into_values().filter(|group| group.len() > 1).collect();
        if !groups.is_empty() {
            summary.spread = spread(&self.problem, candidate, &groups, |name| self.bound_of(name));
        }
        verdict.runs = Some(summary);
        if self.bitwise {
            if groups.is_empty() {
                let message = "no two runs have the same seed: there are no bits to compare";
                verdict.inconclusive("seeds", message);
            } else {
                fail_different_bits(runs, verdict);
            }
        }
        Ok(())
    }

    /// One of the runs in a file, without the tensors that number the runs. A result that is given once belongs to every run.
    pub(super) fn run_of(&self, file: &TensorFile, runs: usize, run: usize) -> TensorFile {
        let part = |name: &str, array: &Array| -> Array {
            let single = shape_of(&self.problem, name).is_some_and(|shape| shape == array.shape);
            if single || array.shape.first() != Some(&runs) {
                return array.clone();
            }
            let length: usize = array.shape[1..].iter().product();
            let range = run * length..(run + 1) * length;
            let numbers = match &array.numbers {
                Numbers::Float(data) => Numbers::Float(data[range].to_vec()),
                Numbers::Integer(data) => Numbers::Integer(data[range].to_vec()),
                Numbers::Unsigned(data) => Numbers::Unsigned(data[range].to_vec()),
            };
            Array { dtype: array.dtype, shape: array.shape[1..].to_vec(), numbers }
        };
        let arrays = file.arrays.iter().filter(|(name, _)| !RUN_NUMBERS.contains(&name.as_str()));
        let arrays = arrays.map(|(name, array)| (name.clone(), part(name, array))).collect();
        TensorFile { arrays, metadata: file.metadata.clone() }
    }
}
