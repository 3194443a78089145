//! A small batch every few minutes, stored, certified and read back through every member: a member that would fail the
//! sequencer's next batch is found before that batch comes.
//!
//! The batch takes the way of every batch to its certificate. A certificate needs only the fastest members, so each
//! member is then given the same batch once more by itself, its signature is checked, and it is asked for the batch at its
//! REST port, from what it has itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::bls::verify_same_message;
use das_common::certificate::signed_bytes_v1;
use das_common::fault;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::http::rest::Scope;
use das_common::store_auth::StoreKey;
use das_common::telemetry::names;
use das_common::wire::parse_get_by_hash;
use futures::future::join_all;
use http::StatusCode;
use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use rand::RngCore as _;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::status::unix_now;
use crate::collect::{Asked, Collect};
use crate::fan_out::FanOut;
use crate::member::{Authority, Job, Member};
use crate::reports::Reports;
use crate::store::Stores;

/// What every canary's batch begins with, so that whoever finds one knows what it is.
const WORDS: &[u8] = b"das canary: a batch that tries the committee, of no meaning to any chain. ";
/// Random bytes after the words: every round is a batch that nobody has yet.
const RANDOM: usize = 182;
/// The largest answer to a read: a canary in base64, and room.
const MAX_ANSWER: usize = 4096;
/// The first round waits for the start to settle.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// After a round that failed the next one comes sooner.
const ANXIOUS: Duration = Duration::from_secs(30);

/// How the canary fares. Cheap to clone.
#[derive(Clone)]
pub struct Canary {
    shared: Arc<Shared>,
}

struct Shared {
    stores: Stores,
    fan_out: FanOut,
    reports: Reports,
    http: HttpClient,
    key: Arc<StoreKey>,
    alarms: Alarms,
    times: CanaryTimes,
    last: Mutex<Option<Round>>,
}

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct CanaryTimes {
    /// Between two rounds.
    pub interval: Duration,
    /// How long members are asked to keep the batch.
    pub retention: Duration,
    /// Time for each step of each member.
    pub patience: Duration,
}

/// One round.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// When it ended, unix seconds.
    pub at: u64,
    /// Of the batch.
    pub data_hash: String,
    /// Why there was no certificate; none when there was one.
    pub error: Option<String>,
    /// Milliseconds to the certificate.
    pub certified_ms: Option<f64>,
    /// The members, in the order of the committee.
    pub members: Vec<MemberRound>,
}

/// One member's part in a round.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberRound {
    /// Its name.
    pub name: String,
    /// Milliseconds to its good signature.
    pub store_ms: Option<f64>,
    /// Milliseconds to the batch read back from it; none without a REST port in the committee file.
    pub read_ms: Option<f64>,
    /// What went wrong; none when nothing did.
    pub error: Option<String>,
}

impl Round {
    fn good(&self) -> usize {
        self.members.iter().filter(|member| member.error.is_none()).count()
    }
}

impl Canary {
    /// Stores through `stores` and `fan_out` in the name of `key`, and reads from where `reports` asks.
    pub fn new(
        stores: Stores,
        fan_out: FanOut,
        reports: Reports,
        http: HttpClient,
        key: Arc<StoreKey>,
        alarms: Alarms,
        times: CanaryTimes,
    ) -> Self {
        let last = Mutex::default();
        Self { shared: Arc::new(Shared { stores, fan_out, reports, http, key, alarms, times, last }) }
    }

    /// One round after another until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_AFTER.min(self.shared.times.interval);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let round = tokio::select! {
                round = self.shared.round() => round,
                () = stop.cancelled() => return,
            };
            let all_good = round.error.is_none() && round.good() == round.members.len();
            pause =
                if all_good { self.shared.times.interval } else { ANXIOUS.min(self.shared.times.interval) };
            *self.shared.last.lock() = Some(round);
        }
    }

    /// The last round.
    pub fn last(&self) -> Option<Round> {
        self.shared.last.lock().clone()
    }
}

impl Shared {
    async fn round(&self) -> Round {
        let mut message = WORDS.to_vec();
        message.resize(WORDS.len() + RANDOM, 0);
        rand::rng().fill_bytes(&mut message[WORDS.len()..]);
        let batch = VerifiedBatch::new(Bytes::from(message));
        let timeout = unix_now().saturating_add(self.times.retention.as_secs());
        let began = Instant::now();
        let certified = self.stores.store_canary(&batch, timeout, Arc::clone(&self.key)).await;
        let took = began.elapsed();
        let members = self.fan_out.members();
        let parts = members.iter().map(|member| self.try_member(member, &batch, timeout));
        let round = Round {
            at: unix_now(),
            data_hash: format!("0x{}", batch.hash()),
            certified_ms: certified.is_ok().then(|| milliseconds(took)),
            error: certified.err().map(|error| error.to_string()),
            members: join_all(parts).await,
        };
        self.tell(&round);
        round
    }

