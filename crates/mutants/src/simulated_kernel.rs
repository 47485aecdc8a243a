//! A simulated kernel: the forward and the backward pass in stages, rounded as a recipe says.
//!
//! The stages share one `State`. A control is a [`Schedule`]; a mutant is the plainest control with one mutation of
//! the state between two stages.

mod forward;
mod mask;
mod probe;
mod schedule;
mod sums;

pub use schedule::{Fold, Order, Schedule, Softmax, Summation};

use super::RunConfig;
use super::arithmetic::{Arithmetic, Format};
pub(super) use mask::WordPlace;
pub(super) use probe::Probe;
use sus_bounds::is_power_of_two;
use sus_files::gradient_file::slopes_shape;
use sus_files::{Array, TensorFile};
use sus_reference::backward::joined;
use sus_reference::problem::{Row, Sizes};
use sus_reference::sus::{Budget, Rule, Sample};
use sus_reference::tensor::Tensor;

/// Rows or keys per tile of a mutant, unless it says otherwise.
pub(super) const TILE: usize = 16;

/// The points between the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// `o` and `lse` are saved; the backward pass is about to read its operands.
    Saved,
    /// `s`, `cap` and `seen` are recomputed.
    Scores,
    /// `p` is recomputed.
    Weights,
    /// The mask is drawn; `wq`, `wk`, `wv` hold `W~`, or `W`.
    Drawn,
    /// `delta`.
    Delta,
    /// `dp`.
    Product,
    /// `ds` for the bias, `zq` and `zk` for `dq` and `dk`.
    Slopes,
    /// The gradients, not yet rounded for storage.
    Sums,
    /// The gradients as stored.
    Stored,
}

/// Everything a kernel holds. Matrices `[B, Hq, Nq, Nk]` and rows `[B, Hq, Nq]` are flat.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an operand that a mutation may take away"
)]
pub(super) struct State<'a> {
    pub(super) config: &'a RunConfig<'a>,
    /// What is computed after the mutation, if not all.
    probe: Option<&'a Probe>,
    pub(super) arithmetic: Arithmetic,
    pub(super) schedule: Schedule,
    pub(super) sizes: Sizes,
    /// The forward's results as a caller sees them.
    pub(super) stored_o: Tensor<f64>,
    pub(super) stored_lse: Vec<f64>,
    /// What the backward pass reads.
    pub(super) q: Tensor<f64>,
    pub(super) k: Tensor<f64>,
    pub(super) v: Tensor<f64>,
    pub(super) g: Tensor<f64>,
    pub(super) o: Tensor<f64>,
    pub(super) lse: Vec<f64>,
    pub(super) dlse: Vec<f64>,
    /// The key head that each query head reads.
    pub(super) key_head: Vec<usize>,
    pub(super) scale: f64,
    pub(super) softcap: Option<f64>,
    pub(super) has_bias: bool,
    pub(super) has_slopes: bool,
    pub(super) has_dropout: bool,
    /// Whether a row sees a key.
    pub(super) seen: Vec<bool>,
    pub(super) s: Vec<f64>,
    /// The softcap's derivative.
    pub(super) cap: Vec<f64>,
    pub(super) p: Vec<f64>,
    /// The rule and the budget of the draw, if not that of the run config.
    pub(super) draw_rule: Option<(Rule, Budget)>,
    pub(super) sample: Option<Sample>,
    pub(super) wq: Vec<f64>,
    pub(super) wk: Vec<f64>,
    pub(super) wv: Vec<f64>,
    pub(super) delta: Vec<f64>,
    pub(super) dp: Vec<f64>,
    pub(super) ds: Vec<f64>,
    /// `dS` for the slopes.
    pub(super) dt: Vec<f64>,
    pub(super) zq: Vec<f64>,
    pub(super) zk: Vec<f64>,
    /// Factors of the sums of `dq` and `dk`.
    pub(super) scale_q: f64,
    pub(super) scale_k: f64,
    /// How each gradient is summed.
    pub(super) sum_q: Summation,
    pub(super) sum_k: Summation,
    pub(super) sum_v: Summation,
    pub(super) sum_bias: Format,
    /// `dq` is final: the sums leave it alone.
    pub(super) dq_is_summed: bool,
    pub(super) dq: Tensor<f64>,
    pub(super) dk: Tensor<f64>,
    pub(super) dv: Tensor<f64>,
    pub(super) dbias: Option<Tensor<f64>>,
    pub(super) dsink: Option<Vec<f64>>,
    pub(super) dslopes: Option<Tensor<f64>>,
    /// `dk` and `dv` in one, where the values are a part of the keys.
    pub(super) dkv: Option<Tensor<f64>>,
}

