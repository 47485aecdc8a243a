//! The levels of `|err| / bound`: each has a colour, and a mark that is seen without it.

use maud::{Markup, html};

/// A level: up to which ratio, its sign in text, and its mark as a path in a square of 8 by 8.
struct Level {
    most: f64,
    sign: char,
    words: &'static str,
    mark: &'static str,
}

const fn level(most: f64, sign: char, words: &'static str, mark: &'static str) -> Level {
    Level { most, sign, words, mark }
}

/// The levels of the text report, and one for what is no number.
const LEVELS: [Level; 8] = [
    level(0.25, '.', "up to 1/4 of its bound", ""),
    level(0.5, ':', "up to 1/2", "M3.5 4h1"),
    level(1.0, '-', "up to its bound", "M2 4h4"),
    level(2.0, '+', "outside: up to 2 bounds", "M2 4h4M4 2v4"),
    level(8.0, '*', "up to 8", "M2 2l4 4M6 2l-4 4"),
    level(64.0, '#', "up to 64", "M1 3h6M1 5h6M3 1v6M5 1v6"),
    level(f64::MAX, '@', "above", "M1 1h6v6h-6zM3 3h2v2h-2z"),
    level(
        f64::INFINITY,
        '!',
        "NaN, infinite, or no rounding at all is allowed",
        "M0 0l8 8M8 0l-8 8M4 0v8",
    ),
];

/// The number of a ratio's level.
pub(crate) fn level_of(ratio: f64) -> usize {
    LEVELS.iter().position(|level| ratio <= level.most).unwrap_or(LEVELS.len() - 1)
}

/// The sign of a level, a character of ASCII.
pub(crate) fn sign(level: usize) -> char {
    LEVELS[level].sign
}

/// How many levels there are.
pub(crate) const COUNT: usize = LEVELS.len();

/// The patterns that maps are filled with, one for each level.
pub(crate) fn patterns() -> Markup {
    html! {
        svg class="defs" width="0" height="0" aria-hidden="true" {
            defs {
                @for (n, level) in LEVELS.iter().enumerate() {
                    pattern id={ "level-" (n) } width="1" height="1" patternUnits="userSpaceOnUse" viewBox="0 0 8 8" {
                        rect class={ "back-" (n) } width="8" height="8" {}
                        path class={ "mark-" (n) } d=(level.mark) {}
                    }
                }
            }
        }
    }
}

/// What the marks mean.
pub(crate) fn legend() -> Markup {
    html! {
        ul class="legend" aria-label="marks of the maps" {
            @for (n, level) in LEVELS.iter().enumerate() {
                li {
                    svg class="swatch" width="18" height="18" viewBox="0 0 1 1" aria-hidden="true" {
                        rect width="1" height="1" fill={ "url(#level-" (n) ")" } {}
                    }
                    " " code { (level.sign) } " " (level.words)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNT, level_of, sign};

    #[test]
    fn a_level_ends_with_its_largest_ratio() {
        let levels = [0.0, 0.25, 0.26, 1.0, 1.001, 2.0, 64.0, 65.0, f64::INFINITY, f64::NAN];
        assert_eq!(levels.map(level_of), [0, 0, 1, 2, 3, 3, 5, 6, 7, 7]);
    }

    #[test]
    fn no_two_levels_have_one_sign() {
        let signs: std::collections::BTreeSet<char> = (0..COUNT).map(sign).collect();
        assert_eq!(signs.len(), COUNT);
    }
}
