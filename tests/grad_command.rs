//! `sus-oracle grad` as a person or a script meets it.

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Array, TensorFile};
use tempfile::TempDir;

const REAL: &str = "fixtures/real/layer2.safetensors";
const SMALL: &str = "tests/torch/cases/everything.safetensors";

struct Run {
    folder: TempDir,
    out: PathBuf,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.safetensors");
        Run { folder, out }
    }

    fn command(&self, problem: &str, options: &[&str]) -> Command {
        let mut command = Command::cargo_bin("sus-oracle").unwrap();
        command.args(["grad", problem, "--out"]).arg(&self.out).args(options);
        command
    }

    /// The standard output of a run that succeeds, and the bytes it wrote.
    fn succeed(&self, problem: &str, options: &[&str]) -> (String, Vec<u8>) {
        let output = self.command(problem, options).assert().success().get_output().clone();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        (String::from_utf8(output.stdout).unwrap(), std::fs::read(&self.out).unwrap())
    }

    /// The one line of a run that is refused; nothing is printed and nothing is left behind.
    fn refuse(&self, problem: &str, options: &[&str]) -> String {
        let output = self.command(problem, options).assert().code(2).get_output().clone();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches('\n').count(), 1, "one line: {said}");
        assert!(said.starts_with("error: ") && !said.contains("panicked"), "{said}");
        assert_eq!(self.folder.path().read_dir().unwrap().count(), 0, "a file is left behind");
        said.trim_end().trim_start_matches("error: ").to_owned()
    }
}

#[test]
fn real_attention_gets_its_sparse_gradients_and_a_summary() {
    let (said, _) = Run::new().succeed(REAL, &["--c", "30"]);
    for part in [
        "fixtures/real/layer2.safetensors (BF16)",
        "q [1, 2, 1024, 64]  k [1, 2, 1024, 64]  v [1, 2, 1024, 64]",
        "15.84 of 512.5 visible keys per row (3.09 %), expected 15.83; c = 30",
        "|SUS - dense| / |dense|:  dq 6.099e-1  dk 3.239e-1  dv 1.709e-1",
        "dk dq dv lse mask/columns mask/row_offsets mask/values o",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let options = ["--c", "20", "--sampler", "systematic", "--dtype", "f64"];
    let (_, one) = Run::new().succeed(REAL, &[&options[..], &["--threads", "1"]].concat());
    let (_, three) = Run::new().succeed(REAL, &[&options[..], &["--threads", "3"]].concat());
    assert!(one == three);
}

#[test]
fn json_says_what_the_text_says() {
    let run = Run::new();
    let (said, _) = run.succeed(REAL, &["--c", "30", "--seed", "18446744073709551615", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["spec"], "sus-oracle-grad/1");
    assert_eq!(json["settings"]["seed"], u64::MAX);
    assert_eq!(json["sizes"]["Nk"], 1024);
    assert_eq!(json["kept"]["rows"], 2048);
    let file = TensorFile::read(&run.out).unwrap();
    assert_eq!(json["kept"]["kept"], file.arrays["mask/columns"].shape[0]);
}

#[test]
fn a_result_with_its_own_o_and_lse_can_be_given_back() {
    // The forward pass of the first run, put beside the inputs, is a given forward pass with the same gradients.
    let run = Run::new();
    let (_, bytes) = run.succeed(SMALL, &["--dense", "--dtype", "f64"]);
    let exact = TensorFile::parse(&bytes).unwrap();
    let mut problem = TensorFile::read(Path::new(SMALL)).unwrap();
    problem.arrays.retain(|name, _| !name.starts_with("expected/"));
    for name in ["o", "lse"] {
        problem.arrays.insert(name.into(), exact.arrays[name].clone());
    }
    let given = run.folder.path().join("given.safetensors");
    problem.write(&given).unwrap();
    let given = given.to_str().unwrap();
    let (_, bytes) = run.succeed(given, &["--dense", "--dtype", "f64", "--mode", "given"]);
    assert_eq!(TensorFile::parse(&bytes).unwrap().arrays["dq"], exact.arrays["dq"]);
    // Another o gives another delta, so another dq, and leaves dv.
    let sus_oracle::files::tensor_file::Numbers::Float(o) =
        &mut problem.arrays.get_mut("o").unwrap().numbers
    else {
        panic!("o is stored as floats")
    };
    for o in o.iter_mut() {
        *o += 0.25;
    }
    problem.write(Path::new(given)).unwrap();
    let (_, bytes) = run.succeed(given, &["--dense", "--dtype", "f64", "--mode", "given"]);
    let other = TensorFile::parse(&bytes).unwrap();
    assert_ne!(other.arrays["dq"], exact.arrays["dq"]);
    assert_eq!(other.arrays["dv"], exact.arrays["dv"]);
}

#[test]
fn what_the_command_cannot_do_it_refuses_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--c", "0"],
            "invalid value '0' for '--c <C>': option 'c': expected a number above 0, or inf, found 0",
        ),
        (
            &["--c", "-3"],
            "invalid value '-3' for '--c <C>': option 'c': expected a number above 0, or inf, found -3",
        ),
        (
            &["--c", "few"],
            "invalid value 'few' for '--c <C>': option 'c': expected a number above 0, or inf, found few",
        ),
        (&["--scale", "nan"], "invalid value 'nan' for '--scale <X>': expected a finite number"),
        (
            &["--rule", "best"],
            "invalid value 'best' for '--rule <NAME>': option 'rule': expected 'paper' or 'calibrated', found 'best'",
        ),
        (
            &["--window", "7"],
            "invalid value '7' for '--window <LEFT,RIGHT>': option 'window': expected LEFT,RIGHT, each an integer from 0 or inf, found 7",
        ),
        (&["--dense", "--c", "3"], "the argument '--dense' cannot be used with '--c <C>'"),
        (
            &["--stream", "2147483648"],
            "invalid value '2147483648' for '--stream <N>': 2147483648 is not in 0..2147483648",
        ),
        (
            &["--uniform-bits", "64", "--sampler", "systematic"],
            "fixtures/real/layer2.safetensors: option 'uniform_bits': expected 32 with the systematic sampler, found 64",
        ),
        (
            &["--scale", "0.5"],
            "fixtures/real/layer2.safetensors: option 'scale': expected 0.125, as the file says, found 0.5",
        ),
        (
            &["--mode", "given"],
            "fixtures/real/layer2.safetensors: option 'mode': expected 'exact' for a file without 'o' and 'lse', found 'given'",
        ),
        (
            &["--segments-q", "0,1024"],
            "fixtures/real/layer2.safetensors: option 'segments_k': expected a list, as segments_q is given, found none",
        ),
    ];
    let run = Run::new();
    for (options, expected) in cases {
        assert_eq!(run.refuse(REAL, options), *expected);
    }
    assert_eq!(
        run.refuse(SMALL, &["--c", "3"]),
        format!("{SMALL}: option 'pass': expected \"dense\", as the file says, found \"sus\"")
    );
    assert_eq!(
        run.refuse("no such file", &[]),
        "no such file: No such file or directory (os error 2)"
    );
    assert!(run.refuse("src", &[]).starts_with("src: "));
}

