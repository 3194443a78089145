//! The read path: cache, then this machine's disk, then the configured endpoints.
//!
//! What is answered was hashed against its name on its way out of the disk or off the network, or comes from a cache
//! of such answers. What had to be fetched is stored (lazy sync), so a mirror fills itself with what is asked for, and
//! a damaged batch becomes whole again.

use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::http::rest::EncodedBatch;
use das_common::rest_reader::{ReadError, RestReader};
use das_common::single_flight::SingleFlight;
use das_common::telemetry::names;
use metrics::{Counter, counter};
use thiserror::Error;
use tracing::{error, warn};

use crate::clock::unix_time;
use crate::storage::{BatchStore, Lookup, StorageError};

/// Why it cannot be told whether a batch exists.
#[derive(Debug, Error)]
pub enum RetrieveError {
    /// Our own disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The endpoints.
    #[error(transparent)]
    Endpoints(#[from] ReadError),
    /// The bytes on our disk are damaged, and there is nowhere else to look.
    #[error("{hash} is damaged on this machine's disk, and no other source is configured")]
    Damaged {
        /// The batch.
        hash: DataHash,
    },
}

type Found = Result<Option<EncodedBatch>, Arc<RetrieveError>>;

/// Where batches are looked for. Cheap to clone.
#[derive(Clone)]
pub struct Retrieve {
    sources: Arc<Sources>,
    /// Several readers of one batch share one look for it.
    flight: SingleFlight<DataHash, Found>,
}

struct Sources {
    store: Arc<BatchStore>,
    cache: moka::sync::Cache<DataHash, EncodedBatch>,
    fallback: Option<RestReader>,
    /// What is fetched is stored for so long.
    retention: Duration,
    alarms: Alarms,
    found: FoundIn,
}

/// How often a batch was found in each place.
struct FoundIn {
    cache: Counter,
    disk: Counter,
    remote: Counter,
    none: Counter,
}

impl FoundIn {
    fn new() -> Self {
        let counter = |source: &'static str| counter!(names::READ_SOURCE, "source" => source);
        Self {
            cache: counter("cache"),
            disk: counter("disk"),
            remote: counter("remote"),
            none: counter("none"),
        }
    }
}

impl Retrieve {
    /// `cache_bytes`: the memory that encoded answers may take.
    pub fn new(
        store: Arc<BatchStore>,
        fallback: Option<RestReader>,
        cache_bytes: u64,
        retention: Duration,
        alarms: Alarms,
    ) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(cache_bytes)
            .weigher(|_, batch: &EncodedBatch| u32::try_from(batch.body().len() + 128).unwrap_or(u32::MAX))
            .build();
        let sources = Arc::new(Sources { store, cache, fallback, retention, alarms, found: FoundIn::new() });
        Self { sources, flight: SingleFlight::default() }
    }

    /// Finds a batch. `None`: nobody who was asked has it.
    pub async fn get(&self, hash: &DataHash) -> Found {
        if let Some(encoded) = self.sources.cache.get(hash) {
            self.sources.found.cache.increment(1);
            return Ok(Some(encoded));
        }
        let (sources, hash) = (Arc::clone(&self.sources), *hash);
        let found =
            self.flight.run(hash, move || async move { sources.find(&hash).await.map_err(Arc::new) }).await;
        found.unwrap_or_else(|| Err(Arc::new(RetrieveError::Storage(StorageError::Closed))))
    }

    /// Bytes in the cache.
    pub fn cached_bytes(&self) -> u64 {
        self.sources.cache.run_pending_tasks();
        self.sources.cache.weighted_size()
    }

    /// A batch that is gone from the disk must go from the cache too.
    pub fn forget(&self, hash: &DataHash) {
        self.sources.cache.invalidate(hash);
    }
}

impl Sources {
    async fn find(&self, hash: &DataHash) -> Result<Option<EncodedBatch>, RetrieveError> {
        let mut damaged = false;
        match self.store.get_as(*hash, |batch| EncodedBatch::new(&batch)).await {
            Ok(Lookup::Found(encoded)) => {
                self.found.disk.increment(1);
                return Ok(Some(self.keep(hash, encoded)));
            }
            Ok(Lookup::Absent) => {}
            Ok(Lookup::Damaged) => {
                damaged = true;
                self.report_damage(hash);
            }
            Err(error) if self.fallback.is_some() => error!(%error, %hash, "own disk failed, asking others"),
            Err(error) => return Err(error.into()),
        }
        let Some(fallback) = &self.fallback else {
            self.found.none.increment(1);
            return if damaged { Err(RetrieveError::Damaged { hash: *hash }) } else { Ok(None) };
        };
        match fallback.get(hash).await {
            Ok(batch) => {
                self.found.remote.increment(1);
                self.store_fetched(&batch).await;
                Ok(Some(self.keep(hash, EncodedBatch::new(&batch))))
            }
            Err(error) => {
                self.found.none.increment(1);
                match error {
                    ReadError::NotFound { .. } if !damaged => Ok(None),
                    error => Err(error.into()),
                }
            }
        }
    }

    fn keep(&self, hash: &DataHash, encoded: EncodedBatch) -> EncodedBatch {
        self.cache.insert(*hash, encoded.clone());
        encoded
    }

    fn report_damage(&self, hash: &DataHash) {
        error!(%hash, "the bytes on disk are not those of this hash");
        metrics::counter!("das_node_damaged_batches_total").increment(1);
        self.alarms.raise_fault(
            fault::READ_CORRUPT,
            format!("the bytes of {hash} on disk are not those that were stored"),
        );
    }

    async fn store_fetched(&self, batch: &VerifiedBatch) {
        let now = unix_time();
        let timeout = now.saturating_add(self.retention.as_secs());
        if let Err(error) = self.store.put(batch, timeout, now).await {
            warn!(%error, hash = %batch.hash(), "a batch that was fetched could not be stored");
        }
    }
}
