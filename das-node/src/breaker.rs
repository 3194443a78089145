//! A circuit breaker: what fails again and again is left alone for a while, so that nobody waits for it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many failures in a row open it.
const FAILURES: u32 = 3;
/// The first pause, and the longest: each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
}

impl Breaker {
    /// Whether to try. After a pause one caller tries for all.
    pub(crate) fn allows(&self) -> bool {
        let mut state = self.0.lock();
        match state.closed_until {
            None => true,
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.closed_until = Some(Instant::now() + pause(state.failures));
                true
            }
        }
    }

    /// An attempt came to an end, this one well or not.
    pub(crate) fn ended(&self, well: bool) {
        let mut state = self.0.lock();
        if well {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.closed_until = Some(Instant::now() + pause(state.failures));
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(FAILURES).min(8);
    (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through_after_the_pause() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.allows());
            breaker.ended(false);
        }
        assert!(!breaker.allows());
        breaker.0.lock().closed_until = Some(Instant::now());
        assert!(breaker.allows(), "one tries");
        assert!(!breaker.allows(), "the others wait for what comes of it");
        breaker.ended(true);
        assert!(breaker.allows() && breaker.allows());
        assert_eq!((pause(3), pause(5), pause(90)), (FIRST_PAUSE, FIRST_PAUSE * 4, LONGEST_PAUSE));
    }
}
