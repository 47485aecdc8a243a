//! The settings of a problem: what the file's metadata and the command's options say, merged.
//!
//! `__metadata__["sus_oracle"]` is one JSON object. Absent keys mean the default; an unknown key is an error. An
//! option of the command may add a key or repeat one; it may not contradict the file.

#[macro_use]
mod table;
mod values;

use std::fmt;
use std::str::FromStr;
use sus_reference::TensorName;
use sus_reference::error::Error;
use sus_reference::mask::{Alignment, Segments, Window};
use sus_reference::problem::Options;
use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler, UniformBits};

/// The version of the file format.
pub const SPEC: &str = "sus-oracle/1";

/// Expected kept entries per row where nobody says otherwise.
pub const DEFAULT_C: f64 = 30.0;

/// Which backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All weights.
    Dense,
    /// Sampled weights.
    Sus,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Pass::Dense => "dense",
            Pass::Sus => "sus",
        })
    }
}

impl FromStr for Pass {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "dense" => Ok(Pass::Dense),
            "sus" => Ok(Pass::Sus),
            _ => Err(Error::option("pass", "'dense' or 'sus'", format!("'{name}'"))),
        }
    }
}

/// What a candidate has to hold in the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Zeros.
    #[default]
    Zero,
    /// Anything: it is not judged.
    Any,
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Padding::Zero => "zero",
            Padding::Any => "any",
        })
    }
}

impl FromStr for Padding {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "zero" => Ok(Padding::Zero),
            "any" => Ok(Padding::Any),
            _ => Err(Error::option("padding", "'zero' or 'any'", format!("'{name}'"))),
        }
    }
}

// One row a key: its type, its setter, what a file may say, and how that is read and written.
settings_table! {
    problem {
        /// Dense or SUS.
        pass: Pass, with_pass, "\"dense\" or \"sus\"", values::named, values::name;
        /// Factor of `q . k`.
        scale: f64, with_scale, "a number", values::number, values::json;
        /// Cap of the scores.
        softcap: f64, with_softcap, "a number above 0", values::positive, values::json;
        /// No key after the diagonal.
        causal: bool, with_causal, "true or false", values::boolean, values::json;
        /// Where the diagonal lies.
        alignment: Alignment, with_alignment, "\"bottom-right\" or \"top-left\"", values::named, values::name;
        /// How far from the diagonal.
        window: Window, with_window, "[left, right], each at least 0 or null", values::window, values::window_json;
        /// Cumulative query lengths of packed sequences.
        segments_q: Vec<usize>, with_segments_q, "a list of cumulative lengths", values::lengths, values::json;
        /// Cumulative key lengths of packed sequences.
        segments_k: Vec<usize>, with_segments_k, "a list of cumulative lengths", values::lengths, values::json;
        /// Queries and keys of a block of `block_mask`.
        block: [usize; 2], with_block, "[m, n], each above 0", values::block, values::json;
        /// Whether a candidate's padding has to be 0.
        padding: Padding, with_padding, "\"zero\" or \"any\"", values::named, values::name;
        /// The probability with which `dropout_mask` was drawn.
        dropout_p: f64, with_dropout_p, "a number from 0 to below 1", values::probability, values::json;
        /// `v` is so many first features of `k`, and no tensor of its own.
        v_of_k: usize, with_v_of_k, "a number of features, above 0", values::count, values::json;
        /// The bias is added before the softcap.
        bias_first: bool, with_bias_first, "true or false", values::boolean, values::json;
        /// The factor of `P` before it is rounded to 8 bits.
        p_scale: f64, with_p_scale, "a finite number above 0", values::finite_positive, values::json;
        /// The factor of `dS` before it is rounded to 8 bits.
        ds_scale: f64, with_ds_scale, "a finite number above 0", values::finite_positive, values::json;
        /// The results that the kernel computes; without it, all.
        gradients: Vec<TensorName>, with_gradients, "a list of results, such as [\"dq\", \"dk\"]", values::results, values::result_names;
    }
    draw {
        /// Expected kept entries per row.
        c: Budget, with_c, "a number above 0, or \"inf\"", values::budget, values::budget_json;
        /// Weights to probabilities.
        rule: Rule, with_rule, "\"paper\" or \"calibrated\"", values::named, values::name;
        /// Probabilities to a mask.
        sampler: Sampler, with_sampler, "\"bernoulli\" or \"systematic\"", values::named, values::name;
        /// Seed of the words.
        seed: u64, with_seed, "an integer from 0 to 2^64 - 1", values::integer, values::json;
        /// Layer or step.
        stream: u32, with_stream, "an integer from 0 to 2^31 - 1", values::stream, values::json;
        /// Which word serves which weight.
        layout: Layout, with_layout, "\"coord4\", \"linear4\", \"linear1\", \"jax-threefry\" or \"arrival\"", values::named, values::name;
        /// 32 or 64.
        uniform_bits: UniformBits, with_uniform_bits, "32 or 64", values::uniform_bits, values::uniform_bits_json;
    }
}

