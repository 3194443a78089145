//! The `das_*` calls: a store goes to all members and is answered with a certificate in the shape of a member's answer.

use std::sync::Arc;
use std::time::Instant;

use das_common::certificate::Certificate;
use das_common::chunked::{Moment, PendingStores, Start};
use das_common::data_hash::flat_hash;
use das_common::fault::{self, Coded};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError};
use das_common::store_auth::RequestDigest;
use das_common::telemetry::Meter;
use das_common::wire::{BatchId, StoreResult};
use parking_lot::Mutex;

use crate::post::request::PostRequest;
use crate::post::service::Poster;
use crate::post::status::{BatchStatus, PosterStatus};
use crate::store::{Stores, away_from_requests};
use crate::watch::Watch;

/// The methods of the namespace `das`.
pub struct DasMethods {
    stores: Stores,
    watch: Watch,
    pending: Mutex<PendingStores>,
    meter: Meter,
    poster: Option<Poster>,
}

impl Methods for DasMethods {
    fn namespace(&self) -> &'static str {
        "das"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        Some(match method {
            "store" => self.metered(self.store(params)).await,
            "startChunkedStore" => self.start_chunked(&params).await,
            "sendChunk" => self.send_chunk(&params).await,
            "commitChunkedStore" => self.metered(self.commit_chunked(params)).await,
            "healthCheck" => self.health_check(&params).await,
            "expirationPolicy" => self.expiration_policy(&params).await,
            "postBatch" if self.poster.is_some() => self.post_batch(params).await,
            "batchStatus" if self.poster.is_some() => self.batch_status(&params).await,
            "postStatus" if self.poster.is_some() => self.post_status(&params),
            _ => return None,
        })
    }
}

impl DasMethods {
    /// Serves stores; chunked ones are collected in `pending`. To be called after
    /// [`init_metrics`](das_common::telemetry::init_metrics).
    pub fn new(stores: Stores, watch: Watch, pending: PendingStores) -> Self {
        Self { stores, watch, pending: Mutex::new(pending), meter: Meter::of_stores(), poster: None }
    }

    /// Serves `das_postBatch`, `das_batchStatus` and `das_postStatus` too.
    #[must_use]
    pub fn with_poster(self, poster: Option<Poster>) -> Self {
        Self { poster, ..self }
    }

    /// Forgets chunked stores that nothing is heard of. To be called from time to time.
    pub fn drop_idle(&self) {
        self.pending.lock().drop_idle(Moment::now());
    }

    /// Counts and times a store that gives the batch's length with its certificate.
    async fn metered(
        &self,
        work: impl Future<Output = Result<(Certificate, usize), RpcError>>,
    ) -> Result<RawJson, RpcError> {
        let started = Instant::now();
        match work.await {
            Ok((certificate, bytes)) => {
                self.meter.succeeded(started, bytes);
                Ok(RawJson::from_trusted(store_result(&certificate).to_json()))
            }
            Err(error) => {
                self.meter.failed(started);
                Err(error)
            }
        }
    }

    async fn store(&self, params: Params) -> Result<(Certificate, usize), RpcError> {
        let (message, timeout, signature) = (params.bytes(0)?, params.uint64(1)?, params.bytes(2)?);
        params.at_most(3)?;
        drop(params);
        let length = message.len();
        if self.stores.checks() {
            // The digest goes over the whole message, so it is made where it holds up nobody.
            let hashed = message.clone();
            let digest = away_from_requests(length, move || RequestDigest::store(&hashed, timeout)).await;
            self.stores.admit(|| digest, &signature).await.map_err(refused)?;
        }
        let stored = self.stores.store_for_caller(message, timeout, signature).await;
        stored.map(|certificate| (certificate, length)).map_err(refused)
    }

    async fn start_chunked(&self, params: &Params) -> Result<RawJson, RpcError> {
        let start = Start {
            timestamp: params.uint64(0)?,
            n_chunks: params.uint64(1)?,
            chunk_size: params.uint64(2)?,
            total_size: params.uint64(3)?,
            timeout: params.uint64(4)?,
        };
        let signature = params.bytes(5)?;
        params.at_most(6)?;
        self.check_chunked_possible()?;
        let Start { timestamp, n_chunks, chunk_size, total_size, timeout } = start;
        let digest = RequestDigest::start_chunked(timestamp, n_chunks, chunk_size, total_size, timeout);
        let mark = *digest.as_bytes();
        let checked = self.stores.admit(|| digest, &signature).await.map_err(refused)?;
        // Where nobody's signature is checked, the signature is what tells two equal starts apart.
        let marks = if checked { [mark] } else { [flat_hash(&signature)] };
        let id = self.pending.lock().start(Moment::now(), start, &marks);
        let batch_id = id.map_err(refused)?;
        Ok(RawJson::of(&BatchId { batch_id }))
    }

