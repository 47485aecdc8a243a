//! What follows from the units of a document: the tensors together, and what was judged.

use super::document::{Unit, UnitFinding, UnitTensor, Whole, ranges_of, worst};
use super::ranges::{gaps, joined, words};
use crate::Outcome;
use crate::candidate::RESULTS;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A number of a document; absent or `null` is one that is not finite.
fn number(of: &Value, key: &str) -> f64 {
    of.get(key).and_then(Value::as_f64).unwrap_or(f64::INFINITY)
}

/// `|found| / limit`, as [`SetResult::ratio`](crate::SetResult::ratio).
fn ratio(set: &Value) -> f64 {
    let found = number(set, "found");
    if found == 0.0 { 0.0 } else { found.abs() / number(set, "limit") }
}

/// The first of the largest.
fn largest<'a>(
    values: impl Iterator<Item = &'a Value>,
    of: impl Fn(&Value) -> f64,
) -> Option<&'a Value> {
    values.fold(None, |best: Option<&Value>, next| match best {
        Some(best) if of(next) <= of(best) => Some(best),
        _ => Some(next),
    })
}

/// Each result over all units that have it, with the keys of a [`TensorResult`](crate::TensorResult).
pub(super) fn tensors(units: &[Unit]) -> Vec<Value> {
    let of = |name: &&str| {
        let parts = units.iter().flat_map(|unit| unit.tensors.iter().filter(|of| of.name == *name));
        let parts: Vec<&UnitTensor> = parts.collect();
        let first = parts.first()?;
        let sum = |of: fn(&UnitTensor) -> usize| parts.iter().map(|part| of(part)).sum::<usize>();
        let elements = sum(|of| of.elements);
        let squares = parts.iter().map(|part| {
            let rms = part.rms_error_over_bound.unwrap_or(f64::INFINITY);
            rms * rms * part.elements as f64
        });
        let rms = libm::sqrt(squares.sum::<f64>() / elements.max(1) as f64);
        let total = |at: usize| {
            parts.iter().map(|part| part.squares[at].unwrap_or(f64::INFINITY)).sum::<f64>()
        };
        let (bound, truth) = (total(0), total(1));
        let width = if truth > 0.0 { libm::sqrt(bound / truth) } else { f64::INFINITY };
        let mut all = Map::new();
        let by_ratio = |of: &Value| number(of, "error_over_bound");
        let worst_of = |values: fn(&UnitTensor) -> &Option<Value>| {
            largest(parts.iter().filter_map(|part| values(part).as_ref()), by_ratio).cloned()
        };
        all.insert("name".into(), json!(name));
        all.insert("shape".into(), json!(first.shape));
        all.insert("outcome".into(), json!(worst(parts.iter().map(|part| &*part.outcome)).name()));
        all.insert("worst".into(), worst_of(|of| &of.worst).unwrap_or(Value::Null));
        if let Some(by_stored_o) = worst_of(|of| &of.by_stored_o) {
            all.insert("by_stored_o".into(), by_stored_o);
        }
        all.insert("outside".into(), json!(sum(|of| of.outside)));
        all.insert("rms_error_over_bound".into(), json!(rms));
        all.insert("bound_over_truth".into(), json!(width));
        all.insert("rows_below_noise".into(), json!(sum(|of| of.rows_below_noise)));
        all.insert("statistics".into(), statistics(&parts));
        all.insert("judged_elements".into(), json!(elements));
        Some(Value::Object(all))
    };
    RESULTS.iter().filter_map(of).collect()
}

/// Of each statistic the sets that are nearest to their limits, or furthest beyond them.
fn statistics(parts: &[&UnitTensor]) -> Value {
    let mut names: BTreeMap<&String, Vec<&Value>> = BTreeMap::new();
    for (name, of) in parts.iter().flat_map(|part| &part.statistics) {
        names.entry(name).or_default().push(of);
    }
    let one = |(name, all): (&String, Vec<&Value>)| {
        let sets = ["head", "row", "tensor"].into_iter().filter_map(|set| {
            let found = largest(all.iter().filter_map(|of| of.get(set)), ratio)?;
            Some((set.to_owned(), found.clone()))
        });
        (name.clone(), Value::Object(sets.collect()))
    };
    Value::Object(names.into_iter().map(one).collect())
}

