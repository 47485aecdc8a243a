//! Double-double numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
/// Placeholder.
pub struct Dd { hi: f64, lo: f64 }
