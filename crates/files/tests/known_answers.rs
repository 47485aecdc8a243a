//! Numbers that others computed: PyTorch's automatic differentiation, and a float64 computation on real attention.

use std::path::{Path, PathBuf};
use sus_files::tensor_file::Numbers;
use sus_files::{ProblemFile, Settings, TensorFile};
use sus_reference::evaluation::evaluate;
use sus_reference::scalar::{Dd, Scalar};
use sus_reference::sus::{Budget, Draw};
use sus_reference::tensor::{Tensor, dot};

/// A file of the repository.
fn root(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn floats(file: &TensorFile, name: &str) -> Option<Vec<f64>> {
    let array = file.arrays.get(name)?;
    match &array.numbers {
        Numbers::Float(data) => Some(data.clone()),
        _ => panic!("{name} is no floating-point tensor"),
    }
}

/// `|found - expected| <= tolerance * |expected|` in the Frobenius norm; infinities must match one by one.
fn assert_close(name: &str, found: &[Dd], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let (mut error, mut norm) = (0.0, 0.0);
    for (&found, &expected) in found.iter().zip(expected) {
        if expected.is_infinite() {
            assert_eq!(found.to_f64(), expected, "{name}");
            continue;
        }
        error += (found - Dd::from_f64(expected)).to_f64().powi(2);
        norm += expected * expected;
    }
    let (error, norm) = (error.sqrt(), norm.sqrt());
    assert!(error <= tolerance * norm, "{name}: |error| {error:e} of norm {norm:e}");
}

/// The stored results are float64 autograd, whose own error against 60 digits was measured when they were made:
/// below 1e-14 of the norm, and 5e-14 where scores near -300 lose digits before the exponential (`deep_negative`).
/// `huge` holds the 60-digit results themselves. A single key makes `dq` and `dk` a difference of equal terms, whose
/// exact value is 0: there the error is held against the terms, of order 1.
#[test]
fn dense_gradients_are_those_of_pytorchs_autograd() {
    let folder = root("tests/torch/cases");
    let mut paths: Vec<PathBuf> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 47, "cases in {}", folder.display());
    for path in paths {
        let file = TensorFile::read(&path).unwrap();
        let input = ProblemFile::read(&path, Settings::default()).unwrap();
        let results = evaluate::<Dd>(&input.problem, None, None).unwrap();
        let gradients = &results.gradients;
        let slice = |tensor: &Tensor<Dd>| tensor.as_slice().to_vec();
        let found = [
            ("o", Some(slice(&results.saved.o))),
            ("lse", Some(slice(&results.saved.lse))),
            ("dq", Some(slice(&gradients.dq))),
            ("dk", gradients.dkv.is_none().then(|| slice(&gradients.dk))),
            ("dv", gradients.dkv.is_none().then(|| slice(&gradients.dv))),
            ("dkv", gradients.dkv.as_ref().map(slice)),
            ("dslopes", gradients.dslopes.as_ref().map(slice)),
            ("dbias", gradients.dbias.as_ref().map(slice)),
            ("dsink", gradients.dsink.clone()),
        ];
        for (name, found) in found {
            let label = format!("{} of {}", name, path.display());
            let expected = floats(&file, &format!("expected/{name}"));
            assert_eq!(found.is_some(), expected.is_some(), "{label}");
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            let deep = path.ends_with("deep_negative.safetensors");
            let vanishes = expected.iter().all(|x| x.abs() < 1e-14);
            if vanishes {
                assert!(found.iter().all(|x| x.to_f64().abs() < 1e-14), "{label}");
            } else {
                assert_close(&label, &found, &expected, if deep { 1e-13 } else { 2e-14 });
            }
        }
    }
}

/// An independent float64 computation on the same stored bits. Norms are sums of 65536 squares: their rounding is
/// below 1e-12 of the norm, and that of `dq`, `dk` elements, sums of up to 1024 terms near 1e-2, below 1e-13.
#[test]
fn the_gradients_of_real_attention_are_those_of_an_independent_float64_computation() {
    let reference: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(root("fixtures/real/reference.json")).unwrap(),
    )
    .unwrap();
    let heads = reference["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 6);
    for (at, facts) in heads.iter().enumerate() {
        let (layer, head) = (facts["layer"].as_u64().unwrap(), at % 2);
        let path = format!("fixtures/real/layer{layer}.safetensors");
        let input = ProblemFile::read(&root(&path), Settings::default()).unwrap();
        let results = evaluate::<f64>(&input.problem, None, None).unwrap();
        let tensors = [
            ("o", &results.saved.o),
            ("dq", &results.gradients.dq),
            ("dk", &results.gradients.dk),
            ("dv", &results.gradients.dv),
        ];
        for (name, tensor) in tensors {
            let data: Vec<f64> = (0..1024).flat_map(|n| tensor.row(0, head, n).to_vec()).collect();
            let expected = facts["norm2"][name].as_f64().unwrap();
            let found = dot(&data, &data);
            assert!(
                (found / expected - 1.0).abs() < 1e-11,
                "{path} {head} {name}: {found} {expected}"
            );
            let sample = facts["sample"][name].as_array().unwrap();
            for (d, expected) in sample.iter().enumerate() {
                let (found, expected) = (tensor.row(0, head, 513)[d], expected.as_f64().unwrap());
                assert!(
                    (found - expected).abs() < 1e-13,
                    "{path} {head} {name}: {found} {expected}"
                );
            }
        }
        let lse: f64 = (0..1024).map(|n| results.saved.lse.row(0, head, n)[0]).sum();
        let expected = facts["norm2"]["lse_sum"].as_f64().unwrap();
        assert!((lse / expected - 1.0).abs() < 1e-12, "{path} {head}: {lse} {expected}");
    }
}

#[test]
fn the_expected_counts_of_real_attention_are_those_of_an_independent_computation() {
    let reference: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(root("fixtures/real/reference.json")).unwrap(),
    )
    .unwrap();
    for (at, facts) in reference["heads"].as_array().unwrap().iter().enumerate() {
        let path = format!("fixtures/real/layer{}.safetensors", facts["layer"]);
        let input = ProblemFile::read(&root(&path), Settings::default()).unwrap();
        for c in [5.0, 30.0] {
            let draw = Draw::paper(Budget::new(c).unwrap(), 0);
            let results = evaluate::<f64>(&input.problem, None, Some(&draw)).unwrap();
            let expected = &results.mask.unwrap().sample.expected[(at % 2) * 1024..][..1024];
            let found: f64 = expected.iter().sum();
            let expected = facts["c"][c.to_string()]["expected_nnz"].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-12, "{path} c = {c}: {found} {expected}");
        }
    }
}
