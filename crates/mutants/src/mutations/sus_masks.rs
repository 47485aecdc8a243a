//! The masks of SUS: words, decisions, compaction; one mask for all gradients.

use super::{BugType, define_kernels, only_if};
use crate::RunConfig;
use crate::simulated_kernel::{Point, State, WordPlace};
use sus_reference::sus::uniform::{Grid, Uniforms};
use sus_reference::sus::{Layout, Sampler};

/// The mask drawn with other words for all gradients.
fn with_words(w: &mut State<'_>, word: impl Fn(&Uniforms, WordPlace) -> u32) {
    let uniforms = w.uniforms();
    w.draw_with(|words| word(&uniforms, words), None);
    w.spread();
}

/// The mask drawn with another decision.
fn decided_by(w: &mut State<'_>, decide: fn(f64, u32) -> bool) {
    let uniforms = w.uniforms();
    w.draw_with(|words| words.of(&uniforms), Some(decide));
    w.spread();
}

/// The words of the transposed entry `(j, i)`.
fn transposed(uniforms: &Uniforms, words: WordPlace) -> u32 {
    let WordPlace { i, j, .. } = words;
    WordPlace { i: j.unwrap_or(0), j: j.map(|_| i), ..words }.of(uniforms)
}

/// A draw whose entries are independent.
fn bernoulli(config: &RunConfig<'_>) -> Option<()> {
    only_if(config.draw?.sampler == Sampler::Bernoulli)
}

/// The stream after this one; the first one after the last.
fn after(stream: u32) -> u32 {
    (stream + 1) % (1 << 31)
}

