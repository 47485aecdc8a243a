//! A case: a problem and the settings of its pass.

use crate::candidate::shape_of;
use std::path::Path;
use sus_files::error::Reason;
use sus_files::{FileError, Pass, ProblemFile, Settings, TensorFile};
use sus_reference::error::Error;
use sus_reference::problem::Problem;
use sus_reference::sus::Draw;

/// A problem and the settings of its pass.
///
/// # Examples
/// ```
/// use sus_files::Settings;
/// use sus_verdict::Case;
/// let problem = sus_corpus::named("primes").unwrap().problem;
/// let case = Case { label: "mine".into(), ..Case::new(problem, Settings::default()) };
/// assert_eq!(case.draw()?, None); // the dense pass
/// # Ok::<(), sus_reference::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The problem.
    pub problem: Problem<f64>,
    /// Its settings: dense or SUS, and the draw.
    pub settings: Settings,
    /// The file that it comes from, for reports.
    pub label: String,
    /// Whether an operand of the file has 8 bits and a scale.
    pub has_fp8: bool,
}

impl Case {
    /// Reads a case: a fixture or any problem file. `command` are the settings given beside the file.
    ///
    /// # Errors
    /// One line that names the file and its defect.
    pub fn read(path: &Path, command: Settings) -> Result<Self, FileError> {
        let ProblemFile { problem, settings, has_fp8, .. } = ProblemFile::read(path, command)?;
        Ok(Case { problem, settings, label: path.display().to_string(), has_fp8 })
    }

    /// As [`Case::read`], from tensors in memory; `label` names them in reports.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_tensors(file: TensorFile, command: Settings, label: &str) -> Result<Self, Reason> {
        let ProblemFile { problem, settings, has_fp8, .. } =
            ProblemFile::from_tensors(file, command)?;
        Ok(Case { problem, settings, label: label.to_owned(), has_fp8 })
    }

    /// A case from a problem in memory.
    #[must_use]
    pub fn new(problem: Problem<f64>, settings: Settings) -> Self {
        Case { problem, settings, label: "case".into(), has_fp8: false }
    }

    /// Fills in the settings of the pass and of the draw that the case lacks from the candidate's own metadata.
    ///
    /// # Errors
    /// [`Reason::Metadata`](sus_files::error::Reason::Metadata) if its metadata is not what this project writes.
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Settings, TensorFile};
    /// use sus_verdict::Case;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let mut case = Case::new(problem, Settings::from_json(r#"{"c":8}"#)?);
    /// let metadata = Some(r#"{"pass":"sus","c":4,"seed":7}"#.into());
    /// case.complete_from(&TensorFile { arrays: Default::default(), metadata })?;
    /// assert_eq!((case.settings.c.unwrap().get(), case.settings.seed), (8.0, Some(7))); // the case's own c stays
    /// # Ok::<(), sus_files::error::Reason>(())
    /// ```
    pub fn complete_from(&mut self, candidate: &TensorFile) -> Result<(), Reason> {
        let theirs = match &candidate.metadata {
            Some(text) => Settings::from_json(text)?,
            None => Settings::default(),
        };
        let ours = &mut self.settings;
        let has_mask =
            candidate.arrays.keys().any(|name| name == "mask" || name.starts_with("mask/"));
        if ours.pass.is_none() && !ours.names_a_draw() {
            ours.pass = theirs.pass.or(has_mask.then_some(Pass::Sus));
        }
        if ours.pass != Some(Pass::Dense) {
            ours.c = ours.c.or(theirs.c);
            ours.rule = ours.rule.or(theirs.rule);
            ours.sampler = ours.sampler.or(theirs.sampler);
            // Many runs have many seeds: only the case can name the first of them.
            let many = candidate.arrays.get("dq").is_some_and(|dq| dq.shape.len() > 4);
            if !many {
                ours.seed = ours.seed.or(theirs.seed);
            }
            ours.stream = ours.stream.or(theirs.stream);
            ours.layout = ours.layout.or(theirs.layout);
            ours.uniform_bits = ours.uniform_bits.or(theirs.uniform_bits);
        }
        Ok(())
    }

    /// Every result that the kernel is said to compute is one of this problem.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first that is not.
    pub fn expect_results(&self) -> Result<(), Error> {
        let asked = self.settings.gradients.iter().flatten();
        let mut missing = asked.filter(|name| shape_of(&self.problem, name.as_str()).is_none());
        missing.next().map_or(Ok(()), |name| {
            Err(Error::option("gradients", "results of this problem", format!("'{name}'")))
        })
    }

    /// The draw of its mask; `None` for the dense pass, which is the default.
    ///
    /// # Errors
    /// As [`Settings::draw`].
    ///
    /// # Examples
    /// ```
    /// use sus_files::{Pass, Settings};
    /// use sus_reference::sus::Budget;
    /// use sus_verdict::Case;
    /// let problem = sus_corpus::named("primes").unwrap().problem;
    /// let sus = Settings::default().with_pass(Pass::Sus).with_c(Budget::new(4.0)?).with_seed(7);
    /// assert_eq!(Case::new(problem.clone(), sus).draw()?.unwrap().c.get(), 4.0);
    /// assert_eq!(Case::new(problem, Settings::default()).draw()?, None);
    /// # Ok::<(), sus_reference::Error>(())
    /// ```
    pub fn draw(&self) -> Result<Option<Draw>, Error> {
        if self.settings.pass.is_none() && !self.settings.names_a_draw() {
            return Ok(None);
        }
        self.settings.draw()
    }

    /// The pass and the draw in words.
    #[must_use]
    pub fn describe_pass(&self) -> String {
        match self.draw() {
            Ok(Some(draw)) => {
                let seed = match self.settings.seed {
                    Some(seed) => format!("seed {seed}"),
                    None => "no seed".into(),
                };
                format!(
                    "SUS with c = {}, rule {}, sampler {}, {seed}, stream {}, layout {}",
                    draw.c.get(),
                    draw.rule,
                    draw.sampler,
                    draw.stream,
                    draw.layout
                )
            }
            _ if self.settings.pass.is_none() => "dense, as nothing says SUS".into(),
            _ => "dense".into(),
        }
    }

    /// Whether the case names the seed of its mask's words.
    #[must_use]
    pub fn has_seed(&self) -> bool {
        self.settings.seed.is_some()
    }
}
