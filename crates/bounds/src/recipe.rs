//! Recipes: the formats and the freedoms of a kernel. Section 1 of `docs/bounds.md`.

use super::format::Format;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use sus_reference::{quote, setters};

/// How `dk` and `dv` of a key head are reduced over the query heads that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gqa {
    /// One sum in the accumulator, rounded once.
    Fused,
    /// Each query head's gradient is rounded to the output format, and these are summed in it.
    Repeated,
}

/// The operands that `delta` is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delta {
    /// `G . o` with `o` as stored.
    Stored,
    /// `G . o` with `o` before it is stored.
    Unstored,
    /// `sum_j P_ij dP_ij`, as the derivative of a softmax does it; never of the `o` in the file.
    Weights,
    /// Any of the three.
    Any,
}

impl Delta {
    /// Whether a kernel may compute `delta` from the stored `o`.
    pub(super) fn may_be_stored(self) -> bool {
        matches!(self, Delta::Stored | Delta::Any)
    }
}

/// How hardware or a kernel converts an operand of a matrix product to a narrower format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Conversion {
    /// The bits that do not fit are dropped: a tensor core reads 19 bits of an `f32`.
    Truncate,
    /// To nearest, ties to even or away from zero.
    Nearest,
    /// Either, each operand in its own way.
    Any,
}

/// A matrix product, by the name of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// `q k^T`.
    S,
    /// `P v`.
    O,
    /// `G v^T`.
    Dp,
    /// `P^T G`.
    Dv,
    /// `dS k`.
    Dq,
    /// `dS^T q`.
    Dk,
}

impl Product {
    /// All six.
    pub const ALL: [Product; 6] =
        [Product::S, Product::O, Product::Dp, Product::Dv, Product::Dq, Product::Dk];
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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about a kernel of its own")]
pub struct Recipe {
    /// The name in reports.
    pub name: String,
    /// The format in which `q`, `k`, `v` and `G` are read. The truth is that of the inputs so rounded.
    pub input: Format,
    /// The format of sums, and of all steps between the matrix products unless `elementwise` is narrower.
    pub accumulator: Format,
    /// Matrix products add by truncation, as tensor cores do, instead of rounding to nearest.
    pub tensor_cores: bool,
    /// The format in which scores, `P`, `dP` and `dS` are stored between elementwise steps.
    pub elementwise: Format,
    /// The format that `q`, `k`, `v` and `G` are converted to for the products in `converted`. Where it is no narrower than `input`
    /// nothing is converted, but by `scaled_operands`.
    pub operands: Format,
    /// How they are converted.
    pub conversion: Conversion,
    /// The products whose operands are converted. `P` and `dS` have formats of their own, `p` and `ds`.
    pub converted: Vec<Product>,
    /// A kernel may multiply `q` or `k` by the scale, by its square root or by `log2 e` before it is converted.
    pub scaled_operands: bool,
    /// The format of `P` in the products `P v` and `P^T G`.
    pub p: Format,
    /// The format of `P` in `dS = P t`: some kernels take the `P` of their products.
    pub p_in_ds: Format,
    /// The format of `dS` in the products `dS k` and `dS^T q`.
    pub ds: Format,
    /// The format in which `s - max s` is stored before `exp`.
    pub shifted: Format,
    /// `P` is divided by its row's sum before it is rounded. Else `exp(s - m)` is rounded and its product with `v` divided, and the
    /// derivative may round `G` over the row's sum as `P` is.
    pub normalised_p: bool,
    /// The row's maximum is subtracted before `exp`. Without, no score may be near the largest argument of `exp`.
    pub row_maximum: bool,
    /// Fewest keys between two stores of `dq` in the output format, where it is carried in it from tile to tile. 0: it is not.
    pub running_dq: usize,
    /// Fewest queries between two stores of `dk` in the output format. 0: none but the last.
    pub running_dk: usize,
    /// Fewest queries between two stores of `dv` in the output format. 0: none but the last.
    pub running_dv: usize,
    /// The format of the stored `o`.
    pub o: Format,
    /// The format of the stored `lse`.
    pub lse: Format,
    /// The format of the stored gradients.
    pub output: Format,
    /// Error of `exp` (or `exp2`) in units in the last place of the accumulator.
    pub exp_ulp: f64,
    /// Error of `tanh` in units in the last place of the accumulator.
    pub tanh_ulp: f64,
    /// Fewest keys per tile of an online softmax; the number of tiles bounds the number of rescalings. 0: none.
    pub tile: usize,
    /// The operands that `delta` is computed from.
    pub delta: Delta,
    /// How a group's gradients are reduced.
    pub gqa: Gqa,
    /// Numbers below the normal range of the 16-bit formats become zero.
    pub flush_to_zero: bool,
    /// The factor of `P` before it is rounded to 8 bits; of no other format.
    pub p_scale: f64,
    /// The factor of `dS` before it is rounded to 8 bits; of no other format.
    pub ds_scale: f64,
    /// `dS` is multiplied by the scale of the scores before it is rounded to 8 bits, not after it.
    pub scaled_ds: bool,
    /// `P` of the forward pass may be relative to anything when it is rounded to 8 bits: then `o` is judged by half a step for each `P`.
    pub any_forward: bool,
}

setters! { Recipe, [];
    with_name(name: String);
    with_input(input: Format);
    with_accumulator(accumulator: Format);
    with_tensor_cores(tensor_cores: bool);
    with_elementwise(elementwise: Format);
    with_operands(operands: Format);
    with_conversion(conversion: Conversion);
    with_converted(converted: Vec<Product>);
    with_scaled_operands(scaled_operands: bool);
    with_p(p: Format);
    with_p_in_ds(p_in_ds: Format);
    with_ds(ds: Format);
    with_shifted(shifted: Format);
    with_normalised_p(normalised_p: bool);
    with_row_maximum(row_maximum: bool);
    with_running_dq(running_dq: usize);
    with_running_dk(running_dk: usize);
    with_running_dv(running_dv: usize);
    with_o(o: Format);
    with_lse(lse: Format);
    with_output(output: Format);
    with_exp_ulp(exp_ulp: f64);
    with_tanh_ulp(tanh_ulp: f64);
    with_tile(tile: usize);
    with_delta(delta: Delta);
    with_gqa(gqa: Gqa);
    with_flush_to_zero(flush_to_zero: bool);
    with_p_scale(p_scale: f64);
    with_ds_scale(ds_scale: f64);
    with_scaled_ds(scaled_ds: bool);
    with_any_forward(any_forward: bool);
}

/// A recipe that does not exist or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No built-in recipe and no file has this name.
    #[error("recipe '{}': expected one of {}, or a TOML file; {}", quote::text(name), Recipe::NAMES.join(", "), quote::words(reason))]
    Unknown {
        /// The name.
        name: String,
        /// Why it is no file either.
        reason: String,
    },
    /// The file is no recipe.
    #[error(
        "recipe '{}': expected TOML with the keys of a recipe, found {}",
        quote::text(name),
        quote::words(reason)
    )]
    Toml {
        /// The file.
        name: String,
        /// The fault.
        reason: String,
    },
}

