//! The report on a part, as data: what was judged by units, and everything that follows from them.
//!
//! The document is that of a whole problem (`sus-oracle-verdict/1`) with one more key, `part`. All other numbers are made of the units of
//! `part` in their order, so that two documents of one problem and candidate are joined by joining their units. Joining is associative
//! and commutative, as a union of sets is; a unit that is in several of them counts how often it was judged.

use super::aggregate;
use super::ranges;
use super::selection::Selection;
use crate::{Outcome, TensorResult, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use sus_files::hash::sha256_hex;
use sus_files::{Settings, TensorFile};
use sus_reference::mask::KeySet;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::tensor::Tensor;

/// The version of the document.
pub const SPEC: &str = "sus-oracle-verdict/1";

/// The report on a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub(super) spec: String,
    pub(super) verdict: String,
    pub(super) exit_code: u8,
    pub(super) case: String,
    pub(super) candidate: String,
    pub(super) recipe: String,
    pub(super) mode: String,
    pub(super) pass: String,
    pub(super) command: String,
    pub(super) diagnosis: Option<String>,
    pub(super) borderline_mask_entries: usize,
    pub(super) tensors: Vec<Value>,
    pub(super) directions: BTreeMap<String, Value>,
    pub(super) findings: Vec<UnitFinding>,
    pub(super) notes: Vec<String>,
    pub(super) part: Part,
}

/// What was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The digest of the problem and its settings.
    pub(super) problem: String,
    /// The digest of the candidate's tensors.
    pub(super) candidate: String,
    /// The sizes of the whole problem.
    pub(super) of: Whole,
    /// Whether every head was judged whole.
    pub(super) is_whole: bool,
    /// What was judged, and what was not, in words.
    pub(super) judged: Vec<String>,
    pub(super) not_judged: Vec<String>,
    /// What was judged more than once.
    pub(super) overlaps: Vec<String>,
    /// The rules that were applied, and those that were not.
    pub(super) rules: Vec<String>,
    pub(super) rules_left_out: Vec<String>,
    /// The commands of the parts.
    pub(super) commands: BTreeSet<String>,
    pub(super) units: Vec<Unit>,
}

/// The sizes of the whole problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    pub(super) batch: usize,
    pub(super) query_heads: usize,
    pub(super) key_heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

/// One key head with its query heads, or some rows and keys of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    pub(super) key_head: usize,
    /// The selected rows and keys, each range by its first number and the one after its last; `None` with neither is the whole head.
    pub(super) rows: Option<Vec<[usize; 2]>>,
    pub(super) keys: Option<Vec<[usize; 2]>>,
    /// How often this unit was judged.
    pub(super) times: usize,
    pub(super) verdict: String,
    pub(super) diagnosis: Option<String>,
    pub(super) borderline_mask_entries: usize,
    pub(super) tensors: Vec<UnitTensor>,
    pub(super) findings: Vec<UnitFinding>,
    pub(super) notes: Vec<String>,
}

/// One result of a unit. Numbers that are not finite are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) outcome: String,
    pub(super) elements: usize,
    pub(super) outside: usize,
    pub(super) rows_below_noise: usize,
    pub(super) rms_error_over_bound: Option<f64>,
    /// Sums of squares of the bounds and of the reference.
    pub(super) squares: [Option<f64>; 2],
    pub(super) worst: Option<Value>,
    pub(super) by_stored_o: Option<Value>,
    pub(super) statistics: BTreeMap<String, Value>,
}

/// A finding of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitFinding {
    pub(super) tensor: String,
    pub(super) rule: String,
    pub(super) outcome: String,
    pub(super) message: String,
}

/// What a document says beside its units.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The case's file.
    pub case: String,
    /// The candidate's file.
    pub candidate: String,
    /// The recipe, and how it was chosen.
    pub recipe: String,
    /// Exact or given.
    pub mode: String,
    /// Dense or SUS, with the draw.
    pub pass: String,
    /// The commands that compute it again.
    pub commands: BTreeSet<String>,
    /// The digests of the problem and of the candidate.
    pub digests: [String; 2],
    /// The sizes of the whole problem.
    pub of: Whole,
}

/// The outcome of a name.
pub(super) fn outcome_of(name: &str) -> Option<Outcome> {
    let all = [Outcome::Pass, Outcome::Fail, Outcome::Refused, Outcome::Inconclusive];
    all.into_iter().find(|outcome| outcome.name() == name)
}

