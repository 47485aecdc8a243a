//! One recorded run: the crate's passes over nodes, and what they returned.

use crate::node::{Input, Node};
use crate::shape::{Numbers, Shape, variables};
use std::ops::Range;
use sus_reference::backward::{
    DenseWeights, Gradients, Weight, Weights, backward, backward_from_weights,
};
use sus_reference::forward::{Saved, forward, score};
use sus_reference::problem::{Problem, Row};
use sus_reference::scalar::Scalar;
use sus_reference::sus::{Sample, sample, sus_backward};
use sus_reference::tensor::Tensor;

/// What the passes returned for one shape.
pub struct Run {
    /// The problem over variables.
    pub problem: Problem<Node>,
    /// `forward`.
    pub saved: Saved<Node>,
    /// `backward` of that.
    pub gradients: Gradients<Node>,
    /// `backward` of an `o` and an `lse` that are variables.
    pub given: Gradients<Node>,
    /// `backward_from_weights` of weights, slopes and a `delta` that are variables.
    pub free: Gradients<Node>,
    /// `sus_backward` for each drawn mask.
    pub samples: Vec<Sampled>,
}

/// A drawn mask and its gradients.
pub struct Sampled {
    /// The mask and the rates.
    pub sample: Sample,
    /// `sus_backward`.
    pub gradients: Gradients<Node>,
}

/// Weights that are variables, read where the mask shows a key.
struct Free<'a>(&'a Problem<Node>);

impl Weights<Node> for Free<'_> {
    fn for_each(&self, row: Row, keys: Range<usize>, mut visit: impl FnMut(Weight<Node>)) {
        for j in self.0.span(row).filter(|j| keys.contains(j)) {
            let at = [row.b, row.h, row.i, j];
            let w = Node::variable(Input::W, at, 0.0);
            visit(Weight::new(j, w, Node::variable(Input::Slope, at, 0.0)));
        }
    }
}

impl Run {
    /// Runs every pass.
    pub fn new(shape: &Shape) -> Run {
        let problem = shape.problem();
        let saved = forward(&problem);
        let gradients = backward(&problem, &saved);
        let sizes = problem.sizes();
        let rows = [sizes.batch, sizes.query_heads, sizes.queries];
        let mut numbers = Numbers(1);
        let mut per_row =
            |input, features| variables(input, [rows[0], rows[1], rows[2], features], &mut numbers);
        let given =
            Saved { o: per_row(Input::O, sizes.value_features), lse: per_row(Input::Lse, 1) };
        let given = backward(&problem, &given);
        let delta: Tensor<Node> = per_row(Input::Delta, 1);
        let free = backward_from_weights(&problem, &Free(&problem), delta.as_slice());
        let numbers = problem.cast::<f64>().expect("finite numbers");
        let numbers_saved = saved.cast::<f64>();
        let sampled = |draw| {
            let sample = sample(&numbers, &numbers_saved, draw).expect("a legal draw");
            let gradients = sus_backward(&problem, &saved, &sample);
            Sampled { sample, gradients }
        };
        let samples = shape.draws.iter().map(sampled).collect();
        Run { problem, saved, gradients, given, free, samples }
    }

    /// The place of the largest in the list of the sink, if any, and the scores; the first of equals.
    pub fn peak(&self, row: Row) -> usize {
        let sink = self.problem.inputs().sink.as_ref().map(|sink| sink[row.h]);
        let scores = self.problem.span(row).map(|j| score(&self.problem, row, j).s);
        let terms = sink.into_iter().chain(scores).map(Scalar::to_f64);
        let mut peak = (0, f64::NEG_INFINITY);
        for (at, x) in terms.enumerate() {
            if x > peak.1 {
                peak = (at, x);
            }
        }
        peak.0
    }

    /// The keys that a row sees with a score below zero before the bias: the softcap keeps the sign.
    pub fn negatives(&self, row: Row) -> Vec<usize> {
        let inputs = self.problem.inputs().clone();
        let without_bias = inputs.with_bias(None);
        let problem =
            Problem::new(without_bias, self.problem.options().clone()).expect("a valid problem");
        let negative = |&j: &usize| score(&problem, row, j).s < Node::from_f64(0.0);
        self.problem.span(row).filter(negative).collect()
    }

    /// The kept keys of a row whose weight is below `1 / lambda`.
    pub fn light(&self, sample: &Sample, row: Row) -> Vec<usize> {
        let number = self.problem.row_number(row);
        let weights = DenseWeights { problem: &self.problem, saved: &self.saved };
        let light = |&j: &usize| weights.at(row, j).w.to_f64() < 1.0 / sample.lambda[number];
        sample.pattern.row(number).iter().map(|&j| j as usize).filter(light).collect()
    }
}