impl Recipe {
    /// The built-in recipes.
    pub const NAMES: [&'static str; 11] = [
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
        "flash-fp8",
    ];

    /// A built-in recipe.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let plain = |format: Format| Recipe {
            name: name.to_owned(),
            input: format,
            accumulator: format,
            tensor_cores: false,
            elementwise: format,
            operands: format,
            conversion: Conversion::Any,
            converted: Product::ALL.to_vec(),
            scaled_operands: false,
            p: format,
            p_in_ds: format,
            ds: format,
            shifted: format,
            normalised_p: true,
            row_maximum: true,
            running_dq: 0,
            running_dk: 0,
            running_dv: 0,
            o: format,
            lse: format,
            output: format,
            exp_ulp: 2.0,
            tanh_ulp: 8.0,
            tile: 16,
            delta: Delta::Stored,
            gqa: Gqa::Fused,
            flush_to_zero: false,
            p_scale: 1.0,
            ds_scale: 1.0,
            scaled_ds: false,
            any_forward: false,
        };
        let flash = |format: Format| Recipe {
            input: format,
            tensor_cores: true,
            operands: format,
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
            scaled_operands: true,
            delta: Delta::Any,
            gqa: Gqa::Repeated,
            ..flash(Format::Tf32)
        };
        // The products of stored numbers and scales are read as they are: a kernel's roundings of them count with its sums.
        let fp8 = Recipe {
            input: Format::F64,
            operands: Format::F64,
            p: Format::E4m3,
            p_in_ds: Format::F32,
            ds: Format::E5m2,
            ..flash(Format::Bf16)
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
            "flash-fp8" => fp8,
            _ => return None,
        })
    }

    /// A built-in recipe by its name, or one from a TOML file.
    ///
    /// # Errors
    /// [`RecipeError`], one line.
    pub fn named(name: &str) -> Result<Self, RecipeError> {
        if let Some(recipe) = Self::built_in(name) {
            return Ok(recipe);
        }
        if ["mxfp8", "nvfp4", "flash-mxfp8", "flash-nvfp4"].contains(&name) {
            let reason = "quantisation by blocks of 32 or 16 is not judged yet, of 8 bits only 'flash-fp8' is";
            return Err(RecipeError::Unknown { name: name.to_owned(), reason: reason.to_owned() });
        }
        match read_short(name) {
            Ok(text) => Self::from_toml(name, &text),
            Err(e) => Err(RecipeError::Unknown { name: name.to_owned(), reason: e.to_string() }),
        }
    }

    /// A recipe from TOML: `base`, the name of a built-in one, and the keys in which it differs.
    ///
    /// # Errors
    /// [`RecipeError::Toml`] for text that is no TOML, an unknown key, or a value out of range.
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
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("more than {MAX_BYTES} bytes")));
        }
        let overlay: Overlay = toml::from_str(text).map_err(|e| wrong(e.message().to_owned()))?;
        let base = Self::built_in(&overlay.base).ok_or_else(|| {
            let base = quote::text(&overlay.base);
            wrong(format!("the base '{base}', which is no built-in recipe"))
        })?;
        overlay.onto(&base, name).map_err(wrong)
    }
}

