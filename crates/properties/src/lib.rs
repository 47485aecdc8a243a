//! The properties that the specification states, checked on the machine at hand in seconds.
//!
//! Each property is one function: `Ok` with a measured figure, or `Err` with the first violation. Means and variances are
//! exact up to rounding: every mask of a small problem is enumerated in double-double arithmetic, and differences are
//! compared with the error bounds of [`DdWithError`].

mod dense;
mod enumeration;
mod sampled;
mod words;

use sus_reference::scalar::DdWithError;
use sus_reference::sus::{Rule, Sampler};

/// A property that can be checked.
///
/// # Examples
/// ```
/// use sus_properties::PROPERTIES;
/// let property = PROPERTIES.iter().find(|property| property.name.starts_with("dq does not change")).unwrap();
/// println!("{}: {}", property.name, (property.check)().expect("a property that holds"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// The property, in one line.
    pub name: &'static str,
    /// Checks it: a measured figure, or the first violation.
    pub check: fn() -> Result<String, String>,
}

/// The properties, in the order of the specification.
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "the dense gradients are the derivatives of the loss",
        check: dense::dense_gradients,
    },
    Property {
        name: "a query that sees no key has o = 0, lse = -inf and no gradient",
        check: dense::empty_rows,
    },
    Property {
        name: "dq does not change when all keys move alike, dq and dk when all values do",
        check: dense::invariances,
    },
    Property {
        name: "E[sampled gradient] = gradient: paper, bernoulli",
        check: || sampled::unbiased(Rule::Paper, Sampler::Bernoulli),
    },
    Property {
        name: "E[sampled gradient] = gradient: calibrated, bernoulli",
        check: || sampled::unbiased(Rule::Calibrated, Sampler::Bernoulli),
    },
    Property {
        name: "E[sampled gradient] = gradient: paper, systematic",
        check: || sampled::unbiased(Rule::Paper, Sampler::Systematic),
    },
    Property {
        name: "E[sampled gradient] = gradient: calibrated, systematic",
        check: || sampled::unbiased(Rule::Calibrated, Sampler::Systematic),
    },
    Property { name: "Var[sampled gradient] is the closed form", check: sampled::variance },
    Property {
        name: "E[kept entries] <= c; = min(c, visible) if calibrated",
        check: sampled::expected_counts,
    },
    Property {
        name: "systematic rows keep the floor or the ceiling of their mean",
        check: sampled::systematic_counts,
    },
    Property { name: "a kept weight counts as max(W, 1 / lambda)", check: sampled::kept_weights },
    Property { name: "words: the anchors of sus-u/1, Philox and Threefry", check: words::anchors },
    Property { name: "words do not depend on who asks", check: words::words_of_rows },
    Property {
        name: "0 <= P(keep) - q < 2^-32, or 2^-64 with a second word",
        check: words::decisions,
    },
];

/// The largest magnitude of numbers whose exact value is zero; `Err` if one exceeds the bound on its rounding errors.
fn largest_of_zeros(
    zeros: impl IntoIterator<Item = DdWithError>,
    subject: &str,
) -> Result<String, String> {
    let mut largest = 0.0_f64;
    for zero in zeros {
        let found = zero.value().abs().hi();
        if found.is_nan() || found > zero.error() {
            return Err(format!("{subject} to {found:.1e}, expected at most {:.1e}", zero.error()));
        }
        largest = largest.max(found);
    }
    Ok(format!("{subject} to {largest:.1e}"))
}

/// `a - b`, element by element.
///
/// # Panics
/// If the lengths differ.
fn differences(a: &[DdWithError], b: &[DdWithError]) -> Vec<DdWithError> {
    assert_eq!(a.len(), b.len(), "as many numbers on both sides");
    a.iter().zip(b).map(|(&a, &b)| a - b).collect()
}
