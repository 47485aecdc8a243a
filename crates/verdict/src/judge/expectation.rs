//! The truth of a case for one forward pass and one mask, and what a right kernel may err from it.

use crate::KnownBugs;
use crate::mask_constraints::{Deciding, MaskConstraints};
use crate::statistics::along_sum;
use sus_bounds::{
    AllLimits, Bound, Bounds, BoundsInput, Direction, LARGEST_HEAD, Mode, OfRows, Progress, Ranges,
    Recipe, RowErrors, Truth, bounds_of, has_ranges, limits, ranges, rows_of,
};
use sus_fast::ReferenceErrorBounds;
use sus_reference::backward::Gradients;
use sus_reference::error::Error;
use sus_reference::forward::Saved;
use sus_reference::problem::Problem;
use sus_reference::sus::{Draw, Sample, sample};
use sus_reference::tensor::Tensor;

/// The truth for one forward pass and one mask.
#[derive(Debug, Clone)]
pub(super) struct Expectation {
    pub(super) truth: Truth,
    pub(super) saved: Saved<f64>,
    pub(super) mask: Option<DrawnMask>,
    pub(super) judged: Judged,
    /// What the `lse` of the truth may err, by row, if that is not nothing.
    pub(super) own_lse: Option<Vec<f64>>,
}

/// The truth of the gradients for one forward pass and one mask, and what a right kernel may err.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) gradients: Gradients<f64>,
    pub(super) bounds: Bounds,
    pub(super) limits: Option<AllLimits>,
    pub(super) ranges: Option<Ranges>,
    /// The largest share of a bound that is the truth's own error, if it has one.
    own_share: Option<f64>,
    /// Whether the recipe has ranges that this case goes without.
    without_ranges: bool,
}

/// The oracle's own mask, and what of it is forced.
#[derive(Debug, Clone)]
pub(super) struct DrawnMask {
    pub(super) sample: Sample,
    pub(super) constraints: MaskConstraints,
    /// The errors of the rows, without their entries, whatever the mask.
    pub(super) rows: Vec<RowErrors>,
}

impl Judged {
    /// Bounds and limits, about a truth that errs itself by `own`.
    pub(super) fn new(
        question: &BoundsInput<'_>,
        (rows, of_rows): (&[RowErrors], OfRows),
        own: Option<&ReferenceErrorBounds>,
        directions: &[Direction],
        progress: &dyn Progress,
    ) -> Self {
        let mut bounds = bounds_of(question, progress, rows, of_rows);
        let own_share = own.map(|own| bounds.widen(own));
        progress.stage("limits of the statistics", 0);
        let limits = limits(question, &bounds, directions);
        // They are of an exact truth.
        let ranges = if own.is_none() { ranges(question) } else { None };
        let without_ranges = ranges.is_none() && has_ranges(question.recipe);
        let gradients = question.gradients.clone();
        Judged { gradients, bounds, limits, ranges, own_share, without_ranges }
    }

    /// With the directions of a case, but for those along which the plainest right kernel errs much.
    fn of_case(
        question: &BoundsInput<'_>,
        rows: (&[RowErrors], OfRows),
        own: Option<&ReferenceErrorBounds>,
        draw: Option<&Draw>,
        known_bugs: Option<&dyn KnownBugs>,
        progress: &dyn Progress,
    ) -> Self {
        let BoundsInput { problem, recipe, .. } = *question;
        let directions = known_bugs.map(|bugs| bugs.directions(problem, draw, recipe));
        let directions = directions.unwrap_or_default();
        let mut judged = Judged::new(question, rows, own, &directions, progress);
        if let Some((_, along)) = &mut judged.limits
            && let Some(control) =
                known_bugs.and_then(|bugs| bugs.control_result(problem, draw, recipe))
        {
            let Gradients { dq, dk, dv, dbias, .. } = question.gradients;
            let dbias = dbias.as_ref().map_or(&[][..], Tensor::as_slice);
            let truth = [dq.as_slice(), dk.as_slice(), dv.as_slice(), dbias];
            let errors = |t: usize| [truth[t], control[t].as_slice()];
            along.retain(|along| {
                let sum = along_sum(along, std::array::from_fn(errors));
                sum.abs() <= along.limit / 2.0
            });
        }
        judged
    }

