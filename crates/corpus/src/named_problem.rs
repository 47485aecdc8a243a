//! The problems of the kill matrix, ready to run.

use super::data::Suite;
use super::fixture::{Fixture, Seeds};
use super::inputs::draw_inputs;
use sus_files::Settings;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// A problem with its purpose.
///
/// # Examples
/// ```
/// let sus = sus_corpus::named("sus").unwrap();
/// assert_eq!(sus.draw, sus.settings.draw()?);
/// assert!(sus.draw.is_some());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NamedProblem {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The problem.
    pub problem: Problem<f64>,
    /// What its file would say.
    pub settings: Settings,
    /// The draw, for SUS.
    pub draw: Option<Draw>,
}

impl From<&'static Fixture> for NamedProblem {
    /// # Panics
    /// If the case is no legal problem; a test builds all cases of the kill matrix.
    fn from(case: &'static Fixture) -> Self {
        let seed = case.draw.and_then(|draw| match draw.seeds {
            Seeds::Given(seed) | Seeds::Statistics(seed) => Some(seed),
            Seeds::Margin { .. } => None,
        });
        let settings = case.settings(seed);
        let legal = "a case of the kill matrix is a legal problem";
        let inputs = draw_inputs(case).expect(legal);
        let problem = Problem::new(inputs, case.problem_options().expect(legal)).expect(legal);
        let draw = settings.draw().expect(legal);
        NamedProblem { name: &case.name, purpose: &case.purpose, problem, settings, draw }
    }
}

/// All problems of the kill matrix, the dense ones first.
#[must_use]
pub fn all() -> Vec<NamedProblem> {
    Suite::KillMatrix.fixtures().iter().map(NamedProblem::from).collect()
}

/// The problem of this name.
///
/// # Examples
/// ```
/// use sus_corpus::named;
/// assert_eq!(named("primes").unwrap().name, "primes");
/// assert!(named("no such case").is_none());
/// ```
#[must_use]
pub fn named(name: &str) -> Option<NamedProblem> {
    Suite::KillMatrix.fixtures().iter().find(|case| case.name == name).map(NamedProblem::from)
}
