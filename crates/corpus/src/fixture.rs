//! A case as the data state it.

use super::flag::Flag;
use super::text::parsed;
use super::values::Values;
use serde::{Deserialize, Deserializer};
use sus_files::{Pass, Settings};
use sus_reference::mask::{Alignment, Window};
use sus_reference::problem::Sizes;
use sus_reference::sus::{Budget, Layout, Rule, Sampler};
use sus_reference::tensor::Tensor;

/// One case, as data.
///
/// # Examples
/// ```
/// use sus_corpus::{Flag, Suite};
/// // The cases for a kernel that must handle queries without a visible key.
/// let mut cases = Suite::Smoke.fixtures().iter();
/// let case = cases.find(|case| case.flags.contains(&Flag::FullyMaskedRow)).unwrap();
/// assert_eq!((case.name.as_str(), case.sizes.keys), ("size_0_keys", 0));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fixture {
    /// Its name, and that of its file. The inputs of a fixture are drawn from it.
    pub name: String,
    /// What is special about it.
    pub purpose: String,
    /// The wrong formula, or index, that it shows; empty in the kill matrix, whose cases serve many mutants.
    #[serde(default)]
    pub bug: String,
    /// Where that happened: labels of reports. Empty where the bug follows from the formulas.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// The flags that it is there for. It may have more; all are derived from the problem.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// The sizes.
    #[serde(with = "SizesData")]
    pub sizes: Sizes,
    /// The optional operands.
    #[serde(default)]
    pub operands: OptionalOperands,
    /// The options.
    #[serde(default)]
    pub options: FixtureOptions,
    /// How the inputs are drawn.
    #[serde(default)]
    pub values: Values,
    /// The draw of the mask; `None` for the dense pass.
    #[serde(default)]
    pub draw: Option<FixtureDraw>,
}

/// [`Sizes`] in the specification's letters.
#[derive(Deserialize)]
#[serde(remote = "Sizes", deny_unknown_fields)]
struct SizesData {
    #[serde(rename = "B")]
    batch: usize,
    #[serde(rename = "Hq")]
    query_heads: usize,
    #[serde(rename = "Hk")]
    key_heads: usize,
    #[serde(rename = "Nq")]
    queries: usize,
    #[serde(rename = "Nk")]
    keys: usize,
    #[serde(rename = "D")]
    features: usize,
    #[serde(rename = "E")]
    value_features: usize,
}

/// Which optional operands a case has.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the data")]
pub struct OptionalOperands {
    /// A cotangent of `lse`.
    pub dlse: bool,
    /// A bias.
    pub bias: Option<BiasAxes>,
    /// The bias is `-inf` for three keys of seven, others in each row, and for all keys of query 1.
    pub bias_mask: bool,
    /// A sink.
    pub sink: bool,
    /// A mask by elements, of all heads: five keys of seven, others in each row, and none for query 1.
    pub attn_mask: bool,
    /// A mask by blocks of so many queries and keys: three blocks of four, others for each head.
    pub block_mask: Option<[usize; 2]>,
    /// Lists of so many keys for each key head and query; every fifth place names no key.
    pub indices: Option<usize>,
    /// The queries and keys of sequence `b` end `b + 1` and `2 b + 1` before the last.
    pub lengths: bool,
    /// Packed sequences, and how much of them is used.
    pub packed: Option<Packed>,
    /// Dropout with this probability.
    pub dropout_p: Option<f64>,
    /// Slopes.
    pub alibi: Option<Slopes>,
}

/// Packed sequences as FlashAttention has them: cumulative lengths, and used ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Packed {
    /// `cu_seqlens_q`.
    pub cu_seqlens_q: [usize; 4],
    /// `cu_seqlens_k`.
    pub cu_seqlens_k: [usize; 4],
    /// `seqused_k`.
    pub seqused_k: [usize; 3],
}

/// Slopes of each head, or of each sequence and head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slopes {
    /// `[Hq]`.
    Heads,
    /// `[B, Hq]`.
    Batch,
}

impl OptionalOperands {
    /// The bias with `-inf` where it hides a key.
    pub(crate) fn hidden(self, bias: &Tensor<f64>) -> Tensor<f64> {
        Tensor::from_fn(bias.shape(), |[b, h, i, j]| {
            let hides = i == 1 || (b + 5 * h + 3 * i + j) % 7 < 3;
            if self.bias_mask && hides { f64::NEG_INFINITY } else { bias.row(b, h, i)[j] }
        })
    }
}

