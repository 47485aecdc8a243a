//! Files that nobody writes by accident: each is refused in one line, before much is read.

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};
use sus_files::{Array, ProblemFile, Settings, TensorFile};

/// The bytes of a file with this header and these bytes after it.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// What such a file is refused with: one printable line that is not long.
fn refusal(header: &str, data: &[u8]) -> String {
    let said = TensorFile::parse(&file(header, data)).unwrap_err().to_string();
    assert!(said.len() < 600 && !said.chars().any(char::is_control), "{said}");
    said
}

fn entry(name: &str, begin: usize) -> String {
    format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{}]}}"#, begin + 4)
}

#[test]
fn a_name_that_stands_twice_is_named() {
    let once = format!("{{{},{}}}", entry("q", 0), entry("k", 4));
    assert!(TensorFile::parse(&file(&once, &[0; 8])).is_ok());
    let twice = |one: &str, two: &str| format!("{{{one},{two}}}");
    let said = refusal(&twice(&entry("q", 0), &entry("q", 4)), &[0; 8]);
    assert_eq!(said, "tensor 'q': expected once, found twice");
    // The same name in other letters of JSON, and the same place twice.
    let said = refusal(&twice(&entry("q", 0), &entry(r"\u0071", 0)), &[0; 4]);
    assert_eq!(said, "tensor 'q': expected once, found twice");
    let said = refusal(r#"{"__metadata__":{"sus_oracle":"{}","a":"1","sus_oracle":"{}"}}"#, &[]);
    assert_eq!(said, "metadata entry 'sus_oracle': expected once, found twice");
    let said = refusal(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]);
    assert_eq!(said, "tensor '__metadata__': expected once, found twice");
    let field = r#"{"q":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#;
    assert!(refusal(field, &[0; 8]).contains("duplicate field `dtype`"));
}

