//! The posted batches that are remembered, in a RocksDB database with a folder of its own.
//!
//! # Guarantees
//! - What a step of the follower changes is written at once with the follower's position: after any end of the
//!   process the database is that of the position, and the follower goes on from there. (Writes are not synced: after a
//!   power cut it may be that of an earlier position.)
//! - In an era the numbers of batches rise with their blocks, and no batch is of a block that was rolled back.
//! - Nothing is counted by reading: counts are records too, and an answer reads what it returns.
//!
//! ```text
//! column family  key                                     value (a version byte, then bincode)
//! eras           u32 era                                 EraRecord
//! batches        u32 era || u64 number                   BatchRecord
//! hashes         data hash || u32 era || u64 number      empty: the batch's certificate has that data hash
//! transactions   transaction || u32 era || u64 number    empty: the transaction posted the batch
//! times          u32 era || u64 time                     u64 number: the first batch of that time or a later one
//! queue          u32 era || u64 retry at || u64 number   empty: the batch's payload waits; only of the era in force
//! state          following                               FollowingRecord
//! state          position                                the follower's
//! ```
//!
//! The blocks of a chain may have the times of earlier ones, or earlier times. So `times` has only the batches that are
//! later than all before them: the first batch that is not older than a time is always one of these.

mod change;
mod record;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256};
use das_chain::follow::{Position, Step};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIterator, Direction,
    IteratorMode, Options,
};
use thiserror::Error;
use tokio::sync::Notify;

use crate::names;
use crate::types::{Away, Batches, Era, IndexError, Payload, PostedBatch, Progress};
use change::Change;
use record::{
    BatchRecord, EraRecord, FollowingRecord, decode, encode, era_key, hash_key, queue_key, split_era_key,
    split_queue_key,
};

const ERAS: &str = "eras";
const BATCHES: &str = "batches";
const HASHES: &str = "hashes";
const TRANSACTIONS: &str = "transactions";
const TIMES: &str = "times";
const QUEUE: &str = "queue";
const STATE: &str = "state";
const FAMILIES: [&str; 7] = [ERAS, BATCHES, HASHES, TRANSACTIONS, TIMES, QUEUE, STATE];

const FOLLOWING: &[u8] = b"following";
const POSITION: &[u8] = b"position";

/// Memory for changes that are not in tables yet, all column families together.
const WRITE_BUFFERS: usize = 16 << 20;
const BLOCK_CACHE: usize = 8 << 20;
/// The changes since tables were written are at most so many bytes: what a start has to read.
const LOG_LIMIT: u64 = 64 << 20;
const ARENA_BLOCK: usize = 64 << 10;
/// The queue is compacted where half of so many entries are deletions: its beginning is what is read.
const QUEUE_WINDOW: usize = 1024;

/// Which contract is followed, and from where: a change of any of it begins a new era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// The contract.
    pub inbox: Address,
    /// The first block that is read. 0 is always right, and slow where endpoints give logs in small ranges: the contract
    /// does not say in which block its first batch is.
    pub start: u64,
}

/// Why the database cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the index of batches in {folder} is in use by another process")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// The folder.
    #[error("the folder {folder} for the index of batches cannot be made: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// The system's report.
        source: std::io::Error,
    },
    /// RocksDB's report.
    #[error("the index of batches in {folder} cannot be opened: {source}")]
    Database {
        /// The folder.
        folder: String,
        /// RocksDB's report.
        source: rocksdb::Error,
    },
    /// Its records.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Coded for OpenError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Locked { .. } => fault::DB_LOCKED,
            Self::Folder { .. } => fault::DB_DIRECTORY,
            Self::Database { source, .. } if source.kind() == rocksdb::ErrorKind::Corruption => {
                fault::DB_CORRUPT
            }
            Self::Database { .. } => fault::DB_IO,
            Self::Index(error) => fault_of(error),
        }
    }
}

/// The registered fault of an error of the index.
pub fn fault_of(error: &IndexError) -> &'static Fault {
    match error {
        IndexError::Database(_) => fault::DB_IO,
        IndexError::Damaged { .. } => fault::DB_RECORD,
    }
}

