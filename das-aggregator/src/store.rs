//! The store path: who may store, the data hash, the fan-out, and the cache that the next read finds the batch in.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::certificate::Certificate;
use das_common::fault;
use das_common::store_auth::{AuthError, RequestDigest, StoreKey, StoreSigners};

use crate::certificates::Certificates;
use crate::fan_out::{FanOut, StoreError};
use crate::member::Authority;
use crate::read::Reads;
use crate::recent::Recent;

/// Work on more bytes than this is done where it does not hold up other requests.
const INLINE_BYTES: usize = 256 * 1024;

/// Runs `work`, which goes over `bytes` bytes.
pub async fn away_from_requests<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes <= INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("the work does not panic and is never aborted")
}

/// Who decides whether a request is let in.
pub enum Admission {
    /// We do: only these signers.
    Signers(StoreSigners),
    /// Nobody is named: the members decide about a signature that is passed on to them; what we would have to sign
    /// ourselves is refused.
    Members,
    /// Nobody does. For tests.
    Anybody,
}

/// Stores batches at the committee. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    shared: Arc<Shared>,
}

struct Shared {
    fan_out: FanOut,
    reads: Reads,
    admission: Admission,
    key: Option<Arc<StoreKey>>,
    certificates: Certificates,
    alarms: Alarms,
    recent: Recent,
}

impl Stores {
    /// Stores through `fan_out`; `key` signs what the members are sent in our name, `certificates` hears of those made.
    pub fn new(
        fan_out: FanOut,
        reads: Reads,
        admission: Admission,
        key: Option<Arc<StoreKey>>,
        certificates: Certificates,
        alarms: Alarms,
    ) -> Self {
        let recent = Recent::default();
        Self { shared: Arc::new(Shared { fan_out, reads, admission, key, certificates, alarms, recent }) }
    }

    /// The last certificates.
    pub fn recent(&self) -> &Recent {
        &self.shared.recent
    }

    /// The key that signs in our name.
    pub fn key(&self) -> Option<&Arc<StoreKey>> {
        self.shared.key.as_ref()
    }

    /// Are signatures checked here?
    pub fn checks(&self) -> bool {
        matches!(self.shared.admission, Admission::Signers(_))
    }

    /// Do we decide who may store, so that we may sign for those who may?
    pub fn decides(&self) -> bool {
        !matches!(self.shared.admission, Admission::Members)
    }

    /// Checks a request's signature where that is for us to do. False: it was not checked.
    pub async fn admit(
        &self,
        digest: impl FnOnce() -> RequestDigest + Send,
        signature: &[u8],
    ) -> Result<bool, AuthError> {
        match &self.shared.admission {
            Admission::Signers(signers) => signers.check(digest, signature).await.map(|()| true),
            Admission::Members | Admission::Anybody => Ok(false),
        }
    }

    /// Stores a batch with the caller's own signature.
    pub async fn store_for_caller(
        &self,
        message: Bytes,
        timeout: u64,
        signature: Bytes,
    ) -> Result<Certificate, StoreError> {
        let key = self.shared.key.clone();
        self.store(message, timeout, Authority::Caller { signature, key }).await
    }

    /// Stores a batch in our own name.
    pub async fn store_as_ourselves(
        &self,
        message: Bytes,
        timeout: u64,
        key: Arc<StoreKey>,
    ) -> Result<Certificate, StoreError> {
        self.store(message, timeout, Authority::Own(key)).await
    }

    /// Stores a batch that is none of a client's: it is certified as any other, and neither counted nor remembered as one.
    pub async fn store_canary(
        &self,
        batch: &VerifiedBatch,
        timeout: u64,
        key: Arc<StoreKey>,
    ) -> Result<Certificate, StoreError> {
        let Shared { fan_out, certificates, .. } = &*self.shared;
        let stored = fan_out.store(batch.bytes().clone(), batch.hash(), timeout, Authority::Own(key)).await;
        stored.iter().for_each(|certificate| certificates.made(certificate));
        stored
    }

    async fn store(
        &self,
        message: Bytes,
        timeout: u64,
        authority: Authority,
    ) -> Result<Certificate, StoreError> {
        let Shared { fan_out, reads, certificates, alarms, recent, .. } = &*self.shared;
        let began = Instant::now();
        let batch = away_from_requests(message.len(), || VerifiedBatch::new(message)).await;
        let stored = fan_out.store(batch.bytes().clone(), batch.hash(), timeout, authority).await;
        match &stored {
            Ok(certificate) => {
                recent.made(certificate, batch.bytes().len(), began.elapsed());
                certificates.made(certificate);
                alarms.clear(fault::QUORUM_MISSED.code);
                let reads = reads.clone();
                away_from_requests(batch.bytes().len(), move || reads.remember(&batch)).await;
            }
            Err(error) => {
                recent.failed(began.elapsed());
                alarms.raise_fault(fault::QUORUM_MISSED, error.to_string());
            }
        }
        stored
    }
}
