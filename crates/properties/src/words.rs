//! Properties of the random words and of the decisions made from them.

use sus_reference::sus::uniform::{
    Grid, Layout, Uniforms, keep32, keep64, philox4x32_10, threefry2x32,
};

/// The anchors of the specification, and known answers of Random123.
pub(super) fn anchors() -> Result<String, String> {
    let grid = Grid { batch: 1, heads: 4, queries: 32, keys: 32 };
    let uniforms = Uniforms::new(42, 0, Layout::Coord4, grid).map_err(|e| e.to_string())?;
    let mut words = [0; 4];
    uniforms.row_words(0, 0, 0, 0, &mut words);
    let zeros = philox4x32_10([0; 4], [0; 2]);
    let ones = philox4x32_10([u32::MAX; 4], [u32::MAX; 2]);
    let right = words == [0x9cea_f053, 0x77f5_493b, 0x12bf_50ad, 0x5742_b3d7]
        && uniforms.word(0, 3, 17, 6) == 0x5bd2_4d90
        && zeros == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        && ones == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        && threefry2x32([0, 0], [0, 0], 20) == [0x6b20_0159, 0x99ba_4efe];
    if right { Ok("5 known answers".into()) } else { Err(format!("found {words:08x?}")) }
}

/// The words of a row at once are those of its weights one at a time, in every layout.
pub(super) fn words_of_rows() -> Result<String, String> {
    let grid = Grid { batch: 2, heads: 3, queries: 5, keys: 13 };
    for layout in Layout::ALL {
        let uniforms = Uniforms::new(7, 3, layout, grid).map_err(|e| e.to_string())?;
        for first in 0..13 {
            let mut words = vec![0; 13 - first];
            uniforms.row_words(1, 2, 4, first, &mut words);
            if (first..13).any(|j| words[j - first] != uniforms.word(1, 2, 4, j)) {
                return Err(format!("{layout}: from key {first} on"));
            }
        }
    }
    Ok(format!("{} layouts, from every key on", Layout::ALL.len()))
}

/// The number of words that keep is `ceil(q 2^32)`: checked at the last word that keeps and the first that does not.
pub(super) fn decisions() -> Result<String, String> {
    let probabilities =
        [0.5, 0.3, 1.0 / 3.0, 2.0_f64.powi(-32), 1e-12, 0.999_999_999_9, 0.25 + 2.0_f64.powi(-40)];
    for q in probabilities {
        let threshold = q * 4_294_967_296.0;
        let words = libm::ceil(threshold);
        let last = (words - 1.0) as u32;
        let first_dropped = if words < 4_294_967_296.0 { !keep32(q, words as u32) } else { true };
        let excess = words - threshold;
        if !keep32(q, last) || !first_dropped || !(0.0..1.0).contains(&excess) {
            return Err(format!("q = {q:e}: last word {last}"));
        }
        let floor = threshold as u32;
        let fraction = (threshold - f64::from(floor)) * 4_294_967_296.0;
        let seconds = libm::ceil(fraction);
        let kept = seconds == 0.0 || keep64(q, floor, || (seconds - 1.0) as u32);
        let dropped = seconds >= 4_294_967_296.0 || !keep64(q, floor, || seconds as u32);
        if !kept || !dropped {
            return Err(format!("q = {q:e} with a second word"));
        }
    }
    Ok(format!("{} thresholds, both sides of each", probabilities.len()))
}
