//! The fixtures: what the table claims, what an export writes, what a verification finds.

mod decisions;
mod larger;
mod schema;
mod tampering;

use half::{bf16, f16};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use sus_oracle::backward::DenseWeights;
use sus_oracle::files::Settings;
use sus_oracle::fixtures::suite::{SilentExport, export};
use sus_oracle::fixtures::{Built, Fixture, Flag, Seeds, Tier, build, draw_inputs, verify};
use sus_oracle::forward::forward;
use sus_oracle::sus::uniform::{ForcedDecision, Grid, Uniforms, forced_decision};
use sus_oracle::sus::{Draw, Sampler};
use tempfile::TempDir;

/// The suite that is committed.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/smoke")
}

fn case(name: &str) -> &'static Fixture {
    Tier::Smoke.cases().find(|case| case.name == name).expect("a case of this name")
}

fn built(case: &'static Fixture) -> Built {
    build(case).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// Every file of a folder with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn names_are_unique_and_cases_say_what_they_are_for() {
    let mut names = BTreeSet::new();
    for tier in Tier::ALL {
        for case in tier.cases().filter(|case| tier != Tier::Full || case.name.starts_with("full"))
        {
            assert!(names.insert(&case.name), "{} twice", case.name);
            assert!(!case.purpose.is_empty() && !case.bug.is_empty(), "{}", case.name);
            assert!(!case.flags.is_empty(), "{}", case.name);
        }
    }
    assert!(names.len() > 90);
}

#[test]
fn a_case_has_the_flags_that_it_is_there_for() {
    for case in Tier::Smoke.cases() {
        let built = built(case);
        for flag in &case.flags {
            assert!(built.flags.contains(flag), "{}: {} is not true", case.name, flag.name());
        }
    }
}

#[test]
fn every_flag_is_the_reason_of_some_smoke_case() {
    let reasons: BTreeSet<Flag> =
        Tier::Smoke.cases().flat_map(|case| &case.flags).copied().collect();
    for flag in Flag::ALL {
        let implied = [Flag::Coord4, Flag::Paper, Flag::Sus, Flag::Bernoulli];
        assert!(reasons.contains(flag) || implied.contains(flag), "{}", flag.name());
    }
}

#[test]
fn every_input_is_exact_in_bf16_and_in_f16() {
    for tier in Tier::ALL {
        for case in tier.cases() {
            let inputs = draw_inputs(case).expect("inputs");
            let mut values: Vec<f64> = Vec::new();
            for tensor in [&inputs.q, &inputs.k, &inputs.v, &inputs.g] {
                values.extend(tensor.as_slice());
            }
            for tensor in [&inputs.dlse, &inputs.bias].into_iter().flatten() {
                values.extend(tensor.as_slice());
            }
            values.extend(inputs.sink.iter().flatten());
            for x in values {
                let exact = bf16::from_f64(x).to_f64() == x && f16::from_f64(x).to_f64() == x;
                assert!(exact, "{}: {x}", case.name);
            }
        }
    }
}

#[test]
fn no_entry_of_an_exact_mask_is_ambiguous() {
    for case in Tier::Smoke.cases() {
        let Some(Seeds::Margin { from, delta }) = case.draw.map(|draw| draw.seeds) else {
            continue;
        };
        let built = built(case);
        let mask = built.mask.expect("a mask");
        assert!(mask.draw.seed >= from && mask.margin > delta, "{}: {mask:?}", case.name);
        if mask.draw.sampler == Sampler::Systematic {
            continue;
        }
        let problem = &built.problem;
        let saved = forward(problem);
        let sizes = problem.sizes();
        let grid = Grid {
            batch: sizes.batch * problem.mask().segment_count(),
            heads: sizes.query_heads,
            queries: sizes.queries,
            keys: sizes.keys,
        };
        let Draw { seed, stream, layout, .. } = mask.draw;
        let words = Uniforms::new(seed, stream, layout, grid).expect("words");
        let sample = sus_oracle::sus::sample(problem, &saved, &mask.draw).expect("a mask");
        for at in 0..problem.row_count() {
            let row = problem.row(at);
            let place = problem.mask().place(row.i);
            let b = row.b * problem.mask().segment_count() + place.segment;
            for j in problem.span(row) {
                let w = DenseWeights { problem, saved: &saved }.at(row, j).w;
                let word = words.word(b, row.h, place.query, j - place.first_key);
                let decision = forced_decision(sample.lambda[at] * w, word, delta);
                let kept = sample.pattern.row(at).contains(&(j as u32));
                let expected =
                    if kept { ForcedDecision::MustKeep } else { ForcedDecision::MustDrop };
                assert_eq!(decision, expected, "{} row {at} key {j}", case.name);
            }
        }
    }
}

