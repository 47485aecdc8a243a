//! Files: what is read, what is refused and in which words, and that what is written is read back.

use crate::common::{Shape, shapes, with_hidden_keys};
use proptest::prelude::*;
use safetensors::tensor::Dtype;
use std::path::Path;
use sus_files::error::Reason;
use sus_files::gradient_file::{Stored, to_tensors, to_tensors_of};
use sus_files::problem_file::problem_to_tensors;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, Pass, ProblemFile, Settings, TensorFile};
use sus_reference::backward::backward;
use sus_reference::evaluation::evaluate;
use sus_reference::forward::forward;
use sus_reference::mask::{Alignment, Window};
use sus_reference::problem::{Options, Problem};
use sus_reference::sus::{Budget, Draw};
use sus_reference::tensor::Tensor;

/// The file of a problem, its numbers in this type.
fn tensors(problem: &Problem<f64>, dtype: Dtype) -> TensorFile {
    let mut file = TensorFile::default();
    let mut put = |name: &str, shape: &[usize], data: &[f64]| {
        let numbers = Numbers::Float(data.to_vec());
        file.arrays.insert(name.into(), Array { dtype, shape: shape.to_vec(), numbers });
    };
    let inputs = problem.inputs();
    let mut put_tensor = |name, tensor: &Tensor<f64>| put(name, &tensor.shape(), tensor.as_slice());
    put_tensor("q", &inputs.q);
    put_tensor("k", &inputs.k);
    put_tensor("v", &inputs.v);
    put_tensor("do", &inputs.g);
    if let Some(bias) = &inputs.bias {
        put_tensor("bias", bias);
    }
    if let Some(dlse) = &inputs.dlse {
        put("dlse", &dlse.shape()[..3], dlse.as_slice());
    }
    if let Some(sink) = &inputs.sink {
        put("sink", &[sink.len()], sink);
    }
    file
}

/// What a file with this metadata is refused with.
fn metadata_refusal(metadata: &str) -> String {
    let mut file = tensors(&Shape::plain(2, 3).problem(), Dtype::F32);
    file.metadata = Some(metadata.into());
    ProblemFile::from_tensors(file, Settings::default()).unwrap_err().to_string()
}

/// What a file changed like this is refused with.
fn refusal(change: impl FnOnce(&mut TensorFile)) -> String {
    let shape = Shape { dlse: true, bias: Some([true; 3]), sink: true, ..Shape::plain(2, 3) };
    let mut file = tensors(&shape.problem(), Dtype::F32);
    change(&mut file);
    ProblemFile::from_tensors(file, Settings::default()).unwrap_err().to_string()
}

proptest! {
    #[test]
    fn a_problem_that_is_written_is_read_back_in_every_float_type(
        shape in shapes(3, 4), dtype in 0..4, hidden: bool,
    ) {
        let dtype = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16][dtype as usize];
        let shape = Shape { options: Options::default(), ..shape };
        let problem = shape.problem();
        let problem = if hidden { with_hidden_keys(&problem) } else { problem };
        let bytes = tensors(&problem, dtype).to_bytes();
        let file = TensorFile::parse(&bytes).unwrap();
        let read = ProblemFile::from_tensors(file, Settings::default()).unwrap();
        prop_assert_eq!(&read.problem, &problem);
        prop_assert_eq!(read.dtype, format!("{dtype:?}"));
    }

    #[test]
    fn settings_are_read_back_from_the_text_they_are_written_as(
        shape in shapes(3, 4), c in 1e-3..1e3_f64, seed: u64, stream in 0..1_u32 << 31,
    ) {
        let options = shape.options;
        let settings = Settings::default().with_pass(Some(Pass::Sus)).with_scale(options.scale).with_softcap(options.softcap).with_causal(Some(options.causal)).with_alignment(Some(options.alignment)).with_window(options.window).with_segments_q(options.segments.as_ref().map(|s| s.queries.clone())).with_segments_k(options.segments.as_ref().map(|s| s.keys.clone())).with_c(Some(Budget::new(c).unwrap())).with_rule(Some(sus_reference::sus::Rule::Calibrated)).with_sampler(Some(sus_reference::sus::Sampler::Systematic)).with_seed(Some(seed)).with_stream(Some(stream)).with_layout(Some(sus_reference::sus::Layout::Linear1)).with_uniform_bits(Some(sus_reference::sus::UniformBits::Bits64));
        prop_assert_eq!(Settings::from_json(&settings.to_json()).unwrap(), settings);
    }

    #[test]
    fn bytes_at_random_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0..64_u64) {
        let _ = TensorFile::parse(&bytes);
        let with_length = [&n.to_le_bytes()[..], &bytes].concat();
        let _ = TensorFile::parse(&with_length);
    }

    #[test]
    fn a_file_cut_short_or_with_a_byte_changed_never_panics(cut: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let mut bytes = tensors(&Shape::plain(2, 3).problem(), Dtype::F32).to_bytes();
        prop_assert!(TensorFile::parse(&bytes[..cut.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(file) = TensorFile::parse(&bytes) {
            let _ = ProblemFile::from_tensors(file, Settings::default());
        }
    }
}

#[test]
fn a_bias_of_nan_or_of_plus_infinity_is_refused_in_every_float_type() {
    let shape = Shape { bias: Some([false; 3]), ..Shape::plain(2, 3) };
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (bad, found) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let mut file = tensors(&with_hidden_keys(&shape.problem()), dtype);
            let Numbers::Float(bias) = &mut file.arrays.get_mut("bias").unwrap().numbers else {
                unreachable!()
            };
            bias[5] = bad;
            let file = TensorFile::parse(&file.to_bytes()).unwrap();
            let said = ProblemFile::from_tensors(file, Settings::default()).unwrap_err();
            let expected = "tensor 'bias': expected finite numbers or -inf, found";
            assert_eq!(said.to_string(), format!("{expected} {found} at flat index 5"));
        }
    }
}

