//! Entries that take no part in a sum, or take part twice: found row by row, without a list of suspects.
//!
//! The deviation of a row of `dq` is held against the sum of its terms over every range of keys; that of a row of `dk` or `dv`
//! against every range of the rows that see the key. Prefix sums `P` give all ranges at once: `|d - s (P_b - P_a)|^2` needs the
//! products `P_a . P_b` and `d . P_a` alone.

use crate::cause::{Cause, Kind};
use crate::evidence::{Evidence, Output};
use crate::fit::fit;
use crate::kernel::{Machine, dot};
use std::collections::BTreeSet;
use sus_reference::TensorName;

/// Rows of a result from which the range is read; the whole result decides.
const LOOKED_AT: usize = 12;

/// Terms of a row up to which every range is tried; of longer rows, the ends are multiples of a block.
const ENDS: usize = 512;

/// The terms of one row of a result: the position of each, and its vector.
struct Terms {
    /// The row of the result.
    at: usize,
    /// Keys of a row, or places of the rows that see a key.
    places: Vec<usize>,
    vectors: Vec<Vec<f64>>,
}

/// A range of terms that is missing, or added once more.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    first: usize,
    end: usize,
    /// Whether the range starts or ends where the row does.
    from_start: bool,
    to_end: bool,
    sign: f64,
}

/// Reads off which entries are lost or counted twice in one result.
pub(crate) fn of_output(
    evidence: &Evidence<'_>,
    machine: &Machine<'_>,
    output: &Output,
) -> Option<Cause> {
    let width = output.shape[3];
    let by_keys = match output.name {
        TensorName::Dq => false,
        TensorName::Dk | TensorName::Dv => true,
        _ => return None,
    };
    let wrong: Vec<usize> = (0..output.truth.len() / width)
        .filter(|at| output.wrong[at * width..(at + 1) * width].iter().any(|&wrong| wrong))
        .collect();
    if wrong.is_empty() || width < 2 {
        return None;
    }
    // The rows with the largest deviations show the range best.
    let mut order = wrong.clone();
    let size = |at: usize| -> f64 {
        (at * width..(at + 1) * width)
            .map(|n| ((output.found[n] - output.truth[n]) / output.bound[n].max(1e-300)).powi(2))
            .sum()
    };
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
    let step = order.len().div_ceil(LOOKED_AT).max(1);
    let some: Vec<usize> = order.iter().copied().step_by(step).take(LOOKED_AT).collect();
    let terms = terms(evidence, machine, output.name, &some);
    let found: Vec<Found> =
        terms.iter().map(|terms| range(output, terms)).collect::<Option<_>>()?;
    let sign = found[0].sign;
    if found.iter().any(|of| of.sign != sign) {
        return None;
    }
    let joined = join(&found, &terms)?;
    check(evidence, machine, output, (&wrong, by_keys), (joined, sign))
}

/// The terms of some rows of a result.
fn terms(
    evidence: &Evidence<'_>,
    machine: &Machine<'_>,
    name: TensorName,
    some: &[usize],
) -> Vec<Terms> {
    let p = evidence.problem;
    let scaled = |factor: f64, x: &[f64]| x.iter().map(|x| factor * x).collect::<Vec<f64>>();
    if name == TensorName::Dq {
        let of_rows = machine.terms_of_rows(some);
        let of = |(&at, of_row): (&usize, Vec<(usize, f64)>)| {
            let row = p.row(at);
            Terms {
                at,
                places: of_row.iter().map(|of| of.0).collect(),
                vectors: of_row.iter().map(|&(j, z)| scaled(z, p.k(row, j))).collect(),
            }
        };
        return some.iter().zip(of_rows).map(of).collect();
    }
    let of_keys = machine.terms_of_keys(some);
    let of = |(&at, of_key): (&usize, Vec<(usize, f64, f64)>)| Terms {
        at,
        places: of_key.iter().map(|of| group_place(evidence, of.0)).collect(),
        vectors: of_key
            .iter()
            .map(|&(number, z, w)| {
                let row = p.row(number);
                if name == TensorName::Dk { scaled(z, p.q(row)) } else { scaled(w, p.g(row)) }
            })
            .collect(),
    };
    some.iter().zip(of_keys).map(of).collect()
}

