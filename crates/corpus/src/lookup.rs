//! Look-ups in the data files: bugs by number and label, what a flag says.

use super::bug::{Bug, OtherLabel, Project, Report};
use super::data::DATA;
use super::flag::Flag;

impl Report {
    /// The address of the report.
    ///
    /// # Examples
    /// ```
    /// let report = &sus_corpus::bug("1").unwrap().reports[0];
    /// assert_eq!(report.link(), "https://github.com/Dao-AILab/flash-attention/commit/b3f1b6a5");
    /// ```
    #[must_use]
    pub fn link(&self) -> String {
        let repository = &self.listed_project().repository;
        match self.reference().strip_prefix('#') {
            Some(number) => format!("https://github.com/{repository}/issues/{number}"),
            None => format!("https://github.com/{repository}/commit/{}", self.reference()),
        }
    }

    /// # Panics
    /// If `bugs.toml` does not list the project; a test reads all reports.
    fn listed_project(&self) -> &'static Project {
        let mut projects = DATA.bugs.project.iter();
        let found = projects.find(|project| project.name == self.project());
        found.unwrap_or_else(|| panic!("bugs.toml: no project '{}'", self.project()))
    }
}

impl Bug {
    /// The bug of a label; `None` if the label names no wrong backward kernel.
    ///
    /// # Examples
    /// ```
    /// use sus_corpus::Bug;
    /// assert_eq!(Bug::of_label("jax 099f0a17").unwrap().id, "29");
    /// assert_eq!(Bug::of_label("TransformerEngine tests"), None); // a test suite
    /// ```
    #[must_use]
    pub fn of_label(label: &str) -> Option<&'static Bug> {
        bugs().iter().find(|bug| bug.reports.iter().any(|report| report.label() == label))
    }

    /// The reports in one line, each project once in a row: `pytorch #188015, #187684; ffpa-attn #352`.
    #[must_use]
    pub fn source(&self) -> String {
        if self.reports.is_empty() {
            return "SUS".to_owned();
        }
        let of_project = |reports: &[Report]| {
            let references: Vec<&str> = reports.iter().map(Report::reference).collect();
            format!("{} {}", reports[0].listed_project().shown, references.join(", "))
        };
        let projects = self.reports.chunk_by(|a, b| a.project() == b.project());
        projects.map(of_project).collect::<Vec<_>>().join("; ")
    }
}

/// Every bug, in the order of its number.
#[must_use]
pub fn bugs() -> &'static [Bug] {
    &DATA.bugs.bug
}

/// The bug of this number.
#[must_use]
pub fn bug(id: &str) -> Option<&'static Bug> {
    bugs().iter().find(|bug| bug.id == id)
}

/// The labels that name no wrong backward kernel.
#[must_use]
pub fn other_labels() -> &'static [OtherLabel] {
    &DATA.bugs.other
}

impl Flag {
    /// What it says of a case.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        &DATA.flags[&self].meaning
    }

    /// Where kernels went wrong there: labels of reports.
    #[must_use]
    pub fn upstream(self) -> &'static [String] {
        &DATA.flags[&self].upstream
    }
}