#[test]
fn results_have_one_key_of_metadata_and_always_the_same_bytes() {
    let shape = Shape { sink: true, bias: Some([true, false, true]), ..Shape::plain(3, 5) };
    let problem = shape.problem();
    let draw = Draw::paper(Budget::new(1.5).unwrap(), 3);
    let evaluation = evaluate::<f64>(&problem, None, Some(&draw)).unwrap();
    let settings = Settings::default().with_seed(3);
    let file = to_tensors(&evaluation, &settings, Stored::F64).unwrap();
    let bytes = file.to_bytes();
    for _ in 0..8 {
        assert_eq!(to_tensors(&evaluation, &settings, Stored::F64).unwrap().to_bytes(), bytes);
    }
    assert_eq!(TensorFile::parse(&bytes).unwrap(), file);
    let names: Vec<&str> = file.arrays.keys().map(String::as_str).collect();
    let expected = [
        "dbias",
        "dk",
        "dq",
        "dsink",
        "dv",
        "lse",
        "mask/columns",
        "mask/row_offsets",
        "mask/values",
        "o",
    ];
    assert_eq!(names, expected);
    assert_eq!(file.arrays["lse"].shape, [1, 1, 3]);
    assert_eq!(file.arrays["mask/columns"].dtype, Dtype::I32);
    assert_eq!(file.arrays["mask/row_offsets"].dtype, Dtype::I64);
}

#[test]
fn a_problem_whose_scores_overflow_is_refused_by_name() {
    let problem = Shape::plain(2, 3).fill(|_| 1e200);
    let saved = forward(&problem);
    let gradients = backward(&problem, &saved);
    let evaluation = sus_reference::evaluation::Evaluation { saved, gradients, mask: None };
    let said = to_tensors(&evaluation, &Settings::default(), Stored::F64).unwrap_err().to_string();
    assert!(
        said.starts_with(
            "tensor 'o': the result leaves the range of the arithmetic at flat index 0"
        ),
        "{said}"
    );
    let mut saved = forward(&Shape::plain(2, 3).problem());
    let gradients = backward(&Shape::plain(2, 3).problem(), &saved);
    saved.o.as_mut_slice()[1] = f64::NEG_INFINITY;
    let evaluation = sus_reference::evaluation::Evaluation { saved, gradients, mask: None };
    let said = to_tensors(&evaluation, &Settings::default(), Stored::F64).unwrap_err().to_string();
    assert!(said.contains("tensor 'o'") && said.contains("index 1 (-inf)"), "{said}");
    let problem = Shape::plain(1, 1).fill(|_| 1e30);
    let evaluation = evaluate::<f64>(&problem, None, None).unwrap();
    assert!(to_tensors(&evaluation, &Settings::default(), Stored::F64).is_ok());
    let said = to_tensors(&evaluation, &Settings::default(), Stored::F32).unwrap_err().to_string();
    assert!(
        said.starts_with("tensor 'lse': the result leaves the range of the arithmetic"),
        "{said}"
    );
}

