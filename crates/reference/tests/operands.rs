//! Masks, lists, lengths, dropout, slopes, a bias before the softcap and values in the keys, alone and together.

use crate::common::{Shape, largest_share, shapes, with_operands};
use proptest::prelude::*;
use sus_reference::backward::{Gradients, backward};
use sus_reference::error::Error;
use sus_reference::forward::{Saved, forward};
use sus_reference::mask::{AttnMask, BlockMask, Indices, KeySet, Lengths};
use sus_reference::problem::{Dropout, Options, Problem, Row};
use sus_reference::scalar::{DdWithError, Dual, Scalar};
use sus_reference::sus::{Budget, Draw, Rule, Sampler, sample, sus_backward};
use sus_reference::tensor::{Tensor, dot};

/// Whether a key set shows a key, element by element and without runs.
fn shows(set: &KeySet, p: &Problem<f64>, Row { b, h, i }: Row, j: usize) -> bool {
    let at = |shape: [usize; 4], index: [usize; 4]| {
        index.iter().zip(shape).fold(0, |sum, (&n, length)| sum * length + n % length)
    };
    match set {
        KeySet::AttnMask(AttnMask { shape, seen }) => seen[at(*shape, [b, h, i, j])] != 0,
        KeySet::BlockMask(BlockMask { shape, block: [m, n], seen }) => {
            seen[at(*shape, [b, h, i / m, j / n])] != 0
        }
        KeySet::Indices(indices) => {
            let shape = indices.shape();
            let head = if shape[1] == p.sizes().key_heads { p.key_head(h) } else { h };
            let list = (0..shape[3]).map(|t| indices.as_slice()[at(shape, [b, head, i, t])]);
            list.into_iter().any(|key| key == j as i64)
        }
    }
}

/// A mask by elements that shows a row what it sees.
fn as_attn_mask(p: &Problem<f64>) -> KeySet {
    let sizes = p.sizes();
    let shape = [sizes.batch, sizes.query_heads, sizes.queries, sizes.keys];
    let rows = (0..p.row_count()).map(|at| p.row(at));
    let seen = rows.flat_map(|row| {
        let seen: Vec<usize> = p.visible(row).collect();
        (0..sizes.keys).map(move |j| u8::from(seen.binary_search(&j).is_ok())).collect::<Vec<_>>()
    });
    KeySet::AttnMask(AttnMask { shape, seen: seen.collect() })
}

/// The same as lists, descending, with places that name no key.
fn as_indices(p: &Problem<f64>) -> KeySet {
    let sizes = p.sizes();
    let shape = [sizes.batch, sizes.query_heads, sizes.queries, sizes.keys];
    let rows = (0..p.row_count()).map(|at| p.row(at));
    let keys = rows.flat_map(|row| {
        let mut seen: Vec<i64> = p.visible(row).map(|j| j as i64).collect();
        seen.resize(sizes.keys, -7);
        seen.reverse();
        seen
    });
    KeySet::Indices(Indices::new(shape, keys.collect()))
}

/// The problem whose masks are replaced by one set; distances and padding stay.
fn with_one_set(p: &Problem<f64>, set: KeySet) -> Problem<f64> {
    let options = p.options().clone().with_causal(false).with_window(None);
    Problem::new(p.inputs().clone(), options.with_key_sets(vec![set])).unwrap()
}

fn numbers_of<T: Scalar>(saved: &Saved<T>, gradients: &Gradients<T>) -> Vec<u64> {
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = gradients;
    let tensors = [&saved.o, &saved.lse, dq, dk, dv].into_iter().chain(dbias).chain(dslopes);
    let numbers = tensors.chain(dkv).flat_map(|x| x.as_slice().iter().copied());
    numbers.chain(dsink.iter().flatten().copied()).map(|x| x.to_f64().to_bits()).collect()
}

/// `sum o . G + sum lse dlse` over the rows whose `lse` is a number.
fn loss<T: Scalar>(p: &Problem<T>) -> T {
    let Saved { o, lse } = forward(p);
    let mut sum = dot(o.as_slice(), p.inputs().g.as_slice());
    for (at, &lse) in lse.as_slice().iter().enumerate() {
        if lse.to_f64().is_finite() {
            sum += lse * p.dlse(p.row(at));
        }
    }
    sum
}

