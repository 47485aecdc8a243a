//! The four passes at one size, for comparing two states of the source: `cargo bench`. The `bench` command measures more.
#![allow(missing_docs, reason = "criterion's macros write functions without any")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use sus_bench::{Shape, Workload};
use sus_oracle::fast::{self, Real, Workspace};
use sus_oracle::problem::Problem;
use sus_oracle::sus::{Budget, Draw};

fn passes<T: Real>(criterion: &mut Criterion, dtype: &str) {
    let exact = Workload::Random.problem(Shape::one_head(2048), false).expect("a legal problem");
    let problem: Problem<T> = exact.cast().expect("finite numbers");
    let draw = Draw::paper(Budget::new(30.0).expect("a budget"), 1);
    let mut workspace = Workspace::default();
    let drawn = fast::forward_and_sample(&exact, &problem, &draw, &mut workspace);
    let (mut saved, mask, _) = drawn.expect("a draw");
    let mut gradients = fast::blank_gradients(&problem);
    let mut group = criterion.benchmark_group(format!("n2048/{dtype}"));
    group.sample_size(10);
    group.bench_function("forward_sample", |bencher| {
        bencher.iter(|| {
            black_box(fast::forward_and_sample(&exact, &problem, &draw, &mut workspace)).is_ok()
        });
    });
    group.bench_function("forward", |bencher| {
        bencher.iter(|| fast::forward_into(&problem, &mut saved, &mut workspace));
    });
    group.bench_function("dense_backward", |bencher| {
        bencher.iter(|| fast::backward_into(&problem, &saved, &mut gradients, &mut workspace));
    });
    group.bench_function("sparse_backward", |bencher| {
        bencher.iter(|| {
            fast::sus_backward_into(&problem, &saved, &mask, &mut gradients, &mut workspace)
        });
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    passes::<f64>(criterion, "f64");
    passes::<f32>(criterion, "f32");
}

criterion_group!(benches, all);
criterion_main!(benches);
