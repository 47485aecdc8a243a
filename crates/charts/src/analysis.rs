//! Plots, as SVG that can go into a paper.
//!
//! No font, file or clock of the machine takes part: the same analysis gives the same bytes.

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
///
/// # Examples
/// ```
/// use sus_charts::analysis::{Picture, of_problem};
/// use sus_reference::sus::Budget;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// for Picture { file, svg } in of_problem(&problem, &[Budget::new(4.0)?])? {
///     assert!(file.ends_with(".svg") && svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
/// }
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The name of its file.
    pub file: &'static str,
    /// Its content.
    pub svg: String,
}

/// The plots of a whole analysis: the variance against the budget.
///
/// # Examples
/// ```
/// use sus_analysis::{Analysis, plot::of_analysis, settings};
/// use sus_reference::sus::{Budget, Rule};
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let plots = |c: &[f64]| {
///     let c = c.iter().map(|&c| Budget::new(c)).collect::<Result<Vec<_>, _>>()?;
///     let mut analysis = Analysis::new(settings(&c, Some(Rule::Paper), None));
///     analysis.add(&problem, None)?;
///     Ok::<_, sus_reference::Error>(of_analysis(&analysis))
/// };
/// let pictures = plots(&[2.0, 4.0, 8.0])?;
/// assert!(!pictures.is_empty());
/// assert_eq!(pictures, plots(&[2.0, 4.0, 8.0])?); // the same bytes
/// assert_ne!(pictures, plots(&[2.0, 4.0, 7.0])?);
/// # Ok::<(), sus_reference::Error>(())
/// ```
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
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// use sus_charts::analysis;
/// use sus_reference::sus::Budget;
/// let pictures = plot::of_problem(&problem, &[Budget::new(4.0)?])?;
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
