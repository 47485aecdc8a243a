//! 20 000 test vectors: inputs, and what the crate's own functions return for them, over exact rationals.
//!
//! `vectors FILE` writes one a line: the name of the kind, then numbers, each an integer or a fraction. Lists have
//! their length first. `proofs/extraction/compare.ml` reads them and has to find the same results.

mod numbers;
mod passes;
mod rules;

use std::fs::File;
use std::io::{BufWriter, Write};

fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).expect("the file to write");
    let mut out = BufWriter::new(File::create(path)?);
    type Kind = (usize, fn(&mut numbers::Numbers) -> String);
    let kinds: [Kind; 7] = [
        (5_000, rules::systematic_vector),
        (3_000, rules::keep_vector),
        (4_000, rules::level_vector),
        (2_000, passes::backward_vector),
        (3_000, passes::graph_vector),
        (2_000, rules::decision_vector),
        (1_000, rules::word_vector),
    ];
    for (kind, (count, vector)) in (0..).zip(kinds) {
        let mut numbers = numbers::Numbers::new(kind);
        for _ in 0..count {
            writeln!(out, "{}", vector(&mut numbers))?;
        }
    }
    out.flush()
}
