//! The command `check`, as a process.

use crate::common::Shape;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Array, ProblemFile, Settings, TensorFile};
use sus_oracle::mutants::arithmetic::Arithmetic;
use sus_oracle::mutants::{RunConfig, control_kernel, named};
use sus_oracle::problem::Inputs;

/// A problem file in a folder of its own.
fn problem(folder: &Path) -> PathBuf {
    let shape = Shape {
        key_heads: 2,
        group: 2,
        features: 8,
        value_features: 8,
        sink: true,
        ..Shape::plain(20, 24)
    };
    let problem = shape.problem();
    let Inputs { q, k, v, g, sink, .. } = problem.inputs();
    let mut file = TensorFile::default();
    for (name, tensor) in [("q", q), ("k", k), ("v", v), ("do", g)] {
        let array = Array::f32(&tensor.shape(), tensor.as_slice().to_vec());
        file.arrays.insert(name.into(), array);
    }
    file.arrays.insert("sink".into(), Array::f32(&[4], sink.clone().unwrap()));
    let path = folder.join("problem.safetensors");
    file.write(&path).unwrap();
    path
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sus-oracle")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The exit code and what was printed.
fn check(arguments: &[&str]) -> (i32, String, String) {
    let output = run(&[&["check"], arguments].concat());
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), said(output.stdout), said(output.stderr))
}

/// The results of `grad`, written to a file.
fn grad(problem: &Path, name: &str, options: &[&str]) -> PathBuf {
    let out = problem.with_file_name(name);
    let output = run(&[&["grad", text(problem), "--out", text(&out)], options].concat());
    assert!(output.status.success(), "{output:?}");
    out
}

#[test]
fn what_grad_writes_passes_at_the_recipe_of_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let draws: [&[&str]; 4] = [
        &["--dense"],
        &["--c", "3", "--seed", "5"],
        &["--c", "3", "--seed", "5", "--sampler", "systematic", "--rule", "calibrated"],
        &["--c", "2", "--causal", "--softcap", "3"],
    ];
    for draw in draws {
        for dtype in ["f64", "f32"] {
            let out = grad(&problem, "out.safetensors", &[draw, &["--dtype", dtype]].concat());
            let (code, stdout, stderr) = check(&[&[text(&problem), text(&out)], draw].concat());
            assert_eq!(code, 0, "{draw:?} {dtype}: {stdout}{stderr}");
            assert!(stdout.contains(&format!("{dtype} (by the candidate's dtype)")), "{stdout}");
            assert!(stdout.ends_with("verdict    PASS\n"), "{stdout}");
        }
    }
}

#[test]
fn a_failure_names_the_element_the_stages_and_the_command_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense"]);
    let mut file = TensorFile::read(&out).unwrap();
    let array = file.arrays.get_mut("dk").unwrap();
    let sus_oracle::files::tensor_file::Numbers::Float(dk) = &mut array.numbers else { panic!() };
    dk[8 * 24 + 8 * 3 + 2] += 0.125;
    file.write(&out).unwrap();
    let junit = folder.path().join("verdict.xml");
    let arguments =
        [text(&problem), text(&out), "--dense", "--recipe", "f32", "--junit", text(&junit)];
    let (code, stdout, _) = check(&arguments);
    assert_eq!(code, 1, "{stdout}");
    for part in [
        "[0, 1, 3, 2]",
        "by key",
        "the bound is made of",
        "diagnosis",
        "sus-oracle check",
        "verdict    FAIL",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("failures=\"1\"") && xml.contains("<failure"), "{xml}");
    let (code, stdout, _) = check(&[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &json["spec"], &json["verdict"]),
        (1, &"sus-oracle-verdict/1".into(), &"FAIL".into())
    );
    let dk = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "dk").unwrap();
    assert_eq!(dk["worst"]["index"], serde_json::json!([0, 1, 3, 2]));
    assert_eq!(dk["outcome"], "FAIL");
}

