//! The estimators of `layers` in exact rationals: one causal head of three rows, every mask enumerated.
//!
//! The parts that are not sampled are computed here as they would be at length `n`: by running sums over keys and queries, in
//! `O(n D E)`, without a sum over pairs.

use num_rational::Ratio;
use num_traits::{One, Signed, Zero};
use sus_analysis::PerGradient;
use sus_analysis::layers::Curve;

type Q = Ratio<i128>;
type V = [Q; 2];

const N: usize = 3;

fn ratio(a: i128, b: i128) -> Q {
    Ratio::new(a, b)
}

/// The nearest `f64`: both parts are far below 2^53.
fn number(x: Q) -> f64 {
    *x.numer() as f64 / *x.denom() as f64
}

fn dot(a: &V, b: &V) -> Q {
    a[0] * b[0] + a[1] * b[1]
}

fn add(out: &mut V, factor: Q, x: &V) {
    (0..2).for_each(|d| out[d] += factor * x[d]);
}

fn vectors(numbers: [[i128; 2]; N]) -> [V; N] {
    numbers.map(|row| row.map(|x| ratio(x, 1)))
}

/// A causal head with given weights, as a softmax makes them: a row adds up to 1.
struct Head {
    w: [Vec<Q>; N],
    q: [V; N],
    k: [V; N],
    v: [V; N],
    g: [V; N],
    scale: Q,
}

/// What is drawn: `lambda_i`, `u_i` and `kappa`.
struct Drawn {
    lambda: [Q; N],
    u: [Q; N],
    kappa: V,
}

type Gradients = [[V; N]; 3];

fn entries() -> Vec<(usize, usize)> {
    (0..N).flat_map(|i| (0..=i).map(move |j| (i, j))).collect()
}

impl Head {
    fn delta(&self, i: usize) -> Q {
        (0..=i).map(|j| self.w[i][j] * dot(&self.g[i], &self.v[j])).sum()
    }

    fn f(&self, i: usize, j: usize) -> Q {
        self.scale * (dot(&self.g[i], &self.v[j]) - self.delta(i))
    }

    /// `dq`, `dk`, `dv` of these weights, `dq` with the keys less `kappa`.
    fn of_weights(&self, weight: impl Fn(usize, usize) -> Q, kappa: &V) -> Gradients {
        let mut out = [[[Q::zero(); 2]; N]; 3];
        for i in 0..N {
            for j in 0..=i {
                let (w, f) = (weight(i, j), self.f(i, j));
                let k = [self.k[j][0] - kappa[0], self.k[j][1] - kappa[1]];
                add(&mut out[0][i], w * f, &k);
                add(&mut out[1][j], w * f, &self.q[i]);
                add(&mut out[2][j], w, &self.g[i]);
            }
        }
        out
    }

    /// The part of `u_i`, by running sums: `sum_j u_i f_ij k_j = u_i scale (sum_j k_j v_j^T G_i - delta_i sum_j k_j)` over the keys
    /// up to `i`, and likewise over the queries from `j` on.
    fn of_u(&self, drawn: &Drawn) -> Gradients {
        let [mut dq, mut dk, mut dv] = [[[Q::zero(); 2]; N]; 3];
        let (mut kv, mut keys) = ([[Q::zero(); 2]; 2], [Q::zero(); 2]);
        for (i, dq) in dq.iter_mut().enumerate() {
            let k = [self.k[i][0] - drawn.kappa[0], self.k[i][1] - drawn.kappa[1]];
            (0..2).for_each(|d| add(&mut kv[d], k[d], &self.v[i]));
            add(&mut keys, Q::one(), &k);
            for d in 0..2 {
                let sum = dot(&kv[d], &self.g[i]) - self.delta(i) * keys[d];
                dq[d] = drawn.u[i] * self.scale * sum;
            }
        }
        let (mut qg, mut q, mut g) = ([[Q::zero(); 2]; 2], [Q::zero(); 2], [Q::zero(); 2]);
        for (j, (dk, dv)) in dk.iter_mut().zip(&mut dv).enumerate().rev() {
            (0..2).for_each(|d| add(&mut qg[d], drawn.u[j] * self.q[j][d], &self.g[j]));
            add(&mut q, drawn.u[j] * self.delta(j), &self.q[j]);
            add(&mut g, drawn.u[j], &self.g[j]);
            for d in 0..2 {
                dk[d] = self.scale * (dot(&qg[d], &self.v[j]) - q[d]);
            }
            *dv = g;
        }
        [dq, dk, dv]
    }

