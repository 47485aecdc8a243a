//! Small problems, each for a purpose: what a kernel gets wrong shows on at least one of them.
//!
//! Sizes are distinct primes unless the purpose says otherwise. Numbers are drawn by `ChaCha8` and are multiples of
//! 1/16 below 8, exact in bf16 and in f16.

use crate::file::{Pass, Settings};
use crate::mask::{Alignment, Window};
use crate::problem::{Inputs, Problem};
use crate::sus::{Budget, Draw, Layout, Rule, Sampler};
use crate::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A problem with its purpose.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The problem.
    pub problem: Problem<f64>,
    /// What its file would say.
    pub settings: Settings,
    /// The draw, for SUS.
    pub draw: Option<Draw>,
}

/// `[B, Hk, group, Nq, Nk, D, E]`.
type Shape = [usize; 7];

/// How the numbers of a case are shaped after they are drawn.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// As drawn.
    Plain,
    /// `q` is eight times as large.
    Deep,
    /// Even queries look at one key, odd ones at all alike.
    PeakedAndFlat,
    /// Each head has a level of its own.
    HeadLevels,
    /// No cotangent but that of `lse`.
    OnlyDlse,
    /// The bias is -96: `lse` is deeply negative.
    Offset,
}

/// What a case is made of.
struct Recipe {
    name: &'static str,
    purpose: &'static str,
    shape: Shape,
    numbers: Numbers,
    dlse: bool,
    /// Which of the first three axes of the bias have their full length.
    bias: Option<[bool; 3]>,
    sink: bool,
    settings: Settings,
}

const SQUARE: Shape = [1, 1, 2, 37, 37, 8, 8];

fn plain(name: &'static str, purpose: &'static str, shape: Shape) -> Recipe {
    let settings = Settings { pass: Some(Pass::Dense), ..Settings::default() };
    Recipe {
        name,
        purpose,
        shape,
        numbers: Numbers::Plain,
        dlse: false,
        bias: None,
        sink: false,
        settings,
    }
}

fn causal(recipe: Recipe) -> Recipe {
    let settings = Settings { causal: Some(true), ..recipe.settings };
    Recipe { settings, ..recipe }
}

fn windowed(recipe: Recipe, left: u64, right: u64) -> Recipe {
    let window = Some(Window { left: Some(left), right: Some(right) });
    Recipe { settings: Settings { window, ..recipe.settings }, ..recipe }
}

fn packed(recipe: Recipe, queries: &[usize], keys: &[usize]) -> Recipe {
    let (segments_q, segments_k) = (Some(queries.to_vec()), Some(keys.to_vec()));
    Recipe { settings: Settings { segments_q, segments_k, ..recipe.settings }, ..recipe }
}

fn capped(recipe: Recipe, cap: f64) -> Recipe {
    Recipe { settings: Settings { softcap: Some(cap), ..recipe.settings }, ..recipe }
}

/// SUS with budget `c`, a seed and a layout; `paper` and `bernoulli` unless changed.
fn sus(recipe: Recipe, c: f64, seed: u64, layout: Layout) -> Recipe {
    let settings = Settings {
        pass: Some(Pass::Sus),
        c: Budget::new(c).ok(),
        seed: Some(seed),
        layout: Some(layout),
        ..recipe.settings
    };
    Recipe { settings, ..recipe }
}

fn by(recipe: Recipe, rule: Rule, sampler: Sampler) -> Recipe {
    let settings = Settings { rule: Some(rule), sampler: Some(sampler), ..recipe.settings };
    Recipe { settings, ..recipe }
}

