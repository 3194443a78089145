//! From the name of a batch to the batch, over the disks of the committee.

use std::sync::Arc;

use das_common::batch::VerifiedBatch;
use das_common::committee::{CodingId, Committee};
use das_common::custody::{Coding, MemberKey};
use das_common::data_hash::DataHash;
use das_common::erasure::Code;
use tracing::warn;

use super::Members;
use super::source::PeerSource;
use crate::gather::{Gather, GatherError, GatherFrom, GatherLimits, GatherMemory, GatherParts, Offence};
use crate::peer::PeerHandle;
use crate::storage::{BatchStore, Lookup};

/// A coding under which batches may be read.
pub(super) struct Part {
    pub(super) coding: Coding,
    pub(super) code: Code,
    gather: Gather<PeerSource>,
}

/// Hears that something of a batch is damaged on disk.
pub(super) type Damaged = Box<dyn Fn(&DataHash) + Send + Sync>;

/// Reads over every committee known here. Cheap to clone.
#[derive(Clone)]
pub struct CommitteeReads {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<BatchStore>,
    /// The newest coding first.
    parts: Vec<Part>,
    damaged: Damaged,
}

impl CommitteeReads {
    /// `committees`: the newest last. `own`: which member this is; a mirror is none. `memory`: bytes of all gathers together.
    pub(super) fn new(
        store: Arc<BatchStore>,
        peers: &PeerHandle,
        committees: &[Arc<Committee>],
        own: Option<&MemberKey>,
        memory: u64,
        damaged: Damaged,
    ) -> Self {
        let members = Members::of(committees);
        let memory = GatherMemory::new(memory);
        let part = |committee: &Arc<Committee>| {
            let coding = Coding::of(committee);
            let code = coding.code().expect("a committee's numbers make a code");
            let parts = GatherParts {
                source: Arc::new(PeerSource::new(peers.clone(), &coding, &members.ids)),
                code: code.clone(),
                coding: coding.id,
                own: own.and_then(|own| coding.index_of(own)),
                memory: memory.clone(),
                offences: Arc::new(note_offence),
            };
            Part { coding, code, gather: Gather::new(parts, GatherLimits::default()) }
        };
        let parts = committees.iter().rev().map(part).collect();
        Self { inner: Arc::new(Inner { store, parts, damaged }) }
    }

    /// The newest coding first.
    pub(super) fn parts(&self) -> &[Part] {
        &self.inner.parts
    }

    pub(super) fn part(&self, coding: &CodingId) -> Option<&Part> {
        self.parts().iter().find(|part| part.coding.id == *coding)
    }

    /// Gathers a batch; `None` when all members say that they do not have it.
    pub async fn gather(&self, hash: &DataHash) -> Result<Option<VerifiedBatch>, GatherError> {
        self.gather_under(hash, &[]).await
    }

    /// Gathers under each coding that may have it: those of own shards first, then those named, then all.
    pub(super) async fn gather_under(
        &self,
        hash: &DataHash,
        named: &[CodingId],
    ) -> Result<Option<VerifiedBatch>, GatherError> {
        let store = &self.inner.store;
        let held = store.held(hash).ok().flatten();
        let mut order: Vec<&Part> = Vec::new();
        let of_shards = held.iter().flat_map(|held| held.shards.iter().map(|shard| shard.coding));
        let all = self.parts().iter().map(|part| part.coding.id);
        for coding in of_shards.chain(named.iter().copied()).chain(all) {
            if let Some(part) = self.part(&coding)
                && order.iter().all(|known| known.coding.id != coding)
            {
                order.push(part);
            }
        }
        let mut last = None;
        for part in order {
            let own_shard = match store.read_shard(*hash, part.coding.id, &part.code).await {
                Ok(Lookup::Found(shard)) => Some(shard),
                Ok(Lookup::Damaged) => {
                    (self.inner.damaged)(hash);
                    None
                }
                _ => None,
            };
            let from = GatherFrom { root: own_shard.as_ref().map(|shard| *shard.root()), own_shard };
            match part.gather.gather(*hash, from).await {
                Ok(batch) => return Ok(Some(batch)),
                Err(GatherError::NotFound { .. }) => {}
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Forgets that nobody had this batch a moment ago.
    pub(super) fn forget_absent(&self, hash: &DataHash) {
        self.parts().iter().for_each(|part| part.gather.forget_absent(hash));
    }
}

fn note_offence(offence: Offence) {
    let Offence { member, hash, kind, .. } = offence;
    metrics::counter!("das_custody_offences_total", "kind" => kind.name()).increment(1);
    warn!(member, %hash, ?kind, "a member answered what no honest member answers");
}