    fn keep(&self, drawn: &Drawn, (i, j): (usize, usize)) -> Q {
        (drawn.lambda[i] * (self.w[i][j] - drawn.u[i]).abs()).min(Q::one())
    }

    /// The probability and the gradients of every mask, and how many it keeps.
    fn masks(&self, drawn: &Drawn) -> Vec<(Q, Gradients, usize)> {
        let entries = entries();
        let exact = self.of_u(drawn);
        let mask = |bits: u32| {
            let kept = |n: usize| bits >> n & 1 == 1;
            let number = |i, j| entries.iter().position(|&entry| entry == (i, j)).unwrap();
            let q = |n: usize| self.keep(drawn, entries[n]);
            let probability = (0..entries.len())
                .map(|n| if kept(n) { q(n) } else { Q::one() - q(n) })
                .product::<Q>();
            if probability.is_zero() {
                return None;
            }
            let weight = |i: usize, j: usize| {
                let n = number(i, j);
                if kept(n) { (self.w[i][j] - drawn.u[i]) / q(n) } else { Q::zero() }
            };
            let mut sampled = self.of_weights(weight, &drawn.kappa);
            for (out, exact) in sampled.iter_mut().flatten().zip(exact.iter().flatten()) {
                add(out, Q::one(), exact);
            }
            Some((probability, sampled, bits.count_ones() as usize))
        };
        (0..1_u32 << entries.len()).filter_map(mask).collect()
    }
}

fn heads() -> [Head; 2] {
    let one = ratio(1, 1);
    let head = |second: [Q; 2], third: [Q; 3], scale| Head {
        w: [vec![one], second.to_vec(), third.to_vec()],
        q: vectors([[1, -2], [3, 1], [-1, 2]]),
        k: vectors([[2, 1], [-1, 3], [4, 1]]),
        v: vectors([[1, 1], [-2, 3], [1, -1]]),
        g: vectors([[3, 0], [0, -3], [0, 12]]),
        scale,
    };
    [
        head([ratio(1, 4), ratio(3, 4)], [ratio(1, 8), ratio(3, 8), ratio(1, 2)], ratio(1, 2)),
        head([ratio(1, 3), ratio(2, 3)], [ratio(1, 7), ratio(2, 7), ratio(4, 7)], ratio(1, 3)),
    ]
}

/// SUS, the scales of the cotangents (3, 3, 12 over their mean 6), centred keys, a remainder, and all of them.
fn all_drawn(c: Q, u: [Q; N]) -> Vec<Drawn> {
    let zero = Q::zero();
    let (uniform, cotangent) = ([c; N], [c * ratio(1, 2), c * ratio(1, 2), c * ratio(2, 1)]);
    let kappa = [ratio(5, 1), ratio(-2, 1)];
    vec![
        Drawn { lambda: uniform, u: [zero; N], kappa: [zero; 2] },
        Drawn { lambda: cotangent, u: [zero; N], kappa: [zero; 2] },
        Drawn { lambda: uniform, u: [zero; N], kappa },
        Drawn { lambda: uniform, u, kappa: [zero; 2] },
        Drawn { lambda: cotangent, u, kappa },
    ]
}

