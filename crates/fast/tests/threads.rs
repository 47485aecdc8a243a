//! Results do not depend on the number of threads.

use crate::common::{Shape, eighths};
use sus_fast::{self as fast, Real, Workspace};
use sus_reference::backward::Gradients;
use sus_reference::forward::Saved;
use sus_reference::problem::{Dropout, Options, Problem};
use sus_reference::sus::{Budget, Draw, Sample};
use sus_reference::tensor::Tensor;

type Results<T> = (Saved<T>, Sample, Gradients<T>, Gradients<T>);

fn results<T: Real>(exact: &Problem<f64>, threads: usize) -> Results<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let problem: Problem<T> = exact.cast().unwrap();
        let mut workspace = Workspace::default();
        let draw = Draw::paper(Budget::new(7.0).unwrap(), 11);
        let (saved, mask, _) =
            fast::forward_and_sample(exact, &problem, &draw, &mut workspace).unwrap();
        let (dense, _) = fast::backward(&problem, &saved, &mut workspace);
        let (sparse, _) = fast::sus_backward(&problem, &saved, &mask, &mut workspace);
        (saved, mask, dense, sparse)
    })
}

fn with_slopes_and_dropout(p: &Problem<f64>) -> Problem<f64> {
    let sizes = p.sizes();
    let (heads, queries, keys) = (sizes.query_heads, sizes.queries, sizes.keys);
    let slopes = Tensor::from_fn([1, heads, 1, 1], |[_, h, ..]| 0.01 * (1 + h) as f64);
    let kept = (0..queries * keys).map(|n| u8::from(n * n % 7 != 2)).collect();
    let dropout = Dropout { shape: [1, 1, queries, keys], kept, p: 0.25 };
    let inputs = p.inputs().clone().with_alibi_slopes(Some(slopes));
    Problem::new(inputs, p.options().clone().with_dropout(Some(dropout))).unwrap()
}

#[test]
fn one_two_three_and_seven_threads_give_the_same_bits() {
    for (causal, queries, keys) in [(true, 777, 777), (false, 333, 901)] {
        let options = Options::default().with_causal(causal);
        let shape = Shape {
            group: 2,
            features: 20,
            value_features: 9,
            sink: true,
            options,
            ..Shape::plain(queries, keys)
        };
        let problem = shape.fill(|rng| eighths(rng) / 3.0);
        // Slopes and dropout in one of them.
        let problem = if causal { problem } else { with_slopes_and_dropout(&problem) };
        let (one, one_f32) = (results::<f64>(&problem, 1), results::<f32>(&problem, 1));
        for threads in [2, 3, 7] {
            assert_eq!(results::<f64>(&problem, threads), one, "{threads} threads");
            assert_eq!(results::<f32>(&problem, threads), one_f32, "{threads} threads");
        }
    }
}
