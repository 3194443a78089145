//! The metrics recorder, and what the servers record with it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, Label};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::names;

/// Upper bounds of our histograms in seconds: from a cached read to a store that timed out.
const BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
/// Quantiles of Nitro's summaries.
const QUANTILES: [f64; 6] = [0.5, 0.75, 0.95, 0.99, 0.999, 0.9999];
/// A summary tells of the last `SUMMARY_WINDOWS` times this long.
const SUMMARY_WINDOW: Duration = Duration::from_secs(60);
const SUMMARY_WINDOWS: std::num::NonZeroU32 = std::num::NonZeroU32::new(5).expect("not zero");

/// The metrics of this process.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// All metrics in Prometheus' text form.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds single measurements into their histograms. To be called every few seconds ([`super::watch_process`]
    /// does): between calls they pile up in memory when nobody fetches the metrics.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsHandle")
    }
}

/// Sets up the recorder of this process; every call after the first returns the same one.
pub fn init_metrics() -> MetricsHandle {
    static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_quantiles(&QUANTILES)
                .expect("a list that is not empty")
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
                .expect("a list that is not empty")
                .set_bucket_duration(SUMMARY_WINDOW)
                .expect("not zero")
                .set_bucket_count(SUMMARY_WINDOWS)
                .build_recorder();
            let handle = MetricsHandle(recorder.handle());
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed; ours stays empty");
            }
            describe();
            handle
        })
        .clone()
}

/// Help texts of the metrics whose names do not say everything.
fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(names::ALARM, "1 while the alarm of this code is raised");
    describe_histogram!(names::STORE_SECONDS, "time of a store, from the whole body to the answer");
    describe_histogram!(names::STORE_STAGE_SECONDS, "time of one stage of a store");
    describe_histogram!(names::READ_SECONDS, "time of a read by hash");
    describe_counter!(names::READ_SOURCE, "reads by where the batch was found");
    describe_counter!(names::ERRORS, "errors answered, by code of the registry");
    describe_gauge!(names::DISK_FREE_BYTES, "free space on the disk of the batch store");
    describe_gauge!(names::MEMBER_UP, "1 if the member's last answer was right");
    describe_histogram!(names::MEMBER_STORE_SECONDS, "time of a member's answer to a store");
    for prefix in [names::RPC_STORE, names::REST_GET_BY_HASH] {
        describe_histogram!(format!("{prefix}_duration"), "nanoseconds, over the last five minutes");
    }
}

/// Counts and times the requests of one kind under Nitro's names, and in seconds under ours.
#[derive(Clone)]
pub struct Meter {
    requests: Counter,
    success: Counter,
    failure: Counter,
    bytes: Counter,
    nanoseconds: Histogram,
    /// By [`SIZES`].
    seconds_ok: [Histogram; SIZES.len()],
    seconds_error: Histogram,
}

/// Classes of batches by their bytes: the largest of each, and its name as a label.
const SIZES: [(usize, &str); 5] =
    [(1_000, "1kB"), (10_000, "10kB"), (100_000, "100kB"), (1_000_000, "1MB"), (usize::MAX, "more")];

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}

impl Meter {
    /// Of stores at the JSON-RPC server. After [`init_metrics`].
    pub fn of_stores() -> Self {
        Self::new(names::RPC_STORE, names::STORE_SECONDS)
    }

    /// Of reads by hash at the REST server. After [`init_metrics`].
    pub fn of_reads() -> Self {
        Self::new(names::REST_GET_BY_HASH, names::READ_SECONDS)
    }

    fn new(prefix: &str, seconds: &'static str) -> Self {
        let counter = |end: &str| metrics::counter!(format!("{prefix}_{end}"));
        Self {
            requests: counter("requests"),
            success: counter("success"),
            failure: counter("failure"),
            bytes: counter("bytes"),
            nanoseconds: metrics::histogram!(format!("{prefix}_duration")),
            seconds_ok: SIZES.map(|(_, size)| metrics::histogram!(seconds, "result" => "ok", "size" => size)),
            seconds_error: metrics::histogram!(seconds, "result" => "error", "size" => ""),
        }
    }

    /// A request that began at `started` was answered with a batch of `bytes`.
    pub fn succeeded(&self, started: Instant, bytes: usize) {
        self.requests.increment(1);
        self.success.increment(1);
        self.bytes.increment(bytes as u64);
        let class = SIZES.iter().position(|(most, _)| bytes <= *most).unwrap_or(SIZES.len() - 1);
        self.time(started, &self.seconds_ok[class]);
    }

    /// A request that began at `started` was answered with an error.
    pub fn failed(&self, started: Instant) {
        self.requests.increment(1);
        self.failure.increment(1);
        self.time(started, &self.seconds_error);
    }

    fn time(&self, started: Instant, seconds: &Histogram) {
        let elapsed = started.elapsed();
        self.nanoseconds.record(elapsed.as_nanos() as f64);
        seconds.record(elapsed.as_secs_f64());
    }
}

/// Nitro's counters (success, error) of stores at one member, by the host of its URL. Members on one host share them.
pub fn member_store_counters(host: &str) -> (Counter, Counter) {
    let prefix = format!("{}_{}", names::RPC_AGGREGATOR_STORE, canonical_metric_name(host));
    let counter = |end: &str| metrics::counter!(format!("{prefix}_{end}_total"), Vec::<Label>::new());
    (counter("success"), counter("error"))
}

/// A text as part of a metric's name, by Nitro's rule: each run of characters that names cannot have is one `_`.
pub fn canonical_metric_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == ':' || c == '_' {
            name.push(c);
        } else if !name.ends_with('\u{0}') {
            name.push('\u{0}');
        }
    }
    name.replace('\u{0}', "_")
}
