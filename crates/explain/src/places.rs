//! Where the wrong elements are: the smallest description as a product of sets along the axes.

use crate::evidence::{Evidence, Output};
use std::collections::{BTreeMap, BTreeSet};
use sus_reference::TensorName;

/// Ranges of a set that are written out.
const RANGES_SHOWN: usize = 3;

/// Groups of heads that are described one by one.
const GROUPS_SHOWN: usize = 2;

/// The names of the axes of a result.
fn axes(name: TensorName) -> [&'static str; 4] {
    let position = match name {
        TensorName::Dk | TensorName::Dv | TensorName::Dkv => "key",
        _ => "query",
    };
    let last = if name == TensorName::Dbias { "key" } else { "feature" };
    ["sequence", "head", position, last]
}

/// A set of indices of an axis in words; empty if it holds all.
///
/// `open` are indices that nothing can be said of: a range may run over them.
fn set(axis: &str, wrong: &BTreeSet<usize>, open: &BTreeSet<usize>, length: usize) -> String {
    let covers = |mut indices: std::ops::Range<usize>| {
        indices.all(|index| wrong.contains(&index) || open.contains(&index))
    };
    if length <= 1 || covers(0..length) {
        return String::new();
    }
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &index in wrong {
        match ranges.last_mut() {
            Some((_, end)) if covers(*end..index) => *end = index + 1,
            _ => ranges.push((index, index + 1)),
        }
    }
    if let Some(period) = period(wrong, length) {
        return period.describe(axis);
    }
    let tail = |end: usize| if end == length && ranges.len() == 1 { ", the last" } else { "" };
    if ranges.len() <= RANGES_SHOWN {
        let words: Vec<String> = ranges
            .iter()
            .map(|&(first, end)| {
                if end - first == 1 { first.to_string() } else { format!("{first} to {}", end - 1) }
            })
            .collect();
        let plural = if wrong.len() == 1 { "" } else { "s" };
        let last = if wrong.len() < length / 2 { tail(ranges[ranges.len() - 1].1) } else { "" };
        return format!("{}{plural} {}{last}", plural_stem(axis, wrong.len()), words.join(", "));
    }
    format!("{} of {length} {}", wrong.len(), plural_of(axis))
}

fn plural_stem(axis: &str, count: usize) -> String {
    if axis == "query" && count != 1 { "querie".into() } else { axis.into() }
}

fn plural_of(axis: &str) -> String {
    format!("{}s", plural_stem(axis, 2))
}

/// Blocks of `width` indices, `step` apart, the first at `first`.
struct Period {
    first: usize,
    width: usize,
    step: usize,
}

/// A set of three or more blocks of the same width that are as far apart as the axis is long.
fn period(wrong: &BTreeSet<usize>, length: usize) -> Option<Period> {
    let indices: Vec<usize> = wrong.iter().copied().collect();
    let first = *indices.first()?;
    let width = (0..indices.len()).take_while(|&n| indices[n] == first + n).count();
    let step = indices.get(width)? - first;
    let expected: BTreeSet<usize> =
        (first..length).filter(|index| (index - first) % step < width).collect();
    let blocks = (length - first).div_ceil(step);
    (first < step && blocks >= 3 && expected == *wrong).then_some(Period { first, width, step })
}

impl Period {
    fn describe(&self, axis: &str) -> String {
        let Period { first, width, step } = *self;
        if width == 1 {
            return format!("every {step}th {axis} from {first}");
        }
        format!("{} {first} to {} of every {step}", plural_of(axis), first + width - 1)
    }
}

/// What the wrong elements hold, if all hold the same.
fn content(output: &Output, wrong: &[usize]) -> Option<String> {
    let all = |test: &dyn Fn(f64) -> bool| wrong.iter().all(|&at| test(output.found[at]));
    let first = output.found[*wrong.first()?];
    if all(&|x| x == 0.0) {
        return Some("all of them exactly 0".into());
    }
    if all(&f64::is_nan) {
        return Some("all of them NaN".into());
    }
    if all(&|x| !x.is_finite()) {
        return Some("all of them NaN or infinite".into());
    }
    if wrong.len() > 1 && all(&|x| x == first) {
        return Some(format!("all of them {first:e}"));
    }
    let nan = wrong.iter().filter(|&&at| !output.found[at].is_finite()).count();
    if nan > 0 {
        return Some(format!("{nan} of them NaN or infinite"));
    }
    let zeros = wrong.iter().filter(|&&at| output.found[at] == 0.0).count();
    (zeros > 0 && 10 * zeros >= 9 * wrong.len())
        .then(|| format!("{zeros} of {} exactly 0", wrong.len()))
}

/// The elements that can not be told from the truth whatever a kernel does: their truth is below the bound.
fn is_open(output: &Output, at: usize) -> bool {
    !output.wrong[at] && output.truth[at].abs() <= output.bound[at]
}

fn index(shape: [usize; 4], at: usize) -> [usize; 4] {
    let (row, d) = (at / shape[3], at % shape[3]);
    let (head, n) = (row / shape[2], row % shape[2]);
    [head / shape[1], head % shape[1], n, d]
}

/// A product of sets, and the part of its decided elements that are wrong.
struct Cover {
    text: String,
    density: f64,
}

