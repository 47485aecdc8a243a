//! What is accepted: names, streams, sizes, coordinates.

use std::panic::catch_unwind;
use sus_oracle::sus::uniform::{Grid, Layout, UniformError, Uniforms};

const fn grid(batch: usize, heads: usize, queries: usize, keys: usize) -> Grid {
    Grid { batch, heads, queries, keys }
}

fn error(stream: u32, layout: Layout, grid: Grid) -> UniformError {
    Uniforms::new(0, stream, layout, grid).expect_err("too large")
}

#[test]
fn a_layout_is_read_back_from_its_name() {
    for (layout, name) in Layout::ALL.iter().zip(["coord4", "linear4", "linear1", "jax-threefry"]) {
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
        let expected = "layout: expected coord4, linear4, linear1 or jax-threefry, found ";
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
    use Layout::{Coord4, JaxThreefry, Linear1, Linear4};
    let (heads, queries) = ((1 << 16) + 1, (1 << 32) + 1);
    let over = |layout, factors| UniformError::Offsets { layout, factors };
    let cases = [
        (Coord4, grid(1 << 16, 1 << 16, 1 << 32, 1 << 34), None),
        (
            Coord4,
            grid(1 << 16, heads, 1, 1),
            Some(UniformError::Heads { found: (1 << 32) + (1 << 16) }),
        ),
        (
            Coord4,
            grid(1, usize::MAX, 1, 1),
            Some(UniformError::Heads { found: u128::from(u64::MAX) }),
        ),
        (Coord4, grid(1, 1, queries, 1), Some(UniformError::Queries { found: (1 << 32) + 1 })),
        (Coord4, grid(1, 1, 1, (1 << 34) + 1), Some(UniformError::Keys { found: (1 << 34) + 1 })),
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
fn the_last_weight_of_the_largest_grid_has_a_word_of_its_own() {
    let last = grid(1, 1, 1 << 32, 1 << 32);
    for layout in [Layout::Linear1, Layout::JaxThreefry] {
        let words = Uniforms::new(5, 0, layout, last).expect("exactly 2^64 offsets");
        let mut row = [0; 2];
        words.row_words(0, 0, (1 << 32) - 1, (1 << 32) - 2, &mut row);
        assert_eq!(row[1], words.word(0, 0, (1 << 32) - 1, (1 << 32) - 1));
        assert_ne!(row[0], row[1]);
    }
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
    for layout in Layout::ALL {
        let words = Uniforms::new(0, 0, layout, grid(2, 3, 4, 5)).expect("a small grid");
        let inside = [1, 2, 3, 4];
        let _ = words.word(1, 2, 3, 4);
        for axis in 0..4 {
            let mut outside = inside;
            outside[axis] += 1;
            let [b, h, i, j] = outside;
            let first = catch_unwind(|| words.word(b, h, i, j));
            let second = catch_unwind(|| words.second_word(b, h, i, j));
            let row = catch_unwind(|| words.row_words(b, h, i, 4, &mut [0; 2]));
            let message = if axis < 3 {
                format!("row (b, h, i): expected below (2, 3, 4), found ({b}, {h}, {i})")
            } else {
                "keys: expected at most 5, found 1 from 5 on".to_owned()
            };
            for panic in [first.expect_err("outside"), second.expect_err("outside")] {
                assert_eq!(panic.downcast_ref::<String>(), Some(&message));
            }
            row.expect_err("outside");
            assert_eq!(catch_unwind(|| words.row_word(b, h, i)).is_err(), axis < 3);
        }
    }
}
