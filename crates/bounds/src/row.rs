//! The errors of one row of the score matrix: of `lse` and of `delta`, from those of its entries. Sections 4.5, 4.6 and
//! 4.8 of `docs/bounds.md`.

use super::limits::TERMS;
use super::operands::Operands;
use super::recipe::{Delta, Recipe};
use super::roundoff::{Products, Roundoff};
use super::score::{EntryError, Scores, exponential, vanishes};
use super::simd::RunningSums;
use super::term::Term;
use super::ties::most_equal;
use sus_reference::forward::Saved;
use sus_reference::problem::{Problem, Row};
use sus_reference::tensor::dot;

/// The forward pass that a backward pass is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The true one; the errors of the kernel's own `o` and `lse` count.
    #[default]
    Exact,
    /// The forward pass that the kernel stored, as data.
    Given,
}

impl Mode {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Exact => "exact",
            Mode::Given => "given",
        }
    }
}

/// The factor of the roundings of a stored `o` in the sum `G . o`, for the second order: this sum of `E` terms errs by
/// `gamma_E` of the roundings, too.
///
/// `gamma_E <= 1e-3` up to 4096 features on tensor cores, `4 2^-24` an addition, and up to 16384 without. A rounding of a
/// number that has an error `e` is within half a spacing of the true number's size or within `e`, which is counted.
pub(super) const SECOND_ORDER_OF_O: f64 = 1.0 + 1e-3;

/// The errors of a kernel in one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowErrors {
    /// The visible entries, but for those whose weight is 0 in every right kernel. Section 4.4 of `docs/bounds.md`.
    pub entries: Vec<EntryError>,
    /// The number of visible entries.
    pub visible: usize,
    /// The number of keys from the first visible one to the last.
    pub span: usize,
    /// Truth of `lse`, in force.
    pub lse: f64,
    /// Error of `lse`; that of its conversion alone if it is given.
    pub lse_error: Term,
    /// Truth of `delta`, in force.
    pub delta: f64,
    /// Error of `delta` but for the next.
    pub delta_error: Term,
    /// Error of `delta` from roundings to narrow formats.
    pub delta_stored: f64,
    /// Euclidean norms of the roundings that make up `delta_stored`, each with its own factor: of `P` in the forward
    /// pass, and of the stored `o`.
    pub delta_stored_norms: [f64; 2],
    /// The sink's weight and the error of its logarithm, without `lse`.
    pub sink: Option<(f64, Term)>,
    /// Largest number of entries whose scores are equal up to rounding, and so may round alike.
    pub multiplicity: f64,
    /// Error of a row's terms that the rescalings of an online softmax share.
    pub rescale: Term,
    /// Roundings of a term of the forward sums.
    pub forward_roundings: usize,
    /// Bound of `sum_j W_ij |relative error|`, below 1 or infinite.
    pub weight_error: f64,
    /// The largest score.
    pub peak: f64,
    /// The largest score of [`RowErrors::entries`] and the sink, in magnitude.
    pub largest_score: f64,
    /// The largest worst-case error of `ln W` in the row, but for that of `lse`.
    pub largest_entry: f64,
    /// The sums of `o`, unless it is given.
    pub(super) of_o: RunningSums,
}

impl RowErrors {
    /// The summary of the row, without its entries.
    pub(super) fn without_entries(self) -> Self {
        RowErrors { entries: Vec::new(), of_o: RunningSums::default(), ..self }
    }

    /// The largest worst-case error of `ln W` in the row, `lse` included.
    #[must_use]
    pub fn largest_log(&self) -> f64 {
        self.largest_entry + self.lse_error.worst_case
    }
}

