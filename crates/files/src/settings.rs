//! The settings of a problem: what the file's metadata and the command's options say, merged.
//!
//! `__metadata__["sus_oracle"]` is one JSON object. Absent keys mean the default; an unknown key is an error. An
//! option of the command may add a key, and may repeat one, but never say something else.

use super::error::Reason;
use serde_json::{Map, Value, json};
use std::str::FromStr;
use sus_reference::error::Error;
use sus_reference::mask::{Alignment, Segments, Window};
use sus_reference::problem::Options;
use sus_reference::setters;
use sus_reference::sus::{Budget, Draw, Layout, Rule, Sampler, UniformBits};

/// The version of the file format.
///
/// # Examples
/// ```
/// use sus_files::{Settings, settings::SPEC};
/// assert!(Settings::default().to_json().contains(SPEC));
/// assert!(Settings::from_json(r#"{"spec":"sus-oracle/2"}"#).is_err()); // a later format is not guessed at
/// ```
pub const SPEC: &str = "sus-oracle/1";

/// Expected kept entries per row where nobody says otherwise.
///
/// # Examples
/// ```
/// use sus_files::{Settings, settings::DEFAULT_C};
/// assert_eq!(Settings::default().draw()?.unwrap().c.get(), DEFAULT_C);
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub const DEFAULT_C: f64 = 30.0;

/// Which backward pass.
///
/// # Examples
/// ```
/// use sus_files::{Pass, Settings};
/// assert_eq!(Settings::from_json(r#"{"pass":"dense"}"#)?.pass, Some(Pass::Dense));
/// let settings = Settings::default().with_pass(Pass::Sus);
/// assert_eq!(settings.to_json(), r#"{"pass":"sus","spec":"sus-oracle/1"}"#);
/// # Ok::<(), sus_files::error::Reason>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All weights.
    Dense,
    /// Sampled weights.
    Sus,
}

/// The settings of a problem; `None` where nothing was said.
///
/// # Examples
/// ```
/// use sus_files::{Pass, Settings};
/// let settings = Settings::default().with_pass(Pass::Dense).with_causal(true);
/// assert!(settings.options()?.causal && !settings.names_a_draw());
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Dense or SUS.
    pub pass: Option<Pass>,
    /// Factor of `q . k`.
    pub scale: Option<f64>,
    /// Cap of the scores.
    pub softcap: Option<f64>,
    /// No key after the diagonal.
    pub causal: Option<bool>,
    /// Where the diagonal lies.
    pub alignment: Option<Alignment>,
    /// How far from the diagonal.
    pub window: Option<Window>,
    /// Cumulative query lengths of packed sequences.
    pub segments_q: Option<Vec<usize>>,
    /// Cumulative key lengths of packed sequences.
    pub segments_k: Option<Vec<usize>>,
    /// Expected kept entries per row.
    pub c: Option<Budget>,
    /// Weights to probabilities.
    pub rule: Option<Rule>,
    /// Probabilities to a mask.
    pub sampler: Option<Sampler>,
    /// Seed of the words.
    pub seed: Option<u64>,
    /// Layer or step.
    pub stream: Option<u32>,
    /// Which word serves which weight.
    pub layout: Option<Layout>,
    /// 32 or 64.
    pub uniform_bits: Option<UniformBits>,
}

setters! { Settings, [];
    with_pass(pass: Option<Pass>);
    with_scale(scale: Option<f64>);
    with_softcap(softcap: Option<f64>);
    with_causal(causal: Option<bool>);
    with_alignment(alignment: Option<Alignment>);
    with_window(window: Option<Window>);
    with_segments_q(segments_q: Option<Vec<usize>>);
    with_segments_k(segments_k: Option<Vec<usize>>);
    with_c(c: Option<Budget>);
    with_rule(rule: Option<Rule>);
    with_sampler(sampler: Option<Sampler>);
    with_seed(seed: Option<u64>);
    with_stream(stream: Option<u32>);
    with_layout(layout: Option<Layout>);
    with_uniform_bits(uniform_bits: Option<UniformBits>);
}

