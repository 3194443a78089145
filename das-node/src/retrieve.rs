//! The read path: cache, then this machine's disk, then the shared cache, then the archive, then the shards of the
//! committee, then the configured endpoints.
//!
//! The order is that of what a look costs, and whom: the own disk costs nobody anything; the shared cache is a millisecond
//! away; the archive is one question to somebody who is paid for answering, where a gather is k - 1 questions to members
//! that have stores to answer, and an endpoint is a whole server's work. All but the disk have time limits, and are left
//! alone while they fail.
//!
//! What is answered was hashed against its name on its way out of the disk or off the network, or comes from a cache
//! of such answers. What had to be fetched is served and cached; what is done with it on disk is for [`Fetched`] to
//! say: a damaged batch becomes whole again, and a mirror fills itself with what is asked for.
//!
//! # Guarantees
//! - What was stored is found from then on, whatever others are being asked, or have said, about it: the own disk is
//!   always looked at first, and apart from them.
//! - A question from another server is answered from cache and disk, and waits for no server in turn
//!   ([`Scope::Local`]). Where the question comes back in a circle through servers that do not say so, it ends after
//!   [`Times::join`].
//! - However often a batch that nobody has is asked for, the others are asked once in [`Times::absent`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::http::rest::{EncodedBatch, Scope};
use das_common::rest_reader::{ReadError, RestReader};
use das_common::single_flight::{Landed, SingleFlight};
use das_common::telemetry::names;
use metrics::{Counter, counter};
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::archive::{Archive, ArchiveError};
use crate::clock::unix_time;
use crate::custody::CommitteeReads;
use crate::damage::Damage;
use crate::gather::GatherError;
use crate::shared_cache::SharedCache;
use crate::storage::{BatchStore, Held, Lookup, StorageError};

/// Batches that are read from the disk at once; further ones wait. Each is in memory twice, as it is and as it is served.
const MAX_LOOKS: usize = 32;
/// Batches that are remembered as absent; beyond, the oldest are forgotten.
const MAX_ABSENT: u64 = 1 << 16;

/// How long what others say, or do not say, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// What nobody had is not asked for again for so long.
    pub absent: Duration,
    /// Who asks for what others are being asked for already waits for so long, then is told to come again.
    pub join: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { absent: Duration::from_secs(3), join: Duration::from_secs(5) }
    }
}

/// What is written to disk of what was fetched from others. Anybody may ask for anything that they have, so this must
/// not take the room of what is stored with authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// What takes the place of a damaged batch, for as long as that one was to be kept. For members.
    Heals,
    /// That, and all else as long as more than so many bytes are free. For mirrors.
    Fills {
        /// Bytes that must be free on the disk.
        free_above: u64,
        /// It is kept for so long.
        retention: Duration,
    },
}

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
    #[error("{hash} is damaged on this machine's disk, and there is no other source to look at")]
    Damaged {
        /// The batch.
        hash: DataHash,
    },
    /// Only our shard is here, and nobody to gather the others from.
    #[error("{hash} is here as a shard only, and this node has no committee to gather it from")]
    Sharded {
        /// The batch.
        hash: DataHash,
    },
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The committee.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// Others have been asked, and do not answer yet.
    #[error("other servers are still being asked for {hash}")]
    StillAsking {
        /// The batch.
        hash: DataHash,
    },
}

type Found = Result<Option<EncodedBatch>, Arc<RetrieveError>>;

/// What there is on this machine's disk.
#[derive(Debug, Clone)]
enum Here {
    Found(EncodedBatch),
    Absent,
    /// As our shard only.
    Sharded,
    /// In the archive only.
    Archived,
    Damaged,
    /// It cannot be told.
    Failed(Arc<RetrieveError>),
}

/// What the shared cache and the archive said.
#[derive(Debug, Clone)]
enum Fetch {
    Found(EncodedBatch),
    /// Neither has it, or there is neither.
    Nothing,
    /// It cannot be told.
    Failed(Arc<RetrieveError>),
}

/// Where batches are looked for. Cheap to clone.
#[derive(Clone)]
pub struct Retrieve {
    sources: Arc<Sources>,
    /// Several readers of one batch share one look at the disk,
    looks: SingleFlight<DataHash, Here>,
    /// one question to the shared cache and the archive,
    fetches: SingleFlight<DataHash, Fetch>,
    /// one gather of shards,
    gathers: SingleFlight<DataHash, Found>,
    /// and one question to the others. Nothing waits for these but their readers.
    questions: SingleFlight<DataHash, Found>,
}