/// The product of the axes' projections of some wrong elements of a box of heads.
fn cover(output: &Output, wrong: &[usize], heads: Option<&BTreeSet<(usize, usize)>>) -> Cover {
    let (shape, names) = (output.shape, axes(output.name));
    let mut sets: [BTreeSet<usize>; 4] = std::array::from_fn(|_| BTreeSet::new());
    for &at in wrong {
        for (set, index) in sets.iter_mut().zip(index(shape, at)) {
            set.insert(index);
        }
    }
    let mut decided: [BTreeSet<usize>; 4] = std::array::from_fn(|_| BTreeSet::new());
    let (mut inside, mut hit) = (0_usize, 0_usize);
    for at in 0..output.truth.len() {
        let index = index(shape, at);
        if heads.is_some_and(|heads| !heads.contains(&(index[0], index[1]))) {
            continue;
        }
        if !is_open(output, at) {
            for (set, index) in decided.iter_mut().zip(index) {
                set.insert(index);
            }
            if sets.iter().zip(index).all(|(set, index)| set.contains(&index)) {
                inside += 1;
                hit += usize::from(output.wrong[at]);
            }
        }
    }
    let first = if heads.is_some() { 2 } else { 0 };
    let words: Vec<String> = (first..4)
        .map(|axis| {
            let open = (0..shape[axis]).filter(|index| !decided[axis].contains(index)).collect();
            set(names[axis], &sets[axis], &open, shape[axis])
        })
        .filter(|words| !words.is_empty())
        .collect();
    Cover { text: words.join(", "), density: hit as f64 / inside.max(1) as f64 }
}

/// Where a result is wrong, in words; `None` if no element is outside its bound.
pub(crate) fn place(evidence: &Evidence<'_>, output: &Output) -> Option<String> {
    let wrong: Vec<usize> = (0..output.wrong.len()).filter(|&at| output.wrong[at]).collect();
    if wrong.is_empty() {
        return None;
    }
    let content = content(output, &wrong).map_or_else(String::new, |text| format!(", {text}"));
    if let Some(rows) = rows_without_keys(evidence, output, &wrong) {
        return Some(format!("{rows}{content}; everything else is right"));
    }
    if wrong.len() == 1 && output.wrong.len() > 1 {
        let index = index(output.shape, wrong[0]);
        let shown: Vec<String> = index.iter().map(ToString::to_string).collect();
        return Some(format!("one element, [{}]{content}", shown.join(", ")));
    }
    let whole = cover(output, &wrong, None);
    let mut text = whole.text;
    if whole.density < 0.9 {
        // Heads that are wrong in the same places are described together.
        let mut groups: BTreeMap<String, BTreeSet<(usize, usize)>> = BTreeMap::new();
        let mut by_head: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for &at in &wrong {
            let [b, h, ..] = index(output.shape, at);
            by_head.entry((b, h)).or_default().push(at);
        }
        for (head, wrong) in &by_head {
            let part = cover(output, wrong, Some(&BTreeSet::from([*head])));
            groups.entry(part.text).or_default().insert(*head);
        }
        if groups.len() <= GROUPS_SHOWN {
            let parts: Vec<String> = groups
                .iter()
                .map(|(text, heads)| {
                    let heads = name_heads(output.shape, heads);
                    let parts = [heads.as_str(), text.as_str()];
                    let parts: Vec<&str> =
                        parts.into_iter().filter(|part| !part.is_empty()).collect();
                    parts.join(", ")
                })
                .collect();
            text = parts.join("; ");
        }
    }
    let elements = output.wrong.len();
    let open = (0..elements).filter(|&at| is_open(output, at)).count();
    if text.is_empty() {
        let everywhere = wrong.len() + open >= elements;
        text = if everywhere {
            "every element".into()
        } else {
            format!("{} of {elements} elements, in all parts", wrong.len())
        };
        return Some(format!("{text}{content}"));
    }
    Some(format!("{text}{content}; everything else is right"))
}

/// Heads in words.
fn name_heads(shape: [usize; 4], heads: &BTreeSet<(usize, usize)>) -> String {
    if heads.len() == shape[0] * shape[1] {
        return String::new();
    }
    let (batch, of_batch): (BTreeSet<usize>, BTreeSet<usize>) = heads.iter().copied().unzip();
    let none = BTreeSet::new();
    if heads.len() == batch.len() * of_batch.len() {
        let parts =
            [set("sequence", &batch, &none, shape[0]), set("head", &of_batch, &none, shape[1])];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        return parts.join(", ");
    }
    format!("{} of {} heads", heads.len(), shape[0] * shape[1])
}

/// Says that the wrong rows are those that see no key, if they are.
fn rows_without_keys(evidence: &Evidence<'_>, output: &Output, wrong: &[usize]) -> Option<String> {
    let of_rows = matches!(output.name, TensorName::O | TensorName::Lse | TensorName::Dq);
    let problem = evidence.problem;
    if !of_rows || problem.inputs().sink.is_some() {
        return None;
    }
    let rows: BTreeSet<usize> = wrong.iter().map(|at| at / output.shape[3]).collect();
    let empty: BTreeSet<usize> =
        (0..problem.row_count()).filter(|&at| problem.visible_keys(problem.row(at)) == 0).collect();
    (rows == empty).then(|| {
        format!("exactly the rows that see no key, {} of {}", rows.len(), problem.row_count())
    })
}
