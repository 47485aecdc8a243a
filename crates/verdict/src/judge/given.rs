//! The mode "given": the gradients that follow from the forward pass that the candidate stored.

use super::Judge;
use super::expectation::{Expectation, ExpectationInput};
use super::run::CandidateResult;
use crate::Mode;
use sus_bounds::Progress;
use sus_reference::forward::Saved;
use sus_reference::tensor::Tensor;

impl Judge {
    /// The expectation for the candidate's own `o` and `lse`.
    pub(super) fn given(
        &self,
        results: &[CandidateResult<'_>],
        progress: &dyn Progress,
    ) -> Result<Expectation, String> {
        let find = |name: &str| {
            let found = results.iter().find(|result| result.0 == name);
            found.map(|result| result.1.to_vec()).ok_or_else(|| {
                format!("mode 'given' needs the candidate's o and lse; it has no {name}")
            })
        };
        let (o, lse) = (find("o")?, find("lse")?);
        let exact = &self.exact.saved;
        let given = Tensor::new("o", exact.o.shape(), &o)
            .and_then(|o| Ok((o, Tensor::new("lse", exact.lse.shape(), &lse)?)))
            .and_then(|(o, lse)| Saved::given(&self.problem, o, lse))
            .and_then(|saved| self.reference.given(&self.problem, &self.recipe, &saved))
            .and_then(|truth| {
                let input = ExpectationInput {
                    problem: &self.problem,
                    recipe: &self.recipe,
                    mode: Mode::Given,
                    draw: self.draw.as_ref(),
                    known_bugs: self.known_bugs,
                };
                Expectation::new(input, truth, None, progress)
            })
            .map_err(|e| e.to_string())?;
        given.check_finite().map_err(|e| e.to_string())?;
        Ok(given)
    }
}
