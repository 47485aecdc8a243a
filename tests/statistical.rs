//! Many runs judged by their distribution: right samplers pass, wrong ones fail, few runs are inconclusive.

mod bugs;
mod samplers;
mod shards;

use crate::common::{Shape, numbers, with_hidden_keys};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::ops::Range;
use sus_bounds::{Mode, Recipe};
use sus_files::{Array, Pass, Settings, TensorFile};
use sus_reference::backward::{DenseWeights, Weight, Weights, backward_with};
use sus_reference::forward::forward;
use sus_reference::problem::{Options, Problem, Row};
use sus_reference::sus::{Budget, Rule, Sampler, sample};
use sus_verdict::{Case, Finding, Outcome, Verdict};

const RUNS: usize = 4000;

/// 16 queries and keys, two heads, causal: the masks are recovered from the gradients.
fn problem(features: usize) -> Problem<f64> {
    let options = Options::default().with_causal(true);
    let shape =
        Shape { key_heads: 2, features, value_features: features, options, ..Shape::plain(16, 16) };
    shape.fill(|rng| {
        let sum: u64 = (0..12).map(|_| u64::from(rng.next_u32() >> 8)).sum();
        f64::from((sum as f64 / 16_777_216.0 - 6.0) as f32)
    })
}

fn settings(sampler: Sampler, rule: Rule, seed: Option<u64>) -> Settings {
    Settings::default()
        .with_pass(Pass::Sus)
        .with_c(Budget::new(4.0).unwrap())
        .with_sampler(sampler)
        .with_rule(rule)
        .with_seed(seed)
}

fn case(sampler: Sampler) -> Case {
    Case::new(problem(8), settings(sampler, Rule::Paper, None))
}

struct Matrix<'a> {
    dense: DenseWeights<'a, f64>,
    w: &'a [f64],
}

impl Weights<f64> for Matrix<'_> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<f64>)) {
        let problem = self.dense.problem;
        let first = problem.row_number(row) * problem.sizes().keys;
        for j in keys {
            if self.w[first + j] != 0.0 {
                let dense = self.dense.at(row, j);
                visit(Weight { w: self.w[first + j], ..dense });
            }
        }
    }
}

/// The runs of a kernel that draws its weights by `draw(run)`.
fn runs(
    problem: &Problem<f64>,
    count: usize,
    single: bool,
    mut draw: impl FnMut(usize, &mut [Vec<f64>; 3]),
) -> TensorFile {
    let saved = forward(problem);
    let mut all = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let size = problem.row_count() * problem.sizes().keys;
    for run in 0..count {
        let mut w = [vec![0.0; size], vec![0.0; size], vec![0.0; size]];
        draw(run, &mut w);
        let of = |w: &[f64]| {
            backward_with(
                problem,
                &saved,
                &Matrix { dense: DenseWeights { problem, saved: &saved }, w },
            )
        };
        let first = of(&w[0]);
        all[0].extend_from_slice(first.dq.as_slice());
        all[3].extend(first.dbias.iter().flat_map(sus_reference::tensor::Tensor::as_slice));
        let second = if w[1] == w[0] { first.clone() } else { of(&w[1]) };
        all[1].extend_from_slice(second.dk.as_slice());
        let third = if w[2] == w[0] { first } else { of(&w[2]) };
        all[2].extend_from_slice(third.dv.as_slice());
    }
    let inputs = problem.inputs();
    let mut shapes = vec![inputs.q.shape(), inputs.k.shape(), inputs.v.shape()];
    shapes.extend(inputs.bias.iter().map(sus_reference::tensor::Tensor::shape));
    let mut file = TensorFile::default();
    for ((name, shape), data) in ["dq", "dk", "dv", "dbias"].into_iter().zip(shapes).zip(all) {
        let shape = [&[count][..], &shape].concat();
        let rounded: Vec<f64> =
            if single { data.iter().map(|&x| f64::from(x as f32)).collect() } else { data };
        let array = if single { Array::f32(&shape, rounded) } else { Array::f64(&shape, rounded) };
        file.arrays.insert(name.into(), array);
    }
    file
}

fn judge(case: &Case, file: &TensorFile) -> Verdict {
    let recipe = sus_verdict::recipe_of(file);
    sus_mutants::judge(case, &Recipe::built_in(recipe).unwrap()).build().unwrap().check(file)
}

