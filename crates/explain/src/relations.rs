//! Relations between a result and the truth that are read off the numbers: no pass is computed.

use crate::cause::{Cause, Kind};
use crate::evidence::{Evidence, Output};
use crate::fit::{factor, fit_within};
use crate::kernel::dot;
use crate::maps::{flat, index, maps, memory_orders, row_maps};
use crate::numbers::describe;
use std::collections::BTreeSet;
use sus_reference::TensorName;

/// Products up to which every row of a result is held against every row of the truth.
const LARGEST_MATCH: usize = 1 << 26;

/// Elements up to which all maps of a result are tried on all elements; beyond, a sample decides first.
const SAMPLE: usize = 1 << 12;

/// The fewest numbers of which a factor is read.
const FEWEST: usize = 4;

/// The factors that are tried on fewer numbers.
const SIMPLE: [f64; 4] = [-1.0, 0.0, 2.0, 0.5];

/// The name of the rows of a result.
pub(crate) fn row_word(name: TensorName) -> &'static str {
    if matches!(name, TensorName::Dk | TensorName::Dv | TensorName::Dkv) { "key" } else { "query" }
}

/// A relation in words with its numbers, if `supposed` is what the candidate has.
fn relation(
    output: &Output,
    elements: &[usize],
    supposed: &[f64],
    text: impl FnOnce() -> String,
) -> Option<Cause> {
    relation_within(output, elements, supposed, |_| 0.0, text)
}

/// [`relation`] where the supposed numbers have bounds of their own, from elsewhere.
fn relation_within(
    output: &Output,
    elements: &[usize],
    supposed: &[f64],
    bound_of: impl Fn(usize) -> f64,
    text: impl FnOnce() -> String,
) -> Option<Cause> {
    let fit = fit_within(output, elements, supposed, bound_of);
    (fit.is_cause()).then(|| Cause {
        tensors: vec![output.name],
        kind: Kind::Relation,
        text: text(),
        is_cause: true,
        left_over_bound: fit.most,
        unexplained: fit.left,
        tied: Vec::new(),
    })
}

/// Some elements, evenly spread, and all of the wrong ones among the first.
fn sample_of(output: &Output) -> Vec<usize> {
    let n = output.truth.len();
    let step = n.div_ceil(SAMPLE / 2).max(1);
    let wrong = (0..n).filter(|&at| output.wrong[at]);
    let count = output.wrong.iter().filter(|&&wrong| wrong).count();
    let wrong = wrong.step_by(count.div_ceil(SAMPLE / 2).max(1));
    let all: BTreeSet<usize> = (0..n).step_by(step).chain(wrong).collect();
    all.into_iter().collect()
}

/// The relation that explains one failed result.
pub(crate) fn of_output(evidence: &Evidence<'_>, output: &Output) -> Option<Cause> {
    multiple(evidence, output)
        .or_else(|| exchanged(evidence, output))
        .or_else(|| offset(output))
        .or_else(|| elsewhere(evidence, output))
        .or_else(|| rows_permuted(output))
        .or_else(|| reduced(output))
        .or_else(|| blank(output))
        .or_else(|| fewer_bits(output))
}

/// Fewer bits than those of the truth: cut towards zero, or rounded.
fn fewer_bits(output: &Output) -> Option<Cause> {
    let all: Vec<usize> = (0..output.truth.len()).collect();
    for (format, bits) in [("bf16", 8), ("11 bits", 11), ("4 bits", 4), ("3 bits", 3)] {
        for (how, cut) in [("cut", true), ("rounded", false)] {
            let store = |x: &f64| {
                if *x == 0.0 || !x.is_finite() {
                    return *x;
                }
                let (_, exponent) = libm::frexp(*x);
                let scaled = libm::ldexp(*x, bits - exponent);
                let scaled = if cut { libm::trunc(scaled) } else { libm::rint(scaled) };
                libm::ldexp(scaled, exponent - bits)
            };
            // All candidates of a narrower format hold such numbers.
            if !output.found.iter().all(|x| store(x) == *x) {
                continue;
            }
            let supposed: Vec<f64> = output.truth.iter().map(store).collect();
            let found = relation(output, &all, &supposed, || {
                format!("{} is the truth {how} to {format}", output.name)
            });
            if found.is_some() {
                return found.map(|cause| Cause { kind: Kind::Rounding, ..cause });
            }
        }
    }
    None
}