#[test]
fn a_recipe_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense", "--dtype", "f32"]);
    let recipe = folder.path().join("mine.toml");
    let judged = |content: &str| {
        std::fs::write(&recipe, content).unwrap();
        check(&[text(&problem), text(&out), "--dense", "--recipe", text(&recipe)])
    };
    let (code, stdout, _) = judged("base = \"f32\"\nname = \"mine\"\nexp_ulp = 3.5\n");
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("mine (as asked)"));
    for (content, expected) in [
        ("base = \"f32\"\nexpulp = 3.5\n", "unknown field"),
        ("base = \"f31\"\n", "no built-in recipe"),
        ("base = \"f32\"\np = \"f12\"\n", "unknown variant"),
        ("base = \"f32\"\nexp_ulp = -1.0\n", "finite number from 0"),
        ("base = ", "expected"),
        ("", "missing field"),
    ] {
        let (code, _, stderr) = judged(content);
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("mine.toml"), "{stderr}");
    }
}

#[test]
fn bad_files_are_one_line_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense"]);
    let bytes = std::fs::read(&out).unwrap();
    let bad = folder.path().join("bad.safetensors");
    let contents: [&[u8]; 5] =
        [b"", b"no safetensors", &bytes[..bytes.len() / 2], &bytes[..12], &[0xff; 64]];
    for content in contents {
        std::fs::write(&bad, content).unwrap();
        for arguments in [[text(&problem), text(&bad)], [text(&bad), text(&out)]] {
            let (code, stdout, stderr) = check(&arguments);
            assert_eq!((code, stderr.lines().count(), stdout.len()), (2, 1, 0), "{stderr}");
            assert!(stderr.contains("bad.safetensors"), "{stderr}");
        }
    }
    let none = folder.path().join("none.safetensors");
    for arguments in [
        vec![text(&problem), text(&none)],
        vec![text(&problem), text(&out), "--recipe", "fast"],
        vec![text(&problem), text(&out), "--mode", "loose"],
        vec![text(&problem), text(&out), "--c", "0"],
        vec![text(&problem)],
    ] {
        let (code, _, stderr) = check(&arguments);
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
    }
}

#[test]
fn a_mask_that_cannot_be_read_fails_and_does_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let draw = ["--c", "3", "--seed", "5"];
    let out = grad(&problem, "out.safetensors", &draw);
    let right = TensorFile::read(&out).unwrap();
    let edits: [fn(&mut TensorFile); 4] = [
        |file| drop(file.arrays.remove("mask/columns")),
        |file| drop(file.arrays.insert("mask/columns".into(), Array::i64(&[1], vec![-1]))),
        |file| drop(file.arrays.insert("mask/row_offsets".into(), Array::i64(&[2], vec![5, 1]))),
        |file| drop(file.arrays.insert("mask".into(), Array::f64(&[1], vec![0.5]))),
    ];
    for edit in edits {
        let mut file = right.clone();
        edit(&mut file);
        file.write(&out).unwrap();
        let (code, stdout, stderr) = check(&[&[text(&problem), text(&out)], &draw[..]].concat());
        assert_eq!(code, 1, "{stdout}{stderr}");
        assert!(stdout.contains("mask"), "{stdout}");
    }
}

#[test]
fn a_picture_is_drawn_whatever_the_verdict_and_a_place_it_cannot_go_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let right = grad(&problem, "right.safetensors", &["--dense"]);
    let picture = folder.path().join("errors.svg");
    let files = [text(&problem), text(&right)];
    let (code, ..) = check(&[&files[..], &["--dense", "--plot", text(&picture)]].concat());
    assert_eq!(code, 0);
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("dq, by query"), "{drawn}");

    // A candidate without a tensor that can be compared.
    let mut empty = TensorFile::default();
    empty.arrays.insert("dq".into(), Array::f32(&[1], vec![0.0]));
    let wrong = folder.path().join("wrong.safetensors");
    empty.write(&wrong).unwrap();
    let files = [text(&problem), text(&wrong)];
    let (code, ..) = check(&[&files[..], &["--dense", "--plot", text(&picture)]].concat());
    assert_eq!(code, 1);
    assert!(std::fs::read_to_string(&picture).unwrap().contains("the bound"));

    let nowhere = folder.path().join("nowhere").join("errors.svg");
    let (code, said, error) = check(&[&files[..], &["--dense", "--plot", text(&nowhere)]].concat());
    assert_eq!((code, said.as_str(), error.lines().count()), (2, "", 1), "{error}");
}

