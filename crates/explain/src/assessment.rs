//! The whole answer to a candidate: its verdict, another recipe that passes, and what explains a failure.

use crate::other_recipes::{Judged, passing_recipe};
use crate::{Explanation, explain};
use std::io;
use std::path::Path;
use sus_bounds::{Mode, Progress, Recipe};
use sus_files::{FileError, TensorFile};
use sus_verdict::report::Report;
use sus_verdict::{
    Case, Criterion, Finding, Reference, Verdict, expect_few_runs, is_projected, recipe_of,
};

/// How a candidate is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The candidate's file, which errors name.
    pub label: &'a Path,
    /// A built-in recipe or a TOML file; `None` takes the one that the candidate's type suggests.
    pub recipe: Option<&'a str>,
    /// Where the `o` and `lse` that the gradients are judged by come from.
    pub mode: Mode,
    /// How the reference is computed.
    pub reference: Reference,
    /// Many runs are judged by the distribution of the mask alone, even if the case names a seed.
    pub law: bool,
    /// Runs have to agree in every bit.
    pub bitwise: bool,
}

impl<'a> Request<'a> {
    /// A candidate of this name, judged at the recipe of its type, in mode `exact`.
    #[must_use]
    pub fn new(label: &'a Path) -> Self {
        let (mode, reference) = (Mode::Exact, Reference::Auto);
        Request { label, recipe: None, mode, reference, law: false, bitwise: false }
    }
}

/// A verdict, and what explains it.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The case, with the settings that the candidate's own metadata adds.
    pub case: Case,
    /// The verdict.
    pub verdict: Verdict,
    /// The recipe.
    pub recipe: Recipe,
    /// Whether the recipe was asked for.
    pub was_asked: bool,
    /// The mode.
    pub mode: Mode,
    /// Another built-in recipe at which the candidate passes.
    pub passes_as: Option<&'static str>,
    /// What explains the results that failed, but for a recipe that was not asked for and explains them already.
    pub explanation: Option<Explanation>,
}

impl Assessment {
    /// The report of a candidate of this name; `command` computes it again.
    #[must_use]
    pub fn report(&self, candidate: String, command: String) -> Report<'_> {
        let chosen = if self.was_asked { "as asked" } else { "by the candidate's dtype" };
        Report {
            verdict: &self.verdict,
            case: self.case.label.clone(),
            candidate,
            recipe: format!("{} ({chosen})", self.recipe.name),
            mode: self.mode.name(),
            pass: self.case.describe_pass(),
            command,
            passes_as: self.passes_as.map(str::to_owned),
            diagnosis: self.diagnosis(),
            place: self
                .explanation
                .as_ref()
                .map(Explanation::whereabouts)
                .filter(|it| !it.is_empty()),
            explanation: self.explanation.as_ref().and_then(|it| serde_json::to_value(it).ok()),
        }
    }

    /// What explains the results that failed, in words: another recipe, or the explanation.
    #[must_use]
    pub fn diagnosis(&self) -> Option<String> {
        match self.passes_as.filter(|_| !self.was_asked) {
            Some(name) => {
                Some(format!("none: a right kernel of the recipe {name} gives such results"))
            }
            None => self.explanation.as_ref().map(Explanation::why).or_else(|| {
                let said =
                    "no result is wrong that can be compared; tensors have other names, see below";
                let names = |finding: &Finding| finding.rule == Criterion::Extra;
                self.verdict.findings.iter().any(names).then(|| said.to_owned())
            }),
        }
    }
}

/// Judges a candidate, and looks for what explains a failure.
///
/// # Errors
/// One line that names the case, the candidate or the recipe, and its defect. A wrong candidate is no error.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use sus_bounds::Silent;
/// use sus_files::Settings;
/// use sus_explain::{Request, assess};
/// use sus_mutants::{RunConfig, arithmetic::Arithmetic, named};
/// use sus_verdict::{Case, Outcome};
/// let case = Case::new(sus_corpus::named("primes").unwrap().problem, Settings::default());
/// let config = RunConfig::new(&case.problem, Arithmetic::named("f32").unwrap(), None);
/// let candidate = (named("dk_unscaled").unwrap().run)(&config).unwrap();
/// let request = Request { recipe: Some("f32"), ..Request::new(Path::new("mine")) };
/// let found = assess(case.clone(), &candidate, &request, &Silent)?;
/// assert_eq!(found.verdict.outcome, Outcome::Fail);
/// assert!(found.diagnosis().unwrap().contains("dk"));
/// # Ok::<(), sus_files::FileError>(())
/// ```
pub fn assess(
    case: Case,
    candidate: &TensorFile,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Assessment, FileError> {
    let &Request { mode, reference, bitwise, .. } = request;
    let (case, recipe, was_asked) = prepared(case, candidate, request)?;
    let judge = sus_mutants::judge(&case, &recipe)
        .mode(mode)
        .reference(reference)
        .bitwise_repeat(bitwise)
        .progress(progress)
        .build()
        .map_err(|e| FileError::new(Path::new(&case.label), e))?;
    progress.stage("verdict", 0);
    let verdict = judge.check_with_progress(candidate, progress);
    progress.stage("other recipes", 0);
    let passes_as = passing_recipe(&Judged {
        case: &case,
        candidate,
        verdict: &verdict,
        judge: &judge,
        mode,
        reference,
        was_asked,
        bitwise,
    });
    progress.stage("diagnosis", 0);
    // A default recipe that is not the kernel's explains the failure. One that was asked for is what the kernel has to keep.
    let explained = passes_as.is_some() && !was_asked;
    let explanation = if explained { None } else { explain(&judge, &verdict, candidate) };
    Ok(Assessment { case, verdict, recipe, was_asked, mode, passes_as, explanation })
}

/// The case with what the candidate's metadata adds, the recipe, and whether it was asked for.
pub(crate) fn prepared(
    mut case: Case,
    candidate: &TensorFile,
    request: &Request<'_>,
) -> Result<(Case, Recipe, bool), FileError> {
    let &Request { label, law, .. } = request;
    case.complete_from(candidate).map_err(|e| FileError::new(label, e))?;
    if law {
        case.settings.seed = None;
    }
    expect_few_runs(&case, candidate).map_err(|e| FileError::new(label, e))?;
    let was_asked = request.recipe.is_some();
    let name = match request.recipe {
        Some(name) => name,
        None if is_projected(candidate) => {
            let said = "projected values do not show how their kernel rounds: expected --recipe, found none";
            return Err(invalid(label, said));
        }
        None if case.has_fp8 => "flash-fp8",
        None => recipe_of(candidate),
    };
    let recipe = Recipe::named(name).map_err(|e| invalid(Path::new(name), &e.to_string()))?;
    Ok((case, recipe, was_asked))
}

fn invalid(path: &Path, said: &str) -> FileError {
    FileError::new(path, io::Error::new(io::ErrorKind::InvalidInput, said))
}
