//! One member as the aggregator sees it: how a batch gets to it, and how it has been doing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use das_common::bls::{PublicKey, Signature};
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::rpc_client::{CallError, DEFAULT_BODY_LIMIT, MemberClient, store_body, store_body_length};
use das_common::store_auth::{RequestDigest, StoreKey};
use das_common::wire::StoreResult;
use tokio::sync::Semaphore;

use crate::collect::{Asked, Claim, MemberFailure};
use crate::health::MemberHealth;

/// Who signs the requests for a batch.
#[derive(Clone)]
pub enum Authority {
    /// The caller's own signature over the plain store, passed on as it came.
    Caller {
        /// The 65 bytes (or whatever the caller sent: the members judge it).
        signature: Bytes,
        /// Signs where the batch must go out in chunks.
        key: Option<Arc<StoreKey>>,
    },
    /// We sign ourselves.
    Own(Arc<StoreKey>),
}

impl Authority {
    fn key(&self) -> Option<&StoreKey> {
        match self {
            Self::Caller { key, .. } => key.as_deref(),
            Self::Own(key) => Some(key),
        }
    }
}

/// A batch on its way to the members, shared by all of them.
pub struct Job {
    /// What every answer must say.
    pub asked: Asked,
    message: Bytes,
    authority: Authority,
    plain: OnceLock<Bytes>,
}

impl Job {
    /// A batch and who vouches for it.
    pub fn new(asked: Asked, message: Bytes, authority: Authority) -> Self {
        Self { asked, message, authority, plain: OnceLock::new() }
    }

    /// Bytes that the job keeps in memory.
    pub fn held_bytes(&self) -> usize {
        self.message.len() + self.plain.get().map_or(0, Bytes::len)
    }

    /// The body of the plain request. Built by whoever asks first, and shared.
    fn plain_body(&self) -> Bytes {
        let built = self.plain.get_or_init(|| {
            let timeout = self.asked.timeout;
            match &self.authority {
                Authority::Caller { signature, .. } => store_body(&self.message, timeout, signature),
                Authority::Own(key) => {
                    let signature = key.sign(&RequestDigest::store(&self.message, timeout));
                    store_body(&self.message, timeout, &signature)
                }
            }
        });
        built.clone()
    }
}

/// One member.
pub struct Member {
    /// Its position in the committee, which is its bit in the signers mask.
    pub index: usize,
    /// Its name in the committee file.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
    /// How it has been doing.
    pub health: MemberHealth,
    client: MemberClient,
    /// May batches go to it in chunks at all?
    chunked: bool,
    /// What the member takes in one request; lowered when it refuses less.
    body_limit: AtomicUsize,
    /// A member that hangs must not collect connections without end.
    slots: Semaphore,
}

impl Member {
    /// Stores under way at one member at a time; further ones wait.
    const SLOTS: usize = 64;
    /// Chunks for a member that refuses even small requests are not made smaller than this.
    const SMALLEST_LIMIT: usize = 64 * 1024;

    /// The member at `endpoint`, which takes requests of up to `body_limit` bytes; above, batches go in chunks if there
    /// is a limit.
    pub fn new(
        index: usize,
        name: String,
        public_key: PublicKey,
        endpoint: Endpoint,
        body_limit: Option<usize>,
        http: HttpClient,
    ) -> Self {
        Self {
            health: MemberHealth::new(&name, endpoint.host()),
            index,
            name,
            public_key,
            client: MemberClient::new(endpoint, http),
            chunked: body_limit.is_some(),
            body_limit: AtomicUsize::new(body_limit.unwrap_or(usize::MAX)),
            slots: Semaphore::new(Self::SLOTS),
        }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    /// Its JSON-RPC.
    pub fn client(&self) -> &MemberClient {
        &self.client
    }

    /// The largest request that it is sent.
    pub fn body_limit(&self) -> usize {
        self.body_limit.load(Ordering::Relaxed)
    }

    /// Sends the batch and returns what the member claims. Plain wherever it fits, in chunks where it does not.
    pub async fn store(&self, job: &Job, deadline: Duration) -> Result<Claim<Signature>, MemberFailure> {
        let work = async {
            let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
            self.send(job, deadline).await
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(Ok(answer)) => claim(&answer),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(CallError::Deadline { after: deadline }.into()),
        }
    }

    async fn send(&self, job: &Job, deadline: Duration) -> Result<StoreResult, MemberFailure> {
        let fits = store_body_length(job.message.len()) <= self.body_limit();
        let key = job.authority.key().filter(|_| self.chunked && !job.message.is_empty());
        // Where chunks are out of the question, the plain request is worth a try even above the limit that we assume.
        if fits || key.is_none() {
            let body = job.plain_body();
            let length = body.len();
            match self.client.store_prepared(body, deadline).await {
                Err(error) if error.is_body_too_large() => self.refused_for_size(length),
                outcome => return Ok(outcome?),
            }
        }
        let Some(key) = key else {
            let length = store_body_length(job.message.len());
            return Err(MemberFailure::NeedsStoreKey { length, limit: self.body_limit() });
        };
        let Asked { timeout, .. } = job.asked;
        loop {
            let limit = self.body_limit();
            match self.client.store_chunked(&job.message, timeout, key, limit, deadline).await {
                // Lower until it fits; the next batch starts from there.
                Err(error) if error.is_body_too_large() && limit > Self::SMALLEST_LIMIT => {
                    self.refused_for_size(limit);
                }
                // An older server that knows plain stores only.
                Err(error) if error.is_unknown_method() => {
                    let signature = key.sign(&RequestDigest::store(&job.message, timeout));
                    return Ok(self.client.store(&job.message, timeout, &signature, deadline).await?);
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    fn refused_for_size(&self, length: usize) {
        let lower = if length > DEFAULT_BODY_LIMIT { DEFAULT_BODY_LIMIT } else { length / 2 };
        self.body_limit.fetch_min(lower.max(Self::SMALLEST_LIMIT), Ordering::Relaxed);
    }
}

/// The answer as something that can count: with a signature that is a point of the right group.
fn claim(answer: &StoreResult) -> Result<Claim<Signature>, MemberFailure> {
    let length = answer.sig.len();
    let signature = Signature::parse(&answer.sig).map_err(|_| MemberFailure::NotASignature { length })?;
    let data_hash = DataHash::from_bytes(answer.data_hash);
    Ok(Claim { data_hash, timeout: answer.timeout, version: answer.version, signature })
}