/// The worst of outcomes given by their names.
pub(super) fn worst<'a>(names: impl Iterator<Item = &'a str>) -> Outcome {
    names.filter_map(outcome_of).max().unwrap_or_default()
}

impl Unit {
    /// A unit from its verdict.
    pub(super) fn new(
        problem: &Problem<f64>,
        key_head: usize,
        selection: &Selection,
        verdict: &Verdict,
        diagnosis: Option<String>,
    ) -> Self {
        let pairs = |ranges: &Option<Vec<Range<usize>>>| {
            ranges.as_ref().map(|all| all.iter().map(|range| [range.start, range.end]).collect())
        };
        Unit {
            key_head,
            rows: pairs(&selection.rows),
            keys: pairs(&selection.keys),
            times: 1,
            verdict: verdict.outcome.name().to_owned(),
            diagnosis,
            borderline_mask_entries: verdict.ambiguous,
            tensors: verdict
                .tensors
                .iter()
                .map(|tensor| UnitTensor::new(problem, tensor))
                .collect(),
            findings: verdict
                .findings
                .iter()
                .map(|of| UnitFinding {
                    tensor: of.tensor.clone(),
                    rule: of.rule.name().to_owned(),
                    outcome: of.outcome.name().to_owned(),
                    message: of.message.clone(),
                })
                .collect(),
            notes: verdict.notes.clone(),
        }
    }

    /// Its outcome.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        worst(std::iter::once(&*self.verdict))
    }

    /// Whether no element was compared and nothing else was found wrong.
    pub(super) fn judges_nothing(&self) -> bool {
        self.findings.is_empty() && self.tensors.iter().all(|tensor| tensor.elements == 0)
    }

    /// Units in the order of a document.
    fn key(&self) -> (usize, [&Option<Vec<[usize; 2]>>; 2]) {
        (self.key_head, [&self.rows, &self.keys])
    }
}

impl UnitTensor {
    fn new(problem: &Problem<f64>, tensor: &TensorResult) -> Self {
        let value = |of: Option<Value>| of.filter(|of| !of.is_null());
        let finite = |x: f64| x.is_finite().then_some(x);
        let json = serde_json::to_value(tensor).expect("every key is a string");
        let statistics = json.get("statistics").and_then(Value::as_object);
        UnitTensor {
            name: tensor.name.to_owned(),
            shape: crate::candidate::shape_of(problem, tensor.name).unwrap_or_default(),
            outcome: tensor.outcome.name().to_owned(),
            elements: tensor.ratios.len(),
            outside: tensor.outside,
            rows_below_noise: tensor.rows_below_noise,
            rms_error_over_bound: finite(tensor.rms),
            squares: tensor.squares.map(finite),
            worst: value(json.get("worst").cloned()),
            by_stored_o: value(json.get("by_stored_o").cloned()),
            statistics: statistics
                .into_iter()
                .flatten()
                .map(|(name, of)| (name.clone(), of.clone()))
                .collect(),
        }
    }
}

impl Whole {
    /// Of a problem.
    #[must_use]
    pub fn of(problem: &Problem<f64>) -> Self {
        let s = problem.sizes();
        Whole {
            batch: s.batch,
            query_heads: s.query_heads,
            key_heads: s.key_heads,
            queries: s.queries,
            keys: s.keys,
        }
    }

    /// Query heads of a key head.
    pub(super) fn group(&self) -> usize {
        self.query_heads / self.key_heads.max(1)
    }
}

