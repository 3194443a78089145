//! What is known of one endpoint, and when it is tried again.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How long an endpoint is left alone after so many failures in a row: `first`, doubled with each, at most `most`, of
/// which jitter takes away up to half.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The time after `failures` in a row (1 or more); `jitter` is from 0 to 1.
    pub fn after(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.most);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// An endpoint as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointState {
    /// Its place in the list, host and port.
    pub endpoint: String,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Time until it is tried again; zero: it is in use.
    pub retry_in: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    until: Option<Instant>,
    problem: Option<String>,
    /// When its chain id was right.
    checked: Option<Instant>,
    wrong_chain: Option<u64>,
}

impl Health {
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    pub(super) fn is_checked(&self, now: Instant, every: Duration) -> bool {
        self.checked.is_some_and(|at| now.duration_since(at) < every)
    }

    pub(super) fn wrong_chain(&self) -> Option<u64> {
        self.wrong_chain
    }

    pub(super) fn worked(&mut self) {
        self.failures = 0;
        self.until = None;
        self.problem = None;
    }

    pub(super) fn right_chain(&mut self, now: Instant) {
        self.worked();
        self.checked = Some(now);
        self.wrong_chain = None;
    }

    pub(super) fn other_chain(&mut self, got: u64, until: Instant) {
        self.checked = None;
        self.wrong_chain = Some(got);
        self.problem = Some(format!("it is of chain {got}"));
        self.until = Some(until);
    }

    /// True: it is the first failure after it worked.
    pub(super) fn failed(&mut self, reason: &str, now: Instant, backoff: &Backoff, jitter: f64) -> bool {
        // Requests that were under way together fail together; that is one failure, not many.
        if !self.is_usable(now) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + backoff.after(self.failures, jitter));
        self.problem = Some(reason.to_owned());
        // What answers next at this URL may be somebody else.
        self.checked = None;
        self.failures == 1
    }

    pub(super) fn state(&self, label: &str, now: Instant) -> EndpointState {
        EndpointState {
            endpoint: label.to_owned(),
            problem: self.problem.clone(),
            failures: self.failures,
            retry_in: self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_its_bound_and_jitter_takes_half_of_it_at_most() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(3) };
        let times: Vec<_> = (1..=7).map(|failures| backoff.after(failures, 0.0).as_millis()).collect();
        assert_eq!(times, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(backoff.after(u32::MAX, 1.0), Duration::from_millis(1500));
        assert_eq!(backoff.after(0, 0.0), Duration::from_millis(100));
    }

    #[test]
    fn failures_at_the_same_time_count_once_and_success_ends_them() {
        let (mut health, now) = (Health::default(), Instant::now());
        let backoff = Backoff::default();
        health.right_chain(now);
        assert!(health.failed("a", now, &backoff, 0.0));
        assert!(!health.failed("b", now, &backoff, 0.0));
        assert_eq!(health.state("x", now).failures, 1);
        assert!(!health.is_usable(now) && health.is_usable(now + backoff.first));
        assert!(!health.is_checked(now, Duration::from_secs(1000)), "looked at again after a failure");
        assert!(!health.failed("c", now + backoff.first, &backoff, 0.0));
        assert_eq!(health.state("x", now + backoff.first).retry_in, 2 * backoff.first);
        health.other_chain(5, now + backoff.most);
        assert_eq!(health.wrong_chain(), Some(5));
        health.right_chain(now);
        assert_eq!(health.state("x", now), Health::default().state("x", now));
    }
}
