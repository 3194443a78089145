//! The aggregator's state: for `/status` as JSON, and for the dashboard.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use das_batches::index::Index;
use das_batches::service;
use das_common::alarm::{Alarm, Alarms};
use das_common::http::client::Endpoint;
use das_common::http::per_client::{PortReport, Ports};
use das_common::telemetry::{ProcessUse, process_use};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::canary::{Canary, Round};
use crate::certificates::Certificates;
use crate::fan_out::FanOut;
use crate::health::{HealthReport, Trouble};
use crate::post::service::Poster;
use crate::post::status::PosterStatus;
use crate::read::Reads;
use crate::recent::{Made, Recent};
use crate::reports::{Report, Reports, SaidAudit};
use crate::watch::Watch;

/// Everything that a status page is made of. Cheap to clone.
#[derive(Clone)]
pub struct StatusSource {
    /// The committee.
    pub fan_out: FanOut,
    /// Its health.
    pub watch: Watch,
    /// What the members say of themselves.
    pub reports: Reports,
    /// The read side.
    pub reads: Reads,
    /// Certificates made, and kept by the members.
    pub certificates: Certificates,
    /// The last of those made here.
    pub recent: Recent,
    /// Tries the members, if that is enabled.
    pub canary: Option<Canary>,
    /// Posts, if that is enabled.
    pub poster: Option<Poster>,
    /// What was followed of the chain, if it is.
    pub followed: Option<Arc<Index>>,
    /// What clients may ask of each port.
    pub ports: Ports,
    /// The alarms.
    pub alarms: Alarms,
    /// Unix time of the start.
    pub started: u64,
}

/// The state at one moment. Serializes to the form of `/status`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// Unix time of the start.
    pub started_at: u64,
    /// Unix time of this state.
    pub now: u64,
    /// The committee as a whole.
    pub committee: CommitteeStatus,
    /// Its members in their order.
    pub members: Vec<MemberStatus>,
    /// What is kept for members that are late.
    pub late: LateStatus,
    /// The read side.
    pub reads: ReadStatus,
    /// Certificates made in the last minute.
    pub certificates_last_minute: u64,
    /// The last certificates, the newest first.
    pub certificates: Vec<Made>,
    /// The last round of the canary; none without one.
    pub canary: Option<Round>,
    /// Posting; none where it is not enabled.
    pub post: Option<PosterStatus>,
    /// How far the contract was followed; none where it is not.
    pub chain: Option<Value>,
    /// How the limits of the ports that strangers reach are doing.
    pub ports: Vec<PortReport>,
    /// What the process uses.
    pub process: ProcessStatus,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
}

/// The committee as a whole.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitteeStatus {
    /// Names its keyset on the chain.
    pub keyset_hash: String,
    /// n.
    pub members: usize,
    /// A, or H in Nitro's words.
    pub assumed_honest: u64,
    /// K.
    pub signatures_needed: usize,
    /// Members that answered the last question that they are well.
    pub healthy_members: usize,
    /// How long members keep batches.
    pub expiration_policy: &'static str,
}

/// A member.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its bit in the signers mask.
    pub index: usize,
    /// Its name in the committee file.
    pub name: String,
    /// Where it takes stores.
    pub rpc: String,
    /// Where it serves reads.
    pub rest: Option<String>,
    /// The largest request that it is sent, bytes.
    pub body_limit: usize,
    /// `up`, `down`, `refuses`, `wrong` (it signs what it should not), or `unknown` before it was asked.
    pub state: &'static str,
    /// How it has been doing.
    #[serde(flatten)]
    pub health: HealthReport,
    /// Reads from it.
    pub reads: Option<ReadHealth>,
    /// What it says of itself; none from who is not ours.
    pub says: Option<Report>,
    /// What other members say of their audits of it, added up.
    pub audits: Option<AuditSum>,
}

/// How reads from a member went lately.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadHealth {
    /// Mean time of a read.
    pub mean_latency_ms: Option<f64>,
    /// Share that succeeded.
    pub success_ratio: Option<f64>,
}

/// Audits of one member by all others.
#[derive(Debug, Default, Clone, Copy, JsonSchema, Serialize)]
pub struct AuditSum {
    /// It showed what was asked for.
    pub right: u64,
    /// It showed something else.
    pub wrong: u64,
    /// It did not answer.
    pub silent: u64,
}

