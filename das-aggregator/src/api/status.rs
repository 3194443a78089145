//! `/status`: the aggregator's state as JSON.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use das_batches::index::Index;
use das_batches::service;
use das_common::alarm::{Alarm, Alarms};
use serde::Serialize;
use serde_json::Value;

use crate::certificates::Certificates;
use crate::fan_out::FanOut;
use crate::health::HealthReport;
use crate::post::service::Poster;
use crate::post::status::PosterStatus;
use crate::read::Reads;
use crate::watch::Watch;

/// Everything that a status page is made of. Cheap to clone.
#[derive(Clone)]
pub struct StatusSource {
    /// The committee.
    pub fan_out: FanOut,
    /// Its health.
    pub watch: Watch,
    /// The read side.
    pub reads: Reads,
    /// Certificates made, and kept by the members.
    pub certificates: Certificates,
    /// Posts, if that is enabled.
    pub poster: Option<Poster>,
    /// What was followed of the chain, if it is.
    pub followed: Option<Arc<Index>>,
    /// The alarms.
    pub alarms: Alarms,
    /// Unix time of the start.
    pub started: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    started_at: u64,
    now: u64,
    committee: CommitteeStatus,
    members: Vec<MemberStatus>,
    late: LateStatus,
    reads: ReadStatus,
    post: Option<PosterStatus>,
    chain: Option<Value>,
    alarms: Vec<Alarm>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommitteeStatus {
    keyset_hash: String,
    members: usize,
    assumed_honest: u64,
    signatures_needed: usize,
    healthy_members: usize,
    expiration_policy: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberStatus {
    index: usize,
    name: String,
    rpc: String,
    body_limit: usize,
    #[serde(flatten)]
    health: HealthReport,
}

/// What is kept for members that are late.
#[derive(Serialize)]
struct LateStatus {
    batches: usize,
    bytes: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadStatus {
    cached_batches: u64,
    cached_bytes: u64,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointStatus {
    url: String,
    mean_latency_ms: Option<f64>,
    success_ratio: Option<f64>,
}

impl StatusSource {
    /// The state now, as JSON text.
    pub fn json(&self) -> String {
        let keyset = self.fan_out.keyset();
        let (late_bytes, late_batches) = self.fan_out.late();
        let (cached_batches, cached_bytes) = self.reads.cached();
        let members = self.fan_out.members().iter().map(|member| MemberStatus {
            index: member.index,
            name: member.name.clone(),
            rpc: member.endpoint().to_string(),
            body_limit: member.body_limit(),
            health: member.health.report(),
        });
        let endpoints = self.reads.report().into_iter().map(|report| EndpointStatus {
            url: report.endpoint.to_string(),
            mean_latency_ms: report.mean_latency.map(|latency| latency.as_secs_f64() * 1000.0),
            success_ratio: report.success_ratio,
        });
        let health = self.watch.health();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started,
            now: unix_now(),
            committee: CommitteeStatus {
                keyset_hash: format!("0x{}", keyset.hash()),
                members: self.fan_out.members().len(),
                assumed_honest: keyset.assumed_honest(),
                signatures_needed: health.needed,
                healthy_members: health.healthy,
                expiration_policy: self.watch.known_expiration_policy().name(),
            },
            members: members.collect(),
            late: LateStatus { batches: late_batches, bytes: late_bytes },
            reads: ReadStatus { cached_batches, cached_bytes, endpoints: endpoints.collect() },
            post: self.poster.as_ref().map(PosterStatus::of),
            chain: self.followed.as_ref().map(|index| service::status(&**index)),
            alarms: self.alarms.list(),
        };
        serde_json::to_string(&status).expect("numbers and strings have a JSON form")
    }
}

/// Now, in unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
