//! What RocksDB keeps: where each batch is and until when, in which order batches expire, and the node's own state.
//!
//! ```text
//! column family  key                            value (a version byte, then bincode)
//! batches        data hash (32)                 BatchRecord
//! expiry         u64 timeout || data hash       empty
//! segments       u64 segment id                 SegmentRecord
//! shards         (empty until the committee codes its cold batches)
//! state          text                           see the constants of `state`
//! ```
//!
//! Payloads are not in RocksDB: they would be written twice (log and table) and again by compactions. They are in
//! [`segment`](super::segment) files, which are also the write-ahead log of this index: an index entry that a power
//! cut took is found again by a scan from the last known end of the log.

use std::path::Path;

use bincode::{Decode, Encode};
use das_common::data_hash::DataHash;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, Direction, IteratorMode, Options,
    WriteBatch, WriteOptions,
};
use thiserror::Error;

use super::segment::Place;

const BATCHES: &str = "batches";
const EXPIRY: &str = "expiry";
const SEGMENTS: &str = "segments";
const SHARDS: &str = "shards";
const STATE: &str = "state";
const FAMILIES: [&str; 5] = [BATCHES, EXPIRY, SEGMENTS, SHARDS, STATE];

const RECORD_VERSION: u8 = 1;
/// The memory that unflushed index entries may take, all column families together.
const WRITE_BUFFERS: usize = 16 << 20;
const BLOCK_CACHE: usize = 8 << 20;
const LOG_LIMIT: u64 = 64 << 20;
/// A longer record than this is not one of ours.
const RECORD_LIMIT: usize = 1 << 16;

/// Keys of the column family `state`.
pub mod state {
    /// The storage id (16 bytes).
    pub const STORAGE_ID: &[u8] = b"storage-id";
    /// Up to where the segments are in the index.
    pub const LOG_END: &[u8] = b"log-end";
    /// What is remembered of the clock.
    pub const CLOCK: &[u8] = b"clock";
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
}

impl IndexError {
    /// Whether a newer release wrote the record, as far as its first byte tells.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Record { version: Some(version), .. } if *version > RECORD_VERSION)
    }
}

/// What is known of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BatchRecord {
    /// Segment id.
    pub segment: u64,
    /// Offset of the record in the segment.
    pub offset: u64,
    /// Bytes of payload.
    pub length: u64,
    /// The latest time promised to anyone (unix seconds).
    pub timeout: u64,
    /// When it was first stored (unix seconds).
    pub stored_at: u64,
    /// The key that the payload is encrypted with; 0 is plain.
    pub key_id: u32,
    /// Segment and offset of the record that gave the latest timeout, if it came after the payload's.
    pub extension: Option<(u64, u64)>,
}

impl BatchRecord {
    /// Where the payload is.
    pub fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.offset, length: self.length }
    }

    /// Everything in the log that this entry needs, should it have to be found again.
    pub fn records(&self) -> impl Iterator<Item = Place> + use<> {
        let extension = self.extension.map(|(segment, offset)| Place { segment, offset, length: 0 });
        std::iter::once(self.place()).chain(extension)
    }
}

/// How full a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct SegmentRecord {
    /// Records that an entry of the index needs.
    pub live_records: u64,
    /// Their bytes on disk.
    pub live_bytes: u64,
}

/// A position in the log of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogEnd {
    /// Segment id.
    pub segment: u64,
    /// Offset of the first byte behind the last record.
    pub offset: u64,
}

pub(super) fn encode(record: &impl Encode) -> Vec<u8> {
    let mut out = vec![RECORD_VERSION];
    bincode::encode_into_std_write(record, &mut out, bincode::config::standard()).expect("writing to memory");
    out
}

pub(super) fn decode<T: Decode<()>>(family: &'static str, bytes: &[u8]) -> Result<T, IndexError> {
    let damaged = || IndexError::Record { family, version: bytes.first().copied() };
    let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
    if *version != RECORD_VERSION {
        return Err(damaged());
    }
    let config = bincode::config::standard().with_limit::<RECORD_LIMIT>();
    match bincode::decode_from_slice(rest, config) {
        Ok((record, used)) if used == rest.len() => Ok(record),
        _ => Err(damaged()),
    }
}

fn expiry_key(timeout: u64, hash: &DataHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&timeout.to_be_bytes());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