/// The derivative by input number `at` of `q, k, v, bias, sink, slopes`; by `v` through `k` if it is a part of it.
fn derivative(p: &Problem<DdWithError>, at: usize) -> DdWithError {
    let mut count = 0;
    let dual = p.map(Dual::constant).expect("finite numbers stay finite");
    let mut seed = |x: &mut Dual<DdWithError>| {
        if count == at {
            x.eps = DdWithError::from_f64(1.0);
        }
        count += 1;
    };
    let mut inputs = dual.inputs().clone();
    inputs.q.as_mut_slice().iter_mut().for_each(&mut seed);
    inputs.k.as_mut_slice().iter_mut().for_each(&mut seed);
    if p.options().v_of_k {
        let k = inputs.k.clone();
        inputs.v = Tensor::from_fn(inputs.v.shape(), |[b, h, n, e]| k.row(b, h, n)[e]);
    } else {
        inputs.v.as_mut_slice().iter_mut().for_each(&mut seed);
    }
    inputs.bias.iter_mut().flat_map(Tensor::as_mut_slice).for_each(&mut seed);
    inputs.sink.iter_mut().flatten().for_each(&mut seed);
    inputs.alibi_slopes.iter_mut().flat_map(Tensor::as_mut_slice).for_each(&mut seed);
    loss(&Problem::new(inputs, p.options().clone()).expect("still legal")).eps
}

