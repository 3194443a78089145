//! The shapes of the JSON answers; docs/explorer.md shows them to callers.

use alloy_primitives::{Address, B256};
use das_chain::reader::BlockId;
use das_common::certificate::Certificate;
use das_common::data_hash::DataHash;
use futures::StreamExt as _;
use serde::Serialize;

use super::Explorer;
use super::listing::{self, Listing};
use super::rosters::{Rosters, SignerShape};
use super::sources::Availability;
use super::verify::{self, Asked, Verification};
use crate::types::{Away, Content, Era, Payload, PostedBatch, Progress};

/// Of one answer, so many batches are asked about at once.
const QUESTIONS_AT_ONCE: usize = 4;

#[derive(Serialize)]
pub(super) struct ErrorShape {
    pub(super) error: String,
}

/// As everybody writes it.
pub(super) fn hex(hash: &DataHash) -> String {
    const_hex::encode_prefixed(hash.as_bytes())
}

#[derive(Serialize)]
pub(super) struct BlockShape {
    number: u64,
    hash: B256,
}

impl From<BlockId> for BlockShape {
    fn from(block: BlockId) -> Self {
        Self { number: block.number, hash: block.hash }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BoundsShape {
    min_timestamp: u64,
    max_timestamp: u64,
    min_block: u64,
    max_block: u64,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ContentShape {
    Certificate { bytes: String, error: Option<String> },
    Data { header: Option<u8>, length: u64 },
    Nothing,
    Blobs,
    Unreadable { why: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateShape {
    version: u8,
    keyset_hash: String,
    data_hash: String,
    timeout: u64,
    signers_mask: String,
    assumed_honest: Option<u64>,
    signers: Option<Vec<SignerShape>>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum PayloadShape {
    None,
    Waiting { attempts: u32, retry_at: u64, why: Option<String> },
    Fetched { length: u64 },
    Ignored { why: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AvailabilityShape {
    state: &'static str,
    why: Option<String>,
    asked_at: u64,
}

/// For programs.
pub(super) fn availability_name(availability: &Availability) -> &'static str {
    match availability {
        Availability::Whole => "whole",
        Availability::Shard => "shard",
        Availability::Elsewhere => "elsewhere",
        Availability::NotFound => "notFound",
        Availability::Unknown { .. } => "unknown",
    }
}

impl From<Asked> for AvailabilityShape {
    fn from(asked: Asked) -> Self {
        let state = availability_name(&asked.availability);
        let why = match asked.availability {
            Availability::Unknown { why } => Some(why),
            Availability::Whole | Availability::Shard | Availability::Elsewhere | Availability::NotFound => {
                None
            }
        };
        Self { state, why, asked_at: asked.at }
    }
}

/// A batch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchShape {
    era: u32,
    number: u64,
    block: BlockShape,
    timestamp: u64,
    transaction: B256,
    log_index: u64,
    bounds: BoundsShape,
    after_delayed: u64,
    before_acc: B256,
    after_acc: B256,
    content: ContentShape,
    certificate: Option<CertificateShape>,
    payload: PayloadShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<AvailabilityShape>,
}

/// The shapes of batches, with the names of signers, and with availability where it is asked for.
pub(super) async fn batches(
    explorer: &Explorer,
    batches: Vec<PostedBatch>,
    with_availability: bool,
) -> Vec<BatchShape> {
    let certificates: Vec<_> = batches.iter().map(listing::certificate).collect();
    let questions = certificates.clone().into_iter().map(|certificate| async move {
        match certificate {
            Some(certificate) if with_availability => {
                Some(verify::availability(explorer, &certificate).await)
            }
            Some(_) | None => None,
        }
    });
    let asked = futures::stream::iter(questions).buffered(QUESTIONS_AT_ONCE).collect::<Vec<_>>();
    let (rosters, asked) = tokio::join!(Rosters::of(explorer, &batches), asked);
    let shape = |((posted, certificate), asked): ((PostedBatch, Option<Certificate>), _)| {
        let certificate = certificate.map(|certificate| CertificateShape {
            version: certificate.version,
            keyset_hash: hex(&certificate.keyset_hash),
            data_hash: hex(&certificate.data_hash),
            timeout: certificate.timeout,
            signers_mask: format!("{:#x}", certificate.signers_mask),
            assumed_honest: rosters.assumed_honest(&certificate.keyset_hash),
            signers: rosters.signers(&certificate),
        });
        shape(posted, certificate, asked)
    };
    batches.into_iter().zip(certificates).zip(asked).map(shape).collect()
}

fn shape(
    batch: PostedBatch,
    certificate: Option<CertificateShape>,
    availability: Option<Asked>,
) -> BatchShape {
    let content = match batch.content {
        Content::Certificate(bytes) => {
            let error = Certificate::parse_as_nitro(&bytes).err().map(|error| error.to_string());
            ContentShape::Certificate { bytes: const_hex::encode_prefixed(bytes), error }
        }
        Content::Data { header, length } => ContentShape::Data { header, length },
        Content::Nothing => ContentShape::Nothing,
        Content::Blobs => ContentShape::Blobs,
        Content::Unreadable(why) => ContentShape::Unreadable { why },
    };
    let payload = match batch.payload {
        Payload::None => PayloadShape::None,
        Payload::Waiting { attempts, retry_at, why } => PayloadShape::Waiting { attempts, retry_at, why },
        Payload::Fetched { length } => PayloadShape::Fetched { length },
        Payload::Ignored { why } => PayloadShape::Ignored { why },
    };
    BatchShape {
        era: batch.era,
        number: batch.number,
        block: batch.block.into(),
        timestamp: batch.timestamp,
        transaction: batch.transaction,
        log_index: batch.log_index,
        bounds: BoundsShape {
            min_timestamp: batch.bounds.min_timestamp,
            max_timestamp: batch.bounds.max_timestamp,
            min_block: batch.bounds.min_block,
            max_block: batch.bounds.max_block,
        },
        after_delayed: batch.after_delayed,
        before_acc: batch.before_acc,
        after_acc: batch.after_acc,
        content,
        certificate,
        payload,
        availability: availability.map(AvailabilityShape::from),
    }
}

/// A page of batches.
#[derive(Serialize)]
pub(super) struct ListingShape {
    era: Option<u32>,
    batches: Vec<BatchShape>,
    next: Option<String>,
}

/// The shape of a page.
pub(super) async fn listing(explorer: &Explorer, page: Listing, with_availability: bool) -> ListingShape {
    ListingShape {
        era: page.era.map(|era| era.id),
        batches: batches(explorer, page.batches, with_availability).await,
        next: page.next.map(|next| next.to_string()),
    }
}

/// Batches found by something else than their place.
#[derive(Serialize)]
pub(super) struct FoundShape {
    pub(super) batches: Vec<BatchShape>,
    pub(super) more: bool,
}

#[derive(Serialize)]
pub(super) struct MatchShape {
    pub(super) by: &'static str,
    pub(super) batch: BatchShape,
}

/// What a search found.
#[derive(Serialize)]
pub(super) struct SearchShape {
    pub(super) matches: Vec<MatchShape>,
    pub(super) more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EraShape {
    id: u32,
    chain_id: u64,
    genesis: B256,
    inbox: Address,
    began: u64,
    ended: Option<u64>,
}

/// The newest eras.
#[derive(Serialize)]
pub(super) struct ErasShape {
    eras: Vec<EraShape>,
    more: bool,
}

impl ErasShape {
    pub(super) fn new(eras: &[Era], limit: usize) -> Self {
        let shape = |era: &Era| EraShape {
            id: era.id,
            chain_id: era.chain_id,
            genesis: era.genesis,
            inbox: era.inbox,
            began: era.began,
            ended: era.ended,
        };
        Self { eras: eras.iter().take(limit).map(shape).collect(), more: eras.len() > limit }
    }
}

#[derive(Serialize)]
struct AwayShape {
    since: u64,
    why: String,
}

/// How far the chain was followed.
#[derive(Serialize)]
pub(super) struct ProgressShape {
    era: Option<u32>,
    at: Option<BlockShape>,
    head: Option<u64>,
    behind: Option<u64>,
    batches: u64,
    waiting: u64,
    failing: u64,
    away: Option<AwayShape>,
}

/// Blocks between the last one that was read and the newest.
pub(super) fn behind(progress: &Progress) -> Option<u64> {
    Some(progress.head?.saturating_sub(progress.at?.number))
}

impl ProgressShape {
    pub(super) fn new(progress: &Progress, away: Option<Away>) -> Self {
        Self {
            era: progress.era,
            at: progress.at.map(BlockShape::from),
            head: progress.head,
            behind: behind(progress),
            batches: progress.batches,
            waiting: progress.waiting,
            failing: progress.failing,
            away: away.map(|away| AwayShape { since: away.since, why: away.why }),
        }
    }
}

#[derive(Serialize)]
struct CheckShape {
    check: &'static str,
    title: &'static str,
    state: &'static str,
    why: String,
}

/// What every node makes of a batch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VerificationShape {
    era: u32,
    number: u64,
    verdict: &'static str,
    means: &'static str,
    checks: Vec<CheckShape>,
    checked_at: u64,
}

impl VerificationShape {
    pub(super) fn new(batch: &PostedBatch, verification: Verification) -> Self {
        let check = |check: verify::Check| CheckShape {
            check: check.step.name(),
            title: check.step.title(),
            state: check.state.name(),
            why: check.why,
        };
        Self {
            era: batch.era,
            number: batch.number,
            verdict: verification.verdict.name(),
            means: verification.verdict.means(),
            checks: verification.checks.into_iter().map(check).collect(),
            checked_at: verification.at,
        }
    }
}
