//! How well a kernel of limited precision can do: recipes, and the forward-error bound of every element.
//!
//! A [`Recipe`] says where a kernel rounds and to what. From it and the problem follows, for every element of every
//! result, how far a right kernel can be from the truth, whatever its tiling, order or split: [`bounds()`]. The truth is
//! computed in double-double: [`Truth`]. `docs/bounds.md` derives every term.

mod bias_sink;
mod bound;
mod directional;
mod entry;
mod error_statistics;
mod format;
mod gradient;
mod norm;
mod progress;
mod ranges;
mod recipe;
mod reference_error;
mod rounding_model;
mod row;
mod rows;
mod score;
mod stage;
mod sums;
mod terms;
mod ties;
mod truth;
mod vectors;

pub use bound::{Bound, Bounds, BoundsInput, ELEMENTWISE_FALSE_ALARM, bounds, kept_weights};
pub use bound::{bounds_of, kept_weights_of};
pub use directional::{Along, Direction, WithO};
pub use entry::Term;
pub use entry::is_power_of_two;
pub use error_statistics::LARGEST_HEAD;
pub use error_statistics::{
    AllLimits, Limits, STATISTICAL_FALSE_ALARM, SetLimits, Statistic, limits,
};
pub use format::Format;
pub use progress::{Progress, Silent};
pub use ranges::{Range, Ranges, has_ranges, ranges};
pub use recipe::{Delta, Gqa, Recipe, RecipeError};
pub use reference_error::widen_weights;
pub use row::row_errors_packed;
pub use row::{Mode, RowErrors, row_errors};
pub use rows::{OfRows, rows_of};
pub use score::EntryError;
pub use score::Packed;
pub use stage::Stage;
pub use truth::Truth;