    /// What is worth knowing of how it was computed, and of what a problem of this size goes without.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(share) = self.own_share {
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

    /// The truth and the bound of one gradient.
    pub(super) fn of(&self, name: &str) -> (&[f64], &Bound) {
        let Judged { gradients, bounds, .. } = self;
        let present = "a gradient of this problem";
        match name {
            "dq" => (gradients.dq.as_slice(), &bounds.dq),
            "dk" => (gradients.dk.as_slice(), &bounds.dk),
            "dv" => (gradients.dv.as_slice(), &bounds.dv),
            "dbias" => (
                gradients.dbias.as_ref().expect(present).as_slice(),
                bounds.dbias.as_ref().expect(present),
            ),
            _ => (gradients.dsink.as_ref().expect(present), bounds.dsink.as_ref().expect(present)),
        }
    }
}

impl Expectation {
    /// The mask, the gradients and the bounds for one forward pass.
    pub(super) fn complete(
        (problem, recipe, mode): (&Problem<f64>, &Recipe, Mode),
        draw: Option<&Draw>,
        (truth, drawn): (Truth, Option<Sample>),
        known_bugs: Option<&dyn KnownBugs>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        progress.stage("truth of the gradients", 0);
        let saved = truth.saved();
        let drawn = match (draw, drawn) {
            (Some(draw), None) => Some(sample(problem, &saved, draw)?),
            (_, drawn) => drawn,
        };
        let own = truth.reference_error_bounds(drawn.as_ref());
        let own_lse = own.as_ref().map(|own| own.saved.lse.as_slice().to_vec());
        let gradients = truth.gradients(drawn.as_ref());
        let question = BoundsInput {
            problem,
            recipe,
            mode,
            saved: &saved,
            sample: drawn.as_ref(),
            ambiguous: None,
            gradients: &gradients,
        };
        let deciding = match (draw, &drawn) {
            (Some(draw), Some(sample)) => {
                Some(Deciding::new(problem, own_lse.as_deref(), recipe, draw, sample)?)
            }
            _ => None,
        };
        let decide = |row, errors: &_| deciding.as_ref().map(|deciding| deciding.row(row, errors));
        let (rows, of_rows, decided) = rows_of(&question, progress, decide);
        let constraints = MaskConstraints::of_rows(decided.into_iter().flatten().collect());
        let ambiguous = deciding.is_some().then_some(constraints.ambiguous.as_slice());
        let question = BoundsInput { ambiguous, ..question };
        let judged =
            Judged::of_case(&question, (&rows, of_rows), own.as_ref(), draw, known_bugs, progress);
        let mask = drawn.map(|sample| DrawnMask { sample, constraints, rows });
        Ok(Expectation { truth, saved, mask, judged, own_lse })
    }

    /// A truth is made of numbers.
    pub(super) fn check_finite(&self) -> Result<(), Error> {
        let Gradients { dq, dk, dv, dbias, dsink } = &self.judged.gradients;
        let all = [
            ("o", self.saved.o.as_slice()),
            ("dq", dq.as_slice()),
            ("dk", dk.as_slice()),
            ("dv", dv.as_slice()),
            ("dbias", dbias.as_ref().map_or(&[], Tensor::as_slice)),
            ("dsink", dsink.as_deref().unwrap_or(&[])),
        ];
        for (tensor, data) in all {
            if let Some(index) = data.iter().position(|x| !x.is_finite()) {
                return Err(Error::Overflow { tensor, index, found: data[index].to_string() });
            }
        }
        Ok(())
    }
}
