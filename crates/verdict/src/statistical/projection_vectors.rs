//! The fixed directions along which gradients are projected (docs/statistics.md, "Projections").
//!
//! A direction has coefficients for every gradient. Each gradient's projection, and the sum over all gradients, is
//! `sum_ij a_ij W~_ij`: its distribution is known. Random signs detect every error a little. The others are aimed at known bugs: the
//! shift of the mean by a wrong formula, divided by the variances, and the counts of heads and of blocks of keys and queries.

use super::grid::{cut, raised};
use super::model::{for_each_part, slices};
use crate::candidate::{GRADIENTS, shape_of};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_files::hash::sha256;
use sus_files::{Array, TensorFile};
use sus_reference::backward::{DenseWeights, Gradients, backward};
use sus_reference::error::Error;
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Problem, Row};
use sus_reference::sus::Draw;
use sus_reference::sus::moments::{MaskDistribution, RowDistribution, RowEntry, variances};

/// Random directions.
const RANDOM: usize = 16;
/// Blocks of keys, and of queries, with a direction each.
const BLOCKS: usize = 4;
/// Heads with a direction each.
const HEADS: usize = 32;
/// The tensor with the digest of the directions.
pub(crate) const DIGEST: &str = "proj/case";

/// Directions of one case: `P` coefficients for every element of every gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    /// The name of each direction.
    pub names: Vec<String>,
    /// The coefficients of `dq`, `dk`, `dv` and `dbias`, each `[P, ...]` flat and exact in `F32`; `dbias` is empty if the
    /// problem has no bias.
    pub parts: [Vec<f64>; 4],
    /// The directions that count the kept entries of one head, in order.
    pub(super) heads: Vec<usize>,
}

/// A problem with its distribution, row by row.
struct Rows<'a> {
    problem: &'a Problem<f64>,
    distribution: MaskDistribution<'a, f64, DenseWeights<'a, f64>>,
    all: Vec<(Row, Vec<RowEntry<f64>>, RowDistribution<f64>)>,
}

/// The directions of a case. They depend on the problem and the draw's `c`, rule and sampler, and on nothing that a kernel does.
///
/// # Errors
/// [`Error::Overflow`] if the variances leave the range of `f64`.
///
/// # Examples
/// ```
/// use sus_reference::sus::{Budget, Draw};
/// use sus_verdict::statistical::directions;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let all = directions(&problem, &Draw::paper(Budget::new(4.0)?, 7))?;
/// let other_seed = directions(&problem, &Draw::paper(Budget::new(4.0)?, 8))?;
/// assert_eq!(all, other_seed); // the words do not matter
/// # Ok::<(), sus_reference::Error>(())
/// ```
pub fn directions(problem: &Problem<f64>, draw: &Draw) -> Result<Directions, Error> {
    let saved: Saved<f64> = forward(problem);
    let truth = backward(problem, &saved);
    let distribution = MaskDistribution::new(problem, &saved, draw.c, draw.rule, draw.sampler);
    let variances = variances(&distribution);
    let all = slices(&variances);
    for (tensor, data) in GRADIENTS.into_iter().zip(all) {
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            return Err(Error::Overflow { tensor, index, found: data[index].to_string() });
        }
    }
    let by_row = (0..problem.row_count())
        .map(|at| {
            let row = problem.row(at);
            (row, distribution.entries(row), distribution.row(row))
        })
        .collect();
    let rows = Rows { problem, distribution, all: by_row };
    let mut made = Directions { names: Vec::new(), parts: Default::default(), heads: Vec::new() };
    made.random(all);
    made.shifts(&rows, &truth, all);
    made.counts(&rows, all);
    Ok(made)
}

fn zeros(like: [&[f64]; 4]) -> [Vec<f64>; 4] {
    like.map(|x| vec![0.0; x.len()])
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len().max(1) as f64
}

impl Directions {
    /// The number of directions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The coefficients of one direction.
    #[must_use]
    pub fn of(&self, direction: usize) -> [&[f64]; 4] {
        std::array::from_fn(|t| {
            let length = self.parts[t].len() / self.count().max(1);
            &self.parts[t][direction * length..(direction + 1) * length]
        })
    }