#[test]
fn what_is_no_safetensors_file_is_said_to_be_none() {
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("seven bytes", vec![0; 7]),
        ("header longer than the file", 1000_u64.to_le_bytes().to_vec()),
        ("header of 2^63 bytes", (1_u64 << 63).to_le_bytes().to_vec()),
        ("header of 2^64 - 1 bytes", u64::MAX.to_le_bytes().to_vec()),
        ("header that is no text", [&4_u64.to_le_bytes()[..], &[0xff; 4]].concat()),
        ("header that is no JSON", header("{\"q\":")),
        ("header that is a list", header("[]")),
        ("offsets beyond the file", header(r#"{"q":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#)),
        ("offsets that run backwards", header(r#"{"q":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#)),
        ("an unknown type", header(r#"{"q":{"dtype":"F99","shape":[],"data_offsets":[0,0]}}"#)),
        ("a shape that overflows", header(r#"{"q":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}"#)),
        ("a negative axis", header(r#"{"q":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#)),
        ("bytes after the last tensor", [header("{}"), vec![0; 4]].concat()),
        ("two tensors on the same bytes", [
            header(r#"{"q":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"k":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#),
            vec![0; 4],
        ].concat()),
    ];
    for (what, bytes) in attacks {
        let said = TensorFile::parse(&bytes).unwrap_err();
        assert!(matches!(said, Reason::Format(_)), "{what}: {said}");
        let said = said.to_string();
        assert!(said.starts_with("expected a safetensors file, found "), "{what}: {said}");
        assert!(!said.contains('\n'), "{what}: {said}");
    }
}

#[test]
fn a_type_that_holds_no_real_numbers_is_refused_by_name() {
    let mut bytes = r#"{"q":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#.as_bytes().to_vec();
    bytes = [&(bytes.len() as u64).to_le_bytes()[..], &bytes, &[0; 8]].concat();
    assert_eq!(
        TensorFile::parse(&bytes).unwrap_err().to_string(),
        "tensor 'q': expected dtype F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, U64, U32, U8 or BOOL, found C64"
    );
}

#[test]
fn a_tensor_that_is_missing_unknown_or_of_another_kind_is_named() {
    for (name, shape) in
        [("q", "[B,Hq,Nq,D]"), ("k", "[B,Hk,Nk,D]"), ("v", "[B,Hk,Nk,E]"), ("do", "[B,Hq,Nq,E]")]
    {
        assert_eq!(
            refusal(|file| {
                file.arrays.remove(name);
            }),
            format!("tensor '{name}': expected one of shape {shape}, found none")
        );
    }
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("o".into(), file.arrays["do"].clone());
        }),
        "tensor 'lse': expected one of shape [B,Hq,Nq], beside 'o', found none"
    );
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("lse".into(), file.arrays["dlse"].clone());
        }),
        "tensor 'o': expected one of shape [B,Hq,Nq,E], beside 'lse', found none"
    );
    let said = refusal(|file| {
        file.arrays.insert("Q\n2".into(), file.arrays["q"].clone());
    });
    assert!(said.starts_with("tensor 'Q\\n2': expected one of q, k, v, do,"), "{said}");
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("k".into(), Array::i64(&[1, 1, 3, 3], vec![0; 9]));
        }),
        "tensor 'k': expected dtype F64, F32, F16 or BF16, found I64"
    );
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("v".into(), Array::f64(&[3, 2], vec![0.0; 6]));
        }),
        "tensor 'v': expected 4 axes, found shape [3, 2]"
    );
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("dlse".into(), Array::f64(&[2], vec![0.0; 2]));
        }),
        "tensor 'dlse': expected 3 axes, found shape [2]"
    );
    assert_eq!(
        refusal(|file| {
            file.arrays.insert("sink".into(), Array::f64(&[1, 1], vec![0.0]));
        }),
        "tensor 'sink': expected 1 axes, found shape [1, 1]"
    );
}

