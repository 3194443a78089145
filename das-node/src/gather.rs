//! From the name of a batch to the batch, over the shards of peers.
//!
//! **Guarantee.** What is answered hashes to what was asked for, and every shard that went into it was proved under one
//! root. As long as k honest members that hold their shards (or one that has the batch whole) answer before the
//! deadline, the batch is found, whatever the others send, and whether or not they answer. Who sends something that no
//! honest member sends is reported. A gather ends by its deadline; memory, questions and gathers are bounded.
//!
//! ```text
//! own shard ─┐
//! fastest    ├─► check each as it arrives ─► k of one root ─► rebuild what is missing ─► data hash ─► batch
//! k - 1      │      │ bad, or "don't have it": the next member at once                      │ differs
//! peers     ─┘      │ no answer within the time of 95 %: the next member as well            ▼
//!                   │ "not now": the next member, and this one again after a pause
//!                   ▼                                                           the root is dishonest: its
//!            too few shards can come ─► whole copies, one member at a time      senders lie, others count
//! ```
//!
//! The root is that of the own shard, or the one the caller names, else the one on which k shards agree.
//!
//! Several readers of one hash share one gather. A hash that nobody has is remembered as absent for some seconds.

mod absent;
mod check;
mod counts;
mod inquiry;
mod limits;
mod plan;
mod source;
mod speed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use das_common::batch::VerifiedBatch;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::{CheckedShard, Code, Root};
use das_common::single_flight::SingleFlight;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use self::absent::Absent;
use self::counts::{Counts, seconds};
use self::inquiry::Inquiry;
use self::limits::Rate;
use self::speed::Speeds;

pub use self::counts::{GATHER_HEDGES, GATHER_QUESTIONS, GATHER_SECONDS, GATHER_SHARDS};
pub use self::limits::{GatherLimits, GatherMemory};
pub use self::source::{Offence, OffenceKind, OffenceSink, ShardSource, SourceError};

/// What is known of a batch before it is gathered.
#[derive(Debug, Clone, Default)]
pub struct GatherFrom {
    /// Its root, where somebody worth believing stated it.
    pub root: Option<Root>,
    /// This member's own shard, under the root that this member computed.
    pub own_shard: Option<CheckedShard>,
}

impl GatherFrom {
    fn is_something(&self) -> bool {
        self.root.is_some() || self.own_shard.is_some()
    }
}

/// Why a batch was not gathered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GatherError {
    /// Every member answered that it does not have it.
    #[error("{hash} is at none of {asked} members")]
    NotFound {
        /// What was asked for.
        hash: DataHash,
        /// How many members were asked.
        asked: usize,
    },
    /// Some members could not answer, so that the batch may exist.
    #[error("{hash} cannot be gathered: {got} of {needed} shards; {}", listed(.failures))]
    Unavailable {
        /// What was asked for.
        hash: DataHash,
        /// Shards of one root, the own one among them.
        got: usize,
        /// k.
        needed: usize,
        /// Who gave nothing, and why.
        failures: Vec<(usize, SourceError)>,
    },
    /// Every member answered; the batch exists, but too little of it.
    #[error("{hash} is lost for now: {got} shards exist, {needed} are needed")]
    MissingShards {
        /// What was asked for.
        hash: DataHash,
        /// Shards of one root, the own one among them.
        got: usize,
        /// k.
        needed: usize,
    },
    /// k shards under this root rebuild something else, and nobody gave the batch in another way.
    #[error("the shards of {hash} under root {root} rebuild something else")]
    DishonestRoot {
        /// What was asked for.
        hash: DataHash,
        /// The root.
        root: Root,
    },
    /// As many gathers are under way as are allowed, or as fit in memory.
    #[error("too many batches are being gathered to look for {hash} now")]
    Busy {
        /// What was asked for.
        hash: DataHash,
    },
    /// The gather panicked.
    #[error("the gather of {hash} failed")]
    Failed {
        /// What was asked for.
        hash: DataHash,
    },
}

fn listed(failures: &[(usize, SourceError)]) -> String {
    let texts = failures.iter().map(|(member, error)| format!("member {member}: {error}"));
    texts.collect::<Vec<_>>().join(", ")
}

impl GatherError {
    fn result(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Unavailable { .. } => "unavailable",
            Self::MissingShards { .. } => "missing-shards",
            Self::DishonestRoot { .. } => "dishonest-root",
            Self::Busy { .. } => "busy",
            Self::Failed { .. } => "failed",
        }
    }
}

