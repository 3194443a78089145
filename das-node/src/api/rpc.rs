//! The calls `das_*` (spec section 6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use das_common::fault::{self, Coded};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError};
use das_common::telemetry::Meter;
use das_common::wire::{BatchId, StoreResult};
use tracing::{debug, warn};

use super::ChunkedStores;
use crate::clock::unix_time;
use crate::custody::Custody;
use crate::health::Health;
use crate::policy::RetentionPolicy;
use crate::store::{StoreError, StorePath};

/// The namespace `das` of a member.
pub struct DasMethods {
    store: StorePath,
    chunked: Arc<ChunkedStores>,
    health: Arc<Health>,
    policy: RetentionPolicy,
    custody: Option<Custody>,
    meter: Meter,
}

type Answer = Result<RawJson, RpcError>;

impl DasMethods {
    /// Puts the parts together. After the metrics recorder was installed.
    pub fn new(
        store: StorePath,
        chunked: Arc<ChunkedStores>,
        health: Arc<Health>,
        policy: RetentionPolicy,
        custody: Option<Custody>,
    ) -> Self {
        Self { store, chunked, health, policy, custody, meter: Meter::of_stores() }
    }

    async fn keep_certificate(&self, custody: &Custody, params: Params) -> Answer {
        let certificate = params.bytes(0)?;
        params.at_most(1)?;
        custody.keep_certificate(&certificate).await.map_err(|error| refused(&error))?;
        Ok(RawJson::NULL)
    }

    async fn store(&self, params: Params) -> Answer {
        let (message, timeout, signature) = (params.bytes(0)?, params.uint64(1)?, params.bytes(2)?);
        params.at_most(3)?;
        // The text of the request is twice the size of the batch: let it go before the disk is waited for.
        drop(params);
        let started = Instant::now();
        let bytes = message.len();
        let result = self.store.store(message, timeout, &signature).await;
        self.finish(started, bytes, result)
    }

    async fn start(&self, params: Params) -> Answer {
        let start = das_common::chunked::Start {
            timestamp: params.uint64(0)?,
            n_chunks: params.uint64(1)?,
            chunk_size: params.uint64(2)?,
            total_size: params.uint64(3)?,
            timeout: params.uint64(4)?,
        };
        let signature = params.bytes(5)?;
        params.at_most(6)?;
        let id = self.chunked.start(start, &signature).await.map_err(|e| refused(&e))?;
        Ok(RawJson::of(&BatchId { batch_id: id }))
    }

    async fn chunk(&self, params: Params) -> Answer {
        let (id, number, chunk, signature) =
            (params.uint64(0)?, params.uint64(1)?, params.bytes(2)?, params.bytes(3)?);
        params.at_most(4)?;
        drop(params);
        self.chunked.chunk(id, number, chunk, &signature).await.map_err(|e| refused(&e))?;
        Ok(RawJson::NULL)
    }

    async fn commit(&self, params: Params) -> Answer {
        let (id, signature) = (params.uint64(0)?, params.bytes(1)?);
        params.at_most(2)?;
        let complete = self.chunked.commit(id, &signature).await.map_err(|e| refused(&e))?;
        let started = Instant::now();
        let timeout = complete.timeout;
        // It counts as pending until the writer is done with it, also when the caller goes away meanwhile.
        let message = complete.into_message();
        let bytes = message.len();
        let result = self.store.store_authorized(message, timeout).await;
        self.finish(started, bytes, result)
    }

    fn finish(&self, started: Instant, bytes: usize, result: Result<StoreResult, StoreError>) -> Answer {
        match result {
            Ok(result) => {
                self.meter.succeeded(started, bytes);
                debug!(hash = %const_hex::encode(result.data_hash), bytes, timeout = result.timeout, "stored");
                Ok(RawJson::from_trusted(result.to_json()))
            }
            Err(error) => {
                self.meter.failed(started);
                if matches!(error, StoreError::Storage(_)) {
                    self.health.doubt();
                }
                Err(refused(&error))
            }
        }
    }
}

/// A stranger can send as many refused requests as he likes: one line a second is enough to see it.
fn refused(error: &impl Coded) -> RpcError {
    fault::count(error.fault());
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = unix_time();
    if LAST.swap(now, Ordering::Relaxed) == now {
        debug!(code = error.fault().code, %error, "refused");
    } else {
        warn!(code = error.fault().code, %error, "refused");
    }
    RpcError::method(error.to_string())
}

impl Methods for DasMethods {
    fn namespace(&self) -> &'static str {
        "das"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Answer> {
        Some(match method {
            "store" => self.store(params).await,
            "startChunkedStore" => self.start(params).await,
            "sendChunk" => self.chunk(params).await,
            "commitChunkedStore" => self.commit(params).await,
            "keepCertificate" => self.keep_certificate(self.custody.as_ref()?, params).await,
            "healthCheck" => match params.at_most(0) {
                Ok(()) => self.health.can_store().await.map(|()| RawJson::NULL).map_err(RpcError::method),
                Err(error) => Err(error),
            },
            "expirationPolicy" => params.at_most(0).map(|()| RawJson::of(self.policy.expiration().name())),
            _ => return None,
        })
    }
}
