//! The reference of a case for one forward pass and one mask, and the errors that a right kernel may make.

use crate::KnownBugs;
use crate::limits::MAX_ROWS_KEPT;
use crate::mask_constraints::{Decider, MaskConstraints};
use crate::statistics::{Compared, along_sum};
use sus_bounds::{
    Bound, Bounds, BoundsInput, ErrorDirection, GradientValues, LARGEST_HEAD, Mode, Progress,
    Recipe, RoundingRanges, RowBounds, RowErrors, StatisticalLimits, Truth, bounds_of,
    has_known_delta, has_ranges, ranges, rows_of, statistical_limits,
};
use sus_fast::ReferenceErrorBounds;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample, sample};
use sus_reference::tensor::Tensor;

/// The reference for one forward pass and one mask.
#[derive(Debug, Clone)]
pub(super) struct Expectation {
    pub(super) truth: Truth,
    pub(super) saved: Saved<f64>,
    pub(super) mask: Option<DrawnMask>,
    pub(super) gradients: ExpectedGradients,
    /// Bounds of the errors of the reference's own `lse`, by row, if it was computed in `f64`.
    pub(super) lse_errors: Option<Vec<f64>>,
}

/// The gradients for one forward pass and one mask, and the errors that a right kernel may make.
#[derive(Debug, Clone)]
pub(super) struct ExpectedGradients {
    pub(super) values: Gradients<f64>,
    pub(super) bounds: Bounds,
    pub(super) limits: Option<StatisticalLimits>,
    pub(super) ranges: Option<RoundingRanges>,
    /// The largest share of a bound that is the error of the reference, if it has one.
    reference_error_share: Option<f64>,
    /// The operands of the gradients that follow from the candidate's `o`; `None` where that `o` says nothing.
    pub(super) known_o: Option<KnownOOperands>,
    /// Whether the recipe has ranges, but this case is judged without them.
    without_ranges: bool,
    /// What is expected where `P` or `dS` has 8 bits.
    pub(super) of_8_bits: Option<OfEightBits>,
}

/// What is expected of a kernel whose `P` or `dS` has 8 bits, beside its gradients.
#[derive(Debug, Clone)]
pub(super) struct OfEightBits {
    /// The middles of what the stored `o` may be, and the bounds about them.
    pub(super) o: (Vec<f64>, Bound),
    /// Whether no way to round `P` that is known explains the candidate's `o`, and the recipe allows no other.
    pub(super) unexplained: bool,
    /// How `P` of the forward pass is rounded, and what `delta` is made of.
    pub(super) notes: Vec<String>,
}

/// The operands of the gradients that follow from a known `o`.
#[derive(Debug, Clone)]
pub(super) struct KnownOOperands {
    /// The errors of the rows, without their entries; none of many rows without a sink.
    pub(super) rows: Vec<RowErrors>,
    pub(super) sample: Option<Sample>,
    pub(super) ambiguous: Option<Vec<Vec<u32>>>,
    pub(super) reference_errors: Option<ReferenceErrorBounds>,
}

/// The input of an expectation.
#[derive(Clone, Copy)]
pub(super) struct ExpectationInput<'a> {
    pub(super) problem: &'a Problem<f64>,
    pub(super) recipe: &'a Recipe,
    pub(super) mode: Mode,
    pub(super) draw: Option<&'a Draw>,
    pub(super) known_bugs: Option<&'a dyn KnownBugs>,
}

/// The mask that the case's seed draws, and which of its entries every right kernel decides alike.
#[derive(Debug, Clone)]
pub(super) struct DrawnMask {
    pub(super) sample: Sample,
    pub(super) constraints: MaskConstraints,
    /// The errors of the rows, without their entries. They do not depend on the mask.
    pub(super) rows: Vec<RowErrors>,
}

