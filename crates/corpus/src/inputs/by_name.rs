//! Inputs of the fixtures: drawn by `ChaCha20` from the case's name.
//!
//! The generator of operand `n` of a case has the key [`KEY`], the stream given by the first eight bytes of the
//! SHA-256 of the case's name (little-endian), and starts at word `n 2^32`. One 32-bit word makes one value, so a
//! case keeps its inputs when other cases change.

use crate::fixture::Fixture;
use crate::values::Values;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sus_files::hash::sha256;
use sus_files::{ProblemFile, Settings, TensorFile};
use sus_reference::error::Error;
use sus_reference::problem::{Inputs, Sizes};
use sus_reference::tensor::Tensor;

/// The key of the generator.
///
/// # Examples
/// ```
/// use rand_chacha::ChaCha20Rng;
/// use rand_core::{Rng, SeedableRng};
/// use sus_corpus::{KEY, Suite, Values, draw_inputs};
/// use sus_files::hash::sha256;
/// // The first number of q, by hand: operand 0, and four bytes of a word added up.
/// let case = Suite::Smoke.fixtures().iter().find(|case| case.name == "causal_square").unwrap();
/// assert_eq!(case.values, Values::Plain);
/// let mut rng = ChaCha20Rng::from_seed(*KEY);
/// rng.set_stream(u64::from_le_bytes(sha256(case.name.as_bytes())[..8].try_into().unwrap()));
/// rng.set_word_pos(0);
/// let sum: i32 = rng.next_u32().to_le_bytes().into_iter().map(i32::from).sum();
/// assert_eq!(draw_inputs(case)?.q.as_slice()[0], f64::from(sum / 2 - 255) / 64.0);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub const KEY: &[u8; 32] = b"sus-oracle fixtures, values v. 1";

/// Queries 32 to 39 and keys 0 to 39 of one head of a trained transformer: `q, k, v, do` in BF16. See its folder.
pub static REAL_CUT: &[u8] = include_bytes!("../../data/real/cut.safetensors");

/// The operands, in the order of their words.
#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Q,
    K,
    V,
    G,
    Dlse,
    Bias,
    Sink,
}

pub(super) fn inputs(case: &Fixture) -> Inputs<f64> {
    let Sizes { batch, query_heads, key_heads, queries, keys, features, value_features } =
        case.sizes;
    let draw = |operand, shape| OperandDraw { case, operand, shape }.tensor();
    let operands = case.operands;
    let bias = operands.bias.map(|axes| draw(Operand::Bias, axes.shape(case.sizes)));
    let bias = bias.map(|bias| operands.hidden(&bias));
    let rows = [batch, query_heads, queries, 1];
    let sink = operands.sink.then(|| draw(Operand::Sink, [1, 1, 1, query_heads]));
    Inputs::new(
        draw(Operand::Q, [batch, query_heads, queries, features]),
        draw(Operand::K, [batch, key_heads, keys, features]),
        draw(Operand::V, [batch, key_heads, keys, value_features]),
        draw(Operand::G, [batch, query_heads, queries, value_features]),
    )
    .with_dlse(operands.dlse.then(|| draw(Operand::Dlse, rows)))
    .with_bias(bias)
    .with_sink(sink.map(|sink| sink.as_slice().to_vec()))
}

/// One operand of a case.
struct OperandDraw<'a> {
    case: &'a Fixture,
    operand: Operand,
    shape: [usize; 4],
}

impl OperandDraw<'_> {
    fn tensor(&self) -> Tensor<f64> {
        let mut rng = generator(&self.case.name, self.operand);
        // Keys 2m + 1 of `Huge` repeat most of key 2m.
        let mut earlier = vec![0.0; self.shape[3]];
        Tensor::from_fn(self.shape, |at| {
            let word = rng.next_u32();
            let value = self.value(word, at, earlier[at[3]]);
            if at[2] % 2 == 0 {
                earlier[at[3]] = value;
            }
            value
        })
    }

    fn value(&self, word: u32, [b, h, n, d]: [usize; 4], earlier: f64) -> f64 {
        let plain = plain(word);
        let queries_or_keys = matches!(self.operand, Operand::Q | Operand::K);
        match (self.case.values, self.operand) {
            (Values::SmallIntegers, _) => f64::from(word % 5) - 2.0,
            (Values::HeadRamps, _) => {
                let level = 64 * b + 24 * (h + 1);
                (level + (n * self.shape[3] + d) * 5 % 16) as f64 / 64.0
            }
            (Values::TinyCotangent, Operand::G) => plain / f64::from(1 << 18),
            (Values::NoCotangent, Operand::G) => 0.0,
            (Values::Deep, Operand::Q) if d == 0 => 16.0,
            (Values::Deep, Operand::K) if d == 0 => -20.0 - (n % 3) as f64 / 8.0,
            (Values::Huge, _) if queries_or_keys && d + 1 < self.shape[3] => {
                let repeated = self.operand == Operand::K && n % 2 == 1;
                if repeated { earlier } else { plain * 32.0 }
            }
            (Values::Large, _) if queries_or_keys => plain * 4.0,
            (Values::Peaked, Operand::Q) => plain * 4.0,
            (Values::Flat, Operand::Q) => plain / 16.0,
            _ => plain,
        }
    }
}

/// A multiple of 1/64 in (-4, 4): half the sum of the word's four bytes, rounded down, less 255, over 64.
fn plain(word: u32) -> f64 {
    let sum: i32 = word.to_le_bytes().into_iter().map(i32::from).sum();
    f64::from(sum / 2 - 255) / 64.0
}

fn generator(name: &str, operand: Operand) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::from_seed(*KEY);
    let [a, b, c, d, e, f, g, h, ..] = sha256(name.as_bytes());
    rng.set_stream(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    rng.set_word_pos((operand as u128) << 32);
    rng
}

/// The cut as it is: its values are exact in f16 too.
pub(super) fn real_inputs() -> Result<Inputs<f64>, Error> {
    let unreadable =
        |e: sus_files::error::Reason| Error::option("values", "the cut of a real layer", e);
    let file = TensorFile::parse(REAL_CUT).map_err(unreadable)?;
    let read = ProblemFile::from_tensors(file, Settings::default()).map_err(unreadable)?;
    Ok(read.problem.inputs().clone())
}