/// What a step changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Batches added.
    pub added: u64,
    /// Batches that are gone with their blocks.
    pub removed: u64,
    /// A new era began with it.
    pub is_new_era: bool,
    /// The first batch added that does not continue the one before it: its number is not the next, or its accumulator
    /// is another than that one left.
    pub broken_at: Option<u64>,
}

/// What only changes with the database.
#[derive(Debug, Default)]
struct Writer {
    following: FollowingRecord,
    /// That a batch does not continue the one before was said of this era.
    told_broken: bool,
}

/// The index of batches.
#[derive(Debug)]
pub struct Index {
    db: DB,
    folder: String,
    followed: Followed,
    /// Held while something is written.
    writer: Mutex<Writer>,
    progress: Mutex<Progress>,
    away: Mutex<Option<Away>>,
    more_waiting: Notify,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn failed(error: rocksdb::Error) -> IndexError {
    IndexError::Database(error.into_string())
}

/// Whether RocksDB could not open for somebody's lock. It has no kind of its own for that.
fn is_lock_held(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    error.kind() == rocksdb::ErrorKind::IOError
        && (text.contains("While lock file") || text.contains("lock hold by current process"))
}

fn open_database(path: &Path) -> Result<DB, rocksdb::Error> {
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
    let cache = Cache::new_lru_cache(BLOCK_CACHE);
    let families = FAMILIES.map(|name| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_arena_block_size(ARENA_BLOCK);
        if name == QUEUE {
            options.add_compact_on_deletion_collector_factory(QUEUE_WINDOW, QUEUE_WINDOW / 2, 0.5);
        }
        ColumnFamilyDescriptor::new(name, options)
    });
    DB::open_cf_descriptors(&options, path, families)
}

impl Index {
    /// Opens the database in its folder, or makes a new one. What was followed before, if it was something else, is a
    /// past era from now on.
    pub fn open(path: &Path, followed: Followed) -> Result<Self, OpenError> {
        let folder = path.display().to_string();
        std::fs::create_dir_all(path)
            .map_err(|source| OpenError::Folder { folder: folder.clone(), source })?;
        let db = open_database(path).map_err(|source| match is_lock_held(&source) {
            true => OpenError::Locked { folder: folder.clone() },
            false => OpenError::Database { folder: folder.clone(), source },
        })?;
        let (writer, progress, more_waiting) = Default::default();
        let index = Self { db, folder, followed, writer, progress, away: Mutex::default(), more_waiting };
        let following = index.record::<FollowingRecord>(STATE, FOLLOWING)?.unwrap_or_default();
        let mut writer = index.writer.lock();
        writer.following = following;
        if let Some(era) = following.era
            && !index.is_followed(&index.era_record(era)?)
        {
            tracing::info!(era, ?followed, "another contract, chain or first block: a new era begins");
            let mut change = Change::new(&index, following);
            change.end_era()?;
            writer.following = change.write()?;
        }
        index.publish(&writer.following, index.position()?.as_ref());
        drop(writer);
        Ok(index)
    }

    fn is_followed(&self, era: &EraRecord) -> bool {
        let Followed { chain_id, inbox, start } = self.followed;
        (era.chain_id, Address::from(era.inbox), era.start) == (chain_id, inbox, start)
    }

    /// What is followed.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Where the follower goes on; none: it begins.
    pub fn position(&self) -> Result<Option<Position>, IndexError> {
        let bytes = self.db.get_cf(self.family(STATE), POSITION).map_err(failed)?;
        let parsed = bytes.map(|bytes| Position::from_bytes(&bytes));
        parsed.transpose().map_err(|_| self.damaged(POSITION))
    }

    /// Writes down what a step of the follower means, `batches` being those of its logs in their order.
    pub fn apply(&self, step: &Step, batches: &[PostedBatch]) -> Result<Applied, IndexError> {
        let mut writer = self.writer.lock();
        let mut change = Change::new(self, writer.following);
        let mut position = None;
        match step {
            Step::AtHead { head } => {
                self.note_head(head.number);
                return Ok(Applied::default());
            }
            Step::Advanced { position: reached, .. } => {
                change.enter_era(reached)?;
                change.add(batches)?;
                change.set_position(reached);
                position = Some(reached);
            }
            Step::RolledBack { to, position: reached, .. } => {
                change.roll_back(to.map(|to| to.number))?;
                change.set_position(reached);
                position = Some(reached);
            }
            Step::Reset { .. } => change.end_era()?,
        }
        let applied = change.applied;
        writer.following = change.write()?;
        self.publish(&writer.following, position);
        if applied.is_new_era {
            writer.told_broken = false;
        }
        if let Some(number) = applied.broken_at
            && !std::mem::replace(&mut writer.told_broken, true)
        {
            tracing::warn!(
                batch = number,
                "the batch does not continue the one before it: its number or its accumulator is another"
            );
        }
        drop(writer);
        if applied.added > 0 {
            self.more_waiting.notify_one();
        }
        Ok(applied)
    }

