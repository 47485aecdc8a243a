//! What a kernel does with its numbers.

use super::format::Format;
use serde::Deserialize;
use std::path::Path;
use sus_reference::setters;

/// How `dk` and `dv` of a key head are reduced over the query heads that read it.
///
/// # Examples
/// ```
/// use sus_bounds::{Gqa, Recipe};
/// let [fused, repeated] =
///     ["flash-bf16", "flash-bf16-repeated"].map(|name| Recipe::built_in(name).unwrap());
/// assert_eq!((fused.gqa, repeated.gqa), (Gqa::Fused, Gqa::Repeated));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gqa {
    /// One sum in the accumulator, rounded once.
    Fused,
    /// Each query head's gradient is rounded to the output format, and these are summed in it.
    Repeated,
}

/// From what `delta` is computed.
///
/// # Examples
/// ```
/// use sus_bounds::{Delta, Recipe};
/// let mine = Recipe::from_toml("mine", "base = \"flash-bf16\"\ndelta = \"unstored\"")?;
/// assert_eq!(mine.delta, Delta::Unstored);
/// assert_eq!(Recipe::built_in("eager-bf16").unwrap().delta, Delta::Weights);
/// # Ok::<(), sus_bounds::RecipeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delta {
    /// `G . o` with `o` as stored.
    Stored,
    /// `G . o` with `o` before it is stored.
    Unstored,
    /// `sum_j P_ij dP_ij`, as the derivative of a softmax does it; never of the `o` in the file.
    Weights,
}

/// Where a kernel rounds, and to what.
///
/// Within the formats given here a kernel is free: any order of its sums, any tiling, split or atomics, products fused
/// or not, `exp` or `exp2`, the scale applied to `q`, to the scores or in parts to both, the softmax in one pass
/// or two.
///
/// # Examples
/// ```
/// use sus_bounds::{Format, Recipe};
/// // A kernel as flash-bf16, whose exp errs by 8 units in the last place.
/// let mine = Recipe::built_in("flash-bf16").unwrap().with_exp_ulp(8.0);
/// assert_eq!((mine.accumulator, mine.p), (Format::F32, Format::Bf16));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// The name in reports.
    pub name: String,
    /// What `q`, `k`, `v` and `G` are read as. The truth is that of the inputs so rounded.
    pub input: Format,
    /// Sums, and all that is between the matrix products unless `elementwise` says otherwise.
    pub accumulator: Format,
    /// Matrix products add by truncation, as tensor cores do, instead of rounding to nearest.
    pub tensor_cores: bool,
    /// What scores, `P`, `dP` and `dS` are stored in between elementwise steps.
    pub elementwise: Format,
    /// What the products `P v` and `P^T G` read `P` as.
    pub p: Format,
    /// What `dS = P t` reads `P` as: some kernels take the `P` that their products read.
    pub p_in_ds: Format,
    /// What the products `dS k` and `dS^T q` read `dS` as.
    pub ds: Format,
    /// What `o` is stored in.
    pub o: Format,
    /// What `lse` is stored in.
    pub lse: Format,
    /// What the gradients are stored in.
    pub output: Format,
    /// Error of `exp` (or `exp2`) in units in the last place of the accumulator.
    pub exp_ulp: f64,
    /// Error of `tanh` in units in the last place of the accumulator.
    pub tanh_ulp: f64,
    /// Fewest keys per tile of an online softmax; the number of tiles bounds the number of rescalings. 0: none.
    pub tile: usize,
    /// From what `delta` is computed.
    pub delta: Delta,
    /// How a group's gradients are reduced.
    pub gqa: Gqa,
    /// Numbers below the normal range of the 16-bit formats become zero.
    pub flush_to_zero: bool,
}

