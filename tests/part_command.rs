//! The commands `check` on a part and `merge` of reports, as processes.

use crate::common::Shape;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Array, TensorFile};
use sus_oracle::problem::Inputs;

/// The exit code, the standard output and the standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sus-oracle")).args(arguments).output().unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), said(output.stdout), said(output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A problem of four heads, its right results, and the same with a wrong `dk` in head 2.
fn files(folder: &Path) -> [PathBuf; 3] {
    let shape =
        Shape { key_heads: 4, group: 1, features: 8, value_features: 8, ..Shape::plain(20, 24) };
    let problem = shape.problem();
    let Inputs { q, k, v, g, .. } = problem.inputs();
    let mut file = TensorFile::default();
    for (name, tensor) in [("q", q), ("k", k), ("v", v), ("do", g)] {
        let array = Array::f32(&tensor.shape(), tensor.as_slice().to_vec());
        file.arrays.insert(name.into(), array);
    }
    let paths =
        ["problem", "right", "wrong"].map(|name| folder.join(format!("{name}.safetensors")));
    file.write(&paths[0]).unwrap();
    let made =
        run(&["grad", text(&paths[0]), "--dense", "--dtype", "f32", "--out", text(&paths[1])]);
    assert_eq!(made.0, 0, "{made:?}");
    let mut wrong = TensorFile::read(&paths[1]).unwrap();
    let dk = wrong.arrays.get_mut("dk").unwrap();
    let Numbers::Float(data) = &mut dk.numbers else { unreachable!() };
    data[(2 * 24 + 5) * 8 + 3] += 1.0;
    wrong.write(&paths[2]).unwrap();
    paths
}

#[test]
fn a_part_is_judged_and_its_report_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let [problem, right, wrong] = files(folder.path());
    let check = |candidate: &Path, options: &[&str]| {
        run(&[&["check", text(&problem), text(candidate)], options].concat())
    };
    for (options, code) in [
        (&["--heads", "2"][..], 1),
        (&["--heads", "0..2,3"][..], 0),
        (&["--keys", "0..6", "--heads", "2"][..], 1),
        (&["--keys", "6-23"][..], 0),
        (&["--rows", "0..20"][..], 0),
        (&["--sample", "24"][..], 0),
    ] {
        assert_eq!(check(&right, options).0, 0, "{options:?}");
        if options[0] != "--sample" {
            let found = check(&wrong, options);
            assert_eq!(found.0, code, "{options:?} {found:?}");
            assert!(found.1.contains("not judged") || options == ["--rows", "0..20"], "{found:?}");
        }
    }
    let (_, said, _) = check(&wrong, &["--heads", "2", "--keys", "5"]);
    assert!(
        said.contains("head 2 of 4: dk, dv of keys 5") && said.contains("at [0, 2, 5, 3]"),
        "{said}"
    );
    let (_, one, _) = check(&right, &["--sample", "3", "--json"]);
    assert_eq!(check(&right, &["--sample", "3", "--json"]).1, one);
    let junit = folder.path().join("junit.xml");
    check(&wrong, &["--heads", "2", "--junit", text(&junit)]);
    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(junit.contains("name=\"not judged\"") && junit.contains("<failure"), "{junit}");
    for options in [
        &["--heads", "4"][..],
        &["--rows", "20"],
        &["--keys", "0..25"],
        &["--rows", ""],
        &["--keys", "5..5"],
        &["--sample", "0"],
        &["--sample", "2", "--c", "4", "--seed", "1"],
        &["--rows", "1", "--mode", "given"],
        &["--rows", "1", "--only", "dk"],
        &["--heads", "1", "--plot", "plot.svg"],
    ] {
        let (code, out, error) = check(&right, options);
        assert_eq!(
            (code, error.lines().count(), out.is_empty()),
            (2, 1, true),
            "{options:?} {error}"
        );
    }
}

#[test]
fn reports_of_parts_are_joined_and_the_worst_verdict_counts() {
    let folder = tempfile::tempdir().unwrap();
    let [problem, right, wrong] = files(folder.path());
    let report = |candidate: &Path, heads: &str| {
        let options = ["check", text(&problem), text(candidate), "--heads", heads, "--json"];
        let path = folder.path().join(format!("{heads}.json"));
        std::fs::write(&path, run(&options).1).unwrap();
        path
    };
    let parts = ["0", "1..3", "3"].map(|heads| report(&wrong, heads));
    let [a, b, c] = parts.each_ref().map(|path| text(path));
    let (code, said, _) = run(&["merge", b, c, a, "--json"]);
    let mut joined: Value = serde_json::from_str(&said).unwrap();
    let whole = report(&wrong, "0..4");
    let mut whole: Value = serde_json::from_str(&std::fs::read_to_string(whole).unwrap()).unwrap();
    assert_eq!(
        (code, &joined["verdict"], &joined["part"]["is_whole"]),
        (1, &"FAIL".into(), &true.into())
    );
    for report in [&mut joined, &mut whole] {
        report["command"] = Value::Null;
        report["part"]["commands"] = Value::Null;
    }
    assert_eq!(joined, whole);
    let (code, said, _) = run(&["merge", a, c, c]);
    assert_eq!(code, 0);
    assert!(said.contains("twice      head 3 of 4"), "{said}");
    assert!(said.contains("not judged heads 1, 2 of 4: nothing of them was judged"), "{said}");
    let other = report(&right, "2");
    let (code, _, error) = run(&["merge", a, text(&other)]);
    assert_eq!((code, error.lines().count()), (2, 1));
    assert!(error.contains("digest of the candidate"), "{error}");
}
