//! What RocksDB keeps: where each batch is and until when, in which order batches expire, and the node's own state.
//!
//! ```text
//! column family  key                            value (a version byte, then bincode)
//! batches        data hash (32)                 BatchRecord
//! expiry         u64 timeout || data hash       empty
//! hot            u64 stored at || data hash     empty: batches that are here whole
//! shards         data hash || coding id         ShardRecord
//! packs          u64 segment id || u64 offset   PackRecord
//! segments       u64 segment id                 SegmentRecord
//! holes          u64 segment id || u64 offset   u64 length: free, but perhaps not given back yet
//! state          text                           see the constants of `state`
//! custody, certificates, committees: see `raw`; archive: see `notes`
//! ```
//!
//! Payloads are not in RocksDB: they would be written twice (log and table) and again by compactions. They are in
//! [`segment`](super::segment) files, which are also the write-ahead log of this index: an index entry that a power
//! cut took is found again by a scan from the last known end of the log.

use std::path::Path;

use std::sync::atomic::{AtomicBool, Ordering};

use bincode::Decode;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::telemetry::names;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBPinnableSlice, Direction, FlushOptions, IteratorMode, Options,
};
use thiserror::Error;

use super::segment::Hole;

mod change;
pub mod notes;
pub mod raw;
pub mod record;

pub use change::Change;
pub use notes::{Errand, Note};
pub use raw::Family;
pub use record::{
    Archived, Archiving, BatchRecord, KeyUse, LogEnd, PackRecord, SegmentRecord, ShardRecord, Totals,
};

use record::{decode, position_key, shard_key, split_time_key};

const BATCHES: &str = "batches";
const EXPIRY: &str = "expiry";
const SEGMENTS: &str = "segments";
const HOT: &str = "hot";
const SHARDS: &str = "shards";
const PACKS: &str = "packs";
const HOLES: &str = "holes";
const STATE: &str = "state";
const FAMILIES: [&str; 8] = [BATCHES, EXPIRY, HOT, SHARDS, PACKS, SEGMENTS, HOLES, STATE];
/// Families of earlier releases, which nothing needs.
const FORMER_FAMILIES: [&str; 4] = ["coverage", "statements", "evidence", "wanted"];
/// Families whose first entries are worked off: without help their beginning fills with what was deleted.
const QUEUES: [&str; 6] =
    [EXPIRY, HOT, HOLES, Family::Custody.name(), Family::Certificates.name(), Family::Archive.name()];
/// A stretch of so many entries of a queue ...
const QUEUE_WINDOW: usize = 1024;
/// ... is compacted when so many of them are deletions.
const QUEUE_DELETIONS: usize = 512;
/// A queue of at most so many bytes is compacted whenever there is time.
const SHORT_QUEUE: u64 = 8 << 20;

/// Memory is taken in pieces of this size: the many small families shall not seem full.
const ARENA_BLOCK: usize = 64 << 10;
/// A log of changes longer than this is made into tables when there is time.
const LONG_LOG: u64 = 256 << 10;

/// So many entries are changed at once when an index of an earlier release is brought up to date.
const UPGRADE_STEP: usize = 4096;
/// The memory that unflushed index entries may take, all column families together.
const WRITE_BUFFERS: usize = 16 << 20;
const BLOCK_CACHE: usize = 8 << 20;
const LOG_LIMIT: u64 = 64 << 20;

/// Keys of the column family `state`.
pub mod state {
    /// The storage id (16 bytes).
    pub const STORAGE_ID: &[u8] = b"storage-id";
    /// Up to where the segments are in the index.
    pub const LOG_END: &[u8] = b"log-end";
    /// What is remembered of the clock.
    pub const CLOCK: &[u8] = b"clock";
    /// What is held, by form. An index without it is of the first release, or new.
    pub const TOTALS: &[u8] = b"totals";
    /// Whether stores leave a note for custody.
    pub const ARRIVALS: &[u8] = b"arrivals";
    /// The last backups of this database, by the names that their manifests have.
    pub const BACKUPS: &[u8] = b"backups";
    /// What stores and expiry note for the archive.
    pub const ARCHIVING: &[u8] = b"archiving";
    /// What is in the archive only.
    pub const ARCHIVED: &[u8] = b"archived";
    /// Which archive that is.
    pub const ARCHIVE: &[u8] = b"archive";
    /// The next batch to note, while what was here before the archive is being noted.
    pub const BACKFILL: &[u8] = b"archive-backfill";
    /// What is encrypted, by key. Without it nothing is.
    pub const KEYS: &[u8] = b"storage-keys";
    /// Written to see whether the index takes writes.
    pub const PROBE: &[u8] = b"probe";
}

