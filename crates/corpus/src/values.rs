//! How the numbers of a case are drawn.

use serde::Deserialize;

/// How the inputs of a case are drawn. Every value is exact in bf16 and in f16.
///
/// All but [`Values::Sixteenths`] are drawn by the case's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Values {
    /// Multiples of 1/64 in (-4, 4), bell-shaped with standard deviation 1.15.
    #[default]
    Plain,
    /// Integers from -2 to 2.
    SmallIntegers,
    /// Ramps whose level tells the head and the sequence.
    HeadRamps,
    /// Plain, but `do` holds multiples of 2^-24 below 2^-16.
    TinyCotangent,
    /// Plain, but `do` is zero.
    NoCotangent,
    /// Plain, but the first feature adds about -320 to every `q . k`.
    Deep,
    /// Scores up to about 10^4; keys in pairs of nearly equal scores, so that gradients do not vanish.
    Huge,
    /// Plain, with `q` and `k` times 4.
    Large,
    /// Plain, with `q` times 4.
    Peaked,
    /// Plain, with `q` over 16.
    Flat,
    /// A cut of an attention layer of a trained transformer.
    Real,
    /// Multiples of 1/16 below 4, near a normal distribution of deviation 1, drawn from a numbered stream.
    Sixteenths {
        /// The stream of the generator.
        stream: u64,
        /// What is done to the numbers after they are drawn.
        numbers: Numbers,
    },
}

/// What is done to the numbers of a case after they are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Numbers {
    /// Nothing.
    Plain,
    /// `q` is multiplied by eight.
    Deep,
    /// `q` of even queries is multiplied by sixteen, so that they attend to one key; `q` of odd ones is zero, so that
    /// they attend to all keys equally.
    PeakedAndFlat,
    /// Each head has a level of its own.
    HeadLevels,
    /// `do` is zero: the one cotangent is that of `lse`.
    OnlyDlse,
    /// The bias is -96: `lse` is deeply negative.
    Offset,
}
