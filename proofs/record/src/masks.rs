//! The ranges of visible keys of many small masks, as the crate computes them.

use std::fmt::Write as _;
use sus_reference::mask::{Alignment, Mask, Segments, Window};

/// The largest number of queries and of keys of a mask without packing.
const POSITIONS: usize = 4;

/// The limits of a window that are tried, on each side.
const LIMITS: [Option<u64>; 5] = [None, Some(0), Some(1), Some(2), Some(7)];

/// Every combination of causality, alignment and window, for every number of queries and keys up to [`POSITIONS`],
/// and for three packings.
pub fn file() -> String {
    let mut lengths = Vec::new();
    for queries in 0..=POSITIONS {
        for keys in 0..=POSITIONS {
            lengths.push((vec![0, queries], vec![0, keys]));
        }
    }
    lengths.push((vec![0, 2, 5, 6], vec![0, 3, 4, 7]));
    lengths.push((vec![0, 3, 3, 4, 6], vec![0, 1, 3, 3, 7]));
    lengths.push((vec![0, 0, 4], vec![0, 2, 2]));
    let mut lines = Vec::new();
    for (queries, keys) in lengths {
        for causal in [false, true] {
            for alignment in [Alignment::BottomRight, Alignment::TopLeft] {
                for left in LIMITS {
                    for right in LIMITS {
                        lines.push(line(
                            &queries,
                            &keys,
                            causal,
                            alignment,
                            Window { left, right },
                        ));
                    }
                }
            }
        }
    }
    let mut file = String::from(
        "From Coq Require Import List ZArith.\nFrom SusOracle Require Import Exec Masks.\nImport ListNotations.\n\n",
    );
    let parts = lines.chunks(200).count();
    for (at, lines) in lines.chunks(200).enumerate() {
        let lines = lines.join(";\n  ");
        let _ = writeln!(file, "Definition part{at} : list recorded_mask := [\n  {lines}].\n");
    }
    let names: Vec<String> = (0..parts).map(|at| format!("part{at}")).collect();
    let _ = writeln!(file, "Definition masks : list recorded_mask := {}.\n", names.join(" ++ "));
    file.push_str(
        "Theorem checked : forallb check_mask masks = true.\nProof. vm_compute. reflexivity. Qed.\n\nCheck checked.\n",
    );
    file
}

fn line(
    queries: &[usize],
    keys: &[usize],
    causal: bool,
    alignment: Alignment,
    window: Window,
) -> String {
    let (last_query, last_key) = (queries[queries.len() - 1], keys[keys.len() - 1]);
    let segments = Segments { queries: queries.to_vec(), keys: keys.to_vec() };
    let mask = Mask::new(last_query, last_key, causal, alignment, Some(window), Some(segments))
        .expect("a legal mask");
    let limit = |limit: Option<u64>| limit.map_or("None".into(), |x| format!("(Some {x}%Z)"));
    let list = |items: &[usize]| format!("{items:?}").replace(',', ";");
    let ranges: Vec<String> = (0..last_query)
        .map(|i| mask.span(0, i))
        .map(|range| format!("({}, {})", range.start, range.end))
        .collect();
    format!(
        "(Mask {causal} {} {} {} {} {}, [{}])",
        alignment == Alignment::TopLeft,
        limit(window.left),
        limit(window.right),
        list(queries),
        list(keys),
        ranges.join("; "),
    )
}
