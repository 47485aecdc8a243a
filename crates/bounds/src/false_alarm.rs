//! The false-alarm budget of the checks of one problem: `docs/verdict.md`, "False alarms".

/// The share of the elementwise bounds.
pub const ELEMENTWISE_FALSE_ALARM: f64 = 2.5e-10;

/// The share of the linear statistics, directions included; the norms have as much again.
pub const STATISTICAL_FALSE_ALARM: f64 = 2.5e-10;

/// The part of the statistical share that the sums along directions have.
pub(crate) const DIRECTIONAL_FALSE_ALARM: f64 = 2e-10;

/// The factor of a sub-Gaussian parameter that a variable of it exceeds, in any of `events` cases, with probability
/// `alarm` at most: `2 events exp(-factor^2 / 2) = alarm` (Hoeffding). Section 3.1.
pub(crate) fn tail_factor(events: f64, alarm: f64) -> f64 {
    libm::sqrt(2.0 * libm::log(2.0 * events / alarm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// The definition, solved the other way round.
    #[test]
    fn the_events_together_exceed_the_factor_with_the_stated_probability() {
        for (events, alarm) in [(1.0, 0.5), (1.0, 1e-9), (1e6, 2.5e-10)] {
            let factor = tail_factor(events, alarm);
            let probability = events * 2.0 * libm::exp(-factor * factor / 2.0);
            // The exponent is at most 60, and errs by a few units of 2^-53 of that.
            assert_relative_eq!(probability, alarm, max_relative = 60.0 * 8.0 * f64::EPSILON);
        }
    }
}