/// One mask for all gradients.
fn spread([dq, dk, dv]: &mut [Vec<f64>; 3]) {
    dk.clone_from(dq);
    dv.clone_from(dq);
}

/// The library's own draws with the seeds `first, first + 1, ...`.
fn right(case: &Case, first: u64, count: usize, single: bool) -> TensorFile {
    let saved = forward(&case.problem);
    let mut draw = case.draw().unwrap().unwrap();
    runs(&case.problem, count, single, |run, w| {
        draw.seed = first + run as u64;
        let sample = sample(&case.problem, &saved, &draw).unwrap();
        let values = sus_reference::sus::sampled_values(&case.problem, &saved, &sample);
        let keys = case.problem.sizes().keys;
        let mut values = values.into_iter();
        for row in 0..case.problem.row_count() {
            for &j in sample.pattern.row(row) {
                w[0][row * keys + j as usize] = values.next().unwrap();
            }
        }
        spread(w);
    })
}

#[test]
fn right_samplers_pass() {
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        for (block, single) in [(1, false), (2, true)] {
            let case = case(sampler);
            let verdict = judge(&case, &right(&case, block << 40, RUNS, single));
            assert_eq!(verdict.outcome, Outcome::Pass, "{sampler} {single} {verdict:#?}");
        }
    }
}

/// With equal scores and as many kept as there are keys, `c W` is 1 but for rounding: a kernel whose `exp` is one unit off drops
/// an entry now and then, and is right.
#[test]
fn a_probability_that_is_1_but_for_rounding_does_not_tell() {
    let zeros = Shape::plain(16, 16).fill(|_| 0.0);
    let case_of = |c: f64| {
        let c = Some(Budget::new(c).unwrap());
        Case::new(zeros.clone(), settings(Sampler::Bernoulli, Rule::Paper, None).with_c(c))
    };
    let file = right(&case_of(16.0), 1 << 40, 100, true);
    let verdict = judge(&case_of(16.0), &file);
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:#?}");
    let verdict = judge(&case_of(16.1), &right(&case_of(16.1), 1 << 40, 100, true));
    assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:#?}");
}

#[test]
fn three_runs_do_not_tell() {
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let case = case(sampler);
        let verdict = judge(&case, &right(&case, 0, 3, false));
        assert_eq!(verdict.outcome, Outcome::Inconclusive, "{sampler} {verdict:#?}");
    }
}

/// A kernel of independent draws: `keep(q, run, [head, i, j], rng)` decides, `value(w, q)` is the weight of a kept entry.
fn drawn(
    count: usize,
    mut keep: impl FnMut(f64, usize, [usize; 3], &mut ChaCha8Rng) -> bool,
    value: impl Fn(f64, f64) -> f64,
) -> TensorFile {
    let problem = problem(8);
    let saved = forward(&problem);
    let dense = DenseWeights { problem: &problem, saved: &saved };
    let mut rng = numbers(99);
    runs(&problem, count, false, |run, w| {
        for at in 0..problem.row_count() {
            let row = problem.row(at);
            for j in 0..=row.i {
                let weight = dense.at(row, j).w;
                let q = (4.0 * weight).min(1.0);
                if keep(q, run, [row.h, row.i, j], &mut rng) {
                    w[0][at * 16 + j] = value(weight, q);
                }
            }
        }
        spread(w);
    })
}

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
}

/// A uniform that is a function of its place alone.
fn keyed(place: [u64; 4]) -> f64 {
    let mut key = [0; 32];
    for (bytes, x) in key.chunks_exact_mut(8).zip(place) {
        bytes.copy_from_slice(&x.to_le_bytes());
    }
    uniform(&mut ChaCha8Rng::from_seed(key))
}

fn right_value(w: f64, _: f64) -> f64 {
    w.max(0.25)
}

type Value = fn(f64, f64) -> f64;
type Keep = fn(f64, usize, [usize; 3], &mut ChaCha8Rng) -> bool;

