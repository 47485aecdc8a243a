//! Numbers and outcomes as a reader sees them.

use sus_reference::quote;
use sus_verdict::Outcome;

/// A ratio of an error and its bound.
pub(crate) fn ratio(of: f64) -> String {
    match of.abs() {
        0.0 => "0".into(),
        0.01..1000.0 => format!("{of:.3}"),
        _ => format!("{of:.2e}"),
    }
}

/// The sign of an outcome, which stands beside its word.
pub(crate) fn outcome_sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "✓",
        Outcome::Fail => "✗",
        Outcome::Refused => "⊘",
        Outcome::Inconclusive => "?",
    }
}

/// The class of an outcome in the style sheet.
pub(crate) fn outcome_class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Refused => "refused",
        Outcome::Inconclusive => "inconclusive",
    }
}

/// Text from outside, of which nothing is cut; control characters and changes of direction are written out.
pub(crate) fn whole(text: &str) -> String {
    quote::all(text).to_string()
}

/// Text from outside that may be cut.
pub(crate) fn short(text: &str) -> String {
    quote::message(text).to_string()
}
