//! Plots, as SVG that can go into a paper.
//!
//! No font, file or clock of the machine takes part: the same analysis gives the same bytes.

pub(crate) mod axis;
pub(crate) mod chart;
mod counts;
mod kept;
mod variance;
mod weights;

use super::Analysis;
use crate::error::Error;
use crate::forward::forward;
use crate::problem::Problem;
use crate::sus::Budget;

/// One plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The name of its file.
    pub file: &'static str,
    /// Its content.
    pub svg: String,
}

/// The plots of a whole analysis: the variance against the budget.
#[must_use]
pub fn of_analysis(analysis: &Analysis) -> Vec<Picture> {
    variance::plots(analysis)
}

/// The plots of one problem: the kept fraction against the length of a prefix, the law of a row's count, and the
/// weights of a head with what one draw keeps of them.
///
/// # Errors
/// Those of a draw.
///
/// # Examples
/// ```
/// let problem = sus_oracle::gallery::cases::named("primes").unwrap().problem;
/// use sus_oracle::{analysis::plot, sus::Budget};
/// let pictures = plot::of_problem(&problem, &[Budget::new(4.0)?])?;
/// assert!(pictures.iter().any(|picture| picture.file == "weights.svg"));
/// # Ok::<(), sus_oracle::Error>(())
/// ```
pub fn of_problem(problem: &Problem<f64>, c: &[Budget]) -> Result<Vec<Picture>, Error> {
    let saved = forward(problem);
    let mut pictures = Vec::new();
    pictures.extend(kept::plot(problem, &saved, c));
    if let Some(&c) = c.iter().rfind(|c| c.get().is_finite()) {
        pictures.extend(counts::plot(problem, &saved, c)?);
        pictures.extend(weights::plot(problem, &saved, c)?);
    }
    Ok(pictures)
}
