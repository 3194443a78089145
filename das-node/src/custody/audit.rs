//! Audits: each member is asked at random moments for random leaves of random batches that it stated it holds.
//!
//! A member that lost a fraction p of its shards is found after about 3 / p questions. A wrong leaf, or a signed "I do not
//! have it", ends the statement at once and is kept as evidence; silence is counted, and is the peer layer's to judge.
//! Every other question is about what the member failed to show before, for as long as it states it: once that is mended,
//! it counts again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use das_common::custody::evidence::{AuditQuestion, Evidence};
use das_common::custody::machine::{AuditTarget, Event};
use das_common::custody::message::{PeerRequest, PeerResponse};
use das_common::custody::{MemberKey, PeerPublicKey};
use das_common::data_hash::DataHash;
use parking_lot::Mutex;
use rand::Rng;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::{debug, warn};

use super::Shared;
use super::source::ask;
use crate::clock::unix_time;

/// A leaf is a kilobyte: who does not answer by then does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failures of one member that are asked about again.
const MAX_FAILED: usize = 64;

/// What the audits of one member came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditCounts {
    /// It showed the leaf.
    pub right: u64,
    /// It showed something else, or said that it does not have it.
    pub wrong: u64,
    /// It did not answer.
    pub silent: u64,
    /// When it last failed (unix seconds).
    pub last_failure: Option<u64>,
}

/// The counts of all members.
#[derive(Default)]
pub(super) struct Audits(Mutex<HashMap<MemberKey, AuditCounts>>);

impl Audits {
    pub(super) fn of(&self, member: &MemberKey) -> AuditCounts {
        self.0.lock().get(member).copied().unwrap_or_default()
    }

    fn note(&self, shared: &Shared, member: &MemberKey, outcome: Outcome) {
        let mut all = self.0.lock();
        let counts = all.entry(*member).or_default();
        match outcome {
            Outcome::Right => counts.right += 1,
            Outcome::Wrong => counts.wrong += 1,
            Outcome::Silent => counts.silent += 1,
        }
        if outcome != Outcome::Right {
            counts.last_failure = Some(unix_time());
        }
        let name = shared.members.names.get(member).cloned().unwrap_or_default();
        let labels = [("member", name), ("outcome", outcome.name().to_owned())];
        metrics::counter!("das_custody_audits_total", &labels).increment(1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    Silent,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Silent => "silent",
        }
    }
}

/// Asks for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let members: Vec<MemberKey> =
        shared.members.ids.keys().copied().filter(|member| *member != shared.me).collect();
    if members.is_empty() {
        return std::future::pending().await;
    }
    // All members are asked in turn, each after a time that nobody can foresee.
    let mean = shared.options.audit_interval / u32::try_from(members.len()).unwrap_or(u32::MAX);
    let mut failed: HashMap<MemberKey, VecDeque<DataHash>> = HashMap::new();
    for member in members.iter().cycle() {
        let pause = mean.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
        if shared.members.ids.get(member).is_some_and(|id| shared.peers.is_connected(*id)) {
            let failed = failed.entry(*member).or_default();
            let again = if rand::random() { failed.pop_front() } else { None };
            let start = again.unwrap_or_else(|| DataHash::from_bytes(rand::random()));
            if let Some((hash, outcome)) = audit(&shared, *member, start).await
                && (outcome == Outcome::Wrong || (outcome == Outcome::Silent && again == Some(hash)))
                && failed.len() < MAX_FAILED
                && !failed.contains(&hash)
            {
                failed.push_back(hash);
            }
        }
    }
}

/// Asks about the first batch at or behind `start` that the member states.
async fn audit(shared: &Arc<Shared>, member: MemberKey, start: DataHash) -> Option<(DataHash, Outcome)> {
    let target = shared.ask(move |machine, now| machine.audit_target(&member, &start, now)).await;
    let target = target?.ok()??;
    let part = shared.part(&target.coding)?;
    let leaf = rand::rng().random_range(0..part.code.leaves(target.length).max(1));
    let question = AuditQuestion { hash: target.hash, coding: target.coding, leaf };
    let id = shared.members.ids.get(&member)?;
    let answer = match ask(&shared.peers, *id, &PeerRequest::Audit(question), PATIENCE).await {
        Ok(PeerResponse::Audit(answer)) => answer,
        other => {
            debug!(member = %id, failed = ?other.err(), "no answer to an audit");
            shared.audits.note(shared, &member, Outcome::Silent);
            return Some((target.hash, Outcome::Silent));
        }
    };
    let index = part.coding.index_of(&member).and_then(|index| u8::try_from(index).ok());
    let (index, key) = (index?, shared.peer_key(&member)?);
    let checked = answer.verify(&PeerPublicKey(*key.as_bytes()));
    let right = checked
        .as_ref()
        .is_ok_and(|answer| answer.question == question && answer.check(&part.coding, index, &target.root));
    if right {
        shared.tell(Event::AuditPassed { member, hash: target.hash, coding: target.coding });
        shared.audits.note(shared, &member, Outcome::Right);
        return Some((target.hash, Outcome::Right));
    }
    shared.audits.note(shared, &member, Outcome::Wrong);
    warn!(member = %id, hash = %target.hash, leaf, "a member cannot show what it stated that it holds");
    if checked.is_ok() {
        keep_evidence(shared, member, &target, answer).await;
    }
    shared.tell(Event::AuditFailed { member, hash: target.hash, coding: target.coding });
    Some((target.hash, Outcome::Wrong))
}

async fn keep_evidence(
    shared: &Arc<Shared>,
    member: MemberKey,
    target: &AuditTarget,
    answer: das_common::custody::evidence::SignedAnswer,
) {
    let (hash, coding) = (target.hash, target.coding);
    let list = shared.ask(move |machine, _| machine.statement_list(&member, &hash, &coding)).await;
    let Some(Ok(Some(list))) = list else { return };
    shared.keep_evidence(member, Evidence::FailedAudit { list, answer }).await;
}
