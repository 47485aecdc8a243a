//! An explanation in sentences.

use crate::cause::{Cause, Explanation, Kind};
use crate::search::list;
use std::fmt;

/// Joins causes with the same words into one of several results.
pub(crate) fn joined(causes: Vec<Cause>) -> Vec<Cause> {
    let mut all: Vec<Cause> = Vec::new();
    for cause in causes {
        let generic = |of: &Cause| of.text.replacen(of.tensors[0].as_str(), "", 1);
        let same = all.iter_mut().find(|other| {
            other.kind == Kind::Relation
                && cause.kind == Kind::Relation
                && other.tensors.len() == 1
                && generic(other) == generic(&cause)
        });
        match same {
            Some(other) => {
                let rest = generic(other);
                other.tensors.extend(&cause.tensors);
                other.text = format!("{} each{}", list(&other.tensors), rest);
                other.left_over_bound = other.left_over_bound.max(cause.left_over_bound);
                other.unexplained = other.unexplained.max(cause.unexplained);
            }
            None => all.push(cause),
        }
    }
    all
}

impl Explanation {
    /// What is wrong and why, in one sentence or two.
    #[must_use]
    pub fn why(&self) -> String {
        let mut sentences: Vec<String> = self.causes.iter().map(ToString::to_string).collect();
        if !self.unexplained.is_empty() {
            let names = list(&self.unexplained);
            let all = if self.causes.is_empty() { "" } else { " the rest," };
            sentences.push(format!("nothing that is known explains{all} {names}"));
        }
        sentences.join(". ")
    }

    /// Where the results are wrong, one sentence, and which are right.
    #[must_use]
    pub fn whereabouts(&self) -> String {
        let mut groups: Vec<(String, Vec<sus_reference::TensorName>)> = Vec::new();
        for place in &self.places {
            match groups.iter_mut().find(|(text, _)| *text == place.text) {
                Some((_, names)) => names.push(place.tensor),
                None => groups.push((place.text.clone(), vec![place.tensor])),
            }
        }
        let mut parts: Vec<String> =
            groups.iter().map(|(text, names)| format!("{}: {text}", list(names))).collect();
        match self.right.len() {
            0 => {}
            1 => parts.push(format!("{} is right", list(&self.right))),
            _ => parts.push(format!("{} are right", list(&self.right))),
        }
        parts.join(". ")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)?;
        if self.is_cause && self.left_over_bound > 0.0 {
            write!(f, " (what is left is at most {:.2} of a bound)", self.left_over_bound)?;
        }
        if !self.is_cause && self.kind != Kind::KnownBug {
            let share = 100.0 * (1.0 - self.unexplained * self.unexplained);
            write!(f, " ({share:.2} % of the squared deviation is explained)")?;
        }
        if !self.tied.is_empty() {
            write!(f, "; the same here: {}", self.tied.join("; or "))?;
        }
        Ok(())
    }
}