/// Along which of its first three axes a bias has an entry of its own for each index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BiasAxes {
    /// `[B, ..]`, not `[1, ..]`.
    pub batch: bool,
    /// `[.., Hq, ..]`.
    pub heads: bool,
    /// `[.., Nq, ..]`.
    pub queries: bool,
}

impl BiasAxes {
    /// The shape of the bias of a problem.
    pub(crate) fn shape(self, sizes: Sizes) -> [usize; 4] {
        let axis = |own, length| if own { length } else { 1 };
        let heads = axis(self.heads, sizes.query_heads);
        [axis(self.batch, sizes.batch), heads, axis(self.queries, sizes.queries), sizes.keys]
    }
}

/// The options of a case, as its file states them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FixtureOptions {
    /// The scale; `None` leaves it to the default, `1 / sqrt(D)`.
    pub scale: Option<f64>,
    /// The softcap.
    pub softcap: Option<f64>,
    /// Causal.
    pub causal: bool,
    /// Where the diagonal lies.
    #[serde(deserialize_with = "parsed")]
    pub alignment: Alignment,
    /// The window.
    #[serde(deserialize_with = "window")]
    pub window: Option<Window>,
    /// Cumulative lengths of queries.
    pub segments_q: Option<Vec<usize>>,
    /// Cumulative lengths of keys.
    pub segments_k: Option<Vec<usize>>,
    /// The bias comes before the softcap.
    pub bias_first: bool,
    /// `v` is the first features of `k`.
    pub v_of_k: bool,
}

/// `[left, right]`, both ends included.
fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Window>, D::Error> {
    let [left, right] = <[u64; 2]>::deserialize(deserializer)?;
    Ok(Some(Window { left: Some(left), right: Some(right) }))
}

/// The draw of a case's mask.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FixtureDraw {
    /// The budget; `inf` is legal.
    pub c: f64,
    /// Weights to probabilities.
    #[serde(deserialize_with = "parsed")]
    pub rule: Rule,
    /// Probabilities to a mask.
    #[serde(deserialize_with = "parsed")]
    pub sampler: Sampler,
    /// Which word serves which weight.
    #[serde(deserialize_with = "parsed")]
    pub layout: Layout,
    /// Layer or step.
    #[serde(default)]
    pub stream: u32,
    /// The seed, and what it may be used for.
    pub seeds: Seeds,
}

/// Where a seed comes from.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Seeds {
    /// The first seed from `from` on whose mask has at least the margin `delta`: for masks compared exactly, never for
    /// statistics.
    Margin {
        /// The first seed tried.
        from: u64,
        /// The least margin.
        delta: f64,
    },
    /// This seed, not chosen by its mask: the case also holds exact variances.
    Statistics(u64),
    /// This seed.
    Given(u64),
}

impl Fixture {
    /// The settings that its file states: the pass, the mask's kind always, and every key of the draw.
    ///
    /// # Panics
    /// If the data hold a budget that is not above 0.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus::Suite;
    /// use sus_files::Pass;
    /// let case = Suite::Smoke.fixtures().iter().find(|case| case.name == "one_key").unwrap();
    /// let settings = case.settings(None);
    /// assert_eq!((settings.pass, settings.causal), (Some(Pass::Dense), Some(false))); // stated, though the default
    /// assert!(!settings.names_a_draw());
    /// ```
    #[must_use]
    pub fn settings(&self, seed: Option<u64>) -> Settings {
        let FixtureOptions {
            scale,
            softcap,
            causal,
            alignment,
            window,
            segments_q,
            segments_k,
            bias_first,
            v_of_k,
        } = self.options.clone();
        let settings = Settings::default()
            .with_pass(if self.draw.is_some() { Pass::Sus } else { Pass::Dense })
            .with_scale(scale)
            .with_softcap(softcap)
            .with_causal(causal)
            .with_alignment(alignment)
            .with_window(window)
            .with_segments_q(segments_q)
            .with_segments_k(segments_k)
            .with_block(self.operands.block_mask)
            .with_dropout_p(self.operands.dropout_p)
            .with_v_of_k(v_of_k.then_some(self.sizes.value_features))
            .with_bias_first(bias_first.then_some(true));
        match self.draw {
            None => settings,
            Some(draw) => settings
                .with_c(Budget::new(draw.c).expect("a budget above 0"))
                .with_rule(draw.rule)
                .with_sampler(draw.sampler)
                .with_seed(seed)
                .with_stream(draw.stream)
                .with_layout(draw.layout),
        }
    }

    /// Whether it holds variances, and its seed may be used for statistics.
    #[must_use]
    pub fn is_statistical(&self) -> bool {
        matches!(self.draw, Some(FixtureDraw { seeds: Seeds::Statistics(_), .. }))
    }
}