    async fn try_member(&self, member: &Arc<Member>, batch: &VerifiedBatch, timeout: u64) -> MemberRound {
        let name = member.name.clone();
        let seconds =
            |step: &'static str| histogram!(names::CANARY_SECONDS, "member" => name.clone(), "step" => step);
        let began = Instant::now();
        let (mut store_ms, mut read_ms) = (None, None);
        let result = async {
            self.store_at(member, batch, timeout).await?;
            seconds("store").record(began.elapsed().as_secs_f64());
            store_ms = Some(milliseconds(began.elapsed()));
            if let Some(endpoint) = self.reports.endpoint(member.index) {
                let began = Instant::now();
                self.read_from(endpoint, batch).await?;
                seconds("read").record(began.elapsed().as_secs_f64());
                read_ms = Some(milliseconds(began.elapsed()));
            }
            Ok::<(), String>(())
        };
        let error = result.await.err();
        gauge!(names::CANARY_MEMBER, "member" => name.clone()).set(if error.is_none() { 1.0 } else { 0.0 });
        MemberRound { name, store_ms, read_ms, error }
    }

    async fn store_at(&self, member: &Member, batch: &VerifiedBatch, timeout: u64) -> Result<(), String> {
        let asked = Asked { data_hash: batch.hash(), timeout };
        let job = Job::new(asked, batch.bytes().clone(), Authority::Own(Arc::clone(&self.key)));
        let claim =
            member.store(&job, self.times.patience).await.map_err(|failure| format!("store: {failure}"))?;
        Collect::check_fields(&asked, &claim).map_err(|failure| format!("store: {failure}"))?;
        let signed = signed_bytes_v1(&asked.data_hash, timeout);
        let pair = (member.public_key.clone(), claim.signature);
        let check = tokio::task::spawn_blocking(move || verify_same_message(&signed, &[pair]));
        match check.await.as_deref() {
            Ok([true]) => Ok(()),
            _ => Err("store: the signature is wrong under the member's key".to_owned()),
        }
    }

    async fn read_from(&self, endpoint: &Endpoint, batch: &VerifiedBatch) -> Result<(), String> {
        let path = format!("/get-by-hash/{}", batch.hash());
        let header = Scope::Local.header();
        let answer = self.http.get_with(endpoint, &path, header, self.times.patience, MAX_ANSWER).await;
        let answer = answer.map_err(|error| format!("read: {error}"))?;
        if answer.status != StatusCode::OK {
            return Err(format!("read: HTTP status {}", answer.status));
        }
        match parse_get_by_hash(&answer.body) {
            Ok(data) if data == batch.bytes()[..] => Ok(()),
            _ => Err("read: another batch came back".to_owned()),
        }
    }

    fn tell(&self, round: &Round) {
        let result = if round.error.is_none() { "ok" } else { "error" };
        counter!(names::CANARY_ROUNDS, "result" => result).increment(1);
        match &round.error {
            None => {
                gauge!(names::CANARY_LAST).set(round.at as f64);
                self.alarms.clear(fault::CANARY_MISSED.code);
            }
            Some(error) => self.alarms.raise_fault(fault::CANARY_MISSED, error.clone()),
        }
        let failed: Vec<_> = round
            .members
            .iter()
            .filter_map(|member| Some(format!("{}: {}", member.name, member.error.as_ref()?)))
            .collect();
        if failed.is_empty() {
            self.alarms.clear(fault::CANARY_MEMBER.code);
            info!(
                hash = round.data_hash,
                took_ms = round.certified_ms,
                "canary: every member stored, signed and served"
            );
        } else {
            warn!(hash = round.data_hash, "canary: {}", failed.join("; "));
            self.alarms.raise_fault(fault::CANARY_MEMBER, failed.join("; "));
        }
        let (good, needed) = (round.good(), self.fan_out.threshold());
        if !failed.is_empty() && good <= needed {
            let text = format!("{good} of {} members are good, {needed} are needed", round.members.len());
            self.alarms.raise_fault(fault::CANARY_THIN, text);
        } else {
            self.alarms.clear(fault::CANARY_THIN.code);
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