/// The step before each [`Point`], in order.
const STEPS: [fn(&mut State<'_>); 9] = [
    |_| {},
    |state| state.scores(),
    |state| state.weights(),
    |state| state.draw(),
    |state| state.deltas(),
    |state| state.products(),
    |state| state.slopes(),
    |state| state.sums(),
    |state| state.store(),
];

impl<'a> RunConfig<'a> {
    /// The plainest control after each of its stages.
    pub(super) fn all_stages(&'a self) -> Vec<State<'a>> {
        let mut state = State::new(self, Schedule::default());
        let after = |stage: &fn(&mut State<'_>)| {
            stage(&mut state);
            state.clone()
        };
        STEPS.iter().map(after).collect()
    }
}

impl RunConfig<'_> {
    /// The control of this schedule.
    pub(super) fn run(&self, schedule: Schedule) -> TensorFile {
        self.mutate_schedule(schedule, Point::Stored, |_| {})
    }

    /// The control, but for one mutation after a stage.
    pub(super) fn mutate(&self, after: Point, mutation: impl FnOnce(&mut State<'_>)) -> TensorFile {
        self.mutate_schedule(Schedule::default(), after, mutation)
    }

    /// [`RunConfig::mutate`] of another schedule.
    pub(super) fn mutate_schedule(
        &self,
        schedule: Schedule,
        after: Point,
        mutation: impl FnOnce(&mut State<'_>),
    ) -> TensorFile {
        let mut probe = None;
        let mut state = match self.stages {
            Some(stages) if schedule == Schedule::default() => {
                // What is mutated after the sums may be moved, so that all of it is needed; it is there already.
                probe = self.probe.filter(|_| after < Point::Sums);
                stages[after as usize].clone()
            }
            _ => {
                let mut state = State::new(self, schedule);
                STEPS[..=after as usize].iter().for_each(|stage| stage(&mut state));
                state
            }
        };
        mutation(&mut state);
        state.probe = probe;
        STEPS[after as usize + 1..].iter().for_each(|stage| stage(&mut state));
        state.into_candidate()
    }
}

impl<'a> State<'a> {
    fn new(config: &'a RunConfig<'a>, schedule: Schedule) -> Self {
        let problem = config.problem;
        let inputs = problem.inputs();
        let sizes = problem.sizes();
        let arithmetic = config.arithmetic;
        let matrix = problem.row_count() * sizes.keys;
        let seen = (0..problem.row_count())
            .flat_map(|n| {
                let row = problem.row(n);
                let visible = problem.span(row);
                (0..sizes.keys).map(move |j| visible.contains(&j) && !problem.hides(row, j))
            })
            .collect();
        let scale = arithmetic.accumulator.round(problem.scale());
        let sum = Summation {
            tile: schedule.key_tile,
            order: schedule.order,
            carry: arithmetic.accumulator,
            finish: !config.unfinished || !is_power_of_two(scale),
        };
        let mut state = State {
            config,
            probe: None,
            arithmetic,
            schedule,
            sizes,
            stored_o: Tensor::zeros(inputs.g.shape()),
            stored_lse: Vec::new(),
            q: inputs.q.clone(),
            k: inputs.k.clone(),
            v: inputs.v.clone(),
            g: inputs.g.clone(),
            o: Tensor::zeros(inputs.g.shape()),
            lse: Vec::new(),
            dlse: (0..problem.row_count()).map(|n| problem.dlse(problem.row(n))).collect(),
            key_head: (0..sizes.query_heads).map(|h| problem.key_head(h)).collect(),
            scale,
            softcap: problem.options().softcap,
            has_bias: inputs.bias.is_some(),
            has_slopes: inputs.alibi_slopes.is_some(),
            has_dropout: problem.options().dropout.is_some(),
            seen,
            s: vec![0.0; matrix],
            cap: vec![1.0; matrix],
            p: vec![0.0; matrix],
            draw_rule: None,
            sample: None,
            wq: Vec::new(),
            wk: Vec::new(),
            wv: Vec::new(),
            delta: vec![0.0; problem.row_count()],
            dp: vec![0.0; matrix],
            ds: vec![0.0; matrix],
            dt: vec![0.0; matrix],
            zq: Vec::new(),
            zk: Vec::new(),
            scale_q: scale,
            scale_k: scale,
            sum_q: sum,
            sum_k: Summation { tile: schedule.query_tile, ..sum },
            sum_v: Summation { tile: schedule.query_tile, finish: !config.unfinished, ..sum },
            sum_bias: arithmetic.accumulator,
            dq_is_summed: false,
            dq: Tensor::zeros(inputs.q.shape()),
            dk: Tensor::zeros(inputs.k.shape()),
            dv: Tensor::zeros(inputs.v.shape()),
            dbias: inputs.bias.as_ref().map(|bias| Tensor::zeros(bias.shape())),
            dsink: inputs.sink.as_ref().map(|sink| vec![0.0; sink.len()]),
            dslopes: inputs.alibi_slopes.as_ref().map(|slopes| Tensor::zeros(slopes.shape())),
            dkv: None,
        };
        state.forward();
        state
    }

    /// Rounds to the accumulator's format.
    pub(super) fn fl(&self, x: f64) -> f64 {
        self.arithmetic.accumulator.round(x)
    }

    /// `e^x`, rounded.
    pub(super) fn exp(&self, x: f64) -> f64 {
        self.fl(libm::exp(x))
    }

    /// The rows, numbered.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, Row)> + use<> {
        let Sizes { batch, query_heads, queries, .. } = self.sizes;
        (0..batch * query_heads * queries).map(move |n| {
            let (head, i) = (n / queries, n % queries);
            (n, Row { b: head / query_heads, h: head % query_heads, i })
        })
    }

    /// The entries of a matrix: flat index, row number, row, key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, usize, Row, usize)> + use<> {
        let keys = self.sizes.keys;
        self.rows().flat_map(move |(n, row)| (0..keys).map(move |j| (n * keys + j, n, row, j)))
    }

    /// Rounds the gradients for storage.
    fn store(&mut self) {
        let format = self.arithmetic.gradient;
        let round = |x: f64| format.round(x);
        let of_keys = self.config.problem.options().v_of_k;
        self.dkv = of_keys.then(|| joined(&self.dk, &self.dv).map(|x| round(self.fl(x))));
        self.dslopes = self.dslopes.as_ref().map(|dslopes| dslopes.map(round));
        self.dq = self.dq.map(round);
        self.dk = self.dk.map(round);
        self.dv = self.dv.map(round);
        self.dbias = self.dbias.as_ref().map(|dbias| dbias.map(round));
        self.dsink = self.dsink.as_ref().map(|dsink| dsink.iter().map(|&x| round(x)).collect());
    }

    /// The results by name, as a candidate for a verdict.
    fn into_candidate(self) -> TensorFile {
        let mut file = TensorFile::default();
        let mut put = |name: &str, shape: &[usize], data: &[f64]| {
            file.arrays.insert(name.into(), Array::f64(shape, data.to_vec()));
        };
        put("o", &self.stored_o.shape(), self.stored_o.as_slice());
        let o = self.stored_o.shape();
        put("lse", &o[..3], &self.stored_lse);
        put("dq", &self.dq.shape(), self.dq.as_slice());
        if let Some(dkv) = &self.dkv {
            put("dkv", &dkv.shape(), dkv.as_slice());
        } else {
            put("dk", &self.dk.shape(), self.dk.as_slice());
            put("dv", &self.dv.shape(), self.dv.as_slice());
        }
        if let (Some(dslopes), Some(shape)) = (&self.dslopes, slopes_shape(self.config.problem)) {
            put("dslopes", &shape, dslopes.as_slice());
        }
        if let Some(dbias) = &self.dbias {
            put("dbias", &dbias.shape(), dbias.as_slice());
        }
        if let Some(dsink) = &self.dsink {
            put("dsink", &[dsink.len()], dsink);
        }
        if let Some(sample) = &self.sample {
            let offsets: Vec<i64> = sample.pattern.offsets().iter().map(|&n| n as i64).collect();
            let columns: Vec<i64> = sample.pattern.columns().iter().map(|&j| j.into()).collect();
            let mut arrays = vec![
                ("mask/row_offsets", Array::i64(&[offsets.len()], offsets)),
                ("mask/columns", Array::i32(&[columns.len()], columns)),
            ];
            file.arrays.extend(arrays.drain(..).map(|(name, array)| (name.to_owned(), array)));
        }
        file
    }
}
