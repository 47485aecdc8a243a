//! Problems for the tests: every feature of the specification, in any combination, at sizes from zero.
#![allow(dead_code, reason = "each test binary that includes this file uses a part of it")]

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::sync::Arc;
use sus_reference::mask::{
    Alignment, AttnMask, BlockMask, Indices, KeySet, Lengths, Segments, Window,
};
use sus_reference::problem::{Dropout, Inputs, Options, Problem, Sizes};
use sus_reference::scalar::{DdWithError, Ring};
use sus_reference::tensor::Tensor;

/// A stream of numbers that is the same on every machine.
pub(crate) fn numbers(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A multiple of 1/8 in [-2, 2]: exact in every scalar.
pub(crate) fn eighths(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32() % 33) / 8.0 - 2.0
}

/// An integer in [-2, 2].
pub(crate) fn small_integer(rng: &mut ChaCha8Rng) -> i64 {
    i64::from(rng.next_u32() % 5) - 2
}

/// The sizes and features of a problem, without its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) key_heads: usize,
    pub(crate) group: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) features: usize,
    pub(crate) value_features: usize,
    pub(crate) dlse: bool,
    /// Which of the first three axes of the bias broadcast.
    pub(crate) bias: Option<[bool; 3]>,
    pub(crate) sink: bool,
    pub(crate) options: Options,
    pub(crate) seed: u64,
}

impl Shape {
    /// A small problem without extras.
    pub(crate) fn plain(queries: usize, keys: usize) -> Self {
        Shape {
            batch: 1,
            key_heads: 1,
            group: 1,
            queries,
            keys,
            features: 3,
            value_features: 2,
            dlse: false,
            bias: None,
            sink: false,
            options: Options::default(),
            seed: 1,
        }
    }

    /// The problem of this shape whose numbers are drawn by `draw`.
    pub(crate) fn fill<T: Ring>(&self, mut draw: impl FnMut(&mut ChaCha8Rng) -> T) -> Problem<T> {
        let mut rng = numbers(self.seed);
        let heads = self.key_heads * self.group;
        let (b, nq, nk) = (self.batch, self.queries, self.keys);
        let mut tensor = |shape| Tensor::from_fn(shape, |_| draw(&mut rng));
        let inputs = Inputs::new(
            tensor([b, heads, nq, self.features]),
            tensor([b, self.key_heads, nk, self.features]),
            tensor([b, self.key_heads, nk, self.value_features]),
            tensor([b, heads, nq, self.value_features]),
        )
        .with_dlse(self.dlse.then(|| tensor([b, heads, nq, 1])))
        .with_bias(self.bias.map(|broadcast| {
            let axis = |at: usize, full: usize| if broadcast[at] { 1 } else { full };
            tensor([axis(0, b), axis(1, heads), axis(2, nq), nk])
        }))
        .with_sink(self.sink.then(|| tensor([1, 1, 1, heads]).as_slice().to_vec()));
        Problem::new(inputs, self.options.clone()).expect("a legal problem")
    }

    /// The problem of this shape over `f64`, with multiples of 1/8.
    pub(crate) fn problem(&self) -> Problem<f64> {
        self.fill(eighths)
    }
}

/// The same problem, some of whose keys its bias hides, if it has one: of every row of the bias some, of the first all.
pub(crate) fn with_hidden_keys(p: &Problem<f64>) -> Problem<f64> {
    let keys = p.sizes().keys;
    let mut inputs = p.inputs().clone();
    for (at, x) in
        inputs.bias.iter_mut().flat_map(|bias| bias.as_mut_slice().iter_mut().enumerate())
    {
        // In runs of up to 40 keys, so that whole tiles are hidden.
        let (row, j) = (at / keys, at % keys);
        if row == 0 || (j / (1 + row % 40) + row) % 3 == 0 {
            *x = f64::NEG_INFINITY;
        }
    }
    Problem::new(inputs, p.options().clone()).expect("a legal problem")
}

