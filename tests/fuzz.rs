//! Readers on damaged files: whatever is in them, no panic, and an error is one line that a terminal can show.
//!
//! Each target takes a valid file, damages it by bytes or by tokens of its text, and reads it. A run has a few hundred
//! files of each target; `SUS_ORACLE_FUZZ_SECONDS` makes it last longer.

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sus_oracle::bounds::Recipe;
use sus_oracle::files::{ProblemFile, Settings, TensorFile};
use sus_oracle::fixtures::suite::{SilentExport, export};
use sus_oracle::fixtures::{Selection, Tier, verify_cases};
use sus_oracle::verdict::merge::merge;
use sus_oracle::verdict::{Case, recipe_of};

/// Characters of the longest message: a path, and what is wrong.
const LONGEST: usize = 1000;
/// Files of each target in a run without a time limit, and between two looks at the clock.
const FILES: u32 = 512;
/// Targets that share the time.
const TARGETS: u64 = 6;

/// One damage; places are fractions of the length.
#[derive(Debug, Clone)]
enum Damage {
    /// Other bytes in place of some.
    Bytes(prop::sample::Index, usize, Vec<u8>),
    /// The end is missing.
    Cut(prop::sample::Index),
    /// A token of the text replaced by another of the same text.
    Exchange(prop::sample::Index, prop::sample::Index),
    /// A token of the text replaced by a hostile one.
    Token(prop::sample::Index, prop::sample::Index),
    /// A part of the text once more.
    Repeat(prop::sample::Index, usize),
}

/// What no program should write.
const HOSTILE: [&str; 24] = [
    "null",
    "-1",
    "0",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "4611686018427387904",
    "NaN",
    "[]",
    "{}",
    "[0]",
    "\"\"",
    "\"\\u0000\\n\\u001b[31m\"",
    "\"q\"",
    "\"dq\"",
    "\"__metadata__\"",
    "\"BF16\"",
    "\"F8_E4M3\"",
    "true",
    "1.5",
    "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]",
    "\"../../x\"",
    "inf",
    "\u{202e}",
];

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        1 => (index(), 0..9_usize, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(at, n, bytes)| Damage::Bytes(at, n, bytes)),
        1 => index().prop_map(Damage::Cut),
        3 => (index(), index()).prop_map(|(at, from)| Damage::Exchange(at, from)),
        6 => (index(), index()).prop_map(|(at, which)| Damage::Token(at, which)),
        1 => (index(), 1..200_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ];
    prop::collection::vec(one, 1..4)
}

/// The words, numbers and quoted texts of a JSON or TOML text, as ranges of bytes.
fn tokens(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let is_word = |c: &u8| c.is_ascii_alphanumeric() || b"_-+.".contains(c);
        let length = if text[at] == b'"' {
            let end = text[at + 1..].iter().position(|&c| c == b'"');
            end.map_or(text.len() - at, |end| end + 2)
        } else {
            text[at..].iter().take_while(|c| is_word(c)).count()
        };
        if length > 0 {
            found.push(at..at + length);
        }
        at += length.max(1);
    }
    found
}

fn damage(mut text: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = text.len() + 1;
        match damage {
            Damage::Bytes(at, n, bytes) => {
                let at = at.index(length);
                let end = (at + n).min(text.len());
                text.splice(at..end, bytes.iter().copied());
            }
            Damage::Cut(at) => text.truncate(at.index(length)),
            Damage::Repeat(at, n) => {
                let at = at.index(length);
                let part = text[at..(at + n).min(text.len())].to_vec();
                text.splice(at..at, part);
            }
            Damage::Exchange(at, from) => {
                let tokens = tokens(&text);
                if let Some(last) = tokens.len().checked_sub(1) {
                    let new = text[tokens[from.index(last + 1)].clone()].to_vec();
                    text.splice(tokens[at.index(last + 1)].clone(), new);
                }
            }
            Damage::Token(at, which) => {
                let tokens = tokens(&text);
                if !tokens.is_empty() {
                    let new = HOSTILE[which.index(HOSTILE.len())].bytes();
                    text.splice(tokens[at.index(tokens.len())].clone(), new);
                }
            }
        }
    }
    text
}

/// A safetensors file, damaged as a whole, or in its header only, whose length is then right.
fn damage_file(file: &[u8], damages: &[Damage], in_header: bool) -> Vec<u8> {
    if !in_header {
        return damage(file.to_vec(), damages);
    }
    let length: [u8; 8] = file[..8].try_into().unwrap();
    let (header, data) = file[8..].split_at(u64::from_le_bytes(length) as usize);
    let header = damage(header.to_vec(), damages);
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// Reads damaged files until the time is over; `read` returns the messages.
fn campaign<S: Strategy>(strategy: &S, read: impl Fn(S::Value) -> Vec<String>) {
    let seconds = std::env::var("SUS_ORACLE_FUZZ_SECONDS").ok();
    let seconds: u64 = seconds.map_or(0, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds / TARGETS);
    let mut config = Config { cases: FILES, source_file: Some(file!()), ..Config::default() };
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Off));
    loop {
        let found = TestRunner::new(config.clone()).run(strategy, |value| {
            for message in read(value) {
                let lines = message.lines().count();
                let printable = !message.chars().any(char::is_control);
                if lines > 1 || !printable || message.chars().count() > LONGEST {
                    return Err(TestCaseError::fail(format!(
                        "a message of {lines} lines: {message:?}"
                    )));
                }
            }
            Ok(())
        });
        found.unwrap();
        if Instant::now() >= end {
            return;
        }
    }
}

