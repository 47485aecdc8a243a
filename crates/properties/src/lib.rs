//! The laws of the specification, proved again on the machine at hand, in seconds.
//!
//! Each law is one function that gives what it found, or what is wrong. Means and variances are exact: every mask of a
//! small problem is enumerated in double-double arithmetic.

mod enumeration;
mod properties;

pub use properties::PROPERTIES;

/// A law that can be tried.
///
/// # Examples
/// ```
/// let law = &sus_properties::PROPERTIES[1];
/// assert_eq!(law.name, "a query that sees no key has o = 0, lse = -inf and no gradient");
/// assert!((law.prove)().is_ok());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// The law, in one line.
    pub name: &'static str,
    /// Tries it: what was found, or what is wrong.
    pub prove: fn() -> Result<String, String>,
}
