//! How well a kernel of limited precision can do: recipes, and the forward-error bound of every element.
//!
//! A [`Recipe`] says where a kernel rounds and to what. From it and the problem follows, for every element of every
//! result, how far a right kernel can be from the truth, whatever its tiling, order or split: [`bounds()`]. The truth is
//! computed in double-double: [`Truth`]. `docs/bounds.md` derives every term.

mod bound;
mod directional;
mod drawn;
mod entry;
mod equal;
mod format;
mod functional;
mod gradient;
mod norm;
mod progress;
mod ranges;
mod recipe;
mod reduced;
mod row;
mod rows;
mod score;
mod stage;
mod sums;
mod terms;
mod truth;
mod vectors;
mod widen;

pub use bound::{Bound, Bounds, ELEMENTWISE_FALSE_ALARM, Question, bounds, kept_weights};
pub use bound::{bounds_of, kept_weights_of};
pub use directional::{Along, Direction, WithO};
pub use entry::Term;
pub use entry::is_power_of_two;
pub use format::Format;
pub use functional::LARGEST_HEAD;
pub use functional::{AllLimits, Limits, STATISTICAL_FALSE_ALARM, SetLimits, Statistic, limits};
pub use progress::{Progress, Silent};
pub use ranges::{Range, Ranges, has_ranges, ranges};
pub use recipe::{Delta, Gqa, Recipe, RecipeError};
pub use row::row_errors_packed;
pub use row::{Mode, RowErrors, row_errors};
pub use rows::{OfRows, rows_of};
pub use score::EntryError;
pub use score::Packed;
pub use stage::Stage;
pub use truth::Truth;
pub use widen::widen_weights;