#[test]
fn a_place_where_no_file_can_be_is_told_before_any_work_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let right = grad(&problem, "right.safetensors", &["--dense"]);
    let report = folder.path().join("verdict.xml");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = files();
    // A folder that is not there, and a folder where a file should be.
    for picture in [folder.path().join("nowhere").join("errors.svg"), folder.path().to_owned()] {
        let (code, said, error) = check(&[
            text(&problem),
            text(&right),
            "--dense",
            "--junit",
            text(&report),
            "--plot",
            text(&picture),
        ]);
        assert_eq!((code, said.as_str(), error.lines().count()), (2, "", 1), "{error}");
        assert!(error.contains(text(&picture)), "{error}");
        // The report is written when the work is done.
        assert_eq!(files(), before);
    }
}

/// The results of a right kernel of the recipe, or of a wrong one, stored in `f32`.
fn kernel_results(problem: &Path, recipe: &str, mutant: Option<&str>) -> PathBuf {
    let read = ProblemFile::read(problem, Settings::default()).unwrap().problem;
    let config = RunConfig::new(&read, Arithmetic::named(recipe).unwrap(), None);
    let mut file = match mutant {
        Some(name) => (named(name).unwrap().run)(&config).unwrap(),
        None => control_kernel(&config),
    };
    for array in file.arrays.values_mut() {
        let Numbers::Float(data) = &array.numbers else { panic!() };
        *array = Array::f32(&array.shape, data.clone());
    }
    file.metadata = None;
    let path = problem.with_file_name("results.safetensors");
    file.write(&path).unwrap();
    path
}

/// Numbers of 16 bits in a file of `f32`: the default recipe is wrong, and the report says which one is right.
#[test]
fn a_failure_names_another_recipe_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let judged = |recipe: &str, mutant: Option<&str>, options: &[&str]| {
        let results = kernel_results(&problem, recipe, mutant);
        let arguments = [&[text(&problem), text(&results), "--dense"], options].concat();
        let (code, said, _) = check(&arguments);
        let (_, json, _) = check(&[&arguments[..], &["--json"]].concat());
        (code, said, serde_json::from_str::<serde_json::Value>(&json).unwrap()["passes_as"].clone())
    };
    for recipe in ["flash-bf16", "flash-f16"] {
        let (code, said, passes_as) = judged(recipe, None, &[]);
        assert_eq!((code, &passes_as), (1, &recipe.into()), "{said}");
        let hint = format!("hint       PASSes as {recipe}: write --recipe {recipe}");
        assert!(said.contains(&hint) && said.ends_with("verdict    FAIL\n"), "{said}");
        // With the recipe that it names the kernel passes, and there is nothing to say.
        let (code, said, passes_as) = judged(recipe, None, &["--recipe", recipe]);
        assert_eq!((code, passes_as), (0, serde_json::Value::Null), "{said}");
        assert!(!said.contains("hint"), "{said}");
    }
    // A recipe that was asked for has only those of its own type of results beside it.
    let (code, said, passes_as) = judged("flash-bf16", None, &["--recipe", "f32"]);
    assert_eq!((code, passes_as), (1, serde_json::Value::Null), "{said}");
    // A small error of a formula and a large one pass at no recipe.
    for mutant in ["dk_unscaled", "delta_halved"] {
        let (code, said, passes_as) = judged("flash-bf16", Some(mutant), &[]);
        assert_eq!((code, passes_as), (1, serde_json::Value::Null), "{said}");
    }
}

/// The query heads of a group, each rounded to 16 bits before they are added: right for a kernel whose keys are repeated.
#[test]
fn a_failure_at_a_recipe_that_was_asked_for_names_its_sibling() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let results = kernel_results(&problem, "flash-bf16-repeated", None);
    let arguments = [text(&problem), text(&results), "--dense", "--recipe", "flash-bf16"];
    let (code, said, _) = check(&arguments);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("hint       PASSes as flash-bf16-repeated"), "{said}");
}

