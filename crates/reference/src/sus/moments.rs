//! The exact moments of the SUS gradients: mean, variance, covariance, range, and the distribution of the kept counts.
//!
//! The mean is the dense gradient. With `f_ij = t_ij slope_ij`, every gradient is linear in `W~`:
//!
//! ```text
//! dq_i = sum_j W~_ij f_ij k_j      dk_j = sum_i W~_ij f_ij q_i      dv_j = sum_i W~_ij G_i      dbias_ij = W~_ij t_ij
//! r_ij = Var W~_ij = W_ij (max(W_ij, 1/lambda_i) - W_ij)
//! ```
//!
//! Rows are independent under both samplers. Within a row, entries are independent under `bernoulli`; under
//! `systematic` the mask is a step function of one uniform, and its moments are sums over the [steps](pieces).
//! `dk`, `dv` and `dbias` never add two entries of one row to one element, so their variances need `r` alone.
//!
//! An entry is *stochastic* if `0 < q < 1`; the others are kept always or never. All formulas need only `+ - * /` and
//! order, so they run in exact rationals, where the tests compare them with an enumeration of every mask by `==`.
//! Derivations: `docs/moments.md`.

pub mod count;
mod elementwise;
pub mod entry;
pub mod enumerate;
pub mod functional;
pub mod mask;
pub mod pieces;
pub mod row;

pub use crate::scalar::Field;
pub use crate::tensor::squared_norms;
pub use elementwise::variances;
pub use entry::{RowEntry, entries_into};
pub use functional::{Functional, FunctionalDistribution, covariance, functional_distribution};
pub use mask::{MaskDistribution, ROWS_PER_TASK};
pub use row::{RowDistribution, Traces};