impl ExpectedGradients {
    /// Bounds and limits about a reference that errs itself by at most `reference_errors`.
    pub(super) fn new(
        input: &BoundsInput<'_>,
        (rows, of_rows): (&[RowErrors], RowBounds),
        reference_errors: Option<&ReferenceErrorBounds>,
        directions: &[ErrorDirection],
        has_8_bits: bool,
        progress: &dyn Progress,
    ) -> Self {
        let mut bounds = bounds_of(input, progress, rows, of_rows);
        let reference_error_share = reference_errors.map(|errors| bounds.widen(errors));
        progress.stage("limits of the statistics", 0);
        // Of 8 bits the codes are followed instead, and these are the bounds of a kernel without.
        let limits =
            if has_8_bits { None } else { statistical_limits(input, rows, &bounds, directions) };
        // Ranges are those of an exact reference.
        let exact = reference_errors.is_none() && !has_8_bits;
        let ranges = if exact { ranges(input) } else { None };
        let without_ranges = ranges.is_none() && has_ranges(input.recipe);
        let values = input.gradients.clone();
        let keeps_rows = values.dsink.is_some() || rows.len() <= MAX_ROWS_KEPT;
        let known_o = (has_known_delta(input) && !has_8_bits).then(|| KnownOOperands {
            rows: if keeps_rows { rows.to_vec() } else { Vec::new() },
            sample: input.sample.cloned(),
            ambiguous: input.ambiguous.map(<[_]>::to_vec),
            reference_errors: reference_errors.cloned(),
        });
        ExpectedGradients {
            values,
            bounds,
            limits,
            ranges,
            reference_error_share,
            known_o,
            without_ranges,
            of_8_bits: None,
        }
    }

    /// Leaves out the directions along which the simplest right kernel errs by more than half of the limit (docs/verdict.md,
    /// "Directions"): other right kernels, whose roundings differ, could exceed it.
    fn drop_directions_of_right_kernels(&mut self, control: &GradientValues) {
        let Some(limits) = &mut self.limits else { return };
        let Gradients { dq, dk, dv, dbias, dkv, .. } = &self.values;
        let dbias = dbias.as_ref().map_or(&[][..], Tensor::as_slice);
        let (dk, dv) = match dkv {
            Some(dkv) => (dkv.as_slice(), &[][..]),
            None => (dk.as_slice(), dv.as_slice()),
        };
        let references = [dq.as_slice(), dk, dv, dbias];
        let found = control.slices();
        let compared =
            std::array::from_fn(|t| Compared { reference: references[t], found: found[t] });
        limits.directions.retain(|along| along_sum(along, compared).abs() <= along.limit / 2.0);
    }

    /// How the reference was computed, and which rules a problem of this size is judged without.
    pub(super) fn notes(&self) -> Vec<String> {
        if let Some(of) = &self.of_8_bits {
            return of.notes.clone();
        }
        let mut notes = Vec::new();
        if let Some(share) = self.reference_error_share {
            notes.push(format!(
                "the truth is computed in f64 by blocks; its own error, at most {share:.1e} of a bound, is part of the bounds"
            ));
        }
        if self.without_ranges {
            notes.push("no gradient is held against what right kernels round to".into());
        }
        if self.limits.is_none() {
            notes.push(format!(
                "no mean, slope or root mean square is judged: more than 2^{} entries for each key head",
                LARGEST_HEAD.ilog2()
            ));
        }
        notes
    }

    /// The reference and the bound of one gradient.
    pub(super) fn of(&self, name: &str) -> (&[f64], &Bound) {
        let ExpectedGradients { values: gradients, bounds, .. } = self;
        let present = "a gradient of this problem";
        match name {
            "dq" => (gradients.dq.as_slice(), &bounds.dq),
            "dk" => (gradients.dk.as_slice(), &bounds.dk),
            "dv" => (gradients.dv.as_slice(), &bounds.dv),
            "dbias" => (
                gradients.dbias.as_ref().expect(present).as_slice(),
                bounds.dbias.as_ref().expect(present),
            ),
            "dslopes" => (
                gradients.dslopes.as_ref().expect(present).as_slice(),
                bounds.dslopes.as_ref().expect(present),
            ),
            "dkv" => (
                gradients.dkv.as_ref().expect(present).as_slice(),
                bounds.dkv.as_ref().expect(present),
            ),
            _ => (gradients.dsink.as_ref().expect(present), bounds.dsink.as_ref().expect(present)),
        }
    }
}

