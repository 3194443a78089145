//! What the store takes on disk, by form.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::index::{Totals, state};
use super::log::Command;
use super::segment::ALIGNMENT;
use super::{BatchStore, StorageError, blocking};

/// Counts and bytes, by form. What is stored as both a whole copy and a shard counts in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Batches that are here whole.
    pub whole_batches: u64,
    /// Their bytes.
    pub whole_bytes: u64,
    /// Batches of which only shards are here.
    pub sharded_batches: u64,
    /// The bytes that these would take whole.
    pub payload_bytes_of_sharded: u64,
    /// All shards, also those beside a whole copy.
    pub shards: u64,
    /// Their bytes on disk, with proofs.
    pub shard_bytes: u64,
    /// Bytes that all segments take on disk.
    pub segment_bytes: u64,
    /// Those of them that nothing needs: not given back yet, preallocated, or in pages shared with what is needed.
    pub dead_bytes: u64,
    /// Bytes that the index takes on disk.
    pub index_bytes: u64,
}

impl BatchStore {
    /// What the store takes on disk. Asks the file system for the size of each segment, and reads no batch.
    pub async fn usage(self: &Arc<Self>) -> Result<Usage, StorageError> {
        let store = Arc::clone(self);
        blocking(move || store.count_usage()).await?
    }

    fn count_usage(&self) -> Result<Usage, StorageError> {
        let Totals {
            whole_batches,
            whole_bytes,
            sharded_batches,
            payload_bytes_of_sharded,
            shards,
            shard_bytes,
        } = self.index.state(state::TOTALS)?.unwrap_or_default();
        let read = |source| StorageError::Read { source };
        let (files, segment_bytes) = allocated(&self.segments).map_err(read)?;
        let (_, index_bytes) = allocated(self.index.path()).map_err(read)?;
        let live: u64 = self.index.segments()?.iter().map(|(_, segment)| segment.live_bytes).sum();
        Ok(Usage {
            whole_batches,
            whole_bytes,
            sharded_batches,
            payload_bytes_of_sharded,
            shards,
            shard_bytes,
            segment_bytes,
            dead_bytes: segment_bytes.saturating_sub(live).saturating_sub(files * ALIGNMENT),
            index_bytes,
        })
    }

    /// Gives back now what was preallocated for the next stores, and shortens the index's log; happens by itself when
    /// there is nothing to store for a few seconds.
    pub async fn trim(&self) -> Result<(), StorageError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Trim(reply)).map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)
    }
}

/// The files in a folder, and the bytes that they take on disk.
fn allocated(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        match entry?.metadata() {
            Ok(metadata) => {
                files += 1;
                bytes += metadata.blocks() * 512;
            }
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((files, bytes))
}