struct Sources {
    /// None: a node that only reads from an archive.
    store: Option<Arc<BatchStore>>,
    /// Both once they are there.
    shared: OnceLock<SharedCache>,
    archive: OnceLock<Archive>,
    cache: moka::sync::Cache<DataHash, EncodedBatch>,
    /// Gathers over the committee, once it has started.
    committee: OnceLock<CommitteeReads>,
    fallback: Option<RestReader>,
    /// What none of the others had a moment ago.
    absent: moka::sync::Cache<DataHash, ()>,
    /// What the archive did not have a moment ago.
    unarchived: moka::sync::Cache<DataHash, ()>,
    look_slots: Semaphore,
    times: Times,
    fetched: Fetched,
    damage: Damage,
    found: FoundIn,
}

/// How often a batch was found in each place.
struct FoundIn {
    cache: Counter,
    disk: Counter,
    shared: Counter,
    archive: Counter,
    committee: Counter,
    remote: Counter,
    none: Counter,
}

impl FoundIn {
    fn new() -> Self {
        let counter = |source: &'static str| counter!(names::READ_SOURCE, "source" => source);
        Self {
            cache: counter("cache"),
            disk: counter("disk"),
            shared: counter("shared"),
            archive: counter("archive"),
            committee: counter("committee"),
            remote: counter("remote"),
            none: counter("none"),
        }
    }
}

