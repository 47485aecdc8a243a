//! Small problems, each for a purpose: what a kernel gets wrong shows on at least one of them.
//!
//! Sizes are distinct primes unless the purpose says otherwise. Numbers are drawn by `ChaCha8` and are multiples of
//! 1/16 below 8, exact in bf16 and in f16.

mod dense;
mod sampled;

use dense::dense;
use sampled::sampled;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_files::{Pass, Settings};
use sus_reference::mask::Window;
use sus_reference::problem::{Inputs, Problem};
use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler};
use sus_reference::tensor::Tensor;

/// A problem with its purpose.
///
/// # Examples
/// ```
/// let sus = sus_corpus::named("sus").unwrap();
/// assert_eq!(sus.draw, sus.settings.draw()?);
/// assert!(sus.draw.is_some());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NamedProblem {
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
    let settings = Settings::default().with_pass(Pass::Dense);
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
    let settings = recipe.settings.with_causal(true);
    Recipe { settings, ..recipe }
}

fn windowed(recipe: Recipe, left: u64, right: u64) -> Recipe {
    let window = Some(Window { left: Some(left), right: Some(right) });
    Recipe { settings: recipe.settings.with_window(window), ..recipe }
}

fn packed(recipe: Recipe, queries: &[usize], keys: &[usize]) -> Recipe {
    let (segments_q, segments_k) = (Some(queries.to_vec()), Some(keys.to_vec()));
    let Recipe { settings, .. } = recipe;
    Recipe { settings: settings.with_segments_q(segments_q).with_segments_k(segments_k), ..recipe }
}

fn capped(recipe: Recipe, cap: f64) -> Recipe {
    Recipe { settings: recipe.settings.with_softcap(cap), ..recipe }
}

/// SUS with budget `c`, a seed and a layout; `paper` and `bernoulli` unless changed.
fn sus(recipe: Recipe, c: f64, seed: u64, layout: Layout) -> Recipe {
    let settings = recipe
        .settings
        .with_pass(Pass::Sus)
        .with_c(Budget::new(c).ok())
        .with_seed(seed)
        .with_layout(layout);
    Recipe { settings, ..recipe }
}

fn by(recipe: Recipe, rule: Rule, sampler: Sampler) -> Recipe {
    let settings = recipe.settings.with_rule(rule).with_sampler(sampler);
    Recipe { settings, ..recipe }
}

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
    fn case(self, index: u64) -> NamedProblem {
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
        let mut inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias).with_sink(sink);
        shape_numbers(&mut inputs, numbers);
        let options = self.settings.options().expect("a built-in case");
        let problem = Problem::new(inputs, options).expect("a built-in case");
        let draw = self.settings.draw().expect("a built-in case");
        NamedProblem {
            name: self.name,
            purpose: self.purpose,
            problem,
            settings: self.settings,
            draw,
        }
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
///
/// # Examples
/// ```
/// let cases = sus_corpus::all();
/// assert!(cases.iter().any(|case| case.name == "primes" && case.draw.is_none()));
/// ```
#[must_use]
pub fn all() -> Vec<NamedProblem> {
    dense()
        .into_iter()
        .chain(sampled())
        .zip(0..)
        .map(|(recipe, index)| recipe.case(index))
        .collect()
}

/// The case of this name.
///
/// # Examples
/// ```
/// use sus_corpus::named;
/// assert_eq!(named("primes").unwrap().name, "primes");
/// assert!(named("no such case").is_none());
/// ```
#[must_use]
pub fn named(name: &str) -> Option<NamedProblem> {
    dense()
        .into_iter()
        .chain(sampled())
        .zip(0..)
        .find(|(recipe, _)| recipe.name == name)
        .map(|(recipe, index)| recipe.case(index))
}
