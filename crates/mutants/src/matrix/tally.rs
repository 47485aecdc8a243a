//! How many runs each rule passes, and which mutants pass.

use super::cell::Cell;
use super::{Column, Matrix};
use crate::Kernel;
use sus_verdict::Outcome;

/// How one rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Runs of mutants that show, and that the rule judges.
    pub judged: usize,
    /// Of these, those that it passes.
    pub passed: usize,
    /// Runs of controls that it judges.
    pub right: usize,
    /// Of these, those that it does not pass.
    pub rejected: usize,
    /// Mutants with a run that shows.
    pub kernels: usize,
    /// Of these, those that it passes every time.
    pub never_caught: usize,
}

/// A mutant that passes on cases on which it shows.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// The recipe.
    pub recipe: &'static str,
    /// How many of its runs show.
    pub shown: usize,
    /// The cases on which it passes nevertheless.
    pub cases: Vec<&'static str>,
}

/// Runs of mutants that show and are passed: kernel, recipe, case. A control can give the same results, each of its stages within its
/// bound: a test of this module has the numbers (`docs/verdict.md`, "What remains").
pub const PASSED: [(&str, &str, &str); 1] =
    [("keys_prescaled_and_rounded", "flash-f16", "one_key")];

/// Whether a rule passes a run; `None` if it does not judge it.
pub(super) type Says<'a> = &'a dyn Fn(&Cell) -> Option<bool>;

impl Matrix {
    /// The verdicts of one rule on the whole matrix.
    pub(super) fn tally(&self, says: Says<'_>) -> Tally {
        let mut tally = Tally::default();
        for &kernel in &self.kernels {
            let runs: Vec<bool> = self
                .row(kernel)
                .filter(|(_, cell)| !kernel.is_mutant || cell.visible)
                .filter_map(|(_, cell)| says(cell))
                .collect();
            let passed = runs.iter().filter(|&&passes| passes).count();
            if kernel.is_mutant {
                tally.judged += runs.len();
                tally.passed += passed;
                tally.kernels += usize::from(!runs.is_empty());
                tally.never_caught += usize::from(!runs.is_empty() && passed == runs.len());
            } else {
                tally.right += runs.len();
                tally.rejected += runs.len() - passed;
            }
        }
        tally
    }

