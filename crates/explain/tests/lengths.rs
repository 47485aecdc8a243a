//! Sequences of other lengths have other masks.

use crate::random::numbers;
use sus_bounds::Recipe;
use sus_explain::explain;
use sus_files::Settings;
use sus_files::gradient_file::{Stored, to_tensors};
use sus_reference::evaluation::evaluate;
use sus_reference::mask::{AttnMask, KeySet, Lengths};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_verdict::{Case, Judge};

/// 40 queries, of which the second sequence uses 24: its diagonal is 16 keys further to the right.
#[test]
fn a_mask_that_cuts_whole_tiles_is_named_where_the_sequences_have_other_diagonals() {
    const N: usize = 40;
    const TILE: usize = 16;
    let tensor = |seed| numbers(seed, [2, 1, N, 4]);
    let inputs = Inputs::new(tensor(1), tensor(2), tensor(3), tensor(4));
    let lengths = Lengths { queries: Some(vec![N, 24]), keys: None };
    let options = Options::default().with_causal(true).with_lengths(Some(lengths));
    let right = Problem::new(inputs.clone(), options.clone()).unwrap();

    let seen = |b: usize, i: usize, j: usize| {
        let rows = i / TILE * TILE..((i / TILE + 1) * TILE).min(N);
        rows.into_iter().any(|i| {
            let span = right.mask().span(b, i);
            (j / TILE * TILE..((j / TILE + 1) * TILE).min(N)).any(|j| span.contains(&j))
        })
    };
    let seen = (0..2 * N * N).map(|at| u8::from(seen(at / (N * N), at / N % N, at % N)));
    let mask = AttnMask { shape: [2, 1, N, N], seen: seen.collect() };
    let tiles = options.with_causal(false).with_key_sets(vec![KeySet::AttnMask(mask)]);
    let wrong = Problem::new(inputs, tiles).unwrap();
    let found = evaluate::<f32>(&wrong, None, None).unwrap();
    let candidate = to_tensors(&found, &Settings::default(), Stored::F32).unwrap();

    let case = Case::new(right, Settings::default());
    let judge = Judge::builder(&case, &Recipe::built_in("f32").unwrap()).build().unwrap();
    let why = explain(&judge, &judge.check(&candidate), &candidate).unwrap();
    let texts: Vec<&str> = why.causes.iter().map(|cause| cause.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("a tile of 16 by 16")), "{texts:?}");
}