impl Settings {
    /// Parses the JSON text of the metadata.
    ///
    /// # Errors
    /// [`Reason::Metadata`] with the key, what was expected and what was found.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let settings = Settings::from_json(r#"{"pass":"sus","c":30,"causal":true,"seed":7}"#)?;
    /// assert_eq!((settings.seed, settings.causal), (Some(7), Some(true)));
    /// assert!(Settings::from_json(r#"{"sede":7}"#).is_err());
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self, Reason> {
        let value: Value = serde_json::from_str(text).map_err(|e| Reason::Metadata {
            key: super::tensor_file::METADATA_KEY.into(),
            expected: "a JSON object".into(),
            found: super::tensor_file::one_line(&e.to_string()),
        })?;
        let Value::Object(map) = value else {
            return Err(wrong(super::tensor_file::METADATA_KEY, "a JSON object", &value));
        };
        let mut keys = Keys(map);
        if let Some(spec) =
            keys.take("spec", &format!("\"{SPEC}\""), |v| v.as_str().map(ToOwned::to_owned))?
            && spec != SPEC
        {
            return Err(wrong("spec", &format!("\"{SPEC}\""), &Value::from(spec)));
        }
        let lengths = "a list of cumulative lengths";
        let settings = Settings {
            pass: keys.take("pass", "\"dense\" or \"sus\"", |v| match v.as_str() {
                Some("dense") => Some(Pass::Dense),
                Some("sus") => Some(Pass::Sus),
                _ => None,
            })?,
            scale: keys.take("scale", "a number", Value::as_f64)?,
            softcap: keys.take("softcap", "a number above 0", positive)?,
            causal: keys.take("causal", "true or false", Value::as_bool)?,
            alignment: keys.take("alignment", "\"bottom-right\" or \"top-left\"", named)?,
            window: keys.take("window", "[left, right], each at least 0 or null", window)?,
            segments_q: keys.take("segments_q", lengths, cumulative)?,
            segments_k: keys.take("segments_k", lengths, cumulative)?,
            c: keys.take("c", "a number above 0, or \"inf\"", budget)?,
            rule: keys.take("rule", "\"paper\" or \"calibrated\"", named)?,
            sampler: keys.take("sampler", "\"bernoulli\" or \"systematic\"", named)?,
            seed: keys.take("seed", "an integer from 0 to 2^64 - 1", Value::as_u64)?,
            stream: keys.take("stream", "an integer from 0 to 2^31 - 1", |v| {
                v.as_u64().filter(|&s| s < 1 << 31).map(|s| s as u32)
            })?,
            layout: keys.take(
                "layout",
                "\"coord4\", \"linear4\", \"linear1\" or \"jax-threefry\"",
                named,
            )?,
            uniform_bits: keys.take("uniform_bits", "32 or 64", |v| match v.as_u64() {
                Some(32) => Some(UniformBits::Bits32),
                Some(64) => Some(UniformBits::Bits64),
                _ => None,
            })?,
        };
        keys.finish()?;
        Ok(settings)
    }