/// What a [`Gather`] is made of.
pub struct GatherParts<S> {
    /// The members.
    pub source: Arc<S>,
    /// k and n.
    pub code: Code,
    /// Which coding the shards are of.
    pub coding: CodingId,
    /// This member's index in the committee of the coding; `None` for a mirror.
    pub own: Option<usize>,
    /// Shared with the gathers of other codings.
    pub memory: GatherMemory,
    /// Who takes note of lies.
    pub offences: Arc<dyn OffenceSink>,
}

/// Gathers the batches of one coding. Cheap to clone; clones share what they learn.
pub struct Gather<S> {
    shared: Arc<Shared<S>>,
    flight: SingleFlight<DataHash, Result<VerifiedBatch, GatherError>>,
}

impl<S> Clone for Gather<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), flight: self.flight.clone() }
    }
}

struct Shared<S> {
    source: Arc<S>,
    code: Code,
    coding: CodingId,
    own: Option<usize>,
    memory: GatherMemory,
    offences: Arc<dyn OffenceSink>,
    limits: GatherLimits,
    speeds: Mutex<Speeds>,
    absent: Absent,
    unknown: Rate,
    gathers: tokio::sync::Semaphore,
    counts: Counts,
}

impl<S: ShardSource> Gather<S> {
    /// Nothing is asked before the first [`gather`](Self::gather).
    pub fn new(parts: GatherParts<S>, limits: GatherLimits) -> Self {
        let GatherParts { source, code, coding, own, memory, offences } = parts;
        let shared = Shared {
            source,
            coding,
            own,
            memory,
            offences,
            speeds: Mutex::new(Speeds::new(code.shards())),
            code,
            absent: Absent::new(&limits),
            unknown: Rate::new(limits.unknown_per_second, std::time::Instant::now()),
            gathers: tokio::sync::Semaphore::new(limits.max_gathers),
            limits,
            counts: Counts::new(),
        };
        Self { shared: Arc::new(shared), flight: SingleFlight::default() }
    }

    /// Finds the batch at the members. Who asks while it is being looked for gets the same answer, whatever he knows of it.
    ///
    /// A caller that goes away does not stop the gather.
    pub async fn gather(&self, hash: DataHash, from: GatherFrom) -> Result<VerifiedBatch, GatherError> {
        if let Some(error) = self.shared.absent.get(&hash).filter(|_| !from.is_something()) {
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        let gathered = self.flight.run(hash, move || async move { shared.gather(hash, from).await }).await;
        gathered.unwrap_or(Err(GatherError::Failed { hash }))
    }

    /// The batch may exist by now, whatever was heard of it before.
    pub fn forget_absent(&self, hash: &DataHash) {
        self.shared.absent.forget(hash);
    }
}

impl<S: ShardSource> Shared<S> {
    async fn gather(&self, hash: DataHash, from: GatherFrom) -> Result<VerifiedBatch, GatherError> {
        let started = Instant::now();
        let outcome = self.within_limits(hash, from).await;
        let result = outcome.as_ref().map_or_else(GatherError::result, |_| "ok");
        seconds(result).record(started.elapsed().as_secs_f64());
        if let Err(error) = &outcome {
            self.absent.remember(hash, error);
        }
        outcome
    }

    async fn within_limits(&self, hash: DataHash, from: GatherFrom) -> Result<VerifiedBatch, GatherError> {
        let busy = GatherError::Busy { hash };
        let deadline = Instant::now() + self.limits.deadline;
        let Ok(_one) = self.gathers.try_acquire() else { return Err(busy) };
        if !from.is_something() && !self.unknown.allows(std::time::Instant::now()) {
            return Err(busy);
        }
        let first = match &from.own_shard {
            // A shard or two more than are needed, and the batch.
            Some(own) => {
                let shards = self.code.shards().min(self.code.data_shards() + 2) as u64;
                let length = own.data_length();
                length.saturating_add(shards.saturating_mul(self.code.shard_length(length)))
            }
            None => self.limits.unknown_bytes,
        };
        let Ok(Some(hold)) = timeout_at(deadline, self.memory.hold(first)).await else { return Err(busy) };
        Inquiry::new(self, hash, from, hold, deadline).run().await
    }
}