/// The index database.
#[derive(Debug)]
pub struct Index {
    db: DB,
    /// So many of the next changes fail.
    #[cfg(test)]
    pub(crate) failures: std::sync::atomic::AtomicU32,
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
        options.set_max_log_file_size(4 << 20);
        options.set_max_open_files(256);
        options.set_max_background_jobs(2);
        options.set_paranoid_checks(true);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = FAMILIES.map(|name| {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_block_cache(&cache);
            if name == BATCHES {
                blocks.set_bloom_filter(10.0, false);
            }
            let mut options = Options::default();
            options.set_block_based_table_factory(&blocks);
            ColumnFamilyDescriptor::new(name, options)
        });
        Ok(Self {
            db: DB::open_cf_descriptors(&options, path, families)?,
            #[cfg(test)]
            failures: Default::default(),
        })
    }

    #[cfg(test)]
    fn fail_if_told(&self) -> Result<(), IndexError> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(IndexError::Record { family: "made to fail", version: None }),
            Err(_) => Ok(()),
        }
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    /// What is known of a batch.
    pub fn batch(&self, hash: &DataHash) -> Result<Option<BatchRecord>, IndexError> {
        let found = self.db.get_pinned_cf(self.family(BATCHES), hash.as_bytes())?;
        found.map(|bytes| decode(BATCHES, &bytes)).transpose()
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
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(EXPIRY), IteratorMode::From(&[], Direction::Forward)) {
            let (key, _) = entry?;
            let damaged = || IndexError::Record { family: EXPIRY, version: None };
            let (time, hash) = key.split_first_chunk::<8>().ok_or_else(damaged)?;
            let time = u64::from_be_bytes(*time);
            if time > until || found.len() == limit {
                break;
            }
            found.push((time, DataHash::from_bytes(hash.try_into().map_err(|_| damaged())?)));
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
        Change { index: self, batch: WriteBatch::default() }
    }

    /// Makes everything applied so far survive a power cut.
    pub fn sync(&self) -> Result<(), IndexError> {
        Ok(self.db.flush_wal(true)?)
    }

    /// Estimated number of batches.
    pub fn estimated_batches(&self) -> u64 {
        let count = self.db.property_int_value_cf(self.family(BATCHES), "rocksdb.estimate-num-keys");
        count.ok().flatten().unwrap_or(0)
    }
}

/// Changes that are applied together or not at all.
#[must_use = "changes do nothing until they are applied"]
pub struct Change<'a> {
    index: &'a Index,
    batch: WriteBatch,
}

impl Change<'_> {
    /// Sets what is known of a batch, `before` being what was.
    pub fn set_batch(&mut self, hash: &DataHash, record: &BatchRecord, before: Option<&BatchRecord>) {
        let expiry = self.index.family(EXPIRY);
        if let Some(before) = before
            && before.timeout != record.timeout
        {
            self.batch.delete_cf(expiry, expiry_key(before.timeout, hash));
        }
        self.batch.put_cf(self.index.family(BATCHES), hash.as_bytes(), encode(record));
        self.batch.put_cf(expiry, expiry_key(record.timeout, hash), []);
    }

    /// Forgets a batch.
    pub fn delete_batch(&mut self, hash: &DataHash, record: &BatchRecord) {
        self.batch.delete_cf(self.index.family(BATCHES), hash.as_bytes());
        self.delete_expiry(record.timeout, hash);
    }

    /// Forgets an entry of the expiry order that belongs to no batch any more.
    pub fn delete_expiry(&mut self, timeout: u64, hash: &DataHash) {
        self.batch.delete_cf(self.index.family(EXPIRY), expiry_key(timeout, hash));
    }

    /// Sets how full a segment is; `None` forgets it.
    pub fn set_segment(&mut self, id: u64, record: Option<&SegmentRecord>) {
        let family = self.index.family(SEGMENTS);
        match record {
            Some(record) => self.batch.put_cf(family, id.to_be_bytes(), encode(record)),
            None => self.batch.delete_cf(family, id.to_be_bytes()),
        }
    }

    /// Sets a value of the node's state.
    pub fn set_state(&mut self, key: &[u8], value: &impl Encode) {
        self.batch.put_cf(self.index.family(STATE), key, encode(value));
    }

    /// Applies the changes, surviving a crash of the process; with `synced` also a power cut.
    pub fn apply(self, synced: bool) -> Result<(), IndexError> {
        #[cfg(test)]
        self.index.fail_if_told()?;
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        Ok(self.index.db.write_opt(self.batch, &options)?)
    }
}