    /// Adds a direction, its largest coefficient 1, each rounded to `F32`.
    fn push(&mut self, name: String, parts: &[Vec<f64>; 4]) {
        let largest = parts.iter().flatten().fold(0.0_f64, |most, x| most.max(x.abs()));
        let factor = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        for (all, part) in self.parts.iter_mut().zip(parts) {
            all.extend(part.iter().map(|x| f64::from((x * factor) as f32)));
        }
        self.names.push(name);
    }

    /// Random signs, each gradient divided by its own standard deviation.
    fn random(&mut self, variances: [&[f64]; 4]) {
        let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle/projections/1........");
        for number in 0..RANDOM {
            let parts = variances.map(|v| {
                let deviation = libm::sqrt(mean(v));
                let scale = if deviation > 0.0 { 1.0 / deviation } else { 1.0 };
                let sign = |x: u32| if x >> 31 == 0 { scale } else { -scale };
                v.iter().map(|_| sign(rng.next_u32())).collect()
            });
            self.push(format!("random direction {number}"), &parts);
        }
    }

    /// The errors of the mean that wrong formulas make, divided by the variances: the directions that detect them best.
    fn shifts(&mut self, rows: &Rows<'_>, truth: &Gradients<f64>, variances: [&[f64]; 4]) {
        let over = |parts: &mut [Vec<f64>; 4]| {
            for (part, v) in parts.iter_mut().zip(variances) {
                // One percent of the mean variance: elements of hardly any variance would only add their rounding errors.
                let floor = (0.01 * mean(v)).max(f64::MIN_POSITIVE);
                part.iter_mut().zip(v).for_each(|(x, v)| *x /= v + floor);
            }
        };
        let mut parts = slices(truth).map(<[f64]>::to_vec);
        over(&mut parts);
        self.push("the truth over its variance".into(), &parts);
        for (name, shift) in SHIFTS {
            let mut parts = zeros(variances);
            rows.add(&mut parts, |_, entry, distribution, n| {
                let r = distribution.w[n] * (distribution.kept[n] - distribution.w[n]);
                shift(entry.w, distribution.q[n], distribution.kept[n], r)
            });
            over(&mut parts);
            self.push((*name).into(), &parts);
        }
        // delta from the sampled weights is correlated with each weight: E (delta~ - delta) W~ = r (G . v).
        let mut parts = zeros(variances);
        rows.add(&mut parts, |row, entry, distribution, n| {
            let delta = rows.distribution.delta[rows.problem.row_number(row)];
            let score = entry.t + delta - rows.problem.dlse(row);
            let r = distribution.w[n] * (distribution.kept[n] - distribution.w[n]);
            if entry.t == 0.0 { 0.0 } else { -r * score / entry.t }
        });
        parts[2].fill(0.0);
        over(&mut parts);
        self.push("delta from the sampled weights".into(), &parts);
    }

    /// Counts of kept entries, as far as a projection gives them: each entry's own gradient over its square.
    fn counts(&mut self, rows: &Rows<'_>, like: [&[f64]; 4]) {
        let s = rows.problem.sizes();
        let mut count = |name: String, inside: &dyn Fn(Row, usize) -> bool| {
            let mut parts = zeros(like);
            for (row, entries, distribution) in &rows.all {
                for (n, entry) in entries.iter().enumerate() {
                    if !distribution.is_stochastic(n) || !inside(*row, entry.j) {
                        continue;
                    }
                    let mut squares = [0.0; 4];
                    for_each_part(rows.problem, *row, entry, |t, _, x| squares[t] += x * x);
                    for_each_part(rows.problem, *row, entry, |t, at, x| {
                        let size = squares[t] * distribution.kept[n];
                        parts[t][at] += if size > 0.0 { x / size } else { 0.0 };
                    });
                }
            }
            self.push(name, &parts);
        };
        count("the count of all entries".into(), &|_, _| true);
        let block = |at: usize, all: usize| at * BLOCKS / all.max(1);
        for n in 0..BLOCKS {
            count(format!("the count of block {n} of the keys"), &|_, j| block(j, s.keys) == n);
            count(format!("the count of block {n} of the queries"), &|row, _| {
                block(row.i, s.queries) == n
            });
        }
        let heads = s.batch * s.query_heads;
        let shown = if heads > 1 { heads.min(HEADS) } else { 0 };
        for head in 0..shown {
            let (b, h) = (head / s.query_heads, head % s.query_heads);
            count(format!("the count of batch {b}, head {h}"), &|row, _| (row.b, row.h) == (b, h));
        }
        self.heads = (self.names.len() - shown..self.names.len()).collect();
    }

