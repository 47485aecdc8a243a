//! A map of the errors: one character for a block of rows, and one for a block of features.

use crate::TensorResult;

/// Characters of a bar.
const WIDTH: usize = 64;

/// Heads with a bar.
const HEADS: usize = 4;

/// Levels of `max |err| / bound` in a block: up to 0.25, 0.5, 1, 2, 8, 64, and above.
const LEVELS: [(f64, char); 6] =
    [(0.25, '.'), (0.5, ':'), (1.0, '-'), (2.0, '+'), (8.0, '*'), (64.0, '#')];

/// A bar for each head with an element outside its bound, [`HEADS`] at most, and one over the features.
pub(super) fn error_map(tensor: &TensorResult) -> Vec<String> {
    let [.., positions, features] = tensor.shape.as_slice() else { return Vec::new() };
    let (positions, features) = (*positions, *features);
    if tensor.shape.len() < 4 || positions * features == 0 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let what = if tensor.name == "dq" || tensor.name == "o" { "query" } else { "key" };
    for (head, ratios) in tensor.ratios.chunks(positions * features).enumerate() {
        let worst = |n: usize| largest(ratios[n * features..(n + 1) * features].iter());
        let by_row: Vec<f64> = (0..positions).map(worst).collect();
        if largest(by_row.iter()) > 1.0 && lines.len() < HEADS {
            lines.push(format!("   head {head:<3} by {what:<8} |{}|", bar(&by_row)));
        }
    }
    let worst = |d: usize| largest(tensor.ratios.iter().skip(d).step_by(features));
    let by_feature: Vec<f64> = (0..features).map(worst).collect();
    lines.push(format!("   all heads, by feature |{}|", bar(&by_feature)));
    lines.push("   max |err|/bound: . to 1/4  : 1/2  - 1  + 2  * 8  # 64  @ above".to_owned());
    lines
}

fn largest<'a>(ratios: impl Iterator<Item = &'a f64>) -> f64 {
    ratios.fold(0.0, |most, &r| if r > most { r } else { most })
}

fn bar(values: &[f64]) -> String {
    let width = values.len().min(WIDTH);
    (0..width)
        .map(|at| {
            let block = &values[at * values.len() / width..(at + 1) * values.len() / width];
            let most = largest(block.iter());
            LEVELS.iter().find(|level| most <= level.0).map_or('@', |level| level.1)
        })
        .collect()
}