    /// Takes note of the chain's newest block.
    pub fn note_head(&self, number: u64) {
        self.progress.lock().head = Some(number);
    }

    /// Takes note that the chain cannot be read, and why; or that it can again.
    pub fn note_away(&self, why: Option<String>) {
        let mut away = self.away.lock();
        *away = why.map(|why| Away { since: away.as_ref().map_or_else(now, |away| away.since), why });
    }

    /// Sets what became of a payload. Nothing happens (false) when the batch is not there any more, or is of another
    /// block.
    pub fn set_payload(
        &self,
        era: u32,
        number: u64,
        block_hash: B256,
        payload: &Payload,
    ) -> Result<bool, IndexError> {
        let mut writer = self.writer.lock();
        let Some(record) = self.batch_record(era, number)? else { return Ok(false) };
        if record.block_hash != block_hash.0 {
            return Ok(false);
        }
        let mut change = Change::new(self, writer.following);
        change.set_payload(era, number, record, payload);
        writer.following = change.write()?;
        self.publish_counts(&writer.following);
        Ok(true)
    }

    /// The batches of the era in force whose payload is to be fetched now (unix seconds): those whose time came first,
    /// of one time those with the lowest numbers.
    pub fn due(&self, now: u64, limit: usize) -> Result<Vec<PostedBatch>, IndexError> {
        let mut due = Vec::new();
        let Some(era) = self.progress.lock().era else { return Ok(due) };
        let mode = IteratorMode::From(&era.to_be_bytes(), Direction::Forward);
        for entry in self.db.iterator_cf(self.family(QUEUE), mode) {
            let (key, _) = entry.map_err(failed)?;
            let (of, retry_at, number) = split_queue_key(&key).ok_or_else(|| self.damaged(&key))?;
            if of != era || retry_at > now || due.len() == limit {
                break;
            }
            // It may have gone since the iteration began.
            due.extend(self.batch(era, number)?);
        }
        Ok(due)
    }

    /// Waits for batches that were added since it was waited for last. For one who waits.
    pub async fn more_waiting(&self) {
        self.more_waiting.notified().await;
    }

    fn publish(&self, following: &FollowingRecord, position: Option<&Position>) {
        {
            let mut progress = self.progress.lock();
            progress.era = following.era;
            progress.at = position.and_then(Position::tip);
        }
        self.publish_counts(following);
    }