#[test]
fn the_mean_over_all_masks_is_the_dense_gradient() {
    for head in heads() {
        let dense = head.of_weights(|i, j| head.w[i][j], &[Q::zero(); 2]);
        // u_i is a weight of its row, or any number.
        for u in [[ratio(1, 1), ratio(1, 4), ratio(3, 8)], [ratio(1, 5), ratio(-1, 3), ratio(2, 1)]]
        {
            for drawn in all_drawn(ratio(1, 2), u) {
                let masks = head.masks(&drawn);
                let mut mean = [[[Q::zero(); 2]; N]; 3];
                for (p, gradients, _) in &masks {
                    let all = mean.iter_mut().flatten().zip(gradients.iter().flatten());
                    all.for_each(|(mean, g)| add(mean, *p, g));
                }
                assert!(masks.len() > 1, "nothing is drawn");
                assert_eq!(mean, dense);
            }
        }
    }
}

#[test]
fn a_curve_has_the_count_and_the_variance_of_all_masks() {
    // Powers of 2, so that f64 is exact.
    let head = &heads()[0];
    let u = [ratio(1, 1), ratio(1, 4), ratio(3, 8)];
    for c in [ratio(1, 4), ratio(1, 1), ratio(2, 1), ratio(4, 1)] {
        for drawn in all_drawn(c, u) {
            let masks = head.masks(&drawn);
            let mut mean = [[[Q::zero(); 2]; N]; 3];
            let (mut count, mut squares) = (Q::zero(), [Q::zero(); 3]);
            for (p, gradients, kept) in &masks {
                count += *p * ratio(*kept as i128, 1);
                for (g, (mean, squares)) in gradients.iter().zip(mean.iter_mut().zip(&mut squares))
                {
                    for (mean, g) in mean.iter_mut().zip(g) {
                        add(mean, *p, g);
                        *squares += *p * dot(g, g);
                    }
                }
            }
            for (gradient, squares) in squares.iter().enumerate() {
                let norm: Q = mean[gradient].iter().map(|mean| dot(mean, mean)).sum();
                let found = point(head, &drawn, c, gradient);
                assert_eq!(found.count, number(count));
                assert_eq!(found.variance, number(*squares - norm));
            }
        }
    }
}

/// The point of the curve of one gradient at `c`.
fn point(head: &Head, drawn: &Drawn, c: Q, gradient: usize) -> sus_analysis::layers::Point {
    let factor = |n: usize| f64::from(u8::from(n == gradient));
    let mut curve = Curve::new(PerGradient { dq: factor(0), dk: factor(1), dv: factor(2) });
    for (i, j) in entries() {
        let f = head.f(i, j);
        let k = [head.k[j][0] - drawn.kappa[0], head.k[j][1] - drawn.kappa[1]];
        let a = PerGradient {
            dq: number(f * f * dot(&k, &k)),
            dk: number(f * f * dot(&head.q[i], &head.q[i])),
            dv: number(dot(&head.g[i], &head.g[i])),
        };
        let sampled = (head.w[i][j] - drawn.u[i]).abs();
        curve.add(number(sampled), number(drawn.lambda[i] / c), a);
    }
    *curve.points().iter().find(|point| point.c == number(c)).unwrap()
}

#[test]
fn variance_against_count_need_not_be_convex() {
    // From c = 1/4 to 2, both entries are drawn; from 2 to 8 only the light one, which alone has a variance.
    let mut curve = Curve::new(PerGradient { dq: 0.0, dk: 0.0, dv: 1.0 });
    for (w, a) in [(0.5, 0.0), (0.125, 1.0)] {
        curve.add(w, 1.0, PerGradient { dq: 0.0, dk: 0.0, dv: a });
    }
    let points = curve.points();
    let at = |c: f64| points.iter().find(|point| point.c == c).unwrap();
    let gain = |a: f64, b: f64| (at(a).variance - at(b).variance) / (at(b).count - at(a).count);
    assert!(gain(1.0, 2.0) < gain(2.0, 4.0), "the gain of an entry rises with the count");
}
