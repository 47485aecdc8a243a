//! Wrong backward kernels, each a bug that somebody shipped or could, and right ones: what a verdict must tell apart.
//!
//! Every kernel is one small function over a simulated kernel ([`machine`]): the right one is a plan (tiles, orders,
//! where the scale goes), a wrong one is the right one with one edit between two of its stages.
//!
//! ```
//! use sus_mutants::{self as gallery, Launch, arithmetic::Arithmetic};
//! let case = sus_corpus::named("primes").expect("a built-in case");
//! let launch = Launch::new(&case.problem, Arithmetic::named("flash-bf16").unwrap(), None);
//! let kernel = gallery::named("delta_missing").expect("a kernel of the gallery");
//! let (wrong, right) = ((kernel.run)(&launch).unwrap(), gallery::right_kernel(&launch));
//! assert!(wrong.arrays["dq"] != right.arrays["dq"] && wrong.arrays["dv"] == right.arrays["dv"]);
//! ```

pub mod arithmetic;
pub use sus_corpus as cases;
pub mod catalogue;
pub mod diagnosis;
mod directions;
pub mod machine;
pub mod matrix;
mod right;
pub mod rivals;
mod wrong;

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
/// use sus_mutants::{self as gallery, Launch, arithmetic::Arithmetic};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let launch = Launch::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let dense = |name: &str| (gallery::named(name).unwrap().run)(&launch);
/// assert!(dense("delta_missing").is_some() && dense("equal_word_is_kept").is_none()); // no mask is drawn
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The problem.
    pub problem: &'a Problem<f64>,
    /// Where the kernel rounds.
    pub arithmetic: Arithmetic,
    /// How a SUS kernel draws its mask; `None` for the dense pass.
    pub draw: Option<&'a Draw>,
    /// The plainest right kernel after each of its stages, if somebody kept it.
    stages: Option<&'a [machine::Work<'a>]>,
    /// Running totals in a narrow format end with an addition that is not rounded to it.
    unfinished: bool,
}

impl<'a> Launch<'a> {
    /// A launch.
    ///
    /// # Examples
    /// ```
    /// use sus_mutants::{self as gallery, Launch, arithmetic::Arithmetic};
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let launch = Launch::new(&problem, Arithmetic::named("f32").unwrap(), None);
    /// let exact = Launch::new(&problem, Arithmetic::named("f64").unwrap(), None);
    /// let [f32, f64] = [launch, exact].map(|launch| gallery::right_kernel(&launch));
    /// assert_ne!(f32.arrays["dq"].numbers, f64.arrays["dq"].numbers); // it rounds
    /// ```
    #[must_use]
    pub fn new(problem: &'a Problem<f64>, arithmetic: Arithmetic, draw: Option<&'a Draw>) -> Self {
        Launch { problem, arithmetic, draw, stages: None, unfinished: false }
    }

    /// The same launch for many kernels: what they share is computed once.
    fn sharing<'b>(self, stages: &'b [machine::Work<'b>]) -> Launch<'b>
    where
        'a: 'b,
    {
        Launch { stages: Some(stages), ..self }
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
/// assert!(kernel.wrong && kernel.touches.contains("dq"));
/// assert!(kernel.upstream().unwrap().contains("b3f1b6a5"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Its name, unique in the gallery.
    pub name: &'static str,
    /// What kind of mistake it makes.
    pub family: Family,
    /// Whether it is wrong.
    pub wrong: bool,
    /// What it does, in one line.
    pub what: &'static str,
    /// The entries of the [`catalogue`] that it copies.
    pub bugs: &'static [&'static str],
    /// The outputs that it can get wrong, separated by spaces.
    pub touches: &'static str,
    /// Runs it; `None` where the bug cannot occur.
    pub run: fn(&Launch<'_>) -> Option<TensorFile>,
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
/// assert!(kernels.iter().any(|kernel| kernel.wrong) && kernels.iter().any(|kernel| !kernel.wrong));
/// ```
#[must_use]
pub fn kernels() -> Vec<&'static Kernel> {
    wrong::FAMILIES.iter().flat_map(|kernels| kernels.iter()).chain(right::KERNELS).collect()
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
/// use sus_mutants::{self as gallery, Launch, arithmetic::Arithmetic};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let launch = Launch::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let plain = gallery::plain_kernel(&launch, None);
/// assert_eq!(plain.arrays["dk"].shape, problem.inputs().k.shape());
/// ```
#[must_use]
pub fn plain_kernel(launch: &Launch<'_>, mask: Option<&Sample>) -> TensorFile {
    let arithmetic = Arithmetic::plain(launch.arithmetic.gradient);
    let launch = Launch::new(launch.problem, arithmetic, launch.draw);
    launch.edit(machine::Stage::Drawn, |work| {
        if let Some(mask) = mask {
            work.sample = Some(mask.clone());
            work.spread();
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
/// use sus_mutants::{Launch, arithmetic::Arithmetic, right_kernel};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let launch = Launch::new(&problem, Arithmetic::named("f64").unwrap(), None);
/// assert_eq!(right_kernel(&launch).arrays["dq"].shape, problem.inputs().q.shape());
/// ```
#[must_use]
pub fn right_kernel(launch: &Launch<'_>) -> TensorFile {
    launch.run(machine::Plan::default())
}

/// A family of kernels: for each its doc line, the bugs of the catalogue that it copies, the outputs that it gets
/// wrong, and its function.
macro_rules! family {
    ($family:ident $wrong:literal; $(
        #[doc = $what:literal]
        [$($bug:literal),*] $touches:literal
        fn $name:ident($launch:ident) $body:block
    )+) => {
        pub(crate) const KERNELS: &[$crate::Kernel] = &[$(
            $crate::Kernel {
                name: stringify!($name),
                family: $crate::Family::$family,
                wrong: $wrong,
                what: $what.trim_ascii(),
                bugs: &[$($bug),*],
                touches: $touches,
                run: $name,
            }
        ),+];
        $(
            #[doc = $what]
            #[allow(clippy::unnecessary_wraps, reason = "kernels that always apply have the type of the others")]
            fn $name($launch: &$crate::Launch<'_>) -> Option<sus_files::TensorFile> $body
        )+
    };
}
use family;
