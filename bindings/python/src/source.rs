//! Where tensors come from: a file, or the bytes of one.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::path::{Path, PathBuf};
use sus_oracle::files::{FileError, Pass, ProblemFile, Settings, TensorFile};
use sus_oracle::verdict::Case;

/// The bytes of a safetensors file, or its path.
#[derive(FromPyObject)]
pub(crate) enum Source {
    /// Bytes in memory.
    Bytes(PyBackedBytes),
    /// A path.
    Path(PathBuf),
}

impl Source {
    /// The name by which errors call it: the path, or what it is.
    pub(crate) fn label(&self, what: &str) -> PathBuf {
        match self {
            Source::Bytes(_) => what.into(),
            Source::Path(path) => path.clone(),
        }
    }

    /// The tensors.
    pub(crate) fn read(&self, what: &str) -> Result<TensorFile, FileError> {
        match self {
            Source::Bytes(bytes) => {
                TensorFile::parse(bytes).map_err(|reason| FileError::new(Path::new(what), reason))
            }
            Source::Path(path) => TensorFile::read(path),
        }
    }
}

/// The settings beside a problem, as JSON, and a seed that only a sampled pass has.
#[derive(Clone)]
pub(crate) struct Beside {
    /// JSON.
    pub(crate) settings: String,
    /// The seed, if one was given.
    pub(crate) seed: Option<u64>,
}

impl Beside {
    /// The command's settings for this file: any key of a draw says that the pass is SUS, the seed alone does not.
    fn settings(&self, file: &TensorFile, label: &Path) -> Result<Settings, FileError> {
        let wrong = |reason| FileError::new(label, reason);
        let ours = Settings::from_json(&self.settings).map_err(wrong)?;
        let theirs = file.metadata.as_deref().map(Settings::from_json).transpose();
        let theirs = theirs.map_err(wrong)?.unwrap_or_default();
        let asked = ours.pass == Some(Pass::Sus) || ours.names_a_draw();
        let dense = ours.pass == Some(Pass::Dense) || theirs.pass == Some(Pass::Dense);
        let sampled = asked || theirs.pass == Some(Pass::Sus) || theirs.names_a_draw();
        let seed = if sampled && !dense { self.seed.or(ours.seed) } else { ours.seed };
        let pass = ours.pass.or_else(|| ours.names_a_draw().then_some(Pass::Sus));
        Ok(ours.with_seed(seed).with_pass(pass))
    }

    /// Reads a problem. Without any setting of a draw its pass is dense.
    pub(crate) fn problem(&self, source: &Source) -> Result<ProblemFile, FileError> {
        let label = source.label("problem");
        let file = source.read("problem")?;
        let settings = self.settings(&file, &label)?;
        let mut read = ProblemFile::from_tensors(file, settings)
            .map_err(|reason| FileError::new(&label, reason))?;
        if read.settings.pass.is_none() && !read.settings.names_a_draw() {
            read.settings.pass = Some(Pass::Dense);
        }
        Ok(read)
    }

    /// Reads a case. Nothing said of the pass leaves it to the candidate.
    pub(crate) fn case(&self, source: &Source) -> Result<Case, FileError> {
        let label = source.label("problem");
        let file = source.read("problem")?;
        let settings = self.settings(&file, &label)?;
        Case::from_tensors(file, settings, &label.display().to_string())
            .map_err(|reason| FileError::new(&label, reason))
    }
}

/// An option that is none of its legal values.
pub(crate) fn wrong_option(name: &'static str, expected: &str, found: &str) -> sus_oracle::Error {
    sus_oracle::Error::option(name, expected, format!("'{found}'"))
}
