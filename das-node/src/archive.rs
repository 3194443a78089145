//! The archive: every batch in an object store too, under the name that Nitro's server gives it there.
//!
//! ```text
//! store  ──►  disk, synced  ──►  signature
//!               │  note in the index, in the same change
//!               ▼
//!             uploads  ──►  object <prefix><64 hex digits of the data hash>: the batch, nothing else
//!               │  local-retention later, read back and hashed
//!               ▼
//!             payload dropped here: the batch is in the archive only
//! ```
//!
//! # Guarantees, whatever the object store does
//! - A store waits for it only where `archive.required` says so. Notes of what is to be uploaded are as durable as the
//!   batches themselves, and removed only after the store has taken the object.
//! - What is read from it was hashed against its name. An object store that lies, hangs or is away costs a read at most
//!   [`ReadLimits::timeout`], and soon nothing (a breaker).
//! - A payload leaves this disk only when the object was read and had the right hash a moment ago.
//! - An object is deleted only when the batch has expired here and is not known again, and no upload of it is under way.

use std::sync::Arc;
use std::time::Duration;

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

mod bucket;
mod connect;
mod evict;
mod http;
mod reach;
mod uploads;

pub use bucket::{Bucket, ReadLimits};
pub use connect::{ConnectError, connect};
pub use evict::Evictor;
pub use reach::Reach;
pub use uploads::{Uploader, UploaderOptions};

/// Why the archive did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum ArchiveError {
    /// The object store's report, or that of the way to it.
    #[error("the archive ({archive}) failed: {reason}")]
    Failed {
        /// Which archive.
        archive: String,
        /// What it said.
        reason: String,
        /// Whether it refused: wrong credentials, or no such bucket.
        refused: bool,
    },
    /// No answer in time.
    #[error("the archive ({archive}) gave no answer within {after:?}")]
    Late {
        /// Which archive.
        archive: String,
        /// The time that was given.
        after: Duration,
    },
    /// It has failed again and again and is left alone for a moment.
    #[error("the archive ({archive}) has failed several times in a row and is asked again in a moment")]
    LeftAlone {
        /// Which archive.
        archive: String,
    },
    /// The object is there and is not what its name says.
    #[error("the archive ({archive}) has other bytes under the name of {hash}")]
    WrongBytes {
        /// Which archive.
        archive: String,
        /// The batch.
        hash: DataHash,
    },
    /// The batch could not be read from where it is.
    #[error("{hash} cannot be read here, so it was not archived: {reason}")]
    Unreadable {
        /// The batch.
        hash: DataHash,
        /// Why.
        reason: String,
    },
    /// The object is not there although it should be.
    #[error("{hash} is in the archive only, and {archive} does not have it")]
    Lost {
        /// Which archive.
        archive: String,
        /// The batch.
        hash: DataHash,
    },
    /// Not in the archive by the deadline.
    #[error(
        "the batch is stored, but was not in the archive within {after:?}, so it is not signed for; {last}"
    )]
    NotInTime {
        /// The time that was given.
        after: Duration,
        /// What happened last.
        last: String,
    },
}

/// Asks for an upload out of turn, and is told what came of it.
pub(crate) type Urgent = (DataHash, oneshot::Sender<Result<(), ArchiveError>>);

/// The archive, for those who read from it and for stores that wait for it. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    bucket: Arc<Bucket>,
    urgent: Option<mpsc::Sender<Urgent>>,
}

/// Between two attempts of a store that waits.
const AGAIN: Duration = Duration::from_millis(100);

impl Archive {
    /// Over a bucket. `urgent` leads to the [`Uploader`]; a node that only reads has none.
    pub fn new(bucket: Arc<Bucket>, urgent: Option<mpsc::Sender<Urgent>>) -> Self {
        Self { bucket, urgent }
    }

    /// The batch, if the archive has it.
    pub async fn get(&self, hash: &DataHash) -> Result<Option<VerifiedBatch>, ArchiveError> {
        self.bucket.read(hash).await
    }

    /// The error that a batch which should be there is not.
    pub fn lost(&self, hash: &DataHash) -> ArchiveError {
        self.bucket.reach().report_lost(hash);
        ArchiveError::Lost { archive: self.bucket.name().to_owned(), hash: *hash }
    }

    /// Returns once a batch that was stored is in the archive, or the time is over.
    pub async fn ensure(&self, hash: DataHash, within: Duration) -> Result<(), ArchiveError> {
        let mut last = "nothing was heard of it".to_owned();
        let attempts = async {
            loop {
                match self.upload_now(hash).await {
                    Ok(()) => return,
                    Err(error) => last = error.to_string(),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let done = tokio::time::timeout(within, attempts).await;
        done.map_err(|_| ArchiveError::NotInTime { after: within, last })
    }

    async fn upload_now(&self, hash: DataHash) -> Result<(), ArchiveError> {
        let gone = || ArchiveError::Unreadable { hash, reason: "the node is ending".to_owned() };
        let Some(urgent) = &self.urgent else { return Err(gone()) };
        let (reply, answer) = oneshot::channel();
        urgent.send((hash, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