impl Retrieve {
    /// `cache_bytes`: the memory that encoded answers may take.
    pub fn new(
        store: Option<Arc<BatchStore>>,
        fallback: Option<RestReader>,
        cache_bytes: u64,
        fetched: Fetched,
        alarms: Alarms,
        times: Times,
    ) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(cache_bytes)
            .weigher(|_, batch: &EncodedBatch| u32::try_from(batch.body().len() + 128).unwrap_or(u32::MAX))
            .build();
        let moment =
            || moka::sync::Cache::builder().max_capacity(MAX_ABSENT).time_to_live(times.absent).build();
        let (absent, unarchived) = (moment(), moment());
        let (look_slots, found) = (Semaphore::new(MAX_LOOKS), FoundIn::new());
        let sources = Arc::new(Sources {
            store,
            shared: OnceLock::new(),
            archive: OnceLock::new(),
            cache,
            committee: OnceLock::new(),
            fallback,
            absent,
            unarchived,
            look_slots,
            times,
            fetched,
            damage: Damage::new(alarms),
            found,
        });
        let (looks, fetches, gathers, questions) = Default::default();
        Self { sources, looks, fetches, gathers, questions }
    }

    /// What is on this machine's disk of a batch. Blocks for as long as the disk does.
    pub fn held(&self, hash: &DataHash) -> Result<Option<Held>, StorageError> {
        self.sources.store.as_ref().map_or(Ok(None), |store| store.held(hash))
    }

    /// From now on, what is not whole here is gathered over the committee.
    pub fn gather_with(&self, committee: CommitteeReads) {
        // Peers start once.
        let _ = self.sources.committee.set(committee);
    }

    /// From now on, what is not on this disk is looked for in the archive.
    pub fn read_from(&self, archive: Archive) {
        // There is one.
        let _ = self.sources.archive.set(archive);
    }

    /// From now on, what is not on this disk is looked for in the shared cache, and put there when it was found.
    pub fn share(&self, cache: SharedCache) {
        // There is one.
        let _ = self.sources.shared.set(cache);
    }

    /// The shared cache, for what is stored.
    pub fn shared(&self) -> Option<SharedCache> {
        self.sources.shared.get().cloned()
    }

    /// The batch, gathered over the committee; `None`: there is none.
    pub async fn gathered(&self, hash: &DataHash) -> Option<Result<Option<VerifiedBatch>, GatherError>> {
        Some(self.sources.committee.get()?.clone().gather(hash).await)
    }

    /// Finds a batch. `None`: nobody who was asked has it.
    pub async fn get(&self, hash: &DataHash, scope: Scope) -> Found {
        let sources = &self.sources;
        if let Some(encoded) = sources.cache.get(hash) {
            sources.found.cache.increment(1);
            return Ok(Some(encoded));
        }
        let here = self.look(*hash).await;
        if let Here::Found(encoded) = here {
            sources.found.disk.increment(1);
            return Ok(Some(encoded));
        }
        // Neither asks anybody in turn, so both count as our own.
        let fetched = self.fetch(*hash, &here).await;
        if let Fetch::Found(encoded) = fetched {
            return Ok(Some(encoded));
        }
        // Members answer each other from their own disks only, so a gather never comes back in a circle.
        let gathered = self.gather(*hash).await;
        if let Some(Ok(Some(encoded))) = gathered {
            sources.found.committee.increment(1);
            return Ok(Some(encoded));
        }
        let found = match (scope, gathered) {
            (Scope::Everywhere, _) if sources.fallback.is_some() => self.ask(*hash, &here).await,
            (_, Some(Err(error))) => Err(error),
            (_, _) => sources.give_up(hash, here),
        };
        let found = match (found, fetched) {
            // That nobody has it is certain only where all were asked.
            (Ok(None) | Err(_), Fetch::Failed(error)) => Err(error),
            (found, _) => found,
        };
        match &found {
            Ok(Some(_)) => sources.found.remote.increment(1),
            Ok(None) | Err(_) => sources.found.none.increment(1),
        }
        found
    }

    async fn look(&self, hash: DataHash) -> Here {
        let sources = Arc::clone(&self.sources);
        let here = self.looks.run(hash, move || async move { sources.look(&hash).await }).await;
        here.unwrap_or_else(|| Here::Failed(Arc::new(StorageError::Closed.into())))
    }

    async fn fetch(&self, hash: DataHash, here: &Here) -> Fetch {
        if self.sources.shared.get().is_none() && self.sources.archive.get().is_none() {
            return Fetch::Nothing;
        }
        let (sources, here) = (Arc::clone(&self.sources), here.clone());
        let fetched = self.fetches.run(hash, move || async move { sources.fetch(&hash, &here).await }).await;
        fetched.unwrap_or_else(|| Fetch::Failed(Arc::new(StorageError::Closed.into())))
    }

    /// `None` when there is no committee to gather over.
    async fn gather(&self, hash: DataHash) -> Option<Found> {
        let committee = self.sources.committee.get()?.clone();
        let sources = Arc::clone(&self.sources);
        let work = move || async move {
            let gathered = committee.gather(&hash).await.map_err(|error| Arc::new(error.into()))?;
            Ok(gathered.map(|batch| sources.keep_and_share(&hash, &batch)))
        };
        let found = self.gathers.run(hash, work).await;
        Some(found.unwrap_or_else(|| Err(Arc::new(StorageError::Closed.into()))))
    }

    async fn ask(&self, hash: DataHash, here: &Here) -> Found {
        if let Here::Failed(error) = here {
            error!(%error, %hash, "own disk failed, asking others");
        }
        let certain = matches!(here, Here::Absent);
        if certain && self.sources.absent.contains_key(&hash) {
            return Ok(None);
        }
        let sources = Arc::clone(&self.sources);
        let work = move || async move { sources.ask(&hash, certain).await.map_err(Arc::new) };
        match self.questions.run_or_leave(hash, self.sources.times.join, work).await {
            Landed::Done(found) => found,
            Landed::Panicked => Err(Arc::new(StorageError::Closed.into())),
            Landed::StillUnderWay => Err(Arc::new(RetrieveError::StillAsking { hash })),
        }
    }

    /// Bytes in the cache.
    pub fn cached_bytes(&self) -> u64 {
        self.sources.cache.run_pending_tasks();
        self.sources.cache.weighted_size()
    }

    /// A batch that is gone from the disk must go from the cache too.
    pub fn forget(&self, hash: &DataHash) {
        self.sources.cache.invalidate(hash);
        self.sources.damage.ended(hash);
    }

    /// What is known to be damaged, for whoever heals it.
    pub fn damage(&self) -> Damage {
        self.sources.damage.clone()
    }
}

impl Sources {
    async fn look(&self, hash: &DataHash) -> Here {
        let Some(store) = &self.store else { return Here::Absent };
        let _slot = self.look_slots.acquire().await.expect("the semaphore is never closed");
        match store.get_as(*hash, |batch| EncodedBatch::new(&batch)).await {
            Ok(Lookup::Found(encoded)) => {
                // A read that began before it was healed may have reported it since.
                self.damage.ended(hash);
                Here::Found(self.keep(hash, encoded))
            }
            Ok(Lookup::Absent) => Here::Absent,
            Ok(Lookup::Sharded { .. }) => Here::Sharded,
            Ok(Lookup::Archived { .. }) => Here::Archived,
            Ok(Lookup::Damaged) => {
                self.report_damage(hash);
                Here::Damaged
            }
            Err(error) => Here::Failed(Arc::new(error.into())),
        }
    }

