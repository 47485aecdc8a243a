//! Simulated kernels of 8 bits: right ones and wrong ones, in `f32` from codes and scales. `docs/fp8.md`.
//!
//! Every kernel is the same program with one thing changed: [`Fp8Kernel`]. It reads the codes and the scales of an [`Fp8Problem`], never
//! the numbers that they mean, so that a scale that is left out stays left out.
//!
//! ```
//! use sus_mutants::fp8::{Fp8Kernel, Fp8Problem, ScaleBy, bugs};
//! let problem = Fp8Problem::drawn([1, 2, 24, 24, 16], ScaleBy::Head, 1.0, 7);
//! let right = Fp8Kernel::default().run(&problem);
//! let bug = bugs().into_iter().find(|bug| bug.name == "k_scale_missing").unwrap();
//! assert!(bug.kernel.run(&problem).arrays["dv"] != right.arrays["dv"]);
//! ```

mod bugs;
mod head;
mod kernel;
pub mod matrix;
mod problem;

pub use bugs::{Bug, bugs, controls};
pub use kernel::{Descale, Forward, Fp8Kernel, Overflow, Use};
pub use problem::{Fp8Problem, ScaleBy, problems};
