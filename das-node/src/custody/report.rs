//! What custody looks like from outside.

use std::sync::Arc;
use std::time::Duration;

use das_common::custody::machine::{self, Health};
use das_common::telemetry::names;
use metrics::gauge;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::warn;

use super::audit::AuditCounts;
use super::scrub::ScrubReport;
use super::{NodeMachine, Shared};
use crate::peer::MemberStatus;
use crate::storage::Usage;

/// Between two publications of the numbers of batches.
const PUBLISH: Duration = Duration::from_secs(10);

/// The answer at `/custody`.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyReport {
    /// Names the database.
    pub storage_id: String,
    /// The coding in force, by which new batches are coded.
    pub coding_id: Option<String>,
    /// Batches by form.
    pub batches: BatchCounts,
    /// How well they are covered, and how far the work on them is behind.
    pub coverage: Coverage,
    /// Bytes by form.
    pub bytes: ByteCounts,
    /// The disk.
    pub disk: DiskReport,
    /// Bundles of evidence in the folder `evidence` of the data directory.
    pub evidence: u64,
    /// At a member that the newest committee file does not name: whether K members of the new coding have stated
    /// everything that it holds, so that it may go.
    pub free_to_go: Option<bool>,
    /// What the scrub came to since this node started.
    pub scrub: ScrubReport,
    /// The other members.
    pub peers: Vec<PeerReport>,
}

/// How many batches are in which form.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchCounts {
    /// Whole and still hot, or waiting to be encoded.
    pub hot: u64,
    /// Whole, the own shard beside it: waiting for statements of others.
    pub waiting: u64,
    /// The own shard only.
    pub sharded: u64,
    /// Whole, and to stay so.
    pub whole: u64,
    /// Should be here and are not (yet).
    pub missing: u64,
    /// Stated by others only.
    pub elsewhere: u64,
}

/// How well batches are covered.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// The own shard only, and K members or more count.
    pub covered: Amount,
    /// The own shard only, and fewer than K count: made whole again before anything else.
    pub under_replicated: Amount,
    /// Of these, those of which fewer than k count.
    pub unreadable: Amount,
    /// The own shard of an earlier coding only: a change of the committee is not through until this is nothing.
    pub earlier_coding: Amount,
    /// Should be here and are not (yet).
    pub missing: Amount,
    /// Batches that could not be gathered when it was tried last.
    pub failed_gathers: u64,
    /// Seconds beyond its hot window that the oldest batch has waited to become a shard.
    pub oldest_demotion: Option<u64>,
    /// Seconds that there has been something to repair, without a pause.
    pub oldest_repair: Option<u64>,
}

/// Batches, and their lengths in bytes together.
#[derive(Debug, Clone, Copy, JsonSchema, Serialize)]
pub struct Amount {
    /// How many.
    pub batches: u64,
    /// How long all of them are whole.
    pub bytes: u64,
}

impl Coverage {
    fn of(health: &Health) -> Self {
        let amount = |of: machine::Amount| Amount { batches: of.batches, bytes: of.bytes };
        Self {
            covered: amount(health.covered),
            under_replicated: amount(health.under_replicated),
            unreadable: amount(health.unreadable),
            earlier_coding: amount(health.earlier_coding),
            missing: amount(health.missing),
            failed_gathers: health.failed_gathers,
            oldest_demotion: health.oldest_demotion.map(|time| time.as_secs()),
            oldest_repair: health.oldest_repair.map(|time| time.as_secs()),
        }
    }
}

/// How many bytes are in which form.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByteCounts {
    /// Whole batches.
    pub whole: u64,
    /// Shards with their proofs.
    pub shards: u64,
    /// What the batches that are here as shards only would take whole.
    pub sharded_would_take: u64,
    /// Taken on disk, and by nothing that is needed.
    pub dead: u64,
    /// The index.
    pub index: u64,
}