/// What is kept for members that are late.
#[derive(Debug, JsonSchema, Serialize)]
pub struct LateStatus {
    /// Batches.
    pub batches: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The read side.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadStatus {
    /// Batches in the cache.
    pub cached_batches: u64,
    /// Their bytes.
    pub cached_bytes: u64,
    /// Servers that are read from.
    pub endpoints: Vec<EndpointStatus>,
}

/// A server that is read from.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Its URL.
    pub url: String,
    /// Mean time of its last reads.
    pub mean_latency_ms: Option<f64>,
    /// Share of them that succeeded.
    pub success_ratio: Option<f64>,
}

/// What the process uses.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Processor time since the start.
    pub cpu_seconds: f64,
    /// Open files.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

impl From<ProcessUse> for ProcessStatus {
    fn from(used: ProcessUse) -> Self {
        Self {
            memory_bytes: used.memory,
            cpu_seconds: used.cpu.as_secs_f64(),
            open_files: used.files,
            threads: used.threads,
        }
    }
}

impl StatusSource {
    /// The state now.
    pub fn status(&self) -> Status {
        let keyset = self.fan_out.keyset();
        let (late_bytes, late_batches) = self.fan_out.late();
        let (cached_batches, cached_bytes) = self.reads.cached();
        let endpoints: Vec<_> = self
            .reads
            .report()
            .into_iter()
            .map(|report| EndpointStatus {
                url: report.endpoint.to_string(),
                mean_latency_ms: report.mean_latency.map(|latency| latency.as_secs_f64() * 1000.0),
                success_ratio: report.success_ratio,
            })
            .collect();
        let health = self.watch.health();
        Status {
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
            members: self.members(&endpoints),
            late: LateStatus { batches: late_batches, bytes: late_bytes },
            reads: ReadStatus { cached_batches, cached_bytes, endpoints },
            certificates_last_minute: self.recent.last_minute(unix_now()),
            certificates: self.recent.list(),
            canary: self.canary.as_ref().and_then(Canary::last),
            post: self.poster.as_ref().map(PosterStatus::of),
            chain: self.followed.as_ref().map(|index| service::status(&**index)),
            ports: self.ports.report(),
            process: process_use().into(),
            alarms: self.alarms.list(),
        }
    }

    fn members(&self, endpoints: &[EndpointStatus]) -> Vec<MemberStatus> {
        let members = self.fan_out.members();
        let said: Vec<Option<Report>> = members.iter().map(|member| self.reports.of(member.index)).collect();
        let audits = |name: &str| {
            let custodies = said.iter().flatten().filter_map(|report| report.custody.as_ref());
            let of_it = custodies.flat_map(|custody| &custody.audits).filter(|audit| audit.name == name);
            let add = |sum: AuditSum, audit: &SaidAudit| AuditSum {
                right: sum.right.saturating_add(audit.right),
                wrong: sum.wrong.saturating_add(audit.wrong),
                silent: sum.silent.saturating_add(audit.silent),
            };
            of_it.fold(None, |sum: Option<AuditSum>, audit| Some(add(sum.unwrap_or_default(), audit)))
        };
        let status = |(member, says): (_, &Option<Report>)| {
            let member: &Arc<crate::member::Member> = member;
            let rest = self.reports.endpoint(member.index).map(Endpoint::to_string);
            let reads = endpoints.iter().find(|endpoint| Some(&endpoint.url) == rest.as_ref());
            let health = member.health.report();
            MemberStatus {
                index: member.index,
                name: member.name.clone(),
                rpc: member.endpoint().to_string(),
                body_limit: member.body_limit(),
                state: state(&health, member.health.trouble().map(|(trouble, _)| trouble)),
                reads: reads.map(|endpoint| ReadHealth {
                    mean_latency_ms: endpoint.mean_latency_ms,
                    success_ratio: endpoint.success_ratio,
                }),
                audits: audits(&member.name),
                says: says.clone(),
                rest,
                health,
            }
        };
        members.iter().zip(&said).map(status).collect()
    }

    /// The state now, as JSON text.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.status()).expect("numbers and strings have a JSON form")
    }
}

fn state(health: &HealthReport, trouble: Option<Trouble>) -> &'static str {
    match (health.healthy, trouble) {
        (Some(false), _) => "down",
        (_, Some(Trouble::Wrong)) => "wrong",
        (_, Some(Trouble::Refuses)) => "refuses",
        (None, _) => "unknown",
        (Some(true), _) => "up",
    }
}

/// Now, in unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