define_kernels! { Some(BugType::SusMasks);
    /// The word of entry `(i, j)` is that of `(j, i)` in every gradient.
    ["44", "s7"] [Dq, Dk, Dv, Dbias]
    fn words_transposed(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, transposed)))
    }
    /// The kernel of `dk` and `dv` swaps its loops and keys the words by `(j, i)`; that of `dq` does not.
    ["44", "s7"] [Dk, Dv]
    fn key_gradients_keyed_transposed(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| {
            let (wq, sample) = (w.wq.clone(), w.sample.clone());
            with_words(w, transposed);
            (w.wq, w.sample) = (wq, sample);
        }))
    }
    /// All heads share the words of the first.
    ["45", "s8"] [Dq, Dk, Dv, Dbias]
    fn heads_share_words(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { h: 0, ..words }.of(u))))
    }
    /// All sequences of the batch share the words of the first.
    ["45", "s8"] [Dq, Dk, Dv, Dbias]
    fn batch_shares_words(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { b: 0, ..words }.of(u))))
    }
    /// All rows share the words of the first.
    ["46", "s8"] [Dq, Dk, Dv, Dbias]
    fn rows_share_words(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { i: 0, ..words }.of(u))))
    }
    /// Words are numbered by key head: a group shares them.
    ["45", "s8"] [Dq, Dk, Dv, Dbias]
    fn group_shares_words(config) {
        config.draw?;
        let group = config.problem.group();
        only_if(group > 1)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { h: words.h / group, ..words }.of(u))))
    }
    /// The stream, which numbers layers and steps, is ignored.
    ["46", "s8"] [Dq, Dk, Dv, Dbias]
    fn stream_ignored(config) {
        only_if(config.draw?.stream != 0)?;
        Some(config.mutate(Point::Drawn, |w| {
            let other = w.uniforms_of(w.uniforms().seed(), 0);
            with_words(w, |_, words| words.of(&other));
        }))
    }
    /// The seed's upper half is dropped.
    ["45"] [Dq, Dk, Dv, Dbias]
    fn seed_cut_to_32_bits(config) {
        let seed = config.draw?.seed;
        only_if(seed > u64::from(u32::MAX))?;
        Some(config.mutate(Point::Drawn, |w| {
            let other = w.uniforms_of(seed & u64::from(u32::MAX), w.uniforms().stream());
            with_words(w, |_, words| words.of(&other));
        }))
    }
    /// The seed is a constant: every call draws the same mask.
    ["46"] [Dq, Dk, Dv, Dbias]
    fn seed_constant(config) {
        only_if(config.draw?.seed != 0)?;
        Some(config.mutate(Point::Drawn, |w| {
            let other = w.uniforms_of(0, w.uniforms().stream());
            with_words(w, |_, words| words.of(&other));
        }))
    }
    /// The offset `i Nk + j` wraps; here at 256, as 32 bits do in long sequences.
    ["45", "s9"] [Dq, Dk, Dv, Dbias]
    fn word_offset_wraps(config) {
        let keys = config.sizes().keys;
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| {
            let at = (words.i * keys + words.j.unwrap_or(0)) % 256;
            WordPlace { i: at / keys, j: Some(at % keys), ..words }.of(u)
        })))
    }
    /// Rows are padded to a multiple of 16 keys in the offset of a linear layout.
    ["8", "45"] [Dq, Dk, Dv, Dbias]
    fn words_of_padded_rows(config) {
        let layout = config.draw?.layout;
        let keys = config.sizes().keys;
        only_if(!matches!(layout, Layout::Coord4 | Layout::Arrival) && !keys.is_multiple_of(16))?;
        Some(config.mutate(Point::Drawn, |w| {
            let u = w.uniforms();
            let grid = Grid { keys: keys.next_multiple_of(16), ..u.grid() };
            let padded = Uniforms::new(u.seed(), u.stream(), layout, grid).expect("a small grid");
            with_words(w, |_, words| words.of(&padded));
        }))
    }
    /// Words are numbered by the position within a tile of 16 keys.
    ["46"] [Dq, Dk, Dv, Dbias]
    fn words_by_position_in_tile(config) {
        bernoulli(config)?;
        only_if(config.sizes().keys > 16)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { j: words.j.map(|j| j % 16), ..words }.of(u))))
    }
    /// Packed sequences: positions count from the start of the pack.
    ["45"] [Dq, Dk, Dv, Dbias]
    fn words_by_position_in_pack(config) {
        config.draw?;
        let segments = config.problem.options().segments.as_ref()?;
        let count = segments.queries.len() - 1;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| {
            let segment = words.b % count;
            let (i, first) = (words.i + segments.queries[segment], segments.keys[segment]);
            WordPlace { b: words.b / count, i, j: words.j.map(|j| j + first), ..words }.of(u)
        })))
    }
    /// The four words of a block are handed out in the opposite order.
    ["46"] [Dq, Dk, Dv, Dbias]
    fn words_of_block_reversed(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { j: words.j.map(|j| j ^ 3), ..words }.of(u))))
    }
    /// A mask for each gradient: `dq` as it should be, `dk` and `dv` from the next stream.
    ["47"] [Dk, Dv]
    fn fresh_mask_for_key_gradients(config) {
        let stream = config.draw?.stream;
        Some(config.mutate(Point::Drawn, |w| {
            let (wq, sample) = (w.wq.clone(), w.sample.clone());
            let other = w.uniforms_of(w.uniforms().seed(), after(stream));
            with_words(w, |_, words| words.of(&other));
            (w.wq, w.sample) = (wq, sample);
        }))
    }
    /// A mask for each tile of value features: the later columns of `dv` use another.
    ["s13"] [Dv]
    fn fresh_mask_per_value_tile(config) {
        let stream = config.draw?.stream;
        let half = config.sizes().value_features.div_ceil(2);
        let other = config.mutate(Point::Drawn, |w| {
            let other = w.uniforms_of(w.uniforms().seed(), after(stream));
            with_words(w, |_, words| words.of(&other));
        });
        let sus_files::tensor_file::Numbers::Float(other) = &other.arrays.get("dv")?.numbers else { return None };
        Some(config.mutate(Point::Stored, |w| {
            let features = w.sizes.value_features;
            for (at, x) in w.dv.as_mut_slice().iter_mut().enumerate().filter(|(at, _)| at % features >= half) {
                *x = other[at];
            }
        }))
    }
    /// The backward pass recomputes the mask with the state that the generator has after the first one.
    ["47"] [Dq, Dk, Dv, Dbias]
    fn mask_of_next_stream(config) {
        let stream = config.draw?.stream;
        Some(config.mutate(Point::Drawn, |w| {
            let other = w.uniforms_of(w.uniforms().seed(), after(stream));
            with_words(w, |_, words| words.of(&other));
        }))
    }
    /// Eight bits of the word are compared with `floor(256 q)`: below 1/256 nothing is ever kept.
    ["s6"] [Dq, Dk, Dv, Dbias]
    fn threshold_of_8_bits(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| q >= 1.0 || f64::from(x >> 24) < (q * 256.0).floor())))
    }
    /// Sixteen bits of the word are compared with a rounded `65536 q`.
    ["s6", "s15"] [Dq, Dk, Dv, Dbias]
    fn threshold_of_16_bits(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| q >= 1.0 || f64::from(x >> 16) < (q * 65536.0).round())))
    }
    /// The uniform is the word's upper 24 bits, cut: what lies between is kept too often.
    ["s15"] [Dq, Dk, Dv, Dbias]
    fn uniform_of_24_bits(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| q >= 1.0 || f64::from(x >> 8) < q * 16_777_216.0)))
    }
    /// The uniform is a float made from the word, in `[0, 1]` with both ends.
    ["s6", "s15"] [Dq, Dk, Dv, Dbias]
    fn uniform_as_float(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| x as f32 * 2.0_f32.powi(-32) <= q as f32)))
    }
    /// Kept where the word is `<= q 2^32`, not below it.
    ["s6"] [Dq, Dk, Dv, Dbias]
    fn equal_word_is_kept(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| f64::from(x) <= q * 4_294_967_296.0)))
    }
    /// The word is read as a signed integer: half of the words are below every threshold.
    ["s15"] [Dq, Dk, Dv, Dbias]
    fn word_is_signed(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| q >= 1.0 || f64::from(x.cast_signed()) < q * 4_294_967_296.0)))
    }
    /// Kept and dropped are mixed up, but for what is always kept.
    [] [Dq, Dk, Dv, Dbias]
    fn decision_inverted(config) {
        bernoulli(config)?;
        Some(config.mutate(Point::Drawn, |w| decided_by(w, |q, x| q >= 1.0 || f64::from(x) >= q * 4_294_967_296.0)))
    }
    /// Masked keys are sampled with the first `q` of the row, and count as `1 / c`.
    ["s10", "41"] [Dq, Dk, Dv, Dbias]
    fn masked_keys_sampled(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let sample = w.sample.clone().expect("a drawn mask");
            let uniforms = w.uniforms();
            for (at, n, row, j) in w.entries() {
                let q = (sample.lambda[n] * w.unmasked_weight(at, w.lse[n])).min(1.0);
                let word = WordPlace { b: row.b, h: row.h, i: row.i, j: Some(j) }.of(&uniforms);
                if !w.seen[at] && w.lse[n].is_finite() && sus_reference::sus::uniform::keep32(q, word) {
                    let kept = w.unmasked_weight(at, w.lse[n]).max(1.0 / sample.lambda[n]);
                    (w.wq[at], w.wk[at], w.wv[at]) = (kept, kept, kept);
                }
            }
        }))
    }
    /// The last kept key of every row is lost in the compaction.
    ["s14"] [Dq, Dk, Dv, Dbias]
    fn last_kept_key_lost(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            w.keep_instead(|_, kept| kept[..kept.len().saturating_sub(1)].to_vec());
            w.spread();
        }))
    }
    /// The first kept key of every row is lost in the compaction.
    ["s14"] [Dq, Dk, Dv, Dbias]
    fn first_kept_key_lost(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            w.keep_instead(|_, kept| kept.get(1..).unwrap_or(&[]).to_vec());
            w.spread();
        }))
    }
    /// A kept key at the start of a tile of 8 is inserted twice.
    ["42", "s14"] [Dq, Dk, Dv, Dbias]
    fn kept_key_twice_at_tile_edge(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            for (at, _, _, j) in w.entries().filter(|&(_, _, _, j)| j > 0 && j % 8 == 0) {
                let _ = j;
                for matrix in [&mut w.wq, &mut w.wk, &mut w.wv] {
                    matrix[at] *= 2.0;
                }
            }
        }))
    }
    /// A row has room for `floor(c)` keys: what is kept beyond is dropped.
    ["s14"] [Dq, Dk, Dv, Dbias]
    fn row_has_room_for_c(config) {
        let room = config.draw?.c.get() as usize;
        Some(config.mutate(Point::Drawn, |w| {
            w.keep_instead(|_, kept| kept[..kept.len().min(room)].to_vec());
            w.spread();
        }))
    }
    /// The kept keys of a tile of 16 queries are those of its first row.
    ["42"] [Dq, Dk, Dv, Dbias]
    fn mask_of_first_row_of_tile(config) {
        config.draw?;
        Some(config.mutate(Point::Drawn, |w| {
            let sample = w.sample.clone().expect("a drawn mask");
            let (queries, keys, seen) = (w.sizes.queries, w.sizes.keys, w.seen.clone());
            w.keep_instead(|n, _| {
                let first = n - n % queries % 16;
                sample.pattern.row(first).iter().copied().filter(|&j| seen[n * keys + j as usize]).collect()
            });
            w.spread();
        }))
    }
    /// Systematic sampling with one uniform for a whole head.
    ["46"] [Dq, Dk, Dv, Dbias]
    fn one_uniform_per_head(config) {
        only_if(config.draw?.sampler == Sampler::Systematic)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { i: 0, ..words }.of(u))))
    }
    /// Systematic sampling that starts every row at 1/2.
    [] [Dq, Dk, Dv, Dbias]
    fn uniform_is_one_half(config) {
        only_if(config.draw?.sampler == Sampler::Systematic)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |_, _| 1 << 31)))
    }
    /// Systematic sampling with the word of key 0 of the ordinary stream.
    ["46"] [Dq, Dk, Dv, Dbias]
    fn row_uniform_of_first_key(config) {
        only_if(config.draw?.sampler == Sampler::Systematic)?;
        Some(config.mutate(Point::Drawn, |w| with_words(w, |u, words| WordPlace { j: Some(0), ..words }.of(u))))
    }
    /// Independent draws where the sampler is systematic, or the other way about.
    [] [Dq, Dk, Dv, Dbias]
    fn other_sampler(config) {
        let draw = *config.draw?;
        let sampler = if draw.sampler == Sampler::Bernoulli { Sampler::Systematic } else { Sampler::Bernoulli };
        let other = draw.with_sampler(sampler).with_bits(sus_reference::sus::UniformBits::Bits32);
        Some(RunConfig::new(config.problem, config.arithmetic, Some(&other)).mutate(Point::Stored, |_| {}))
    }
}
