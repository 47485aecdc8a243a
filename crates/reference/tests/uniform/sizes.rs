//! What is accepted: names, streams, sizes, coordinates.

use std::panic::catch_unwind;
use sus_reference::sus::uniform::{
    Grid, Layout, UniformError, Uniforms, philox4x32_10, threefry2x32,
};

const fn grid(batch: usize, heads: usize, queries: usize, keys: usize) -> Grid {
    Grid { batch, heads, queries, keys }
}

fn error(stream: u32, layout: Layout, grid: Grid) -> UniformError {
    Uniforms::new(0, stream, layout, grid).expect_err("too large")
}

#[test]
fn a_layout_is_read_back_from_its_name() {
    let names = ["coord4", "linear4", "linear1", "jax-threefry", "arrival"];
    for (layout, name) in Layout::ALL.iter().zip(names) {
        assert_eq!(layout.to_string(), name);
        assert_eq!(name.parse(), Ok(*layout));
    }
    assert_eq!(Layout::default(), Layout::Coord4);
}

#[test]
fn an_unknown_layout_is_an_error_that_lists_the_known_ones() {
    for name in ["", "Coord4", "coord4 ", "jax"] {
        let error = name.parse::<Layout>().expect_err("unknown");
        assert_eq!(error, UniformError::Layout { found: name.to_owned() });
        let expected = "layout: expected coord4, linear4, linear1, jax-threefry or arrival, found ";
        assert_eq!(error.to_string(), format!("{expected}{name:?}"));
    }
}

#[test]
fn a_stream_has_31_bits() {
    for layout in Layout::ALL {
        let largest = Uniforms::new(u64::MAX, (1 << 31) - 1, layout, grid(1, 1, 1, 1));
        assert_eq!(largest.map(|words| words.stream()), Ok((1 << 31) - 1));
        let error = error(1 << 31, layout, grid(1, 1, 1, 1));
        assert_eq!(error, UniformError::Stream { found: 1 << 31 });
        assert_eq!(error.to_string(), "stream: expected below 2^31, found 2147483648");
    }
}

/// The largest grids of each layout, and why one more of something is an error.
#[test]
fn the_largest_grids_are_accepted_and_anything_larger_is_not() {
    use Layout::{Arrival, Coord4, JaxThreefry, Linear1, Linear4};
    let (heads, queries) = ((1 << 16) + 1, (1 << 32) + 1);
    let over = |layout: Layout, factors| UniformError::Offsets { layout: layout.name(), factors };
    let cases = [
        (Coord4, grid(1 << 16, 1 << 16, 1 << 32, 1 << 34), None),
        (
            Coord4,
            grid(1 << 16, heads, 1, 1),
            Some(UniformError::Heads { layout: "coord4", found: (1 << 32) + (1 << 16) }),
        ),
        (
            Coord4,
            grid(1, usize::MAX, 1, 1),
            Some(UniformError::Heads { layout: "coord4", found: u128::from(u64::MAX) }),
        ),
        (
            Coord4,
            grid(1, 1, queries, 1),
            Some(UniformError::Queries { layout: "coord4", found: (1 << 32) + 1 }),
        ),
        (
            Coord4,
            grid(1, 1, 1, (1 << 34) + 1),
            Some(UniformError::Keys { layout: "coord4", log2: 34, found: (1 << 34) + 1 }),
        ),
        (Arrival, grid(1 << 16, 1 << 16, 1 << 32, 1 << 32), None),
        (
            Arrival,
            grid(1, 1, 1, (1 << 32) + 1),
            Some(UniformError::Keys { layout: "arrival", log2: 32, found: (1 << 32) + 1 }),
        ),
        (Linear4, grid(1 << 5, 1 << 9, 1 << 25, 1 << 27), None),
        (Linear4, grid(1, 1, 1 << 32, (1 << 34) - 3), None),
        (
            Linear4,
            grid(1, 1, 1 << 32, (1 << 34) + 1),
            Some(over(Linear4, [1, 1, 1 << 32, (1 << 32) + 1])),
        ),
        (Linear1, grid(1, 1, 1 << 32, 1 << 32), None),
        (
            Linear1,
            grid(1, 1, 1 << 32, (1 << 32) + 1),
            Some(over(Linear1, [1, 1, 1 << 32, (1 << 32) + 1])),
        ),
        (JaxThreefry, grid(2, 1 << 31, 1 << 16, 1 << 16), None),
        (
            JaxThreefry,
            grid(3, 1 << 31, 1 << 16, 1 << 16),
            Some(over(JaxThreefry, [3, 1 << 31, 1 << 16, 1 << 16])),
        ),
        (
            Linear1,
            grid(usize::MAX, usize::MAX, usize::MAX, 1),
            Some(over(
                Linear1,
                [u128::from(u64::MAX), u128::from(u64::MAX), u128::from(u64::MAX), 1],
            )),
        ),
        (Linear1, grid(1 << 63, 1 << 63, 4, 1), Some(over(Linear1, [1 << 63, 1 << 63, 4, 1]))),
        (Linear1, grid(2, usize::MAX, 1, 0), Some(over(Linear1, [2, u128::from(u64::MAX), 1, 1]))),
    ];
    for (layout, grid, expected) in cases {
        assert_eq!(Uniforms::new(0, 0, layout, grid).err(), expected, "{layout} {grid:?}");
    }
}

