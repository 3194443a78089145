//! What the members say of themselves at their REST ports: version, disk, clock, custody, alarms.
//!
//! It is shown and never relied on: a member may say what it likes, and one that is not ours says nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use das_common::http::client::{Endpoint, HttpClient};
use das_common::telemetry::names;
use futures::future::join_all;
use http::StatusCode;
use metrics::gauge;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::api::status::unix_now;
use crate::watch::Watch;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(3);
/// Custody changes slowly and costs the member more to tell: every so many rounds.
const CUSTODY_EVERY: u64 = 5;
/// The longest answer that is read.
const MAX_ANSWER: usize = 512 * 1024;
/// Longest text of a member that is shown.
const MAX_TEXT: usize = 200;

/// What a member says of itself.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it said so, unix seconds.
    pub at: u64,
    /// Its version.
    pub version: String,
    /// Whether it says that it can store.
    pub can_store: Option<bool>,
    /// Why it cannot store or serve.
    pub reasons: Vec<String>,
    /// Batches that it holds, about.
    pub batches: Option<u64>,
    /// Bytes free on its disk.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of its disk.
    pub disk_total_bytes: Option<u64>,
    /// How far its clock is ahead of ours, in milliseconds; true to half of what the question took.
    pub clock_ahead_ms: Option<i64>,
    /// Its alarms: code and text.
    pub alarms: Vec<SaidAlarm>,
    /// Its custody.
    pub custody: Option<SaidCustody>,
}

/// An alarm of a member.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
pub struct SaidAlarm {
    /// Its code.
    pub code: String,
    /// What is the case.
    pub text: String,
}

/// A member's custody, in numbers.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaidCustody {
    /// Batches that are here whole.
    pub whole: u64,
    /// Batches that are here as shards only, and covered by others.
    pub covered: u64,
    /// Those that too few others cover.
    pub under_replicated: u64,
    /// Batches that should be here and are not yet.
    pub missing: u64,
    /// How the audits of others by this member went, by the others' names.
    pub audits: Vec<SaidAudit>,
}

