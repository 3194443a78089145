//! A disk that loses in a crash what was not synced.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use das_common::committee::CodingId;
use das_common::custody::machine::{Change, Held, Ledger, arrival_key};
use das_common::data_hash::DataHash;

use crate::rng::Rng;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What each commit since the last sync replaced.
    undo: Vec<Vec<Change>>,
    pub(crate) batches: BTreeMap<DataHash, Stored>,
}

/// A batch as it is stored. `false` where a liar only pretends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) promise: u64,
    pub(crate) whole: Option<bool>,
    pub(crate) shards: Vec<Piece>,
}

#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) coding: CodingId,
    pub(crate) genuine: bool,
    pub(crate) synced: bool,
}

impl Disk {
    /// Stores or extends; durable when it returns. Whether the batch is really kept: `genuine`.
    pub(crate) fn put(&mut self, hash: &DataHash, until: u64, genuine: bool, write_whole: bool) {
        let stored = self.batches.entry(*hash).or_default();
        stored.promise = stored.promise.max(until);
        if write_whole && stored.whole != Some(true) {
            stored.whole = Some(genuine);
        }
        let Ok(()) = self.commit(vec![(arrival_key(hash), Some(Vec::new()))], true);
    }

    pub(crate) fn add_shard(&mut self, hash: &DataHash, coding: CodingId, genuine: bool) {
        let stored = self.batches.entry(*hash).or_default();
        match stored.shards.iter_mut().find(|piece| piece.coding == coding) {
            Some(piece) => piece.genuine = genuine,
            None => stored.shards.push(Piece { coding, genuine, synced: false }),
        }
    }

    pub(crate) fn sync_shards(&mut self) {
        self.batches.values_mut().flat_map(|stored| &mut stored.shards).for_each(|piece| piece.synced = true);
    }

    /// A power cut: some of what was not synced is gone, the latest first.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survive = rng.index(self.undo.len() + 1);
        while self.undo.len() > survive {
            for (key, value) in self.undo.pop().unwrap().into_iter().rev() {
                match value {
                    Some(value) => self.keys.insert(key, value),
                    None => self.keys.remove(&key),
                };
            }
        }
        self.undo.clear();
        for stored in self.batches.values_mut() {
            stored.shards.retain(|piece| piece.synced);
        }
    }

    pub(crate) fn has_whole(&self, hash: &DataHash) -> bool {
        self.batches.get(hash).is_some_and(|stored| stored.whole == Some(true))
    }

    /// Whether the shard is there; one that a power cut would take does not count.
    pub(crate) fn has_shard(&self, hash: &DataHash, coding: &CodingId) -> bool {
        self.batches.get(hash).is_some_and(|stored| {
            stored.shards.iter().any(|piece| piece.coding == *coding && piece.genuine && piece.synced)
        })
    }

    pub(crate) fn has_some(&self, hash: &DataHash) -> bool {
        self.has_whole(hash)
            || self
                .batches
                .get(hash)
                .is_some_and(|stored| stored.shards.iter().any(|piece| piece.genuine && piece.synced))
    }

    /// Whether no shard that was ever made here is missing.
    pub(crate) fn has_all_shards(&self, hash: &DataHash) -> bool {
        self.batches.get(hash).is_some_and(|stored| {
            !stored.shards.is_empty() && stored.shards.iter().all(|piece| piece.genuine && piece.synced)
        })
    }

    pub(crate) fn promise(&self, hash: &DataHash) -> Option<u64> {
        self.batches.get(hash).map(|stored| stored.promise)
    }
}

impl Ledger for Disk {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.keys.get(key).cloned())
    }

    fn keys(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Infallible> {
        let range = self.keys.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let under = range.map(|(key, _)| key).take_while(|key| key.starts_with(prefix));
        Ok(under.take(limit).cloned().collect())
    }

    fn commit(&mut self, changes: Vec<Change>, synced: bool) -> Result<(), Infallible> {
        let mut undo = Vec::with_capacity(if synced { 0 } else { changes.len() });
        for (key, value) in changes {
            let before = match value {
                Some(value) => self.keys.insert(key.clone(), value),
                None => self.keys.remove(&key),
            };
            if !synced {
                undo.push((key, before));
            }
        }
        if synced {
            self.undo.clear();
        } else {
            self.undo.push(undo);
        }
        Ok(())
    }

    fn held(&self, hash: &DataHash) -> Result<Held, Infallible> {
        let Some(stored) = self.batches.get(hash) else { return Ok(Held::default()) };
        Ok(Held {
            promise: Some(stored.promise),
            whole: stored.whole.is_some(),
            shards: stored.shards.iter().map(|piece| piece.coding).collect(),
        })
    }
}
