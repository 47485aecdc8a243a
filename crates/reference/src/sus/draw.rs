//! The description of a draw: budget, rule, sampler and random words.

use super::rule::{Budget, Rule};
use super::sampler::{Sampler, UniformBits};
use super::uniform::{Grid, Layout, Uniforms};
use crate::error::Error;
use crate::problem::Problem;
use crate::setters;

/// Everything that determines a mask, given the weights.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Draw, Rule, Sampler};
/// let paper = Draw::paper(Budget::new(30.0)?, 42);
/// let draw = paper.with_rule(Rule::Calibrated).with_sampler(Sampler::Systematic).with_stream(3); // such as the layer
/// assert_eq!((draw.c, draw.seed), (paper.c, paper.seed));
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Draw {
    /// Interactions per row, in expectation.
    pub c: Budget,
    /// Weights to probabilities.
    pub rule: Rule,
    /// Probabilities to a mask.
    pub sampler: Sampler,
    /// Seed of `sus-u/1`.
    pub seed: u64,
    /// Layer or step, below `2^31`.
    pub stream: u32,
    /// The map from weights to words.
    pub layout: Layout,
    /// The number of bits that decide an entry.
    pub bits: UniformBits,
}

impl Draw {
    /// The paper's draw: its rule, independent entries, `coord4` words, stream 0.
    #[must_use]
    pub fn paper(c: Budget, seed: u64) -> Self {
        Draw {
            c,
            rule: Rule::Paper,
            sampler: Sampler::Bernoulli,
            seed,
            stream: 0,
            layout: Layout::Coord4,
            bits: UniformBits::Bits32,
        }
    }
}

setters! { Draw, [];
    with_c(c: Budget);
    with_rule(rule: Rule);
    with_sampler(sampler: Sampler);
    with_seed(seed: u64);
    with_stream(stream: u32);
    with_layout(layout: Layout);
    with_bits(bits: UniformBits);
}

/// The random words of a draw. With `S` packed segments, segment `s` of sequence `b` counts as sequence `b S + s`.
///
/// # Errors
/// [`Error::Uniform`] if the layout does not give every weight of the problem a word of its own; [`Error::Option`] if
/// [`UniformBits::Bits64`] is combined with the layout `arrival`, which has no second words.
pub fn uniforms(problem: &Problem<f64>, draw: &Draw) -> Result<Uniforms, Error> {
    if draw.bits == UniformBits::Bits64 && draw.layout == Layout::Arrival {
        return Err(Error::option("uniform_bits", "32 in the layout arrival", 64));
    }
    // A part of a problem has the words that it has in the whole.
    let part = problem.options().part.as_deref();
    let sizes = part.map_or(problem.sizes(), |part| part.whole);
    let grid = Grid {
        batch: sizes.batch * problem.mask().segment_count(),
        heads: sizes.query_heads,
        queries: sizes.queries,
        keys: sizes.keys,
    };
    let uniforms = Uniforms::new(draw.seed, draw.stream, draw.layout, grid)?;
    Ok(uniforms.from_head(part.map_or(0, |part| part.first_head)))
}