/// How a member's audits of another went.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaidAudit {
    /// Who was audited.
    pub name: String,
    /// Showed what was asked for.
    pub right: u64,
    /// Showed something else.
    pub wrong: u64,
    /// Did not answer.
    pub silent: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusAnswer {
    version: String,
    can_store: Option<bool>,
    #[serde(default)]
    reasons: Vec<String>,
    batches: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    now_ms: Option<i64>,
    #[serde(default)]
    alarms: Vec<SaidAlarm>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustodyAnswer {
    batches: FormsAnswer,
    coverage: CoverageAnswer,
    peers: Vec<PeerAnswer>,
}

#[derive(Deserialize)]
struct FormsAnswer {
    hot: u64,
    waiting: u64,
    whole: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CoverageAnswer {
    covered: AmountAnswer,
    under_replicated: AmountAnswer,
    missing: AmountAnswer,
}

#[derive(Deserialize)]
struct AmountAnswer {
    batches: u64,
}

#[derive(Deserialize)]
struct PeerAnswer {
    name: String,
    audits: AuditAnswer,
}

#[derive(Deserialize)]
struct AuditAnswer {
    right: u64,
    wrong: u64,
    silent: u64,
}

/// The last report of each member. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    shared: Arc<Shared>,
}

struct Shared {
    members: Vec<Asked>,
    http: HttpClient,
    watch: Watch,
}

struct Asked {
    name: String,
    endpoint: Option<Endpoint>,
    last: Mutex<Option<Report>>,
    /// Whether the last question was answered; none before the first.
    answered: Mutex<Option<bool>>,
}

impl Reports {
    /// Of members with these names and REST ports.
    pub fn new(members: Vec<(String, Option<Endpoint>)>, http: HttpClient, watch: Watch) -> Self {
        let asked =
            |(name, endpoint)| Asked { name, endpoint, last: Mutex::default(), answered: Mutex::default() };
        Self { shared: Arc::new(Shared { members: members.into_iter().map(asked).collect(), http, watch }) }
    }

    /// Asks from time to time until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        for round in 0_u64.. {
            tokio::select! {
                () = self.round(round % CUSTODY_EVERY == 0) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn round(&self, custody: bool) {
        let changed =
            join_all(self.shared.members.iter().map(|member| self.shared.ask(member, custody))).await;
        // A member that came or went is a reason to look at all of them.
        if changed.contains(&true) {
            self.shared.watch.glance();
        }
    }

    /// The last report of the member at this position.
    pub fn of(&self, index: usize) -> Option<Report> {
        self.shared.members.get(index)?.last.lock().clone()
    }

    /// Its REST port.
    pub fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.shared.members.get(index)?.endpoint.as_ref()
    }
}

impl Shared {
    /// Whether it answered now and did not before, or the other way round.
    async fn ask(&self, member: &Asked, custody: bool) -> bool {
        let Some(endpoint) = &member.endpoint else { return false };
        let began = unix_ms();
        let answer = self.http.get(endpoint, "/status", DEADLINE, MAX_ANSWER).await;
        let between = i64::midpoint(began, unix_ms());
        let answered = answer.is_ok();
        if let Some(status) = answer.ok().filter(|answer| answer.status == StatusCode::OK)
            && let Ok(said) = serde_json::from_slice::<StatusAnswer>(&status.body)
        {
            let known = member.last.lock().as_ref().and_then(|report| report.custody.clone());
            let custody = if custody { self.custody(endpoint).await.or(known) } else { known };
            let report = said.report(between, custody);
            publish(&member.name, &report);
            *member.last.lock() = Some(report);
        }
        member.answered.lock().replace(answered).is_some_and(|before| before != answered)
    }

    async fn custody(&self, endpoint: &Endpoint) -> Option<SaidCustody> {
        let answer = self.http.get(endpoint, "/custody", DEADLINE, MAX_ANSWER).await.ok()?;
        let said: CustodyAnswer = serde_json::from_slice(&answer.body).ok()?;
        let audit = |peer: PeerAnswer| {
            let AuditAnswer { right, wrong, silent } = peer.audits;
            SaidAudit { name: cut(peer.name), right, wrong, silent }
        };
        let FormsAnswer { hot, waiting, whole } = said.batches;
        Some(SaidCustody {
            whole: hot.saturating_add(waiting).saturating_add(whole),
            covered: said.coverage.covered.batches,
            under_replicated: said.coverage.under_replicated.batches,
            missing: said.coverage.missing.batches,
            audits: said.peers.into_iter().take(64).map(audit).collect(),
        })
    }
}

impl StatusAnswer {
    fn report(self, between: i64, custody: Option<SaidCustody>) -> Report {
        let alarm = |SaidAlarm { code, text }| SaidAlarm { code: cut(code), text: cut(text) };
        Report {
            at: unix_now(),
            version: cut(self.version),
            can_store: self.can_store,
            reasons: self.reasons.into_iter().take(8).map(cut).collect(),
            batches: self.batches,
            disk_free_bytes: self.disk_free_bytes,
            disk_total_bytes: self.disk_total_bytes,
            clock_ahead_ms: self.now_ms.map(|theirs| theirs.saturating_sub(between)),
            alarms: self.alarms.into_iter().take(32).map(alarm).collect(),
            custody,
        }
    }
}

fn publish(member: &str, report: &Report) {
    let of = |name: &'static str, value: Option<f64>| {
        if let Some(value) = value {
            gauge!(name, "member" => member.to_owned()).set(value);
        }
    };
    of(names::MEMBER_CLOCK, report.clock_ahead_ms.map(|ms| ms as f64 / 1000.0));
    of(names::MEMBER_DISK_FREE, report.disk_free_bytes.map(|bytes| bytes as f64));
    of(names::MEMBER_ALARMS, Some(report.alarms.len() as f64));
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    text
}

fn unix_ms() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_word_is_bounded() {
        let said = serde_json::json!({
            "version": "v".repeat(9_000), "nowMs": i64::MIN, "reasons": vec!["r"; 100],
            "alarms": vec![serde_json::json!({ "code": "c", "text": "ü".repeat(500), "cure": 1 }); 100],
        });
        let said: StatusAnswer = serde_json::from_value(said).unwrap();
        let report = said.report(i64::MAX, None);
        assert_eq!((report.version.len(), report.reasons.len(), report.alarms.len()), (MAX_TEXT, 8, 32));
        assert_eq!(report.alarms[0].text.chars().count(), MAX_TEXT);
        assert_eq!(report.clock_ahead_ms, Some(i64::MIN));
    }
}