/// Why the index could not answer.
#[derive(Debug, Error)]
pub enum IndexError {
    /// RocksDB's own report.
    #[error("the index (RocksDB) failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// A record that does not decode.
    #[error(
        "the index holds a record in `{family}` that is damaged or of a newer release (first byte {version:?})"
    )]
    Record {
        /// Column family.
        family: &'static str,
        /// The record's version byte.
        version: Option<u8>,
    },
    /// A key or value that nobody has use for.
    #[error("a {what} of {got} bytes for `{family}`, the limit is {limit}")]
    TooLong {
        /// Column family.
        family: &'static str,
        /// `key` or `value`.
        what: &'static str,
        /// Its length in bytes.
        got: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl IndexError {
    /// Whether a newer release wrote the record, as far as its first byte tells.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Record { version: Some(version), .. } if *version > record::NEWEST_VERSION)
    }
}

fn all_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().chain(Family::ALL.map(Family::name))
}

/// The key of the note (in [`Family::Custody`]) that a batch was stored, or is to be kept for longer.
pub fn arrival_key(hash: &DataHash) -> [u8; 33] {
    let mut key = [b'A'; 33];
    key[1..].copy_from_slice(hash.as_bytes());
    key
}

/// The index database.
#[derive(Debug)]
pub struct Index {
    db: DB,
    arrivals: AtomicBool,
    archiving: Mutex<Archiving>,
    /// So many of the next changes fail.
    #[cfg(test)]
    pub(crate) failures: std::sync::atomic::AtomicU32,
    /// As if the process ended before space was given back.
    #[cfg(test)]
    pub(super) keep_holes: AtomicBool,
    /// So many changes were synced.
    #[cfg(test)]
    pub(super) synced: std::sync::atomic::AtomicU32,
}

