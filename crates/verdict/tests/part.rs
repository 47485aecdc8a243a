//! Parts of a problem: what is judged, by which bounds, and how reports are joined.

use crate::common::Shape;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use sus_bounds::Recipe;
use sus_files::gradient_file::{Stored, to_tensors};
use sus_files::tensor_file::Numbers;
use sus_files::{Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::sus::Budget;
use sus_verdict::part::document::{Header, Whole, candidate_digest, problem_digest};
use sus_verdict::part::{Document, PartInput, Selection, Unit, draw, judge};
use sus_verdict::{Case, Judge, Mode, Outcome, Reference, Silent};

/// Three query heads for each of two key heads, five queries, seven keys.
fn case() -> Case {
    let shape =
        Shape { key_heads: 2, group: 3, features: 8, value_features: 8, ..Shape::plain(5, 7) };
    Case::new(shape.problem(), Settings::default())
}

/// A right candidate.
fn candidate(case: &Case) -> TensorFile {
    let draw = case.draw().unwrap();
    let found = evaluate::<f32>(&case.problem, None, draw.as_ref()).unwrap();
    to_tensors(&found, &case.settings, Stored::F32).unwrap()
}

fn floats<'a>(file: &'a mut TensorFile, name: &str) -> &'a mut Vec<f64> {
    let Numbers::Float(data) = &mut file.arrays.get_mut(name).unwrap().numbers else {
        panic!("{name}")
    };
    data
}

fn selection(of: [Option<Range<usize>>; 3]) -> Selection {
    let [heads, rows, keys] = of.map(|range| range.map(|range| vec![range]));
    Selection { heads, rows, keys }
}

fn units(case: &Case, file: &TensorFile, selection: &Selection) -> Result<Vec<Unit>, String> {
    units_at("f32", case, file, selection)
}

fn units_at(
    recipe: &str,
    case: &Case,
    file: &TensorFile,
    selection: &Selection,
) -> Result<Vec<Unit>, String> {
    let recipe = Recipe::built_in(recipe).unwrap();
    let input = PartInput {
        case,
        candidate: file,
        recipe: &recipe,
        mode: Mode::Exact,
        reference: Reference::Auto,
        bitwise: false,
        selection,
        explain: &|_, _, _| Some("why".into()),
        progress: &Silent,
    };
    judge(&input).map_err(|e| e.to_string())
}

fn document(case: &Case, file: &TensorFile, units: Vec<Unit>) -> Document {
    let header = Header {
        case: "case".into(),
        candidate: "candidate".into(),
        recipe: "f32".into(),
        mode: "exact".into(),
        pass: case.describe_pass(),
        commands: BTreeSet::from(["check".to_owned()]),
        digests: [problem_digest(&case.problem, &case.settings), candidate_digest(file)],
        of: Whole::of(&case.problem),
    };
    Document::new(header, units)
}

fn report(case: &Case, file: &TensorFile, selection: &Selection) -> serde_json::Value {
    let units = units(case, file, selection).unwrap();
    serde_json::from_str(&document(case, file, units).json()).unwrap()
}

#[test]
fn right_results_of_every_case_pass_by_heads_rows_and_keys() {
    let mut judged = 0;
    for named in sus_corpus::all() {
        let case = Case::new(named.problem, Settings::default());
        let sizes = case.problem.sizes();
        if case.problem.row_count() == 0 || sizes.keys == 0 {
            continue;
        }
        let file = candidate(&case);
        let (rows, keys) = (sizes.queries / 2..sizes.queries, 0..sizes.keys.div_ceil(2));
        for part in [
            selection([Some(0..1), None, None]),
            selection([None, Some(rows), None]),
            selection([None, None, Some(keys)]),
        ] {
            let found = report(&case, &file, &part);
            let whole = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
            // Wide bounds refuse the whole problem, too.
            let refused = whole.check(&file).outcome != Outcome::Pass;
            assert!(found["verdict"] == "PASS" || refused, "{} {found}", named.name);
            judged += usize::from(found["verdict"] == "PASS");
        }
    }
    assert!(judged > 60, "{judged}");
}