#[test]
fn an_error_names_the_size_and_what_was_expected() {
    let cases = [
        (
            error(0, Layout::Coord4, grid(1 << 31, 3, 1, 1)),
            "batch * heads: expected at most 2^32 in layout coord4, found 6442450944",
        ),
        (
            error(0, Layout::Coord4, grid(1, 1, 1 << 33, 1)),
            "queries: expected at most 2^32 in layout coord4, found 8589934592",
        ),
        (
            error(0, Layout::Coord4, grid(1, 1, 1, 1 << 35)),
            "keys: expected at most 2^34 in layout coord4, found 34359738368",
        ),
        (
            error(0, Layout::Linear4, grid(2, 3, 1 << 62, 6)),
            "batch * heads * queries * blocks of keys: expected at most 2^64 in layout linear4, \
             found 2 * 3 * 4611686018427387904 * 2",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_last_weight_of_the_largest_grid_has_the_last_counter() {
    let words = |layout| Uniforms::new(5, 0, layout, grid(1, 1, 1 << 32, 1 << 32)).expect("fits");
    let last = (1 << 32) - 1;
    let [x0, x1] = threefry2x32([u32::MAX, u32::MAX], [0, 5], 20);
    assert_eq!(words(Layout::JaxThreefry).word(0, 0, last, last), x0 ^ x1);
    let [first, ..] = philox4x32_10([u32::MAX, u32::MAX, 0, 0], [5, 0]);
    assert_eq!(words(Layout::Linear1).word(0, 0, last, last), first);
    // The last block of the high strip has 30 bits, and no tag.
    let [.., word] = philox4x32_10([u32::MAX >> 2, u32::MAX, 0, 0], [5, 0]);
    let high = 1.0 - 0.933_285_654_329_679_6 * (f64::from(word) + 0.5) / 4_294_967_296.0;
    let low = words(Layout::Arrival).word(0, 0, last, last);
    assert!(low == (high * 4_294_967_296.0) as u32 || low < 0x1114_30fe, "{low:x}");
    let mut row = [0; 2];
    words(Layout::Linear1).row_words(0, 0, last, last - 1, &mut row);
    assert_eq!(row[1], first);
}

#[test]
fn offsets_above_32_bits_carry_into_the_high_word() {
    let grid = grid(1, 1, 1 << 20, 1 << 20);
    let (i, j) = (0xabcde, 0x12345);
    let (high, low) = (0xab, 0xcde1_2345); // i 2^20 + j
    let jax = Uniforms::new(5, 0, Layout::JaxThreefry, grid).expect("fits");
    let [x0, x1] = threefry2x32([high, low], [0, 5], 20);
    assert_eq!(jax.word(0, 0, i, j), x0 ^ x1);
    let linear = Uniforms::new(5, 0, Layout::Linear1, grid).expect("fits");
    assert_eq!(linear.word(0, 0, i, j), philox4x32_10([low, high, 0, 0], [5, 0])[0]);
}

#[test]
fn empty_grids_are_legal_and_a_row_without_keys_has_a_row_word() {
    for layout in Layout::ALL {
        for empty in [grid(0, 2, 3, 4), grid(1, 0, 3, 4), grid(1, 2, 0, 4), grid(1, 2, 3, 0)] {
            let words = Uniforms::new(1, 0, layout, empty).expect("nothing to tell apart");
            assert_eq!((words.grid(), words.layout(), words.seed()), (empty, layout, 1));
        }
        let words = Uniforms::new(1, 0, layout, grid(1, 1, 1, 0)).expect("nothing to tell apart");
        words.row_words(0, 0, 0, 0, &mut []);
        let same = Uniforms::new(1, 0, layout, grid(1, 1, 1, 9)).expect("a small grid");
        assert_eq!(words.row_word(0, 0, 0), same.row_word(0, 0, 0));
    }
}

#[test]
fn a_coordinate_outside_the_grid_panics_with_what_was_expected() {
    let message = |found: &(dyn std::any::Any + Send)| found.downcast_ref::<String>().cloned();
    for layout in Layout::ALL {
        let words = Uniforms::new(0, 0, layout, grid(2, 3, 4, 5)).expect("a small grid");
        let _ = words.word(1, 2, 3, 4);
        for [b, h, i] in [[2, 2, 3], [1, 3, 3], [1, 2, 4]] {
            let expected =
                format!("row (b, h, i): expected below (2, 3, 4), found ({b}, {h}, {i})");
            let panics = [
                catch_unwind(|| _ = words.word(b, h, i, 4)),
                catch_unwind(|| _ = words.second_word(b, h, i, 4)),
                catch_unwind(|| _ = words.row_word(b, h, i)),
                catch_unwind(|| words.row_words(b, h, i, 4, &mut [0])),
            ];
            for panic in panics {
                assert_eq!(message(&*panic.expect_err("outside")).as_ref(), Some(&expected));
            }
        }
        for (first, count) in [(5, 1), (7, 1), (usize::MAX, 1), (3, 3), (0, 6)] {
            let expected = format!("keys: expected at most 5, found {count} from {first} on");
            let mut panics =
                vec![catch_unwind(|| words.row_words(1, 2, 3, first, &mut vec![0; count]))];
            if count == 1 {
                panics.push(catch_unwind(|| _ = words.word(1, 2, 3, first)));
                panics.push(catch_unwind(|| _ = words.second_word(1, 2, 3, first)));
            }
            for panic in panics {
                assert_eq!(message(&*panic.expect_err("outside")).as_ref(), Some(&expected));
            }
        }
    }
}
