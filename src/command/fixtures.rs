//! `sus-oracle fixtures`: suites of cases with their answers, made, verified and listed.

use crate::command::terminal::bar;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use sus_oracle::files::FileError;
use sus_oracle::files::tensor_file::write_atomically;
use sus_oracle::fixtures::blind::Salt;
use sus_oracle::fixtures::manifest::Manifest;
use sus_oracle::fixtures::suite::{ExportProgress, export};
use sus_oracle::fixtures::{Selection, Tier, Verification, verify_answers, verify_cases};

/// Fixtures: attention problems with their answers, as safetensors files with a manifest
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle fixtures export --tier smoke --out smoke
  sus-oracle fixtures verify fixtures/smoke
  sus-oracle fixtures list --tier full
  sus-oracle fixtures export --tier stress --case stress_keys_4099 --out one
  sus-oracle fixtures verify one --case stress_keys_4099
  sus-oracle fixtures export --tier full --blind --out given --salt kept.salt
  sus-oracle fixtures verify given --salt kept.salt --answers answers")]
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
        /// Cases of that tier, and no others [default: all]
        #[arg(long = "case", value_name = "NAME,...", value_delimiter = ',')]
        cases: Vec<String>,
        /// The new folder [default: sus-oracle-TIER]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Inputs alone; the answers under a seal, whose salt is yours to keep
        #[arg(long)]
        blind: bool,
        /// Where the salt is kept; one that is there is used again [default: OUT.salt]
        #[arg(long, value_name = "FILE", requires = "blind")]
        salt: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make every value again and compare: exit code 1 if a file is missing, changed or extra, or a label wrong
    #[command(after_help = "\
Example:
  sus-oracle fixtures verify fixtures/smoke")]
    Verify {
        /// The suite's folder
        #[arg(value_name = "DIR", required_unless_present = "out")]
        dir: Option<PathBuf>,
        /// The same, as export calls it
        #[arg(long, value_name = "DIR", conflicts_with = "dir")]
        out: Option<PathBuf>,
        /// The tier that it has to be
        #[arg(long, value_name = "NAME")]
        tier: Option<Tier>,
        /// The cases that it has to hold, and no others [default: all of the tier]
        #[arg(long = "case", value_name = "NAME,...", value_delimiter = ',')]
        cases: Vec<String>,
        /// The salt of a blind suite: its seals are checked too
        #[arg(long, value_name = "FILE")]
        salt: Option<PathBuf>,
        /// Hold these answers (a folder, or the file of one case) against the seals of a blind suite
        #[arg(long, value_name = "PATH", requires = "salt")]
        answers: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The cases: what each is for, and which bug it shows
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
        Action::Export { tier, cases, out, blind, salt, json } => {
            let out = out.unwrap_or_else(|| format!("sus-oracle-{tier}").into());
            let selection =
                Selection::of_names(tier, &cases).map_err(|error| FileError::new(&out, error))?;
            done(export_suite(selection, &out, blind, salt, json)?)
        }
        Action::Verify { dir, out, tier, cases, salt, answers, json } => {
            let dir = dir.or(out).unwrap_or_default();
            let salt = salt.as_deref().map(Salt::read).transpose()?;
            let progress = Bar(bar());
            let result = match (answers, &salt) {
                (Some(answers), Some(salt)) => verify_answers(&dir, &answers, salt)?,
                _ => verify_cases(&dir, tier, &cases, salt.as_ref(), &progress)?,
            };
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

fn export_suite(
    selection: Selection,
    out: &Path,
    blind: bool,
    salt: Option<PathBuf>,
    json: bool,
) -> Result<String, FileError> {
    let salt_path = salt.unwrap_or_else(|| {
        let mut name = out.as_os_str().to_owned();
        name.push(".salt");
        name.into()
    });
    let salt = if blind { Some(salt_at(&salt_path, out)?) } else { None };
    let progress = Bar(bar());
    let manifest = export(selection, out, salt.as_ref().map(|(salt, _)| salt), &progress)?;
    progress.0.finish_and_clear();
    if let Some((salt, true)) = &salt {
        let text = salt.to_hex() + "\n";
        write_atomically(&salt_path, text.as_bytes()).map_err(|e| FileError::new(&salt_path, e))?;
    }
    Ok(exported(&manifest, out, blind.then_some(&salt_path), json))
}

/// The salt, and whether it is a new one.
fn salt_at(path: &Path, out: &Path) -> Result<(Salt, bool), FileError> {
    let refuse = |text| Err(FileError::new(path, Error::new(ErrorKind::InvalidInput, text)));
    if path.starts_with(out) {
        return refuse("option 'salt': expected a file outside of the suite, found one in it");
    }
    if path.exists() {
        return Ok((Salt::read(path)?, false));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refuse("option 'salt': expected a file in an existing folder, found none such");
    }
    Salt::random().map(|salt| (salt, true)).map_err(|e| FileError::new(path, e))
}

fn exported(manifest: &Manifest, out: &Path, salt: Option<&PathBuf>, json: bool) -> String {
    let bytes: u64 = manifest.cases.iter().map(|case| case.bytes).sum();
    let cases = manifest.cases.len();
    if json {
        let report = json!({
            "spec": "sus-oracle-fixtures-export/1", "out": out.display().to_string(),
            "tier": manifest.tier, "blind": manifest.blind, "cases": cases, "bytes": bytes,
            "salt": salt.map(|path| path.display().to_string()),
        });
        return format!("{report}\n");
    }
    let mut text =
        format!("{}: {cases} cases of tier {}, {bytes} bytes\n", out.display(), manifest.tier);
    if let Some(salt) = salt {
        let _ = writeln!(text, "the salt of the seals is in {}: keep it", salt.display());
    }
    text
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
    if result.seals_unchecked {
        let _ = writeln!(text, "the seals of the answers are not checked: no --salt");
    }
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
        "numbers": result.numbers, "seals_checked": !result.seals_unchecked, "findings": findings,
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