#[test]
fn an_error_in_the_part_fails_at_its_place_in_the_whole_and_one_elsewhere_is_not_seen() {
    let case = case();
    let sizes = case.problem.sizes();
    let right = candidate(&case);
    let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
    let (head, row, key) = (sizes.query_heads - 1, sizes.queries - 1, 1);
    let at_row = ((head * sizes.queries) + row) * sizes.features + 2;
    let at_key = ((sizes.key_heads - 1) * sizes.keys + key) * sizes.value_features + 1;
    for (name, at, index) in [
        ("dq", at_row, vec![0, head, row, 2]),
        ("dv", at_key, vec![0, sizes.key_heads - 1, key, 1]),
    ] {
        let mut wrong = right.clone();
        let bounds = judge.bounds();
        let bound = if name == "dq" { &bounds.dq } else { &bounds.dv };
        floats(&mut wrong, name)[at] += 4.0 * bound.threshold[at];
        let within = if name == "dq" {
            selection([None, Some(row..row + 1), None])
        } else {
            selection([None, None, Some(key..key + 1)])
        };
        for (part, fails) in [
            (within, true),
            (selection([Some(head..head + 1), None, None]), true),
            (selection([Some(0..1), None, None]), sizes.key_heads == 1),
            (selection([None, Some(0..1), Some(2..3)]), false),
        ] {
            let found = report(&case, &wrong, &part);
            assert_eq!(found["verdict"] == "FAIL", fails, "{name} {part:?} {found}");
            assert_eq!(found["exit_code"], i32::from(fails));
            if fails {
                let tensors = found["tensors"].as_array().unwrap();
                let worst = tensors.iter().find(|of| of["name"] == name).unwrap();
                assert_eq!(worst["worst"]["index"], serde_json::json!(index), "{part:?}");
                // A row's own bound, and that of a key that every row sees.
                assert_eq!(
                    worst["worst"]["bound"].as_f64().unwrap(),
                    bound.threshold[at],
                    "{part:?}"
                );
            }
        }
    }
}

#[test]
fn a_part_says_what_it_judged_and_what_not_and_nothing_is_no_part() {
    let case = case();
    let file = candidate(&case);
    let found = report(&case, &file, &selection([Some(0..1), Some(2..5), None]));
    let part = &found["part"];
    assert_eq!(part["judged"][0], "heads 0 to 2 of 6: o, lse, dq of rows 2 to 4");
    assert!(
        part["not_judged"][0]
            .as_str()
            .unwrap()
            .starts_with("heads 0 to 2 of 6: rows 0, 1; keys 0 to 6")
    );
    assert_eq!(part["not_judged"][1], "heads 3 to 5 of 6: nothing of them was judged");
    assert!(found["tensors"].as_array().unwrap().iter().all(|of| of["name"] != "dk"));
    let sizes = case.problem.sizes();
    for (outside, word) in [
        (selection([Some(sizes.query_heads..sizes.query_heads + 1), None, None]), "heads"),
        (selection([None, Some(0..sizes.queries + 1), None]), "rows"),
        (selection([None, None, Some(sizes.keys..sizes.keys + 2)]), "keys"),
        (Selection { keys: Some(vec![]), ..Selection::default() }, "keys"),
    ] {
        let said = units(&case, &file, &outside).unwrap_err();
        assert!(
            said.starts_with(&format!("option '{word}'")) && said.lines().count() == 1,
            "{said}"
        );
    }
    // A candidate without the results of the part.
    let mut less = file.clone();
    less.arrays.retain(|name, _| name == "dk");
    let found = report(&case, &less, &selection([None, Some(0..1), None]));
    assert_eq!(
        (&found["verdict"], &found["findings"][0]["rule"]),
        (&"FAIL".into(), &"missing".into())
    );
    let mut only_dk = case.clone();
    only_dk.settings.gradients = Some(vec!["dk".parse().unwrap()]);
    let said = units(&only_dk, &file, &selection([None, Some(0..1), None])).unwrap_err();
    assert!(said.contains("at least one element"), "{said}");
}