/// The dense cases.
fn dense() -> Vec<Recipe> {
    vec![
        plain("primes", "group of 3, all sizes distinct primes", [2, 2, 3, 19, 23, 5, 7]),
        causal(plain("square_causal", "square and causal, tails of every tile", SQUARE)),
        causal(plain("more_queries", "rows that see no key; Nq > Nk", [1, 2, 1, 53, 19, 7, 5])),
        causal(plain("more_keys", "bottom-right diagonal; Nq < Nk", [1, 1, 3, 19, 53, 5, 11])),
        {
            let r =
                causal(plain("top_left", "top-left diagonal; Nq < Nk", [1, 1, 2, 19, 41, 7, 5]));
            Recipe { settings: Settings { alignment: Some(Alignment::TopLeft), ..r.settings }, ..r }
        },
        windowed(causal(plain("window_causal", "causal window", SQUARE)), 5, 0),
        windowed(
            plain("window_both_ways", "window on both sides; Nq != Nk", [2, 1, 2, 23, 29, 5, 7]),
            4,
            3,
        ),
        packed(
            causal(plain(
                "packed",
                "packed sequences, one without queries",
                [1, 1, 2, 31, 37, 7, 5],
            )),
            &[0, 13, 13, 31],
            &[0, 11, 17, 37],
        ),
        packed(
            plain(
                "packed_uneven",
                "packed sequences, one without keys, sinks",
                [1, 2, 1, 29, 31, 5, 7],
            ),
            &[0, 7, 18, 29],
            &[0, 19, 19, 31],
        )
        .with_sink(),
        capped(causal(plain("softcap", "softcap well within its range", SQUARE)), 1.5),
        capped(plain("softcap_bias", "softcap, then a full bias", [1, 1, 3, 19, 23, 5, 7]), 1.5)
            .with_bias([true, true, true]),
        plain("bias_broadcast", "bias over batch and queries", [2, 1, 3, 17, 23, 7, 5])
            .with_bias([false, true, false]),
        plain("bias_per_row", "bias over batch and heads", [2, 1, 2, 19, 17, 5, 7])
            .with_bias([false, false, true]),
        plain("sink", "sinks and a cotangent of lse", [2, 2, 2, 17, 19, 5, 7])
            .with_sink()
            .with_dlse(),
        plain("dlse", "a cotangent of lse", [1, 1, 3, 23, 19, 7, 5]).with_dlse(),
        Recipe {
            numbers: Numbers::OnlyDlse,
            ..plain("dlse_alone", "no cotangent but that of lse", [1, 1, 1, 19, 23, 5, 7])
                .with_dlse()
        },
        Recipe {
            numbers: Numbers::Deep,
            ..plain("deep", "scores eight times as large", [1, 1, 2, 29, 31, 7, 5])
        },
        Recipe {
            numbers: Numbers::PeakedAndFlat,
            ..plain(
                "peaked_and_flat",
                "rows with one key and rows with all alike",
                [1, 1, 2, 29, 31, 5, 7],
            )
        },
        Recipe {
            numbers: Numbers::Offset,
            ..plain("negative_lse", "scores near -96, tails of tiles", [1, 1, 2, 19, 23, 5, 7])
                .with_bias([false, false, false])
        },
        plain(
            "wide_values",
            "values wider than queries, tiles of features",
            [1, 2, 1, 19, 23, 5, 19],
        ),
        plain("narrow_values", "values narrower than queries", [1, 2, 1, 19, 23, 17, 3]),
        Recipe {
            numbers: Numbers::HeadLevels,
            ..plain("head_levels", "a level for each head", [2, 3, 2, 17, 19, 5, 7])
        },
        plain("heads_as_keys", "as many key heads as keys", [1, 7, 1, 7, 7, 5, 5]),
        {
            let r =
                plain("given_scale", "a scale that is not the default", [1, 1, 2, 19, 23, 7, 5]);
            Recipe { settings: Settings { scale: Some(0.75), ..r.settings }, ..r }
        },
        causal(plain("whole_tiles", "no tails", [1, 1, 2, 32, 48, 16, 16])),
        plain("one_query", "a single query", [2, 1, 2, 1, 31, 7, 5]),
        plain("one_key", "a single key", [2, 1, 2, 17, 1, 7, 5]),
        causal(plain("long", "enough keys for sums to round", [1, 1, 1, 64, 193, 16, 16])),
    ]
}

