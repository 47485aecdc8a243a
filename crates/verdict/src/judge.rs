//! The judgement of candidates of one case.

mod builder;
mod expectation;
mod reference;
mod seeds;

use super::candidate::{is_projected, results, runs, shape_of};
use super::elements::{Expected, compare};
use super::mask::{self, CandidateMask};
use super::mask_constraints::MaskConstraints;
use super::statistics::judge_directions;
use super::{Case, Criterion, Finding, KnownBugs, Mode, Outcome, Verdict, statistical};
use expectation::{Expectation, Judged};
use std::borrow::Cow;
use sus_bounds::{
    Bounds, BoundsInput, OfRows, Progress, Recipe, Silent, kept_weights_of, widen_weights,
};
use sus_files::TensorFile;
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;
use sus_reference::tensor::Tensor;

pub use builder::JudgeBuilder;
pub use reference::{LARGE, Reference};

/// One case at one recipe, ready to judge candidates.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// use sus_bounds::{Mode, Recipe};
/// use sus_verdict::{Case, Judge, Outcome};
/// let case = sus_corpus::named("primes").unwrap();
/// let recipe = Recipe::built_in("f32").unwrap();
/// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
/// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
/// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
/// let right = gallery::unfused_kernel(&config, None);
/// assert_eq!([&right, &wrong].map(|candidate| judge.check(candidate).outcome), [Outcome::Pass, Outcome::Fail]);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Judge {
    problem: Problem<f64>,
    /// The problem before its inputs were rounded, if that changed it.
    stored: Option<Problem<f64>>,
    recipe: Recipe,
    mode: Mode,
    reference: Reference,
    known_bugs: Option<&'static dyn KnownBugs>,
    draw: Option<Draw>,
    seed_known: bool,
    exact: Expectation,
}

impl Judge {
    /// What a judge of this case and recipe is made of: mode `exact`, the reference by the problem's size, and no known bugs to aim at.
    #[must_use]
    pub fn builder<'a>(case: &'a Case, recipe: &'a Recipe) -> JudgeBuilder<'a> {
        JudgeBuilder::new(case, recipe)
    }

