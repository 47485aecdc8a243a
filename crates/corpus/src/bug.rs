//! Known bugs: what was reported in public, by project and report.

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
