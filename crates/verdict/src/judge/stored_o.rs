//! `dq`, `dbias` and `dsink`, judged by the `o` that the candidate stored (docs/verdict.md, "The stored `o`").

use super::Judge;
use super::expectation::{ExpectedGradients, KnownOOperands};
use super::run::CandidateResult;
use crate::elements::{compare_by_stored_o, outside_ranges};
use crate::expected::Places;
use crate::limits::MAX_ENTRIES_BY_STORED_O;
use crate::{Criterion, Finding, Mode, Outcome, Verdict};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_bounds::{
    BoundsInput, DsRounding, DsRoundingPoint, ds_roundings, known_o_dq_ranges, known_o_gradients,
    unrounded_gradients,
};
use sus_reference::evaluation::visible_count;
use sus_reference::problem::Problem;

/// Rows that tell which ways to round are possible at all; all rows are compared with these.
const FIRST_ROWS: usize = 32;

/// What follows from a candidate's own `o`.
const WHY: &str = "what delta = do . o with the candidate's own o leads to";

impl Judge {
    /// Compares `dq`, `dbias` and `dsink` with those that follow from the candidate's own `o`, if it stored one as the recipe does. An `o` or
    /// a gradient that fails already is not judged again.
    pub(super) fn compare_by_stored_o(
        &self,
        expected: &ExpectedGradients,
        results: &[CandidateResult<'_>],
        verdict: &mut Verdict,
    ) {
        let decided = |verdict: &Verdict, name: &str| {
            let of = |finding: &Finding| {
                finding.tensor == name
                    && (finding.outcome == Outcome::Fail || finding.rule == Criterion::Vacuous)
            };
            verdict.findings.iter().any(of)
        };
        let found = |name: &str, verdict: &Verdict| {
            let of = results.iter().find(|of| of.0 == name && !decided(verdict, name))?;
            Some(of.1)
        };
        let rounded = |o: &&[f64]| o.iter().all(|&x| self.recipe.o.round(x) == x);
        let o = found("o", verdict).filter(rounded);
        let (Some(of), Some(o)) = (&expected.known_o, o) else { return };
        if self.mode != Mode::Exact {
            return;
        }
        let input = BoundsInput {
            problem: &self.problem,
            recipe: &self.recipe,
            mode: Mode::Exact,
            saved: &self.exact.saved,
            sample: of.sample.as_ref(),
            ambiguous: of.ambiguous.as_deref(),
            gradients: &expected.values,
        };
        if let Some(dq) = found("dq", verdict) {
            self.compare_dq(&input, of, (o, dq), verdict);
        }
        let sums = ["dbias", "dsink"].map(|name| (name, found(name, verdict)));
        if sums.iter().all(|(_, found)| found.is_none()) {
            return;
        }
        let own = of.reference_errors.as_ref();
        let by_o = known_o_gradients(&input, &of.rows, o, own);
        let places = |name| Places::of(&self.problem, name);
        let mut failed = Vec::new();
        for ((name, found), by_o) in sums.into_iter().zip([by_o.dbias, by_o.dsink]) {
            let (Some(found), Some(by_o)) = (found, by_o) else { continue };
            let tensor = verdict.tensors.iter_mut().find(|tensor| tensor.name == name);
            let Some(tensor) = tensor else { continue };
            let compared = compare_by_stored_o(tensor, found, &by_o, &self.recipe, places(name));
            match compared.message {
                None => tensor.by_stored_o = compared.worst,
                Some(message) => failed.push((name, compared.worst, message)),
            }
        }
        if failed.is_empty() || self.is_more_exact(&input, of, results, verdict) {
            return;
        }
        for (name, worst, message) in failed {
            verdict.fail(name, Criterion::StoredO, message);
            if let Some(tensor) = verdict.tensors.iter_mut().find(|tensor| tensor.name == name) {
                (tensor.by_stored_o, tensor.outcome) = (worst, Outcome::Fail);
            }
        }
    }

    /// Whether `dq`, `dbias` and `dsink` are all those of a kernel that is more exact than its recipe, and rounds its results alone.
    fn is_more_exact(
        &self,
        input: &BoundsInput<'_>,
        of: &KnownOOperands,
        results: &[CandidateResult<'_>],
        verdict: &Verdict,
    ) -> bool {
        let find = |name: &str| results.iter().find(|of| of.0 == name).map(|of| of.1);
        let own = of.reference_errors.as_ref();
        let (rows, width) = (self.rows_by_stored_o(), self.problem.sizes().features);
        if let Some(dq) = find("dq") {
            let way = DsRounding { p: false, ds: DsRoundingPoint::Nowhere };
            let ranges = known_o_dq_ranges(input, &of.rows, None, own, way, &rows);
            let found = of_rows(dq, width, &rows);
            if outside_ranges(Places::default(), &[rows.len(), width], &found, &ranges).is_some() {
                return false;
            }
        }
        let by = unrounded_gradients(input, own);
        [("dbias", by.dbias), ("dsink", by.dsink)].into_iter().all(|(name, by)| {
            let tensor = verdict.tensors.iter().find(|tensor| tensor.name == name);
            let (Some(found), Some(by), Some(tensor)) = (find(name), by, tensor) else {
                return true;
            };
            compare_by_stored_o(tensor, found, &by, &self.recipe, Places::default())
                .message
                .is_none()
        })
    }

    /// Fails a `dq` that is no rounding of what any kernel of the recipe has, given its `o`. Of a large problem a sample of the rows is
    /// compared.
    fn compare_dq(
        &self,
        input: &BoundsInput<'_>,
        of: &KnownOOperands,
        (o, dq): (&[f64], &[f64]),
        verdict: &mut Verdict,
    ) {
        let roundings = ds_roundings(input);
        if roundings.is_empty() || dq.iter().any(|&x| self.recipe.output.round(x) != x) {
            return;
        }
        let (rows, width) = (self.rows_by_stored_o(), self.problem.sizes().features);
        let count = self.problem.row_count();
        if rows.len() < count {
            verdict.notes.push(format!(
                "dq is held against the candidate's own o in {} of {count} rows, drawn by the case",
                rows.len()
            ));
        }
        let some = of_rows(dq, width, &rows);
        let outside_of = |(o, rounding): (Option<&[f64]>, DsRounding), rows: &[usize]| {
            let own = of.reference_errors.as_ref();
            let ranges = known_o_dq_ranges(input, &of.rows, o, own, rounding, rows);
            outside_ranges(
                Places::default(),
                &[rows.len(), width],
                &of_rows(dq, width, rows),
                &ranges,
            )
        };
        // A kernel may be more exact than its recipe: then nothing is rounded before delta. A few rows tell which ways are possible.
        let few: Vec<usize> =
            rows.iter().copied().step_by(rows.len().div_ceil(FIRST_ROWS).max(1)).collect();
        let ways =
            [Some(o), None].into_iter().flat_map(|o| roundings.iter().map(move |&by| (o, by)));
        let (mut nearest, mut possible) = (None, Vec::new());
        for way in ways {
            match outside_of(way, &few) {
                None => possible.push(way),
                Some(outside) if nearest.is_none_or(|(count, _)| outside.count < count) => {
                    nearest = Some((outside.count, way));
                }
                Some(_) => {}
            }
        }
        let mut found = None;
        for &way in &possible {
            let Some(outside) = outside_of(way, &rows) else { return };
            if found.as_ref().is_none_or(|(count, _)| outside.count < *count) {
                found = Some((outside.count, outside.at));
            }
        }
        let of_nearest = || {
            let (_, way) = nearest?;
            outside_of(way, &rows).map(|outside| (outside.count, outside.at))
        };
        let Some((outside, at)) = found.or_else(of_nearest) else { return };
        let at_of_dq = rows[at / width] * width + at % width;
        let index =
            Places::of(&self.problem, "dq").index(&self.problem.inputs().q.shape(), at_of_dq);
        let message = format!(
            "{outside} of {} elements are no rounding of {WHY}, the first at {index:?}: found {:e}",
            some.len(),
            some[at],
        );
        verdict.fail("dq", Criterion::StoredO, message);
        if let Some(tensor) = verdict.tensors.iter_mut().find(|tensor| tensor.name == "dq") {
            tensor.outcome = Outcome::Fail;
        }
    }

    /// The rows of `dq` that are held against the candidate's own `o`: all, or a sample.
    fn rows_by_stored_o(&self) -> Vec<usize> {
        let (rows, entries) = (self.problem.row_count(), visible_count(&self.problem));
        if entries <= MAX_ENTRIES_BY_STORED_O {
            return (0..rows).collect();
        }
        let share = MAX_ENTRIES_BY_STORED_O as f64 / entries as f64;
        sample_of_rows(&self.problem, ((rows as f64 * share) as usize).max(1))
    }
}

/// Some rows of a tensor.
fn of_rows(x: &[f64], width: usize, rows: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|&row| &x[row * width..(row + 1) * width]).copied().collect()
}

/// At most `count` rows of a problem, drawn by its numbers, in their order.
fn sample_of_rows(problem: &Problem<f64>, count: usize) -> Vec<usize> {
    // FNV-1a over the bits of the cotangent: other cases draw other rows.
    let hash = |hash: u64, x: &f64| (hash ^ x.to_bits()).wrapping_mul(0x0100_0000_01b3);
    let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle/rows by stored o/1...");
    rng.set_stream(problem.inputs().g.as_slice().iter().fold(0xcbf2_9ce4_8422_2325, hash));
    let below = |x: u64| ((u128::from(x) * problem.row_count() as u128) >> 64) as usize;
    let mut rows: Vec<usize> = (0..count).map(|_| below(rng.next_u64())).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use super::sample_of_rows;

    #[test]
    fn a_sample_of_rows_depends_on_the_case_and_reaches_all_rows() {
        let case = |name: &str| sus_corpus::named(name).unwrap().problem;
        let (one, other) = (case("square_causal"), case("long"));
        let rows = one.row_count();
        assert_eq!(sample_of_rows(&one, 9), sample_of_rows(&one, 9));
        assert_ne!(sample_of_rows(&one, 9), sample_of_rows(&other, 9));
        let many = sample_of_rows(&one, 40 * rows);
        assert_eq!(many, (0..rows).collect::<Vec<_>>());
        assert!(sample_of_rows(&other, 9).iter().all(|&row| row < other.row_count()));
    }
}
