//! The shapes that are recorded: small, and together they use every option.

use crate::node::{Input, Node};
use sus_reference::mask::{Alignment, Segments, Window};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::sus::Budget;
use sus_reference::sus::{Draw, Rule, Sampler};
use sus_reference::tensor::Tensor;

/// A problem's shape and options, and the masks drawn for it.
pub struct Shape {
    /// The name of the case, part of the names in Coq.
    pub name: &'static str,
    /// `B`.
    pub batch: usize,
    /// `Hk`.
    pub key_heads: usize,
    /// `Hq / Hk`.
    pub group: usize,
    /// `Nq`.
    pub queries: usize,
    /// `Nk`.
    pub keys: usize,
    /// `D`.
    pub features: usize,
    /// `E`.
    pub value_features: usize,
    /// Scale, softcap and mask.
    pub options: Options,
    /// Whether there is a cotangent of `lse`.
    pub dlse: bool,
    /// The axes `b`, `h`, `i` along which the bias has its full length, if there is one.
    pub bias: Option<[bool; 3]>,
    /// Whether there are sinks.
    pub sink: bool,
    /// The masks of the sampled pass, one per draw.
    pub draws: Vec<Draw>,
}

/// All the shapes.
pub fn shapes() -> Vec<Shape> {
    let plain = |name| Shape {
        name,
        batch: 1,
        key_heads: 1,
        group: 1,
        queries: 2,
        keys: 3,
        features: 2,
        value_features: 3,
        options: Options::default(),
        dlse: false,
        bias: None,
        sink: false,
        draws: vec![draw(1.5, Rule::Paper, Sampler::Bernoulli)],
    };
    let causal = |alignment| Options::default().with_causal(true).with_alignment(alignment);
    let window = |left, right| Some(Window { left, right });
    vec![
        // The scale is the default; D and E differ, as do Nq and Nk.
        plain("plain"),
        // Two sequences, two key heads with two query heads each, a bias of full shape.
        Shape {
            batch: 2,
            key_heads: 2,
            group: 2,
            value_features: 1,
            options: Options::default().with_scale(0.375),
            dlse: true,
            bias: Some([true, true, true]),
            draws: vec![
                draw(1.5, Rule::Paper, Sampler::Systematic),
                draw(1.25, Rule::Calibrated, Sampler::Bernoulli),
            ],
            ..plain("groups")
        },
        // More queries than keys, diagonal at the bottom right: the first two rows see no key.
        Shape {
            queries: 5,
            group: 2,
            options: causal(Alignment::BottomRight),
            dlse: true,
            bias: Some([false, true, false]),
            ..plain("causal_bottom_right")
        },
        // Fewer queries than keys, diagonal at the top left: the last key is not seen.
        Shape {
            queries: 3,
            keys: 4,
            features: 3,
            value_features: 2,
            options: causal(Alignment::TopLeft),
            bias: Some([false, false, true]),
            ..plain("causal_top_left")
        },
        // A window on both sides, a softcap, a bias that all rows share.
        Shape {
            queries: 4,
            keys: 5,
            options: Options::default().with_softcap(1.5).with_window(window(Some(1), Some(1))),
            dlse: true,
            bias: Some([false, false, false]),
            ..plain("window_softcap")
        },
        // Packed sequences, one of them without queries and one with more queries than keys.
        Shape {
            batch: 2,
            queries: 6,
            keys: 7,
            features: 1,
            value_features: 1,
            options: causal(Alignment::BottomRight)
                .with_window(window(Some(2), None))
                .with_segments(Segments {
                    queries: vec![0, 2, 2, 5, 6],
                    keys: vec![0, 3, 4, 6, 7],
                }),
            bias: Some([true, false, false]),
            ..plain("segments")
        },
        // Sinks, and rows that see nothing else.
        Shape {
            batch: 2,
            queries: 3,
            keys: 2,
            group: 2,
            features: 1,
            value_features: 2,
            options: causal(Alignment::BottomRight),
            dlse: true,
            sink: true,
            ..plain("sink")
        },
        // Every option at once.
        Shape {
            batch: 2,
            key_heads: 2,
            group: 2,
            queries: 4,
            keys: 5,
            options: causal(Alignment::TopLeft)
                .with_scale(-0.75)
                .with_softcap(2.0)
                .with_window(window(Some(2), Some(0)))
                .with_segments(Segments { queries: vec![0, 3, 4], keys: vec![0, 2, 5] }),
            dlse: true,
            bias: Some([true, true, false]),
            sink: true,
            draws: vec![
                draw(1.5, Rule::Paper, Sampler::Bernoulli),
                draw(1.5, Rule::Calibrated, Sampler::Systematic),
            ],
            ..plain("everything")
        },
        Shape { keys: 0, dlse: true, bias: Some([true, true, true]), ..plain("no_keys") },
        Shape { keys: 0, dlse: true, sink: true, ..plain("no_keys_sink") },
        Shape { queries: 0, bias: Some([true, true, true]), sink: true, ..plain("no_queries") },
        Shape { batch: 0, bias: Some([false, true, true]), ..plain("no_batch") },
        // More keys than one task of the pass over keys has: 64.
        Shape {
            keys: 67,
            group: 2,
            features: 1,
            value_features: 1,
            dlse: true,
            bias: Some([true, true, true]),
            draws: vec![draw(12.0, Rule::Paper, Sampler::Bernoulli)],
            ..plain("three_past_64_keys")
        },
        // Two full tasks and a part of a third; the windows of the rows cross the ends of both.
        Shape {
            queries: 4,
            keys: 131,
            features: 1,
            value_features: 1,
            options: causal(Alignment::BottomRight)
                .with_window(window(Some(3), None))
                .with_segments(Segments { queries: vec![0, 2, 4], keys: vec![0, 66, 131] }),
            bias: Some([true, true, false]),
            ..plain("three_past_128_keys")
        },
    ]
}

