//! What is signed, of what is well-formed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use das_common::binding::BindingError;
use das_common::fault::{self, Coded, Fault};
use das_common::signer::{Kind, Message};
use parking_lot::Mutex;
use thiserror::Error;

/// Why a limit forbids it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// Too long.
    #[error("timeout {timeout} is more than max-retention ({seconds} s) ahead of now, {now}")]
    Timeout {
        /// Unix seconds.
        timeout: u64,
        /// The limit.
        seconds: u64,
        /// Unix seconds.
        now: u64,
    },
    /// A binding that is not in force.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Too many.
    #[error("more than {per_second} signatures per second (and {burst} at once) are asked for")]
    Rate {
        /// The limit.
        per_second: u32,
        /// The limit.
        burst: u32,
    },
}

impl Coded for LimitError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Timeout { .. } => fault::SIGNER_TIMEOUT,
            Self::Binding(_) => fault::SIGNER_REQUEST,
            Self::Rate { .. } => fault::SIGNER_BUSY,
        }
    }
}

/// The limits, and how much of them each client has used. Clients are as many as names are allowed.
#[derive(Debug)]
pub struct Limits {
    max_retention: Duration,
    per_second: u32,
    burst: u32,
    clients: Mutex<HashMap<String, Bucket>>,
}

/// What a client may still ask for at once.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limits {
    /// As the options say.
    pub fn new(max_retention: Duration, per_second: u32, burst: u32) -> Self {
        Self { max_retention, per_second, burst, clients: Mutex::default() }
    }

    /// Whether this is signed at a time in unix seconds.
    pub fn check(&self, message: &Message, now: u64) -> Result<(), LimitError> {
        match message.kind() {
            Kind::Certificate { timeout, .. } => {
                let seconds = self.max_retention.as_secs();
                if *timeout > now.saturating_add(seconds) {
                    return Err(LimitError::Timeout { timeout: *timeout, seconds, now });
                }
                Ok(())
            }
            Kind::Binding(binding) => Ok(binding.check_time(now)?),
            Kind::Possession => Ok(()),
        }
    }

    /// Counts one signature for a client, at an instant that is not before the last one.
    pub fn count(&self, client: &str, now: Instant) -> Result<(), LimitError> {
        let mut clients = self.clients.lock();
        let full = Bucket { left: f64::from(self.burst), at: now };
        let bucket = clients.entry(client.to_owned()).or_insert(full);
        let earned = now.saturating_duration_since(bucket.at).as_secs_f64() * f64::from(self.per_second);
        bucket.left = (bucket.left + earned).min(f64::from(self.burst));
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(LimitError::Rate { per_second: self.per_second, burst: self.burst });
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use das_common::data_hash::DataHash;

    use super::*;

    #[test]
    fn a_timeout_beyond_the_limit_is_refused() {
        let limits = Limits::new(Duration::from_secs(100), 1, 1);
        let word = |timeout| Message::certificate(DataHash::from_bytes([1; 32]), timeout).unwrap();
        for (timeout, allowed) in [(0, true), (1100, true), (1101, false), (i64::MAX as u64, false)] {
            let expected =
                if allowed { Ok(()) } else { Err(LimitError::Timeout { timeout, seconds: 100, now: 1000 }) };
            assert_eq!(limits.check(&word(timeout), 1000), expected);
        }
    }

    #[test]
    fn a_client_that_asks_too_fast_costs_itself_only() {
        let limits = Limits::new(Duration::MAX, 2, 3);
        let start = Instant::now();
        let count = |client, millis| limits.count(client, start + Duration::from_millis(millis)).is_ok();
        assert_eq!([0, 0, 0, 0].map(|at| count("alice", at)), [true, true, true, false]);
        assert!(count("bob", 0));
        assert_eq!([499, 500, 500].map(|at| count("alice", at)), [false, true, false]);
        assert_eq!([60_000; 4].map(|at| count("alice", at)), [true, true, true, false]);
    }
}