#[test]
fn a_setting_that_stands_twice_is_named() {
    for text in [r#"{"c":30,"seed":7,"c":30}"#, r#"{"c":30,"\u0063":null}"#] {
        let said = Settings::from_json(text).unwrap_err().to_string();
        assert_eq!(said, "metadata key 'c': expected once, found twice");
    }
    let said = Settings::from_json(r#"{"spec":"sus-oracle/1","spec":"sus-oracle/1"}"#).unwrap_err();
    assert_eq!(said.to_string(), "metadata key 'spec': expected once, found twice");
}

#[test]
fn a_name_of_control_characters_is_printed_in_a_line() {
    let name = r"\u0000\u001b[31m\r\n\u202e".to_owned() + &"x".repeat(100_000);
    let bytes = file(&format!("{{{}}}", entry(&name, 0)), &[0; 4]);
    let read = TensorFile::parse(&bytes).unwrap();
    let said = ProblemFile::from_tensors(read, Settings::default()).unwrap_err().to_string();
    assert!(said.starts_with(r"tensor '\u{0}\u{1b}[31m\r\n\u{202e}xxx"), "{said}");
    assert!(said.contains("… (99929 more)") && said.len() < 550, "{said}");
}

#[test]
fn a_million_tensors_are_refused_before_they_are_kept() {
    let many: Vec<String> = (0..1_000_000).map(|at| entry(&format!("t{at}"), 4 * at)).collect();
    let begin = Instant::now();
    let said = refusal(&format!("{{{}}}", many.join(",")), &[]);
    assert!(said.contains("more than 4096 names"), "{said}");
    // 70 MB of text, of which under 1 % is parsed: the limit leaves a slow machine 100 times what it takes.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let some: Vec<String> = (0..4096).map(|at| entry(&format!("t{at}"), 4 * at)).collect();
    assert!(TensorFile::parse(&file(&format!("{{{}}}", some.join(",")), &[0; 4 * 4096])).is_ok());
}

#[test]
fn a_header_that_claims_50_gigabytes_is_refused_unread() {
    let claim = |shape: &str, bytes: u64| {
        format!(r#"{{"dq":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidate.safetensors");
    // A short file, and one that really has this length, all of it a hole.
    for (header, hole) in [
        (claim("[1000000000]", 4_000_000_000), 0),
        (claim("[4294967296]", 34_359_738_368).replace("F32", "F64"), 0),
        (claim("[12500000000]", 50_000_000_000), 0),
        (claim("[12500000000]", 50_000_000_000), 50_000_000_000_u64),
    ] {
        let bytes = file(&header, &[]);
        let mut out = std::fs::File::create(&path).unwrap();
        out.write_all(&bytes).unwrap();
        if hole > 0 {
            out.seek(SeekFrom::Start(bytes.len() as u64 + hole - 1)).unwrap();
            out.write_all(&[0]).unwrap();
        }
        let said = TensorFile::read(&path).unwrap_err().to_string();
        assert!(
            said.contains("above 4294967296 numbers") || said.contains("a header that claims "),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1);
    }
    // The header itself.
    std::fs::write(&path, 50_000_000_000_u64.to_le_bytes()).unwrap();
    let said = TensorFile::read(&path).unwrap_err().to_string();
    assert!(said.contains("a header that claims 50000000000 bytes"), "{said}");
}

#[test]
fn a_file_cut_short_is_refused_the_same_from_the_disk_and_from_memory() {
    let mut whole = TensorFile::default();
    whole.arrays.insert("dq".into(), Array::f32(&[1, 1, 2, 1], vec![0.5, -1.0]));
    let bytes = whole.to_bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let memory = TensorFile::parse(&bytes[..length]).unwrap_err().to_string();
        let disk = TensorFile::read(&path).unwrap_err();
        assert_eq!(disk.reason.to_string(), memory);
        assert!(memory.starts_with("expected a safetensors file, found "), "{memory}");
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(TensorFile::read(&path).unwrap(), whole);
}

#[test]
fn sizes_that_overflow_beside_a_zero_are_refused_and_small_ones_are_read() {
    let shape =
        |shape: &str| format!(r#"{{"q":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
    for bad in [
        "[0,4611686018427387904,4611686018427387904]",
        "[4611686018427387904,0,8,4]",
        "[0,4294967297]",
    ] {
        assert!(refusal(&shape(bad), &[]).contains("above 4294967296 numbers"), "{bad}");
    }
    for good in ["[0]", "[0,3,5,7]", "[2,0,3,0]", "[0,1024,1024,4]"] {
        assert!(TensorFile::parse(&file(&shape(good), &[])).is_ok(), "{good}");
    }
    let axes = format!("[{}]", vec!["1"; 17].join(","));
    assert!(refusal(&shape(&axes), &[]).contains("at most 16 axes"));
    // Offsets that overflow when they are multiplied or subtracted.
    for offsets in
        ["[18446744073709551615,18446744073709551615]", "[8,4]", "[0,18446744073709551615]"]
    {
        let header = format!(r#"{{"q":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#);
        assert!(refusal(&header, &[0; 4]).contains("data_offsets"), "{offsets}");
    }
}

#[test]
fn a_message_about_segments_quotes_a_few_numbers() {
    let mut file = TensorFile::default();
    for name in ["q", "k", "v", "do"] {
        file.arrays.insert(name.into(), Array::f32(&[1, 1, 4, 2], vec![0.5; 8]));
    }
    let segments: Vec<usize> = (0..100_000).collect();
    let command = Settings::default().with_segments_q(segments.clone()).with_segments_k(segments);
    let said = ProblemFile::from_tensors(file.clone(), command.clone()).unwrap_err().to_string();
    assert_eq!(
        said,
        "option 'segments_q': expected cumulative lengths from 0 to 4, never decreasing, found [0, 1, 2, 3, 4, 5, 6, 7, … (99992 more)]"
    );
    // The same list where the file says another one.
    file.metadata = Some(Settings::default().with_segments_q(vec![0, 4]).to_json());
    let said = ProblemFile::from_tensors(file, command).unwrap_err().to_string();
    assert!(
        said.starts_with("option 'segments_q': expected [0,4], as the file says, found [0,1,2"),
        "{said}"
    );
    assert!(said.len() < 250, "{said}");
    let said =
        Settings::from_json(&format!(r#"{{"layout":"{}"}}"#, "x".repeat(1 << 20))).unwrap_err();
    assert!(said.to_string().len() < 300);
}
