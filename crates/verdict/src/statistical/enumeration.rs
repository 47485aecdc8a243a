//! How often each possible mask of a row, or of a tiny problem, was drawn (docs/statistics.md, "Every mask of a tiny problem").
//!
//! With `K` possible masks and `N_k` of `S` runs that drew mask `k`, `G = sum_k N_k ln(N_k / (S p_k))` is `S` times the
//! divergence of the drawn frequencies from `p`. For any `S` and any `p`, `E exp(t G) <= (1 - t)^(1 - K)` (Agrawal,
//! "Finite-sample concentration of the multinomial in relative entropy", 2020); independent rows multiply. Hence, by Markov's
//! inequality at the best `t`, `P(G >= x) <= exp(-x) (e x / d)^d` for `x > d`, with `d` the sum of all `K - 1`.

use super::battery::{AlphaClass, Tests};
use super::masks::Masks;
use crate::limits::{MAX_ENUMERATED_MASKS, MAX_ENUMERATED_OF_ROW};
use std::collections::HashMap;

/// The masks of some entries with upper bounds of their probabilities.
struct Enumerated {
    /// The entries.
    group: Vec<usize>,
    masks: Vec<(Vec<bool>, f64)>,
    /// The probability of all other masks, at most.
    outside: f64,
}

/// `ln P(G >= x)`, at most, with `d` degrees of freedom.
pub(super) fn log_tail(x: f64, d: f64) -> f64 {
    if x <= d || d == 0.0 { 0.0 } else { d - x + d * libm::log(x / d) }
}

/// Tests the masks of each row, of all rows one by one, and of all rows together if there are few.
pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    let (mut all, mut freedom) = (0.0, 0.0);
    let mut whole: Option<Enumerated> =
        Some(Enumerated { group: Vec::new(), masks: vec![(Vec::new(), 1.0)], outside: 0.0 });
    for (row, group) in masks.of_row.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
        let Some(distribution) = of_row(masks, row, group) else {
            whole = None;
            continue;
        };
        let (g, d) = divergence(masks, &distribution);
        let place = masks.model.rows[row].row;
        tests.add(AlphaClass::Single, log_tail(g, d), || {
            let what = format!(
                "how often row {:?} keeps each of its sets, the divergence",
                [place.b, place.h, place.i]
            );
            (what, [g, d / 2.0, libm::sqrt(d / 2.0)])
        });
        all += g;
        freedom += d;
        whole = whole.and_then(|whole| together(&whole, &distribution));
    }
    tests.add(AlphaClass::Aimed, log_tail(all, freedom), || {
        let what = "how often the rows keep each of their sets, the divergence".into();
        (what, [all, freedom / 2.0, libm::sqrt(freedom / 2.0)])
    });
    if let Some(whole) = whole.filter(|whole| whole.masks.len() > 1) {
        let (g, d) = divergence(masks, &whole);
        tests.add(AlphaClass::First, log_tail(g, d), || {
            let what = "how often each mask is drawn, the divergence".into();
            (what, [g, d / 2.0, libm::sqrt(d / 2.0)])
        });
    }
}

fn of_row(masks: &Masks<'_>, row: usize, group: &[usize]) -> Option<Enumerated> {
    let group = group.to_vec();
    if masks.is_systematic() {
        let slack = masks.row_slack[row];
        let pieces = masks.pieces[row].iter();
        let all = pieces.map(|piece| (piece.mask.clone(), piece.p + slack)).collect();
        return Some(Enumerated { group, masks: all, outside: slack });
    }
    if group.len() > MAX_ENUMERATED_OF_ROW {
        return None;
    }
    let mut all = vec![(Vec::new(), 1.0)];
    for &at in &group {
        let (q, slack) = (masks.q[at], masks.slack[at]);
        all = all
            .into_iter()
            .flat_map(|(mask, p): (Vec<bool>, f64)| {
                [(true, q), (false, 1.0 - q)]
                    .map(|(kept, of)| ([&mask[..], &[kept]].concat(), p * (of + slack)))
            })
            .collect();
    }
    Some(Enumerated { group, masks: all, outside: 0.0 })
}

/// The product of two independent distributions, unless it is too large.
fn together(a: &Enumerated, b: &Enumerated) -> Option<Enumerated> {
    if a.masks.len() * b.masks.len() > MAX_ENUMERATED_MASKS {
        return None;
    }
    let all = a
        .masks
        .iter()
        .flat_map(|(x, p)| b.masks.iter().map(move |(y, q)| ([&x[..], &y[..]].concat(), p * q)));
    let masks = all.collect();
    let group = [&a.group[..], &b.group].concat();
    Some(Enumerated { group, masks, outside: a.outside + b.outside })
}

/// `G`, computed with the largest probabilities that rounding allows, and its degrees of freedom.
fn divergence(masks: &Masks<'_>, distribution: &Enumerated) -> (f64, f64) {
    let mut counts: HashMap<Vec<bool>, f64> = HashMap::new();
    for run in 0..masks.runs {
        let mask = distribution.group.iter().map(|&at| masks.bit(at, run)).collect();
        *counts.entry(mask).or_default() += 1.0;
    }
    let runs = masks.runs as f64;
    let (mut g, mut inside) = (0.0, 0.0);
    for (mask, p) in &distribution.masks {
        let Some(&n) = counts.get(mask) else { continue };
        g += n * libm::log(n / (runs * p));
        inside += n;
    }
    let outside = runs - inside;
    if outside > 0.0 {
        g += outside * libm::log(outside / (runs * distribution.outside));
    }
    let cells = distribution.masks.len() + usize::from(distribution.outside > 0.0);
    (g, cells as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::log_tail;

    /// `n!`'s logarithm.
    fn log_factorial(n: u32) -> f64 {
        (1..=n).map(|k| f64::from(k).ln()).sum()
    }

    /// All trinomial outcomes of several numbers of draws: the tail of `G` is below its bound everywhere.
    #[test]
    fn the_divergence_of_three_outcomes_is_rarer_than_its_bound() {
        for p in [[0.2, 0.3, 0.5], [0.01, 0.04, 0.95], [1.0 / 3.0; 3], [0.5, 0.25, 0.25]] {
            for draws in [1_u32, 2, 5, 20, 60] {
                let mut outcomes: Vec<(f64, f64)> = Vec::new();
                for a in 0..=draws {
                    for b in 0..=draws - a {
                        let counts = [a, b, draws - a - b];
                        let (mut log_p, mut g) = (log_factorial(draws), 0.0);
                        for (n, p) in counts.into_iter().zip(p) {
                            log_p += f64::from(n) * f64::ln(p) - log_factorial(n);
                            if n > 0 {
                                g += f64::from(n) * (f64::from(n) / (f64::from(draws) * p)).ln();
                            }
                        }
                        outcomes.push((g, log_p.exp()));
                    }
                }
                outcomes.sort_by(|a, b| b.0.total_cmp(&a.0));
                let mut tail = 0.0;
                for (g, probability) in outcomes {
                    tail += probability;
                    assert!(tail <= log_tail(g, 2.0).exp() * (1.0 + 1e-9), "{p:?} {draws} {g}");
                }
            }
        }
    }
}