/// A bias of `-inf` is a mask; NaN, `inf`, and what only the type of the arithmetic makes infinite, are one line and the exit code 2.
#[test]
fn a_bias_may_be_minus_infinity_and_nothing_else_that_is_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problem.safetensors");
    let small = TensorFile::read(Path::new(SMALL)).unwrap();
    let (queries, keys) = (small.arrays["q"].shape[2], small.arrays["k"].shape[2]);
    let with_bias = |x: f64| {
        let mut file = small.clone();
        // A sink would be the lse of the row that the bias hides everything from.
        file.arrays.remove("sink");
        let mut bias = vec![0.0; queries * keys];
        bias[keys..2 * keys].fill(f64::NEG_INFINITY);
        bias[0] = x;
        file.arrays.insert("bias".into(), Array::f64(&[1, 1, queries, keys], bias));
        file.write(&path).unwrap();
        path.to_str().unwrap()
    };
    for dtype in ["f64", "f32", "dd"] {
        let (_, bytes) = Run::new().succeed(with_bias(0.0), &["--dense", "--dtype", dtype]);
        let results = TensorFile::parse(&bytes).unwrap();
        let Numbers::Float(dbias) = &results.arrays["dbias"].numbers else { unreachable!() };
        assert!(dbias[keys..2 * keys].iter().all(|&x| x == 0.0) && dbias[0] != 0.0, "{dtype}");
        let Numbers::Float(lse) = &results.arrays["lse"].numbers else { unreachable!() };
        assert_eq!(lse[1], f64::NEG_INFINITY);
    }
    for (bad, found) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let said = Run::new().refuse(with_bias(bad), &["--dense"]);
        let expected = "tensor 'bias': expected finite numbers or -inf, found";
        assert!(said.ends_with(&format!("{expected} {found} at flat index 0")), "{said}");
    }
    let said = Run::new().refuse(with_bias(-1e300), &["--dense", "--dtype", "f32"]);
    assert!(said.contains("which becomes -inf, at flat index 0"), "{said}");
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("problem.safetensors");
    std::fs::copy(SMALL, &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let refuse = |out: &Path| {
        let mut command = Command::cargo_bin("sus-oracle").unwrap();
        let output = command.arg("grad").arg(&copy).arg("--out").arg(out).assert().code(2);
        String::from_utf8(output.get_output().stderr.clone()).unwrap()
    };
    assert!(refuse(&copy).ends_with("expected another file than the problem, found the same\n"));
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    assert!(refuse(folder.path()).ends_with("expected a file, found a folder\n"));
    let missing = folder.path().join("no").join("out");
    assert!(refuse(&missing).ends_with("expected a file in an existing folder, found none such\n"));
}

#[test]
fn help_teaches_and_is_no_error() {
    for arguments in [&["--help"][..], &["grad", "--help"], &["--version"]] {
        let output = Command::cargo_bin("sus-oracle").unwrap().args(arguments).assert().success();
        assert!(!output.get_output().stdout.is_empty());
    }
    let output =
        Command::cargo_bin("sus-oracle").unwrap().args(["grad", "--help"]).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(
        text.contains("sus-oracle grad fixtures/real/layer2.safetensors --c 30 --out"),
        "{text}"
    );
    Command::cargo_bin("sus-oracle").unwrap().assert().code(2);
    Command::cargo_bin("sus-oracle").unwrap().arg("gard").assert().code(2);
}