/// The place of a row among those of its group: all key heads number them alike.
fn group_place(evidence: &Evidence<'_>, number: usize) -> usize {
    let p = evidence.problem;
    let row = p.row(number);
    row.h % p.group() * p.sizes().queries + row.i
}

/// The shortest range of terms whose loss or repetition is the deviation of a row.
fn range(output: &Output, terms: &Terms) -> Option<Found> {
    let width = output.shape[3];
    let elements = terms.at * width..(terms.at + 1) * width;
    let deviation: Vec<f64> = elements.clone().map(|n| output.found[n] - output.truth[n]).collect();
    if terms.vectors.is_empty() || deviation.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let n = terms.vectors.len();
    let block = n.div_ceil(ENDS);
    // Sums of the terms before each end.
    let mut ends = vec![0];
    let mut prefix = vec![vec![0.0; width]];
    let mut sum = vec![0.0; width];
    for (at, vector) in terms.vectors.iter().enumerate() {
        for (s, x) in sum.iter_mut().zip(vector) {
            *s += x;
        }
        if (at + 1) % block == 0 || at + 1 == n {
            ends.push(at + 1);
            prefix.push(sum.clone());
        }
    }
    let squares: Vec<f64> = prefix.iter().map(|p| dot(p, p)).collect();
    let along: Vec<f64> = prefix.iter().map(|p| dot(p, &deviation)).collect();
    let size = dot(&deviation, &deviation);
    let mut best: Option<(f64, usize, usize, f64)> = None;
    for a in 0..prefix.len() {
        for b in a + 1..prefix.len() {
            let norm = squares[a] + squares[b] - 2.0 * dot(&prefix[a], &prefix[b]);
            let inner = along[b] - along[a];
            for sign in [-1.0, 1.0] {
                let left = size + norm - 2.0 * sign * inner;
                if best.is_none_or(|best| left < best.0) {
                    best = Some((left, a, b, sign));
                }
            }
        }
    }
    let (_, a, b, sign) = best?;
    let supposed: Vec<f64> = elements
        .clone()
        .enumerate()
        .map(|(d, n)| output.truth[n] + sign * (prefix[b][d] - prefix[a][d]))
        .collect();
    let elements: Vec<usize> = elements.collect();
    let fit = fit(output, &elements, &supposed);
    (fit.most <= 1.0).then(|| Found {
        first: terms.places[ends[a]],
        end: terms.places[ends[b] - 1] + 1,
        from_start: ends[a] == 0,
        to_end: ends[b] == n,
        sign,
    })
}

/// A range that is the same for all rows, or moves with them.
#[derive(Debug, Clone, Copy)]
enum Joined {
    Fixed {
        first: Option<usize>,
        end: Option<usize>,
    },
    /// Keys from `i + first` to `i + end`, of row `i`.
    Diagonal {
        first: i64,
        end: i64,
    },
}

/// One range for all rows that were looked at. A range that starts or ends where its row does may belong to a longer one.
fn join(found: &[Found], terms: &[Terms]) -> Option<Joined> {
    let firsts: BTreeSet<usize> =
        found.iter().filter(|of| !of.from_start).map(|of| of.first).collect();
    let ends: BTreeSet<usize> = found.iter().filter(|of| !of.to_end).map(|of| of.end).collect();
    if firsts.len() <= 1 && ends.len() <= 1 {
        let (first, end) = (firsts.first().copied(), ends.first().copied());
        let holds = |of: &Found| {
            first.is_none_or(|first| of.first >= first) && end.is_none_or(|end| of.end <= end)
        };
        if found.iter().all(holds) && (first.is_some() || end.is_some()) {
            return Some(Joined::Fixed { first, end });
        }
    }
    let relative = |of: &Found, terms: &Terms| {
        let at = terms.at as i64;
        (of.first as i64 - at, of.end as i64 - at)
    };
    let first = relative(&found[0], &terms[0]);
    let same = found.iter().zip(terms).all(|(of, terms)| relative(of, terms) == first);
    (same && found.len() > 1).then_some(Joined::Diagonal { first: first.0, end: first.1 })
}

