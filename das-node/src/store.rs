//! The store path, top to bottom.
//!
//! A store is answered with a signature only after, in this order: the request's own signature was checked, its
//! timeout was checked, the batch was hashed (once), and batch and timeout are on disk, synced. A request that fails
//! one of these leaves nothing behind. Where `archive.required` says so, the batch is in the archive by then too; one that
//! does not come there in time stays on disk and is not signed for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::keyset::Keyset;
use das_common::signer::{Message, SignError, Signer};
use das_common::store_auth::{AuthError, RequestDigest, StoreSigners};
use das_common::telemetry::names;
use das_common::traces::TARGET;
use das_common::wire::{StoreResult, texts};
use metrics::{Histogram, histogram};
use thiserror::Error;
use tracing::{Instrument as _, trace_span};

use crate::archive::{Archive, ArchiveError};
use crate::clock::unix_time;
use crate::custody::Custody;
use crate::damage::Damage;
use crate::shared_cache::SharedCache;
use crate::storage::{BatchStore, PutOutcome, StorageError};

/// The signers mask of a member's own answer: it is the only key of its own keyset.
const OWN_MASK: u64 = 1;

/// Why a store was refused or failed. The texts go to the caller.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The request's signature.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Beyond what other implementations of the protocol can represent.
    #[error("{}", texts::timeout_exceeds_int64(*.timeout))]
    TimeoutTooLarge {
        /// The timeout asked for.
        timeout: u64,
    },
    /// Longer than this member promises anything.
    #[error("{}", texts::timeout_exceeds_retention(*.timeout, *.retention))]
    TimeoutTooLate {
        /// The timeout asked for.
        timeout: u64,
        /// How far ahead it may be, in seconds.
        retention: u64,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The archive, where nothing is signed for that is not there.
    #[error("{0}; {cure}", cure = _0.fault())]
    Archive(#[from] ArchiveError),
    /// The key. The caller is told what can be done, as nobody at the member may be looking.
    #[error("{0}; {cure}", cure = _0.fault())]
    Sign(#[from] SignError),
}

impl Coded for StoreError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Auth(error) => error.fault(),
            Self::TimeoutTooLarge { .. } | Self::TimeoutTooLate { .. } => fault::STORE_TIMEOUT,
            Self::Storage(error) if error.is_disk_full() => fault::STORE_DISK_FULL,
            Self::Storage(StorageError::Closed) => fault::NET_SHUTTING_DOWN,
            Self::Storage(_) => fault::STORE_WRITE,
            Self::Archive(error) => error.fault(),
            Self::Sign(error) => error.fault(),
        }
    }
}

impl Coded for ArchiveError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Failed { refused: true, .. } => fault::ARCHIVE_REFUSED,
            Self::Failed { .. } | Self::Late { .. } | Self::LeftAlone { .. } => fault::ARCHIVE_UNREACHABLE,
            Self::WrongBytes { .. } => fault::ARCHIVE_WRONG,
            Self::Unreadable { .. } => fault::READ_CORRUPT,
            Self::Lost { .. } => fault::ARCHIVE_LOST,
            Self::NotInTime { .. } => fault::ARCHIVE_STORE,
        }
    }
}

/// Counts the stores under way, for those who work in the background to give way to. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StoresUnderWay(Arc<StoreCounts>);

#[derive(Debug, Default)]
struct StoreCounts {
    under_way: AtomicUsize,
    begun: AtomicUsize,
}