/// The codes of P and dS are followed in whole heads only.
#[test]
fn a_recipe_of_8_bits_judges_whole_heads() {
    let case = case();
    let file = candidate(&case);
    let heads = units_at("flash-fp8", &case, &file, &selection([Some(0..3), None, None])).unwrap();
    assert_eq!(heads.len(), 1);
    for rows_or_keys in [[None, Some(0..2), None], [None, None, Some(0..2)]] {
        let said = units_at("flash-fp8", &case, &file, &selection(rows_or_keys)).unwrap_err();
        assert!(said.ends_with("those are judged by whole heads, found flash-fp8"), "{said}");
    }
}

#[test]
fn a_sampled_pass_is_judged_by_whole_heads_with_the_words_of_the_whole() {
    let mut case = case();
    case.settings = Settings::default().with_c(Budget::new(3.0).unwrap()).with_seed(5);
    let file = candidate(&case);
    for head in [0, case.problem.sizes().query_heads - 1] {
        let found = report(&case, &file, &selection([Some(head..head + 1), None, None]));
        assert_eq!(found["verdict"], "PASS", "{found}");
    }
    let said = units(&case, &file, &selection([None, Some(0..1), None])).unwrap_err();
    assert!(said.contains("whole heads"), "{said}");
}

#[test]
fn heads_judged_apart_and_joined_are_those_judged_together() {
    let case = case();
    let mut file = candidate(&case);
    floats(&mut file, "dk")[7] += 0.25;
    let heads = case.problem.sizes().query_heads;
    let of = |heads: Range<usize>| {
        let found = units(&case, &file, &selection([Some(heads), None, None])).unwrap();
        // As another process reads it.
        Document::parse(&document(&case, &file, found).json()).unwrap()
    };
    let together = of(0..heads);
    let apart = of(heads - 1..heads).join(&of(0..1)).unwrap();
    assert_eq!(apart.json(), together.json());
    assert_eq!((together.exit_code(), together.json().contains("\"is_whole\":true")), (1, true));
    let twice = apart.join(&of(0..1)).unwrap();
    assert!(
        twice.json().contains("\"overlaps\":[\"heads 0 to 2 of 6: rows 0 to "),
        "{}",
        twice.json()
    );
    // Another candidate has another digest.
    let right = candidate(&case);
    let units = units(&case, &right, &selection([Some(0..1), None, None])).unwrap();
    let said = together.join(&document(&case, &right, units)).unwrap_err();
    assert!(said.starts_with("digest of the candidate: expected "), "{said}");
}

#[test]
fn a_drawn_part_repeats_and_every_number_may_be_drawn() {
    let sizes = case().problem.sizes();
    let drawn = |seed| draw(Selection::default(), &sizes, 4, "digest", Some(seed));
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let part = drawn(seed);
        assert_eq!(part, drawn(seed));
        let rows: Vec<usize> = part.rows.iter().flatten().cloned().flatten().collect();
        assert_eq!(rows.len(), 4);
        seen.extend(rows);
    }
    assert_eq!(seen.len(), sizes.queries);
    assert_ne!(drawn(0), drawn(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Reports of any parts, in any order and grouping.
    #[test]
    fn joining_is_associative_and_commutative(
        parts in prop::collection::vec((0..2_usize, 0..3_usize, 1..3_usize, 0..2_u8), 3),
    ) {
        let case = case();
        let file = candidate(&case);
        let documents: Vec<Document> = parts.iter().map(|&(head, first, length, what)| {
            let range = Some(first..first + length);
            let heads = Some(3 * head..3 * head + 1);
            let part = if what == 0 { [heads, range, None] } else { [heads, None, range] };
            document(&case, &file, units(&case, &file, &selection(part)).unwrap())
        }).collect();
        let [a, b, c] = [&documents[0], &documents[1], &documents[2]];
        let left = a.join(b).unwrap().join(c).unwrap();
        let right = a.join(&b.join(c).unwrap()).unwrap();
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&left, &c.join(b).unwrap().join(a).unwrap());
        prop_assert_eq!(Document::parse(&left.json()).unwrap(), left);
    }
}