/// The errors of one row. `saved` is the truth or, in the mode "given", what was stored.
///
/// # Examples
/// ```
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_bounds::{Mode, Recipe, row_errors};
/// let saved = sus_reference::forward::forward(&problem);
/// let recipe = Recipe::built_in("f32").unwrap();
/// let errors = row_errors(&problem, &saved, &recipe, Mode::Exact, problem.row(0));
/// let given = row_errors(&problem, &saved, &recipe, Mode::Given, problem.row(0));
/// assert!(given.lse_error.worst_case < errors.lse_error.worst_case); // but for its conversion, it is data
/// ```
#[must_use]
pub fn row_errors(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    mode: Mode,
    row: Row,
) -> RowErrors {
    row_errors_of(problem, saved, recipe, mode, row, &Operands::unpacked(problem, recipe))
}

/// The same bits faster, for all rows of a problem: with its operands, which the rows share.
pub fn row_errors_of(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    mode: Mode,
    row: Row,
    operands: &Operands,
) -> RowErrors {
    let roundoff = Roundoff::new(recipe);
    let lse = saved.lse.row(row.b, row.h, row.i)[0];
    let scores = Scores::new(problem, &roundoff, operands);
    let mut entries = scores.entries(row, problem.span(row), lse);
    let sink = problem.sink(row);
    let peak = entries.iter().fold(sink.unwrap_or(f64::NEG_INFINITY), |m, e| m.max(e.s));
    // Section 4.4: a weight that is 0 in every right kernel takes no part.
    let visible = entries.len();
    let span = entries.first().zip(entries.last()).map_or(0, |(first, last)| last.j + 1 - first.j);
    entries.retain(|e| !e.vanishes(&roundoff, peak));
    for e in &mut entries {
        e.store_shifted(&roundoff, peak);
    }
    let sink_counts = |s: &f64| !vanishes(&roundoff, *s, 0.0, peak);
    let of_sink = sink.filter(sink_counts).map_or(0.0, f64::abs);
    let largest = entries.iter().fold(of_sink, |m, e| m.max(e.s.abs()));
    for entry in &mut entries {
        entry.log = entry.log.plus(exponential(&roundoff, entry.s, lse, largest));
    }
    let log_of_sink = |s: f64| {
        if sink_counts(&s) { exponential(&roundoff, s, lse, largest) } else { Term::default() }
    };
    let most = |most: f64, e: &EntryError| most.max(e.log.worst_case + e.log_stored);
    let mut errors = RowErrors {
        visible,
        span,
        peak,
        largest_score: largest,
        largest_entry: entries.iter().fold(0.0, most),
        multiplicity: most_equal(entries.iter().map(|e| e.s).collect(), roundoff.u),
        sink: sink.map(|s| (libm::exp(s - lse), log_of_sink(s))),
        lse,
        delta: dot(problem.g(row), saved.o.row(row.b, row.h, row.i)),
        entries,
        ..RowErrors::default()
    };
    let of_row = RowRoundoff { problem, saved, roundoff, row, largest, envelope: None };
    of_row.forward(&mut errors, mode);
    of_row.delta(&mut errors, mode);
    errors
}

/// The same row, whose `o` and `lse` are not given.
pub(super) fn with_own_forward(
    problem: &Problem<f64>,
    saved: &Saved<f64>,
    recipe: &Recipe,
    row: Row,
    given: &RowErrors,
) -> RowErrors {
    let mut errors = given.clone();
    let (roundoff, largest) = (Roundoff::new(recipe), given.largest_score);
    let of_row = RowRoundoff { problem, saved, roundoff, row, largest, envelope: None };
    of_row.forward(&mut errors, Mode::Exact);
    of_row.delta(&mut errors, Mode::Exact);
    errors
}

/// One row and everything its errors depend on.
pub(super) struct RowRoundoff<'a> {
    pub(super) problem: &'a Problem<f64>,
    pub(super) saved: &'a Saved<f64>,
    pub(super) roundoff: Roundoff<'a>,
    pub(super) row: Row,
    /// The largest score, in magnitude.
    pub(super) largest: f64,
    /// What stands for the entries, where they are not there one by one.
    pub(super) envelope: Option<&'a Envelope>,
}

