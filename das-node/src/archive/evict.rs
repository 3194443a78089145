//! Lets payloads go that are in the archive: what was stored long enough ago is read from there, and if it is right, it
//! is dropped here.

use std::sync::Arc;
use std::time::Duration;

use das_common::data_hash::DataHash;
use das_common::telemetry::names;
use futures::StreamExt;
use metrics::counter;
use tracing::{info, warn};

use super::{ArchiveError, Bucket};
use crate::clock::unix_time;
use crate::storage::{BatchStore, MAX_BATCHES, StorageError};

/// Batches looked at in one step; they are dropped together, with one sync.
const STEP: usize = 64;
/// Of these, read from the archive at once.
const AT_ONCE: usize = 4;
/// Between two looks where nothing is to be done.
const LONGEST_ROUND: Duration = Duration::from_secs(30);

/// Drops payloads that are in the archive.
pub struct Evictor {
    /// Where they are.
    pub store: Arc<BatchStore>,
    /// Where they stay.
    pub bucket: Arc<Bucket>,
    /// How long after it was stored a payload stays here.
    pub retention: Duration,
}

impl Evictor {
    /// Works for ever.
    pub async fn run(self) {
        let round = (self.retention / 4).clamp(Duration::from_secs(1), LONGEST_ROUND);
        loop {
            match self.step().await {
                Ok(0) => tokio::time::sleep(round).await,
                Ok(dropped) => info!(batches = dropped, "payloads are in the archive only from now on"),
                Err(StorageError::Closed) => return,
                Err(error) => {
                    warn!(%error, "payloads could not be dropped in favour of the archive");
                    tokio::time::sleep(round).await;
                }
            }
        }
    }

    /// One bounded step; the answer is how many payloads were dropped.
    pub(super) async fn step(&self) -> Result<usize, StorageError> {
        let before = unix_time().saturating_sub(self.retention.as_secs());
        // What waits to be uploaded, be it for ever, does not hold up what comes behind it.
        let mut old = Vec::new();
        for (_, hash) in self.store.oldest_whole(before, MAX_BATCHES)? {
            if old.len() == STEP {
                break;
            }
            if self.store.upload_note(hash).await?.is_none() {
                old.push(hash);
            }
        }
        let checks = old.into_iter().map(|hash| self.is_safe(hash));
        let checked: Vec<_> = futures::stream::iter(checks).buffer_unordered(AT_ONCE).collect().await;
        let safe: Vec<DataHash> = checked.into_iter().flatten().collect();
        if safe.is_empty() {
            return Ok(0);
        }
        let dropped = self.store.drop_archived(safe).await?;
        counter!(names::ARCHIVE_DROPPED).increment(dropped as u64);
        Ok(dropped)
    }

    /// The batch, if the archive has it.
    async fn is_safe(&self, hash: DataHash) -> Option<DataHash> {
        match self.bucket.find(&hash).await {
            Ok(Some(batch)) if batch.hash() == hash => Some(hash),
            Ok(_) | Err(ArchiveError::WrongBytes { .. }) => {
                warn!(%hash, "the archive does not have what was brought there; it is brought there again");
                if let Err(error) = self.store.upload_again(hash).await {
                    warn!(%error, %hash, "and this could not be noted");
                }
                None
            }
            Err(_) => None,
        }
    }
}
