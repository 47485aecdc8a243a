//! Projected values, and shards of runs as one candidate.

use super::{case, edit, judge, problem, right, run_command, settings, write_problem};
use std::collections::BTreeMap;
use sus_bounds::Recipe;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, Settings, TensorFile};
use sus_reference::backward::backward;
use sus_reference::forward::forward;
use sus_reference::sus::{Budget, Rule, Sampler};
use sus_verdict::merge::merge;
use sus_verdict::statistical::directions;
use sus_verdict::{Case, Outcome, Verdict};

const GRADIENTS: [&str; 3] = ["dq", "dk", "dv"];

fn floats(file: &TensorFile, name: &str) -> Vec<f64> {
    let Numbers::Float(data) = &file.arrays[name].numbers else { panic!("{name} has no floats") };
    data.clone()
}

/// The candidate of a kernel's script: `[S, P]` sums of products with the directions of the file.
fn projected(directions: &TensorFile, runs: &TensorFile, single: bool) -> TensorFile {
    let mut file = TensorFile::default();
    for name in GRADIENTS {
        let (r, g) = (floats(directions, &format!("proj/{name}")), floats(runs, name));
        let (p, s) =
            (directions.arrays[&format!("proj/{name}")].shape[0], runs.arrays[name].shape[0]);
        let length = g.len() / s;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let values: Vec<f64> =
            g.chunks(length).flat_map(|g| r.chunks(length).map(move |r| dot(r, g))).collect();
        let array = if single { Array::f32(&[s, p], values) } else { Array::f64(&[s, p], values) };
        file.arrays.insert(format!("proj/{name}"), array);
    }
    file.arrays.insert("proj/case".into(), directions.arrays["proj/case"].clone());
    file
}

fn directions_of(case: &Case) -> TensorFile {
    directions(&case.problem, &case.draw().unwrap().unwrap()).unwrap().to_file(&case.problem)
}

fn judge_f32(case: &Case, file: &TensorFile) -> Verdict {
    sus_mutants::judge(case, &Recipe::built_in("f32").unwrap()).build().unwrap().check(file)
}

#[test]
fn projected_values_pass_right_samplers_and_fail_wrong_ones() {
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let case = case(sampler);
        let directions = directions_of(&case);
        for single in [false, true] {
            let file = right(&case, 5 << 40, 2000, true);
            let verdict = judge_f32(&case, &projected(&directions, &file, single));
            assert_eq!(verdict.outcome, Outcome::Pass, "{sampler} {single} {verdict:#?}");
        }
        let other = match sampler {
            Sampler::Bernoulli => Sampler::Systematic,
            Sampler::Systematic => Sampler::Bernoulli,
        };
        let mut wrong: Vec<(&str, TensorFile)> = Vec::new();
        let changed = |change: &dyn Fn(&mut TensorFile)| {
            let mut file = right(&case, 6 << 40, 2000, true);
            change(&mut file);
            file
        };
        for name in GRADIENTS {
            wrong.push((name, changed(&|file| edit(file, name, |_, x| 1.2 * x))));
            wrong.push((
                "another run's mask",
                changed(&|file| {
                    let mask = right(&case, 7 << 40, 2000, true).arrays.remove(name).unwrap();
                    file.arrays.insert(name.into(), mask);
                }),
            ));
        }
        wrong.push(("the other sampler", right(&super::case(other), 8 << 40, 2000, true)));
        let mut budget = case.clone();
        budget.settings.c = Some(Budget::new(3.0).unwrap());
        wrong.push(("another c", right(&budget, 8 << 40, 2000, true)));
        wrong.push((
            "every run twice",
            changed(&|file| {
                for name in GRADIENTS {
                    let length = file.arrays[name].shape[1..].iter().product::<usize>();
                    let data = floats(file, name);
                    edit(file, name, |at, _| data[at / (2 * length) * (2 * length) + at % length]);
                }
            }),
        ));
        for (what, file) in wrong {
            let verdict = judge_f32(&case, &projected(&directions, &file, false));
            assert_eq!(verdict.outcome, Outcome::Fail, "{sampler} {what}");
        }
    }
}