impl Expectation {
    /// The mask, the gradients and the bounds for one forward pass. `drawn` is the mask, if the forward pass drew it already.
    pub(super) fn new(
        input: ExpectationInput<'_>,
        truth: Truth,
        drawn: Option<Sample>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let ExpectationInput { problem, recipe, mode, draw, known_bugs } = input;
        // Codes of 8 bits are followed one by one, in their own module; here the kernel is one without.
        let has_8_bits = recipe.has_8_bits();
        let recipe = &recipe.without_8_bits();
        let known_bugs = known_bugs.filter(|_| !has_8_bits);
        progress.stage("truth of the gradients", 0);
        let saved = truth.saved();
        let drawn = match (draw, drawn) {
            (Some(draw), None) => Some(sample(problem, &saved, draw)?),
            (_, drawn) => drawn,
        };
        let reference_errors = truth.reference_error_bounds(drawn.as_ref());
        let lse_errors = reference_errors.as_ref().map(|of| of.saved.lse.as_slice().to_vec());
        let gradients = truth.gradients(drawn.as_ref());
        let input = BoundsInput {
            problem,
            recipe,
            mode,
            saved: &saved,
            sample: drawn.as_ref(),
            ambiguous: None,
            gradients: &gradients,
        };
        let decider = match (draw, &drawn) {
            (Some(draw), Some(sample)) => {
                Some(Decider::new(problem, lse_errors.as_deref(), recipe, draw, sample)?)
            }
            _ => None,
        };
        let decide = |row, errors: &_| decider.as_ref().map(|decider| decider.row(row, errors));
        let (rows, of_rows, decided) = rows_of(&input, progress, decide);
        let constraints = MaskConstraints::of_rows(decided.into_iter().flatten().collect());
        let ambiguous = decider.is_some().then_some(constraints.ambiguous.as_slice());
        let input = BoundsInput { ambiguous, ..input };
        let directions = known_bugs.map(|bugs| bugs.directions(problem, draw, recipe));
        let mut expected = ExpectedGradients::new(
            &input,
            (&rows, of_rows),
            reference_errors.as_ref(),
            &directions.unwrap_or_default(),
            has_8_bits,
            progress,
        );
        if expected.limits.is_some()
            && let Some(control) =
                known_bugs.and_then(|bugs| bugs.control_result(problem, draw, recipe))
        {
            expected.drop_directions_of_right_kernels(&control);
        }
        let mask = drawn.map(|sample| DrawnMask { sample, constraints, rows });
        Ok(Expectation { truth, saved, mask, gradients: expected, lse_errors })
    }

    /// An error if the reference is not finite: then no candidate can be judged.
    pub(super) fn check_finite(&self) -> Result<(), Error> {
        let Gradients { dq, dk, dv, dbias, dsink, dslopes, dkv } = &self.gradients.values;
        let all = [
            ("o", self.saved.o.as_slice()),
            ("dq", dq.as_slice()),
            ("dk", dk.as_slice()),
            ("dv", dv.as_slice()),
            ("dbias", dbias.as_ref().map_or(&[], Tensor::as_slice)),
            ("dsink", dsink.as_deref().unwrap_or(&[])),
            ("dslopes", dslopes.as_ref().map_or(&[], Tensor::as_slice)),
            ("dkv", dkv.as_ref().map_or(&[], Tensor::as_slice)),
        ];
        for (tensor, data) in all {
            if let Some(index) = data.iter().position(|x| !x.is_finite()) {
                return Err(Error::Overflow { tensor, index, found: data[index].to_string() });
            }
        }
        Ok(())
    }
}
