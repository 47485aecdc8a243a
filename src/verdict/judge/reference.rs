//! The truth of a case for one forward pass and one mask, and what a right kernel may err from it.

use crate::backward::Gradients;
use crate::error::Error;
use crate::forward::Saved;
use crate::gallery::{directions, usual};
use crate::precision::{
    AllLimits, Bound, Bounds, Mode, Question, Ranges, Recipe, Truth, bounds, limits, ranges,
};
use crate::problem::Problem;
use crate::sus::{Draw, Sample, sample};
use crate::tensor::Tensor;
use crate::verdict::forced::{ForcedMask, forced_mask};
use crate::verdict::statistics::along_sum;

/// The truth for one forward pass and one mask.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) truth: Truth,
    pub(super) saved: Saved<f64>,
    pub(super) mask: Option<DrawnMask>,
    pub(super) judged: Judged,
}

/// The truth of the gradients for one forward pass and one mask, and what a right kernel may err.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) gradients: Gradients<f64>,
    pub(super) bounds: Bounds,
    pub(super) limits: Option<AllLimits>,
    pub(super) ranges: Option<Ranges>,
}

/// The oracle's own mask, and what of it is forced.
#[derive(Debug, Clone)]
pub(super) struct DrawnMask {
    pub(super) sample: Sample,
    pub(super) forced: ForcedMask,
}

impl Judged {
    fn errors(question: &Question<'_>, draw: Option<&Draw>) -> (Bounds, Option<AllLimits>) {
        let bounds = bounds(question);
        let directions = directions(question.problem, draw, question.recipe);
        let mut limits = limits(question, &bounds, &directions);
        if let Some((_, along)) = &mut limits
            && let Some(usual) = usual(question.problem, draw, question.recipe)
        {
            let Gradients { dq, dk, dv, dbias, .. } = question.gradients;
            let dbias = dbias.as_ref().map_or(&[][..], Tensor::as_slice);
            let truth = [dq.as_slice(), dk.as_slice(), dv.as_slice(), dbias];
            let errors = |t: usize| [truth[t], usual[t].as_slice()];
            along.retain(|along| {
                let sum = along_sum(along, std::array::from_fn(errors));
                sum.abs() <= along.limit / 2.0
            });
        }
        (bounds, limits)
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

impl Reference {
    /// The mask, the gradients and the bounds for one forward pass.
    pub(super) fn complete(
        problem: &Problem<f64>,
        recipe: &Recipe,
        draw: Option<&Draw>,
        truth: Truth,
        mode: Mode,
    ) -> Result<Self, Error> {
        let saved = truth.saved();
        let mask = match draw {
            None => None,
            Some(draw) => {
                let sample = sample(problem, &saved, draw)?;
                let forced = forced_mask(problem, &saved, recipe, mode, draw, &sample)?;
                Some(DrawnMask { sample, forced })
            }
        };
        let sample = mask.as_ref().map(|mask| &mask.sample);
        let gradients = truth.gradients(sample);
        let question = Question {
            problem,
            recipe,
            mode,
            saved: &saved,
            sample,
            borderline: mask.as_ref().map(|mask| mask.forced.either.as_slice()),
            gradients: &gradients,
        };
        let (bounds, limits) = Judged::errors(&question, draw);
        let ranges = ranges(&question);
        let judged = Judged { gradients, bounds, limits, ranges };
        Ok(Reference { truth, saved, mask, judged })
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