/// Where every weight is kept nothing varies, and every value is the truth but for rounding: however small the values are.
#[test]
fn projections_that_do_not_vary_are_exact() {
    let mut case = case(Sampler::Bernoulli);
    case.settings.c = Some(Budget::new(1e9).unwrap());
    let directions = directions_of(&case);
    let mut file = right(&case, 0, 20, true);
    let verdict = judge_f32(&case, &projected(&directions, &file, false));
    assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:#?}");
    for name in GRADIENTS {
        edit(&mut file, name, |_, x| 1.0001 * x);
    }
    let verdict = judge_f32(&case, &projected(&directions, &file, false));
    assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:#?}");
}

#[test]
fn the_projection_of_the_mean_is_the_mean_of_the_projections() {
    let case = case(Sampler::Bernoulli);
    let directions = directions(&case.problem, &case.draw().unwrap().unwrap()).unwrap();
    let dense = backward(&case.problem, &forward(&case.problem));
    // Directions are exact in F32, so a script may read them as it likes.
    for part in &directions.parts {
        assert!(part.iter().all(|&x| f64::from(x as f32) == x));
    }
    let again = super::case(Sampler::Bernoulli);
    let again =
        sus_verdict::statistical::directions(&again.problem, &again.draw().unwrap().unwrap())
            .unwrap();
    assert_eq!(directions.digest(), again.digest());
    let of_dq = |p: usize| -> f64 {
        directions.of(p)[0].iter().zip(dense.dq.as_slice()).map(|(r, g)| r * g).sum()
    };
    // The truth over its variance is aligned with the truth.
    let truth = directions.names.iter().position(|name| name == "the truth over its variance");
    assert!(of_dq(truth.unwrap()) > 0.0);
    assert!(directions.names.iter().any(|name| name == "the count of batch 0, head 1"));
}

#[test]
fn counts_beside_projected_values_are_judged_by_their_law() {
    let case = Case::new(problem(2), settings(Sampler::Bernoulli, Rule::Paper, None));
    let directions = directions_of(&case);
    let counts = |first: u64, c: f64| {
        let mut other = case.clone();
        other.settings.c = Some(Budget::new(c).unwrap());
        let saved = forward(&other.problem);
        let mut draw = other.draw().unwrap().unwrap();
        let rows = other.problem.row_count();
        let mut all = Vec::new();
        for run in 0..1000 {
            draw.seed = first + run;
            let sample = sus_reference::sus::sample(&other.problem, &saved, &draw).unwrap();
            all.extend((0..rows).map(|row| sample.pattern.row(row).len() as i64));
        }
        Array::i64(&[1000, 1, 2, 16], all)
    };
    let mut file = projected(&directions, &right(&case, 3 << 40, 1000, true), false);
    file.arrays.insert("nnz".into(), counts(3 << 40, 4.0));
    let verdict = judge_f32(&case, &file);
    assert_ne!(verdict.outcome, Outcome::Fail, "{verdict:#?}");
    file.arrays.insert("nnz".into(), counts(3 << 40, 3.8));
    assert_eq!(judge_f32(&case, &file).outcome, Outcome::Fail);
}

#[test]
fn what_is_no_projection_of_this_case_fails() {
    let case = case(Sampler::Bernoulli);
    let directions = directions_of(&case);
    let file = projected(&directions, &right(&case, 1, 50, true), false);
    let fails = |change: &dyn Fn(&mut TensorFile), said: &str| {
        let mut file = file.clone();
        change(&mut file);
        let verdict = judge_f32(&case, &file);
        assert_eq!(verdict.outcome, Outcome::Fail, "{said}");
        let found = verdict.findings.iter().any(|finding| finding.message.contains(said));
        assert!(found, "{said}: {verdict:#?}");
    };
    fails(&|file| drop(file.arrays.remove("proj/dk")), "found none");
    fails(&|file| file.arrays.get_mut("proj/dv").unwrap().shape.reverse(), "expected shape");
    fails(&|file| edit(file, "proj/dq", |at, x| if at == 70 { f64::NAN } else { x }), "NaN in run");
    fails(
        &|file| drop(file.arrays.insert("proj/case".into(), Array::i64(&[1], vec![7]))),
        "another one",
    );
    fails(
        &|file| drop(file.arrays.insert("dq".into(), Array::f64(&[1], vec![0.0]))),
        "no such tensor",
    );
    let half = Array { dtype: safetensors::Dtype::F16, ..file.arrays["proj/dq"].clone() };
    fails(&|file| drop(file.arrays.insert("proj/dq".into(), half.clone())), "F64 or F32");
}