setters! { Recipe, [];
    with_name(name: String);
    with_input(input: Format);
    with_accumulator(accumulator: Format);
    with_tensor_cores(tensor_cores: bool);
    with_elementwise(elementwise: Format);
    with_p(p: Format);
    with_p_in_ds(p_in_ds: Format);
    with_ds(ds: Format);
    with_o(o: Format);
    with_lse(lse: Format);
    with_output(output: Format);
    with_exp_ulp(exp_ulp: f64);
    with_tanh_ulp(tanh_ulp: f64);
    with_tile(tile: usize);
    with_delta(delta: Delta);
    with_gqa(gqa: Gqa);
    with_flush_to_zero(flush_to_zero: bool);
}

/// A recipe that cannot be had.
///
/// # Examples
/// ```
/// use sus_bounds::{Recipe, RecipeError};
/// let error = Recipe::named("flash-fp7").unwrap_err();
/// assert!(matches!(&error, RecipeError::Unknown { name, .. } if name == "flash-fp7"));
/// assert!(error.to_string().contains("flash-bf16")); // says what there is
/// ```
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No built-in recipe and no file has this name.
    #[error("recipe '{name}': expected one of {}, or a TOML file; {reason}", Recipe::NAMES.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Why it is no file either.
        reason: String,
    },
    /// The file is no recipe.
    #[error("recipe '{name}': expected TOML with the keys of a recipe, found {reason}")]
    Toml {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl Recipe {
    /// The built-in recipes.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::Recipe;
    /// assert!(Recipe::NAMES.iter().all(|&name| Recipe::built_in(name).unwrap().name == name));
    /// ```
    pub const NAMES: [&'static str; 10] = [
        "f64",
        "f32",
        "tf32",
        "flash-bf16",
        "flash-f16",
        "eager-bf16",
        "eager-f16",
        "flash-bf16-repeated",
        "flash-f16-repeated",
        "f32-repeated",
    ];

    /// A built-in recipe.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::Recipe;
    /// assert!(Recipe::NAMES.iter().all(|name| Recipe::built_in(name).is_some()));
    /// ```
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let plain = |format: Format| Recipe {
            name: name.to_owned(),
            input: format,
            accumulator: format,
            tensor_cores: false,
            elementwise: format,
            p: format,
            p_in_ds: format,
            ds: format,
            o: format,
            lse: format,
            output: format,
            exp_ulp: 2.0,
            tanh_ulp: 8.0,
            tile: 16,
            delta: Delta::Stored,
            gqa: Gqa::Fused,
            flush_to_zero: false,
        };
        let flash = |format: Format| Recipe {
            input: format,
            tensor_cores: true,
            p: format,
            p_in_ds: format,
            ds: format,
            o: format,
            output: format,
            ..plain(Format::F32)
        };
        let eager = |format: Format| Recipe {
            elementwise: format,
            tile: 0,
            delta: Delta::Weights,
            gqa: Gqa::Repeated,
            ..flash(format)
        };
        let tf32 = Recipe {
            input: Format::F32,
            p_in_ds: Format::F32,
            o: Format::F32,
            output: Format::F32,
            ..flash(Format::Tf32)
        };
        let repeated = |recipe| Recipe { gqa: Gqa::Repeated, ..recipe };
        Some(match name {
            "f64" => plain(Format::F64),
            "f32" => plain(Format::F32),
            "tf32" => tf32,
            "flash-bf16" => flash(Format::Bf16),
            "flash-f16" => flash(Format::F16),
            "eager-bf16" => eager(Format::Bf16),
            "eager-f16" => eager(Format::F16),
            "flash-bf16-repeated" => repeated(flash(Format::Bf16)),
            "flash-f16-repeated" => repeated(flash(Format::F16)),
            "f32-repeated" => repeated(plain(Format::F32)),
            _ => return None,
        })
    }

    /// A built-in recipe by its name, or one from a TOML file.
    ///
    /// # Errors
    /// [`RecipeError`], one line.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::Recipe;
    /// assert_eq!(Recipe::named("f32")?, Recipe::built_in("f32").unwrap());
    /// # Ok::<(), sus_bounds::RecipeError>(())
    /// ```
    pub fn named(name: &str) -> Result<Self, RecipeError> {
        if let Some(recipe) = Self::built_in(name) {
            return Ok(recipe);
        }
        match std::fs::read_to_string(Path::new(name)) {
            Ok(text) => Self::from_toml(name, &text),
            Err(e) => Err(RecipeError::Unknown { name: name.to_owned(), reason: e.to_string() }),
        }
    }

    /// A recipe from TOML: `base`, the name of a built-in one, and the keys in which it differs.
    ///
    /// # Errors
    /// [`RecipeError::Toml`] for what is no TOML, an unknown key, or a value that it cannot have.
    ///
    /// # Examples
    /// ```
    /// use sus_bounds::{Format, Recipe};
    /// let recipe = Recipe::from_toml("mine", "base = \"flash-bf16\"\nexp_ulp = 4.0")?;
    /// assert_eq!((recipe.exp_ulp, recipe.p), (4.0, Format::Bf16));
    /// assert!(Recipe::from_toml("mine", "base = \"flash-bf16\"\nexp_ulps = 4.0").is_err());
    /// # Ok::<(), sus_bounds::RecipeError>(())
    /// ```
    pub fn from_toml(name: &str, text: &str) -> Result<Self, RecipeError> {
        let wrong =
            |reason: String| RecipeError::Toml { name: name.to_owned(), reason: one_line(&reason) };
        let overlay: Overlay = toml::from_str(text).map_err(|e| wrong(e.message().to_owned()))?;
        let base = Self::built_in(&overlay.base).ok_or_else(|| {
            wrong(format!("the base '{}', which is no built-in recipe", overlay.base))
        })?;
        overlay.onto(&base, name).map_err(wrong)
    }
}

