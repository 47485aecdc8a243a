//! Simulated backward kernels: mutants, each a bug that somebody shipped or could, and controls, which are right. A
//! verdict has to tell them apart.
//!
//! Every kernel is one small function over the [simulated kernel](simulated_kernel): a control is a
//! [`Schedule`] (tiles, orders, where the scale is applied), a mutant is the plainest
//! control with one mutation between two of its stages.
//!
//! ```
//! use sus_mutants::{RunConfig, arithmetic::Arithmetic, control_kernel, named};
//! let case = sus_corpus::named("primes").expect("a built-in case");
//! let config = RunConfig::new(&case.problem, Arithmetic::named("flash-bf16").unwrap(), None);
//! let mutant = named("delta_missing").expect("a mutant");
//! let (wrong, right) = ((mutant.run)(&config).unwrap(), control_kernel(&config));
//! assert!(wrong.arrays["dq"] != right.arrays["dq"] && wrong.arrays["dv"] == right.arrays["dv"]);
//! ```

pub mod arithmetic;
pub use sus_corpus as cases;
pub mod baseline_tolerances;
mod controls;
pub mod diagnosis;
mod directions;
pub mod fp8;
mod limits;
pub mod matrix;
mod mutations;
pub mod simulated_kernel;

pub use directions::{RoundingBugs, control_result, directions, judge};
pub use sus_corpus::BugType;

use arithmetic::Arithmetic;
use simulated_kernel::{Point, Probe, Schedule, State};
use sus_files::TensorFile;
use sus_reference::TensorName;
use sus_reference::problem::{Problem, Sizes};
use sus_reference::sus::{Draw, Sample};

/// One run of a kernel: the problem, the arithmetic and, for SUS, the draw.
///
/// # Examples
/// ```
/// use sus_mutants::{RunConfig, arithmetic::Arithmetic, named};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let config = RunConfig::new(&problem, Arithmetic::named("f32").unwrap(), None);
/// let dense = |name: &str| (named(name).unwrap().run)(&config);
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
    /// The plainest control after each of its stages, if it was kept.
    stages: Option<&'a [State<'a>]>,
    /// The part of the gradients that is computed, if not all.
    probe: Option<&'a Probe>,
    /// Running totals in a narrow format end with an addition that is not rounded to it.
    unfinished: bool,
}

impl<'a> RunConfig<'a> {
    /// A run of this problem.
    #[must_use]
    pub fn new(problem: &'a Problem<f64>, arithmetic: Arithmetic, draw: Option<&'a Draw>) -> Self {
        RunConfig { problem, arithmetic, draw, stages: None, probe: None, unfinished: false }
    }

    /// The same run for many kernels: the stages that they share are computed once.
    fn sharing<'b>(self, stages: &'b [State<'b>]) -> RunConfig<'b>
    where
        'a: 'b,
    {
        RunConfig { stages: Some(stages), ..self }
    }

    /// The same run for a part of its gradients, if the stages are shared.
    fn probing<'b>(self, probe: &'b Probe) -> RunConfig<'b>
    where
        'a: 'b,
    {
        RunConfig { probe: Some(probe), ..self }
    }

    fn sizes(&self) -> Sizes {
        self.problem.sizes()
    }
}

/// A backward kernel: a mutant or a control.
///
/// # Examples
/// ```
/// use sus_mutants::named;
/// use sus_reference::TensorName;
/// let kernel = named("delta_of_row_mod_tile").unwrap();
/// assert!(kernel.is_mutant && kernel.outputs.contains(&TensorName::Dq));
/// assert!(kernel.upstream().unwrap().contains("b3f1b6a5"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Its name, unique among the kernels.
    pub name: &'static str,
    /// The type of its bug; `None` for a control.
    pub bug_type: Option<BugType>,
    /// Whether it is wrong.
    pub is_mutant: bool,
    /// What it does, in one line.
    pub what: &'static str,
    /// The bugs of the corpus that it copies.
    pub bugs: &'static [&'static str],
    /// The outputs that it can get wrong.
    pub outputs: &'static [TensorName],
    /// Runs it; `None` where the bug cannot occur.
    pub run: fn(&RunConfig<'_>) -> Option<TensorFile>,
}

impl Kernel {
    /// Whether it can get an output wrong: one of [`Kernel::outputs`], or one that is made of them. `dkv` is `dk` and `dv`, and
    /// `dslopes` is a sum of `dS`, as `dq`, `dk` and `dbias` are.
    #[must_use]
    pub fn gets_wrong(&self, output: TensorName) -> bool {
        let listed = |output| self.outputs.contains(&output);
        match output {
            TensorName::Dkv => listed(output) || listed(TensorName::Dk) || listed(TensorName::Dv),
            TensorName::Dslopes => {
                let of_ds = [TensorName::Dq, TensorName::Dk, TensorName::Dbias];
                listed(output) || of_ds.into_iter().any(listed)
            }
            _ => listed(output),
        }
    }

    /// The public bugs that it copies.
    #[must_use]
    pub fn upstream(&self) -> Option<String> {
        let bugs = self.bugs.iter().filter_map(|id| sus_corpus::bug(id));
        let sources: Vec<String> = bugs.map(sus_corpus::Bug::source).collect();
        (!sources.is_empty()).then(|| sources.join("; "))
    }
}

/// Every kernel, the mutants first, by type of bug.
#[must_use]
pub fn kernels() -> Vec<&'static Kernel> {
    mutations::BY_TYPE.iter().flat_map(|kernels| kernels.iter()).chain(controls::KERNELS).collect()
}

/// The kernel of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Kernel> {
    kernels().into_iter().find(|kernel| kernel.name == name)
}

/// The result of an unfused kernel of the 16-bit or 32-bit type: separate passes that round every matrix they store,
/// with the mask that is given.
#[must_use]
pub fn unfused_kernel(config: &RunConfig<'_>, mask: Option<&Sample>) -> TensorFile {
    let arithmetic = Arithmetic::unfused(config.arithmetic.gradient);
    let config = RunConfig::new(config.problem, arithmetic, config.draw);
    config.mutate(Point::Drawn, |state| {
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

/// The result of the plainest control.
#[must_use]
pub fn control_kernel(config: &RunConfig<'_>) -> TensorFile {
    config.run(Schedule::default())
}

/// Kernels of one type of bug: for each its doc line, the bugs of the corpus that it copies, the outputs that it gets
/// wrong, and its function.
macro_rules! define_kernels {
    ($bug_type:expr; $(
        #[doc = $what:literal]
        [$($bug:literal),*] [$($output:ident),*]
        fn $name:ident($config:ident) $body:block
    )+) => {
        pub(crate) const KERNELS: &[$crate::Kernel] = &[$(
            $crate::Kernel {
                name: stringify!($name),
                bug_type: $bug_type,
                is_mutant: $bug_type.is_some(),
                what: $what.trim_ascii(),
                bugs: &[$($bug),*],
                outputs: &[$(sus_reference::TensorName::$output),*],
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
use define_kernels;