/// The query heads of a key head.
fn heads_of(of: &Whole, key_head: usize) -> Range<usize> {
    key_head * of.group()..(key_head + 1) * of.group()
}

/// Heads in words.
fn in_words(heads: Vec<Range<usize>>) -> String {
    let heads = joined(heads);
    let count: usize = heads.iter().map(Range::len).sum();
    format!("{} {}", if count == 1 { "head" } else { "heads" }, words(&heads))
}

/// The findings of all units; each once, and with its heads.
pub(super) fn findings(of: &Whole, units: &[Unit]) -> Vec<UnitFinding> {
    let mut all: Vec<UnitFinding> = Vec::new();
    for unit in units {
        for finding in &unit.findings {
            let heads = in_words(vec![heads_of(of, unit.key_head)]);
            let message = format!("{heads}: {}", finding.message);
            let finding = UnitFinding { message, ..finding.clone() };
            if !all.contains(&finding) {
                all.push(finding);
            }
        }
    }
    all
}

/// The notes of all units, each once.
pub(super) fn notes(units: &[Unit]) -> Vec<String> {
    let all: BTreeSet<&String> = units.iter().flat_map(|unit| &unit.notes).collect();
    all.into_iter().cloned().collect()
}

/// What explains the units that failed: the same words once.
pub(super) fn diagnosis(of: &Whole, units: &[Unit]) -> Option<String> {
    let failed = units.iter().filter(|unit| unit.verdict == Outcome::Fail.name());
    let mut said: Vec<(&str, Vec<Range<usize>>)> = Vec::new();
    for unit in failed {
        let Some(why) = &unit.diagnosis else { continue };
        let heads = heads_of(of, unit.key_head);
        match said.iter_mut().find(|(other, _)| other == why) {
            Some((_, all)) => all.push(heads),
            None => said.push((why, vec![heads])),
        }
    }
    if said.is_empty() {
        return None;
    }
    let one = |(why, heads): (&str, Vec<Range<usize>>)| format!("{}: {why}", in_words(heads));
    Some(said.into_iter().map(one).collect::<Vec<_>>().join(". "))
}

/// What was judged, and what was not.
pub(super) struct Coverage {
    pub(super) is_whole: bool,
    pub(super) judged: Vec<String>,
    pub(super) not_judged: Vec<String>,
    pub(super) overlaps: Vec<String>,
    pub(super) rules: Vec<String>,
    pub(super) rules_left_out: Vec<String>,
}

/// Which rows and which keys of a key head were judged, each with how often.
#[derive(Default)]
struct Judged {
    rows: Vec<(Range<usize>, usize)>,
    keys: Vec<(Range<usize>, usize)>,
    is_whole: bool,
}

