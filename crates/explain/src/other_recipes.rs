//! Another built-in recipe at which a candidate passes that failed at the one it was judged by.

use sus_bounds::{Format, Mode, Recipe, Silent};
use sus_files::TensorFile;
use sus_files::tensor_file::Numbers;
use sus_verdict::part::{self, PartInput, Selection};
use sus_verdict::{
    Case, Criterion, Judge, JudgeBuilder, OneHead, Outcome, Reference, TensorResult, Verdict,
};

/// The rules whose limits depend on the recipe. A candidate that breaks another one passes at no recipe.
const BY_RECIPE: [Criterion; 8] = [
    Criterion::Bound,
    Criterion::Rounded,
    Criterion::StoredO,
    Criterion::Mean,
    Criterion::Slope,
    Criterion::Rms,
    Criterion::Direction,
    Criterion::Vacuous,
];

/// The root mean square of the errors over that of the reference, above which no recipe lets a tensor pass: if each error is
/// within its bound, the bounds are as wide, and such bounds are REFUSED (docs/verdict.md, "REFUSED").
const LARGEST_ERROR: f64 = 0.5;

/// What was judged, and how.
pub(crate) struct Judged<'a> {
    pub(crate) case: &'a Case,
    pub(crate) candidate: &'a TensorFile,
    pub(crate) verdict: &'a Verdict,
    pub(crate) judge: &'a Judge,
    pub(crate) mode: Mode,
    pub(crate) reference: Reference,
    /// Whether the user named the recipe. Then those with the same format of results are tried, else all.
    pub(crate) was_asked: bool,
    pub(crate) bitwise: bool,
}

/// The first built-in recipe at which the candidate passes: of those whose formats hold its numbers, the narrowest results first.
pub(crate) fn passing_recipe(judged: &Judged<'_>) -> Option<&'static str> {
    let Judged { verdict, judge, .. } = judged;
    let wrong = matches!(verdict.outcome, Outcome::Fail | Outcome::Refused);
    let by_recipe = verdict.findings.iter().all(|finding| BY_RECIPE.contains(&finding.rule));
    if !wrong || !by_recipe || judge.recipe().has_8_bits() || verdict.tensors.iter().any(is_far_off)
    {
        return None;
    }
    let tried = judge.recipe();
    let mut recipes: Vec<(&str, Recipe)> = Recipe::NAMES
        .into_iter()
        .filter_map(|name| Some((name, Recipe::built_in(name)?)))
        .filter(|(_, recipe)| recipe != tried && !recipe.has_8_bits())
        .filter(|(_, recipe)| !judged.was_asked || recipe.output == tried.output)
        .filter(|(_, recipe)| holds(judged.candidate, recipe))
        .collect();
    recipes.sort_by_key(|(_, recipe)| recipe.output.precision());
    // A recipe at which the head with the worst element fails needs no look at the others.
    let head = worst_head(judged);
    let place = place_outside(judged);
    let may_pass = |recipe: &Recipe| {
        let at_place = place.as_ref().is_none_or(|place| passes_at(judged, recipe, place));
        at_place
            && head.as_ref().is_none_or(|head| {
                let builder = Judge::builder(&head.case, recipe).reference(judged.reference);
                builder
                    .build()
                    .is_ok_and(|judge| judge.check(&head.candidate).outcome != Outcome::Fail)
            })
    };
    let found = recipes.into_iter().find(|(_, recipe)| may_pass(recipe) && passes(judged, recipe));
    found.map(|(name, _)| name)
}

/// The key head with the worst element of the gradients that depend on one head; `None` if the forward pass is the candidate's own or
/// the problem is not cut.
fn worst_head(judged: &Judged<'_>) -> Option<OneHead> {
    if judged.mode == Mode::Given || judged.verdict.runs.is_some() {
        return None;
    }
    let worst = |tensor: &&TensorResult| tensor.worst.as_ref().map_or(0.0, |worst| worst.ratio);
    let by_head = judged.verdict.tensors.iter().filter(|tensor| tensor.shape.len() == 4);
    let by_head = by_head.filter(|tensor| tensor.name != "dbias");
    let tensor = by_head.max_by(|a, b| worst(a).total_cmp(&worst(b)))?;
    let index = &tensor.worst.as_ref()?.index;
    let (problem, heads) = (&judged.case.problem, tensor.shape[1]);
    let key_head = index[1] * problem.sizes().key_heads / heads;
    OneHead::cut(judged.case, judged.candidate, index[0], key_head)
}

/// The row, or else the key, of the element that is furthest outside its bound. A row costs little; a key costs the errors of all rows
/// that see it. `None` if every element is within its bound, or the problem is judged by more than its elements.
fn place_outside(judged: &Judged<'_>) -> Option<Selection> {
    let is_dense = matches!(judged.case.draw(), Ok(None));
    if judged.mode == Mode::Given || judged.verdict.runs.is_some() || !is_dense {
        return None;
    }
    let group = judged.case.problem.group();
    let of = |names: &[&str]| {
        let all = judged.verdict.tensors.iter().filter(|tensor| names.contains(&tensor.name));
        let worst = all.filter_map(|tensor| tensor.worst.as_ref()).filter(|it| it.ratio > 1.0);
        let worst = worst.max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
        Some((worst.index[1], worst.index[2]))
    };
    let one = |at: usize| Some(std::iter::once(at..at + 1).collect());
    if let Some((head, row)) = of(&["o", "dq"]) {
        return Some(Selection { heads: one(head), rows: one(row), keys: None });
    }
    let (head, key) = of(&["dk", "dv", "dkv"])?;
    Some(Selection { heads: one(head * group), rows: None, keys: one(key) })
}

/// Whether a row or a key of the candidate is within its bounds at a recipe. They are those of the whole problem.
fn passes_at(judged: &Judged<'_>, recipe: &Recipe, selection: &Selection) -> bool {
    let found = part::judge(&PartInput {
        case: judged.case,
        candidate: judged.candidate,
        recipe,
        mode: judged.mode,
        reference: judged.reference,
        bitwise: false,
        selection,
        explain: &|_, _, _| None,
        progress: &Silent,
    });
    found.is_ok_and(|units| units.iter().all(|unit| unit.outcome() != Outcome::Fail))
}

/// Whether the errors of a tensor are above [`LARGEST_ERROR`].
fn is_far_off(tensor: &TensorResult) -> bool {
    let Some(relative) = tensor.relative_error else { return false };
    relative.is_nan() || relative > LARGEST_ERROR
}

/// Whether the results are numbers of the formats in which the recipe stores them.
fn holds(candidate: &TensorFile, recipe: &Recipe) -> bool {
    let of = |name: &str, format: Format| match candidate.arrays.get(name).map(|of| &of.numbers) {
        Some(Numbers::Float(data)) => data.iter().all(|&x| format.round(x) == x),
        _ => true,
    };
    ["dq", "dk", "dv"].iter().all(|name| of(name, recipe.output)) && of("o", recipe.o)
}

/// Whether the candidate passes at a recipe. The directions of known bugs cost most, and are looked for where all else passes.
fn passes(judged: &Judged<'_>, recipe: &Recipe) -> bool {
    let &Judged { case, candidate, mode, reference, bitwise, .. } = judged;
    let pass = |builder: JudgeBuilder<'_>| {
        let judge = builder.mode(mode).reference(reference).bitwise_repeat(bitwise).build();
        judge.is_ok_and(|judge| judge.check(candidate).outcome == Outcome::Pass)
    };
    pass(Judge::builder(case, recipe)) && pass(sus_mutants::judge(case, recipe))
}
