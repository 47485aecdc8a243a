//! How much gradients differ from sequence to sequence.

use super::totals::PerGradient;
use sus_reference::error::Error;
use sus_reference::scalar::Scalar;
use sus_reference::tensor::Tensor;

/// The squared norm and the between-sequence variance of one gradient, by key heads.
///
/// Deviations are summed as sequences come (Welford): `d = g - mean`, `mean += d / n`, `sum += d (g - mean)`. Nothing
/// cancels, and the result depends on the order of the sequences alone.
///
/// # Examples
/// ```
/// use sus_analysis::Spread;
/// // Two heads of one number each, in three sequences.
/// let mut spread = Spread::default();
/// for gradient in [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]] {
///     spread.add(&gradient, 2);
/// }
/// assert_eq!((spread.variance(Some(0)), spread.variance(Some(1))), (Some(1.0), Some(0.0)));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread {
    sequences: usize,
    mean: Vec<f64>,
    /// Sum of squared deviations, by key head.
    deviations: Vec<f64>,
    /// Sum of squares, by key head.
    squares: Vec<f64>,
}

impl Spread {
    /// The number of sequences.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Adds one sequence's gradient, `heads` parts of equal length.
    ///
    /// # Panics
    /// If its length is not that of the sequences before.
    pub fn add(&mut self, gradient: &[f64], heads: usize) {
        if self.sequences == 0 {
            self.mean = vec![0.0; gradient.len()];
            (self.deviations, self.squares) = (vec![0.0; heads], vec![0.0; heads]);
        }
        assert_eq!(self.mean.len(), gradient.len(), "sequences of equal shape");
        self.sequences += 1;
        let n = self.sequences as f64;
        let length = (gradient.len() / heads).max(1);
        let parts = gradient.chunks(length).zip(self.mean.chunks_mut(length)).enumerate();
        for (head, (gradient, mean)) in parts {
            let (mut deviations, mut squares) = (0.0, 0.0);
            for (&g, mean) in gradient.iter().zip(mean) {
                let d = g - *mean;
                *mean += d / n;
                deviations += d * (g - *mean);
                squares += g * g;
            }
            self.deviations[head] += deviations;
            self.squares[head] += squares;
        }
    }

    /// `sum |g|^2` over the sequences, of one key head or of all.
    #[must_use]
    pub fn squared_norm(&self, head: Option<usize>) -> f64 {
        of_head(&self.squares, head)
    }

    /// The unbiased between-sequence variance, summed over coordinates; `None` with fewer than two sequences.
    #[must_use]
    pub fn variance(&self, head: Option<usize>) -> Option<f64> {
        let others = self.sequences.checked_sub(1).filter(|&others| others > 0)?;
        Some(of_head(&self.deviations, head) / others as f64)
    }

    /// `mask_variance / sequences` over the between-sequence variance; `None` if that is zero or not known.
    #[must_use]
    pub fn relative_increase(&self, mask_variance: f64, head: Option<usize>) -> Option<f64> {
        let between = self.variance(head).filter(|&between| between > 0.0)?;
        Some(mask_variance / self.sequences as f64 / between)
    }
}

fn of_head(sums: &[f64], head: Option<usize>) -> f64 {
    match head {
        Some(head) => sums.get(head).copied().unwrap_or(0.0),
        None => sums.iter().sum(),
    }
}

impl PerGradient<Spread> {
    /// Adds the three gradients of one sequence.
    ///
    /// # Errors
    /// [`Error::Overflow`] if an element is not finite.
    pub fn add(
        &mut self,
        sequence: &PerGradient<Vec<f64>>,
        heads: usize,
        names: &PerGradient<&'static str>,
    ) -> Result<(), Error> {
        for (spread, gradient, tensor) in [
            (&mut self.dq, &sequence.dq, names.dq),
            (&mut self.dk, &sequence.dk, names.dk),
            (&mut self.dv, &sequence.dv, names.dv),
        ] {
            if let Some(index) = gradient.iter().position(|x| !x.is_finite()) {
                let found = format!("{}", gradient[index]);
                return Err(Error::Overflow { tensor, index, found });
            }
            spread.add(gradient, heads);
        }
        Ok(())
    }
}

/// Sequence `b` of a gradient.
#[must_use]
pub fn sequence<T: Scalar>(gradient: &Tensor<T>, b: usize) -> Vec<f64> {
    let [_, heads, positions, features] = gradient.shape();
    let length = heads * positions * features;
    gradient.as_slice()[b * length..(b + 1) * length].iter().map(|x| x.to_f64()).collect()
}

/// `x^T g` of sequence `b`, `[heads, M, features]`; nothing if the gradient has other positions than `x`.
///
/// # Examples
/// ```
/// use sus_analysis::spread::project;
/// use sus_reference::tensor::Tensor;
/// // Two positions, x = (1, 2) of one feature, a gradient of one head and two features.
/// let x = Tensor::new("x", [1, 1, 2, 1], &[1.0, 2.0])?;
/// let dq = Tensor::new("dq", [1, 1, 2, 2], &[1.0, 10.0, 3.0, 30.0])?;
/// assert_eq!(project(&x, &dq, 0), [7.0, 70.0]); // x_1 dq_1 + x_2 dq_2
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[must_use]
pub fn project<T: Scalar>(x: &Tensor<T>, gradient: &Tensor<T>, b: usize) -> Vec<f64> {
    let [_, _, positions, m] = x.shape();
    let [_, heads, rows, features] = gradient.shape();
    if rows != positions {
        return Vec::new();
    }
    let mut out = vec![T::zero(); heads * m * features];
    for h in 0..heads {
        let out = &mut out[h * m * features..(h + 1) * m * features];
        for n in 0..positions {
            let g = gradient.row(b, h, n);
            for (out, &x) in out.chunks_exact_mut(features).zip(x.row(b, 0, n)) {
                sus_reference::tensor::add_scaled(out, x, g);
            }
        }
    }
    out.iter().map(|x| x.to_f64()).collect()
}
