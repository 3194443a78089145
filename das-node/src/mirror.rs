//! Following the contract: every batch that is posted is fetched, verified as nodes do, and kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use das_batches::explorer::{Availability, PayloadUnavailable, Payloads as ShownPayloads};
use das_batches::service::Keep;
use das_batches::types::PostedBatch;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::http::rest::Scope;
use das_common::sequencer_message::PayloadSource;
use das_common::wire::parse_get_by_hash;
use futures::future::BoxFuture;
use thiserror::Error;

use crate::clock::unix_time;
use crate::custody::Custody;
use crate::retrieve::{Retrieve, RetrieveError};
use crate::storage::BatchStore;

/// Why a payload was not read.
#[derive(Debug, Error)]
pub(crate) enum ReadFailed {
    /// Nobody who was asked has it.
    #[error("{hash}: nobody who was asked has it")]
    NotFound {
        /// The batch.
        hash: DataHash,
    },
    /// It cannot be told.
    #[error(transparent)]
    Retrieve(#[from] Arc<RetrieveError>),
    /// What was read is no answer of ours.
    #[error("{hash}: the answer does not parse: {reason}")]
    Malformed {
        /// The batch.
        hash: DataHash,
        /// Why not.
        reason: String,
    },
}

/// Payloads from wherever this node reads.
pub(crate) struct Payloads(pub(crate) Retrieve);

impl PayloadSource for Payloads {
    type Error = ReadFailed;

    async fn payload(&self, hash: &DataHash) -> Result<Bytes, ReadFailed> {
        let found = self.0.get(hash, Scope::Everywhere).await?;
        let found = found.ok_or(ReadFailed::NotFound { hash: *hash })?;
        let batch = parse_get_by_hash(found.body());
        let batch =
            batch.map_err(|error| ReadFailed::Malformed { hash: *hash, reason: error.to_string() })?;
        Ok(Bytes::from(batch))
    }
}

impl Payloads {
    /// Where a batch is that can be read.
    async fn where_held(&self, hash: DataHash) -> Availability {
        let retrieve = self.0.clone();
        match tokio::task::spawn_blocking(move || retrieve.held(&hash)).await {
            Ok(Ok(Some(held))) if held.whole => Availability::Whole,
            Ok(Ok(Some(held))) if !held.shards.is_empty() => Availability::Shard,
            Ok(Ok(_)) => Availability::Elsewhere,
            Ok(Err(error)) => Availability::Unknown { why: error.to_string() },
            Err(error) => Availability::Unknown { why: error.to_string() },
        }
    }
}

impl ShownPayloads for Payloads {
    fn availability(&self, hash: DataHash) -> BoxFuture<'_, Availability> {
        Box::pin(async move {
            match PayloadSource::payload(self, &hash).await {
                Ok(_) => self.where_held(hash).await,
                Err(ReadFailed::NotFound { .. }) => Availability::NotFound,
                Err(error) => Availability::Unknown { why: error.to_string() },
            }
        })
    }

    fn payload(&self, hash: DataHash) -> BoxFuture<'_, Result<Option<Bytes>, PayloadUnavailable>> {
        Box::pin(async move {
            match PayloadSource::payload(self, &hash).await {
                Ok(payload) => Ok(Some(payload)),
                Err(ReadFailed::NotFound { .. }) => Ok(None),
                Err(error) => Err(PayloadUnavailable { why: error.to_string() }),
            }
        })
    }
}

/// Keeps what is posted for a time, counted from the latest time that a batch's messages can name.
pub(crate) struct OnDisk {
    pub(crate) store: Arc<BatchStore>,
    pub(crate) custody: Option<Custody>,
    pub(crate) retention: Duration,
    /// Whether batches whose time has passed are kept too.
    pub(crate) expired_too: bool,
}

impl Keep for OnDisk {
    async fn keep(&self, batch: &PostedBatch, payload: Bytes) -> Result<(), String> {
        let until = batch.bounds.max_timestamp.saturating_add(self.retention.as_secs());
        let now = unix_time();
        if until <= now && !self.expired_too {
            return Ok(());
        }
        let length = payload.len() as u64;
        self.store
            .put(&VerifiedBatch::new(payload), until, now)
            .await
            .map_err(|error| format!("it cannot be stored: {error}"))?;
        if let Some(custody) = &self.custody {
            custody.arrived(length);
        }
        Ok(())
    }
}

/// Keeps nothing: what is posted is only tried, and shown.
pub(crate) struct Nowhere;

impl Keep for Nowhere {
    async fn keep(&self, _: &PostedBatch, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}