/// Checks the range on the whole result.
fn check(
    evidence: &Evidence<'_>,
    machine: &Machine<'_>,
    output: &Output,
    (wrong, by_keys): (&[usize], bool),
    (joined, sign): (Joined, f64),
) -> Option<Cause> {
    let width = output.shape[3];
    let mut supposed = output.truth.clone();
    let inside = |at: usize, place: usize| match joined {
        Joined::Fixed { first, end } => {
            first.is_none_or(|first| place >= first) && end.is_none_or(|end| place < end)
        }
        Joined::Diagonal { first, end } => {
            let offset = place as i64 - at as i64;
            offset >= first && offset < end
        }
    };
    for of in terms(evidence, machine, output.name, wrong) {
        for (&place, vector) in of.places.iter().zip(&of.vectors) {
            if inside(of.at, place) {
                for (x, term) in supposed[of.at * width..].iter_mut().zip(vector) {
                    *x += sign * term;
                }
            }
        }
    }
    let all: Vec<usize> = (0..output.truth.len()).collect();
    let fit = fit(output, &all, &supposed);
    fit.is_cause().then(|| Cause {
        tensors: vec![output.name],
        kind: Kind::Entries,
        text: describe(evidence, output.name, by_keys, (joined, sign)),
        is_cause: true,
        left_over_bound: fit.most,
        unexplained: fit.left,
        tied: Vec::new(),
    })
}

fn describe(
    evidence: &Evidence<'_>,
    name: TensorName,
    by_keys: bool,
    (joined, sign): (Joined, f64),
) -> String {
    let p = evidence.problem;
    let done = if sign < 0.0 { "is lost" } else { "is added twice" };
    let rows = p.group() * p.sizes().queries;
    let length = if by_keys { rows } else { p.sizes().keys };
    let part = match joined {
        Joined::Diagonal { first, end } => {
            // Rows of one head are numbered like its queries up to a multiple of their number.
            let queries = p.sizes().queries as i64;
            let shift = if by_keys { 0 } else { first.div_euclid(queries) * queries };
            let (first, end) = (first - shift, end - shift);
            if end - first == 1 {
                format!("the entry at {first:+} from the row's own number")
            } else {
                format!("the entries at {first:+} to {:+} from the row's own number", end - 1)
            }
        }
        Joined::Fixed { first, end } => {
            let (first, end) = (first.unwrap_or(0), end.unwrap_or(length));
            if by_keys { rows_in_words(evidence, first, end) } else { span("key", first, end) }
        }
    };
    let place = if by_keys { "the wrong keys" } else { "the wrong rows" };
    format!("{name}: the part of {part} {done} in {place}")
}

fn span(word: &str, first: usize, end: usize) -> String {
    let plural = if word == "query" { "queries" } else { "keys" };
    if end - first == 1 {
        format!("{word} {first}")
    } else {
        format!("{plural} {first} to {}", end - 1)
    }
}

/// A range of places in a group in words.
fn rows_in_words(evidence: &Evidence<'_>, first: usize, end: usize) -> String {
    let p = evidence.problem;
    let queries = p.sizes().queries;
    let of = |place: usize| (place / queries, place % queries);
    let ((head, i), (last, last_i)) = (of(first), of(end - 1));
    if head != last {
        return format!(
            "the queries from {i} of the group's head {head} to {last_i} of its head {last}"
        );
    }
    let of = span("query", i, last_i + 1);
    match (p.group() > 1, end - first == queries) {
        (true, true) => format!("the group's query head {head}"),
        (true, false) => format!("{of} of the group's query head {head}"),
        (false, _) => of,
    }
}
