//! Many runs whose seeds are known: each has a reference of its own.

use super::Judge;
use super::expectation::{Expectation, ExpectationInput};
use crate::{Finding, Outcome, Verdict};
use rayon::prelude::*;
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
                let judge = Judge { draw: Some(draw), exact, ..self.clone() };
                let verdict = judge.check(&one_run(candidate, runs, run));
                progress.done(1);
                Ok(verdict)
            })
            .collect();
        verdict.notes.push(format!("{runs} runs, each judged exactly by its own seed"));
        for (run, found) in verdicts.into_iter().enumerate() {
            let found = found?;
            if found.outcome != Outcome::Pass && found.outcome >= verdict.outcome {
                let seed = seeds[run];
                verdict.tensors.clone_from(&found.tensors);
                for finding in found.findings {
                    let message = format!("run {run}, seed {seed}: {}", finding.message);
                    verdict.find(Finding { message, ..finding });
                }
            }
        }
        Ok(())
    }
}

/// One of the runs in a file.
fn one_run(file: &TensorFile, runs: usize, run: usize) -> TensorFile {
    let part = |array: &Array| -> Array {
        if array.shape.first() != Some(&runs) {
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
    let arrays = file.arrays.iter().filter(|(name, _)| *name != "seeds");
    let arrays = arrays.map(|(name, array)| (name.clone(), part(array))).collect();
    TensorFile { arrays, metadata: file.metadata.clone() }
}
