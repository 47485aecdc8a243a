//! Parts of a problem: some heads, rows or keys are judged exactly, and the report says which.
//!
//! A part is judged unit by unit. A unit is one key head with the query heads that read it, in all sequences. Where no rows and no
//! keys are selected it is judged like a problem of its own, with its share of the false-alarm rates; else the elements of the
//! selected rows and keys are held against their bounds. What a unit gives does not depend on the other units, so reports of parts
//! are joined by putting their units together: [`document`] is a function of the set of units.

mod aggregate;
mod candidate;
pub mod document;
mod draw;
mod elements;
mod judge;
pub mod ranges;
mod selection;
mod text;

pub use document::{Document, Unit};
pub use draw::draw;
pub use judge::{PartInput, judge};
pub use selection::Selection;
pub use text::{junit, text};
