//! `sus-oracle fixtures`: export, verify and list suites of cases with their answers.

use crate::command::terminal::bar;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use sus_oracle::files::FileError;
use sus_oracle::fixtures::manifest::Manifest;
use sus_oracle::fixtures::suite::{ExportProgress, export};
use sus_oracle::fixtures::{Selection, Tier, Verification, verify_cases};

/// Export, verify or list fixtures: problems with their answers, as safetensors files with a manifest
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle fixtures export --tier smoke --out smoke
  sus-oracle fixtures verify fixtures/smoke
  sus-oracle fixtures list --tier full
  sus-oracle fixtures export --tier stress --case stress_keys_4099 --out one
  sus-oracle fixtures verify one --case stress_keys_4099")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write a suite to a new folder, whole or not at all
    #[command(after_help = "\
Example:
  sus-oracle fixtures export --tier smoke --out smoke")]
    Export {
        /// smoke, full or stress
        #[arg(long, value_name = "NAME", default_value = "smoke")]
        tier: Tier,
        /// Only these cases of the tier [default: all]
        #[arg(long = "case", value_name = "NAME,...", value_delimiter = ',')]
        cases: Vec<String>,
        /// The new folder [default: sus-oracle-TIER]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Recompute every value and compare; exit code 1 if a file is missing, changed or extra, or a label is wrong
    #[command(after_help = "\
Example:
  sus-oracle fixtures verify fixtures/smoke")]
    Verify {
        /// The suite's folder
        #[arg(value_name = "DIR", required_unless_present = "out")]
        dir: Option<PathBuf>,
        /// The suite's folder, under the name that export uses
        #[arg(long, value_name = "DIR", conflicts_with = "dir")]
        out: Option<PathBuf>,
        /// The tier to expect [default: the manifest's]
        #[arg(long, value_name = "NAME")]
        tier: Option<Tier>,
        /// The cases to expect [default: all of the tier]
        #[arg(long = "case", value_name = "NAME,...", value_delimiter = ',')]
        cases: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the cases, with their purpose and the bug that each one shows
    #[command(after_help = "\
Example:
  sus-oracle fixtures list --tier smoke")]
    List {
        /// smoke, full or stress [default: all]
        #[arg(long, value_name = "NAME")]
        tier: Option<Tier>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is printed, and the exit code: 1 if a check failed.
pub(crate) fn run(arguments: Arguments) -> Result<(String, u8), FileError> {
    let done = |text| Ok((text, 0));
    match arguments.action {
        Action::Export { tier, cases, out, json } => {
            let out = out.unwrap_or_else(|| format!("sus-oracle-{tier}").into());
            let selection =
                Selection::of_names(tier, &cases).map_err(|error| FileError::new(&out, error))?;
            done(export_suite(selection, &out, json)?)
        }
        Action::Verify { dir, out, tier, cases, json } => {
            let dir = dir.or(out).unwrap_or_default();
            let progress = Bar(bar());
            let result = verify_cases(&dir, tier, &cases, &progress)?;
            progress.0.finish_and_clear();
            let code = u8::from(!result.findings.is_empty());
            Ok((if json { verified_json(&dir, &result) } else { verified(&dir, &result) }, code))
        }
        Action::List { tier, json } => done(list(tier, json)),
    }
}

/// Shows the cases on a bar while somebody watches.
struct Bar(ProgressBar);

impl ExportProgress for Bar {
    fn case(&self, done: usize, cases: usize, name: &str) {
        self.0.set_length(cases as u64);
        self.0.set_position(done as u64);
        self.0.set_message(name.to_owned());
    }
}

fn export_suite(selection: Selection, out: &Path, json: bool) -> Result<String, FileError> {
    let progress = Bar(bar());
    let manifest = export(selection, out, &progress)?;
    progress.0.finish_and_clear();
    Ok(exported(&manifest, out, json))
}

fn exported(manifest: &Manifest, out: &Path, json: bool) -> String {
    let bytes: u64 = manifest.cases.iter().map(|case| case.bytes).sum();
    let cases = manifest.cases.len();
    if json {
        let report = json!({
            "spec": "sus-oracle-fixtures-export/1", "out": out.display().to_string(),
            "tier": manifest.tier, "cases": cases, "bytes": bytes,
        });
        return format!("{report}\n");
    }
    format!("{}: {cases} cases of tier {}, {bytes} bytes\n", out.display(), manifest.tier)
}

fn verified(dir: &Path, result: &Verification) -> String {
    let mut text = String::new();
    for finding in &result.findings {
        let _ = writeln!(text, "{finding}");
    }
    let (dir, verdict) = (dir.display(), if result.findings.is_empty() { "PASS" } else { "FAIL" });
    let Verification { cases, tensors, numbers, findings, .. } = result;
    let wrong = findings.len();
    let _ = writeln!(
        text,
        "{verdict}  {dir}: {cases} cases, {tensors} tensors, {numbers} numbers, {wrong} wrong"
    );
    text
}

fn verified_json(dir: &Path, result: &Verification) -> String {
    let findings: Vec<_> = result
        .findings
        .iter()
        .map(|finding| json!({ "file": finding.file, "what": finding.what }))
        .collect();
    let verdict = if findings.is_empty() { "PASS" } else { "FAIL" };
    let report = json!({
        "spec": "sus-oracle-fixtures-verify/1", "dir": dir.display().to_string(),
        "verdict": verdict, "cases": result.cases, "tensors": result.tensors,
        "numbers": result.numbers, "findings": findings,
    });
    format!("{report}\n")
}

fn list(tier: Option<Tier>, json: bool) -> String {
    let tiers: Vec<Tier> = tier.map_or(Tier::ALL.to_vec(), |tier| vec![tier]);
    let mut rows = Vec::new();
    for tier in tiers {
        // With all tiers a smoke case is listed once.
        let cases = tier.cases().map(|case| (tier, case));
        rows.extend(
            cases
                .filter(|(_, case)| {
                    !rows.iter().any(|(_, listed): &(Tier, &sus_oracle::fixtures::Fixture)| {
                        listed.name == case.name
                    })
                })
                .collect::<Vec<_>>(),
        );
    }
    if json {
        let cases: Vec<_> = rows
            .iter()
            .map(|(tier, case)| {
                let flags: Vec<&str> = case.flags.iter().map(|flag| flag.name()).collect();
                json!({
                    "name": case.name, "tier": tier.name(), "purpose": case.purpose,
                    "bug": case.bug, "upstream": case.upstream, "flags": flags,
                })
            })
            .collect();
        let report = json!({ "spec": "sus-oracle-fixtures-list/1", "cases": cases });
        return format!("{report}\n");
    }
    let width = rows.iter().map(|(_, case)| case.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (tier, case) in rows {
        let _ = writeln!(text, "{tier:<6}  {:<width$}  {}", case.name, case.purpose);
        let _ = writeln!(text, "{:<6}  {:<width$}    shows: {}", "", "", case.bug);
        if !case.upstream.is_empty() {
            let seen = case.upstream.join(", ");
            let _ = writeln!(text, "{:<6}  {:<width$}    seen in: {seen}", "", "");
        }
    }
    text
}