pub(super) fn coverage(of: &Whole, units: &[Unit]) -> Coverage {
    let mut heads: BTreeMap<usize, Judged> = BTreeMap::new();
    for unit in units {
        let head = heads.entry(unit.key_head).or_default();
        let whole = unit.rows.is_none() && unit.keys.is_none();
        head.is_whole |= whole;
        let all = |pairs: &Option<Vec<[usize; 2]>>, count: usize| match pairs {
            Some(pairs) => ranges_of(pairs),
            None if whole && count > 0 => std::iter::once(0..count).collect(),
            None => Vec::new(),
        };
        head.rows.extend(all(&unit.rows, of.queries).into_iter().map(|range| (range, unit.times)));
        head.keys.extend(all(&unit.keys, of.keys).into_iter().map(|range| (range, unit.times)));
    }
    // Heads of which the same is judged are said together.
    let mut judged: Vec<(String, Vec<Range<usize>>)> = Vec::new();
    let mut open: Vec<(String, Vec<Range<usize>>)> = Vec::new();
    let mut twice: Vec<(String, Vec<Range<usize>>)> = Vec::new();
    let add =
        |list: &mut Vec<(String, Vec<Range<usize>>)>, what: String, heads: Range<usize>| match list
            .iter_mut()
            .find(|(other, _)| *other == what)
        {
            Some((_, all)) => all.push(heads),
            None => list.push((what, vec![heads])),
        };
    for (&key_head, head) in &heads {
        let numbers = heads_of(of, key_head);
        let only = |all: &[(Range<usize>, usize)]| {
            joined(all.iter().map(|(range, _)| range.clone()).collect())
        };
        let (rows, keys) = (only(&head.rows), only(&head.keys));
        let (left_rows, left_keys) = (gaps(0..of.queries, &rows), gaps(0..of.keys, &keys));
        // Many gaps are counted.
        let left = |all: &[Range<usize>]| match all.len() {
            0..=4 => words(all),
            _ => format!("the other {}", all.iter().map(Range::len).sum::<usize>()),
        };
        let list = |parts: [(&str, &[Range<usize>]); 2]| {
            let said = parts.into_iter().filter(|(_, ranges)| !ranges.is_empty());
            said.map(|(what, ranges)| format!("{what} {}", words(ranges)))
                .collect::<Vec<_>>()
                .join("; ")
        };
        if head.is_whole {
            add(&mut judged, "whole".into(), numbers.clone());
        } else {
            let said = list([("o, lse, dq of rows", &rows), ("dk, dv of keys", &keys)]);
            add(&mut judged, said, numbers.clone());
            let open_parts = [("rows", left(&left_rows)), ("keys", left(&left_keys))];
            let said = open_parts.into_iter().filter(|(_, it)| !it.is_empty());
            let said: Vec<String> = said.map(|(what, it)| format!("{what} {it}")).collect();
            if !said.is_empty() {
                add(&mut open, said.join("; "), numbers.clone());
            }
        }
        let again = list([("rows", &repeated(&head.rows)), ("keys", &repeated(&head.keys))]);
        if !again.is_empty() {
            add(&mut twice, again, numbers);
        }
    }
    let known: Vec<usize> = heads.keys().copied().collect();
    let missing = gaps(0..of.key_heads, &super::ranges::of_numbers(&known));
    for head in missing {
        let numbers = head.start * of.group()..head.end * of.group();
        add(&mut open, "nothing of them was judged".into(), numbers);
    }
    let said = |list: Vec<(String, Vec<Range<usize>>)>| {
        let one = |(what, heads): (String, Vec<Range<usize>>)| {
            format!("{} of {}: {what}", in_words(heads), of.query_heads)
        };
        list.into_iter().map(one).collect::<Vec<_>>()
    };
    let is_whole = open.is_empty() && heads.values().all(|head| head.is_whole);
    let [rules, rules_left_out] = rules(units);
    Coverage {
        is_whole,
        judged: said(judged),
        not_judged: said(open),
        overlaps: said(twice),
        rules,
        rules_left_out,
    }
}

/// The numbers that are in several of these ranges, or in one that counts several times.
fn repeated(all: &[(Range<usize>, usize)]) -> Vec<Range<usize>> {
    let mut steps: BTreeMap<usize, i64> = BTreeMap::new();
    for (range, times) in all {
        *steps.entry(range.start).or_default() += *times as i64;
        *steps.entry(range.end).or_default() -= *times as i64;
    }
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (&at, &step) in &steps {
        if depth > 1 {
            found.push(start..at);
        }
        depth += step;
        start = at;
    }
    joined(found)
}

/// The rules that were applied to some unit, and those that were left out, with the reason.
fn rules(units: &[Unit]) -> [Vec<String>; 2] {
    let is_whole = |unit: &&Unit| unit.rows.is_none() && unit.keys.is_none();
    let whole = units.iter().any(|unit| is_whole(&unit));
    let part = units.iter().any(|unit| !is_whole(&unit));
    let mut applied = vec!["bound, not-a-number, unwritten, zero, constant, vacuous: every element that was judged, at the rate of false alarms of the whole problem".to_owned()];
    let mut left_out = Vec::new();
    if whole {
        applied.push("mean, slope, rms, rounded, stored-o and the rules of masks and runs: of whole heads, where the notes do not say otherwise, each key head with its share of the rate of false alarms".to_owned());
    }
    if part {
        left_out.push(
            "mean, slope, rms, rounded, stored-o: of heads of which only rows or keys were judged"
                .to_owned(),
        );
        left_out.push("dbias, dsink, dslopes: of heads of which only rows or keys were judged, as sums over all rows".to_owned());
    }
    left_out.push(
        "direction, and mean, slope and rms of the tensor: they are sums over all heads".to_owned(),
    );
    [applied, left_out]
}