#[test]
fn a_searched_seed_is_the_first_with_its_margin_and_statistical_seeds_are_not_searched() {
    let exact = built(case("sus_flat")).mask.expect("a mask").draw;
    assert!(exact.seed > 1);
    let statistical = Tier::Smoke.cases().filter(|case| case.is_statistical());
    let seeds: Vec<u64> =
        statistical.map(|case| built(case).mask.expect("a mask").draw.seed).collect();
    assert_eq!(seeds, [1000; 5]);
}

#[test]
fn a_statistical_case_holds_variances_and_expected_counts_and_no_other_does() {
    for case in Tier::Smoke.cases() {
        let answers = built(case).answers.arrays;
        for name in ["variance/dq", "variance/dk", "variance/dv", "expected_nnz"] {
            assert_eq!(answers.contains_key(name), case.is_statistical(), "{}: {name}", case.name);
        }
    }
}

#[test]
fn the_settings_of_a_file_are_complete_and_read_back() {
    for case in Tier::Smoke.cases() {
        let built = built(case);
        let text = built.inputs.metadata.clone().expect("metadata");
        assert_eq!(Settings::from_json(&text).expect("settings"), built.settings);
        let keys = ["spec", "pass", "causal", "alignment"];
        let of_a_draw = ["c", "rule", "sampler", "seed", "stream", "layout"];
        let stated = |key: &&str| text.contains(&format!("\"{key}\":"));
        assert!(keys.iter().all(stated), "{text}");
        assert!(of_a_draw.iter().all(|key| stated(key) == case.draw.is_some()), "{text}");
    }
}

#[test]
fn the_committed_suite_is_what_this_program_makes_and_is_below_2_mb() {
    let result = verify(&committed(), Some(Tier::Smoke), &SilentExport).expect("a folder");
    assert_eq!(result.findings, []);
    assert!(result.cases > 90 && result.numbers > 100_000);
    let bytes: usize = files(&committed()).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 2_000_000, "{bytes} bytes");
}

#[test]
fn an_export_writes_the_same_bytes_with_1_and_with_3_threads() {
    let folder = TempDir::new().expect("a folder");
    for threads in ["1", "3"] {
        let out = folder.path().join(threads);
        assert_cmd::Command::cargo_bin("sus-oracle")
            .expect("the command")
            .args(["--threads", threads, "fixtures", "export", "--tier", "smoke", "--out"])
            .arg(&out)
            .assert()
            .success();
        assert!(files(&out) == files(&committed()), "{threads} threads: other bytes");
    }
}

#[test]
fn an_export_refuses_a_folder_that_holds_something_and_leaves_it_alone() {
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("suite");
    std::fs::create_dir(&out).expect("a folder");
    std::fs::write(out.join("mine"), "text").expect("a file");
    let error = export(Tier::Smoke, &out, &SilentExport).expect_err("a refusal").to_string();
    assert!(error.contains("expected a new or an empty folder"), "{error}");
    assert_eq!(files(&out), [("mine".to_owned(), b"text".to_vec())]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left");
}

#[test]
fn an_export_fills_an_empty_folder() {
    let folder = TempDir::new().expect("a folder");
    let manifest = export(Tier::Smoke, folder.path(), &SilentExport).expect("a suite");
    assert_eq!(files(folder.path()).len(), manifest.cases.len() + 1);
    folder.close().expect("a folder to remove");
}