impl Document {
    /// The document of some units; equal units are counted.
    #[must_use]
    pub fn new(header: Header, mut units: Vec<Unit>) -> Self {
        units.sort_by(|a, b| a.key().cmp(&b.key()));
        units.dedup_by(|again, first| {
            let same = again.key() == first.key();
            if same {
                first.times += again.times;
            }
            same
        });
        let Header { case, candidate, recipe, mode, pass, commands, digests, of } = header;
        let outcome = worst(units.iter().map(|unit| &*unit.verdict));
        let said = aggregate::coverage(&of, &units);
        let [digest, of_candidate] = digests;
        Document {
            spec: SPEC.to_owned(),
            verdict: outcome.name().to_owned(),
            exit_code: outcome.exit_code(),
            case,
            candidate,
            recipe,
            mode,
            pass,
            command: commands.iter().cloned().collect::<Vec<_>>().join("; "),
            diagnosis: aggregate::diagnosis(&of, &units),
            borderline_mask_entries: units.iter().map(|unit| unit.borderline_mask_entries).sum(),
            tensors: aggregate::tensors(&units),
            directions: BTreeMap::new(),
            findings: aggregate::findings(&of, &units),
            notes: aggregate::notes(&units),
            part: Part {
                problem: digest,
                candidate: of_candidate,
                of,
                is_whole: said.is_whole,
                judged: said.judged,
                not_judged: said.not_judged,
                overlaps: said.overlaps,
                rules: said.rules,
                rules_left_out: said.rules_left_out,
                commands,
                units,
            },
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// What was expected and found.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(text)
            .map_err(|e| format!("expected a report of check --json: {e}"))?;
        match document.get("spec").and_then(Value::as_str) {
            Some(SPEC) => {}
            found => {
                let found = found
                    .map_or("none".to_owned(), |it| sus_reference::quote::text(it).to_string());
                return Err(format!("spec: expected {SPEC}, found {found}"));
            }
        }
        if document.get("part").is_none() {
            return Err(
                "expected a report of a part, of check with --heads, --rows, --keys or --sample, found one of a whole problem".into(),
            );
        }
        let document: Document = serde_json::from_value(document)
            .map_err(|e| format!("expected a report of check --json: {e}"))?;
        document.expect_legal()?;
        Ok(document)
    }

    /// An error if a unit is none of the problem.
    fn expect_legal(&self) -> Result<(), String> {
        let Part { of, units, .. } = &self.part;
        if units.is_empty() {
            return Err("part: expected at least one unit, found none".into());
        }
        if of.key_heads == 0 || !of.query_heads.is_multiple_of(of.key_heads) {
            return Err("part: expected heads in groups, found others".into());
        }
        for unit in units {
            let within = |pairs: &Option<Vec<[usize; 2]>>, count: usize| {
                let legal = |&[first, end]: &[usize; 2]| first < end && end <= count;
                pairs.as_ref().is_none_or(|pairs| pairs.iter().all(legal))
            };
            let outcome = outcome_of(&unit.verdict);
            let of_tensors = unit.tensors.iter().map(|of| &of.outcome);
            let mut names = of_tensors.chain(unit.findings.iter().map(|of| &of.outcome));
            let legal = unit.key_head < of.key_heads
                && within(&unit.rows, of.queries)
                && within(&unit.keys, of.keys)
                && unit.times > 0
                && outcome.is_some()
                && names.all(|name| outcome_of(name).is_some_and(|it| Some(it) <= outcome));
            if !legal {
                return Err(format!(
                    "part: a unit of key head {} is none of its problem",
                    unit.key_head
                ));
            }
        }
        Ok(())
    }

    fn header(&self) -> Header {
        Header {
            case: self.case.clone(),
            candidate: self.candidate.clone(),
            recipe: self.recipe.clone(),
            mode: self.mode.clone(),
            pass: self.pass.clone(),
            commands: self.part.commands.clone(),
            digests: [self.part.problem.clone(), self.part.candidate.clone()],
            of: self.part.of,
        }
    }

    /// Joins another document of the same problem and candidate.
    ///
    /// # Errors
    /// What differs between the two.
    pub fn join(&self, other: &Document) -> Result<Document, String> {
        let (ours, theirs) = (self.header(), other.header());
        let differ = |what: &str, [a, b]: [&str; 2]| {
            let quoted = |it: &str| sus_reference::quote::text(it).to_string();
            Err(format!(
                "{what}: expected {}, as in the reports before, found {}",
                quoted(a),
                quoted(b)
            ))
        };
        for (what, pair) in [
            ("digest of the problem", [&ours.digests[0], &theirs.digests[0]]),
            ("digest of the candidate", [&ours.digests[1], &theirs.digests[1]]),
            ("recipe", [&ours.recipe, &theirs.recipe]),
            ("mode", [&ours.mode, &theirs.mode]),
            ("pass", [&ours.pass, &theirs.pass]),
        ] {
            if pair[0] != pair[1] {
                return differ(what, pair.map(String::as_str));
            }
        }
        if ours.of != theirs.of {
            return differ("sizes", ["those of one problem", "others"]);
        }
        for unit in &other.part.units {
            let same = self.part.units.iter().find(|it| it.key() == unit.key());
            let counted = same.map(|it| Unit { times: unit.times, ..it.clone() });
            if counted.is_some_and(|it| it != *unit) {
                let key_head = unit.key_head;
                return Err(format!(
                    "key head {key_head}: expected the numbers of the reports before, found others"
                ));
            }
        }
        let commands = ours.commands.union(&theirs.commands).cloned().collect();
        let header = Header {
            case: ours.case.min(theirs.case),
            candidate: ours.candidate.min(theirs.candidate),
            commands,
            ..ours
        };
        let units = [&self.part.units[..], &other.part.units[..]].concat();
        Ok(Document::new(header, units))
    }

    /// The document of the same units: what follows from them is computed again.
    #[must_use]
    pub fn made_again(&self) -> Document {
        Document::new(self.header(), self.part.units.clone())
    }

    /// The exit code of the verdict.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        worst(std::iter::once(&*self.verdict)).exit_code()
    }

