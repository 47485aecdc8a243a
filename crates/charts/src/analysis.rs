//! The charts of an analysis: variance, kept fraction, counts of a row, weights of a head.

mod counts;
mod kept;
mod variance;
mod weights;

use sus_analysis::Analysis;
use sus_reference::error::Error;
use sus_reference::forward::forward;
use sus_reference::problem::Problem;
use sus_reference::sus::Budget;

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

/// The plots of one problem: the kept fraction against the length of a prefix, the distribution of a row's count, and
/// the weights of a head beside those that one draw keeps.
///
/// # Errors
/// Those of a draw.
///
/// # Examples
/// ```
/// use sus_charts::analysis::of_problem;
/// use sus_reference::sus::Budget;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let pictures = of_problem(&problem, &[Budget::new(4.0)?])?;
/// assert!(pictures.iter().any(|picture| picture.file == "weights.svg"));
/// # Ok::<(), sus_reference::Error>(())
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
