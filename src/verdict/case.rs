//! What is judged against: a problem and its settings.

use crate::error::Error;
use crate::file::{FileError, Pass, ProblemFile, Settings};
use crate::problem::Problem;
use crate::sus::Draw;
use std::path::Path;

/// A problem and the settings of its pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The problem.
    pub problem: Problem<f64>,
    /// Its settings: dense or SUS, and the draw.
    pub settings: Settings,
    /// Where it comes from, for reports.
    pub label: String,
}

impl Case {
    /// Reads a case: a fixture or any problem file. `command` are the settings given beside the file.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn read(path: &Path, command: Settings) -> Result<Self, FileError> {
        let ProblemFile { problem, settings, .. } = ProblemFile::read(path, command)?;
        Ok(Case { problem, settings, label: path.display().to_string() })
    }

    /// A case from a problem in memory.
    #[must_use]
    pub fn new(problem: Problem<f64>, settings: Settings) -> Self {
        Case { problem, settings, label: "case".into() }
    }

    /// The draw of its mask; `None` for the dense pass, and for a budget without end.
    ///
    /// # Errors
    /// As [`Settings::draw`].
    pub fn draw(&self) -> Result<Option<Draw>, Error> {
        self.settings.draw()
    }

    /// Whether the case says which words its mask is drawn with.
    #[must_use]
    pub fn names_the_words(&self) -> bool {
        self.settings.seed.is_some() || self.settings.pass == Some(Pass::Dense)
    }
}