/// A draw with seed 1.
pub fn draw(c: f64, rule: Rule, sampler: Sampler) -> Draw {
    let c = Budget::new(c).expect("a budget above 0");
    Draw::paper(c, 1).with_rule(rule).with_sampler(sampler)
}

impl Shape {
    /// `Hq`.
    pub fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    /// The shape of the bias.
    pub fn bias_shape(&self, full: [bool; 3]) -> [usize; 4] {
        let axes = [self.batch, self.heads(), self.queries];
        let [b, h, i] = [0, 1, 2].map(|axis| if full[axis] { axes[axis] } else { 1 });
        [b, h, i, self.keys]
    }

    /// The problem, each element of each input a variable.
    pub fn problem(&self) -> Problem<Node> {
        let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
        let (b, hk, h) = (self.batch, self.key_heads, self.heads());
        let (i, j) = (self.queries, self.keys);
        let mut variables = |input, shape| variables(input, shape, &mut numbers);
        let inputs = Inputs::new(
            variables(Input::Q, [b, h, i, self.features]),
            variables(Input::K, [b, hk, j, self.features]),
            variables(Input::V, [b, hk, j, self.value_features]),
            variables(Input::G, [b, h, i, self.value_features]),
        )
        .with_dlse(self.dlse.then(|| variables(Input::Dlse, [b, h, i, 1])))
        .with_bias(self.bias.map(|full| variables(Input::Bias, self.bias_shape(full))))
        .with_sink(self.sink.then(|| variables(Input::Sink, [1, 1, 1, h]).as_slice().to_vec()));
        Problem::new(inputs, self.options.clone()).expect("a valid problem")
    }
}

/// A tensor of variables.
pub fn variables(input: Input, shape: [usize; 4], numbers: &mut Numbers) -> Tensor<Node> {
    Tensor::from_fn(shape, |at| Node::variable(input, at, numbers.next()))
}

/// A linear congruential sequence. The record does not depend on it, but for the results of comparisons.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next multiple of 2^-8 in [-2, 2).
    pub fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 54) as f64 - 512.0) / 256.0
    }
}

impl Numbers {
    /// The next whole number below `n`, by its leading bits.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next();
        ((u128::from(self.0) * u128::from(n)) >> 64) as u64
    }
}