/// What the errors of a row need of its entries beside the sums of their terms: `row_envelope.rs`.
pub(super) struct Envelope {
    /// At least as many entries as count.
    pub(super) count: usize,
    /// At least `|lse - m|` for the largest score `m`.
    pub(super) below_largest: f64,
    /// Bounds of the partial sums of the elements of `o`.
    pub(super) of_o: Vec<f64>,
}

impl RowRoundoff<'_> {
    /// Sections 4.5 and 4.6.
    pub(super) fn forward(&self, errors: &mut RowErrors, mode: Mode) {
        let RowRoundoff { roundoff: a, largest, .. } = self;
        let (u, recipe) = (a.u, a.recipe);
        let n = self.envelope.map_or(errors.entries.len(), |of| of.count);
        // Hidden keys between the visible ones fill tiles, too, but a tile without a visible key rescales nothing.
        let tiles = match recipe.tile {
            0 => 0,
            tile => errors.span.div_ceil(tile).min(errors.visible),
        };
        // Section 4.5: a rescaling is an exp, whose unit in the last place is 2 u at most, its conversion and a product.
        let one = (2.0 * recipe.exp_ulp + 2.0) * u;
        // 6 = 3 times 2: three roundings of arguments that telescope to 2 max |s|.
        let arguments = if tiles > 0 { 6.0 * u * largest } else { 0.0 };
        // The maximum changes once a tile, and a rescaled weight is at most 1.
        let changes = || self.envelope.map_or_else(|| rescaled(&errors.entries), |_| tiles as f64);
        errors.rescale = Term {
            worst_case: tiles as f64 * one + arguments,
            sub_gaussian: if tiles > 0 { one * libm::sqrt(1.0 + changes()) } else { 0.0 },
            deterministic: arguments,
        };
        // n products and additions that are not of a 0, a product for each tile; 3: a product and an addition of a merge, and the division.
        errors.forward_roundings = n + tiles + 3;
        if errors.entries.is_empty() && errors.sink.is_none() {
            return;
        }
        // sum_j W_j |t_j|: the relative errors of the unnormalised weights, the sink's included.
        let mut weights = Term::default();
        let mut squares = 0.0;
        for e in &errors.entries {
            weights.worst_case += e.w * libm::expm1(e.log.worst_case + e.log_stored);
            weights.deterministic += e.w * (e.log.deterministic + libm::expm1(e.log_stored));
            squares += (e.w * e.log.sub_gaussian) * (e.w * e.log.sub_gaussian);
        }
        if let Some((w, log)) = errors.sink {
            weights.worst_case += w * libm::expm1(log.worst_case);
            squares += (w * log.sub_gaussian) * (w * log.sub_gaussian);
        }
        // Section 3.3: at most `multiplicity` of them round alike.
        weights.sub_gaussian = libm::sqrt(squares * errors.multiplicity);
        let total = weights.plus(errors.rescale);
        // A sum of positive weights: its relative error is gamma_n.
        let of_sum = a.gamma(errors.forward_roundings);
        errors.weight_error = total.worst_case + of_sum;
        if !recipe.row_maximum && !self.fits_without_maximum(n) {
            errors.weight_error = f64::INFINITY;
        }
        // Section 4.6. 3 u: lse log2(e) or m log2(e), constant and product, and the sum m + ln l. The row shares it.
        let conversion = 3.0 * u * (errors.lse.abs() + largest);
        if mode == Mode::Given {
            errors.lse_error = Term::deterministic(conversion);
            return;
        }
        // The partial sums of positive weights are below the whole.
        let of_sum_tau = u * libm::sqrt(errors.forward_roundings as f64);
        // |lse - m| for the largest score m, which may have either sign.
        let below_largest = match self.envelope {
            None => (errors.lse - largest).abs().min((errors.lse + largest).abs()),
            Some(of) => of.below_largest,
        };
        // 4 u: the logarithm (a unit in the last place), the constant ln 2 and its product; near ln 1 = 0 absolutely.
        let logarithm = 4.0 * u * (below_largest + 1.0) + conversion;
        // The errors of exp itself have one sign for many arguments: they are no random part.
        let of_function = 2.0 * recipe.exp_ulp * u;
        let stored = a.narrow(recipe.lse, errors.lse.abs());
        // ln(1 + x) <= x / (1 - x): the relative error of the sum, as one of its logarithm.
        let divisor = (1.0 - errors.weight_error).max(0.0);
        let relative = if divisor > 0.0 { errors.weight_error / divisor } else { f64::INFINITY };
        errors.lse_error = Term {
            worst_case: relative + logarithm + stored,
            sub_gaussian: (total.sub_gaussian + of_sum_tau) / divisor,
            deterministic: total.deterministic / divisor + of_function + logarithm + stored,
        };
    }

    /// Section 4.4: without the row's maximum a sum of `n` terms `exp(s)` is to stay in the accumulator's normal range: its largest
    /// number is above the inverse of its smallest normal one.
    fn fits_without_maximum(&self, n: usize) -> bool {
        let smallest = self.roundoff.recipe.accumulator.smallest_normal();
        self.largest + libm::log(n.max(1) as f64) < -libm::log(smallest)
    }

    /// Section 4.8.
    pub(super) fn delta(&self, errors: &mut RowErrors, mode: Mode) {
        let RowRoundoff { problem, saved, roundoff: a, row, .. } = self;
        let recipe = a.recipe;
        let g = problem.g(*row);
        let o = saved.o.row(row.b, row.h, row.i);
        let product = Products::of(g, o);
        // gamma_{E+1} sum |G o|; one more where the sum begins with -dlse.
        let own_sum = a.sum(product, g.len(), 1);
        if mode == Mode::Given {
            errors.delta_error = own_sum;
            return;
        }
        if self.envelope.is_none() {
            errors.of_o = self.of_o(&errors.entries);
        }
        // The kernel divides by a sum of weights that errs: 1 / (1 + sum W t).
        let divisor = (1.0 - errors.weight_error).max(0.0);
        let amplify = if divisor > 0.0 { 1.0 / divisor } else { f64::INFINITY };
        // G . sum_j W_j t_j (v_j - o) = sum_j W_j t_j (dP_j - delta): the errors of the weights act on differences.
        let mut weights = Term::default();
        let (mut squares, mut absolute, mut rounded, mut shared) = (0.0, 0.0, 0.0, 0.0);
        for e in &errors.entries {
            let away = (e.dp - errors.delta).abs();
            weights.worst_case += e.w * away * libm::expm1(e.log.worst_case + e.log_stored);
            weights.deterministic += e.w * away * e.log.deterministic;
            squares += (e.w * away * e.log.sub_gaussian) * (e.w * away * e.log.sub_gaussian);
            absolute += e.w * e.dp_abs;
            shared += e.w * away;
            // The rounding of P in P v, sum max(u_h W, eta) |dP|; the conversion of v; and scores that are stored.
            let of_p = a.p(e.w, errors.lse);
            rounded += of_p * e.dp.abs()
                + e.w * a.of_dropout(self.problem) * e.dp.abs()
                + (e.w + of_p) * e.dp_of_v
                + e.w * away * libm::expm1(e.log_stored);
            rounded += a.stored_again(self.problem, e.w) * e.dp.abs();
        }
        // The sink has the value 0: its difference from o is o.
        if let Some((w, log)) = errors.sink {
            weights = weights.plus(log.times(w * errors.delta));
        }
        weights.sub_gaussian += libm::sqrt(squares * errors.multiplicity);
        weights = weights.plus(errors.rescale.times(shared));
        weights = weights.times(amplify);
        // Numerator and denominator of o: gamma_n (sum W |G||v| + sum |G o|).
        let of_o = a.gamma(errors.forward_roundings) * (absolute + product.abs) * amplify;
        let of_o_tau = a.u * libm::sqrt(errors.forward_roundings as f64);
        errors.delta_error = weights.plus(own_sum);
        errors.delta_error.worst_case += of_o;
        let (mut own, mut own_rounded) = (Term::default(), 0.0_f64);
        if matches!(recipe.delta, Delta::Weights | Delta::Any) {
            // delta = sum_j P_j dP_j: sum W e_dP, and the P that is stored between elementwise steps.
            let mut of_dp = 0.0;
            for e in &errors.entries {
                of_dp += e.w * (e.dp_sum.worst_case + e.dp_stored);
                own_rounded += a.elementwise(e.w) * e.dp.abs();
            }
            own = Term::deterministic(of_dp);
            own.sub_gaussian = of_o_tau * absolute;
        }
        let mut of_stored = 0.0;
        if recipe.delta != Delta::Weights {
            let mut of_o = Term { worst_case: 0.0, ..self.sums_of_o(errors) };
            of_o.sub_gaussian += of_o_tau * errors.delta.abs();
            if recipe.delta.may_be_stored() {
                let stored = g.iter().zip(o).map(|(&g, &o)| g.abs() * a.narrow(recipe.o, o.abs()));
                of_stored = stored.clone().map(|x| x * x).sum::<f64>();
                own_rounded = own_rounded.max(stored.sum::<f64>() * SECOND_ORDER_OF_O);
                // An o that is stored in the accumulator's format is rounded, too.
                of_o.worst_case += a.u * product.abs;
                of_o.sub_gaussian += a.u * product.partial;
            }
            own = own.or(of_o);
        }
        errors.delta_error = errors.delta_error.plus(own);
        rounded += own_rounded;
        // The same roundings as Euclidean norms, for the statistics.
        let square = |e: &EntryError| {
            let x = a.p(e.w, errors.lse) * e.dp;
            x * x
        };
        let of_p = errors.entries.iter().map(square).sum::<f64>() * errors.multiplicity;
        errors.delta_stored_norms = [libm::sqrt(of_p), libm::sqrt(of_stored)];
        errors.delta_stored = rounded * amplify;
    }

    /// The sums of `o`.
    fn of_o(&self, entries: &[EntryError]) -> RunningSums {
        let mut sums = RunningSums::new(self.problem.sizes().value_features);
        let (mut values, mut x) = (Vec::new(), Vec::new());
        for entries in entries.chunks(TERMS) {
            values.clear();
            values.extend(entries.iter().map(|e| e.w * e.dropout));
            x.clear();
            x.extend(entries.iter().map(|e| self.problem.v(self.row, e.j)));
            sums.add(&values, &x);
        }
        sums
    }

    /// The error of `delta` from the sums of the elements of `o`, each with its own roundings.
    fn sums_of_o(&self, errors: &RowErrors) -> Term {
        let g = self.problem.g(self.row);
        let one = |(d, &g): (usize, &f64)| {
            let partial = self.envelope.map_or_else(|| errors.of_o.partial(d), |of| of.of_o[d]);
            self.roundoff.partial_sums(errors.forward_roundings, partial).times(g)
        };
        g.iter().enumerate().map(one).fold(Term::default(), Term::beside)
    }
}

/// Section 4.5: how much of a row's weight is rescaled when the running maximum changes, squared and summed over the changes; from
/// the first key or from the last, whichever is more.
fn rescaled(entries: &[EntryError]) -> f64 {
    let run = |entries: &mut dyn Iterator<Item = &EntryError>| {
        let (mut most, mut weight, mut squares) = (f64::NEG_INFINITY, 0.0, 0.0);
        for e in entries {
            if e.s > most {
                most = e.s;
                squares += weight * weight;
            }
            weight += e.w;
        }
        squares
    };
    run(&mut entries.iter()).max(run(&mut entries.iter().rev()))
}