    /// Our verdict on it.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus as cases;
    /// use sus_mutants::{kernels, matrix::Matrix, named};
    /// let right = kernels().into_iter().filter(|kernel| !kernel.is_mutant);
    /// let kernels = right.chain(named("delta_missing")).collect();
    /// let matrix = Matrix::run(kernels, &[cases::named("primes").unwrap()], &["f32"])?;
    /// let ours = matrix.ours();
    /// assert_eq!((ours.passed, ours.never_caught, ours.rejected), (0, 0, 0));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn ours(&self) -> Tally {
        self.tally(&|cell| match cell.outcome {
            Outcome::Pass => Some(true),
            Outcome::Fail => Some(false),
            Outcome::Refused | Outcome::Inconclusive => None,
        })
    }

    /// The cases and recipes at which controls are refused: the bounds are too wide there to certify anything.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        for column in &self.columns {
            let cells =
                self.kernels.iter().zip(&column.cells).filter(|(kernel, _)| !kernel.is_mutant);
            let refused =
                |cell: &Cell| matches!(cell.outcome, Outcome::Refused | Outcome::Inconclusive);
            if cells.filter_map(|(_, cell)| cell.as_ref()).any(refused) {
                refusals.push(format!("{} at {}", column.case, column.recipe));
            }
        }
        refusals
    }

    /// Runs of controls that fail, and of mutants that show and pass, but for those of [`PASSED`].
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for &kernel in self.kernels.iter().filter(|kernel| !kernel.is_mutant) {
            for (column, _) in self.row(kernel).filter(|(_, cell)| cell.outcome == Outcome::Fail) {
                mistakes
                    .push(format!("{} on {} at {} fails", kernel.name, column.case, column.recipe));
            }
        }
        for Survivor { kernel, recipe, cases, .. } in self.survivors() {
            for case in cases {
                if !PASSED.contains(&(kernel.name, recipe, case)) {
                    mistakes.push(format!("{} at {recipe} passes on {case}", kernel.name));
                }
            }
        }
        mistakes
    }

    /// The mutants that pass where they show, by recipe.
    #[must_use]
    pub fn survivors(&self) -> Vec<Survivor> {
        let mut survivors = Vec::new();
        for &kernel in self.kernels.iter().filter(|kernel| kernel.is_mutant) {
            for recipe in self.recipes() {
                let shows =
                    |(column, cell): &(&Column, &Cell)| column.recipe == recipe && cell.visible;
                let shown: Vec<_> = self.row(kernel).filter(shows).collect();
                let passed = shown.iter().filter(|(_, cell)| cell.outcome == Outcome::Pass);
                let cases: Vec<_> = passed.map(|(column, _)| column.case).collect();
                if !cases.is_empty() {
                    survivors.push(Survivor { kernel, recipe, shown: shown.len(), cases });
                }
            }
        }
        survivors
    }

    /// The largest `|error| / bound` of a control at a recipe, with the kernel and the case.
    #[must_use]
    pub fn tightness(&self, recipe: &str) -> Option<(f64, &'static str, &'static str)> {
        let right = self.kernels.iter().filter(|kernel| !kernel.is_mutant);
        let used = right.flat_map(|kernel| {
            let cells = self.row(kernel).filter(|(column, _)| column.recipe == recipe);
            cells.map(|(column, cell)| (cell.used, kernel.name, column.case)).collect::<Vec<_>>()
        });
        used.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The recipes, in order.
    pub(super) fn recipes(&self) -> Vec<&'static str> {
        let mut recipes = Vec::new();
        for column in &self.columns {
            if !recipes.contains(&column.recipe) {
                recipes.push(column.recipe);
            }
        }
        recipes
    }

    /// The cases on which a kernel shows at some recipe.
    #[must_use]
    pub fn shows_on(&self, kernel: &Kernel) -> Vec<&'static str> {
        let mut cases = Vec::new();
        for (column, cell) in self.row(kernel) {
            if cell.visible && !cases.contains(&column.case) {
                cases.push(column.case);
            }
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::{Arithmetic, Format};
    use crate::{RunConfig, cases, control_kernel, named};
    use sus_bounds::{BoundsInput, Mode, Recipe, Stage, Truth, bounds};
    use sus_files::TensorFile;
    use sus_files::tensor_file::Numbers;

    fn floats<'a>(file: &'a TensorFile, name: &str) -> &'a [f64] {
        match &file.arrays[name].numbers {
            Numbers::Float(x) => x,
            _ => panic!("{name} is not of floats"),
        }
    }

    /// Each stage of the witness errs by no more than a right kernel may, `P` is not rounded, and the bits are those of the run.
    #[test]
    fn the_run_that_passes_is_one_that_a_right_kernel_can_give() {
        let (kernel, recipe, case) = PASSED[0];
        let recipe = Recipe::built_in(recipe).unwrap();
        let problem = cases::named(case).unwrap().problem;
        let config = RunConfig::new(&problem, Arithmetic::of(&recipe), None);
        let (passed, right) =
            ((named(kernel).unwrap().run)(&config).unwrap(), control_kernel(&config));
        let different: Vec<_> = ["o", "lse", "dq", "dk", "dv"]
            .into_iter()
            .flat_map(|name| (0..floats(&right, name).len()).map(move |at| (name, at)))
            .filter(|&(name, at)| floats(&passed, name)[at] != floats(&right, name)[at])
            .collect();
        assert_eq!(different, [("dv", 3)]);

        let truth = Truth::exact(&problem).unwrap();
        let gradients = truth.gradients(None);
        let bound =
            bounds(&BoundsInput::dense(&problem, &recipe, Mode::Exact, &truth.saved(), &gradients))
                .dv;
        let exact = gradients.dv.as_slice()[3];
        let share = |stage: Stage| f64::from(bound.stages[3][stage as usize]) * bound.threshold[3];
        let may_err = share(Stage::Score) + share(Stage::Lse) + share(Stage::Sum);
        let found = floats(&passed, "dv")[3];
        // Past the middle between what the run and what the other right kernels store.
        let witness = f64::midpoint(found, floats(&right, "dv")[3]) + (found - exact) / 64.0;
        assert!((witness - exact).abs() < may_err, "{witness} is {may_err} from {exact}");
        assert_eq!(Format::F16.round(witness), found);
    }
}
