//! A value for each gradient whose errors are summed along directions.

/// A vector for each of `dq`, `dk`, `dv` and `dbias`, in the order of the elements; empty for a tensor without. Where the values are in
/// the keys, `dk` is `dkv` and `dv` is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GradientValues {
    /// Of `dq`.
    pub dq: Vec<f64>,
    /// Of `dk`.
    pub dk: Vec<f64>,
    /// Of `dv`.
    pub dv: Vec<f64>,
    /// Of `dbias`.
    pub dbias: Vec<f64>,
}

impl GradientValues {
    /// The four in their order: `dq`, `dk`, `dv`, `dbias`.
    #[must_use]
    pub fn slices(&self) -> [&[f64]; 4] {
        [&self.dq, &self.dk, &self.dv, &self.dbias]
    }

    /// Each element combined with the same element of `other`.
    #[must_use]
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let both = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
        GradientValues {
            dq: both(&self.dq, &other.dq),
            dk: both(&self.dk, &other.dk),
            dv: both(&self.dv, &other.dv),
            dbias: both(&self.dbias, &other.dbias),
        }
    }
}

impl From<[Vec<f64>; 4]> for GradientValues {
    fn from([dq, dk, dv, dbias]: [Vec<f64>; 4]) -> Self {
        GradientValues { dq, dk, dv, dbias }
    }
}