/// Who stores one batch after the other pauses for less than this between two.
const QUIET: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl StoresUnderWay {
    /// Whether somebody waits for a store.
    pub fn any(&self) -> bool {
        self.0.under_way.load(Ordering::Relaxed) > 0
    }

    /// Waits until nobody has stored for a moment, but not for longer than this.
    pub async fn quiet(&self, at_most: Duration) {
        let end = Instant::now() + at_most;
        let begun = || self.0.begun.load(Ordering::Relaxed);
        let (mut last, mut since) = (begun(), None);
        loop {
            let now = Instant::now();
            if self.any() || begun() != last {
                (last, since) = (begun(), None);
            } else if now.duration_since(*since.get_or_insert(now)) >= QUIET {
                return;
            }
            if now >= end {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn enter(&self) -> UnderWay {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.0))
    }
}

/// One store under way, until it is dropped.
struct UnderWay(Arc<StoreCounts>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything a store passes through.
pub struct StorePath {
    store: Arc<BatchStore>,
    signers: Arc<StoreSigners>,
    signer: Arc<dyn Signer>,
    max_retention: Duration,
    damage: Damage,
    keyset_hash: DataHash,
    stages: Stages,
    under_way: StoresUnderWay,
    custody: Option<Custody>,
    /// Waited for, for so long.
    archive: Option<(Archive, Duration)>,
    shared: Option<SharedCache>,
}

/// Times of the stages.
struct Stages {
    authorize: Histogram,
    hash: Histogram,
    write: Histogram,
    archive: Histogram,
    sign: Histogram,
}

impl Stages {
    fn new() -> Self {
        let stage = |stage: &'static str| histogram!(names::STORE_STAGE_SECONDS, "stage" => stage);
        Self {
            authorize: stage("authorize"),
            hash: stage("hash"),
            write: stage("write"),
            archive: stage("archive"),
            sign: stage("sign"),
        }
    }
}

impl StorePath {
    /// Puts the parts together. `max_retention`: how far ahead a timeout may be.
    pub fn new(
        store: Arc<BatchStore>,
        signers: Arc<StoreSigners>,
        signer: Arc<dyn Signer>,
        max_retention: Duration,
        damage: Damage,
    ) -> Self {
        let keyset_hash = Keyset::single(signer.public_key().clone()).hash();
        let (stages, under_way) = (Stages::new(), StoresUnderWay::default());
        Self {
            store,
            signers,
            signer,
            max_retention,
            damage,
            keyset_hash,
            stages,
            under_way,
            custody: None,
            archive: None,
            shared: None,
        }
    }

    /// Counts its stores here, and nudges custody after each.
    pub fn with_custody(self, under_way: StoresUnderWay, custody: Option<Custody>) -> Self {
        Self { under_way, custody, ..self }
    }

    /// Signs only for what is in the archive, for which a store waits so long.
    pub fn with_archive(self, archive: Option<(Archive, Duration)>) -> Self {
        Self { archive, ..self }
    }

    /// Puts what is stored into a cache that others read from too.
    pub fn with_shared_cache(self, shared: Option<SharedCache>) -> Self {
        Self { shared, ..self }
    }

    /// Stores a batch for whoever signed the request.
    pub async fn store(
        &self,
        message: Bytes,
        timeout: u64,
        signature: &[u8],
    ) -> Result<StoreResult, StoreError> {
        let _under_way = self.under_way.enter();
        let begun = Instant::now();
        let authorize = trace_span!(target: TARGET, "authorize");
        self.signers
            .check(|| RequestDigest::store(&message, timeout), signature)
            .instrument(authorize)
            .await?;
        self.stages.authorize.record(begun.elapsed());
        self.store_authorized(message, timeout).await
    }

    /// Stores a batch whose request was authorized already.
    pub async fn store_authorized(&self, message: Bytes, timeout: u64) -> Result<StoreResult, StoreError> {
        let _under_way = self.under_way.enter();
        let now = unix_time();
        self.check_timeout(timeout, now)?;
        let begun = Instant::now();
        let bytes = message.len();
        let batch = trace_span!(target: TARGET, "hash", bytes).in_scope(|| VerifiedBatch::new(message));
        let hashed = Instant::now();
        let disk = trace_span!(target: TARGET, "disk", hash = %batch.hash(), bytes);
        let outcome = self.store.put(&batch, timeout, now).instrument(disk).await?;
        let written = Instant::now();
        if let Some((archive, within)) = &self.archive {
            let span = trace_span!(target: TARGET, "archive");
            archive.ensure(batch.hash(), *within).instrument(span).await?;
            self.stages.archive.record(written.elapsed());
        }
        if let Some(shared) = &self.shared {
            shared.put(&batch);
        }
        let archived = Instant::now();
        if let Some(custody) = &self.custody {
            custody.arrived(batch.bytes().len() as u64);
        }
        if outcome == PutOutcome::Healed {
            tracing::warn!(hash = %batch.hash(), "a damaged batch is whole again from a store request");
            self.damage.ended(&batch.hash());
        }
        let word = Message::certificate(batch.hash(), timeout).map_err(SignError::from)?;
        let sign = trace_span!(target: TARGET, "sign");
        let signature = self.signer.sign(word).instrument(sign).await?;
        self.stages.hash.record(hashed - begun);
        self.stages.write.record(written - hashed);
        self.stages.sign.record(archived.elapsed());
        Ok(StoreResult {
            data_hash: *batch.hash().as_bytes(),
            timeout,
            signers_mask: OWN_MASK,
            keyset_hash: *self.keyset_hash.as_bytes(),
            sig: signature.to_bytes().to_vec(),
            version: 1,
        })
    }

    fn check_timeout(&self, timeout: u64, now: u64) -> Result<(), StoreError> {
        if i64::try_from(timeout).is_err() {
            return Err(StoreError::TimeoutTooLarge { timeout });
        }
        let retention = self.max_retention.as_secs();
        if timeout > now.saturating_add(retention) {
            return Err(StoreError::TimeoutTooLate { timeout, retention });
        }
        Ok(())
    }
}