#[test]
fn metadata_that_means_nothing_is_refused_by_key() {
    let cases = [
        (
            "nonsense",
            "metadata key 'sus_oracle': expected a JSON object, found expected ident at line 1 column 2",
        ),
        ("[]", "metadata key 'sus_oracle': expected a JSON object, found []"),
        (
            r#"{"spec":"sus-oracle/2"}"#,
            r#"metadata key 'spec': expected "sus-oracle/1", found "sus-oracle/2""#,
        ),
        (r#"{"spec":1}"#, r#"metadata key 'spec': expected "sus-oracle/1", found 1"#),
        (
            r#"{"pass":"forward"}"#,
            r#"metadata key 'pass': expected "dense" or "sus", found "forward""#,
        ),
        (r#"{"scale":"1"}"#, r#"metadata key 'scale': expected a number, found "1""#),
        (r#"{"softcap":0}"#, "metadata key 'softcap': expected a number above 0, found 0"),
        (r#"{"causal":1}"#, "metadata key 'causal': expected true or false, found 1"),
        (
            r#"{"alignment":"left"}"#,
            r#"metadata key 'alignment': expected "bottom-right" or "top-left", found "left""#,
        ),
        (
            r#"{"window":[1]}"#,
            "metadata key 'window': expected [left, right], each at least 0 or null, found [1]",
        ),
        (
            r#"{"window":[-1,2]}"#,
            "metadata key 'window': expected [left, right], each at least 0 or null, found [-1,2]",
        ),
        (
            r#"{"segments_q":[0,1.5]}"#,
            "metadata key 'segments_q': expected a list of cumulative lengths, found [0,1.5]",
        ),
        (r#"{"c":0}"#, r#"metadata key 'c': expected a number above 0, or "inf", found 0"#),
        (
            r#"{"c":"many"}"#,
            r#"metadata key 'c': expected a number above 0, or "inf", found "many""#,
        ),
        (r#"{"rule":"x"}"#, r#"metadata key 'rule': expected "paper" or "calibrated", found "x""#),
        (
            r#"{"sampler":"x"}"#,
            r#"metadata key 'sampler': expected "bernoulli" or "systematic", found "x""#,
        ),
        (r#"{"seed":-1}"#, "metadata key 'seed': expected an integer from 0 to 2^64 - 1, found -1"),
        (
            r#"{"seed":18446744073709551616}"#,
            "metadata key 'seed': expected an integer from 0 to 2^64 - 1, found 1.8446744073709552e+19",
        ),
        (
            r#"{"stream":2147483648}"#,
            "metadata key 'stream': expected an integer from 0 to 2^31 - 1, found 2147483648",
        ),
        (
            r#"{"layout":"x"}"#,
            r#"metadata key 'layout': expected "coord4", "linear4", "linear1", "jax-threefry" or "arrival", found "x""#,
        ),
        (r#"{"uniform_bits":16}"#, "metadata key 'uniform_bits': expected 32 or 64, found 16"),
    ];
    for (metadata, expected) in cases {
        assert_eq!(metadata_refusal(metadata), expected);
    }
    let said = metadata_refusal(r#"{"causual":true}"#);
    assert!(said.starts_with("metadata key 'causual': expected one of spec, pass,"), "{said}");
    assert_eq!(
        metadata_refusal(r#"{"segments_q":[0,2]}"#),
        "option 'segments_k': expected a list, as segments_q is given, found none"
    );
    assert_eq!(
        metadata_refusal(r#"{"segments_k":[0,3]}"#),
        "option 'segments_q': expected a list, as segments_k is given, found none"
    );
}

#[test]
fn the_command_may_add_to_the_file_and_never_contradict_it() {
    let file = Settings::default()
        .with_scale(0.5)
        .with_causal(true)
        .with_window(Window { left: Some(3), right: None });
    let added = Settings::default().with_scale(0.5).with_c(Budget::new(2.0).unwrap());
    let merged = file.clone().merge(added.clone()).unwrap();
    assert_eq!(merged, file.clone().with_c(added.c));
    let refused = |command: Settings| file.clone().merge(command).unwrap_err().to_string();
    assert_eq!(
        refused(Settings::default().with_scale(0.25)),
        "option 'scale': expected 0.5, as the file says, found 0.25"
    );
    assert_eq!(
        refused(Settings::default().with_window(Window { left: Some(3), right: Some(0) })),
        "option 'window': expected [3,null], as the file says, found [3,0]"
    );
}

#[test]
fn every_key_is_read_back_and_contradicted_by_its_own_name() {
    let keys = [
        ("pass", "\"dense\"", "\"sus\""),
        ("scale", "0.5", "0.25"),
        ("softcap", "20.0", "50.0"),
        ("causal", "true", "false"),
        ("alignment", "\"bottom-right\"", "\"top-left\""),
        ("window", "[3,null]", "[null,3]"),
        ("segments_q", "[0,2]", "[0,1,2]"),
        ("segments_k", "[0,3]", "[0,1,3]"),
        ("block", "[2,3]", "[4,4]"),
        ("padding", "\"zero\"", "\"any\""),
        ("dropout_p", "0.5", "0.25"),
        ("v_of_k", "2", "3"),
        ("bias_first", "true", "false"),
        ("p_scale", "256.0", "128.0"),
        ("ds_scale", "0.5", "2.0"),
        ("gradients", "[\"dq\"]", "[\"dk\",\"dv\"]"),
        ("c", "4.0", "\"inf\""),
        ("rule", "\"paper\"", "\"calibrated\""),
        ("sampler", "\"bernoulli\"", "\"systematic\""),
        ("seed", "18446744073709551615", "0"),
        ("stream", "2147483647", "0"),
        ("layout", "\"jax-threefry\"", "\"linear1\""),
        ("uniform_bits", "32", "64"),
    ];
    let read = |key: &str, value: &str| {
        let text = format!(r#"{{"{key}":{value}}}"#);
        Settings::from_json(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    for (key, first, second) in keys {
        let (file, command) = (read(key, first), read(key, second));
        for (settings, value) in [(&file, first), (&command, second)] {
            let written: serde_json::Value = serde_json::from_str(&settings.to_json()).unwrap();
            assert_eq!(written[key].to_string(), value);
            assert_eq!(written.as_object().unwrap().len(), 2, "{key} and spec, nothing else");
        }
        assert_eq!(file.clone().merge(file.clone()).unwrap(), file);
        let draws = ["c", "rule", "sampler", "seed", "stream", "layout", "uniform_bits"];
        assert_eq!(file.names_a_draw(), draws.contains(&key), "{key}");
        assert_eq!(file.clone().without_draw() == Settings::default(), draws.contains(&key));
        assert_eq!(
            file.merge(command).unwrap_err().to_string(),
            format!("option '{key}': expected {first}, as the file says, found {second}")
        );
    }
    let known = metadata_refusal(r#"{"unknown":1}"#);
    let listed = keys.map(|(key, _, _)| key).join(", ");
    assert_eq!(
        known,
        format!("metadata key 'unknown': expected one of spec, {listed}, found an unknown key")
    );
}

#[test]
fn absent_settings_mean_the_defaults() {
    let settings = Settings::default();
    assert_eq!(settings.options().unwrap(), Options::default());
    assert_eq!(settings.options().unwrap().alignment, Alignment::BottomRight);
    assert_eq!(settings.draw().unwrap(), Some(Draw::paper(Budget::new(30.0).unwrap(), 0)));
    let dense = settings.with_pass(Pass::Dense);
    assert_eq!(dense.draw().unwrap(), None);
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let file = tensors(&Shape::plain(2, 3).problem(), Dtype::F64);
    file.write(&path).unwrap();
    assert_eq!(TensorFile::read(&path).unwrap(), file);
    let missing = folder.path().join("no").join("out.safetensors");
    let said = file.write(&missing).unwrap_err();
    assert_eq!(said.path, missing);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing but the file is left");
    assert!(TensorFile::read(Path::new("no such file")).is_err());
}

/// With one sequence and one head the tensor of slopes does not tell how many axes its file has.
#[test]
fn the_gradient_of_slopes_has_the_shape_of_the_slopes() {
    for shape in [&[1][..], &[1, 1], &[3], &[1, 3], &[2, 3]] {
        let (batch, heads) = if shape.len() == 2 { (shape[0], shape[1]) } else { (1, shape[0]) };
        let mut file = TensorFile::default();
        for name in ["q", "k", "v", "do"] {
            let numbers = vec![0.5; batch * heads * 4];
            file.arrays.insert(name.into(), Array::f64(&[batch, heads, 2, 2], numbers));
        }
        file.arrays.insert("alibi_slopes".into(), Array::f64(shape, vec![0.25; batch * heads]));
        let read = ProblemFile::from_tensors(file, Settings::default()).unwrap();
        let evaluation = evaluate::<f64>(&read.problem, None, None).unwrap();
        let results =
            to_tensors_of(&read.problem, &evaluation, &read.settings, Stored::F64).unwrap();
        assert_eq!(results.arrays["dslopes"].shape, shape);
        let written = problem_to_tensors(&read.problem, &read.settings);
        assert_eq!(written.arrays["alibi_slopes"].shape, shape);
    }
}