    /// The JSON text, keys sorted, without the keys that say nothing.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let settings = Settings::default().with_seed(7).with_causal(true);
    /// assert_eq!(Settings::from_json(&settings.to_json())?, settings);
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.to_map()).to_string()
    }

    fn to_map(&self) -> Map<String, Value> {
        let text = |x: &dyn ToString| Value::from(x.to_string());
        let pairs = [
            ("spec", Some(json!(SPEC))),
            ("pass", self.pass.map(|p| json!(if p == Pass::Dense { "dense" } else { "sus" }))),
            ("scale", self.scale.map(|x| json!(x))),
            ("softcap", self.softcap.map(|x| json!(x))),
            ("causal", self.causal.map(|x| json!(x))),
            ("alignment", self.alignment.map(|x| text(&x))),
            ("window", self.window.map(|w| json!([w.left, w.right]))),
            ("segments_q", self.segments_q.as_ref().map(|x| json!(x))),
            ("segments_k", self.segments_k.as_ref().map(|x| json!(x))),
            (
                "c",
                self.c
                    .map(|c| if c.get() == f64::INFINITY { json!("inf") } else { json!(c.get()) }),
            ),
            ("rule", self.rule.map(|x| text(&x))),
            ("sampler", self.sampler.map(|x| text(&x))),
            ("seed", self.seed.map(|x| json!(x))),
            ("stream", self.stream.map(|x| json!(x))),
            ("layout", self.layout.map(|x| text(&x))),
            (
                "uniform_bits",
                self.uniform_bits.map(|b| json!(if b == UniformBits::Bits32 { 32 } else { 64 })),
            ),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// The file's settings with the command's added.
    ///
    /// # Errors
    /// [`Reason::Contradiction`] if both say something, and not the same.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let file = Settings::default().with_scale(0.125);
    /// let command = Settings::default().with_seed(7);
    /// assert_eq!(file.clone().merge(command)?.seed, Some(7));
    /// assert!(file.merge(Settings::default().with_scale(0.25)).is_err());
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    pub fn merge(self, command: Self) -> Result<Self, Reason> {
        let (file_says, command_says) = (self.to_map(), command.to_map());
        let contradiction = |key: &'static str| Reason::Contradiction {
            key,
            file: file_says[key].to_string(),
            command: command_says[key].to_string(),
        };
        let merged = || {
            Ok(Settings {
                pass: agree("pass", self.pass, command.pass)?,
                scale: agree("scale", self.scale, command.scale)?,
                softcap: agree("softcap", self.softcap, command.softcap)?,
                causal: agree("causal", self.causal, command.causal)?,
                alignment: agree("alignment", self.alignment, command.alignment)?,
                window: agree("window", self.window, command.window)?,
                segments_q: agree("segments_q", self.segments_q, command.segments_q)?,
                segments_k: agree("segments_k", self.segments_k, command.segments_k)?,
                c: agree("c", self.c, command.c)?,
                rule: agree("rule", self.rule, command.rule)?,
                sampler: agree("sampler", self.sampler, command.sampler)?,
                seed: agree("seed", self.seed, command.seed)?,
                stream: agree("stream", self.stream, command.stream)?,
                layout: agree("layout", self.layout, command.layout)?,
                uniform_bits: agree("uniform_bits", self.uniform_bits, command.uniform_bits)?,
            })
        };
        merged().map_err(contradiction)
    }

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
            .with_segments(segments))
    }

    /// The draw of the mask, or `None` for the dense pass. Where nothing is said of the pass it is SUS.
    ///
    /// # Errors
    /// None today: every setting was validated when it was read.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let settings = |text| Settings::from_json(text).unwrap();
    /// assert!(settings(r#"{"pass":"dense"}"#).draw()?.is_none());
    /// assert_eq!(settings("{}").draw()?.unwrap().c.get(), 30.0);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
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

    /// The same settings with nothing said of a draw.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let settings = Settings::from_json(r#"{"pass":"sus","c":30,"causal":true,"seed":7}"#)?;
    /// assert_eq!(settings.without_draw(), Settings::from_json(r#"{"pass":"sus","causal":true}"#)?);
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    #[must_use]
    pub fn without_draw(self) -> Self {
        Settings {
            c: None,
            rule: None,
            sampler: None,
            seed: None,
            stream: None,
            layout: None,
            uniform_bits: None,
            ..self
        }
    }

    /// Whether anything is said of a draw.
    ///
    /// # Examples
    /// ```
    /// use sus_files::Settings;
    /// let names = |text| Settings::from_json(text).map(|settings| settings.names_a_draw());
    /// // With such a key, a dense pass makes no sense.
    /// assert!(names(r#"{"layout":"coord4"}"#)? && !names(r#"{"pass":"sus"}"#)?);
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    #[must_use]
    pub fn names_a_draw(&self) -> bool {
        let Settings { c, rule, sampler, seed, stream, layout, uniform_bits, .. } = self;
        c.is_some()
            || rule.is_some()
            || sampler.is_some()
            || seed.is_some()
            || stream.is_some()
            || layout.is_some()
            || uniform_bits.is_some()
    }
}

/// One value that both sides can stand by, or the key on which they differ.
fn agree<T: PartialEq>(
    key: &'static str,
    file: Option<T>,
    command: Option<T>,
) -> Result<Option<T>, &'static str> {
    match (file, command) {
        (Some(file), Some(command)) if file != command => Err(key),
        (file, command) => Ok(file.or(command)),
    }
}

/// The keys of a JSON object not yet read.
struct Keys(Map<String, Value>);

impl Keys {
    /// The value of `key`, if it is there and not `null`.
    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Reason> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => Err(wrong(key, expected, &value)),
            },
        }
    }

    /// No key may be left over.
    fn finish(self) -> Result<(), Reason> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(Reason::Metadata {
                expected:
                    "one of spec, pass, scale, softcap, causal, alignment, window, segments_q, \
                           segments_k, c, rule, sampler, seed, stream, layout, uniform_bits"
                        .into(),
                found: "an unknown key".into(),
                key: super::tensor_file::one_line(&key),
            }),
        }
    }
}

fn wrong(key: &str, expected: &str, found: &Value) -> Reason {
    Reason::Metadata { key: key.into(), expected: expected.into(), found: found.to_string() }
}

fn named<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|&x| x > 0.0)
}

fn budget(value: &Value) -> Option<Budget> {
    let c = if value.as_str() == Some("inf") { f64::INFINITY } else { value.as_f64()? };
    Budget::new(c).ok()
}

fn window(value: &Value) -> Option<Window> {
    let [left, right] = value.as_array()?.as_slice() else { return None };
    let end = |value: &Value| match value {
        Value::Null => Some(None),
        value => value.as_u64().map(Some),
    };
    Some(Window { left: end(left)?, right: end(right)? })
}

fn cumulative(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|x| usize::try_from(x.as_u64()?).ok()).collect()
}
