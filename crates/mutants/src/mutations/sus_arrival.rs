//! Kernels that draw their mask in one pass, from points that many keys share (layout `arrival`).

use super::{BugType, define_kernels, only_if};
use crate::RunConfig;
use crate::simulated_kernel::{Point, State, WordPlace};
use sus_reference::sus::uniform::Uniforms;
use sus_reference::sus::{Layout, Rule, Sampler};

/// `2^32`.
const GRID: f64 = 4_294_967_296.0;

/// `1 - U` where the high strip begins (docs/arrival.md).
const HIGH_START: f64 = 0.933_285_654_329_679_6;

/// Keys of a cell of the middle strip.
const CELL: usize = 64;

/// An independent draw from the words of `arrival`.
fn arrival(config: &RunConfig<'_>) -> Option<()> {
    let draw = config.draw?;
    only_if(draw.layout == Layout::Arrival && draw.sampler == Sampler::Bernoulli)
}

/// The words of `coord4`, of which the high strip is made.
fn coord4(w: &State<'_>) -> Uniforms {
    let u = w.uniforms();
    Uniforms::new(u.seed(), u.stream(), Layout::Coord4, u.grid()).expect("a small grid")
}

define_kernels! { Some(BugType::SusMasks);
    /// Layout `arrival`: the counter has no number of the cell, so that all cells of a row have the points of the first.
    [] [Dq, Dk, Dv, Dbias]
    fn cells_share_points(config) {
        arrival(config)?;
        only_if(config.sizes().keys > CELL)?;
        Some(config.mutate(Point::Drawn, |w| {
            let (uniforms, own) = (w.uniforms(), coord4(w));
            let high = |x: u32| ((1.0 - (f64::from(x) + 0.5) / GRID * HIGH_START) * GRID) as u32;
            w.draw_with(|words| {
                let first = WordPlace { j: words.j.map(|j| j % CELL), ..words }.of(&uniforms);
                if f64::from(first) < (1.0 - HIGH_START) * GRID { first } else { high(words.of(&own)) }
            }, None);
            w.spread();
        }))
    }
    /// Layout `arrival`: the height of a point is compared with `q`, not with `-ln(1 - q)`.
    [] [Dq, Dk, Dv, Dbias]
    fn height_below_q(config) {
        arrival(config)?;
        Some(config.mutate(Point::Drawn, |w| {
            let uniforms = w.uniforms();
            w.draw_with(|words| words.of(&uniforms), Some(|q, x| q >= 1.0 || -libm::log1p(-f64::from(x) / GRID) < q));
            w.spread();
        }))
    }
    /// The mask is what the forward pass finds while it runs, with the sum of the tiles of 16 keys so far: no decision at the end of the row.
    [] [Dq, Dk, Dv, Dbias]
    fn decided_by_running_sum(config) {
        let draw = *config.draw?;
        only_if(draw.rule == Rule::Paper && draw.sampler == Sampler::Bernoulli && draw.c.get().is_finite())?;
        only_if(config.sizes().keys > 16)?;
        Some(config.mutate(Point::Drawn, |w| {
            let uniforms = w.uniforms();
            w.draw_full(|words| words.of(&uniforms), None, |state, _, p| {
                let c = draw.c.get();
                let later = |n: usize| p.iter().skip((n / 16 + 1) * 16).sum::<f64>();
                let so_far = |n: usize| (1.0 - later(n)).max(p[n]);
                (c, p.iter().enumerate().map(|(n, &w)| if w > 0.0 { state.keep(c, w / so_far(n)) } else { 0.0 }).collect())
            });
            w.spread();
        }))
    }
}