#[test]
fn several_files_of_a_dense_pass_are_runs_and_may_be_equal() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense", "--dtype", "f32"]);
    let files = [text(&problem), text(&out), text(&out), "--dense", "--repeat", "bitwise"];
    let (code, said, stderr) = check(&files);
    assert_eq!(code, 0, "{said}{stderr}");
    assert!(said.contains("runs       2 PASS") && said.contains("dq: the same bits"), "{said}");
    let other = grad(&problem, "other.safetensors", &["--dense", "--dtype", "f32"]);
    let mut file = TensorFile::read(&other).unwrap();
    let Numbers::Float(dv) = &mut file.arrays.get_mut("dv").unwrap().numbers else { panic!() };
    dv[5] += 1.0;
    file.write(&other).unwrap();
    let (code, said, _) = check(&[text(&problem), text(&out), text(&other), "--dense", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["runs"]["shown"]), (1, &1.into()));
}

/// The numbers of `grad` in bf16, under other names.
fn renamed(problem: &Path, names: &[(&str, &str)]) -> PathBuf {
    use sus_oracle::files::tensor_file::Numbers;
    let out = grad(problem, "renamed.safetensors", &["--dense"]);
    let mut file = TensorFile::read(&out).unwrap();
    for (name, array) in &mut file.arrays {
        if name != "lse" && name != "dsink" {
            array.dtype = safetensors::Dtype::BF16;
        }
        let Numbers::Float(data) = &array.numbers else { panic!("floats") };
        assert!(data.iter().all(|x| x.is_finite()));
    }
    for (ours, theirs) in names {
        let array = file.arrays.remove(*ours).unwrap();
        file.arrays.insert((*theirs).into(), array);
    }
    file.write(&out).unwrap();
    out
}

#[test]
fn results_named_as_elsewhere_are_told_the_names_here_and_judged_at_the_recipe_of_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    // In the last one, no result but `dsink`, which is F64, has its name here.
    let all: [&[(&str, &str)]; 4] = [
        &[("dq", "q.grad"), ("dk", "k.grad"), ("dv", "v.grad")],
        &[("dq", "grad_q"), ("dk", "dK"), ("dv", "grad_value")],
        &[("dq", "dq_"), ("o", "out"), ("lse", "softmax_lse")],
        &[("dq", "grad_query"), ("dk", "dk_"), ("dv", "v.grad"), ("o", "output")],
    ];
    for names in all {
        let candidate = renamed(&problem, names);
        let (code, said, _) = check(&[text(&problem), text(&candidate), "--dense"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("flash-bf16 (by the candidate's dtype)"), "{said}");
        for (ours, theirs) in names {
            assert!(said.contains(&format!("{theirs} extra: write it as {ours}\n")), "{said}");
            assert!(!said.contains(&format!("{ours} missing")), "{said}");
        }
        let failed = said.lines().filter(|line| line.starts_with("FAIL")).count();
        assert_eq!(failed, names.len(), "the names and nothing else: {said}");
    }
    // Beside the right one, the other name is one too many.
    let candidate = renamed(&problem, &[]);
    let mut file = TensorFile::read(&candidate).unwrap();
    file.arrays.insert("dQ".into(), file.arrays["dq"].clone());
    file.write(&candidate).unwrap();
    let (code, said, _) = check(&[text(&problem), text(&candidate), "--dense"]);
    assert!(code == 1 && said.contains("expected no such tensor beside dq"), "{said}");
}

#[test]
fn many_foreign_tensors_of_any_name_are_a_few_lines() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense"]);
    let mut file = TensorFile::read(&out).unwrap();
    for at in 0..4000 {
        let name = format!("a\n\u{1b}[31m{at}{}", "x".repeat(500));
        file.arrays.insert(name, Array::f32(&[1], vec![0.0]));
    }
    file.write(&out).unwrap();
    let arguments = [text(&problem), text(&out), "--dense"];
    let (code, said, _) = check(&arguments);
    assert!(code == 1 && said.contains("3992 more tensors that this case does not have"), "{said}");
    assert!(!said.contains('\u{1b}') && said.len() < 8000, "{said}");
    let (code, said, _) = check(&[&arguments[..], &["--json"]].concat());
    assert!(code == 1 && said.len() < 20_000, "{}", said.len());
}