/// The disk, if demotion stopped.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskReport {
    /// Bytes free above the reserve.
    pub free: u64,
    /// Bytes that stores leave free.
    pub reserve: u64,
    /// Seconds that the free bytes last at the rate of the last day, if every batch stayed whole; none while there is no
    /// rate.
    pub lasts: Option<u64>,
}

/// Another member as custody sees it.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Connection and address.
    #[serde(flatten)]
    pub status: MemberStatus,
    /// The storage id whose statements count.
    pub storage_id: Option<String>,
    /// Seconds since it was last heard of.
    pub silent_for: u64,
    /// Whether it has been silent for too long to count.
    pub silent: bool,
    /// What its audits came to since this node started.
    pub audits: AuditCounts,
}

/// Publishes the numbers of batches for ever.
pub(super) async fn publish(shared: Arc<Shared>) {
    loop {
        let look = |machine: &mut NodeMachine, now| (machine.summary(), machine.health(now));
        if let Some((summary, Ok(health))) = shared.ask(look).await {
            for (form, count) in [
                ("hot", summary.to_encode),
                ("waiting", summary.waiting + summary.dropping),
                ("sharded", summary.sharded),
                ("whole", summary.whole),
                ("missing", summary.missing),
                ("elsewhere", summary.unheld),
            ] {
                gauge!(names::CUSTODY_BATCHES, "form" => form).set(count as f64);
            }
            for (state, amount) in [
                ("covered", health.covered),
                ("under_replicated", health.under_replicated),
                ("unreadable", health.unreadable),
                ("missing", health.missing),
            ] {
                gauge!(names::CUSTODY_COVERAGE, "state" => state).set(amount.batches as f64);
            }
            let repairing = health.oldest_repair.map_or(0.0, |time| time.as_secs_f64());
            gauge!(names::CUSTODY_REPAIRING).set(repairing);
        }
        tokio::time::sleep(PUBLISH).await;
    }
}

pub(super) async fn report(shared: &Arc<Shared>) -> Option<CustodyReport> {
    let look = |machine: &mut NodeMachine, now| {
        (machine.storage_id(), machine.summary(), machine.members(now), machine.health(now))
    };
    let (storage, summary, members, health) = shared.ask(look).await?;
    let health = health.inspect_err(|error| warn!(%error, "the custody records cannot be read")).ok()?;
    let usage: Usage = shared.store.usage().await.ok()?;
    let (free, lasts) = shared.outlook();
    let peers = shared.peers.members().into_iter().map(|status| {
        let key = shared.members.keys.get(&status.member);
        let view = members.iter().find(|view| Some(&view.member) == key);
        PeerReport {
            status,
            storage_id: view.and_then(|view| view.storage_id).map(|id| const_hex::encode(id.0)),
            silent_for: view.map_or(0, |view| view.silent_for.as_secs()),
            silent: view.is_some_and(|view| view.silent),
            audits: key.map(|key| shared.audits.of(key)).unwrap_or_default(),
        }
    });
    Some(CustodyReport {
        storage_id: const_hex::encode(storage.0),
        coding_id: shared.reads.parts().first().map(|part| format!("0x{}", part.coding.id)),
        batches: BatchCounts {
            hot: summary.to_encode,
            waiting: summary.waiting + summary.dropping,
            sharded: summary.sharded,
            whole: summary.whole,
            missing: summary.missing,
            elsewhere: summary.unheld,
        },
        coverage: Coverage::of(&health),
        bytes: ByteCounts {
            whole: usage.whole_bytes,
            shards: usage.shard_bytes,
            sharded_would_take: usage.payload_bytes_of_sharded,
            dead: usage.dead_bytes,
            index: usage.index_bytes,
        },
        disk: DiskReport {
            free,
            reserve: shared.options.reserve_bytes,
            lasts: lasts.map(|lasts| lasts.as_secs()),
        },
        evidence: shared.evidence.count().unwrap_or(0) as u64,
        free_to_go: summary.free_to_go,
        scrub: shared.scrub.report(),
        peers: peers.collect(),
    })
}
