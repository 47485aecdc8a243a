//! The mask: each visible range against the inequality that defines it, on all pairs.

use sus_reference::mask::{Alignment, Mask, Place, Segments, Window};

/// Whether query `i` sees key `j`, from the definition: alignment, causality and window within one sequence.
fn sees(
    (queries, keys): (i64, i64),
    (causal, alignment, window): (bool, Alignment, Option<Window>),
    (i, j): (i64, i64),
) -> bool {
    let diagonal = match alignment {
        Alignment::BottomRight => i + keys - queries,
        Alignment::TopLeft => i,
    };
    let within = |end: Option<u64>, distance: i64| end.is_none_or(|end| distance <= end as i64);
    (!causal || j <= diagonal)
        && window.is_none_or(|w| within(w.left, diagonal - j) && within(w.right, j - diagonal))
}

fn windows() -> Vec<Option<Window>> {
    let ends = [None, Some(0), Some(1), Some(3)];
    let pairs = ends.iter().flat_map(|&left| ends.map(|right| Some(Window { left, right })));
    std::iter::once(None).chain(pairs).collect()
}

#[test]
fn the_visible_range_is_the_set_of_keys_that_the_inequalities_admit() {
    for (queries, keys) in (0..6).flat_map(|nq| (0..6).map(move |nk| (nq, nk))) {
        for alignment in [Alignment::BottomRight, Alignment::TopLeft] {
            for (causal, window) in
                [false, true].into_iter().flat_map(|c| windows().into_iter().map(move |w| (c, w)))
            {
                let mask = Mask::new(queries, keys, causal, alignment, window, None).unwrap();
                for i in 0..queries {
                    let visible = mask.span(0, i);
                    for j in 0..keys {
                        let sizes = (queries as i64, keys as i64);
                        let expected =
                            sees(sizes, (causal, alignment, window), (i as i64, j as i64));
                        assert_eq!(
                            visible.contains(&j),
                            expected,
                            "query {i} of {queries}, key {j} of {keys}, {causal} {alignment} {window:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn packed_queries_see_only_their_own_segment_and_align_within_it() {
    let segments = Segments { queries: vec![0, 2, 2, 5, 6], keys: vec![0, 3, 5, 7, 7] };
    for alignment in [Alignment::BottomRight, Alignment::TopLeft] {
        for (causal, window) in
            [false, true].into_iter().flat_map(|c| windows().into_iter().map(move |w| (c, w)))
        {
            let mask = Mask::new(6, 7, causal, alignment, window, Some(segments.clone())).unwrap();
            assert_eq!(mask.segment_count(), 4);
            for i in 0..6 {
                let s = [0, 0, 2, 2, 2, 3][i];
                let (q0, k0) = (segments.queries[s], segments.keys[s]);
                assert_eq!(mask.place(i), Place { segment: s, query: i - q0, first_key: k0 });
                let sizes =
                    ((segments.queries[s + 1] - q0) as i64, (segments.keys[s + 1] - k0) as i64);
                for j in 0..7 {
                    let inside = j >= k0 && j < segments.keys[s + 1];
                    let local = ((i - q0) as i64, j as i64 - k0 as i64);
                    let expected = inside && sees(sizes, (causal, alignment, window), local);
                    assert_eq!(mask.span(0, i).contains(&j), expected, "query {i}, key {j}");
                }
            }
        }
    }
}

#[test]
fn a_window_as_wide_as_a_number_can_be_hides_nothing() {
    let widest = Window { left: Some(u64::MAX), right: Some(u64::MAX) };
    let mask = Mask::new(4, 9, false, Alignment::BottomRight, Some(widest), None).unwrap();
    assert!((0..4).all(|i| mask.span(0, i) == (0..9)));
}

#[test]
fn segments_that_are_no_cumulative_lengths_are_refused() {
    let refused = |queries: &[usize], keys: &[usize]| {
        let segments = Segments { queries: queries.to_vec(), keys: keys.to_vec() };
        Mask::new(4, 4, false, Alignment::BottomRight, None, Some(segments))
            .unwrap_err()
            .to_string()
    };
    let legal = &[0, 4][..];
    let expected = "expected cumulative lengths from 0 to at most 4, never decreasing";
    for wrong in [&[][..], &[4], &[1, 4], &[0, 5], &[0, 3, 2, 4]] {
        assert_eq!(
            refused(wrong, legal),
            format!("option 'segments_q': {expected}, found {wrong:?}")
        );
        assert_eq!(
            refused(legal, wrong),
            format!("option 'segments_k': {expected}, found {wrong:?}")
        );
    }
    assert_eq!(
        refused(legal, &[0, 2, 4]),
        "option 'segments_k': expected 2 numbers, as segments_q has, found 3"
    );
}