impl Settings {
    /// The options of the problem.
    ///
    /// # Errors
    /// [`Error::Option`] if only one side of the packed sequences is given.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let settings = Settings::default().with_segments_q(vec![0, 2, 5]);
    /// let error = settings.options().unwrap_err();
    /// assert_eq!(error.to_string(), "option 'segments_k': expected a list, as segments_q is given, found none");
    /// let both = settings.with_segments_k(vec![0, 2, 5]);
    /// assert_eq!(both.options()?.segments.unwrap().keys, [0, 2, 5]);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn options(&self) -> Result<Options, Error> {
        let segments = match (&self.segments_q, &self.segments_k) {
            (None, None) => None,
            (Some(queries), Some(keys)) => {
                Some(Segments { queries: queries.clone(), keys: keys.clone() })
            }
            (Some(_), None) => {
                return Err(Error::option("segments_k", "a list, as segments_q is given", "none"));
            }
            (None, Some(_)) => {
                return Err(Error::option("segments_q", "a list, as segments_k is given", "none"));
            }
        };
        Ok(Options::default()
            .with_scale(self.scale)
            .with_softcap(self.softcap)
            .with_causal(self.causal.unwrap_or_default())
            .with_alignment(self.alignment.unwrap_or_default())
            .with_window(self.window)
            .with_segments(segments)
            .with_bias_first(self.bias_first.unwrap_or_default())
            .with_v_of_k(self.v_of_k.is_some()))
    }

    /// The draw of the mask, or `None` for the dense pass. Without a key `pass` it is SUS.
    ///
    /// # Errors
    /// None today: every setting was validated when it was read.
    pub fn draw(&self) -> Result<Option<Draw>, Error> {
        if self.pass == Some(Pass::Dense) {
            return Ok(None);
        }
        let c = self.c.map_or_else(|| Budget::new(DEFAULT_C), Ok)?;
        let draw = Draw::paper(c, self.seed.unwrap_or_default())
            .with_rule(self.rule.unwrap_or_default())
            .with_sampler(self.sampler.unwrap_or_default())
            .with_stream(self.stream.unwrap_or_default())
            .with_layout(self.layout.unwrap_or_default())
            .with_bits(self.uniform_bits.unwrap_or_default());
        Ok(Some(draw))
    }

    /// The same settings with every key of the draw written out; of the dense pass none is left.
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Pass, Settings};
    /// let settings = Settings::default().with_seed(7);
    /// let written_out = settings.with_draw(settings.draw()?.as_ref());
    /// assert_eq!(written_out.draw()?, settings.draw()?);
    /// assert!(written_out.c.is_some() && written_out.layout.is_some());
    /// assert_eq!(settings.with_draw(None), Settings::default().with_pass(Pass::Dense));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn with_draw(&self, draw: Option<&Draw>) -> Self {
        let settings = self.clone();
        match draw {
            None => settings.without_draw().with_pass(Pass::Dense),
            Some(draw) => settings
                .with_pass(Pass::Sus)
                .with_c(draw.c)
                .with_rule(draw.rule)
                .with_sampler(draw.sampler)
                .with_seed(draw.seed)
                .with_stream(draw.stream)
                .with_layout(draw.layout)
                .with_uniform_bits(draw.bits),
        }
    }
}