/// Wrong decisions, each with its name.
const DECISIONS: [(&str, Keep); 14] = [
    ("c 5 % too large", |q, _, _, rng| q >= 1.0 || uniform(rng) < 1.05 * q),
    ("c 5 % too small", |q, _, _, rng| q >= 1.0 || uniform(rng) < 0.95 * q),
    ("7-bit uniform", |q, _, _, rng| q >= 1.0 || (uniform(rng) * 128.0).floor() / 128.0 < q),
    ("8-bit threshold, cut", |q, _, _, rng| {
        q >= 1.0 || (uniform(rng) * 256.0).floor() < (q * 256.0).floor()
    }),
    ("4-bit uniform", |q, _, _, rng| q >= 1.0 || (uniform(rng) * 16.0).floor() / 16.0 < q),
    ("small q cut off", |q, _, _, rng| q >= 0.05 && uniform(rng) < q),
    ("small q cut off lower", |q, _, _, rng| q >= 0.02 && uniform(rng) < q),
    ("words shared by heads", |q, run, [_, i, j], _| {
        keyed([run as u64, i as u64, j as u64, 7]) < q
    }),
    ("words shared by rows", |q, run, [h, _, j], _| keyed([run as u64, h as u64, j as u64, 8]) < q),
    ("one word a row", |q, run, [h, i, _], _| keyed([run as u64, h as u64, i as u64, 9]) < q),
    ("runs repeat after 1000", |q, run, [h, i, j], _| {
        keyed([run as u64 % 1000, h as u64, (16 * i + j) as u64, 10]) < q
    }),
    ("runs repeat in pairs", |q, run, [h, i, j], _| {
        keyed([run as u64 / 2, h as u64, (16 * i + j) as u64, 11]) < q
    }),
    ("the same run always", |q, _, [h, i, j], _| keyed([0, h as u64, (16 * i + j) as u64, 12]) < q),
    ("words of the next run shifted by a row", |q, run, [h, i, j], _| {
        keyed([(run + i) as u64, h as u64, j as u64, 13]) < q
    }),
];

