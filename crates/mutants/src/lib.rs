//! Wrong backward kernels, each a bug that somebody shipped or could, and right ones: what a verdict must tell apart.
//!
//! Every kernel is one small function over a simulated kernel ([`machine`]): the right one is a plan (tiles, orders,
//! where the scale goes), a wrong one is the right one with one edit between two of its stages.
//!
//! ```
//! use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
//! let case = sus_corpus::named("primes").expect("a built-in case");
//! let config = RunConfig::new(&case.problem, Arithmetic::named("flash-bf16").unwrap(), None);
//! let kernel = gallery::named("delta_missing").expect("a kernel of the gallery");
//! let (wrong, right) = ((kernel.run)(&config).unwrap(), gallery::control_kernel(&config));
//! assert!(wrong.arrays["dq"] != right.arrays["dq"] && wrong.arrays["dv"] == right.arrays["dv"]);
//! ```

pub mod arithmetic;
pub use sus_corpus as cases;
pub mod baseline_tolerances;
pub mod catalogue;
mod controls;
pub mod diagnosis;
mod directions;
pub mod matrix;
mod mutations;
pub mod simulated_kernel;

pub use directions::{RoundingBugs, control_result, directions, judge};

use arithmetic::Arithmetic;
use std::fmt;
use sus_files::TensorFile;
use sus_reference::problem::{Problem, Sizes};
use sus_reference::sus::{Draw, Sample};

/// What a kernel gets wrong, by kind.
///
/// # Examples
/// ```
/// use sus_mutants::{Family, named};
/// assert_eq!(named("delta_missing").unwrap().family, Family::Delta);
/// assert_eq!(Family::SusMasks.to_string(), "sus-masks");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Indices, strides, tails of tiles.
    Indexing,
    /// `delta`.
    Delta,
    /// The scale.
    Scale,
    /// The softcap.
    Softcap,
    /// Masks and their alignment.
    Masks,
    /// Groups of heads, head dimensions, the batch.
    Heads,
    /// Bias, sink and the cotangent of `lse`.
    Bias,
    /// Chunks computed apart and merged.
    Merging,
    /// Accumulation and rounding.
    Rounding,
    /// The weights `W~` of SUS.
    SusWeights,
    /// The masks and words of SUS.
    SusMasks,
    /// Nothing: a right kernel.
    Right,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Indexing => "indexing",
            Family::Delta => "delta",
            Family::Scale => "scale",
            Family::Softcap => "softcap",
            Family::Masks => "masks",
            Family::Heads => "heads",
            Family::Bias => "bias",
            Family::Merging => "merging",
            Family::Rounding => "rounding",
            Family::SusWeights => "sus-weights",
            Family::SusMasks => "sus-masks",
            Family::Right => "right",
        })
    }
}

/// One run of a kernel: the problem, the arithmetic and, for SUS, the draw.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let dense = |name: &str| (gallery::named(name).unwrap().run)(&config);
/// assert!(dense("delta_missing").is_some() && dense("equal_word_is_kept").is_none()); // no mask is drawn
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RunConfig<'a> {
    /// The problem.
    pub problem: &'a Problem<f64>,
    /// Where the kernel rounds.
    pub arithmetic: Arithmetic,
    /// How a SUS kernel draws its mask; `None` for the dense pass.
    pub draw: Option<&'a Draw>,
    /// The plainest right kernel after each of its stages, if somebody kept it.
    stages: Option<&'a [simulated_kernel::State<'a>]>,
    /// Running totals in a narrow format end with an addition that is not rounded to it.
    unfinished: bool,
}

impl<'a> RunConfig<'a> {
    /// A launch.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
    /// let exact = RunConfig::new(&problem, Arithmetic::named("f64").unwrap(), None);
    /// let [f32, f64] = [config, exact].map(|config| gallery::control_kernel(&config));
    /// assert_ne!(f32.arrays["dq"].numbers, f64.arrays["dq"].numbers); // it rounds
    /// ```
    #[must_use]
    pub fn new(problem: &'a Problem<f64>, arithmetic: Arithmetic, draw: Option<&'a Draw>) -> Self {
        RunConfig { problem, arithmetic, draw, stages: None, unfinished: false }
    }

