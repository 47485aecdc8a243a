//! Numbers as ascending ranges, on the command line and in reports.

use std::ops::Range;

/// Reads numbers and ranges: `3`, `0..64` (64 not included) or `0-63`, joined by commas.
///
/// # Errors
/// What was expected and found.
///
/// # Examples
/// ```
/// use sus_verdict::part::ranges::parse;
/// assert_eq!(parse("7,0..3,2-4"), Ok(vec![0..5, 7..8]));
/// assert!(parse("3..3").is_err() && parse("").is_err() && parse("-1").is_err());
/// ```
pub fn parse(text: &str) -> Result<Vec<Range<usize>>, String> {
    let wrong = |part: &str| {
        let part = sus_reference::quote::text(part).to_string();
        format!("expected numbers and ranges that are not empty, such as 0..64,100, found '{part}'")
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let ranges = text.split(',').map(|part| {
        let range = if let Some((first, end)) = part.split_once("..") {
            number(first).zip(number(end)).map(|(first, end)| first..end)
        } else if let Some((first, last)) = part.split_once('-') {
            let last = number(last).and_then(|last| last.checked_add(1));
            number(first).zip(last).map(|(first, end)| first..end)
        } else {
            number(part).and_then(|at| Some(at..at.checked_add(1)?))
        };
        range.filter(|range| !range.is_empty()).ok_or_else(|| wrong(part))
    });
    ranges.collect::<Result<_, _>>().map(joined)
}

/// The same numbers in ascending ranges that do not touch.
#[must_use]
pub fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut all: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// Ranges of ascending numbers.
#[must_use]
pub fn of_numbers(numbers: &[usize]) -> Vec<Range<usize>> {
    joined(numbers.iter().map(|&at| at..at + 1).collect())
}

/// All numbers of ranges.
#[must_use]
pub fn numbers(ranges: &[Range<usize>]) -> Vec<usize> {
    ranges.iter().cloned().flatten().collect()
}

/// What of `all` is in none of the ranges, which ascend and do not touch.
#[must_use]
pub fn gaps(all: Range<usize>, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut gaps = Vec::new();
    let mut next = all.start;
    for range in ranges {
        if range.start > next {
            gaps.push(next..range.start);
        }
        next = next.max(range.end);
    }
    if next < all.end {
        gaps.push(next..all.end);
    }
    gaps
}

/// Ranges shown in a text, at most.
const SHOWN: usize = 12;

/// Ranges in words: `0 to 63, 100`, and how many more.
#[must_use]
pub fn words(ranges: &[Range<usize>]) -> String {
    let one = |range: &Range<usize>| match range.len() {
        1 => range.start.to_string(),
        2 => format!("{}, {}", range.start, range.end - 1),
        _ => format!("{} to {}", range.start, range.end - 1),
    };
    let mut shown: Vec<String> = ranges.iter().take(SHOWN).map(one).collect();
    if ranges.len() > SHOWN {
        let rest: usize = ranges[SHOWN..].iter().map(Range::len).sum();
        shown.push(format!("and {rest} more"));
    }
    shown.join(", ")
}