#[test]
fn wrong_decisions_fail() {
    let case = case(Sampler::Bernoulli);
    let independent = drawn(RUNS, |q, _, _, rng| uniform(rng) < q, right_value);
    let verdict = judge(&case, &independent);
    assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:#?}");
    let mut missed = Vec::new();
    for (name, keep) in DECISIONS {
        let verdict = judge(&case, &drawn(RUNS, keep, right_value));
        if verdict.outcome != Outcome::Fail {
            missed.push(name);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn wrong_weights_fail() {
    let values: [(&str, Value); 4] = [
        ("not divided by q", |w, _| w),
        ("divided by q twice", |w, q| w / (q * q)),
        ("1/c for all", |_, _| 0.25),
        ("one per cent too large", |w, q| 1.01 * w / q),
    ];
    let case = case(Sampler::Bernoulli);
    for (name, value) in values {
        let verdict = judge(&case, &drawn(40, |q, _, _, rng| uniform(rng) < q, value));
        assert_eq!(verdict.outcome, Outcome::Fail, "{name}");
    }
}

#[test]
fn the_other_sampler_fails() {
    for (declared, drawn) in
        [(Sampler::Bernoulli, Sampler::Systematic), (Sampler::Systematic, Sampler::Bernoulli)]
    {
        let verdict = judge(&case(declared), &right(&case(drawn), 5, RUNS, false));
        assert_eq!(verdict.outcome, Outcome::Fail, "{declared}");
    }
}

/// A problem whose masks are not recovered from the gradients: two features for 16 keys.
#[test]
fn projections_pass_right_samplers_and_fail_wrong_ones() {
    for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
        let case = Case::new(problem(2), settings(sampler, Rule::Paper, None));
        let file = right(&case, 3 << 40, RUNS, true);
        let verdict = judge(&case, &file);
        assert_eq!(verdict.outcome, Outcome::Pass, "{sampler} {verdict:#?}");
        let mut scaled = file.clone();
        edit(&mut scaled, "dk", |_, x| 1.2 * x);
        assert_eq!(judge(&case, &scaled).outcome, Outcome::Fail, "{sampler}");
    }
}

/// Edits every element of a gradient by its flat index.
fn edit(file: &mut TensorFile, name: &str, change: impl Fn(usize, f64) -> f64) {
    let array = file.arrays.get_mut(name).unwrap();
    let sus_files::tensor_file::Numbers::Float(data) = &mut array.numbers else {
        panic!("{name} has no floats")
    };
    data.iter_mut().enumerate().for_each(|(at, x)| *x = change(at, *x));
}

#[test]
fn errors_downstream_of_the_mask_fail() {
    let case = case(Sampler::Bernoulli);
    for (single, factor) in [(false, 1.0 + 1e-9), (true, 1.001)] {
        for name in ["dq", "dk", "dv"] {
            let mut file = right(&case, 77, 100, single);
            edit(&mut file, name, |_, x| factor * x);
            let verdict = judge(&case, &file);
            assert_eq!(verdict.outcome, Outcome::Fail, "{name} {verdict:#?}");
            assert!(verdict.findings[0].message.contains("no mask explains"));
        }
    }
    // One gradient from the masks of other runs.
    for name in ["dq", "dk", "dv"] {
        let mut file = right(&case, 77, 100, true);
        let other = right(&case, 1077, 100, true).arrays.remove(name).unwrap();
        file.arrays.insert(name.into(), other);
        assert_eq!(judge(&case, &file).outcome, Outcome::Fail, "{name}");
    }
}

#[test]
fn runs_with_known_seeds_are_judged_exactly() {
    let mut case = case(Sampler::Bernoulli);
    case.settings.seed = Some(50);
    let file = right(&case, 50, 5, false);
    let verdict = judge(&case, &file);
    assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:#?}");
    let mut other = right(&case, 60, 5, false);
    assert_eq!(judge(&case, &other).outcome, Outcome::Fail);
    other.arrays.insert("seeds".into(), Array::i64(&[5], (60..65).collect()));
    assert_eq!(judge(&case, &other).outcome, Outcome::Pass);
    let mut wrong = file;
    edit(&mut wrong, "dk", |at, x| if at == 700 { x + 1e-3 } else { x });
    let verdict = judge(&case, &wrong);
    assert_eq!(verdict.outcome, Outcome::Fail);
    assert!(verdict.findings[0].message.contains("run 2, seed 52"), "{verdict:#?}");
}

/// The distribution is that of the exact forward pass: runs are not judged by it in silence if the stored one was asked for. Runs whose
/// seeds are known are judged one at a time, each by the `o` and `lse` that it stored.
#[test]
fn the_law_does_not_judge_by_a_stored_forward_pass() {
    let mut case = case(Sampler::Bernoulli);
    let mut file = right(&case, 50, 200, false);
    let check = |case: &Case, file: &TensorFile| {
        sus_mutants::judge(case, &Recipe::built_in("f64").unwrap())
            .mode(Mode::Given)
            .build()
            .unwrap()
            .check(file)
    };
    let verdict = check(&case, &file);
    assert_eq!(verdict.outcome, Outcome::Inconclusive, "{verdict:#?}");
    let message = &verdict.findings[0].message;
    assert!(message.contains("mode 'given' judges one run at a time"), "{message}");
    case.settings.seed = Some(50);
    let verdict = check(&case, &file);
    assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:#?}");
    let saved = forward(&case.problem);
    for (name, x) in [("o", &saved.o), ("lse", &saved.lse)] {
        let shape = [&[200][..], &shape_of(name, x.shape())].concat();
        file.arrays.insert(name.into(), Array::f64(&shape, x.as_slice().repeat(200)));
    }
    assert_eq!(check(&case, &file).outcome, Outcome::Pass);
}

/// `lse` has no axis of features.
fn shape_of(name: &str, shape: [usize; 4]) -> Vec<usize> {
    if name == "lse" { shape[..3].to_vec() } else { shape.to_vec() }
}

/// The problem of a case, without its settings.
fn write_problem(case: &Case, path: &std::path::Path) {
    let mut file = TensorFile::default();
    let inputs = case.problem.inputs();
    for (name, x) in [("q", &inputs.q), ("k", &inputs.k), ("v", &inputs.v), ("do", &inputs.g)] {
        file.arrays.insert(name.into(), Array::f32(&x.shape(), x.as_slice().to_vec()));
    }
    file.write(path).unwrap();
}

/// Runs the command in a folder: its exit code, and all that it says.
fn run_command(folder: &std::path::Path, words: &[&str]) -> (i32, String) {
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_sus-oracle"));
    let output = process.current_dir(folder).args(words).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn the_command_exits_0_for_right_runs_1_for_wrong_ones_and_4_for_few() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let case = case(Sampler::Bernoulli);
    write_problem(&case, &path("problem"));
    let run = |command: &str, files: &[&str], more: &[&str]| {
        let words = [&[command][..], files, &["--causal", "--c", "4"], more].concat();
        run_command(folder.path(), &words)
    };
    let mut right = right(&case, 9, 2000, true);
    right.write(&path("right")).unwrap();
    let (code, said) = run("check", &["problem", "right"], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("2000 runs could see a bias of keep probabilities of"), "{said}");
    edit(&mut right, "dk", |_, x| 1.01 * x);
    right.write(&path("wrong")).unwrap();
    let (code, said) = run("check", &["problem", "wrong"], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no mask explains"), "{said}");
    self::right(&case, 9, 3, false).write(&path("few")).unwrap();
    let (code, said) = run("check", &["problem", "few"], &[]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("3 runs are too few to tell"), "{said}");
    // Their seeds are 9, 10, 11: known, they are judged exactly; with --law they are not.
    assert_eq!(run("check", &["problem", "few"], &["--seed", "9"]).0, 0);
    assert_eq!(run("check", &["problem", "few"], &["--seed", "10"]).0, 1);
    assert_eq!(run("check", &["problem", "few"], &["--seed", "10", "--law"]).0, 4);
    let (code, said) = run("power", &["problem"], &["--bias", "0.05"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("a bias of 5 % needs") && said.contains("PASS needs"), "{said}");
    println!("{said}");
    let (_, said) = run("power", &["problem"], &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["spec"], &json["decoded"]), (&"sus-oracle-power/1".into(), &true.into()));
}

#[test]
fn right_samplers_never_fail_over_many_seeds_rules_and_features() {
    let shapes = [
        Shape { key_heads: 2, features: 6, value_features: 6, ..Shape::plain(9, 11) },
        Shape {
            group: 2,
            batch: 2,
            features: 7,
            value_features: 5,
            sink: true,
            dlse: true,
            options: Options::default().with_softcap(2.0).with_causal(true),
            ..Shape::plain(8, 10)
        },
        Shape { group: 2, features: 8, bias: Some([true, true, false]), ..Shape::plain(7, 9) },
        Shape { group: 3, features: 8, bias: Some([false; 3]), ..Shape::plain(7, 6) },
        // The bias of the next hides keys.
        Shape { group: 3, features: 8, bias: Some([true, false, false]), ..Shape::plain(7, 9) },
        Shape { features: 2, value_features: 1, ..Shape::plain(20, 24) },
    ];
    for (at, shape) in shapes.into_iter().enumerate() {
        let problem = match shape.bias {
            Some([true, false, false]) => with_hidden_keys(&shape.problem()),
            _ => shape.problem(),
        };
        for rule in [Rule::Paper, Rule::Calibrated] {
            for sampler in [Sampler::Bernoulli, Sampler::Systematic] {
                let mut case = Case::new(problem.clone(), settings(sampler, rule, None));
                case.settings.c = Some(Budget::new(2.5).unwrap());
                for block in 0..2 {
                    let single = block % 2 == 0;
                    let file = right(&case, (block + 1) << 42, 50, single);
                    let verdict = judge(&case, &file);
                    let failed = verdict.outcome == Outcome::Fail;
                    assert!(!failed, "{at} {rule} {sampler} {block} {verdict:#?}");
                }
            }
        }
    }
}

#[test]
fn weakly_correlated_streams_fail() {
    // One entry in five takes the word of the other head, of the row above, or of the run before.
    let weak: [(&str, Keep); 3] = [
        ("heads", |q, run, [h, i, j], rng| {
            let h = if rng.next_u32() % 5 == 0 { 0 } else { h };
            keyed([run as u64, h as u64, (16 * i + j) as u64, 21]) < q
        }),
        ("rows", |q, run, [h, i, j], rng| {
            let i = if rng.next_u32() % 5 == 0 { i.max(1) - 1 } else { i };
            keyed([run as u64, h as u64, (16 * i + j) as u64, 22]) < q
        }),
        ("runs", |q, run, [h, i, j], rng| {
            let run = if rng.next_u32() % 5 == 0 { run.max(1) - 1 } else { run };
            keyed([run as u64, h as u64, (16 * i + j) as u64, 23]) < q
        }),
    ];
    let case = case(Sampler::Bernoulli);
    for (name, keep) in weak {
        let verdict = judge(&case, &drawn(1000, keep, right_value));
        assert_eq!(verdict.outcome, Outcome::Fail, "{name} {verdict:#?}");
    }
}

/// Three entries whose masks have the right probabilities one by one and pair by pair, and not together.
#[test]
fn a_joint_law_that_no_pair_shows_fails() {
    let shape = Shape { features: 8, value_features: 8, ..Shape::plain(1, 4) };
    let problem = shape.fill(|rng| f64::from(rng.next_u32() >> 8) / 33_554_432.0 - 0.25);
    let mut case = Case::new(problem, settings(Sampler::Bernoulli, Rule::Paper, None));
    case.settings.c = Some(Budget::new(1.6).unwrap());
    let saved = forward(&case.problem);
    let dense = DenseWeights { problem: &case.problem, saved: &saved };
    let weights: Vec<f64> = (0..4).map(|j| dense.at(case.problem.row(0), j).w).collect();
    let q: Vec<f64> = weights.iter().map(|w| 1.6 * w).collect();
    assert!(q.iter().all(|&q| 0.2 < q && q < 0.8), "{q:?}");
    let of = |mask: usize, n: usize| if mask >> n & 1 == 1 { q[n] } else { 1.0 - q[n] };
    let right: Vec<f64> = (0..8).map(|mask| (0..3).map(|n| of(mask, n)).product()).collect();
    let least = right.iter().copied().fold(1.0, f64::min);
    for (share, expected) in [(0.0, Outcome::Pass), (0.8, Outcome::Fail)] {
        let sign = |mask: usize| if mask.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        let mut rng = numbers(7);
        let file = runs(&case.problem, RUNS, false, |_, w| {
            let mut u = uniform(&mut rng);
            let drawn = (0..8).find(|&mask| {
                u -= right[mask] + share * least * sign(mask);
                u < 0.0
            });
            let mask = drawn.unwrap_or(7) | usize::from(uniform(&mut rng) < q[3]) << 3;
            for (j, weight) in weights.iter().enumerate().filter(|(j, _)| mask >> j & 1 == 1) {
                w[0][j] = weight.max(1.0 / 1.6);
            }
            spread(w);
        });
        let verdict = judge(&case, &file);
        assert_eq!(verdict.outcome, expected, "{share} {verdict:#?}");
        if expected == Outcome::Fail {
            let whole =
                |m: &str| m.contains("the divergence") || m.contains("kept entries or more");
            assert!(verdict.findings.iter().all(|f| whole(&f.message)), "{verdict:#?}");
            let divergence = |f: &Finding| f.message.contains("the divergence");
            assert!(verdict.findings.iter().any(divergence), "{verdict:#?}");
        }
    }
}

/// A bias that heads, or all rows, share: its gradient is judged once every mask is known.
#[test]
fn a_wrong_dbias_fails_whoever_shares_it() {
    for bias in [[true, true, false], [true, false, false], [false, true, true], [false; 3]] {
        let shape = Shape { group: 2, features: 8, bias: Some(bias), ..Shape::plain(7, 9) };
        let mut case = Case::new(shape.problem(), settings(Sampler::Bernoulli, Rule::Paper, None));
        case.settings.c = Some(Budget::new(2.5).unwrap());
        let mut file = right(&case, 5 << 42, 300, true);
        let verdict = judge(&case, &file);
        assert_ne!(verdict.outcome, Outcome::Fail, "{bias:?} {verdict:#?}");
        let recovered = verdict.notes.iter().any(|note| note.contains("told by its gradients"));
        assert!(recovered, "{bias:?} {verdict:#?}");
        edit(&mut file, "dbias", |_, x| 1.001 * x);
        let verdict = judge(&case, &file);
        assert_eq!(verdict.outcome, Outcome::Fail, "{bias:?} {verdict:#?}");
        assert_eq!(verdict.findings[0].tensor, "dbias", "{verdict:#?}");
    }
}
