//! Inputs of the kill matrix: drawn by `ChaCha8` from the stream that the case states.

use crate::fixture::Fixture;
use crate::values::Numbers;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sus_reference::problem::{Inputs, Sizes};
use sus_reference::tensor::Tensor;

/// The key of the generator. The values of all cases of the kill matrix depend on it.
const KEY: &[u8; 32] = b"sus-oracle gallery of kernels v1";

/// Draws the operands one after the other: `q, k, v, do, dlse, bias, sink`.
pub(super) fn inputs(case: &Fixture, stream: u64, numbers: Numbers) -> Inputs<f64> {
    let Sizes { batch, query_heads, key_heads, queries, keys, features, value_features } =
        case.sizes;
    let mut rng = ChaCha8Rng::from_seed(*KEY);
    rng.set_stream(stream);
    rng.set_word_pos(0);
    let mut tensor = |shape: [usize; 4]| Tensor::from_fn(shape, |_| sixteenths(&mut rng));
    let q = tensor([batch, query_heads, queries, features]);
    let k = tensor([batch, key_heads, keys, features]);
    let v = tensor([batch, key_heads, keys, value_features]);
    let g = tensor([batch, query_heads, queries, value_features]);
    let dlse = case.operands.dlse.then(|| tensor([batch, query_heads, queries, 1]));
    let bias = case.operands.bias.map(|axes| tensor(axes.shape(case.sizes)));
    let bias = bias.map(|bias| case.operands.hidden(&bias));
    let sink = case.operands.sink.then(|| tensor([1, 1, 1, query_heads]).as_slice().to_vec());
    let mut inputs = Inputs::new(q, k, v, g).with_dlse(dlse).with_bias(bias).with_sink(sink);
    change(&mut inputs, numbers);
    inputs
}

/// Near a normal distribution of deviation 1: a sum of four bytes, in sixteenths.
fn sixteenths(rng: &mut ChaCha8Rng) -> f64 {
    let sum: i32 = rng.next_u32().to_le_bytes().iter().map(|&byte| i32::from(byte % 29) - 14).sum();
    f64::from(sum) / 16.0
}

fn change(inputs: &mut Inputs<f64>, numbers: Numbers) {
    match numbers {
        Numbers::Plain => {}
        Numbers::Deep => inputs.q = inputs.q.map(|x| 8.0 * x),
        Numbers::OnlyDlse => inputs.g = inputs.g.map(|_| 0.0),
        Numbers::Offset => inputs.bias = inputs.bias.as_ref().map(|bias| bias.map(|_| -96.0)),
        Numbers::PeakedAndFlat => {
            let q = inputs.q.clone();
            inputs.q =
                Tensor::from_fn(
                    q.shape(),
                    |[b, h, i, d]| {
                        if i % 2 == 0 { 16.0 * q.row(b, h, i)[d] } else { 0.0 }
                    },
                );
        }
        Numbers::HeadLevels => {
            let (k, v) = (inputs.k.clone(), inputs.v.clone());
            inputs.k = Tensor::from_fn(k.shape(), |[b, h, j, d]| {
                k.row(b, h, j)[d] / [1.0, 2.0, 4.0][h % 3]
            });
            inputs.v =
                Tensor::from_fn(v.shape(), |[b, h, j, e]| v.row(b, h, j)[e] + (h + b) as f64);
        }
    }
}
