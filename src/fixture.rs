//! Fixtures: attention problems with their answers, as files that any language can load.
//!
//! A [`Case`] is one row of a table: sizes, options, how the inputs are drawn, what it is for and which bug it
//! shows. [`build()`] makes its tensors, [`suite`] writes the cases of a tier with a [`manifest`], [`verify()`]
//! makes everything again and compares.
//!
//! Everything stored is computed in [`Dd`](crate::scalar::Dd) and rounded once to `f64`, in one order of
//! summation, without the platform's mathematical library: the bytes are the same on every machine and with any
//! number of threads. The format is described in `docs/fixtures.md`.

mod answers;
pub mod blind;
mod build;
mod case;
mod cases;
mod derive;
mod exact;
pub mod flag;
pub mod hash;
mod inputs;
mod lines;
pub mod manifest;
mod margin;
mod selection;
pub mod suite;
mod verify;

pub use answers::BOUND_RECIPES;
pub use build::{Built, MaskFacts, build};
pub use case::{Bias, Case, CaseDraw, CaseOptions, Extras, Seeds, Values};
pub use flag::Flag;
pub use inputs::{KEY, REAL_CUT, draw_inputs};
pub use margin::mask_margin;
pub use selection::Selection;
pub use verify::{Finding, Verification, verify, verify_answers, verify_cases};

use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// Version of `manifest.json`: its keys and their meaning.
///
/// # Examples
/// ```
/// use sus_oracle::fixture::{SCHEMA_VERSION, manifest::Manifest};
/// let text = std::fs::read_to_string("fixtures/smoke/manifest.json")?;
/// // A reader asks for the version before anything else.
/// assert_eq!(serde_json::from_str::<Manifest>(&text)?.versions.schema, SCHEMA_VERSION);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const SCHEMA_VERSION: u32 = 1;
/// Version of the stored values: it rises when any committed number changes in any bit.
///
/// # Examples
/// ```
/// use sus_oracle::fixture::{VALUES_VERSION, manifest::Manifest};
/// let text = std::fs::read_to_string("fixtures/smoke/manifest.json")?;
/// assert_eq!(serde_json::from_str::<Manifest>(&text)?.versions.values, VALUES_VERSION);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const VALUES_VERSION: u32 = 1;
/// Version of the case files: their tensors, and the metadata `sus-oracle/1`.
///
/// # Examples
/// ```
/// use sus_oracle::fixture::{CONTRACT_VERSION, manifest::Manifest};
/// let text = std::fs::read_to_string("fixtures/smoke/manifest.json")?;
/// assert_eq!(serde_json::from_str::<Manifest>(&text)?.versions.contract, CONTRACT_VERSION);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const CONTRACT_VERSION: u32 = 1;

/// How large a suite is, and where it lives.
///
/// # Examples
/// ```
/// use sus_oracle::fixture::Tier;
/// assert_eq!("full".parse::<Tier>()?, Tier::Full);
/// // The full tier begins with no less than the smoke tier, the stress tier stands alone.
/// assert!(Tier::Smoke.cases().all(|case| Tier::Full.cases().any(|other| other == case)));
/// assert!(Tier::Smoke.cases().all(|case| Tier::Stress.cases().all(|other| other != case)));
/// # Ok::<(), sus_oracle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Committed, below 2 MB.
    Smoke,
    /// The smoke cases and larger ones, tens of MB; made when wanted.
    Full,
    /// Long sequences alone; made when wanted.
    Stress,
}

impl Tier {
    /// All tiers.
    ///
    /// # Examples
    /// ```
    /// use sus_oracle::fixture::Tier;
    /// assert!(Tier::ALL.is_sorted()); // by size
    /// ```
    pub const ALL: [Tier; 3] = [Tier::Smoke, Tier::Full, Tier::Stress];

    /// The name used in files and on the command line.
    ///
    /// # Examples
    /// ```
    /// use sus_oracle::fixture::Tier;
    /// for tier in Tier::ALL {
    ///     assert_eq!(tier.name().parse::<Tier>()?, tier);
    /// }
    /// # Ok::<(), sus_oracle::Error>(())
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Smoke => "smoke",
            Tier::Full => "full",
            Tier::Stress => "stress",
        }
    }

    /// The cases of a tier, in the order of the table; `full` holds those of `smoke` as well.
    ///
    /// # Examples
    /// ```
    /// use sus_oracle::fixture::Tier;
    /// assert_eq!(Tier::Smoke.cases().count(), 101);
    /// ```
    pub fn cases(self) -> impl Iterator<Item = &'static Case> {
        cases::all()
            .filter(move |(tier, _)| match self {
                Tier::Full => *tier <= Tier::Full,
                _ => *tier == self,
            })
            .map(|(_, case)| case)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tier {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name).ok_or_else(|| {
            Error::option("tier", "'smoke', 'full' or 'stress'", format!("'{name}'"))
        })
    }
}