/// The longest file that is read as a recipe; the keys of a recipe take less than a kilobyte.
const MAX_BYTES: usize = 1 << 16;

/// The text of a file, and no more of it than shows that it is too long.
fn read_short(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
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
    operands: Option<Format>,
    conversion: Option<Conversion>,
    converted: Option<Vec<Product>>,
    scaled_operands: Option<bool>,
    p: Option<Format>,
    p_in_ds: Option<Format>,
    ds: Option<Format>,
    shifted: Option<Format>,
    normalised_p: Option<bool>,
    row_maximum: Option<bool>,
    running_dq: Option<usize>,
    running_dk: Option<usize>,
    running_dv: Option<usize>,
    o: Option<Format>,
    lse: Option<Format>,
    output: Option<Format>,
    exp_ulp: Option<f64>,
    tanh_ulp: Option<f64>,
    tile: Option<usize>,
    delta: Option<Delta>,
    gqa: Option<Gqa>,
    flush_to_zero: Option<bool>,
    p_scale: Option<f64>,
    ds_scale: Option<f64>,
    scaled_ds: Option<bool>,
    any_forward: Option<bool>,
}

impl Overlay {
    fn onto(self, base: &Recipe, file: &str) -> Result<Recipe, String> {
        let recipe = Recipe {
            name: self.name.unwrap_or_else(|| file.to_owned()),
            input: self.input.unwrap_or(base.input),
            accumulator: self.accumulator.unwrap_or(base.accumulator),
            tensor_cores: self.tensor_cores.unwrap_or(base.tensor_cores),
            elementwise: self.elementwise.unwrap_or(base.elementwise),
            operands: self.operands.unwrap_or(base.operands),
            conversion: self.conversion.unwrap_or(base.conversion),
            converted: self.converted.unwrap_or_else(|| base.converted.clone()),
            scaled_operands: self.scaled_operands.unwrap_or(base.scaled_operands),
            p: self.p.unwrap_or(base.p),
            p_in_ds: self.p_in_ds.unwrap_or(base.p_in_ds),
            ds: self.ds.unwrap_or(base.ds),
            shifted: self.shifted.unwrap_or(base.shifted),
            normalised_p: self.normalised_p.unwrap_or(base.normalised_p),
            row_maximum: self.row_maximum.unwrap_or(base.row_maximum),
            running_dq: self.running_dq.unwrap_or(base.running_dq),
            running_dk: self.running_dk.unwrap_or(base.running_dk),
            running_dv: self.running_dv.unwrap_or(base.running_dv),
            o: self.o.unwrap_or(base.o),
            lse: self.lse.unwrap_or(base.lse),
            output: self.output.unwrap_or(base.output),
            exp_ulp: self.exp_ulp.unwrap_or(base.exp_ulp),
            tanh_ulp: self.tanh_ulp.unwrap_or(base.tanh_ulp),
            tile: self.tile.unwrap_or(base.tile),
            delta: self.delta.unwrap_or(base.delta),
            gqa: self.gqa.unwrap_or(base.gqa),
            flush_to_zero: self.flush_to_zero.unwrap_or(base.flush_to_zero),
            p_scale: self.p_scale.unwrap_or(base.p_scale),
            ds_scale: self.ds_scale.unwrap_or(base.ds_scale),
            scaled_ds: self.scaled_ds.unwrap_or(base.scaled_ds),
            any_forward: self.any_forward.unwrap_or(base.any_forward),
        };
        for (key, ulp) in [("exp_ulp", recipe.exp_ulp), ("tanh_ulp", recipe.tanh_ulp)] {
            if !(ulp.is_finite() && ulp >= 0.0) {
                return Err(format!("{key} = {ulp} where a finite number from 0 is expected"));
            }
        }
        recipe.check_8_bits()?;
        Ok(recipe)
    }
}