    async fn send_chunk(&self, params: &Params) -> Result<RawJson, RpcError> {
        let (id, number, chunk) = (params.uint64(0)?, params.uint64(1)?, params.bytes(2)?);
        let signature = params.bytes(3)?;
        params.at_most(4)?;
        let digest = {
            let chunk = chunk.clone();
            away_from_requests(chunk.len(), move || RequestDigest::send_chunk(&chunk, id, number)).await
        };
        self.stores.admit(|| digest, &signature).await.map_err(refused)?;
        let taken = self.pending.lock().chunk(Moment::now(), id, number, chunk);
        taken.map(|()| RawJson::NULL).map_err(refused)
    }

    async fn commit_chunked(&self, params: Params) -> Result<(Certificate, usize), RpcError> {
        let (id, signature) = (params.uint64(0)?, params.bytes(1)?);
        params.at_most(2)?;
        let key = self.check_chunked_possible()?;
        self.stores.admit(|| RequestDigest::commit_chunked(id), &signature).await.map_err(refused)?;
        let complete = self.pending.lock().commit(Moment::now(), id);
        let complete = complete.map_err(refused)?;
        let timeout = complete.timeout;
        // What late members keep of it afterwards is in a budget of its own.
        let (message, _reserved) = complete.into_parts();
        let length = message.len();
        let stored = self.stores.store_as_ourselves(message, timeout, key).await;
        stored.map(|certificate| (certificate, length)).map_err(refused)
    }

    /// What comes in chunks goes out in our name, so there must be a key, and we must know who may ask for it.
    ///
    /// The text begins like that of an unknown method, at which clients turn to the plain store; that one needs neither.
    fn check_chunked_possible(&self) -> Result<Arc<das_common::store_auth::StoreKey>, RpcError> {
        let refuse = |why: &str| {
            let text = format!("the method das_startChunkedStore does not exist/is not available: {why}");
            Err(RpcError::new(RpcError::METHOD_NOT_FOUND, text))
        };
        match self.stores.key() {
            None => refuse(
                "this aggregator has no key to sign chunked stores with \
                 (data-availability.store-key.file); use das_store",
            ),
            Some(_) if !self.stores.decides() => refuse(
                "this aggregator signs chunked stores itself and was not told whose to sign \
                 (data-availability.allowed-signers or .extra-signature-checking-public-key); use das_store",
            ),
            Some(key) => Ok(key.clone()),
        }
    }

    async fn post_batch(&self, params: Params) -> Result<RawJson, RpcError> {
        let Some(poster) = &self.poster else {
            return Err(RpcError::method("this aggregator posts nothing"));
        };
        let request = PostRequest {
            message: params.bytes(0)?,
            timeout: params.uint64(1)?,
            after_delayed: params.uint64(2)?,
            prev_count: params.uint64(3)?,
            new_count: params.uint64(4)?,
        };
        let signature = params.bytes(5)?;
        params.at_most(6)?;
        drop(params);
        let (chain_id, inbox) = poster.place();
        let hashed = request.clone();
        let digest = away_from_requests(request.message.len(), move || hashed.digest(chain_id, &inbox)).await;
        self.stores.admit(|| digest, &signature).await.map_err(refused)?;
        let record = poster.take(request).await.map_err(failed)?;
        Ok(RawJson::of(&BatchStatus::of(&record)))
    }

    async fn batch_status(&self, params: &Params) -> Result<RawJson, RpcError> {
        let Some(poster) = &self.poster else {
            return Err(RpcError::method("this aggregator posts nothing"));
        };
        let id = params.uint64(0)?;
        params.at_most(1)?;
        let queue = poster.queue().clone();
        let record = away_from_requests(usize::MAX, move || queue.record(id)).await.map_err(failed)?;
        match record {
            Some(record) => Ok(RawJson::of(&BatchStatus::of(&record))),
            None => Err(RpcError::method(format!("id: there is no batch {id} in the queue"))),
        }
    }

    fn post_status(&self, params: &Params) -> Result<RawJson, RpcError> {
        params.at_most(0)?;
        let poster = self.poster.as_ref().ok_or_else(|| RpcError::method("this aggregator posts nothing"))?;
        Ok(RawJson::of(&PosterStatus::of(poster)))
    }

    async fn health_check(&self, params: &Params) -> Result<RawJson, RpcError> {
        params.at_most(0)?;
        let health = self.watch.look().await;
        if health.is_enough() {
            return Ok(RawJson::NULL);
        }
        let text = format!("{} members are well, {} are needed", health.healthy, health.needed);
        Err(RpcError::method(text))
    }

    async fn expiration_policy(&self, params: &Params) -> Result<RawJson, RpcError> {
        params.at_most(0)?;
        Ok(RawJson::of(self.watch.expiration_policy().await.name()))
    }
}

fn refused(error: impl Coded) -> RpcError {
    fault::count(error.fault());
    failed(error)
}

fn failed(error: impl std::fmt::Display) -> RpcError {
    RpcError::method(error.to_string())
}

/// The certificate in the shape of Nitro's answer to a store.
fn store_result(certificate: &Certificate) -> StoreResult {
    StoreResult {
        data_hash: *certificate.data_hash.as_bytes(),
        timeout: certificate.timeout,
        signers_mask: certificate.signers_mask,
        keyset_hash: *certificate.keyset_hash.as_bytes(),
        sig: certificate.signature.to_vec(),
        version: u64::from(certificate.version),
    }
}
