//! Every mask of a small problem, with its probability, in double-double arithmetic.

use num_traits::{One, Zero};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_reference::backward::{DenseWeights, Gradients, backward};
use sus_reference::forward::{Saved, forward};
use sus_reference::problem::{Inputs, Options, Problem};
use sus_reference::scalar::{DdWithError, Scalar};
use sus_reference::sus::rule::{Budget, Rule, keep_probability};
use sus_reference::sus::sampler::{Sampler, systematic};
use sus_reference::sus::{Pattern, Sample, sus_backward};
use sus_reference::tensor::Tensor;

/// A problem with every feature: a group, a bias that broadcasts and hides a key from the last head, a sink, a cotangent of `lse`, a
/// softcap, causal.
pub(super) fn problem(sizes: [usize; 7], stream: u64) -> Problem<f64> {
    let [b, hk, group, nq, nk, d, e] = sizes;
    let mut rng = ChaCha8Rng::from_seed(*b"sus-oracle selftest of its laws.");
    rng.set_stream(stream);
    let mut tensor = |shape| Tensor::from_fn(shape, |_| f64::from(rng.next_u32() % 33) / 8.0 - 2.0);
    let hq = hk * group;
    let inputs = Inputs::new(
        tensor([b, hq, nq, d]),
        tensor([b, hk, nk, d]),
        tensor([b, hk, nk, e]),
        tensor([b, hq, nq, e]),
    )
    .with_dlse(tensor([b, hq, nq, 1]));
    let mut bias = tensor([1, hq, 1, nk]);
    bias.as_mut_slice()[(hq - 1) * nk + nk / 2] = f64::NEG_INFINITY;
    let inputs = inputs.with_bias(bias).with_sink(tensor([1, 1, 1, hq]).as_slice().to_vec());
    let options = Options::default().with_causal(true).with_softcap(1.5);
    Problem::new(inputs, options).expect("a legal problem")
}

/// All gradients in one list.
pub(super) fn flat(gradients: &Gradients<DdWithError>) -> Vec<DdWithError> {
    let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = gradients;
    let tensors = [dq, dk, dv].into_iter().chain(dbias).chain(dslopes).chain(dkv);
    let numbers = tensors.flat_map(|tensor| tensor.as_slice().iter().copied());
    numbers.chain(dsink.iter().flatten().copied()).collect()
}

/// Mean and variance of the gradients, by enumeration.
pub(super) struct EnumeratedMoments {
    /// The dense gradients.
    pub(super) dense: Vec<DdWithError>,
    /// The mean of the sampled ones.
    pub(super) mean: Vec<DdWithError>,
    /// Their variance.
    pub(super) variance: Vec<DdWithError>,
    /// The number of masks.
    pub(super) masks: usize,
    /// The expected number of kept entries, by row.
    pub(super) expected: Vec<DdWithError>,
}

/// The mean and the variance over all masks; rows are independent of each other.
pub(super) fn moments(
    problem: &Problem<f64>,
    c: f64,
    rule: Rule,
    sampler: Sampler,
) -> EnumeratedMoments {
    let problem: Problem<DdWithError> = problem.cast().expect("finite numbers");
    let saved = forward(&problem);
    let budget = Budget::new(c).expect("a budget above 0");
    let mut lambda = Vec::new();
    let rows: Vec<Vec<(DdWithError, Vec<u32>)>> = (0..problem.row_count())
        .map(|at| {
            let (lambda_of_row, masks_of_row) =
                row_masks(&problem, &saved, at, budget, rule, sampler);
            lambda.push(lambda_of_row);
            masks_of_row
        })
        .collect();
    let dense = flat(&backward(&problem, &saved));
    let (mut mean, mut square) =
        (vec![DdWithError::zero(); dense.len()], vec![DdWithError::zero(); dense.len()]);
    let mut expected = vec![DdWithError::zero(); rows.len()];
    let mut choice = vec![0; rows.len()];
    let mut masks = 0;
    loop {
        let chosen = || rows.iter().zip(&choice).map(|(masks_of_row, &at)| &masks_of_row[at]);
        let p = chosen().fold(DdWithError::one(), |p, (q, _)| p * *q);
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        for (row, (_, kept)) in chosen().enumerate() {
            columns.extend_from_slice(kept);
            offsets.push(columns.len());
            expected[row] += p * DdWithError::from_f64(kept.len() as f64);
        }
        let pattern = Pattern::new(rows.len(), problem.sizes().keys, offsets, columns);
        let pattern = pattern.expect("keys in order");
        let sample = Sample { pattern, lambda: lambda.clone(), expected: Vec::new() };
        for (at, x) in flat(&sus_backward(&problem, &saved, &sample)).into_iter().enumerate() {
            mean[at] += p * x;
            let off = x - dense[at];
            square[at] += p * off * off;
        }
        masks += 1;
        let Some(next) = (0..rows.len()).find(|&row| choice[row] + 1 < rows[row].len()) else {
            break;
        };
        choice[next] += 1;
        choice[..next].fill(0);
    }
    EnumeratedMoments { dense, mean, variance: square, masks, expected }
}

/// `lambda` of a row, and each mask that the row can have with its probability.
fn row_masks(
    problem: &Problem<DdWithError>,
    saved: &Saved<DdWithError>,
    at: usize,
    budget: Budget,
    rule: Rule,
    sampler: Sampler,
) -> (f64, Vec<(DdWithError, Vec<u32>)>) {
    let row = problem.row(at);
    let visible = problem.span(row);
    let weights = DenseWeights { problem, saved };
    let w: Vec<DdWithError> = visible.clone().map(|j| weights.at(row, j).w).collect();
    let rounded: Vec<f64> = w.iter().map(|w| w.to_f64()).collect();
    let lambda = rule.lambda(budget, &rounded);
    let q: Vec<DdWithError> =
        w.iter().map(|&w| keep_probability(DdWithError::from_f64(lambda.min(1e300)), w)).collect();
    let key = |n: usize| (visible.start + n) as u32;
    let masks_of_row = match sampler {
        Sampler::Bernoulli => q.iter().enumerate().fold(
            vec![(DdWithError::one(), Vec::new())],
            |masks_of_row, (n, &q)| {
                let mut next = Vec::new();
                for (p, kept) in masks_of_row {
                    if q < DdWithError::one() {
                        next.push((p * (DdWithError::one() - q), kept.clone()));
                    }
                    if q > DdWithError::zero() {
                        let mut kept = kept;
                        kept.push(key(n));
                        next.push((p * q, kept));
                    }
                }
                next
            },
        ),
        Sampler::Systematic => {
            let most = DdWithError::from_f64(budget.get());
            let cuts = fractions(&q);
            let pieces = cuts.windows(2).filter(|piece| piece[0] < piece[1]);
            let middle = |piece: &[DdWithError]| (piece[0] + piece[1]) * DdWithError::from_f64(0.5);
            pieces
                .map(|piece| {
                    let kept = systematic(&q, middle(piece), most);
                    (piece[1] - piece[0], kept.into_iter().map(key).collect())
                })
                .collect()
        }
    };
    (lambda, masks_of_row)
}

/// 0, 1 and the fractional parts of the running sums of the stochastic entries, in order.
fn fractions(q: &[DdWithError]) -> Vec<DdWithError> {
    let (mut cuts, mut sum) = (vec![DdWithError::zero(), DdWithError::one()], DdWithError::zero());
    for &q in q.iter().filter(|&&q| q < DdWithError::one()) {
        sum += q;
        if sum >= DdWithError::one() {
            sum -= DdWithError::one();
        }
        cuts.push(sum);
    }
    cuts.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    cuts
}
