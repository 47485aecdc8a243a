//! The kill matrix: every mutant and control on every case, under our verdict and under the baseline tolerances.

mod cell;
mod report;
mod tally;

pub use cell::{Cell, ControlErrors, Outputs};
pub use tally::{PASSED, Survivor, Tally};

use super::arithmetic::{Arithmetic, Format};
use super::baseline_tolerances::{BASELINE_TOLERANCES, BaselineTolerance, Compared};
use super::{Kernel, RunConfig, unfused_kernel};
use rayon::prelude::*;
use sus_bounds::Recipe;
use sus_corpus::NamedProblem;
use sus_reference::TensorName;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::{Saved, forward};
use sus_reference::sus::sample;
use sus_verdict as verdict;

/// The recipes of the matrix.
pub const RECIPES: [&str; 4] = ["f64", "f32", "flash-bf16", "flash-f16"];

/// The cases of a quick run.
pub const QUICK: [&str; 3] = ["primes", "square_causal", "sus"];

/// One case at one recipe: a column of the matrix.
#[derive(Debug, Clone)]
pub struct Column {
    /// The case.
    pub case: &'static str,
    /// The recipe.
    pub recipe: &'static str,
    /// The verdict on each kernel, in the matrix's order; `None` where it does not apply.
    pub cells: Vec<Option<Cell>>,
}

/// The whole matrix.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// The kernels that ran.
    pub kernels: Vec<&'static Kernel>,
    /// The columns, case by case.
    pub columns: Vec<Column>,
}

impl Matrix {
    /// Runs kernels on the given cases at the given recipes. Without controls every run of a mutant counts as one that
    /// shows. SUS is not run by recipes that store weights in 16 bits: they decide most entries otherwise.
    ///
    /// # Errors
    /// Those of [`sus_verdict::JudgeBuilder::build`].
    ///
    /// # Examples
    /// ```
    /// use sus_corpus as cases;
    /// use sus_mutants::{kernels, matrix::Matrix};
    /// let matrix = Matrix::run(kernels(), &[cases::named("primes").unwrap()], &["f32"])?;
    /// assert_eq!((matrix.ours().passed, matrix.ours().rejected), (0, 0));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn run(
        kernels: Vec<&'static Kernel>,
        cases: &[NamedProblem],
        recipes: &[&'static str],
    ) -> Result<Self, Error> {
        let of_case = |case| recipes.iter().map(move |&recipe| (case, recipe));
        let pairs: Vec<(&NamedProblem, &'static str)> = cases
            .iter()
            .flat_map(of_case)
            .filter(|(case, recipe)| case.draw.is_none() || !recipe.starts_with("eager"))
            .collect();
        let columns = pairs.into_par_iter().map(|(case, recipe)| column(&kernels, case, recipe));
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Matrix { kernels, columns })
    }

    /// The cells of a kernel, with their columns.
    pub fn row<'a>(&'a self, kernel: &Kernel) -> impl Iterator<Item = (&'a Column, &'a Cell)> {
        let at = self.kernels.iter().position(|other| other.name == kernel.name);
        self.columns.iter().filter_map(move |column| Some((column, column.cells[at?].as_ref()?)))
    }
}

/// One column.
fn column(kernels: &[&Kernel], case: &NamedProblem, recipe: &'static str) -> Result<Column, Error> {
    let recipe = Recipe::built_in(recipe).expect("a built-in recipe");
    let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), case.draw.as_ref());
    let stages = config.all_stages();
    let config = config.sharing(&stages);
    let judged = verdict::Case::new(case.problem.clone(), case.settings.clone());
    let judge = super::judge(&judged, &recipe).build()?;
    let saved = forward(&case.problem);
    let mask = match &case.draw {
        Some(draw) => Some(sample(&case.problem, &saved, draw)?),
        None => None,
    };
    let truth = truth(&saved, judge.gradients());
    let unfused = Outputs::of_file(&unfused_kernel(&config, mask.as_ref()));
    let mut errors = ControlErrors::default();
    let run = |kernel: &Kernel| (kernel.run)(&config).map(|run| (Outputs::of_file(&run), run));
    let runs: Vec<_> = kernels.iter().map(|kernel| (*kernel, run(kernel))).collect();
    for (_, run) in runs.iter().filter(|(kernel, _)| !kernel.is_mutant) {
        if let Some((outputs, _)) = run {
            errors.include(outputs, &truth);
        }
    }
    let cells = runs.iter().map(|(_, run)| {
        let (outputs, candidate) = run.as_ref()?;
        let verdict = judge.check(candidate);
        let compare = Comparison { outputs, truth: &truth, unfused: &unfused, config: &config };
        let led = verdict.findings.iter().filter(|finding| finding.outcome == verdict.outcome);
        Some(Cell {
            outcome: verdict.outcome,
            rule: led.map(|finding| finding.rule).min(),
            used: verdict
                .tensors
                .iter()
                .filter_map(|t| t.worst.as_ref())
                .map(|w| w.ratio)
                .fold(0.0, f64::max),
            visible: errors.shows(outputs, &truth),
            baselines: BASELINE_TOLERANCES.iter().map(|rule| compare.passes(rule)).collect(),
        })
    });
    Ok(Column { case: case.name, recipe: recipe_name(&recipe), cells: cells.collect() })
}

/// The recipe's own name, as the matrix has it.
fn recipe_name(recipe: &Recipe) -> &'static str {
    Recipe::NAMES.into_iter().find(|name| *name == recipe.name).expect("a built-in recipe")
}

/// The truth, by name.
fn truth(saved: &Saved<f64>, gradients: &Gradients<f64>) -> Outputs {
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = gradients;
    let mut outputs = Outputs::default();
    let tensors = [(TensorName::O, &saved.o), (TensorName::Lse, &saved.lse), (TensorName::Dq, dq)];
    outputs.0.extend(tensors.map(|(name, tensor)| (name, tensor.as_slice().to_vec())));
    outputs.0.extend(dbias.iter().map(|dbias| (TensorName::Dbias, dbias.as_slice().to_vec())));
    outputs.0.extend(dsink.iter().map(|dsink| (TensorName::Dsink, dsink.clone())));
    let keys = match dkv {
        Some(dkv) => vec![(TensorName::Dkv, dkv)],
        None => vec![(TensorName::Dk, dk), (TensorName::Dv, dv)],
    };
    let more = keys.into_iter().chain(dslopes.iter().map(|x| (TensorName::Dslopes, x)));
    outputs.0.extend(more.map(|(name, tensor)| (name, tensor.as_slice().to_vec())));
    outputs
}

/// What a baseline tolerance compares.
struct Comparison<'a> {
    outputs: &'a Outputs,
    truth: &'a Outputs,
    unfused: &'a Outputs,
    config: &'a RunConfig<'a>,
}

impl Comparison<'_> {
    /// Whether every gradient that the rule judges passes; `None` if it judges none, or knows no `f64`.
    fn passes(&self, tolerance: &BaselineTolerance) -> Option<bool> {
        let format = self.config.arithmetic.gradient;
        if format == Format::F64 {
            return None;
        }
        let judged = TensorName::GRADIENTS.into_iter().filter_map(|tensor| {
            let reference = self.truth.0.get(&tensor)?;
            (tolerance.passes)(&Compared {
                tensor,
                x: &self.outputs.0[&tensor],
                reference,
                unfused: &self.unfused.0[&tensor],
                format,
                softcap: self.config.problem.options().softcap.is_some(),
            })
        });
        judged.reduce(|a, b| a && b)
    }
}
