//! Every test of recovered masks.

use super::battery::Tests;
use super::masks::Masks;
use super::{capacity, deviance, enumeration, pairs, streams};

pub(super) fn test(masks: &Masks<'_>, tests: &mut Tests) {
    masks.probabilities(tests);
    masks.alternatives(tests);
    masks.counts_of_rows(tests);
    masks.counts_by_run(tests);
    masks.support(tests);
    masks.duplicates(tests);
    deviance::test(masks, tests);
    capacity::test(masks, tests);
    streams::test(masks, tests);
    enumeration::test(masks, tests);
    pairs::test(masks, tests);
}
