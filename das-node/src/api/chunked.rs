//! Chunked stores: the signatures in front of [`PendingStores`].

use std::sync::Arc;

use bytes::Bytes;
use das_common::chunked::{Bounds, ChunkedError, Complete, Moment, PendingStores, Start};
use das_common::fault::{Coded, Fault};
use das_common::keccak::keccak256;
use das_common::store_auth::{AuthError, RequestDigest, StoreSigners};
use das_common::telemetry::names;
use parking_lot::Mutex;
use thiserror::Error;

/// Why a chunked call is refused.
#[derive(Debug, Error)]
pub enum ChunkedCallError {
    /// Its signature.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// What it asks.
    #[error(transparent)]
    Chunked(#[from] ChunkedError),
}

impl Coded for ChunkedCallError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Auth(error) => error.fault(),
            Self::Chunked(error) => error.fault(),
        }
    }
}

/// The chunked stores of a member that are under way. A call costs its signature check before it costs anything else.
pub struct ChunkedStores {
    signers: Arc<StoreSigners>,
    pending: Mutex<PendingStores>,
}

impl ChunkedStores {
    /// None yet.
    pub fn new(signers: Arc<StoreSigners>, bounds: Bounds) -> Self {
        Self { signers, pending: Mutex::new(PendingStores::new(bounds)) }
    }

    /// `das_startChunkedStore`.
    pub async fn start(&self, start: Start, signature: &[u8]) -> Result<u64, ChunkedCallError> {
        let Start { timestamp, n_chunks, chunk_size, total_size, timeout } = start;
        let digest = RequestDigest::start_chunked(timestamp, n_chunks, chunk_size, total_size, timeout);
        self.signers.check(|| digest, signature).await?;
        // Where nobody's signature counts, one that comes again is all there is to tell a replay by.
        let of_signature = self.signers.is_disabled().then(|| keccak256(signature));
        let marks: Vec<_> = std::iter::once(*digest.as_bytes()).chain(of_signature).collect();
        Ok(self.pending.lock().start(Moment::now(), start, &marks)?)
    }

    /// `das_sendChunk`.
    pub async fn chunk(
        &self,
        id: u64,
        number: u64,
        chunk: Bytes,
        signature: &[u8],
    ) -> Result<(), ChunkedCallError> {
        self.signers.check(|| RequestDigest::send_chunk(&chunk, id, number), signature).await?;
        Ok(self.pending.lock().chunk(Moment::now(), id, number, chunk)?)
    }

    /// `das_commitChunkedStore`, up to the store itself.
    pub async fn commit(&self, id: u64, signature: &[u8]) -> Result<Complete, ChunkedCallError> {
        self.signers.check(|| RequestDigest::commit_chunked(id), signature).await?;
        Ok(self.pending.lock().commit(Moment::now(), id)?)
    }

    /// Lets go of messages that nothing arrives for.
    pub fn drop_idle(&self) {
        let mut pending = self.pending.lock();
        pending.drop_idle(Moment::now());
        metrics::gauge!(names::PENDING_MESSAGES).set(pending.pending() as f64);
    }
}
