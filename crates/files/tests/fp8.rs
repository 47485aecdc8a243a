//! Operands of 8 bits and their scales.

use safetensors::Dtype;
use sus_files::tensor_file::Numbers;
use sus_files::{Array, ProblemFile, Settings, TensorFile};

/// The number of a code by the definition of its format: `(-1)^s 2^(e - bias) 1.m`, `2^(1 - bias) 0.m` for `e = 0`; E4M3 has one
/// NaN of each sign and no infinity, E5M2 those of IEEE.
fn by_definition(code: u8, dtype: Dtype) -> f64 {
    let (fraction_bits, bias) = if dtype == Dtype::F8_E4M3 { (3, 7) } else { (2, 15) };
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let fraction = i32::from(code & ((1 << fraction_bits) - 1));
    let exponent = i32::from((code & 0x7f) >> fraction_bits);
    let one = 1 << fraction_bits;
    match (dtype, exponent, fraction) {
        (Dtype::F8_E5M2, 31, 0) => sign * f64::INFINITY,
        (Dtype::F8_E4M3, 15, 7) | (Dtype::F8_E5M2, 31, _) => f64::NAN,
        (_, 0, _) => sign * f64::from(fraction) * 2.0_f64.powi(1 - bias - fraction_bits),
        _ => sign * f64::from(one + fraction) * 2.0_f64.powi(exponent - bias - fraction_bits),
    }
}

