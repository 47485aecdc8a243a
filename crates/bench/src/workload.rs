//! Attention to measure: with weight all over the row, or near the diagonal.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Serialize, Serializer};
use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use sus_reference::error::Error;
use sus_reference::mask::{BlockMask, KeySet};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::tensor::Tensor;

/// How large a problem is: `q, k, v, do` are `[batch, heads, n, features]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries, and keys.
    pub n: usize,
    /// Features of queries, keys and values.
    pub features: usize,
}

impl Shape {
    /// One head of one sequence, with 64 features.
    ///
    /// # Examples
    /// ```
    /// let shape = sus_bench::Shape::one_head(128);
    /// assert_eq!((shape.batch, shape.heads, shape.n, shape.features), (1, 1, 128, 64));
    /// ```
    #[must_use]
    pub fn one_head(n: usize) -> Self {
        Shape { batch: 1, heads: 1, n, features: 64 }
    }
}

/// Where the weight of a row lies.
///
/// # Examples
/// ```
/// use sus_bench::{Shape, Workload};
/// use sus_reference::sus::{Budget, Rule, Sampler, moments::MaskDistribution};
/// let expected = |pattern: Workload| {
///     let problem = pattern.problem(Shape::one_head(128), true)?;
///     let saved = sus_reference::forward::forward(&problem);
///     let law = MaskDistribution::new(&problem, &saved, Budget::new(30.0)?, Rule::Paper, Sampler::Bernoulli);
///     Ok::<_, sus_reference::Error>(law.row(problem.row(127)).expected())
/// };
/// // Peaks near the diagonal have a row's weight in a few keys.
/// assert!(expected("local".parse()?)? < expected("random".parse()?)?);
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Scores are independent, of standard deviation 2: weight is spread, with peaks anywhere.
    Random,
    /// Scores fall off with the distance from the diagonal: about eight entries a row are kept when causal.
    Local,
    /// The scores of `Random` under a block mask: of the blocks of 128 queries and 128 keys one in twenty may be seen, others in each
    /// row of blocks.
    Blocks,
}

/// Queries, and keys, of a block of [`Workload::Blocks`].
const BLOCK: usize = 128;

/// One block in so many may be seen.
const ONE_IN: usize = 20;

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Workload::Random => "random",
            Workload::Local => "local",
            Workload::Blocks => "blocks",
        })
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Workload {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "random" => Ok(Workload::Random),
            "local" => Ok(Workload::Local),
            "blocks" => Ok(Workload::Blocks),
            _ => {
                let expected = "'random', 'local' or 'blocks'";
                Err(Error::option("pattern", expected, format!("'{name}'")))
            }
        }
    }
}

impl Workload {
    /// A problem of this shape; every number is an `f32`, so that both arithmetics see the same. All heads have different numbers,
    /// but for `q` and `k` of [`Workload::Local`].
    ///
    /// # Errors
    /// None, for sizes that fit into memory.
    pub fn problem(self, shape: Shape, causal: bool) -> Result<Problem<f64>, Error> {
        let mut rng = ChaCha8Rng::from_seed([7; 32]);
        let Shape { batch, heads, n, features } = shape;
        let mut normal = |deviation: f64| {
            Tensor::from_fn([batch, heads, n, features], |_| {
                f64::from((deviation * standard_normal(&mut rng)) as f32)
            })
        };
        let (v, g) = (normal(1.0), normal(1.0));
        let (q, k) = match self {
            Workload::Random | Workload::Blocks => (normal(2.0), normal(1.0)),
            Workload::Local => {
                let waves = waves(shape, &mut rng);
                (waves.clone(), waves)
            }
        };
        let inputs = Inputs::new(q, k, v, g);
        let sets = if self == Workload::Blocks { vec![blocks(n)] } else { Vec::new() };
        Problem::new(inputs, Options::default().with_causal(causal).with_key_sets(sets))
    }
}

/// Every [`ONE_IN`]-th block, counted along the rows with a step of 7, which has no factor in common with it.
fn blocks(n: usize) -> KeySet {
    let side = n.div_ceil(BLOCK);
    let seen =
        (0..side * side).map(|at| u8::from((at / side * 7 + at % side).is_multiple_of(ONE_IN)));
    KeySet::BlockMask(BlockMask {
        shape: [1, 1, side, side],
        block: [BLOCK; 2],
        seen: seen.collect(),
    })
}

/// Positions as waves: `q_i . k_j / sqrt(D)` is the mean of `PEAK cos(w (i - j))` over random frequencies `w`, a bell of
/// height `PEAK` on the diagonal and noise of deviation `PEAK / sqrt(D)` far from it.
fn waves(shape: Shape, rng: &mut ChaCha8Rng) -> Tensor<f64> {
    const PEAK: f64 = 40.0;
    const DEVIATION: f64 = 0.055;
    let Shape { batch, heads, n, features } = shape;
    let frequencies: Vec<f64> =
        (0..features.div_ceil(2)).map(|_| DEVIATION * standard_normal(rng)).collect();
    let amplitude = libm::sqrt(PEAK * libm::sqrt(features as f64) / frequencies.len() as f64);
    Tensor::from_fn([batch, heads, n, features], |[_, _, position, feature]| {
        let angle = frequencies[feature / 2] * position as f64 % TAU;
        let wave = if feature % 2 == 0 { libm::cos(angle) } else { libm::sin(angle) };
        f64::from((amplitude * wave) as f32)
    })
}

/// Twelve uniforms less six: mean 0, variance 1.
fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    let sum: f64 = (0..12).map(|_| f64::from(rng.next_u32()) / 4_294_967_296.0).sum();
    sum - 6.0
}
