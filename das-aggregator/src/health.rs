//! How each member has been doing: for `/status`, for metrics, and for whoever wonders which member is slow.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use das_common::rpc_client::CallError;
use das_common::telemetry::{member_store_counters, names};
use metrics::{Counter, Gauge, Histogram, gauge, histogram};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use crate::collect::MemberFailure;

/// Stores remembered for the rates and percentiles.
const REMEMBERED: usize = 256;

/// The record of one member.
pub struct MemberHealth {
    meters: Meters,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    recent: VecDeque<Attempt>,
    stored: u64,
    failed: u64,
    last_success: Option<u64>,
    last_failure: Option<(u64, String)>,
    /// Of the last store, if it failed.
    trouble: Option<Trouble>,
    probe: Option<Probe>,
}

/// What kind of failure a member's last store was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer, or none that is one.
    Silent,
    /// It said no.
    Refuses,
    /// It signed something else, or not with its key.
    Wrong,
}

impl Trouble {
    fn of(failure: &MemberFailure) -> Self {
        match failure {
            MemberFailure::WrongDataHash { .. }
            | MemberFailure::WrongTimeout { .. }
            | MemberFailure::WrongVersion { .. }
            | MemberFailure::NotASignature { .. }
            | MemberFailure::BadSignature => Self::Wrong,
            MemberFailure::Call(CallError::Rpc { .. }) | MemberFailure::NeedsStoreKey { .. } => Self::Refuses,
            MemberFailure::Call(_) | MemberFailure::NoAnswer => Self::Silent,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    good: bool,
    latency: Duration,
}

#[derive(Debug, Clone)]
struct Probe {
    at: u64,
    error: Option<String>,
}

struct Meters {
    nitro_success: Counter,
    nitro_error: Counter,
    seconds_ok: Histogram,
    seconds_error: Histogram,
    up: Gauge,
}

/// What `/status` says about a member's health.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// The outcome of the last probe; `null` before the first.
    pub healthy: Option<bool>,
    /// Unix time of the last probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed_at: Option<u64>,
    /// What the last probe said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_error: Option<String>,
    /// Good signatures since the start.
    pub stored: u64,
    /// Batches without one since the start.
    pub failed: u64,
    /// Share of good signatures among the last stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_rate: Option<f64>,
    /// Median time to a good answer among them, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// 95th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Unix time of the last good signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<u64>,
    /// Unix time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<u64>,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl MemberHealth {
    /// For the member of this name on this host. Metrics go to the recorder installed when this is called.
    pub fn new(name: &str, host: &str) -> Self {
        let (nitro_success, nitro_error) = member_store_counters(host);
        let seconds = |result: &'static str| histogram!(names::MEMBER_STORE_SECONDS, "member" => name.to_owned(), "result" => result);
        let meters = Meters {
            nitro_success,
            nitro_error,
            seconds_ok: seconds("ok"),
            seconds_error: seconds("error"),
            up: gauge!(names::MEMBER_UP, "member" => name.to_owned()),
        };
        Self { meters, record: Mutex::default() }
    }

    /// A good signature came back after `latency`.
    pub fn stored(&self, latency: Duration) {
        self.meters.nitro_success.increment(1);
        self.meters.seconds_ok.record(latency.as_secs_f64());
        self.meters.up.set(1.0);
        let mut record = self.record.lock();
        record.stored += 1;
        record.last_success = Some(unix_now());
        record.trouble = None;
        record.remember(Attempt { good: true, latency });
    }

    /// A batch ended without a good signature of this member.
    pub fn failed(&self, latency: Duration, failure: &MemberFailure) {
        self.meters.nitro_error.increment(1);
        self.meters.seconds_error.record(latency.as_secs_f64());
        self.meters.up.set(0.0);
        let mut record = self.record.lock();
        record.failed += 1;
        record.last_failure = Some((unix_now(), failure.to_string()));
        record.trouble = Some(Trouble::of(failure));
        record.remember(Attempt { good: false, latency });
    }

    /// A health check came back.
    pub fn probed(&self, error: Option<String>) {
        self.meters.up.set(if error.is_none() { 1.0 } else { 0.0 });
        self.record.lock().probe = Some(Probe { at: unix_now(), error });
    }

    /// The outcome of the last probe.
    pub fn is_healthy(&self) -> Option<bool> {
        self.record.lock().probe.as_ref().map(|probe| probe.error.is_none())
    }

    /// What was wrong with the last store, and the words for it; nothing when it was good.
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        let record = self.record.lock();
        let (_, reason) = record.last_failure.as_ref()?;
        Some((record.trouble?, reason.clone()))
    }

    /// Everything known, for a status page.
    pub fn report(&self) -> HealthReport {
        let record = self.record.lock();
        let mut latencies: Vec<Duration> =
            record.recent.iter().filter(|attempt| attempt.good).map(|attempt| attempt.latency).collect();
        latencies.sort_unstable();
        let percentile = |p: usize| {
            let last = latencies.len().checked_sub(1)?;
            Some((latencies[last * p / 100].as_secs_f64() * 100_000.0).round() / 100.0)
        };
        let rate = (!record.recent.is_empty()).then(|| latencies.len() as f64 / record.recent.len() as f64);
        HealthReport {
            healthy: record.probe.as_ref().map(|probe| probe.error.is_none()),
            probed_at: record.probe.as_ref().map(|probe| probe.at),
            probe_error: record.probe.as_ref().and_then(|probe| probe.error.clone()),
            stored: record.stored,
            failed: record.failed,
            signing_rate: rate,
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            p99_ms: percentile(99),
            last_success_at: record.last_success,
            last_failure_at: record.last_failure.as_ref().map(|(at, _)| *at),
            last_failure: record.last_failure.as_ref().map(|(_, reason)| reason.clone()),
        }
    }
}

impl Record {
    fn remember(&mut self, attempt: Attempt) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_happened() {
        let health = MemberHealth::new("alice", "das.example-1.org");
        assert_eq!(health.report().signing_rate, None);
        for ms in 1..=100 {
            health.stored(Duration::from_millis(ms));
        }
        health.failed(Duration::from_secs(1), &MemberFailure::NoAnswer);
        health.probed(Some("no answer".to_owned()));
        let report = health.report();
        assert_eq!((report.stored, report.failed, report.healthy), (100, 1, Some(false)));
        assert_eq!((report.p50_ms, report.p95_ms), (Some(50.0), Some(95.0)));
        assert_eq!(report.last_failure.as_deref(), Some("no answer in time"));
        assert!(report.signing_rate.unwrap() > 0.98);
        for _ in 0..REMEMBERED {
            health.failed(Duration::ZERO, &MemberFailure::BadSignature);
        }
        assert_eq!(health.report().signing_rate, Some(0.0), "only the last stores count");
        assert_eq!(health.trouble().map(|(trouble, _)| trouble), Some(Trouble::Wrong));
        health.stored(Duration::ZERO);
        assert_eq!(health.trouble(), None);
    }
}
