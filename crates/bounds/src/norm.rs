//! The norm of a vector of errors that is linear in independent roundings.

/// The matrix `S = A A^T` of errors `A d`, by its trace, its squared Frobenius norm and its spectral norm, or bounds of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Norm {
    pub trace: f64,
    pub frobenius: f64,
    pub spectral: f64,
}

impl Norm {
    /// Of a matrix that was added up; of an empty one the trace bounds all.
    pub(super) fn of_block(trace: f64, mut block: Vec<f64>) -> Self {
        let width = libm::sqrt(block.len() as f64) as usize;
        for a in 0..width {
            for b in 0..a {
                block[a * width + b] = block[b * width + a];
            }
        }
        let rows: Vec<&[f64]> = block.chunks(width.max(1)).collect();
        Norm::of(trace, &rows)
    }

    /// Of the matrix `A^T A`, which has the same norms as `A A^T`, given the columns of `A`.
    pub(super) fn of_gram(trace: f64, columns: &[Vec<f64>]) -> Self {
        let gram: Vec<Vec<f64>> = columns
            .iter()
            .map(|a| columns.iter().map(|b| sus_reference::tensor::dot(a, b)).collect())
            .collect();
        Norm::of(trace, &gram.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn of(trace: f64, rows: &[&[f64]]) -> Self {
        if rows.is_empty() {
            return Norm { trace, frobenius: trace * trace, spectral: trace };
        }
        let squares = rows.iter().flat_map(|row| row.iter()).map(|x| x * x).sum::<f64>();
        // The spectral norm is at most the largest row sum of absolute values.
        let largest = |most: f64, row: &&[f64]| most.max(row.iter().map(|x| x.abs()).sum());
        // 1e-9: a sum of n numbers errs by n 2^-53, and a block has at most LARGEST_GRAM = 2^23 of them, 9.4e-10.
        Norm {
            trace,
            // |S|_F^2 <= (tr S)^2 and |S| <= tr S for a positive semidefinite S.
            frobenius: (squares * (1.0 + 1e-9)).min(trace * trace),
            spectral: (rows.iter().fold(0.0, largest) * (1.0 + 1e-9)).min(trace),
        }
    }

    /// A diagonal matrix.
    pub(super) fn diagonal(squares: impl Iterator<Item = f64>) -> Self {
        squares.fold(Norm::default(), |n, x| Norm {
            trace: n.trace + x,
            frobenius: n.frobenius + x * x,
            spectral: n.spectral.max(x),
        })
    }

    /// Of other errors, stacked below these.
    pub(super) fn below(self, other: Norm) -> Self {
        Norm {
            trace: self.trace + other.trace,
            frobenius: self.frobenius + other.frobenius,
            spectral: self.spectral.max(other.spectral),
        }
    }

    /// Of the sum with errors from other roundings.
    pub(super) fn plus(self, other: Norm) -> Self {
        // Norms of a sum are at most the sums of norms.
        let root = libm::sqrt(self.frobenius) + libm::sqrt(other.frobenius);
        Norm {
            trace: self.trace + other.trace,
            frobenius: root * root,
            spectral: self.spectral + other.spectral,
        }
    }

    /// A limit that `|A d|` exceeds with probability `e^-t` at most: theorem 1 of Hsu, Kakade and Zhang, "RMS" in
    /// `docs/verdict.md`.
    pub(super) fn limit(self, t: f64) -> f64 {
        let square = self.trace + 2.0 * libm::sqrt(self.frobenius * t) + 2.0 * self.spectral * t;
        libm::sqrt(square)
    }
}

/// Adds `square x x^T` to the upper half of a matrix, or to none; its trace is given back.
pub(super) fn outer(block: &mut [f64], square: f64, x: &[f64]) -> f64 {
    if !block.is_empty() {
        for (a, row) in block.chunks_mut(x.len()).enumerate() {
            let by = square * x[a];
            row[a..].iter_mut().zip(&x[a..]).for_each(|(sum, x)| *sum += by * x);
        }
    }
    square * x.iter().map(|x| x * x).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_columns_has_the_norms_of_its_gram_matrix() {
        // A = [[3, 0], [4, 5]]: A A^T has the trace 50, the squared Frobenius norm 2050 and the spectral norm 45.
        let norm = Norm::of_gram(50.0, &[vec![3.0, 4.0], vec![0.0, 5.0]]);
        let mut block = vec![0.0; 4];
        let trace = outer(&mut block, 1.0, &[3.0, 4.0]) + outer(&mut block, 1.0, &[0.0, 5.0]);
        let added = Norm::of_block(trace, block);
        for norm in [norm, added] {
            assert!((norm.trace - 50.0).abs() < 1e-9 && (norm.frobenius - 2050.0).abs() < 1e-4);
            assert!((45.0..=50.0).contains(&norm.spectral), "{norm:?}");
        }
        let unknown = Norm::of_block(trace, Vec::new());
        assert!(unknown.frobenius >= added.frobenius && unknown.spectral >= added.spectral);
        assert!(unknown.limit(20.0) > added.limit(20.0));
    }

    #[test]
    fn the_limit_of_a_square_is_above_its_own_tail() {
        // One normal variable: P(|d| > x) <= 2 exp(-x^2 / 2) = e^-t at x^2 = 2 (t + ln 2).
        let one = Norm::diagonal([1.0].into_iter());
        for t in [1.0, 10.0, 30.0] {
            assert!(one.limit(t) >= libm::sqrt(2.0 * (t + std::f64::consts::LN_2)), "{t}");
        }
    }
}