    /// The recipe.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_files::Settings;
    /// use sus_bounds::{Mode, Recipe};
    /// use sus_verdict::{Case, Judge};
    /// let recipe = Recipe::built_in("flash-bf16").unwrap();
    /// let judge = sus_mutants::judge(&Case::new(problem, Settings::default()), &recipe).build()?;
    /// assert_eq!(judge.recipe().name, "flash-bf16");
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The problem, its inputs as the recipe reads them.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_files::Settings;
    /// use sus_bounds::{Format, Mode, Recipe};
    /// use sus_verdict::{Case, Judge};
    /// let recipe = Recipe::built_in("flash-bf16").unwrap();
    /// let judge = sus_mutants::judge(&Case::new(problem, Settings::default()), &recipe).build()?;
    /// let q = judge.problem().inputs().q.as_slice();
    /// assert!(q.iter().all(|&x| Format::Bf16.round(x) == x));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn problem(&self) -> &Problem<f64> {
        &self.problem
    }

    /// The truth of the gradients with the oracle's own mask, or of the dense ones, from the exact forward pass.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_files::Settings;
    /// use sus_bounds::{Mode, Recipe, Truth};
    /// use sus_verdict::{Case, Judge};
    /// let recipe = Recipe::built_in("f32").unwrap();
    /// let judge = sus_mutants::judge(&Case::new(problem, Settings::default()), &recipe).build()?;
    /// assert_eq!(*judge.gradients(), Truth::exact(judge.problem())?.gradients(None));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn gradients(&self) -> &Gradients<f64> {
        &self.exact.judged.gradients
    }

    /// The bounds that go with them.
    ///
    /// # Examples
    /// ```
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// use sus_files::Settings;
    /// use sus_bounds::{Mode, Recipe};
    /// use sus_verdict::{Case, Judge};
    /// let case = Case::new(problem, Settings::default());
    /// let bound = |recipe| {
    ///     let judge = sus_mutants::judge(&case, &Recipe::built_in(recipe).unwrap()).build().unwrap();
    ///     judge.bounds().dq.threshold[0]
    /// };
    /// assert!(bound("f32") < bound("flash-bf16"));
    /// ```
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.exact.judged.bounds
    }

    /// Judges one candidate.
    ///
    /// # Panics
    /// Never: a result that is found is one of the problem's.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
    /// use sus_bounds::{Mode, Recipe};
    /// use sus_verdict::{Case, Judge, Outcome};
    /// let case = sus_corpus::named("primes").unwrap();
    /// let recipe = Recipe::built_in("flash-bf16").unwrap();
    /// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
    ///
    /// let config = RunConfig::new(&case.problem, Arithmetic::of(&recipe), None);
    /// assert_eq!(judge.check(&gallery::control_kernel(&config)).outcome, Outcome::Pass);
    /// let wrong = (gallery::named("delta_missing").unwrap().run)(&config).unwrap();
    /// assert_eq!(judge.check(&wrong).outcome, Outcome::Fail);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn check(&self, candidate: &TensorFile) -> Verdict {
        self.check_with_progress(candidate, &Silent)
    }

    /// As [`Judge::check`], and reports progress: a forward pass that is given, a mask of the candidate's own, and many
    /// runs have bounds of their own.
    ///
    /// # Panics
    /// As [`Judge::check`].
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
    /// use sus_bounds::{Mode, Recipe};
    /// use sus_verdict::{Case, Judge, Outcome, Silent};
    /// let case = sus_corpus::named("primes").unwrap();
    /// let recipe = Recipe::built_in("flash-bf16").unwrap();
    /// let judge = sus_mutants::judge(&Case::new(case.problem.clone(), case.settings.clone()), &recipe).build()?;
    /// let right = gallery::control_kernel(&RunConfig::new(&case.problem, Arithmetic::of(&recipe), None));
    /// assert_eq!(judge.check_with_progress(&right, &Silent).outcome, Outcome::Pass);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn check_with_progress(&self, candidate: &TensorFile, progress: &dyn Progress) -> Verdict {
        let mut verdict = Verdict::default();
        if self.stored.is_some() {
            let format = self.recipe.input.name();
            verdict
                .notes
                .push(format!("the inputs were rounded to {format}, as the recipe reads them"));
        }
        if let Some(runs) = runs(&self.problem, candidate) {
            self.check_runs(runs, candidate, &mut verdict, progress);
            return verdict;
        }
        let results = results(&self.problem, self.draw.is_some(), candidate, &mut verdict);
        if results.is_empty() {
            verdict.fail(
                "candidate",
                Criterion::Missing,
                "expected at least one result, found none",
            );
            return verdict;
        }
        let given = match self.mode {
            Mode::Exact => None,
            Mode::Given => match self.given(&results, progress) {
                Ok(reference) => Some(reference),
                Err(message) => {
                    verdict.find(Finding {
                        tensor: "o".into(),
                        rule: Criterion::Unjudged,
                        outcome: Outcome::Refused,
                        message,
                    });
                    None
                }
            },
        };
        let reference = given.as_ref().unwrap_or(&self.exact);
        let own = self.own_mask(reference, candidate, &mut verdict, progress);
        let judged = own.as_deref().unwrap_or(&reference.judged);
        verdict.notes.extend(judged.notes());
        let unknown_mask = self.draw.is_some() && !self.seed_known && own.is_none();
        if unknown_mask {
            self.inconclusive(
                "the case names no seed and the candidate brings no mask",
                &mut verdict,
            );
        }
        for &(name, found) in &results {
            if unknown_mask && ["dq", "dk", "dv", "dbias"].contains(&name) {
                continue;
            }
            let shape = shape_of(&self.problem, name).expect("a result of this problem");
            let (truth, bound) = match name {
                "o" => (self.exact.saved.o.as_slice(), &self.exact.judged.bounds.o),
                "lse" => (self.exact.saved.lse.as_slice(), &self.exact.judged.bounds.lse),
                _ => judged.of(name),
            };
            let limits = ["dq", "dk", "dv"].iter().position(|&n| n == name);
            let limits = limits.and_then(|at| Some(&judged.limits.as_ref()?.0[at]));
            let sizes = self.problem.sizes();
            let head_rows =
                if name == "dq" { self.problem.group() * sizes.queries } else { sizes.keys };
            let output = self.recipe.output;
            // What has more bits than the recipe stores was not rounded to its format.
            let ranges =
                judged.ranges.as_ref().filter(|_| found.iter().all(|&x| output.round(x) == x));
            let ranges = ranges.map_or_else(Vec::new, |ranges| ranges.of(name));
            let ranges = ranges.as_slice();
            let expected =
                Expected { name, shape: &shape, truth, bound, limits, ranges, head_rows };
            let result = compare(expected, found, &mut verdict);
            verdict.tensors.push(result);
        }
        // They look for what hides below the bounds: an error above them goes along any direction.
        let above = verdict.findings.iter().any(|finding| finding.rule == Criterion::Bound);
        if !unknown_mask
            && !above
            && let Some((_, along)) = &judged.limits
        {
            let of = |name: &str| {
                let found = results.iter().find(|result| result.0 == name)?.1;
                Some([judged.of(name).0, found])
            };
            let dbias = of("dbias");
            if let (Some(dq), Some(dk), Some(dv)) = (of("dq"), of("dk"), of("dv")) {
                let gradients = [dq, dk, dv, dbias.unwrap_or_default()];
                let of_o = results.iter().find(|result| result.0 == "o");
                let of_o = of_o.and_then(|&(_, o)| self.delta_of(o));
                judge_directions(along, gradients, of_o.as_deref(), &mut verdict);
            }
        }
        verdict
    }

    /// What an `o` makes of each row's `delta`, against the truth; `None` if it is not one that the recipe stores.
    fn delta_of(&self, o: &[f64]) -> Option<Vec<f64>> {
        let format = self.recipe.o;
        if o.iter().any(|&x| format.round(x) != x) {
            return None;
        }
        let errors = o.iter().zip(self.exact.saved.o.as_slice()).map(|(o, truth)| o - truth);
        let products: Vec<f64> =
            errors.zip(self.problem.inputs().g.as_slice()).map(|(error, g)| error * g).collect();
        let width = self.problem.sizes().value_features.max(1);
        Some(products.chunks(width).map(|row| row.iter().sum()).collect())
    }

    /// Many runs in one file.
    fn check_runs(
        &self,
        runs: usize,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) {
        let Some(draw) = &self.draw else {
            let message = format!("{runs} runs of a dense case: one run at a time can be judged");
            self.inconclusive(&message, verdict);
            return;
        };
        if self.seed_known && !is_projected(candidate) {
            match self.check_seeds(draw, runs, candidate, verdict, progress) {
                Ok(()) => {}
                Err(message) => verdict.fail("seeds", Criterion::Extra, message),
            }
            return;
        }
        if self.mode == Mode::Given {
            let message = format!(
                "mode 'given' judges one run at a time: the law of {runs} runs is that of the exact forward pass"
            );
            self.inconclusive(&message, verdict);
            return;
        }
        let truth = self.exact.truth.gradients(None);
        let question = statistical::StatisticalInput {
            problem: &self.problem,
            stored: self.stored.as_ref().unwrap_or(&self.problem),
            saved: &self.exact.saved,
            recipe: &self.recipe,
            draw,
            truth: &truth,
            bounds: &self.exact.judged.bounds,
        };
        if let Err(error) = statistical::check(&question, runs, candidate, verdict) {
            self.inconclusive(&error.to_string(), verdict);
        }
    }

    /// One run of an unknown mask.
    #[expect(clippy::unused_self, reason = "a statement about this judge")]
    fn inconclusive(&self, message: &str, verdict: &mut Verdict) {
        verdict.find(Finding {
            tensor: "mask".into(),
            rule: Criterion::Unjudged,
            outcome: Outcome::Inconclusive,
            message: message.into(),
        });
    }

    /// The reference for the forward pass that the candidate stored.
    fn given(
        &self,
        results: &[(&str, &[f64])],
        progress: &dyn Progress,
    ) -> Result<Expectation, String> {
        let find = |name: &str| {
            let found = results.iter().find(|result| result.0 == name);
            found.map(|result| result.1.to_vec()).ok_or_else(|| {
                format!("mode 'given' needs the candidate's o and lse; it has no {name}")
            })
        };
        let (o, lse) = (find("o")?, find("lse")?);
        let exact = &self.exact.saved;
        let saved = Tensor::new("o", exact.o.shape(), &o)
            .and_then(|o| Ok((o, Tensor::new("lse", exact.lse.shape(), &lse)?)))
            .and_then(|(o, lse)| Saved::given(&self.problem, o, lse))
            .and_then(|saved| self.reference.given(&self.problem, &self.recipe, &saved))
            .and_then(|truth| {
                let draw = self.draw.as_ref();
                let question = (&self.problem, &self.recipe, Mode::Given);
                Expectation::complete(question, draw, (truth, None), self.known_bugs, progress)
            })
            .map_err(|e| e.to_string())?;
        saved.check_finite().map_err(|e| e.to_string())?;
        Ok(saved)
    }

    /// Checks the candidate's own mask, and computes the truth that goes with it where it is not the oracle's.
    fn own_mask<'a>(
        &self,
        reference: &'a Expectation,
        candidate: &TensorFile,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) -> Option<Cow<'a, Judged>> {
        let drawn = reference.mask.as_ref()?;
        verdict.ambiguous = drawn.constraints.ambiguous.iter().map(Vec::len).sum();
        let own = mask::read(&self.problem, candidate, verdict).ok().flatten();
        let rows = 0..self.problem.row_count();
        let counts: Vec<(usize, usize)> = if let Some(own) = &own {
            rows.map(|at| own.pattern.row(at).len()).map(|n| (n, n)).collect()
        } else {
            let MaskConstraints { must_keep, ambiguous } = &drawn.constraints;
            rows.map(|at| (must_keep[at].len(), must_keep[at].len() + ambiguous[at].len()))
                .collect()
        };
        if let Some(nnz) = candidate.arrays.get("nnz") {
            mask::check_counts(&self.problem, nnz, &counts, verdict);
        }
        let CandidateMask { pattern, values } = own?;
        mask::check(&self.problem, &pattern, &drawn.constraints, self.seed_known, verdict);
        if !self.seed_known {
            self.inconclusive("the case names no seed, and one mask does not tell a law", verdict);
        }
        let sample = mask::sample(&self.problem, &pattern, &drawn.sample.lambda);
        let usual = sample.pattern == drawn.sample.pattern
            && drawn.constraints.ambiguous.iter().all(Vec::is_empty);
        let gradients = if usual {
            reference.judged.gradients.clone()
        } else {
            reference.truth.gradients(Some(&sample))
        };
        let question = BoundsInput {
            problem: &self.problem,
            recipe: &self.recipe,
            mode: self.mode,
            saved: &reference.saved,
            sample: Some(&sample),
            ambiguous: None,
            gradients: &gradients,
        };
        let own = || reference.truth.reference_error_bounds(Some(&sample));
        if let Some(values) = values.filter(|_| sample.pattern == pattern) {
            let mut weights = kept_weights_of(&question, &drawn.rows);
            if let Some(lse) = &reference.own_lse {
                widen_weights(&mut weights, &sample.pattern, lse);
            }
            mask::check_values(&weights, &values, verdict);
        }
        if usual {
            return Some(Cow::Borrowed(&reference.judged));
        }
        // A mask that only this candidate has is told by itself: no direction is followed.
        let rows = (drawn.rows.as_slice(), OfRows::default());
        Some(Cow::Owned(Judged::new(&question, rows, own().as_ref(), &[], progress)))
    }
}
