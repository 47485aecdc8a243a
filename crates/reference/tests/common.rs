//! Problems for the tests: every feature of the specification, in any combination, at sizes from zero.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_reference::mask::{Alignment, Segments, Window};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::Ring;
use sus_reference::tensor::Tensor;

/// A stream of numbers that is the same on every machine.
pub fn numbers(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A multiple of 1/8 in [-2, 2]: exact in every scalar.
pub fn eighths(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32() % 33) / 8.0 - 2.0
}

/// An integer in [-2, 2].
pub fn small_integer(rng: &mut ChaCha8Rng) -> i64 {
    i64::from(rng.next_u32() % 5) - 2
}

/// What a problem looks like, without its numbers.
#[derive(Debug, Clone)]
pub struct Shape {
    pub batch: usize,
    pub key_heads: usize,
    pub group: usize,
    pub queries: usize,
    pub keys: usize,
    pub features: usize,
    pub value_features: usize,
    pub dlse: bool,
    /// Which of the first three axes of the bias broadcast.
    pub bias: Option<[bool; 3]>,
    pub sink: bool,
    pub options: Options,
    pub seed: u64,
}

impl Shape {
    /// A small problem without extras.
    pub fn plain(queries: usize, keys: usize) -> Self {
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
    pub fn fill<T: Ring>(&self, mut draw: impl FnMut(&mut ChaCha8Rng) -> T) -> Problem<T> {
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
    pub fn problem(&self) -> Problem<f64> {
        self.fill(eighths)
    }
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
pub fn shapes(queries: usize, keys: usize) -> impl Strategy<Value = Shape> {
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

/// Any number of features, and those for which there are kernels of their own.
fn features() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..=40_usize, 1 => Just(64), 1 => Just(128)]
}

/// Problems over several tiles, none a multiple of any, and features that fill vectors or do not.
pub fn large_shapes() -> impl Strategy<Value = Shape> {
    let sizes = (
        1..=2_usize,
        1..=2_usize,
        1..=3_usize,
        1..=230_usize,
        1..=430_usize,
        features(),
        features(),
    );
    (shapes(6, 6), sizes, any::<[bool; 4]>()).prop_map(
        |(shape, sizes, [window, segments, bias, _])| {
            let (batch, key_heads, group, queries, keys, features, value_features) = sizes;
            let ends = |n: usize| vec![0, n / 3, n / 3, n];
            let options = shape
                .options
                .clone()
                .with_scale(shape.options.scale.map(|scale| scale / 4.0))
                .with_window(
                    window.then_some(Window { left: Some(queries as u64 / 2), right: Some(9) }),
                )
                .with_segments(
                    segments.then(|| Segments { queries: ends(queries), keys: ends(keys) }),
                );
            Shape {
                batch,
                key_heads,
                group,
                queries,
                keys,
                features,
                value_features,
                options,
                bias: shape.bias.filter(|_| bias),
                ..shape
            }
        },
    )
}
