//! The machine's records on this member's disk: the column family `custody` of the index, beside the batches.

use std::sync::Arc;

use das_common::custody::machine::{Change, Held, Ledger};
use das_common::data_hash::DataHash;

use crate::storage::index::Family;
use crate::storage::{BatchStore, StorageError};

/// The ledger of a running node. Waits for the disk.
pub struct StoreLedger {
    store: Arc<BatchStore>,
}

impl StoreLedger {
    /// The ledger in this store's index.
    pub fn new(store: Arc<BatchStore>) -> Self {
        Self { store }
    }
}

impl Ledger for StoreLedger {
    type Error = StorageError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.store.index().raw(Family::Custody, key)?)
    }

    fn keys(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        Ok(self.store.index().keys(Family::Custody, prefix, from, limit)?)
    }

    fn commit(&mut self, changes: Vec<Change>, synced: bool) -> Result<(), StorageError> {
        let mut change = self.store.index().change();
        for (key, value) in changes {
            match value {
                Some(value) => change.put_raw(Family::Custody, &key, &value)?,
                None => change.delete_raw(Family::Custody, &key),
            }
        }
        Ok(change.apply(synced)?)
    }

    fn held(&self, hash: &DataHash) -> Result<Held, StorageError> {
        let Some(held) = self.store.held(hash)? else { return Ok(Held::default()) };
        let shards = held.shards.iter().map(|shard| shard.coding).collect();
        Ok(Held { promise: Some(held.timeout), whole: held.whole, shards })
    }
}