    /// The same launch for many kernels: what they share is computed once.
    fn sharing<'b>(self, stages: &'b [simulated_kernel::State<'b>]) -> RunConfig<'b>
    where
        'a: 'b,
    {
        RunConfig { stages: Some(stages), ..self }
    }

    fn sizes(&self) -> Sizes {
        self.problem.sizes()
    }
}

/// A backward kernel, wrong or right.
///
/// # Examples
/// ```
/// use sus_mutants::named;
/// let kernel = named("delta_of_row_mod_tile").unwrap();
/// assert!(kernel.is_mutant && kernel.touches.contains("dq"));
/// assert!(kernel.upstream().unwrap().contains("b3f1b6a5"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Its name, unique in the gallery.
    pub name: &'static str,
    /// What kind of mistake it makes.
    pub family: Family,
    /// Whether it is wrong.
    pub is_mutant: bool,
    /// What it does, in one line.
    pub what: &'static str,
    /// The entries of the [`catalogue`] that it copies.
    pub bugs: &'static [&'static str],
    /// The outputs that it can get wrong, separated by spaces.
    pub touches: &'static str,
    /// Runs it; `None` where the bug cannot occur.
    pub run: fn(&RunConfig<'_>) -> Option<TensorFile>,
}

impl Kernel {
    /// The public bugs that it copies.
    ///
    /// # Examples
    /// ```
    /// let kernels = sus_mutants::kernels();
    /// let copies = kernels.iter().find(|kernel| kernel.bugs == ["1"]).unwrap();
    /// assert_eq!(copies.upstream().unwrap(), "Dao-AILab/flash-attention b3f1b6a5");
    /// ```
    #[must_use]
    pub fn upstream(&self) -> Option<String> {
        let sources: Vec<&str> =
            self.bugs.iter().filter_map(|number| catalogue::source(number)).collect();
        (!sources.is_empty()).then(|| sources.join("; "))
    }
}

/// Every kernel, the wrong ones by family first.
///
/// # Examples
/// ```
/// let kernels = sus_mutants::kernels();
/// assert!(kernels.iter().any(|kernel| kernel.is_mutant) && kernels.iter().any(|kernel| !kernel.is_mutant));
/// ```
#[must_use]
pub fn kernels() -> Vec<&'static Kernel> {
    mutations::FAMILIES.iter().flat_map(|kernels| kernels.iter()).chain(controls::KERNELS).collect()
}

/// The kernel of this name.
///
/// # Examples
/// ```
/// use sus_mutants::named;
/// assert_eq!(named("delta_missing").unwrap().what, "`delta` is left out.");
/// assert!(named("nothing").is_none());
/// ```
#[must_use]
pub fn named(name: &str) -> Option<&'static Kernel> {
    kernels().into_iter().find(|kernel| kernel.name == name)
}

/// What a plain kernel of the 16-bit or 32-bit type gives: separate passes that round every matrix they store, with the
/// mask that is given.
///
/// # Examples
/// ```
/// use sus_mutants::{self as gallery, RunConfig, arithmetic::Arithmetic};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let plain = gallery::unfused_kernel(&config, None);
/// assert_eq!(plain.arrays["dk"].shape, problem.inputs().k.shape());
/// ```
#[must_use]
pub fn unfused_kernel(config: &RunConfig<'_>, mask: Option<&Sample>) -> TensorFile {
    let arithmetic = Arithmetic::plain(config.arithmetic.gradient);
    let config = RunConfig::new(config.problem, arithmetic, config.draw);
    config.mutate(simulated_kernel::Stage::Drawn, |state| {
        if let Some(mask) = mask {
            state.sample = Some(mask.clone());
            state.spread();
        }
    })
}

/// `Some(())` if a bug can occur.
fn only_if(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// What the plainest right kernel gives.
///
/// # Examples
/// ```
/// use sus_mutants::{RunConfig, arithmetic::Arithmetic, control_kernel};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f64").unwrap(), None);
/// assert_eq!(control_kernel(&config).arrays["dq"].shape, problem.inputs().q.shape());
/// ```
#[must_use]
pub fn control_kernel(config: &RunConfig<'_>) -> TensorFile {
    config.run(simulated_kernel::Schedule::default())
}

/// A family of kernels: for each its doc line, the bugs of the catalogue that it copies, the outputs that it gets
/// wrong, and its function.
macro_rules! family {
    ($family:ident $is_mutant:literal; $(
        #[doc = $what:literal]
        [$($bug:literal),*] $touches:literal
        fn $name:ident($config:ident) $body:block
    )+) => {
        pub(crate) const KERNELS: &[$crate::Kernel] = &[$(
            $crate::Kernel {
                name: stringify!($name),
                family: $crate::Family::$family,
                is_mutant: $is_mutant,
                what: $what.trim_ascii(),
                bugs: &[$($bug),*],
                touches: $touches,
                run: $name,
            }
        ),+];
        $(
            #[doc = $what]
            #[allow(clippy::unnecessary_wraps, reason = "kernels that always apply have the type of the others")]
            fn $name($config: &$crate::RunConfig<'_>) -> Option<sus_files::TensorFile> $body
        )+
    };
}
use family;