impl Index {
    /// Opens the database, making it when there is none.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_db_write_buffer_size(WRITE_BUFFERS);
        options.set_max_total_wal_size(LOG_LIMIT);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_max_open_files(256);
        options.set_max_background_jobs(2);
        options.set_paranoid_checks(true);
        // What is preallocated and not used would count on a disk that is paid for by the byte.
        options.set_manifest_preallocation_size(64 << 10);
        let options = options.get_options_from_string("allow_fallocate=false")?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        // Families that an earlier release had must be opened to be dropped. There are none where there is no database.
        let known = DB::list_cf(&options, path).unwrap_or_default();
        let former = FORMER_FAMILIES.into_iter().filter(|name| known.iter().any(|known| known == name));
        let families = all_families().chain(former.clone()).map(|name| {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_block_cache(&cache);
            if name == BATCHES {
                blocks.set_bloom_filter(10.0, false);
            }
            let mut options = Options::default();
            options.set_block_based_table_factory(&blocks);
            options.set_arena_block_size(ARENA_BLOCK);
            if QUEUES.contains(&name) {
                options.add_compact_on_deletion_collector_factory(QUEUE_WINDOW, QUEUE_DELETIONS, 0.5);
            }
            ColumnFamilyDescriptor::new(name, options)
        });
        let mut db = DB::open_cf_descriptors(&options, path, families)?;
        former.into_iter().try_for_each(|name| db.drop_cf(name))?;
        let index = Self {
            db,
            arrivals: AtomicBool::new(false),
            archiving: Mutex::default(),
            #[cfg(test)]
            failures: Default::default(),
            #[cfg(test)]
            keep_holes: Default::default(),
            #[cfg(test)]
            synced: Default::default(),
        };
        index.arrivals.store(index.state(state::ARRIVALS)?.unwrap_or(false), Ordering::Relaxed);
        *index.archiving.lock() = index.state(state::ARCHIVING)?.unwrap_or_default();
        if index.state::<Totals>(state::TOTALS)?.is_none() {
            index.upgrade()?;
        }
        Ok(index)
    }

    /// Makes `hot` and the totals, which the first release did not have, from what it had.
    fn upgrade(&self) -> Result<(), IndexError> {
        let mut totals = Totals::default();
        let mut change = self.change();
        for (done, entry) in self.db.iterator_cf(self.family(BATCHES), IteratorMode::Start).enumerate() {
            let (key, value) = entry?;
            let record = BatchRecord::decode(BATCHES, &value)?;
            let hash = key.as_ref().try_into().map(DataHash::from_bytes);
            let hash = hash.map_err(|_| IndexError::Record { family: BATCHES, version: None })?;
            totals.count_batch(&record, true);
            if record.payload.is_some() {
                change.set_hot(&hash, &record);
            }
            if done % UPGRADE_STEP == UPGRADE_STEP - 1 {
                std::mem::replace(&mut change, self.change()).apply(false)?;
            }
        }
        change.set_state(state::TOTALS, &totals);
        change.apply(false)
    }

    #[cfg(test)]
    fn fail_if_told(&self) -> Result<(), IndexError> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(IndexError::Record { family: "made to fail", version: None }),
            Err(_) => Ok(()),
        }
    }

    /// The folder of the database.
    pub fn path(&self) -> &Path {
        self.db.path()
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    /// What is known of a batch.
    pub fn batch(&self, hash: &DataHash) -> Result<Option<BatchRecord>, IndexError> {
        let found = self.db.get_pinned_cf(self.family(BATCHES), hash.as_bytes())?;
        found.map(|bytes| BatchRecord::decode(BATCHES, &bytes)).transpose()
    }

    /// Where the shard of a batch under a coding is.
    pub fn shard(&self, hash: &DataHash, coding: &CodingId) -> Result<Option<ShardRecord>, IndexError> {
        let found: Option<DBPinnableSlice<'_>> =
            self.db.get_pinned_cf(self.family(SHARDS), shard_key(hash, coding))?;
        found.map(|bytes| ShardRecord::decode(SHARDS, &bytes)).transpose()
    }

    /// All shards of a batch.
    pub fn shards(&self, hash: &DataHash) -> Result<Vec<(CodingId, ShardRecord)>, IndexError> {
        let mut found = Vec::new();
        let mode = IteratorMode::From(hash.as_bytes(), Direction::Forward);
        for entry in self.db.iterator_cf(self.family(SHARDS), mode) {
            let (key, value) = entry?;
            let Some(coding) = key.strip_prefix(hash.as_bytes()) else { break };
            let coding = coding.try_into().map(CodingId::from_bytes);
            let coding = coding.map_err(|_| IndexError::Record { family: SHARDS, version: None })?;
            found.push((coding, ShardRecord::decode(SHARDS, &value)?));
        }
        Ok(found)
    }

    /// What is known of a pack.
    pub fn pack(&self, segment: u64, offset: u64) -> Result<Option<PackRecord>, IndexError> {
        let found = self.db.get_pinned_cf(self.family(PACKS), position_key(segment, offset))?;
        found.map(|bytes| decode(PACKS, &bytes)).transpose()
    }

    /// The first batches by data hash, from `from` on.
    pub fn batches_from(
        &self,
        from: &DataHash,
        limit: usize,
    ) -> Result<Vec<(DataHash, BatchRecord)>, IndexError> {
        let mode = IteratorMode::From(from.as_bytes(), Direction::Forward);
        let entries = self.db.iterator_cf(self.family(BATCHES), mode).take(limit);
        entries
            .map(|entry| {
                let (key, value) = entry?;
                let hash = key.as_ref().try_into().map(DataHash::from_bytes);
                let hash = hash.map_err(|_| IndexError::Record { family: BATCHES, version: None })?;
                Ok((hash, BatchRecord::decode(BATCHES, &value)?))
            })
            .collect()
    }

    /// Ranges of the log that nothing needs, not known to be given back to the file system.
    pub fn holes(&self) -> Result<Vec<Hole>, IndexError> {
        let entries = self.db.iterator_cf(self.family(HOLES), IteratorMode::Start);
        entries
            .map(|entry| {
                let (key, value) = entry?;
                let number = |bytes: Option<&[u8; 8]>| {
                    let damaged = IndexError::Record { family: HOLES, version: None };
                    bytes.map(|b| u64::from_be_bytes(*b)).ok_or(damaged)
                };
                Ok(Hole {
                    segment: number(key.first_chunk())?,
                    offset: number(key.last_chunk())?,
                    length: number(value.first_chunk())?,
                })
            })
            .collect()
    }

    /// Whether stores leave a note for custody, see [`arrival_key`].
    pub fn notes_arrivals(&self) -> bool {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// From now on stores leave a note for custody, or no longer. Survives a restart.
    pub fn note_arrivals(&self, on: bool) -> Result<(), IndexError> {
        let mut change = self.change();
        change.set_state(state::ARRIVALS, &on);
        change.apply(true)?;
        self.arrivals.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// What stores and expiry note for the archive.
    pub fn archiving(&self) -> Archiving {
        *self.archiving.lock()
    }

    /// From now on this is noted for the archive. Survives a restart.
    pub fn set_archiving(&self, archiving: Archiving) -> Result<(), IndexError> {
        let mut change = self.change();
        change.set_state(state::ARCHIVING, &archiving);
        change.apply(true)?;
        *self.archiving.lock() = archiving;
        Ok(())
    }

    /// How full a segment is.
    pub fn segments(&self) -> Result<Vec<(u64, SegmentRecord)>, IndexError> {
        let mut all = Vec::new();
        for entry in self.db.iterator_cf(self.family(SEGMENTS), IteratorMode::Start) {
            let (key, value) = entry?;
            let id = key.as_ref().try_into().map(u64::from_be_bytes);
            let id = id.map_err(|_| IndexError::Record { family: SEGMENTS, version: None })?;
            all.push((id, decode(SEGMENTS, &value)?));
        }
        Ok(all)
    }

    /// The first batches by timeout, those with `timeout <= until` only, at most `limit`.
    pub fn expiring(&self, until: u64, limit: usize) -> Result<Vec<(u64, DataHash)>, IndexError> {
        self.by_time(EXPIRY, limit, |time| time <= until)
    }

    /// The batches that are here whole by the time they were stored, those stored before `before` only, at most
    /// `limit`.
    pub fn oldest_whole(&self, before: u64, limit: usize) -> Result<Vec<(u64, DataHash)>, IndexError> {
        self.by_time(HOT, limit, |time| time < before)
    }

    fn by_time(
        &self,
        family: &'static str,
        limit: usize,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<Vec<(u64, DataHash)>, IndexError> {
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(family), IteratorMode::Start).take(limit) {
            let (time, hash) = split_time_key(family, &entry?.0)?;
            if !wanted(time) {
                break;
            }
            found.push((time, hash));
        }
        Ok(found)
    }

    /// A value of the node's state.
    pub fn state<T: Decode<()>>(&self, key: &[u8]) -> Result<Option<T>, IndexError> {
        let found = self.db.get_pinned_cf(self.family(STATE), key)?;
        found.map(|bytes| decode(STATE, &bytes)).transpose()
    }

    /// Starts a group of changes that are applied together.
    pub fn change(&self) -> Change<'_> {
        Change::new(self)
    }

    /// Writes the index as it is at this moment into a folder that does not exist yet. On the same file system, tables are
    /// linked and cost no room.
    pub fn checkpoint(&self, path: &Path) -> Result<(), IndexError> {
        Ok(Checkpoint::new(&self.db)?.create_checkpoint(path)?)
    }

    /// Makes everything applied so far survive a power cut.
    pub fn sync(&self) -> Result<(), IndexError> {
        Ok(self.db.flush_wal(true)?)
    }

    /// Makes a long log of changes into tables, which hold each entry once, and rids short queues of what was deleted.
    pub fn shorten_log(&self) -> Result<(), IndexError> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        if bytes < LONG_LOG {
            return Ok(());
        }
        let families: Vec<_> = all_families().map(|name| self.family(name)).collect();
        self.db.flush_cfs_opt(&families, &FlushOptions::default())?;
        let mut compaction = CompactOptions::default();
        compaction.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for name in QUEUES {
            let bytes = self.db.property_int_value_cf(self.family(name), "rocksdb.total-sst-files-size")?;
            // Large ones are compacted as they grow.
            if bytes.is_some_and(|bytes| bytes <= SHORT_QUEUE) {
                self.db.compact_range_cf_opt(self.family(name), None::<&[u8]>, None::<&[u8]>, &compaction);
            }
        }
        Ok(())
    }

    /// Publishes what RocksDB tells of itself.
    pub fn measure(&self) {
        let number = |name, property| {
            self.db.property_int_value_cf(self.family(name), property).ok().flatten().unwrap_or(0) as f64
        };
        for family in all_families() {
            for (metric, property) in [
                (names::ROCKSDB_FILES, "rocksdb.total-sst-files-size"),
                (names::ROCKSDB_MEMTABLES, "rocksdb.cur-size-all-mem-tables"),
                (names::ROCKSDB_BEHIND, "rocksdb.estimate-pending-compaction-bytes"),
            ] {
                metrics::gauge!(metric, "family" => family).set(number(family, property));
            }
        }
        metrics::gauge!(names::ROCKSDB_STOPPED).set(number(BATCHES, "rocksdb.is-write-stopped"));
        let running = number(BATCHES, "rocksdb.num-running-flushes")
            + number(BATCHES, "rocksdb.num-running-compactions");
        metrics::gauge!(names::ROCKSDB_RUNNING).set(running);
    }

    /// Estimated number of batches.
    pub fn estimated_batches(&self) -> u64 {
        let count = self.db.property_int_value_cf(self.family(BATCHES), "rocksdb.estimate-num-keys");
        count.ok().flatten().unwrap_or(0)
    }
}