/// The same problem with some of the operands that say which keys a query sees, and of the others beside `q`, `k` and `v`; all
/// subsets occur.
pub(crate) fn with_operands(p: &Problem<f64>, seed: u64) -> Problem<f64> {
    let mut rng = numbers(seed);
    let (sizes, chosen) = (p.sizes(), rng.next_u32());
    let has = |bit: u32| chosen >> bit & 1 == 1;
    let Sizes { batch, query_heads, key_heads, queries, keys, value_features, .. } = sizes;
    let mut flags = |shape: [usize; 4], of_8: u32| -> Arc<[u8]> {
        (0..shape.iter().product()).map(|_| u8::from(rng.next_u32() % 8 < of_8)).collect()
    };
    let axis = |bit: u32, full: usize| if has(bit) { full } else { 1 };
    let mut sets = Vec::new();
    if has(0) {
        let shape = [axis(8, batch), axis(9, query_heads), axis(10, queries), keys];
        sets.push(KeySet::AttnMask(AttnMask { shape, seen: flags(shape, 6) }));
    }
    if has(1) {
        // Blocks within a tile of the fast kernels or, of large problems, beside one.
        let step = if queries > 64 && has(26) { [29, 47] } else { [1, 1] };
        let block = [(chosen >> 11 & 7) as usize, (chosen >> 14 & 3) as usize];
        let block = [(1 + block[0]) * step[0], (1 + block[1]) * step[1]];
        let (rows, columns) = (queries.div_ceil(block[0]), keys.div_ceil(block[1]));
        let shape = [axis(16, batch), axis(17, query_heads), rows, columns];
        sets.push(KeySet::BlockMask(BlockMask { shape, block, seen: flags(shape, 5) }));
    }
    let dropout = has(2).then(|| {
        let shape = [axis(18, batch), axis(19, query_heads), queries, keys];
        Dropout { shape, kept: flags(shape, 6), p: 0.25 }
    });
    if has(3) {
        let heads = if has(20) { key_heads } else { axis(21, query_heads) };
        let shape = [axis(22, batch), heads, queries, keys];
        // All keys in some order; about a third of the places names none.
        let lists = (0..shape[0] * heads * queries).flat_map(|_| {
            let shift = rng.next_u32() as usize;
            let key = move |t: usize| ((t + shift) % keys.max(1)) as i64;
            let named: Vec<bool> = (0..keys).map(|_| !rng.next_u32().is_multiple_of(3)).collect();
            (0..keys).map(move |t| if named[t] { key(t) } else { -1 - key(t) }).collect::<Vec<_>>()
        });
        sets.push(KeySet::Indices(Indices::new(shape, lists.collect())));
    }
    let rooms = |cumulative: Option<&Vec<usize>>, n: usize| match cumulative {
        Some(cumulative) => cumulative.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        None => vec![n; batch],
    };
    let segments = p.options().segments.as_ref();
    let mut used = |bit: u32, rooms: Vec<usize>| {
        let length = |room: usize| room - rng.next_u32() as usize % (room / 2 + 1);
        has(bit).then(|| rooms.into_iter().map(length).collect())
    };
    let lengths = has(4).then(|| Lengths {
        queries: used(23, rooms(segments.map(|s| &s.queries), queries)),
        keys: used(24, rooms(segments.map(|s| &s.keys), keys)),
    });
    let mut inputs = p.inputs().clone();
    if has(5) {
        let shape = if has(25) { [batch, 1, 1, query_heads] } else { [1, query_heads, 1, 1] };
        inputs.alibi_slopes = Some(Tensor::from_fn(shape, |_| eighths(&mut rng)));
    }
    let v_of_k = has(6) && value_features <= sizes.features;
    if v_of_k {
        let k = inputs.k.clone();
        inputs.v = Tensor::from_fn(inputs.v.shape(), |[b, h, n, e]| k.row(b, h, n)[e]);
    }
    let options = p.options().clone().with_key_sets(sets).with_dropout(dropout);
    let options = options.with_lengths(lengths).with_v_of_k(v_of_k).with_bias_first(has(7));
    Problem::new(inputs, options).expect("a legal problem")
}

/// Cumulative lengths of `count` segments over `total` positions, some empty.
fn cumulative(count: usize, total: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..=total, count - 1).prop_map(move |mut cuts| {
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(total);
        cuts
    })
}

fn options(queries: usize, keys: usize) -> impl Strategy<Value = Options> {
    let end = || prop_oneof![Just(None), (0..6_u64).prop_map(Some)];
    let window = prop_oneof![
        Just(None),
        (end(), end()).prop_map(|(left, right)| Some(Window { left, right })),
    ];
    let segments = (1..=3_usize).prop_flat_map(move |count| {
        (cumulative(count, queries), cumulative(count, keys))
            .prop_map(|(queries, keys)| Segments { queries, keys })
    });
    (
        prop_oneof![Just(None), Just(Some(0.75)), Just(Some(-0.5))],
        prop_oneof![Just(None), Just(Some(1.5))],
        any::<bool>(),
        prop_oneof![Just(Alignment::BottomRight), Just(Alignment::TopLeft)],
        window,
        proptest::option::weighted(0.3, segments),
    )
        .prop_map(|(scale, softcap, causal, alignment, window, segments)| {
            Options::default()
                .with_scale(scale)
                .with_softcap(softcap)
                .with_causal(causal)
                .with_alignment(alignment)
                .with_window(window)
                .with_segments(segments)
        })
}

/// Shapes with every feature, and sizes up to the given numbers of queries and keys.
pub(crate) fn shapes(queries: usize, keys: usize) -> impl Strategy<Value = Shape> {
    let sizes =
        (0..=2_usize, 1..=2_usize, 1..=3_usize, 0..=queries, 0..=keys, 1..=3_usize, 1..=4_usize);
    let extras =
        (any::<bool>(), proptest::option::of(any::<[bool; 3]>()), any::<bool>(), any::<u64>());
    (sizes, extras).prop_flat_map(|(sizes, (dlse, bias, sink, seed))| {
        let (batch, key_heads, group, queries, keys, features, value_features) = sizes;
        options(queries, keys).prop_map(move |options| Shape {
            batch,
            key_heads,
            group,
            queries,
            keys,
            features,
            value_features,
            dlse,
            bias,
            sink,
            options,
            seed,
        })
    })
}

/// The largest share of its bound that the error of an exact zero has. Fails above 1.
///
/// The computed value of an exact zero is the error of its computation, and [`DdWithError`] derives the bound from the
/// operations of that computation and the roundoffs of `Dd`.
pub(crate) fn largest_share(zeros: impl IntoIterator<Item = DdWithError>) -> f64 {
    zeros.into_iter().enumerate().fold(0.0, |largest, (at, zero)| {
        let error = zero.value().abs();
        assert!(error.hi() <= zero.error(), "number {at}: {error} for 0, bound {:e}", zero.error());
        if zero.error() == 0.0 { largest } else { f64::max(largest, error.hi() / zero.error()) }
    })
}

/// `a - b`, element by element.
pub(crate) fn differences(a: &[DdWithError], b: &[DdWithError]) -> Vec<DdWithError> {
    assert_eq!(a.len(), b.len(), "as many numbers on both sides");
    a.iter().zip(b).map(|(&a, &b)| a - b).collect()
}
