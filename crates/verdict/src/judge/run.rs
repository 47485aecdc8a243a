//! One run: its mask, its tensors, and its errors along known bugs.

use super::Judge;
use super::expectation::{Expectation, ExpectedGradients};
use super::fp8::{FOLLOWED, UNEXPLAINED};
use crate::candidate::{DRAWN, read_results, shape_of};
use crate::elements::compare;
use crate::expected::{Expected, Places};
use crate::statistics::{Compared, judge_directions};
use crate::{Criterion, Finding, Mode, Outcome, Verdict};
use sus_bounds::{Bound, Progress};
use sus_files::TensorFile;
use sus_reference::TensorName;

/// A result of a candidate: its name and its elements.
pub(super) type CandidateResult<'a> = (&'static str, &'a [f64]);

impl Judge {
    /// Judges a candidate of one run. `shared` is what its stored forward pass leads to, if that is known already.
    pub(super) fn check_run(
        &self,
        candidate: &TensorFile,
        shared: Option<&Expectation>,
        verdict: &mut Verdict,
        progress: &dyn Progress,
    ) {
        // Mode "given" reads o and lse, whether they are judged or not.
        let is_judged = |name: &str| {
            self.only.as_ref().is_none_or(|only| only.iter().any(|it| it.as_str() == name))
        };
        let mut read = self.only.clone();
        if let (Some(read), Mode::Given) = (&mut read, self.mode) {
            read.extend([TensorName::O, TensorName::Lse]);
        }
        let sampled = self.draw.is_some();
        let results = read_results(&self.problem, sampled, read.as_deref(), candidate, verdict);
        if results.is_empty() {
            // What is missing by its own name is not missing once more.
            if verdict.findings.is_empty() {
                let message = "expected at least one result, found none";
                verdict.fail("candidate", Criterion::Missing, message);
            }
            return;
        }
        let given = match self.mode {
            Mode::Exact => None,
            Mode::Given if shared.is_some() => None,
            Mode::Given => self
                .given(&results, progress)
                .map_err(|message| verdict.refuse("o", Criterion::Unjudged, message))
                .ok(),
        };
        let expectation = given.as_ref().or(shared).unwrap_or(&self.exact);
        let followed =
            self.recipe.has_8_bits().then(|| self.of_8_bits((expectation, self.mode), &results));
        let own = self.own_mask(expectation, candidate, verdict, progress);
        let expected = followed.as_ref().or(own.as_deref()).unwrap_or(&expectation.gradients);
        verdict.notes.extend(expected.notes());
        let mask_unknown = self.draw.is_some() && !self.seed_known && own.is_none();
        if mask_unknown {
            let message = "the case names no seed and the candidate brings no mask";
            verdict.inconclusive("mask", message);
        }
        for &(name, found) in &results {
            if is_judged(name) && !(mask_unknown && DRAWN.contains(&name)) {
                self.compare_result(expected, (name, found), verdict);
            }
        }
        if !mask_unknown {
            self.compare_by_stored_o(expected, &results, verdict);
            self.compare_along_bugs(expected, &results, verdict);
        }
    }