/// The SUS cases.
fn sampled() -> Vec<Recipe> {
    let (paper, calibrated) = (Rule::Paper, Rule::Calibrated);
    let (bernoulli, systematic) = (Sampler::Bernoulli, Sampler::Systematic);
    vec![
        sus(
            plain("sus", "the paper's draw; group of 3", [2, 2, 3, 19, 23, 5, 7]),
            4.0,
            42,
            Layout::Coord4,
        ),
        sus(
            causal(plain("sus_causal", "causal; deep scores; c below 2", SQUARE)),
            1.5,
            7,
            Layout::Coord4,
        )
        .deep(),
        by(
            sus(
                plain(
                    "sus_calibrated",
                    "the calibrated rule, linear words",
                    [1, 1, 3, 29, 31, 7, 5],
                ),
                5.5,
                11,
                Layout::Linear4,
            ),
            calibrated,
            bernoulli,
        ),
        by(
            sus(
                causal(plain("sus_systematic", "one uniform per row, linear words", SQUARE)),
                4.0,
                13,
                Layout::Linear1,
            ),
            paper,
            systematic,
        ),
        by(
            sus(
                plain(
                    "sus_both",
                    "calibrated and systematic, Threefry words",
                    [2, 1, 2, 19, 29, 5, 7],
                ),
                6.0,
                17,
                Layout::JaxThreefry,
            ),
            calibrated,
            systematic,
        ),
        sus(
            packed(
                causal(plain("sus_packed", "packed sequences", [1, 1, 2, 31, 37, 7, 5])),
                &[0, 13, 13, 31],
                &[0, 11, 17, 37],
            ),
            3.0,
            19,
            Layout::Coord4,
        ),
        sus(
            capped(
                plain(
                    "sus_everything",
                    "softcap, bias, sink, cotangent of lse",
                    [2, 1, 2, 17, 23, 5, 7],
                ),
                1.5,
            ),
            4.0,
            23,
            Layout::Coord4,
        )
        .with_bias([false, true, true])
        .with_sink()
        .with_dlse(),
        {
            let r = sus(
                plain("sus_stream", "a stream, a seed above 2^32", [1, 2, 1, 23, 19, 5, 7]),
                3.0,
                0x1234_5678_9abc,
                Layout::Linear4,
            );
            Recipe { settings: Settings { stream: Some(5), ..r.settings }, ..r }
        },
        sus(
            windowed(
                plain("sus_window", "a window, rows shorter than c", [1, 1, 2, 29, 31, 5, 7]),
                3,
                2,
            ),
            5.0,
            29,
            Layout::Linear1,
        ),
        sus(
            causal(plain(
                "sus_small_q",
                "many small probabilities; the seed is chosen so that 24 bits decide otherwise",
                [1, 1, 4, 61, 67, 8, 8],
            )),
            2.0,
            SMALL_Q_SEED,
            Layout::Coord4,
        )
        .deep(),
        sus(
            plain(
                "sus_float_words",
                "the seed is chosen so that a float made of a word decides otherwise",
                [1, 1, 1, 61, 67, 5, 5],
            ),
            20.0,
            FLOAT_WORDS_SEED,
            Layout::Coord4,
        ),
    ]
}

/// The first seed for which 24 bits and 16 bits of some word decide otherwise than all 32, where a kernel in `f32`
/// cannot err: where `ln(x / (q 2^32))` is above `2e-4`.
const SMALL_Q_SEED: u64 = 7390;

/// The first seed for which the `f32` nearest to a word decides otherwise than the word, where `f64` cannot err.
const FLOAT_WORDS_SEED: u64 = 1865;

impl Recipe {
    fn with_bias(self, full: [bool; 3]) -> Self {
        Recipe { bias: Some(full), ..self }
    }

