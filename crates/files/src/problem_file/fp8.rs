//! Operands of 8 bits and their scales: the number meant is the stored one times the scale of its block.

use super::{axes, floats};
use crate::error::Reason;
use crate::tensor_file::{Array, Numbers, TensorFile};
use safetensors::Dtype;
use sus_reference::error::Error;

/// The operands that may have 8 bits, and the names of their scales.
const SCALES: [(&str, &str); 4] =
    [("q", "q_scale"), ("k", "k_scale"), ("v", "v_scale"), ("do", "do_scale")];

/// Multiplies the operands of 8 bits by their scales, which are taken from the file; whether there is such an operand.
///
/// The product of a stored number, of 4 significant bits at most, and a scale, of 24, has 28: it is exact in `f64`.
pub(super) fn dequantise(file: &mut TensorFile) -> Result<bool, Reason> {
    let mut any = false;
    for (name, scale) in SCALES {
        let of_scale = file.arrays.remove(scale);
        let Some(operand) = file.arrays.get_mut(name) else {
            if of_scale.is_some() {
                return Err(
                    Error::option(scale, format!("a tensor '{name}' beside it"), "none").into()
                );
            }
            continue;
        };
        let of_8_bits = matches!(operand.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2);
        match of_scale {
            Some(of_scale) if of_8_bits => {
                any = true;
                scale_rows((name, operand), (scale, &of_scale))?;
            }
            Some(_) => {
                let expected = format!("'{name}' of type F8_E4M3 or F8_E5M2 beside it");
                return Err(Error::option(scale, expected, format!("{:?}", operand.dtype)).into());
            }
            None if of_8_bits => {
                let expected = "[1], [B,H] or [B,H,blocks of rows], as its operand has 8 bits";
                return Err(Reason::Missing { tensor: scale, expected });
            }
            None => {}
        }
    }
    Ok(any)
}

/// Multiplies the rows of an operand by their scales.
fn scale_rows(
    (name, operand): (&'static str, &mut Array),
    (scale, of_scale): (&'static str, &Array),
) -> Result<(), Reason> {
    let [b, h, n, width] = axes::<4>(name, operand)?;
    if of_scale.dtype != Dtype::F32 {
        let found = format!("{:?}", of_scale.dtype);
        return Err(Reason::Dtype { tensor: scale.into(), expected: "F32", found });
    }
    let blocks = match *of_scale.shape {
        [1] => None,
        [b_, h_] if [b_, h_] == [b, h] => Some(1),
        [b_, h_, blocks] if [b_, h_] == [b, h] && blocks > 0 && n % blocks == 0 => Some(blocks),
        _ => {
            let expected = format!("[1], [{b}, {h}] or [{b}, {h}, a number that divides {n}]");
            return Err(
                Error::Shape { tensor: scale, expected, found: of_scale.shape.clone() }.into()
            );
        }
    };
    let scales = floats(scale, of_scale.clone())?;
    if let Some(at) = scales.iter().position(|&x| !(x.is_finite() && x > 0.0)) {
        let expected = "finite numbers above 0";
        return Err(Error::option(scale, expected, format!("{} at {at}", scales[at])).into());
    }
    let of_row = |row: usize| match blocks {
        None => scales[0],
        Some(blocks) => scales[row / n * blocks + row % n / (n / blocks)],
    };
    let Numbers::Float(numbers) = &mut operand.numbers else {
        unreachable!("a tensor of 8-bit floating-point numbers")
    };
    for (row, numbers) in numbers.chunks_mut(width.max(1)).enumerate() {
        let scale = of_row(row);
        for x in numbers {
            *x *= scale;
        }
    }
    Ok(())
}
