//! The `bench` command: its JSON, its files, its refusals.

use assert_cmd::Command;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("sus-oracle").unwrap();
    command.arg("bench").args(arguments);
    command
}

#[test]
fn json_has_a_row_for_every_pass_size_and_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bench");
    let arguments =
        ["--threads", "2", "--n", "64,1024", "--c", "4", "--repetitions", "1", "--json", "--out"];
    let output = bench(&arguments).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["spec"], "sus-oracle-bench/1");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4 * 2 * 2);
    let names = [
        "op",
        "dtype",
        "batch",
        "heads",
        "n",
        "features",
        "instructions",
        "c",
        "pattern",
        "causal",
        "threads",
        "seconds",
        "kept",
        "peak_bytes",
    ];
    for row in rows {
        let row = row.as_object().unwrap();
        assert_eq!(row.len(), names.len());
        assert!(names.iter().all(|&name| row.contains_key(name)));
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
        // A pass needs at least two numbers a row beside its inputs and results, and on two threads no more than six
        // matrices of n x 64, as soon as these exceed the tiles.
        let (n, peak) = (row["n"].as_u64().unwrap(), row["peak_bytes"].as_u64().unwrap());
        let scalar = if row["dtype"] == "f64" { 8 } else { 4 };
        assert!(peak >= 2 * scalar * n, "{row:?}");
        assert!(n < 1024 || peak <= 6 * n * 64 * scalar, "{row:?}");
    }
    assert!(report["ceilings"]["multiply_add_flops_per_second"]["f32"].as_f64().unwrap() > 0.0);
    assert!(
        std::fs::read_to_string(out.join("bench.svg")).unwrap().contains("sparse_backward f32")
    );
    assert!(out.join("bench.json").is_file());
}

/// Rows have the shape that was asked for; the instructions are said, or refused where the machine has none of them.
#[test]
fn a_shape_and_the_instructions_are_those_that_were_asked_for() {
    let arguments = ["--threads", "1", "--n", "96", "--batch", "2", "--heads", "3", "--features"];
    let run = |instructions: &str| {
        let more = ["40", "--dtype", "f32", "--c", "4", "--repetitions", "1", "--json"];
        let options = ["--instructions", instructions];
        bench(&arguments).args(more).args(options).output().unwrap()
    };
    let output = run("portable");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for row in report["rows"].as_array().unwrap() {
        let shape = ["batch", "heads", "n", "features"].map(|name| row[name].as_u64().unwrap());
        assert_eq!(shape, [2, 3, 96, 40]);
        assert_eq!(row["instructions"], "portable");
        // About 4 entries in each of the 2 * 3 * 96 rows.
        let kept = row["kept"].as_u64().unwrap();
        assert!(kept == 0 || (1000..=2400).contains(&kept), "{kept}");
    }
    let output = run("avx2");
    if output.status.success() {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["rows"][0]["instructions"], "avx2");
    } else {
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("instructions") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn sizes_of_zero_and_unknown_patterns_are_refused_in_one_line() {
    for arguments in [["--n", "0"], ["--pattern", "dense"], ["--c", "-1"], ["--dtype", "f16"]] {
        let output = bench(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1, "{arguments:?}");
    }
}

#[test]
fn the_cost_of_a_verdict_is_measured_for_right_and_wrong_candidates() {
    let arguments =
        ["--verdict", "--n", "24", "--heads", "1", "--dtype", "bf16,f32", "--repetitions", "1"];
    let output = bench(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    let outcomes = |name: &str| {
        let rows = table.lines().filter(|line| line.starts_with(name));
        let outcome = |line: &str| {
            line.split_whitespace().find(|word| ["PASS", "FAIL"].contains(word)).map(str::to_owned)
        };
        rows.filter_map(outcome).collect::<Vec<_>>()
    };
    for name in ["bf16", "f32"] {
        assert_eq!(outcomes(name), ["PASS", "FAIL", "FAIL", "FAIL"], "{table}");
    }
    for arguments in [["--verdict", "--features=32"], ["--dtype", "bf16"]] {
        assert_eq!(bench(&arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}