/// A multiple of the truth, everywhere or in the wrong rows.
fn multiple(evidence: &Evidence<'_>, output: &Output) -> Option<Cause> {
    let all: Vec<usize> = (0..output.truth.len()).collect();
    let width = output.shape[3];
    let wrong_rows: BTreeSet<usize> =
        all.iter().filter(|&&at| output.wrong[at]).map(|at| at / width).collect();
    let rows = output.shape[2];
    let wrong_heads: BTreeSet<usize> = wrong_rows.iter().map(|row| row / rows).collect();
    let wrong_features: BTreeSet<usize> =
        all.iter().filter(|&&at| output.wrong[at]).map(|at| at % width).collect();
    let in_heads = |at: &usize| wrong_heads.contains(&(at / width / rows));
    let in_rows = |at: &usize| wrong_rows.contains(&(at / width));
    let in_features = |at: &usize| wrong_features.contains(&(at % width)) && in_heads(at);
    let selections: [Vec<usize>; 4] = [
        all.clone(),
        all.iter().copied().filter(in_heads).collect(),
        all.iter().copied().filter(in_rows).collect(),
        all.iter().copied().filter(in_features).collect(),
    ];
    for selected in &selections {
        let taken: Vec<f64> = selected.iter().map(|&at| output.truth[at]).collect();
        let Some((mut f, sigma)) = factor(output, selected, &taken) else { continue };
        if selected.len() < FEWEST {
            // So few numbers are a multiple of any others.
            let Some(simple) = SIMPLE.into_iter().find(|x| (f - x).abs() < 0.02) else { continue };
            f = simple;
        }
        let mut supposed = output.truth.clone();
        for &at in selected {
            supposed[at] *= f;
        }
        let name = output.name;
        let found = relation(output, &all, &supposed, || {
            let place = if selected.len() < all.len() { " where it is wrong" } else { "" };
            let number = describe(evidence.problem, f, sigma);
            if number == "the other sign" {
                format!("{name} has the other sign{place}")
            } else if f.abs() < 1e-6 {
                format!("{name} is zero{place}")
            } else {
                format!("{name} is {number} times the truth{place}")
            }
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A tensor in words, its numbers, and their bounds if it is a result.
type Other<'a> = (String, &'a [f64], Option<&'a [f64]>);

/// The other results and operands of the same shape.
fn others<'a>(evidence: &'a Evidence<'_>, output: &Output) -> Vec<Other<'a>> {
    let inputs = evidence.problem.inputs();
    let mut others: Vec<([usize; 4], Other<'a>)> = evidence
        .outputs
        .iter()
        .filter(|other| other.name != output.name)
        .map(|other| {
            let bound = Some(other.bound.as_slice());
            (other.shape, (format!("the true {}", other.name), other.truth.as_slice(), bound))
        })
        .collect();
    for (name, tensor) in [("q", &inputs.q), ("k", &inputs.k), ("v", &inputs.v), ("do", &inputs.g)]
    {
        let other = (format!("the input {name}"), tensor.as_slice(), None);
        others.push((tensor.shape(), other));
    }
    others.retain(|(shape, _)| *shape == output.shape);
    others.into_iter().map(|(_, other)| other).collect()
}

/// Another result, or a multiple of it.
fn exchanged(evidence: &Evidence<'_>, output: &Output) -> Option<Cause> {
    let all: Vec<usize> = (0..output.truth.len()).collect();
    for (name, data, bound) in others(evidence, output) {
        let bound_of = |at: usize| bound.map_or(0.0, |bound| bound[at]);
        let text = || format!("{} holds {name}", output.name);
        let found = relation_within(output, &all, data, bound_of, text);
        if found.is_some() {
            return found;
        }
        let Some((f, sigma)) = factor(output, &all, data) else { continue };
        let supposed: Vec<f64> = data.iter().map(|x| f * x).collect();
        let found = relation_within(
            output,
            &all,
            &supposed,
            |at| f.abs() * bound_of(at),
            || {
                let number = describe(evidence.problem, f, sigma);
                format!("{} holds {name} times {number}", output.name)
            },
        );
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The truth plus a constant: of `lse`, a maximum or a logarithm that is left out.
fn offset(output: &Output) -> Option<Cause> {
    let finite = |at: &usize| output.truth[*at].is_finite() && output.found[*at].is_finite();
    let all: Vec<usize> = (0..output.truth.len()).collect();
    let counted: Vec<usize> = all.iter().copied().filter(finite).collect();
    let n = counted.len();
    if n < 4 {
        return None;
    }
    let sum: f64 = counted.iter().map(|&at| output.found[at] - output.truth[at]).sum();
    let mean = sum / n as f64;
    let supposed: Vec<f64> = output.truth.iter().map(|t| t + mean).collect();
    relation(output, &all, &supposed, || format!("{} is the truth plus {mean:.6}", output.name))
}

/// The truth, or another result, with rows or features from elsewhere or in another order.
fn elsewhere(evidence: &Evidence<'_>, output: &Output) -> Option<Cause> {
    let some = sample_of(output);
    let all: Vec<usize> = (0..output.truth.len()).collect();
    let own = [(String::new(), output.truth.as_slice(), Some(output.bound.as_slice()))];
    for (name, data, bound) in own.into_iter().chain(others(evidence, output)) {
        let tried = if name.is_empty() {
            maps(output.shape, row_word(output.name))
        } else {
            let mut tried = memory_orders(output.shape);
            tried.extend(row_maps(output.shape, row_word(output.name)));
            tried
        };
        for map in tried {
            let bound_of = |at: usize| {
                let from = (map.from)(index(output.shape, at));
                from.zip(bound).map_or(0.0, |(from, bound)| bound[flat(output.shape, from)])
            };
            let at_some = map.at(output.shape, data, &some);
            if !fit_within(output, &some, &at_some, bound_of).is_cause() {
                continue;
            }
            let supposed = map.all(output.shape, data);
            let found = relation_within(output, &all, &supposed, bound_of, || {
                let of = if name.is_empty() { "the truth" } else { name.as_str() };
                format!("{} is {of} {}", output.name, map.text)
            });
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// Wrong rows that are other rows of the truth.
fn rows_permuted(output: &Output) -> Option<Cause> {
    let width = output.shape[3];
    let rows = output.truth.len() / width.max(1);
    if width < 2 || rows < 2 {
        return None;
    }
    let row = |data: &[f64], at: usize| -> Vec<f64> { data[at * width..(at + 1) * width].to_vec() };
    let wrong: Vec<usize> = (0..rows)
        .filter(|at| output.wrong[at * width..(at + 1) * width].iter().any(|&wrong| wrong))
        .collect();
    if wrong.is_empty() || wrong.len() * rows * width > LARGEST_MATCH {
        return None;
    }
    let norms: Vec<f64> = (0..rows)
        .map(|at| {
            let x = row(&output.truth, at);
            dot(&x, &x)
        })
        .collect();
    let mut supposed = output.truth.clone();
    let mut bounds = output.bound.clone();
    let mut from = Vec::new();
    for &at in &wrong {
        let x = row(&output.found, at);
        if x.iter().any(|x| !x.is_finite()) {
            return None;
        }
        // |x - t|^2 up to |x|^2.
        let distance = |other: &usize| {
            norms[*other] - 2.0 * dot(&x, &output.truth[other * width..(other + 1) * width])
        };
        let best = (0..rows).min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        supposed[at * width..(at + 1) * width].copy_from_slice(&row(&output.truth, best));
        bounds[at * width..(at + 1) * width].copy_from_slice(&row(&output.bound, best));
        from.push(best);
    }
    let all: Vec<usize> = (0..output.truth.len()).collect();
    relation_within(
        output,
        &all,
        &supposed,
        |at| bounds[at],
        || {
            let positions = output.shape[2];
            let name = |at: usize| {
                let [b, h, n, _] = index(output.shape, at * width);
                format!("[{b}, {h}, {n}]")
            };
            let step = from[0] as i64 - wrong[0] as i64;
            let is_shift =
                wrong.iter().zip(&from).all(|(&at, &from)| from as i64 - at as i64 == step);
            if is_shift && (step.unsigned_abs() as usize).is_multiple_of(positions) {
                let heads = step / positions as i64;
                return format!(
                    "{}: the wrong rows are those {heads:+} heads further",
                    output.name
                );
            }
            if is_shift {
                let word = row_word(output.name);
                return format!(
                    "{}: each wrong {word} holds the row {step:+} further",
                    output.name
                );
            }
            format!(
                "{}: the wrong rows are rows of the truth in other places, {} holds {}",
                output.name,
                name(wrong[0]),
                name(from[0])
            )
        },
    )
}

/// Sums or means along an axis that every element of the axis holds, or the first alone.
fn reduced(output: &Output) -> Option<Cause> {
    let all: Vec<usize> = (0..output.truth.len()).collect();
    for (axis, name) in [(0, "the sequences"), (1, "the heads"), (2, "the rows")] {
        let length = output.shape[axis];
        if length < 2 {
            continue;
        }
        let mut sums = vec![0.0; output.truth.len()];
        for (at, x) in output.truth.iter().enumerate() {
            let mut of = index(output.shape, at);
            of[axis] = 0;
            sums[flat(output.shape, of)] += x;
        }
        let sum = |at: usize| {
            let mut of = index(output.shape, at);
            of[axis] = 0;
            sums[flat(output.shape, of)]
        };
        let broadcast: Vec<f64> = all.iter().map(|&at| sum(at)).collect();
        let mean: Vec<f64> = broadcast.iter().map(|x| x / length as f64).collect();
        let first = |&at: &usize| if index(output.shape, at)[axis] == 0 { sum(at) } else { 0.0 };
        let first: Vec<f64> = all.iter().map(first).collect();
        let tensor = output.name;
        let found = relation(output, &all, &broadcast, || {
            format!("{tensor} is the sum of the truth over {name}, in each of them")
        })
        .or_else(|| {
            relation(output, &all, &mean, || {
                format!("{tensor} is the mean of the truth over {name}")
            })
        })
        .or_else(|| {
            relation(output, &all, &first, || {
                format!("{tensor} is summed over {name} into the first, the others are zero")
            })
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Wrong elements that all are zero, or NaN, or one constant: the rest is right.
fn blank(output: &Output) -> Option<Cause> {
    let wrong: Vec<usize> = (0..output.wrong.len()).filter(|&at| output.wrong[at]).collect();
    let first = output.found[*wrong.first()?];
    let name = output.name;
    let everywhere = wrong.len() == output.wrong.len();
    let place = if everywhere { "" } else { " where it is wrong" };
    let all = |test: &dyn Fn(f64) -> bool| wrong.iter().all(|&at| test(output.found[at]));
    let text = if all(&|x| x == 0.0) {
        format!("{name} is zero{place}: these elements are not written, or their sum is lost")
    } else if wrong.len() > 1 && all(&|x| x == first) {
        format!("{name} is {first:e}{place}")
    } else {
        return None;
    };
    let (most, unexplained) = (0.0, 0.0);
    Some(Cause {
        tensors: vec![name],
        kind: Kind::Content,
        text,
        is_cause: true,
        left_over_bound: most,
        unexplained,
        tied: Vec::new(),
    })
}
