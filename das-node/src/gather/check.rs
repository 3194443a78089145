//! Asking one member and checking what it says; nothing unchecked leaves this file.

use std::time::Duration;

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::erasure::{CheckedShard, Shard, reconstruct};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::Shared;
use super::limits::Hold;
use super::plan::{Ask, Group};
use super::source::{Offence, OffenceKind, ShardSource, SourceError};

/// Hashing more than this takes so long that other tasks of the thread would wait.
const INLINE_BYTES: usize = 128 * 1024;

/// Something that was checked.
pub(super) enum Got {
    Shard(CheckedShard),
    Whole(VerifiedBatch),
}

/// Why there is nothing.
pub(super) enum Nothing {
    Source(SourceError),
    Offence(OffenceKind),
}

/// What came of a question.
pub(super) struct Answer {
    pub(super) ask: Ask,
    /// From the question to the last byte of the answer.
    pub(super) after: Duration,
    pub(super) outcome: Result<Got, Nothing>,
}

impl<S: ShardSource> Shared<S> {
    /// Puts one question and checks the answer.
    pub(super) async fn ask(&self, ask: Ask, hash: DataHash) -> Answer {
        let started = Instant::now();
        let limit = self.limits.attempt_timeout;
        let (after, outcome) = match ask {
            Ask::Shard(member) => {
                let answer = timeout(limit, self.source.shard(member, hash, self.coding)).await;
                let after = started.elapsed();
                (after, self.check_shard(member, answer.unwrap_or(Err(SourceError::NoAnswer))).await)
            }
            Ask::Whole(member) => {
                let answer = timeout(limit, self.source.whole(member, hash)).await;
                let after = started.elapsed();
                (after, self.check_whole(hash, answer.unwrap_or(Err(SourceError::NoAnswer))).await)
            }
        };
        if let Err(Nothing::Source(error)) = &outcome {
            debug!(%hash, member = ask.member(), %error, "nothing from this member");
        }
        Answer { ask, after, outcome }
    }

    async fn check_shard(&self, member: usize, answer: Result<Shard, SourceError>) -> Result<Got, Nothing> {
        let shard = answer.map_err(Nothing::Source)?;
        let offence = |kind| Err(Nothing::Offence(kind));
        if usize::from(shard.index) != member {
            return offence(OffenceKind::WrongIndex { shard: Box::new(shard) });
        }
        if shard.data_length > self.limits.max_batch_bytes {
            return offence(OffenceKind::TooLong { data_length: shard.data_length });
        }
        let (code, sent) = (self.code.clone(), shard.clone());
        match off_thread(shard.bytes.len(), move || shard.prove(&code)).await {
            Ok(checked) => Ok(Got::Shard(checked)),
            Err(error) => offence(OffenceKind::BadShard { shard: Box::new(sent), error }),
        }
    }

    async fn check_whole(&self, hash: DataHash, answer: Result<Bytes, SourceError>) -> Result<Got, Nothing> {
        let bytes = answer.map_err(Nothing::Source)?;
        let length = bytes.len();
        if length as u64 > self.limits.max_batch_bytes {
            return Err(Nothing::Offence(OffenceKind::TooLong { data_length: length as u64 }));
        }
        match off_thread(length, move || VerifiedBatch::check(bytes, &hash)).await {
            Ok(batch) => Ok(Got::Whole(batch)),
            Err(_) => Err(Nothing::Offence(OffenceKind::WrongBatch { length })),
        }
    }

    /// Finds out, beside the answer, who sent shards under a root that is not the batch's. Only the root computed from
    /// the batch itself tells: the root that rebuilt it may have been a liar's whose k shards happened to be right.
    pub(super) fn judge(&self, batch: VerifiedBatch, groups: Vec<Group>, hold: Hold) {
        let (code, coding, own) = (self.code.clone(), self.coding, self.own);
        let (offences, bad) = (self.offences.clone(), self.counts.shards_bad.clone());
        tokio::task::spawn_blocking(move || {
            let root = code.root_of(batch.bytes());
            let shards = groups.iter().filter(|group| group.root != root).flat_map(|group| &group.shards);
            for shard in shards {
                let (member, hash) = (shard.index(), batch.hash());
                if Some(member) == own {
                    error!(%hash, root = %shard.root(), "this machine's own shard has a root that is not the batch's");
                    continue;
                }
                warn!(%hash, member, root = %shard.root(), "a shard under a root that is not the batch's");
                bad.increment(1);
                let kind =
                    OffenceKind::WrongRoot { root: *shard.root(), shard: Box::new(shard.as_shard().clone()) };
                offences.offence(Offence { member, hash, coding, kind });
            }
            drop(hold);
        });
    }

    /// Tells of an offence.
    pub(super) fn report(&self, hash: DataHash, member: usize, kind: OffenceKind) {
        warn!(%hash, member, offence = kind.name(), "a member sent something that is not what was asked for");
        self.counts.shards_bad.increment(1);
        self.offences.offence(Offence { member, hash, coding: self.coding, kind });
    }
}

/// The batch, or `None` when the shards rebuild something else.
pub(super) async fn rebuild(hash: DataHash, shards: Vec<CheckedShard>) -> Option<VerifiedBatch> {
    let bytes: usize = shards.iter().map(|shard| shard.bytes().len()).sum();
    off_thread(bytes, move || {
        let data = reconstruct(&shards).ok()?;
        VerifiedBatch::check(data.into(), &hash).ok()
    })
    .await
}

/// Runs short work here and long work on a thread of its own.
async fn off_thread<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("hashing does not panic and is never aborted")
}