/// Some runs of a file.
fn part(file: &TensorFile, runs: std::ops::Range<usize>) -> TensorFile {
    let mut part = TensorFile { arrays: BTreeMap::default(), metadata: file.metadata.clone() };
    for (name, array) in &file.arrays {
        let mut array = array.clone();
        let length: usize = array.shape[1..].iter().product();
        if name != "proj/case" {
            array.shape[0] = runs.len();
            let range = runs.start * length..runs.end * length;
            array.numbers = match array.numbers {
                Numbers::Float(x) => Numbers::Float(x[range].to_vec()),
                Numbers::Integer(x) => Numbers::Integer(x[range].to_vec()),
                Numbers::Unsigned(x) => Numbers::Unsigned(x[range].to_vec()),
            };
        }
        part.arrays.insert(name.clone(), array);
    }
    part
}

#[test]
fn merging_is_associative_to_the_bit_and_keeps_the_order() {
    let case = case(Sampler::Bernoulli);
    let whole = right(&case, 9, 90, true);
    let values = projected(&directions_of(&case), &whole, true);
    for mut file in [whole, values] {
        file.arrays.insert("seeds".into(), Array::i64(&[90], (9..99).collect()));
        let shards =
            [part(&file, 0..20), part(&file, 20..21), part(&file, 21..60), part(&file, 60..90)];
        let all = merge(&shards).unwrap();
        assert_eq!(all.1, 90);
        for name in file.arrays.keys() {
            assert_eq!(all.0.arrays[name], file.arrays[name], "{name}");
        }
        let [a, b, c, d] = &shards;
        let of = |files: &[&TensorFile]| {
            merge(&files.iter().map(|&file| file.clone()).collect::<Vec<_>>()).unwrap().0
        };
        let left = of(&[&of(&[&of(&[a, b]), c]), d]);
        let right = of(&[a, &of(&[b, &of(&[c, d])])]);
        let middle = of(&[&of(&[a, b]), &of(&[c, d])]);
        for other in [left, right, middle] {
            assert_eq!(other.to_bytes(), all.0.to_bytes());
        }
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let case = case(Sampler::Bernoulli);
    let runs = right(&case, 9, 20, true);
    let (a, b) = (part(&runs, 0..10), part(&runs, 10..20));
    let refused = |shards: &[&TensorFile], shard: usize, said: &str| {
        let shards: Vec<TensorFile> = shards.iter().map(|&file| file.clone()).collect();
        let error = merge(&shards).unwrap_err();
        let text = error.reason.to_string();
        assert!(text.contains(said) && !text.contains('\n'), "{said}: {text}");
        assert_eq!(error.shard, shard, "{text}");
    };
    refused(&[&a, &b, &a], 2, "the very numbers of one of them");
    let merged = merge(&[a.clone(), b.clone()]).unwrap().0;
    refused(&[&merged, &b], 1, "the very numbers of one of them");
    let with = |file: &TensorFile, name: &str, array: Array| {
        let mut file = file.clone();
        file.arrays.insert(name.into(), array);
        file
    };
    for name in ["seeds", "runs"] {
        let numbered = |file: &TensorFile, first: i64| {
            with(file, name, Array::i64(&[10], (first..first + 10).collect()))
        };
        assert_eq!(merge(&[numbered(&a, 0), numbered(&b, 10)]).unwrap().1, 20);
        // Equal numbers in runs that are said to be others are the kernel's business, not the merger's.
        assert_eq!(merge(&[numbered(&a, 0), numbered(&a, 10)]).unwrap().1, 20);
        refused(&[&numbered(&a, 0), &numbered(&b, 9)], 1, "9 again");
        refused(&[&numbered(&a, 0), &b], 1, "names");
        refused(&[&with(&a, name, Array::i64(&[9], vec![0; 9]))], 0, "shape [10]");
    }
    let settings = |file: &TensorFile, c: f64| TensorFile {
        metadata: Some(Settings::default().with_c(Budget::new(c).unwrap()).to_json()),
        ..file.clone()
    };
    refused(&[&settings(&a, 4.0), &settings(&b, 8.0)], 1, "of the case");
    refused(&[&settings(&a, 4.0), &b], 1, "no settings");
    refused(&[&with(&a, "shape", Array::i64(&[1], vec![0]))], 0, "nothing else");
    let mut wide = right(&Case::new(problem(4), case.settings.clone()), 3, 10, true);
    refused(&[&a, &wide], 1, "as in the shards before");
    wide.arrays.remove("dq");
    refused(&[&a, &wide], 1, "names");
    refused(&[&TensorFile::default()], 0, "'dq'");
    let other = |digest: i64| {
        let mut file = projected(&directions_of(&case), &a, true);
        file.arrays.insert("proj/case".into(), Array::i64(&[1], vec![digest]));
        file
    };
    refused(&[&other(1), &other(2)], 1, "directions of one case");
}

#[test]
fn the_commands_project_merge_and_judge() {
    let folder = tempfile::tempdir().unwrap();
    let case = case(Sampler::Bernoulli);
    write_problem(&case, &folder.path().join("problem"));
    let path = |name: &str| folder.path().join(name);
    let run = |words: &[&str]| run_command(folder.path(), words);
    let draw = ["--causal", "--c", "4"];
    let with = |words: &[&'static str]| [words, &draw].concat();
    let (code, said) = run(&with(&["projections", "problem", "--out", "directions"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the count of all entries"), "{said}");
    let directions = TensorFile::read(&path("directions")).unwrap();
    assert_eq!(directions.arrays, directions_of(&case).arrays);
    let file = right(&case, 11, 2000, true);
    let values = projected(&directions, &file, false);
    part(&values, 0..1500).write(&path("one")).unwrap();
    part(&values, 1500..2000).write(&path("two")).unwrap();
    let (code, said) = run(&["merge", "one", "two", "--out", "all"]);
    assert_eq!((code, said.contains("runs       2000")), (0, true), "{said}");
    let (code, said) = run(&with(&["check", "problem", "all"]));
    assert_eq!((code, said.contains("expected --recipe")), (2, true), "{said}");
    let of_all = run(&with(&["check", "problem", "all", "--recipe", "f32"]));
    assert_eq!(of_all.0, 0, "{}", of_all.1);
    let of_both = run(&with(&["check", "problem", "one", "two", "--recipe", "f32"]));
    assert_eq!(of_both.0, 0, "{}", of_both.1);
    let (code, said) = run(&["merge", "one", "one", "--out", "bad"]);
    assert_eq!((code, said.lines().count(), path("bad").exists()), (2, 1, false), "{said}");
    assert_eq!(
        judge(&case, &merge(&[part(&file, 0..700), part(&file, 700..2000)]).unwrap().0).outcome,
        Outcome::Pass
    );
    // One file for each run, as a plain loop writes them.
    for at in 0..3 {
        let mut one = part(&file, at..at + 1);
        for array in one.arrays.values_mut() {
            array.shape.remove(0);
        }
        one.write(&path(&format!("run{at}"))).unwrap();
    }
    let (code, said) = run(&with(&["check", "problem", "run0", "run1", "run2"]));
    assert_eq!((code, said.contains("3 runs are too few")), (4, true), "{said}");
}