/// A message without line breaks.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The keys of a recipe file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlay {
    base: String,
    name: Option<String>,
    input: Option<Format>,
    accumulator: Option<Format>,
    tensor_cores: Option<bool>,
    elementwise: Option<Format>,
    p: Option<Format>,
    p_in_ds: Option<Format>,
    ds: Option<Format>,
    o: Option<Format>,
    lse: Option<Format>,
    output: Option<Format>,
    exp_ulp: Option<f64>,
    tanh_ulp: Option<f64>,
    tile: Option<usize>,
    delta: Option<Delta>,
    gqa: Option<Gqa>,
    flush_to_zero: Option<bool>,
}

impl Overlay {
    fn onto(self, base: &Recipe, file: &str) -> Result<Recipe, String> {
        let recipe = Recipe {
            name: self.name.unwrap_or_else(|| file.to_owned()),
            input: self.input.unwrap_or(base.input),
            accumulator: self.accumulator.unwrap_or(base.accumulator),
            tensor_cores: self.tensor_cores.unwrap_or(base.tensor_cores),
            elementwise: self.elementwise.unwrap_or(base.elementwise),
            p: self.p.unwrap_or(base.p),
            p_in_ds: self.p_in_ds.unwrap_or(base.p_in_ds),
            ds: self.ds.unwrap_or(base.ds),
            o: self.o.unwrap_or(base.o),
            lse: self.lse.unwrap_or(base.lse),
            output: self.output.unwrap_or(base.output),
            exp_ulp: self.exp_ulp.unwrap_or(base.exp_ulp),
            tanh_ulp: self.tanh_ulp.unwrap_or(base.tanh_ulp),
            tile: self.tile.unwrap_or(base.tile),
            delta: self.delta.unwrap_or(base.delta),
            gqa: self.gqa.unwrap_or(base.gqa),
            flush_to_zero: self.flush_to_zero.unwrap_or(base.flush_to_zero),
        };
        for (key, ulp) in [("exp_ulp", recipe.exp_ulp), ("tanh_ulp", recipe.tanh_ulp)] {
            if !(ulp.is_finite() && ulp >= 0.0) {
                return Err(format!("{key} = {ulp} where a finite number from 0 is expected"));
            }
        }
        Ok(recipe)
    }
}