    fn with_sink(self) -> Self {
        Recipe { sink: true, ..self }
    }

    fn with_dlse(self) -> Self {
        Recipe { dlse: true, ..self }
    }

    fn deep(self) -> Self {
        Recipe { numbers: Numbers::Deep, ..self }
    }

    /// Draws the numbers of the case with this index, which is their stream.
    fn case(self, index: u64) -> Case {
        let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle gallery of kernels v1");
        rng.set_stream(index);
        rng.set_word_pos(0);
        let [b, hk, group, nq, nk, d, e] = self.shape;
        let hq = hk * group;
        let numbers = self.numbers;
        let mut tensor = |shape: [usize; 4]| Tensor::from_fn(shape, |_| sixteenths(&mut rng));
        let (q, k) = (tensor([b, hq, nq, d]), tensor([b, hk, nk, d]));
        let (v, g) = (tensor([b, hk, nk, e]), tensor([b, hq, nq, e]));
        let dlse = self.dlse.then(|| tensor([b, hq, nq, 1]));
        let bias = self.bias.map(|full| {
            let axis = |at: usize, n: usize| if full[at] { n } else { 1 };
            tensor([axis(0, b), axis(1, hq), axis(2, nq), nk])
        });
        let sink = self.sink.then(|| tensor([1, 1, 1, hq]).as_slice().to_vec());
        let mut inputs = Inputs { q, k, v, g, dlse, bias, sink };
        shape_numbers(&mut inputs, numbers);
        let options = self.settings.options().expect("a built-in case");
        let problem = Problem::new(inputs, options).expect("a built-in case");
        let draw = self.settings.draw().expect("a built-in case");
        Case { name: self.name, purpose: self.purpose, problem, settings: self.settings, draw }
    }
}

/// Near a normal law of deviation 1: a sum of four bytes, in sixteenths.
fn sixteenths(rng: &mut ChaCha8Rng) -> f64 {
    let sum: i32 = rng.next_u32().to_le_bytes().iter().map(|&byte| i32::from(byte % 29) - 14).sum();
    f64::from(sum) / 16.0
}

fn shape_numbers(inputs: &mut Inputs<f64>, numbers: Numbers) {
    match numbers {
        Numbers::Plain => {}
        Numbers::Deep => inputs.q = inputs.q.map(|x| 8.0 * x),
        Numbers::OnlyDlse => inputs.g = inputs.g.map(|_| 0.0),
        Numbers::Offset => inputs.bias = inputs.bias.as_ref().map(|bias| bias.map(|_| -96.0)),
        Numbers::PeakedAndFlat => {
            let q = inputs.q.clone();
            inputs.q =
                Tensor::from_fn(
                    q.shape(),
                    |[b, h, i, d]| {
                        if i % 2 == 0 { 16.0 * q.row(b, h, i)[d] } else { 0.0 }
                    },
                );
        }
        Numbers::HeadLevels => {
            let k = inputs.k.clone();
            inputs.k = Tensor::from_fn(k.shape(), |[b, h, j, d]| {
                k.row(b, h, j)[d] / [1.0, 2.0, 4.0][h % 3]
            });
            let v = inputs.v.clone();
            inputs.v =
                Tensor::from_fn(v.shape(), |[b, h, j, e]| v.row(b, h, j)[e] + (h + b) as f64);
        }
    }
}

/// All cases, the dense ones first.
#[must_use]
pub fn all() -> Vec<Case> {
    dense()
        .into_iter()
        .chain(sampled())
        .zip(0..)
        .map(|(recipe, index)| recipe.case(index))
        .collect()
}

/// The case of this name.
#[must_use]
pub fn named(name: &str) -> Option<Case> {
    dense()
        .into_iter()
        .chain(sampled())
        .zip(0..)
        .find(|(recipe, _)| recipe.name == name)
        .map(|(recipe, index)| recipe.case(index))
}