fn gradients_minus_derivatives(p: &Problem<f64>) -> Vec<DdWithError> {
    let p: Problem<DdWithError> = p.cast().unwrap();
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = backward(&p, &forward(&p));
    let keys = dkv.map_or_else(|| vec![dk, dv], |dkv| vec![dkv]);
    let tensors = [dq].into_iter().chain(keys).chain(dbias);
    let mut all: Vec<_> = tensors.flat_map(|x| x.as_slice().to_vec()).collect();
    all.extend(dsink.into_iter().flatten());
    all.extend(dslopes.iter().flat_map(|x| x.as_slice().to_vec()));
    all.iter().enumerate().map(|(at, &g)| g - derivative(&p, at)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_sees_the_keys_that_every_condition_shows(shape in shapes(9, 9), seed: u64) {
        let p = with_operands(&shape.problem(), seed);
        for row in (0..p.row_count()).map(|at| p.row(at)) {
            let span = p.span(row);
            let expected: Vec<usize> = (0..p.sizes().keys)
                .filter(|j| span.contains(j) && p.options().key_sets.iter().all(|set| shows(set, &p, row, *j)))
                .collect();
            prop_assert!(p.visible(row).eq(expected.iter().copied()));
            prop_assert_eq!(p.visible_keys(row), expected.len());
            for j in span.clone() {
                prop_assert_eq!(p.hides(row, j), !expected.contains(&j));
            }
            // The ranges are as long as can be.
            let ranges: Vec<_> = p.ranges(row).collect();
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert!(!p.is_padding(row) || expected.is_empty());
        }
    }

    #[test]
    fn all_forms_of_a_mask_have_the_same_bits(shape in shapes(6, 7), seed: u64, c in 0.3..5.0_f64) {
        let p = with_operands(&shape.problem(), seed);
        let draw = Draw::paper(Budget::new(c).unwrap(), seed).with_rule(Rule::Calibrated);
        let results = |p: &Problem<f64>| {
            let saved = forward(p);
            // A systematic sum may begin earlier in another form: its words are the row's, and hidden keys add 0.
            let draws = [draw, draw.with_rule(Rule::Paper).with_sampler(Sampler::Systematic)];
            let sampled = draws.map(|draw| {
                let mask = sample(p, &saved, &draw).unwrap();
                numbers_of(&saved, &sus_backward(p, &saved, &mask))
            });
            (numbers_of(&saved, &backward(p, &saved)), sampled)
        };
        let expected = results(&p);
        prop_assert_eq!(&results(&with_one_set(&p, as_attn_mask(&p))), &expected);
        prop_assert_eq!(&results(&with_one_set(&p, as_indices(&p))), &expected);
    }

    #[test]
    fn gradients_are_the_derivatives_of_the_forward_pass(shape in shapes(4, 5), seed: u64) {
        let p = with_operands(&shape.problem(), seed);
        largest_share(gradients_minus_derivatives(&p));
    }

    #[test]
    fn padding_is_never_read_and_gets_zeros(shape in shapes(6, 7), seed: u64) {
        let p = with_operands(&shape.problem(), seed);
        let (sizes, mask) = (p.sizes(), p.mask());
        let mut inputs = p.inputs().clone();
        let mut spoiled = 0;
        let mut spoil = |x: &mut Tensor<f64>, length: usize, is_padding: &dyn Fn(usize, usize) -> bool| {
            let [_, heads, _, width] = x.shape();
            for (at, row) in x.as_mut_slice().chunks_mut(width).enumerate() {
                if is_padding(at / length / heads, at % length) {
                    row.fill(f64::NAN);
                    spoiled += 1;
                }
            }
        };
        spoil(&mut inputs.q, sizes.queries, &|b, i| mask.is_padding(b, i));
        spoil(&mut inputs.g, sizes.queries, &|b, i| mask.is_padding(b, i));
        spoil(&mut inputs.k, sizes.keys, &|b, j| mask.is_padding_key(b, j));
        spoil(&mut inputs.v, sizes.keys, &|b, j| mask.is_padding_key(b, j));
        let with_nan = Problem::new(inputs, p.options().clone()).unwrap();
        let saved = forward(&with_nan);
        let gradients = backward(&with_nan, &saved);
        let expected = forward(&p);
        prop_assert_eq!(numbers_of(&saved, &gradients), numbers_of(&expected, &backward(&p, &expected)));
        for row in (0..p.row_count()).map(|at| p.row(at)).filter(|&row| p.is_padding(row)) {
            let Row { b, h, i } = row;
            prop_assert_eq!(saved.lse.row(b, h, i)[0], f64::NEG_INFINITY);
            prop_assert!(saved.o.row(b, h, i).iter().chain(gradients.dq.row(b, h, i)).all(|&x| x == 0.0));
        }
        if p.options().lengths.is_none() {
            prop_assert_eq!(spoiled, 0);
        }
    }
}

/// One key with weight 1: `o = Z v`, `dv = Z G`, and by hand `dq = 0`.
#[test]
fn dropout_scales_the_values_and_leaves_lse() {
    let p = Shape::plain(1, 1).problem();
    for (kept, z) in [(1, 4.0), (0, 0.0)] {
        let dropout = Dropout { shape: [1, 1, 1, 1], kept: vec![kept].into(), p: 0.75 };
        let with =
            Problem::new(p.inputs().clone(), Options::default().with_dropout(dropout)).unwrap();
        let (saved, plain) = (forward(&with), forward(&p));
        assert_eq!(saved.lse, plain.lse);
        assert_eq!(saved.o, p.inputs().v.map(|v| z * v));
        let gradients = backward(&with, &saved);
        assert_eq!(gradients.dv, p.inputs().g.map(|g| z * g));
        assert!(gradients.dq.as_slice().iter().all(|&x| x == 0.0));
    }
}

/// What is illegal is named, with what was expected and found.
#[test]
fn operands_that_do_not_fit_are_refused_by_name() {
    let p = Shape { key_heads: 2, group: 2, ..Shape::plain(3, 4) }.problem();
    let refused =
        |options: Options| -> Error { Problem::new(p.inputs().clone(), options).unwrap_err() };
    let one = |set| Options::default().with_key_sets(vec![set]);
    let bytes = |n: usize| vec![1_u8; n].into();
    let attn = |shape: [usize; 4]| {
        KeySet::AttnMask(AttnMask { shape, seen: bytes(shape.iter().product()) })
    };
    let block = |shape: [usize; 4], block| {
        KeySet::BlockMask(BlockMask { shape, block, seen: bytes(shape.iter().product()) })
    };
    let list = |keys: Vec<i64>| KeySet::Indices(Indices::new([1, 1, 3, 2], keys));
    let lengths = |queries: Vec<usize>| {
        Options::default().with_lengths(Lengths { queries: Some(queries), keys: None })
    };
    let dropout = |shape: [usize; 4], p: f64| {
        Options::default().with_dropout(Dropout { shape, kept: bytes(shape.iter().product()), p })
    };
    for (options, said) in [
        (
            one(attn([1, 2, 3, 4])),
            "tensor 'attn_mask': expected shape [1 or 1, 4 or 1, 3 or 1, 4], found [1, 2, 3, 4]",
        ),
        (one(block([1, 1, 2, 2], [2, 3])), ""),
        (
            one(block([1, 1, 3, 2], [2, 3])),
            "tensor 'block_mask': expected shape [1 or 1, 4 or 1, 2, 2], found [1, 1, 3, 2]",
        ),
        (
            one(block([1, 1, 2, 2], [0, 3])),
            "option 'block': expected two numbers above 0, found [0, 3]",
        ),
        (one(list(vec![0, 1, -1, -1, 3, 2])), ""),
        (
            one(list(vec![0, 1, 2, 2, 0, 1])),
            "option 'indices': expected each key at most once in a list, found 2 in list [0, 0, 1]",
        ),
        (
            one(list(vec![0, 1, 2, 3, 4, 1])),
            "option 'indices': expected keys below 4, or a negative number for none, found 4 in list [0, 0, 2]",
        ),
        (lengths(vec![4]), "option 'lengths_q': expected at most 3 for sequence 0, found 4"),
        (
            lengths(vec![1, 1]),
            "option 'lengths_q': expected 1 lengths, one for each sequence, found 2",
        ),
        (
            dropout([1, 1, 3, 1], 0.5),
            "tensor 'dropout_mask': expected shape [1 or 1, 4 or 1, 3, 4], found [1, 1, 3, 1]",
        ),
        (
            dropout([1, 1, 3, 4], 1.0),
            "option 'dropout_p': expected a number from 0 to below 1, found 1",
        ),
        (
            Options::default().with_v_of_k(true),
            "option 'v_of_k': expected the first features of k, at most 3, found a 'v' of 2 features",
        ),
    ] {
        if said.is_empty() {
            assert!(Problem::new(p.inputs().clone(), options).is_ok());
        } else {
            assert_eq!(refused(options).to_string(), said);
        }
    }
}
