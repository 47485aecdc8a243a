//! The data files: embedded in the program, read once.

use super::bug::{Bug, OtherLabel, Project};
use super::fixture::Fixture;
use super::flag::{Flag, FlagData};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Which cases: the problems of the kill matrix, or a part of the fixtures.
///
/// # Examples
/// ```
/// use sus_corpus::Suite;
/// // A fixture names the bug that it is for.
/// assert!(Suite::Smoke.fixtures().iter().all(|case| !case.bug.is_empty() && !case.purpose.is_empty()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// The problems that every mutant and every control runs on.
    KillMatrix,
    /// The committed fixtures.
    Smoke,
    /// Larger fixtures.
    Full,
    /// Fixtures of long sequences.
    Stress,
}

/// The files of a suite, in the order of its cases.
const CASES: [(Suite, &[(&str, &str)]); 4] = [
    (Suite::KillMatrix, &[("kill_matrix.toml", include_str!("../data/cases/kill_matrix.toml"))]),
    (
        Suite::Smoke,
        &[
            ("shapes.toml", include_str!("../data/cases/shapes.toml")),
            ("masks.toml", include_str!("../data/cases/masks.toml")),
            ("scores.toml", include_str!("../data/cases/scores.toml")),
            ("operands.toml", include_str!("../data/cases/operands.toml")),
            ("sus.toml", include_str!("../data/cases/sus.toml")),
            ("statistics.toml", include_str!("../data/cases/statistics.toml")),
        ],
    ),
    (Suite::Full, &[("full.toml", include_str!("../data/cases/full.toml"))]),
    (Suite::Stress, &[("stress.toml", include_str!("../data/cases/stress.toml"))]),
];

impl Suite {
    /// The cases of this suite; `Full` and `Stress` hold their own alone.
    #[must_use]
    pub fn fixtures(self) -> &'static [Fixture] {
        &DATA.cases[&self]
    }
}

/// `bugs.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BugFile {
    pub(crate) project: Vec<Project>,
    pub(crate) bug: Vec<Bug>,
    pub(crate) other: Vec<OtherLabel>,
}

/// `flags.toml`.
type FlagFile = BTreeMap<Flag, FlagData>;

/// A file of `cases/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Fixture>,
}

/// All data files.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) bugs: BugFile,
    pub(crate) flags: FlagFile,
    cases: BTreeMap<Suite, Vec<Fixture>>,
}

/// The data, read when they are first needed.
///
/// # Panics
/// If a data file is malformed; the tests of this crate read all of them.
pub(crate) static DATA: LazyLock<Data> = LazyLock::new(|| Data {
    bugs: read("bugs.toml", include_str!("../data/bugs.toml")),
    flags: read("flags.toml", include_str!("../data/flags.toml")),
    cases: CASES.iter().map(|(suite, files)| (*suite, cases(files))).collect(),
});

fn cases(files: &[(&str, &str)]) -> Vec<Fixture> {
    files.iter().flat_map(|(name, text)| read::<CaseFile>(name, text).case).collect()
}

fn read<T: DeserializeOwned>(name: &str, text: &str) -> T {
    parse(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Parses the text of a data file.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case_error(text: &str) -> String {
        parse::<CaseFile>(text).expect_err("an error").to_string()
    }

    const SIZES: &str = "sizes = { B = 1, Hq = 1, Hk = 1, Nq = 1, Nk = 1, D = 1, E = 1 }";

    fn case(more: &str) -> String {
        format!("[[case]]\nname = \"a\"\npurpose = \"p\"\n{SIZES}\n{more}\n")
    }

    #[test]
    fn the_smallest_case_is_accepted() {
        let file: CaseFile = parse(&case("")).expect("a case");
        assert_eq!((file.case.len(), file.case[0].name.as_str()), (1, "a"));
    }

    #[test]
    fn an_unknown_key_is_an_error_at_every_depth() {
        for (more, key) in [
            ("colour = 1", "colour"),
            ("operands = { dbias = true }", "dbias"),
            ("operands = { bias = { keys = true } }", "keys"),
            ("options = { casual = true }", "casual"),
            ("values = { sixteenths = { stream = 0, numbers = \"plain\", seed = 1 } }", "seed"),
            ("values = \"round\"", "round"),
            ("flags = [\"SQ2\"]", "SQ2"),
            ("options = { alignment = \"middle\" }", "middle"),
        ] {
            let error = case_error(&case(more));
            assert!(error.contains(key), "{more}: {error}");
        }
        let draw = |more: &str| {
            let keys = "c = 1.0, rule = \"paper\", sampler = \"bernoulli\", layout = \"coord4\"";
            case_error(&case(&format!("draw = {{ {keys}, {more} }}")))
        };
        assert!(draw("seeds = { given = 1 }, bits = 64").contains("bits"));
        assert!(draw("seeds = { chosen = 1 }").contains("chosen"));
        assert!(draw("stream = 0").contains("seeds"), "a draw names its seed");
        let flag = |text: &str| parse::<FlagFile>(text).expect_err("an error").to_string();
        assert!(flag("[SQ1]\nmeaning = \"m\"\ncolour = 1").contains("colour"));
        assert!(flag("[SQ2]\nmeaning = \"m\"").contains("SQ2"));
        let bug = |text: &str| parse::<BugFile>(text).expect_err("an error").to_string();
        let lists = "project = []\nother = []\n[[bug]]\nid = \"1\"\nwhat = \"w\"\n";
        assert!(bug(&format!("{lists}types = [\"delta\"]\ncolour = 1")).contains("colour"));
        assert!(bug(&format!("{lists}types = [\"colour\"]")).contains("colour"));
    }

    #[test]
    fn a_missing_key_is_an_error() {
        assert!(case_error("[[case]]\nname = \"a\"\npurpose = \"p\"").contains("sizes"));
        let without_e = case("").replace(", E = 1", "");
        assert!(case_error(&without_e).contains('E'));
    }

    #[test]
    fn a_malformed_label_is_an_error() {
        for label in
            ["flash-attention", "flash-attention 1253", "#1", "jax 099f0aXX", "jax #", " #1"]
        {
            let text = format!(
                "project = []\nother = []\n[[bug]]\nid = \"1\"\nwhat = \"w\"\ntypes = []\nreports = [\"{label}\"]"
            );
            let error = parse::<BugFile>(&text).expect_err("an error").to_string();
            assert!(error.contains("label"), "{label}: {error}");
        }
    }

    /// A seed may use all 64 bits.
    #[test]
    fn the_largest_seed_is_read_back() {
        let keys = "c = inf, rule = \"paper\", sampler = \"bernoulli\", layout = \"coord4\"";
        let text =
            case(&format!("draw = {{ {keys}, seeds = {{ given = 0xffff_ffff_ffff_ffff }} }}"));
        let file: CaseFile = parse(&text).expect("a case");
        let draw = file.case[0].draw.expect("a draw");
        assert_eq!(draw.seeds, crate::Seeds::Given(u64::MAX));
        assert_eq!(draw.c, f64::INFINITY);
    }
}
