//! Makes the broken example under `fixtures/broken`: the first 96 positions of one head of a real attention layer, and
//! what a kernel with FlashAttention's bug b3f1b6a5 gives for it (each row takes the delta of its number within a tile).
//!
//!     cargo run --release --example broken_candidate
//!     sus-oracle check fixtures/broken/case.safetensors fixtures/broken/candidate.safetensors --recipe flash-bf16

use safetensors::tensor::Dtype;
use std::path::Path;
use sus_oracle::files::tensor_file::Numbers;
use sus_oracle::files::{Array, ProblemFile, Settings, TensorFile};
use sus_oracle::mutants::arithmetic::Arithmetic;
use sus_oracle::mutants::{self, RunConfig};
use sus_oracle::problem::{Inputs, Problem};
use sus_oracle::tensor::Tensor;

/// Positions that are kept.
const POSITIONS: usize = 96;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = Path::new("fixtures/real/layer2.safetensors");
    let ProblemFile { problem, settings, .. } = ProblemFile::read(layer, Settings::default())?;
    let cut = |tensor: &Tensor<f64>| {
        let [_, _, _, features] = tensor.shape();
        Tensor::from_fn([1, 1, POSITIONS, features], |[b, h, n, d]| tensor.row(b, h, n)[d])
    };
    let Inputs { q, k, v, g, .. } = problem.inputs();
    let (q, k, v, g) = (cut(q), cut(k), cut(v), cut(g));
    let inputs = Inputs::new(q, k, v, g);
    let problem = Problem::new(inputs, problem.options().clone())?;

    let folder = Path::new("fixtures/broken");
    std::fs::create_dir_all(folder)?;
    let Inputs { q, k, v, g, .. } = problem.inputs();
    let mut case = TensorFile { metadata: Some(settings.to_json()), ..TensorFile::default() };
    for (name, tensor) in [("q", q), ("k", k), ("v", v), ("do", g)] {
        case.arrays.insert(name.into(), bf16(&tensor.shape(), tensor.as_slice().to_vec()));
    }
    case.write(&folder.join("case.safetensors"))?;

    let arithmetic = Arithmetic::named("flash-bf16").ok_or("no such recipe")?;
    let kernel = mutants::named("delta_of_row_mod_tile").ok_or("no such kernel")?;
    let config = RunConfig::new(&problem, arithmetic, None);
    let mut candidate = (kernel.run)(&config).ok_or("the bug cannot occur here")?;
    for (name, array) in &mut candidate.arrays {
        if let Numbers::Float(data) = &array.numbers
            && name != "lse"
        {
            *array = bf16(&array.shape, data.clone());
        }
    }
    candidate.write(&folder.join("candidate.safetensors"))?;
    Ok(())
}

/// An array stored in bf16.
fn bf16(shape: &[usize], data: Vec<f64>) -> Array {
    Array { dtype: Dtype::BF16, shape: shape.to_vec(), numbers: Numbers::Float(data) }
}
