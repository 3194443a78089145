//! The last certificates: what was stored, who signed, and how long it took.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use das_common::certificate::Certificate;
use das_common::telemetry::names;
use metrics::{counter, histogram};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::status::unix_now;

/// Certificates that are remembered.
const REMEMBERED: usize = 50;
/// Seconds.
const MINUTE: usize = 60;

/// A certificate that was made.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// When, unix seconds.
    pub at: u64,
    /// Of the batch.
    pub data_hash: String,
    /// Bytes of the batch.
    pub length: usize,
    /// Until when the signers keep the batch, unix seconds.
    pub kept_until: u64,
    /// Who signed: bit i is member i.
    pub signers_mask: u64,
    /// Milliseconds from the batch to the certificate.
    pub took_ms: f64,
}

/// The last of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    made: VecDeque<Made>,
    /// How many were made in each second of the last minute in which any was.
    seconds: VecDeque<(u64, u64)>,
}

impl Recent {
    /// A certificate was made of a batch of so many bytes.
    pub fn made(&self, certificate: &Certificate, length: usize, took: Duration) {
        histogram!(names::CERTIFICATE_SECONDS, "result" => "ok").record(took.as_secs_f64());
        counter!(names::CERTIFICATE_BYTES).increment(length as u64);
        let made = Made {
            at: unix_now(),
            data_hash: format!("0x{}", certificate.data_hash),
            length,
            kept_until: certificate.timeout,
            signers_mask: certificate.signers_mask,
            took_ms: (took.as_secs_f64() * 100_000.0).round() / 100.0,
        };
        let mut remembered = self.0.lock();
        match remembered.seconds.back_mut() {
            Some((second, count)) if *second == made.at => *count += 1,
            _ => remembered.seconds.push_back((made.at, 1)),
        }
        if remembered.seconds.len() > MINUTE {
            remembered.seconds.pop_front();
        }
        if remembered.made.len() == REMEMBERED {
            remembered.made.pop_back();
        }
        remembered.made.push_front(made);
    }

    /// There was none in this time.
    pub fn failed(&self, took: Duration) {
        histogram!(names::CERTIFICATE_SECONDS, "result" => "error").record(took.as_secs_f64());
    }

    /// The last ones, the newest first.
    pub fn list(&self) -> Vec<Made> {
        self.0.lock().made.iter().cloned().collect()
    }

    /// How many were made in the minute before unix time `now`.
    pub fn last_minute(&self, now: u64) -> u64 {
        let from = now.saturating_sub(MINUTE as u64);
        self.0.lock().seconds.iter().filter(|(second, _)| *second > from).map(|(_, count)| count).sum()
    }
}