    fn publish_counts(&self, following: &FollowingRecord) {
        let FollowingRecord { batches, waiting, failing, .. } = *following;
        {
            let mut progress = self.progress.lock();
            (progress.batches, progress.waiting, progress.failing) = (batches, waiting, failing);
        }
        metrics::gauge!(names::BATCHES).set(batches as f64);
        metrics::gauge!(names::WAITING).set(waiting as f64);
        metrics::gauge!(names::FAILING).set(failing as f64);
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    fn damaged(&self, key: &[u8]) -> IndexError {
        IndexError::Damaged { key: const_hex::encode(key), folder: self.folder.clone() }
    }

    fn record<T: bincode::Decode<()>>(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, IndexError> {
        let bytes = self.db.get_pinned_cf(self.family(family), key).map_err(failed)?;
        bytes.map(|bytes| decode(&bytes).ok_or_else(|| self.damaged(key))).transpose()
    }

    fn batch_record(&self, era: u32, number: u64) -> Result<Option<BatchRecord>, IndexError> {
        self.record(BATCHES, &era_key(era, number))
    }

    fn era_record(&self, era: u32) -> Result<EraRecord, IndexError> {
        let key = era.to_be_bytes();
        self.record(ERAS, &key)?.ok_or_else(|| self.damaged(&key))
    }

    /// Batches of an era with numbers below one, the highest first.
    fn batches_below(
        &self,
        era: u32,
        number: Option<u64>,
    ) -> impl Iterator<Item = Result<(u64, BatchRecord), IndexError>> + '_ {
        let mut iterator = self.db.raw_iterator_cf(self.family(BATCHES));
        match number.map(|number| number.checked_sub(1)) {
            None => iterator.seek_for_prev(era_key(era, u64::MAX)),
            Some(Some(highest)) => iterator.seek_for_prev(era_key(era, highest)),
            // Nothing is below 0.
            Some(None) => iterator.seek_for_prev([]),
        }
        std::iter::from_fn(move || {
            let entry = match (iterator.key(), iterator.value()) {
                (Some(key), Some(value)) => match (split_era_key(key), decode(value)) {
                    (Some((of, number)), Some(record)) => (of == era).then_some(Ok((number, record)))?,
                    _ => Err(self.damaged(key)),
                },
                _ => return ended(&iterator),
            };
            iterator.prev();
            Some(entry)
        })
    }

    /// The eras and numbers under a hash, the newest first.
    fn under_hash(
        &self,
        family: &'static str,
        hash: &[u8; 32],
        limit: usize,
    ) -> Result<Vec<(u32, u64)>, IndexError> {
        let mut found = Vec::new();
        let mut iterator = self.db.raw_iterator_cf(self.family(family));
        iterator.seek_for_prev(hash_key(hash, u32::MAX, u64::MAX));
        while let Some(place) = iterator.key().and_then(|key| key.strip_prefix(hash)) {
            if found.len() == limit {
                break;
            }
            found.push(split_era_key(place).ok_or_else(|| self.damaged(place))?);
            iterator.prev();
        }
        iterator.status().map_err(failed)?;
        Ok(found)
    }
}

/// Nothing more, or why not.
fn ended<T>(iterator: &DBRawIterator<'_>) -> Option<Result<T, IndexError>> {
    iterator.status().map_err(failed).err().map(Err)
}

impl Batches for Index {
    fn eras(&self) -> Result<Vec<Era>, IndexError> {
        let entries = self.db.iterator_cf(self.family(ERAS), IteratorMode::End);
        let era = |key: &[u8], value: &[u8]| {
            let id = key.try_into().map(u32::from_be_bytes).ok()?;
            Some(decode::<EraRecord>(value)?.into_era(id))
        };
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(failed)?;
                era(&key, &value).ok_or_else(|| self.damaged(&key))
            })
            .collect()
    }

    fn batch(&self, era: u32, number: u64) -> Result<Option<PostedBatch>, IndexError> {
        Ok(self.batch_record(era, number)?.map(|record| record.into_batch(era, number)))
    }

    fn below(&self, era: u32, number: Option<u64>, limit: usize) -> Result<Vec<PostedBatch>, IndexError> {
        let batches = self.batches_below(era, number).take(limit);
        batches.map(|entry| entry.map(|(number, record)| record.into_batch(era, number))).collect()
    }

    fn first_since(&self, era: u32, time: u64) -> Result<Option<u64>, IndexError> {
        let mode = IteratorMode::From(&era_key(era, time), Direction::Forward);
        let Some(entry) = self.db.iterator_cf(self.family(TIMES), mode).next() else { return Ok(None) };
        let (key, number) = entry.map_err(failed)?;
        let (of, _) = split_era_key(&key).ok_or_else(|| self.damaged(&key))?;
        let number = number.as_ref().try_into().map_err(|_| self.damaged(&key))?;
        Ok((of == era).then_some(u64::from_be_bytes(number)))
    }

    fn with_data_hash(&self, hash: &DataHash, limit: usize) -> Result<Vec<(u32, u64)>, IndexError> {
        self.under_hash(HASHES, hash.as_bytes(), limit)
    }

    fn of_transaction(&self, hash: &B256, limit: usize) -> Result<Vec<(u32, u64)>, IndexError> {
        self.under_hash(TRANSACTIONS, &hash.0, limit)
    }

    fn away(&self) -> Option<Away> {
        self.away.lock().clone()
    }

    fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }
}

#[cfg(test)]
mod tests;