fn codes(dtype: Dtype, name: &str) -> Vec<f64> {
    let bytes: Vec<u8> = (0..=255).collect();
    let view = safetensors::tensor::TensorView::new(dtype, vec![256], &bytes).unwrap();
    let file = safetensors::serialize([(name, view)], None).unwrap();
    match TensorFile::parse(&file).unwrap().arrays.remove(name).unwrap().numbers {
        Numbers::Float(numbers) => numbers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_codes_are_the_numbers_of_the_definition_and_are_written_as_they_were_read() {
    for dtype in [Dtype::F8_E4M3, Dtype::F8_E5M2] {
        for (code, found) in (0..=255_u8).zip(codes(dtype, "x")) {
            let expected = by_definition(code, dtype);
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{dtype:?} {code:#x}"
            );
            if found.is_finite() {
                let array = Array { dtype, shape: vec![1], numbers: Numbers::Float(vec![found]) };
                assert_eq!(array.to_bytes(), [code]);
            }
        }
    }
    assert_eq!(by_definition(0x7e, Dtype::F8_E4M3), 448.0);
    assert_eq!(by_definition(0x7b, Dtype::F8_E5M2), 57344.0);
}

/// `q` of two heads, 6 rows and 2 features; the operands all ones, but for a number of each row.
fn file() -> TensorFile {
    let mut file = TensorFile::default();
    for name in ["q", "k", "v", "do"] {
        let stored = (0..24).map(|at| if at % 2 == 0 { 1.0 } else { f64::from(at) }).collect();
        file.arrays.insert(name.into(), Array::e4m3(&[1, 2, 6, 2], stored));
        file.arrays.insert(format!("{name}_scale"), Array::f32(&[1], vec![0.5]));
    }
    // Through bytes: 17, 19, 21 and 23 are rounded.
    TensorFile::parse(&file.to_bytes()).unwrap()
}

fn read(file: &TensorFile) -> Result<ProblemFile, String> {
    ProblemFile::from_tensors(file.clone(), Settings::default()).map_err(|e| e.to_string())
}

#[test]
fn the_number_meant_is_the_stored_one_times_the_scale_of_its_block() {
    let of = |shape: &[usize], scales: Vec<f64>| {
        let mut file = file();
        file.arrays.insert("k_scale".into(), Array::f32(shape, scales));
        let k = read(&file).unwrap().problem.inputs().k.clone();
        k.as_slice().iter().step_by(2).copied().collect::<Vec<_>>()
    };
    let third = f64::from(1.0_f32 / 3.0);
    assert_eq!(of(&[1], vec![0.25]), [0.25; 12]);
    assert_eq!(of(&[1, 2], vec![2.0, third])[5..7], [2.0, third]);
    let by_rows = of(&[1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, third]);
    assert_eq!(by_rows, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, third, third]);
    // 28 bits, exactly.
    let mut file = file();
    file.arrays.insert("q_scale".into(), Array::f32(&[1], vec![third]));
    assert_eq!(read(&file).unwrap().problem.inputs().q.as_slice()[11], 11.0 * third);
}

#[test]
fn a_file_of_8_bits_says_so_and_others_do_not() {
    let mut file = file();
    let read_file = read(&file).unwrap();
    assert_eq!((read_file.has_fp8, read_file.dtype.as_str()), (true, "F8_E4M3"));
    for name in ["q", "k", "v", "do"] {
        file.arrays.insert(name.into(), Array::f32(&[1, 2, 6, 2], vec![1.0; 24]));
        file.arrays.remove(&format!("{name}_scale"));
    }
    assert!(!read(&file).unwrap().has_fp8);
}

#[test]
fn a_wrong_scale_or_code_is_one_line_that_names_it() {
    let with = |name: &str, array: Array| {
        let mut file = file();
        file.arrays.insert(name.into(), array);
        read(&file).unwrap_err()
    };
    let scale = |shape: &[usize], scales: Vec<f64>| with("v_scale", Array::f32(shape, scales));
    let mut without = file();
    without.arrays.remove("do_scale");
    let mut beside_f32 = file();
    beside_f32.arrays.insert("q".into(), Array::f32(&[1, 2, 6, 2], vec![1.0; 24]));
    let mut of_none = file();
    of_none.arrays.remove("k");
    let mut nan = vec![1.0; 24];
    nan[3] = f64::NAN;
    let e5m2 = |numbers| Array {
        dtype: Dtype::F8_E5M2,
        shape: vec![1, 2, 6, 2],
        numbers: Numbers::Float(numbers),
    };
    let mut infinite = vec![1.0; 24];
    infinite[4] = f64::INFINITY;
    let found = [
        read(&without).unwrap_err(),
        read(&beside_f32).unwrap_err(),
        read(&of_none).unwrap_err(),
        scale(&[2], vec![1.0; 2]),
        scale(&[1, 2, 4], vec![1.0; 8]),
        scale(&[1], vec![f64::NAN]),
        scale(&[1], vec![f64::INFINITY]),
        scale(&[1, 2], vec![1.0, 0.0]),
        scale(&[1, 2], vec![1.0, -1.0]),
        with("v_scale", Array::f64(&[1], vec![1.0])),
        with("q", Array::e4m3(&[1, 2, 6, 2], nan)),
        with("q", e5m2(infinite)),
    ];
    let expected = [
        "tensor 'do_scale': expected one of shape [1], [B,H] or [B,H,blocks of rows], as its operand has 8 bits, found none",
        "option 'q_scale': expected 'q' of type F8_E4M3 or F8_E5M2 beside it, found F32",
        "option 'k_scale': expected a tensor 'k' beside it, found none",
        "tensor 'v_scale': expected shape [1], [1, 2] or [1, 2, a number that divides 6], found [2]",
        "tensor 'v_scale': expected shape [1], [1, 2] or [1, 2, a number that divides 6], found [1, 2, 4]",
        "option 'v_scale': expected finite numbers above 0, found NaN at 0",
        "option 'v_scale': expected finite numbers above 0, found inf at 0",
        "option 'v_scale': expected finite numbers above 0, found 0 at 1",
        "option 'v_scale': expected finite numbers above 0, found -1 at 1",
        "tensor 'v_scale': expected dtype F32, found F64",
        "tensor 'q': expected finite numbers, found NaN at flat index 3",
        "tensor 'q': expected finite numbers, found inf at flat index 4",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn scales_of_p_and_ds_are_finite_and_above_0() {
    let read = |text: &str| Settings::from_json(text).map_err(|e| e.to_string());
    assert_eq!(read(r#"{"p_scale":448,"ds_scale":0.5}"#).unwrap().ds_scale, Some(0.5));
    for wrong in ["0", "-1", "1e300", "\"1\"", "true"] {
        let error = read(&format!(r#"{{"p_scale":{wrong}}}"#)).unwrap_err();
        assert!(
            error.starts_with("metadata key 'p_scale': expected a finite number above 0"),
            "{error}"
        );
    }
}