    /// A digest of the coefficients.
    #[must_use]
    pub fn digest(&self) -> i64 {
        let bytes: Vec<u8> =
            self.parts.iter().flatten().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        let hash = sha256(&bytes);
        let first: [u8; 8] = std::array::from_fn(|at| hash[at]);
        i64::from_le_bytes(first) & i64::MAX
    }

    /// `proj/dq` and so on, `[P, ...]` in `F32`, and `proj/case`, the digest.
    ///
    /// # Examples
    /// ```
    /// use sus_reference::sus::{Budget, Draw};
    /// use sus_verdict::statistical::directions;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let all = directions(&problem, &Draw::paper(Budget::new(4.0)?, 7))?;
    /// let file = all.to_file(&problem);
    /// assert_eq!(file.arrays["proj/dq"].shape[0], all.count());
    /// assert!(!file.arrays.contains_key("proj/dbias"));
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    #[must_use]
    pub fn to_file(&self, problem: &Problem<f64>) -> TensorFile {
        let mut file = TensorFile::default();
        for (name, part) in GRADIENTS.into_iter().zip(&self.parts) {
            let Some(shape) = shape_of(problem, name) else { continue };
            let shape = [&[self.count()][..], &shape].concat();
            file.arrays.insert(format!("proj/{name}"), Array::f32(&shape, part.clone()));
        }
        file.arrays.insert(DIGEST.into(), Array::i64(&[1], vec![self.digest()]));
        file
    }
}

/// The error of an entry's mean weight, from its `W`, `q`, kept value and variance.
type Shift = fn(f64, f64, f64, f64) -> f64;

/// The errors of the mean of `W~` that wrong weights and probabilities make.
const SHIFTS: &[(&str, Shift)] = &[
    ("the truth of the undecided weights", |w, q, _, _| if q < 1.0 { w } else { 0.0 }),
    ("the truth of the weights with q < 1/4", |w, q, _, _| if q < 0.25 { w } else { 0.0 }),
    ("the truth of the weights with q < 1/16", |w, q, _, _| if q < 0.0625 { w } else { 0.0 }),
    ("the truth of the decided weights", |w, q, _, _| if q < 1.0 { 0.0 } else { w }),
    ("weights not divided by q", |w, q, _, _| w * q.min(1.0) - w),
    ("weights divided by q twice", |w, q, _, _| if q > 1e-6 { w / q.min(1.0) - w } else { 0.0 }),
    ("weights weighed by their variance", |_, _, _, r| r),
    ("uniforms of 8 bits", |_, q, kept, _| raised(q, 8).min(1.0) * kept - q.min(1.0) * kept),
    ("q cut to 8 bits", |_, q, kept, _| cut(q, 8).min(1.0) * kept - q.min(1.0) * kept),
];

impl Rows<'_> {
    /// Adds `shift x` of every visible entry to the gradients.
    fn add(
        &self,
        parts: &mut [Vec<f64>; 4],
        shift: impl Fn(Row, &RowEntry<f64>, &RowDistribution<f64>, usize) -> f64,
    ) {
        for (row, entries, distribution) in &self.all {
            for (n, entry) in entries.iter().enumerate() {
                let shift = shift(*row, entry, distribution, n);
                if shift == 0.0 || !shift.is_finite() {
                    continue;
                }
                for_each_part(self.problem, *row, entry, |t, at, x| parts[t][at] += shift * x);
            }
        }
    }
}
