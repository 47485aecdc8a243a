//! Bias, sink, and the cotangent of `lse`.

use super::{BugType, define_kernels, only_if};
use crate::arithmetic::Format;
use crate::simulated_kernel::Point;
use sus_reference::problem::{Row, bias_row};
use sus_reference::tensor::Tensor;

define_kernels! { Some(BugType::Bias);
    /// `dbias` is not summed over the axes that the bias broadcasts: the last writer wins.
    ["35"] [Dbias]
    fn dbias_last_writer(config) {
        let shape = config.problem.inputs().bias.as_ref()?.shape();
        Some(config.mutate(Point::Stored, |w| {
            let mut last = std::collections::BTreeMap::new();
            for (n, row) in w.rows() {
                let Row { b, h, i } = bias_row(shape, row);
                last.insert([b, h, i], n);
            }
            let ds = w.ds.clone();
            w.dbias = Some(Tensor::from_fn(shape, |[b, h, i, j]| {
                last.get(&[b, h, i]).map_or(0.0, |n| ds[n * w.sizes.keys + j])
            }));
        }))
    }
    /// `dbias` is summed over the queries and heads of the first sequence only.
    ["35"] [Dbias]
    fn dbias_of_batch_zero(config) {
        let shape = config.problem.inputs().bias.as_ref()?.shape();
        only_if(config.sizes().batch > 1 && shape[0] == 1)?;
        Some(config.mutate(Point::Slopes, |w| {
            w.entries().filter(|(_, _, row, _)| row.b > 0).for_each(|(at, _, _, _)| w.ds[at] = 0.0);
        }))
    }
    /// `dbias` carries the scale, which comes before the bias.
    ["33"] [Dbias]
    fn dbias_scaled(config) {
        config.problem.inputs().bias.as_ref()?;
        Some(config.mutate(Point::Sums, |w| w.dbias = w.dbias.as_ref().map(|dbias| dbias.map(|x| x * w.scale))))
    }
    /// `dbias` is accumulated in bf16.
    ["35"] [Dbias]
    fn dbias_accumulated_in_bf16(config) {
        config.problem.inputs().bias.as_ref()?;
        only_if(config.arithmetic.accumulator != Format::Bf16)?;
        Some(config.mutate(Point::Slopes, |w| w.sum_bias = Format::Bf16))
    }
    /// `dbias` is left at zero.
    ["36"] [Dbias]
    fn dbias_zero(config) {
        config.problem.inputs().bias.as_ref()?;
        Some(config.mutate(Point::Stored, |w| w.dbias = w.dbias.as_ref().map(|dbias| dbias.map(|_| 0.0))))
    }
    /// The backward pass has no bias.
    [] [Dq, Dk, Dv, Dbias]
    fn bias_ignored(config) {
        config.problem.inputs().bias.as_ref()?;
        let mask = config.problem.mask();
        Some(config.mutate(Point::Saved, |w| {
            w.has_bias = false;
            w.see(|row, j| mask.span(row.b, row.i).contains(&j));
        }))
    }
    /// The backward pass uses an `lse` without the sink.
    [] [Dq, Dk, Dv, Dbias, Dsink]
    fn sink_not_in_lse(config) {
        let sink = config.problem.inputs().sink.clone()?;
        Some(config.mutate(Point::Saved, |w| {
            for (n, row) in w.rows() {
                let keys = -libm::expm1(sink[row.h] - w.lse[n]);
                w.lse[n] = if keys > 0.0 { w.lse[n] + libm::log(keys) } else { f64::NEG_INFINITY };
            }
        }))
    }
    /// `dsink` has the other sign.
    [] [Dsink]
    fn dsink_sign(config) {
        config.problem.inputs().sink.as_ref()?;
        Some(config.mutate(Point::Stored, |w| w.dsink.iter_mut().flatten().for_each(|x| *x = -*x)))
    }
    /// `dsink` is left at zero.
    ["41"] [Dsink]
    fn dsink_zero(config) {
        config.problem.inputs().sink.as_ref()?;
        Some(config.mutate(Point::Stored, |w| w.dsink.iter_mut().flatten().for_each(|x| *x = 0.0)))
    }
    /// `dsink` is that of the last sequence of the batch.
    [] [Dsink]
    fn dsink_not_summed_over_batch(config) {
        config.problem.inputs().sink.as_ref()?;
        let batch = config.sizes().batch;
        only_if(batch > 1)?;
        Some(config.mutate(Point::Slopes, |w| {
            for (n, _) in w.rows().filter(|(_, row)| row.b + 1 < batch) {
                (w.delta[n], w.dlse[n]) = (0.0, 0.0);
            }
        }))
    }
    /// The sink's kernel reads `lse` as if every packed sequence started at a multiple of 8.
    ["41"] [Dsink]
    fn dsink_with_dense_index(config) {
        config.problem.inputs().sink.as_ref()?;
        let segments = &config.problem.options().segments.as_ref()?.queries;
        Some(config.mutate(Point::Slopes, |w| {
            let lse = w.lse.clone();
            for (n, row) in w.rows() {
                let start = segments[w.config.problem.mask().place(row.i).segment];
                let shift = start.next_multiple_of(8) - start;
                w.lse[n] = lse.get(n + shift).copied().unwrap_or(0.0);
            }
        }))
    }
    /// `dsink` leaves out `dlse`.
    ["43"] [Dsink]
    fn dsink_without_dlse(config) {
        config.problem.inputs().sink.as_ref()?;
        config.problem.inputs().dlse.as_ref()?;
        Some(config.mutate(Point::Slopes, |w| w.dlse.fill(0.0)))
    }
    /// `dsink` weighs every row alike.
    [] [Dsink]
    fn dsink_unweighted(config) {
        let sink = config.problem.inputs().sink.clone()?;
        Some(config.mutate(Point::Slopes, |w| w.rows().for_each(|(n, row)| w.lse[n] = sink[row.h])))
    }
    /// The cotangent of `lse` is dropped.
    ["43"] [Dq, Dk, Dbias, Dsink]
    fn dlse_dropped(config) {
        config.problem.inputs().dlse.as_ref()?;
        Some(config.mutate(Point::Saved, |w| w.dlse.fill(0.0)))
    }
    /// The cotangent of `lse` has the other sign.
    ["43"] [Dq, Dk, Dbias, Dsink]
    fn dlse_sign(config) {
        config.problem.inputs().dlse.as_ref()?;
        Some(config.mutate(Point::Saved, |w| w.dlse.iter_mut().for_each(|x| *x = -*x)))
    }
    /// The cotangent of `lse` is multiplied by the scale.
    [] [Dq, Dk, Dbias, Dsink]
    fn dlse_scaled(config) {
        config.problem.inputs().dlse.as_ref()?;
        Some(config.mutate(Point::Saved, |w| w.dlse.iter_mut().for_each(|x| *x *= w.scale)))
    }
    /// The cotangent of `lse` is that of the previous query.
    [] [Dq, Dk, Dbias, Dsink]
    fn dlse_of_previous_query(config) {
        config.problem.inputs().dlse.as_ref()?;
        Some(config.mutate(Point::Saved, |w| {
            let dlse = w.dlse.clone();
            w.rows().filter(|(_, row)| row.i > 0).for_each(|(n, _)| w.dlse[n] = dlse[n - 1]);
        }))
    }
}