    /// The answer when nobody else is asked.
    fn give_up(&self, hash: &DataHash, here: Here) -> Found {
        match here {
            Here::Found(encoded) => Ok(Some(encoded)),
            Here::Absent => Ok(None),
            // The archive has said why not.
            Here::Archived => Ok(None),
            Here::Sharded => Err(Arc::new(RetrieveError::Sharded { hash: *hash })),
            Here::Damaged => Err(Arc::new(RetrieveError::Damaged { hash: *hash })),
            Here::Failed(error) => Err(error),
        }
    }

    /// Looks for a batch in the shared cache, then in the archive.
    async fn fetch(&self, hash: &DataHash, here: &Here) -> Fetch {
        if let Some(shared) = self.shared.get()
            && let Some(batch) = shared.get(hash).await
        {
            self.found.shared.increment(1);
            self.heal(here, &batch).await;
            return Fetch::Found(self.keep(hash, EncodedBatch::new(&batch)));
        }
        let Some(archive) = self.archive.get() else { return Fetch::Nothing };
        if !matches!(here, Here::Archived) && self.unarchived.contains_key(hash) {
            return Fetch::Nothing;
        }
        match archive.get(hash).await {
            Ok(Some(batch)) => {
                self.found.archive.increment(1);
                self.heal(here, &batch).await;
                Fetch::Found(self.keep_and_share(hash, &batch))
            }
            Ok(None) if matches!(here, Here::Archived) => Fetch::Failed(Arc::new(archive.lost(hash).into())),
            Ok(None) => {
                self.unarchived.insert(*hash, ());
                Fetch::Nothing
            }
            Err(error) => {
                warn!(%error, %hash, "the archive could not say");
                Fetch::Failed(Arc::new(error.into()))
            }
        }
    }

    /// What takes the place of bytes that rotted.
    async fn heal(&self, here: &Here, batch: &VerifiedBatch) {
        if matches!(here, Here::Damaged) {
            self.store_fetched(batch).await;
        }
    }

    /// Asks the others for what they have themselves. `certain`: it is not on our own disk.
    async fn ask(&self, hash: &DataHash, certain: bool) -> Result<Option<EncodedBatch>, RetrieveError> {
        let Some(fallback) = &self.fallback else { return Ok(None) };
        match fallback.get_within(hash, Scope::Local).await {
            Ok(batch) => {
                self.store_fetched(&batch).await;
                Ok(Some(self.keep_and_share(hash, &batch)))
            }
            Err(ReadError::NotFound { .. }) if certain => {
                self.absent.insert(*hash, ());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keep(&self, hash: &DataHash, encoded: EncodedBatch) -> EncodedBatch {
        self.cache.insert(*hash, encoded.clone());
        encoded
    }

    fn keep_and_share(&self, hash: &DataHash, batch: &VerifiedBatch) -> EncodedBatch {
        self.shared.get().iter().for_each(|shared| shared.put(batch));
        self.keep(hash, EncodedBatch::new(batch))
    }

    fn report_damage(&self, hash: &DataHash) {
        error!(%hash, "the bytes on disk are not those of this hash");
        metrics::counter!("das_node_damaged_batches_total").increment(1);
        self.damage.found(hash);
    }

    async fn store_fetched(&self, batch: &VerifiedBatch) {
        let Some(store) = &self.store else { return };
        let now = unix_time();
        let stored = async {
            let Some(timeout) = self.keep_until(store, &batch.hash(), now)? else { return Ok(()) };
            store.put(batch, timeout, now).await?;
            // Whatever that did, the bytes on disk are right now.
            self.damage.ended(&batch.hash());
            Ok::<_, StorageError>(())
        };
        if let Err(error) = stored.await {
            warn!(%error, hash = %batch.hash(), "a batch that was fetched could not be stored");
        }
    }

    /// Until when a fetched batch is to be kept on disk; `None`: not at all.
    fn keep_until(&self, store: &BatchStore, hash: &DataHash, now: u64) -> Result<Option<u64>, StorageError> {
        // Only what is damaged, or lost at the archive, is fetched although it is in the index.
        if let Some(promised) = store.timeout(hash)? {
            return Ok(Some(promised));
        }
        Ok(match self.fetched {
            Fetched::Heals => None,
            Fetched::Fills { free_above, retention } => {
                let free = store.free_bytes().map_err(|source| StorageError::Read { source })?;
                (free > free_above).then(|| now.saturating_add(retention.as_secs()))
            }
        })
    }
}

#[cfg(test)]
mod tests;