    /// Compares one result with its reference. `o` and `lse` are those of the exact forward pass in every mode.
    fn compare_result(
        &self,
        expected: &ExpectedGradients,
        (name, found): CandidateResult<'_>,
        verdict: &mut Verdict,
    ) {
        let shape = shape_of(&self.problem, name).expect("a result of this problem");
        let of_8_bits = expected.of_8_bits.as_ref();
        if of_8_bits.is_some() && !FOLLOWED.contains(&name) {
            let message = "not judged where P or dS has 8 bits";
            return verdict.refuse(name, Criterion::Unjudged, message);
        }
        let (reference, bound) = match (name, of_8_bits) {
            ("o", Some(of)) => (of.o.0.as_slice(), &of.o.1),
            _ => self.reference_of(expected, name),
        };
        let limits = expected.limits.as_ref().and_then(|limits| match name {
            "dq" => Some(&limits.dq),
            // Where the values are in the keys the limits of dkv stand in place of those of dk.
            "dk" | "dkv" => Some(&limits.dk),
            "dv" => Some(&limits.dv),
            _ => None,
        });
        let sizes = self.problem.sizes();
        let head_rows =
            if name == "dq" { self.problem.group() * sizes.queries } else { sizes.keys };
        // A value with more bits than the recipe stores was not rounded to its format.
        let format = if name == "o" { self.recipe.o } else { self.recipe.output };
        let is_rounded = || found.iter().all(|&x| format.round(x) == x);
        let ranges = expected.ranges.as_ref().filter(|_| is_rounded());
        let tensor: Option<TensorName> = name.parse().ok();
        let ranges = ranges.zip(tensor).map_or_else(Vec::new, |(ranges, name)| ranges.of(name));
        let places = Places::of(&self.problem, name);
        let (shape, ranges) = (&shape[..], &ranges[..]);
        let expected =
            Expected { name, shape, reference, bound, limits, ranges, head_rows, places };
        let mut result = compare(expected, found, verdict);
        if name == "o"
            && of_8_bits.is_some_and(|of| of.unexplained)
            && result.outcome == Outcome::Pass
        {
            verdict.refuse(name, Criterion::Vacuous, UNEXPLAINED);
            result.outcome = Outcome::Refused;
        }
        verdict.tensors.push(result);
    }

    /// The reference and the bounds of a result.
    fn reference_of<'a>(
        &'a self,
        expected: &'a ExpectedGradients,
        name: &str,
    ) -> (&'a [f64], &'a Bound) {
        match name {
            "o" => (self.exact.saved.o.as_slice(), &self.exact.gradients.bounds.o),
            "lse" => (self.exact.saved.lse.as_slice(), &self.exact.gradients.bounds.lse),
            _ => expected.of(name),
        }
    }

    /// Compares the errors of all gradients together with the errors of known bugs. Errors above a bound hide the small ones that
    /// are looked for here: then nothing is compared. A tensor whose bounds are vacuous takes part in no sum.
    fn compare_along_bugs(
        &self,
        expected: &ExpectedGradients,
        results: &[CandidateResult<'_>],
        verdict: &mut Verdict,
    ) {
        let above = verdict.findings.iter().any(|finding| finding.rule == Criterion::Bound);
        let Some(limits) = expected.limits.as_ref().filter(|_| !above) else { return };
        let along = &limits.directions;
        let found = |name: &str| Some(results.iter().find(|result| result.0 == name)?.1);
        let compared =
            |name| found(name).map(|found| Compared { found, reference: expected.of(name).0 });
        // Where the values are in the keys one gradient is that of both.
        let names = if self.problem.options().v_of_k {
            ["dq", "dkv", "", "dbias"]
        } else {
            ["dq", "dk", "dv", "dbias"]
        };
        if names[..3].iter().any(|name| !name.is_empty() && found(name).is_none()) {
            return;
        }
        let gradients = names.map(|name| compared(name).unwrap_or_default());
        let is_vacuous = |name: &str| {
            let of =
                |finding: &Finding| finding.rule == Criterion::Vacuous && finding.tensor == name;
            verdict.findings.iter().any(of)
        };
        let vacuous = names.map(is_vacuous);
        let delta_errors = found("o").and_then(|o| self.delta_errors(o));
        judge_directions(along, gradients, vacuous, delta_errors.as_deref(), verdict);
    }

    /// The error of each row's `delta = G . o` that follows from an `o`; `None` if the `o` has more bits than the recipe stores.
    fn delta_errors(&self, o: &[f64]) -> Option<Vec<f64>> {
        let format = self.recipe.o;
        if o.iter().any(|&x| format.round(x) != x) {
            return None;
        }
        let errors = o.iter().zip(self.exact.saved.o.as_slice()).map(|(o, exact)| o - exact);
        let products: Vec<f64> =
            errors.zip(self.problem.inputs().g.as_slice()).map(|(error, g)| error * g).collect();
        let width = self.problem.sizes().value_features.max(1);
        Some(products.chunks(width).map(|row| row.iter().sum()).collect())
    }
}
