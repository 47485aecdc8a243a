//! The sampled attention that a training step differentiates: the mask is drawn in the forward pass and kept.

use crate::job;
use crate::source::{Beside, Source};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::Path;
use std::sync::Arc;
use sus_oracle::Error;
use sus_oracle::backward::Gradients;
use sus_oracle::fast::{Real, Workspace, backward, forward, forward_and_sample, sus_backward};
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Array, FileError, ProblemFile, TensorFile};
use sus_oracle::forward::Saved;
use sus_oracle::problem::{Inputs, Problem};
use sus_oracle::sus::Sample;
use sus_oracle::tensor::Tensor;

/// A forward pass in one arithmetic: what its backward pass needs. Without a sample that is the dense one.
struct Passed<T> {
    problem: Problem<T>,
    saved: Saved<T>,
    sample: Option<Sample>,
}

enum Pass {
    F64(Passed<f64>),
    F32(Passed<f32>),
}

/// A forward pass whose mask is drawn, and its backward pass.
#[pyclass(frozen, module = "sus_oracle._core")]
pub(crate) struct SampledForward {
    pass: Arc<Pass>,
}

#[pymethods]
impl SampledForward {
    /// Runs the forward pass of `q`, `k`, `v` and draws the mask; `do` is there for its shape alone.
    #[new]
    fn new(py: Python<'_>, problem: Source, settings: String, single: bool) -> PyResult<Self> {
        let pass = job::run(py, move |_| {
            let input = Beside { settings, seed: None }.problem(&problem)?;
            let label = problem.label("problem");
            let pass = if single {
                pass::<f32>(&input).map(Pass::F32)
            } else {
                pass::<f64>(&input).map(Pass::F64)
            };
            pass.map_err(|e| FileError::new(&label, e))
        })?;
        Ok(SampledForward { pass: Arc::new(pass) })
    }

    /// `o` and `lse`, as the bytes of a safetensors file.
    fn results(&self, py: Python<'_>) -> Py<PyBytes> {
        let bytes = py.detach(|| {
            match &*self.pass {
                Pass::F64(it) => saved_file(&it.saved, Array::f64),
                Pass::F32(it) => saved_file(&it.saved, Array::f32),
            }
            .to_bytes()
        });
        PyBytes::new(py, &bytes).unbind()
    }

    /// The number of entries that the mask keeps; none for the dense pass.
    fn kept(&self) -> Option<usize> {
        let sample = match &*self.pass {
            Pass::F64(it) => it.sample.as_ref(),
            Pass::F32(it) => it.sample.as_ref(),
        };
        sample.map(|sample| sample.pattern.count())
    }

    /// `dq`, `dk`, `dv` of a cotangent `do`, both as the bytes of a safetensors file.
    fn backward(&self, py: Python<'_>, cotangent: Source) -> PyResult<Py<PyBytes>> {
        let pass = Arc::clone(&self.pass);
        let bytes = job::run(py, move |_| {
            let mut file = cotangent.read("cotangent")?;
            let wrong = |reason: Error| FileError::new(Path::new("cotangent"), reason);
            let g = file.arrays.remove("do").unwrap_or_else(|| Array::f64(&[0], Vec::new()));
            match &*pass {
                Pass::F64(it) => gradients(it, g, Array::f64).map_err(wrong),
                Pass::F32(it) => gradients(it, g, Array::f32).map_err(wrong),
            }
        })?;
        Ok(PyBytes::new(py, &bytes).unbind())
    }
}

fn pass<T: Real>(input: &ProblemFile) -> Result<Passed<T>, Error> {
    let problem: Problem<T> = input.problem.cast()?;
    let mut workspace = Workspace::default();
    let (saved, sample) = match input.settings.draw()? {
        None => (forward(&problem, &mut workspace), None),
        Some(draw) => {
            let (saved, sample, _) =
                forward_and_sample(&input.problem, &problem, &draw, &mut workspace)?;
            (saved, Some(sample))
        }
    };
    Ok(Passed { problem, saved, sample })
}

type Stored = fn(&[usize], Vec<f64>) -> Array;

fn gradients<T: Real>(pass: &Passed<T>, g: Array, stored: Stored) -> Result<Vec<u8>, Error> {
    let Passed { problem, saved, sample } = pass;
    let Inputs { q, k, v, dlse, bias, sink, .. } = problem.inputs();
    let shape = saved.o.shape();
    let data = match g.numbers {
        Numbers::Float(data) if g.shape == shape => data,
        _ => {
            let expected = format!("{shape:?}");
            return Err(Error::Shape { tensor: "do", expected, found: g.shape });
        }
    };
    let data: Vec<T> = data.into_iter().map(T::from_f64).collect();
    let inputs = Inputs::new(q.clone(), k.clone(), v.clone(), Tensor::new("do", shape, &data)?)
        .with_dlse(dlse.clone())
        .with_bias(bias.clone())
        .with_sink(sink.clone());
    let problem = Problem::new(inputs, problem.options().clone())?;
    let mut workspace = Workspace::default();
    let (Gradients { dq, dk, dv, .. }, _) = match sample {
        Some(sample) => sus_backward(&problem, saved, sample, &mut workspace),
        None => backward(&problem, saved, &mut workspace),
    };
    let mut file = TensorFile::default();
    for (name, tensor) in [("dq", dq), ("dk", dk), ("dv", dv)] {
        file.arrays.insert(name.into(), array(&tensor.shape(), &tensor, stored));
    }
    Ok(file.to_bytes())
}

fn saved_file<T: Real>(Saved { o, lse }: &Saved<T>, stored: Stored) -> TensorFile {
    let mut file = TensorFile::default();
    file.arrays.insert("o".into(), array(&o.shape(), o, stored));
    file.arrays.insert("lse".into(), array(&lse.shape()[..3], lse, stored));
    file
}

fn array<T: Real>(shape: &[usize], tensor: &Tensor<T>, stored: Stored) -> Array {
    stored(shape, tensor.as_slice().iter().map(|x| x.to_f64()).collect())
}
