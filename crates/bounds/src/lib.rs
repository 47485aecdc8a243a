//! Recipes of kernels of limited precision, and the forward-error bound of every element.
//!
//! A [`Recipe`] says where a kernel rounds and to what. From it and the problem follows, for every element of every
//! result, how far a right kernel can be from the truth, whatever its tiling, order or split: [`bounds()`]. The truth is
//! computed in double-double: [`Truth`]. `docs/bounds.md` derives every term.

mod bias_sink;
mod bound;
mod bounds;
mod context;
mod direction;
mod direction_dbias;
mod direction_weights;
mod dq;
mod ds;
mod ds_interval;
mod error_statistics;
mod false_alarm;
mod format;
mod forward;
mod fp8;
mod gradient_values;
mod input;
mod interval;
mod key_block;
mod known_o;
mod known_o_dq;
mod limits;
mod linear_sums;
mod mask;
mod norm;
mod operands;
mod progress;
mod range;
mod ranges;
mod recipe;
mod recipe_fp8;
mod reference_error;
mod rounded_dv;
mod rounding_model;
mod roundoff;
mod row;
mod row_envelope;
mod rows;
mod score;
mod set_variances;
mod simd;
mod single_weight;
mod stage;
mod statistic_weights;
mod store;
mod sums;
mod term;
mod ties;
mod truth;
mod weight;

pub use bound::{Bound, Bounds};
pub use bounds::{
    RowBounds, bounds, bounds_of, kept_weights, kept_weights_of, key_bounds, row_bounds, rows_of,
    summaries_of,
};
pub use direction::{DirectionLimit, ErrorDirection, StoredOLimit};
pub use error_statistics::{
    SetLimits, Statistic, StatisticalLimits, TensorLimits, statistical_limits,
};
pub use false_alarm::{ELEMENTWISE_FALSE_ALARM, STATISTICAL_FALSE_ALARM};
pub use format::Format;
pub use fp8::{ForwardWay, Fp8, PreparedRows, StoredRows};
pub use gradient_values::GradientValues;
pub use input::BoundsInput;
pub use known_o::{
    KnownOGradient, KnownOGradients, has_known_delta, known_o_gradients, unrounded_gradients,
};
pub use known_o_dq::{DsRounding, DsRoundingPoint, ds_roundings, known_o_dq_ranges};
pub use limits::LARGEST_HEAD;
pub use operands::Operands;
pub use progress::{Progress, Silent};
pub use range::RoundingRange;
pub use ranges::{RoundingRanges, has_ranges, ranges};
pub use recipe::{Conversion, Delta, Gqa, Product, Recipe, RecipeError};
pub use reference_error::widen_weights;
pub use roundoff::is_power_of_two;
pub use row::{Mode, RowErrors, row_errors, row_errors_of};
pub use row_envelope::{has_row_envelopes, summaries_by_norms};
pub use score::EntryError;
pub use stage::Stage;
pub use term::Term;
pub use truth::Truth;