fn smoke(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/smoke");
    std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap()
}

fn problem_messages(bytes: &[u8]) -> Vec<String> {
    let read = TensorFile::parse(bytes)
        .and_then(|file| ProblemFile::from_tensors(file, Settings::default()));
    read.err().map(|e| e.to_string()).into_iter().collect()
}

#[test]
fn damaged_problems_and_fixtures_are_refused_in_a_line() {
    let files = ["one_key", "packed_sink", "softcap_bias", "sus_packed"].map(smoke);
    for file in &files {
        assert!(problem_messages(file).is_empty(), "the undamaged file is read");
    }
    let strategy = (0..files.len(), damages(), prop::bool::weighted(0.8));
    campaign(&strategy, |(which, damages, in_header)| {
        problem_messages(&damage_file(&files[which], &damages, in_header))
    });
}

#[test]
fn damaged_settings_are_refused_in_a_line() {
    let text = r#"{"spec":"sus-oracle/1","pass":"sus","causal":true,"scale":0.125,"softcap":2.0,"window":[3,null],"segments_q":[0,2,5],"segments_k":[0,1,7],"alignment":"top-left","c":30,"rule":"paper","sampler":"bernoulli","seed":7,"stream":1,"layout":"linear4","uniform_bits":64}"#;
    Settings::from_json(text).unwrap();
    campaign(&damages(), |damages| {
        let text = damage(text.as_bytes().to_vec(), &damages);
        let text = String::from_utf8_lossy(&text);
        Settings::from_json(&text).err().map(|e| e.to_string()).into_iter().collect()
    });
}

#[test]
fn damaged_recipes_are_refused_in_a_line() {
    let text = "base = \"flash-bf16\"\nname = \"mine\"\np = \"f32\"\nexp_ulp = 4.0\ntile = 64\ndelta = \"stored\"\ngqa = \"fused\"\nflush_to_zero = true\n";
    Recipe::from_toml("mine.toml", text).unwrap();
    campaign(&damages(), |damages| {
        let text = damage(text.as_bytes().to_vec(), &damages);
        let text = String::from_utf8_lossy(&text);
        Recipe::from_toml("mine.toml", &text).err().map(|e| e.to_string()).into_iter().collect()
    });
}

/// A case and a right candidate of it.
fn candidate(settings: &str) -> (Case, TensorFile) {
    let file = TensorFile::parse(&smoke("one_key")).unwrap();
    let inputs = ["q", "k", "v", "do"].map(|name| (name.to_owned(), file.arrays[name].clone()));
    let input = TensorFile { arrays: inputs.into(), metadata: Some(settings.into()) };
    let ProblemFile { problem, settings, .. } =
        ProblemFile::from_tensors(input, Settings::default()).unwrap();
    let case = Case::new(problem, settings);
    let draw = case.draw().unwrap();
    let evaluation =
        sus_oracle::evaluation::evaluate::<f64>(&case.problem, None, draw.as_ref()).unwrap();
    let stored = sus_oracle::files::gradient_file::Stored::F64;
    let results =
        sus_oracle::files::gradient_file::to_tensors(&evaluation, &case.settings, stored).unwrap();
    (case, results)
}

fn judge_damaged(settings: &str) {
    let (case, right) = candidate(settings);
    let judge = sus_oracle::judge(&case, &Recipe::built_in("f64").unwrap()).build().unwrap();
    assert!(judge.check(&right).findings.is_empty(), "the undamaged candidate passes");
    let bytes = right.to_bytes();
    let strategy = (damages(), prop::bool::weighted(0.8));
    campaign(&strategy, |(damages, in_header)| {
        let file = match TensorFile::parse(&damage_file(&bytes, &damages, in_header)) {
            Ok(file) => file,
            Err(reason) => return vec![reason.to_string()],
        };
        let _ = recipe_of(&file);
        let mut messages: Vec<String> =
            case.clone().complete_from(&file).err().map(|e| e.to_string()).into_iter().collect();
        for finding in judge.check(&file).findings {
            messages.extend([finding.tensor, finding.message]);
        }
        let shards = merge(&[right.clone(), file]);
        messages.extend(shards.err().map(|error| error.reason.to_string()));
        messages
    });
}

#[test]
fn damaged_candidates_of_a_dense_case_are_judged() {
    judge_damaged(r#"{"pass":"dense"}"#);
}

#[test]
fn damaged_candidates_of_a_sampled_case_are_judged() {
    judge_damaged(r#"{"pass":"sus","c":2,"seed":7}"#);
}

#[test]
fn damaged_manifests_are_findings_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one_key".to_owned()];
    let suite = folder.path().join("suite");
    export(Selection::of_names(Tier::Smoke, &names).unwrap(), &suite, &SilentExport).unwrap();
    let path: PathBuf = suite.join("manifest.json");
    let text = std::fs::read(&path).unwrap();
    let messages = || match verify_cases(&suite, None, &names, &SilentExport) {
        Ok(result) => result.findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.reason.to_string()],
    };
    assert_eq!(messages(), Vec::<String>::new(), "the undamaged suite is right");
    campaign(&damages(), |damages| {
        std::fs::write(&path, damage(text.clone(), &damages)).unwrap();
        messages()
    });
}