    /// The document as one line of JSON, its keys in alphabetical order.
    ///
    /// # Panics
    /// Never: every key is a string.
    #[must_use]
    pub fn json(&self) -> String {
        let value = serde_json::to_value(self).expect("every key is a string");
        format!("{value}\n")
    }
}

/// The digest of a problem and its settings: SHA-256 of the shapes and the numbers of all operands.
#[must_use]
pub fn problem_digest(problem: &Problem<f64>, settings: &Settings) -> String {
    let mut all = format!("{:?} {}", options_without_operands(problem), settings.to_json());
    let mut add = |name: &str, shape: [usize; 4], bytes: &[u8]| {
        let _ = write!(all, " {name} {shape:?} {}", sha256_hex(bytes));
    };
    let Inputs { q, k, v, g, dlse, bias, sink, alibi_slopes, .. } = problem.inputs();
    let mut tensors: Vec<(&str, &Tensor<f64>)> = vec![("q", q), ("k", k), ("v", v), ("do", g)];
    let more = [("dlse", dlse), ("bias", bias), ("alibi_slopes", alibi_slopes)];
    tensors.extend(more.into_iter().filter_map(|(name, x)| Some((name, x.as_ref()?))));
    for (name, x) in tensors {
        add(name, x.shape(), &bytes_of(x.as_slice()));
    }
    if let Some(sink) = sink {
        add("sink", [1, sink.len(), 1, 1], &bytes_of(sink));
    }
    for set in &problem.options().key_sets {
        let (shape, bytes) = match set {
            KeySet::AttnMask(of) => (of.shape, of.seen.to_vec()),
            KeySet::BlockMask(of) => {
                let block = of.block.map(usize::to_le_bytes).concat();
                (of.shape, [&block[..], &of.seen[..]].concat())
            }
            KeySet::Indices(of) => {
                (of.shape(), of.as_slice().iter().flat_map(|x| x.to_le_bytes()).collect())
            }
        };
        add(set.name(), shape, &bytes);
    }
    if let Some(dropout) = &problem.options().dropout {
        add("dropout_mask", dropout.shape, &dropout.kept);
    }
    sha256_hex(all.as_bytes())
}

/// The options that are numbers and lists of lengths; operands have a digest of their own.
fn options_without_operands(problem: &Problem<f64>) -> sus_reference::problem::Options {
    problem.options().clone().with_key_sets(Vec::new()).with_dropout(None)
}

fn bytes_of(x: &[f64]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The digest of a candidate: SHA-256 of the names, the types, the shapes and the numbers of its tensors.
#[must_use]
pub fn candidate_digest(file: &TensorFile) -> String {
    let of = |(name, array): (&String, &sus_files::Array)| {
        format!("{name:?} {:?} {:?} {}\n", array.dtype, array.shape, sha256_hex(&array.to_bytes()))
    };
    let all: String = file.arrays.iter().map(of).collect();
    sha256_hex(all.as_bytes())
}

/// Ranges from their ends.
pub(super) fn ranges_of(pairs: &[[usize; 2]]) -> Vec<Range<usize>> {
    ranges::joined(pairs.iter().map(|&[first, end]| first..end).collect())
}