#[test]
fn a_million_runs_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problem.safetensors");
    let mut file = TensorFile::default();
    for name in ["q", "k", "v", "do"] {
        file.arrays.insert(name.into(), Array::f32(&[1, 1, 2, 1], vec![0.5, 1.0]));
    }
    file.write(&path).unwrap();
    let runs = folder.path().join("runs.safetensors");
    let write = |count: usize| {
        let mut file = TensorFile::default();
        for name in ["dq", "dk", "dv"] {
            let array = Array::f32(&[count, 1, 1, 2, 1], vec![0.5; 2 * count]);
            file.arrays.insert(name.into(), array);
        }
        file.write(&runs).unwrap();
    };
    write(1_000_000);
    for options in [&["--dense"][..], &["--c", "1", "--seed", "3"]] {
        let (code, said, error) = check(&[&[text(&path), text(&runs)], options].concat());
        assert_eq!((code, said.as_str(), error.lines().count()), (2, "", 1), "{error}");
        assert!(
            error.contains("runs.safetensors: option 'runs': expected at most 65536"),
            "{error}"
        );
    }
    let (code, said, error) = check(&[text(&path), text(&runs), "--c", "1"]);
    assert!(code == 1 && said.contains("verdict    FAIL") && said.len() < 8000, "{said}{error}");
    // The most that are judged one by one are judged.
    write(100);
    let (code, said, _) = check(&[text(&path), text(&runs), "--c", "1", "--seed", "3"]);
    assert!(code == 1 && said.contains("verdict    FAIL"), "{said}");
}

#[test]
fn an_empty_batch_of_long_sequences_takes_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problem.safetensors");
    let mut file = TensorFile::default();
    for name in ["q", "k", "v", "do"] {
        file.arrays.insert(name.into(), Array::f32(&[0, 1, 1 << 32, 1], Vec::new()));
    }
    file.write(&path).unwrap();
    // 2^32 steps of a loop would take longer.
    let begin = std::time::Instant::now();
    let out = grad(&path, "out.safetensors", &["--dense"]);
    let (code, said, _) = check(&[text(&path), text(&out), "--dense"]);
    assert_eq!(code, 0, "{said}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_recipe_that_says_a_key_twice_or_has_no_end_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense"]);
    let recipe = folder.path().join("mine.toml");
    let long = format!("base = \"{}\"", "x".repeat(10_000));
    let huge = "# a comment\n".repeat(10_000);
    for (content, expected) in [
        ("base = \"f32\"\nexp_ulp = 1.0\nexp_ulp = 2.0\n", "duplicate key"),
        (long.as_str(), "(9920 more)"),
        (huge.as_str(), "more than 65536 bytes"),
    ] {
        std::fs::write(&recipe, content).unwrap();
        let (code, _, error) =
            check(&[text(&problem), text(&out), "--dense", "--recipe", text(&recipe)]);
        assert_eq!((code, error.lines().count()), (2, 1), "{error}");
        assert!(error.contains(expected) && error.len() < 1000, "{error}");
    }
    #[cfg(unix)]
    {
        let (code, _, error) =
            check(&[text(&problem), text(&out), "--dense", "--recipe", "/dev/zero"]);
        assert_eq!((code, error.lines().count()), (2, 1), "{error}");
    }
}

#[test]
fn an_argument_of_any_length_is_answered_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let problem = problem(folder.path());
    let out = grad(&problem, "out.safetensors", &["--dense"]);
    let numbers: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let (numbers, word) = (numbers.join(","), "x\n".repeat(30_000));
    let segments = ["--segments-q", numbers.as_str(), "--segments-k", numbers.as_str()];
    for options in [&segments[..], &["--recipe", word.as_str()], &["--alignment", word.as_str()]] {
        let (code, said, error) = check(&[&[text(&problem), text(&out)], options].concat());
        assert_eq!((code, said.as_str(), error.lines().count()), (2, "", 1), "{error}");
        assert!(error.chars().count() < 1000, "{error}");
    }
}
