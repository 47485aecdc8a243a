//! Known bugs: what was reported in public, by project and report.

use super::data::DATA;
use serde::Deserialize;
use std::fmt;

/// What a bug gets wrong, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BugType {
    /// Indices, strides, tails of tiles.
    Indexing,
    /// `delta`.
    Delta,
    /// The scale.
    Scale,
    /// The softcap.
    Softcap,
    /// Masks and their alignment.
    Masks,
    /// Groups of heads, head dimensions, the batch.
    Heads,
    /// Bias, sink and the cotangent of `lse`.
    Bias,
    /// Chunks computed apart and merged.
    Merging,
    /// Accumulation and rounding.
    Rounding,
    /// The weights `W~` of SUS.
    SusWeights,
    /// The masks and words of SUS.
    SusMasks,
}

impl fmt::Display for BugType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            BugType::Indexing => "indexing",
            BugType::Delta => "delta",
            BugType::Scale => "scale",
            BugType::Softcap => "softcap",
            BugType::Masks => "masks",
            BugType::Heads => "heads",
            BugType::Bias => "bias",
            BugType::Merging => "merging",
            BugType::Rounding => "rounding",
            BugType::SusWeights => "sus-weights",
            BugType::SusMasks => "sus-masks",
        })
    }
}

/// A project whose reports the corpus cites.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Project {
    /// Its name in a label.
    pub name: String,
    /// Its name in the tables of the book.
    pub shown: String,
    /// Its repository, `owner/name`.
    pub repository: String,
}

/// A report or a fix: a project, and an issue or pull request (`#123`) or a commit (`0123abc`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Report {
    label: String,
    /// Where the blank between the project and the reference is.
    blank: usize,
}

impl TryFrom<String> for Report {
    type Error = String;
    fn try_from(label: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "label: expected a project and '#123' or a commit in hexadecimal, found '{label}'"
            )
        };
        let blank = label.find(' ').filter(|&at| at > 0).ok_or_else(wrong)?;
        let reference = &label[blank + 1..];
        let is_commit = (7..=40).contains(&reference.len())
            && reference.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let is_thread = reference
            .strip_prefix('#')
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()));
        if is_commit || is_thread { Ok(Report { label, blank }) } else { Err(wrong()) }
    }
}

impl Report {
    /// The label that cases and flags cite: `flash-attention #1936`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The project's name in a label.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.label[..self.blank]
    }

    /// `#1936`, or the first digits of a commit.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.label[self.blank + 1..]
    }

    /// The address of the report.
    ///
    /// # Examples
    /// ```
    /// let report = &sus_corpus::bug("1").unwrap().reports[0];
    /// assert_eq!(report.link(), "https://github.com/Dao-AILab/flash-attention/commit/b3f1b6a5");
    /// ```
    #[must_use]
    pub fn link(&self) -> String {
        let repository = &self.listed_project().repository;
        match self.reference().strip_prefix('#') {
            Some(number) => format!("https://github.com/{repository}/issues/{number}"),
            None => format!("https://github.com/{repository}/commit/{}", self.reference()),
        }
    }

    /// # Panics
    /// If `bugs.toml` does not list the project; a test reads all reports.
    fn listed_project(&self) -> &'static Project {
        let mut projects = DATA.bugs.project.iter();
        let found = projects.find(|project| project.name == self.project());
        found.unwrap_or_else(|| panic!("bugs.toml: no project '{}'", self.project()))
    }
}

/// A bug that was reported in public, or that SUS adds.
///
/// # Examples
/// ```
/// let bug = sus_corpus::bug("11").unwrap();
/// assert_eq!(bug.source(), "Dao-AILab/flash-attention 14f3627d, #1033");
/// // A bug that no simulated kernel copies says why not.
/// let order = sus_corpus::bug("12").unwrap();
/// assert!(order.not_copied.as_deref().unwrap().contains("an order is no error here"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Bug {
    /// Its number: of the reports, or `s` and one for a bug that SUS adds.
    pub id: String,
    /// Where it was reported or fixed; empty for a bug that SUS adds.
    #[serde(default)]
    pub reports: Vec<Report>,
    /// What was wrong.
    pub what: String,
    /// The kinds of the mutants that copy it.
    pub types: Vec<BugType>,
    /// Why no mutant copies it.
    #[serde(default)]
    pub not_copied: Option<String>,
}

impl Bug {
    /// The bug of a label; `None` if the label names no wrong backward kernel.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus::Bug;
    /// assert_eq!(Bug::of_label("jax 099f0a17").unwrap().id, "29");
    /// assert_eq!(Bug::of_label("TransformerEngine tests"), None); // a test suite
    /// ```
    #[must_use]
    pub fn of_label(label: &str) -> Option<&'static Bug> {
        bugs().iter().find(|bug| bug.reports.iter().any(|report| report.label() == label))
    }

    /// The reports in one line, each project once in a row: `pytorch #188015, #187684; ffpa-attn #352`.
    #[must_use]
    pub fn source(&self) -> String {
        if self.reports.is_empty() {
            return "SUS".to_owned();
        }
        let of_project = |reports: &[Report]| {
            let references: Vec<&str> = reports.iter().map(Report::reference).collect();
            format!("{} {}", reports[0].listed_project().shown, references.join(", "))
        };
        let projects = self.reports.chunk_by(|a, b| a.project() == b.project());
        projects.map(of_project).collect::<Vec<_>>().join("; ")
    }
}

/// Every bug, in the order of its number.
#[must_use]
pub fn bugs() -> &'static [Bug] {
    &DATA.bugs.bug
}

/// The bug of this number.
#[must_use]
pub fn bug(id: &str) -> Option<&'static Bug> {
    bugs().iter().find(|bug| bug.id == id)
}

/// The labels that name no wrong backward kernel.
#[must_use]
pub fn other_labels() -> &'static [OtherLabel] {
    &DATA.bugs.other
}

/// A label of a case or flag that names no wrong backward kernel, so that no mutant copies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OtherLabel {
    /// The label.
    pub label: String,
    /// What it names.
    pub kind: OtherKind,
}

/// What such a label names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherKind {
    /// A comparison that allows too little or too much.
    Tolerance,
    /// Two conventions that differ.
    Convention,
    /// A test suite that uses such inputs.
    Suite,
}
