//! The durable queue: every batch that was taken, until it is final, and how far it is.
//!
//! ```text
//! key                 value (a version byte, then bincode; payloads as they are)
//! 'm'                 Meta
//! 'e' u64 id          Record
//! 'p' u64 id          the batch itself, until it is final
//! 'd' digest (32)     u64 id: a request that is sent again is not another batch
//! ```
//!
//! # Guarantees
//! - A call that returned is on disk: the log is synced before.
//! - One process at a time has the queue.
//! - Memory: the records of batches that are not final, without their payloads; both bounded by [`Bounds`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_common::store_auth::RequestDigest;
use parking_lot::Mutex;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use thiserror::Error;
use tokio::sync::broadcast;

use super::entry::{Entry, Stage};
use super::request::{PostRequest, RequestError};

const VERSION: u8 = 1;
const META: &[u8] = b"m";
/// Changes that a slow subscriber may be behind.
const CHANGES: usize = 1024;

/// Which chain and account a queue is for: its batches make sense nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// EIP-155 id.
    pub chain_id: u64,
    /// The contract.
    pub inbox: [u8; 20],
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Meta {
    place: Place,
    next_id: u64,
    /// The first one that is not final.
    first_active: u64,
    /// So many batches the contract has for good.
    least_batches: u64,
    /// Counts of the last batch that was taken: `(after_delayed, new_count)`.
    last: Option<(u64, u64)>,
}

/// A batch of the queue with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// How far it is.
    pub entry: Entry,
    /// As asked for: until when the committee is to keep it, unix seconds.
    pub timeout: u64,
    /// As asked for.
    pub after_delayed: u64,
    /// As asked for.
    pub prev_count: u64,
    /// As asked for.
    pub new_count: u64,
    /// Of the batch.
    pub data_hash: [u8; 32],
    /// Bytes of the batch.
    pub length: u64,
    /// When it was taken, unix seconds.
    pub received: u64,
    /// The newest certificate, as it is posted.
    pub certificate: Option<Vec<u8>>,
    /// Since when the committee has failed to certify it, unix seconds.
    pub failing_since: Option<u64>,
    /// The batch itself is posted instead of a certificate.
    pub as_data: bool,
    /// What is in its way, in words; none while all goes well.
    pub problem: Option<String>,
}

/// Bounds of the batches that are not final.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many.
    pub batches: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Why the queue cannot be used.
#[derive(Debug, Error)]
pub enum QueueError {
    /// Another process has it.
    #[error("another process has the queue of batches in {}: two posters with one queue would post everything twice", path.display())]
    Locked {
        /// Its folder.
        path: PathBuf,
    },
    /// The database.
    #[error("the queue of batches in {}: {reason}", path.display())]
    Database {
        /// Its folder.
        path: PathBuf,
        /// Its report.
        reason: String,
    },
    /// A record does not parse.
    #[error("the queue of batches in {} is damaged at key {key}", path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// In hex.
        key: String,
    },
    /// It is for another chain.
    #[error(
        "the queue of batches in {} is for contract 0x{} on chain {}; give each contract a folder of its own",
        path.display(), const_hex::encode(place.inbox), place.chain_id
    )]
    OtherPlace {
        /// Its folder.
        path: PathBuf,
        /// What it is for.
        place: Place,
    },
    /// A request that is not taken.
    #[error(transparent)]
    Request(#[from] RequestError),
}

struct State {
    meta: Meta,
    active: BTreeMap<u64, Record>,
    bytes: u64,
}

struct Inner {
    db: DB,
    path: PathBuf,
    state: Mutex<State>,
    changes: broadcast::Sender<Record>,
}

/// The queue. Cheap to clone. Calls write to disk and wait for it: not for the threads that serve requests.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

fn key(kind: u8, id: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

fn digest_key(digest: &[u8; 32]) -> [u8; 33] {
    let mut key = [b'd'; 33];
    key[1..].copy_from_slice(digest);
    key
}

fn encode(value: &impl Encode) -> Vec<u8> {
    let mut out = vec![VERSION];
    bincode::encode_into_std_write(value, &mut out, bincode::config::standard())
        .expect("writing to memory does not fail");
    out
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    let (value, read) = bincode::decode_from_slice(rest, bincode::config::standard()).ok()?;
    (*version == VERSION && read == rest.len()).then_some(value)
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

impl Queue {
    /// Opens the queue in a folder, making it when there is none.
    pub fn open(path: &Path, place: &Place) -> Result<Self, QueueError> {
        let failed = |error: rocksdb::Error| {
            let reason = error.to_string();
            let path = path.to_owned();
            match reason.contains("lock") && reason.contains("LOCK") {
                true => QueueError::Locked { path },
                false => QueueError::Database { path, reason },
            }
        };
        std::fs::create_dir_all(path)
            .map_err(|error| QueueError::Database { path: path.to_owned(), reason: error.to_string() })?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_max_open_files(64);
        options.set_paranoid_checks(true);
        let db = DB::open(&options, path).map_err(failed)?;
        let damaged = |key: &[u8]| QueueError::Damaged { path: path.to_owned(), key: const_hex::encode(key) };
        let meta = match db.get(META).map_err(failed)? {
            Some(bytes) => decode::<Meta>(&bytes).ok_or_else(|| damaged(META))?,
            None => Meta { place: place.clone(), next_id: 0, first_active: 0, least_batches: 0, last: None },
        };
        if meta.place != *place {
            return Err(QueueError::OtherPlace { path: path.to_owned(), place: meta.place });
        }
        let mut active = BTreeMap::new();
        for id in meta.first_active..meta.next_id {
            let key = key(b'e', id);
            let bytes = db.get(key).map_err(failed)?.ok_or_else(|| damaged(&key))?;
            let record: Record = decode(&bytes).ok_or_else(|| damaged(&key))?;
            if !record.is_final() {
                active.insert(id, record);
            }
        }
        let bytes = active.values().map(|record| record.length).sum();
        let state = Mutex::new(State { meta, active, bytes });
        let (changes, _) = broadcast::channel(CHANGES);
        Ok(Self(Arc::new(Inner { db, path: path.to_owned(), state, changes })))
    }

    /// Takes a batch; one that was taken before is only found again (`false`).
    pub fn push(
        &self,
        request: &PostRequest,
        digest: &RequestDigest,
        data_hash: &DataHash,
        now: u64,
        bounds: Bounds,
    ) -> Result<(Record, bool), QueueError> {
        if let Some(known) = self.by_digest(digest.as_bytes())? {
            return Ok((known, false));
        }
        let mut state = self.0.state.lock();
        // Somebody may have been faster.
        if let Some(known) = self.known(&state, digest.as_bytes())? {
            return Ok((known, false));
        }
        follows(request, state.meta.last)?;
        let (batches, bytes) = (state.active.len(), state.bytes);
        let length = request.message.len() as u64;
        let limit = match () {
            () if batches >= bounds.batches => Some(format!("{} batches", bounds.batches)),
            () if bytes + length > bounds.bytes => Some(format!("{} bytes", bounds.bytes)),
            () => None,
        };
        if let Some(limit) = limit {
            return Err(RequestError::Full { batches, bytes, limit }.into());
        }
        let id = state.meta.next_id;
        let record = Record {
            entry: Entry::new(id),
            timeout: request.timeout,
            after_delayed: request.after_delayed,
            prev_count: request.prev_count,
            new_count: request.new_count,
            data_hash: *data_hash.as_bytes(),
            length,
            received: now,
            certificate: None,
            failing_since: None,
            as_data: false,
            problem: None,
        };
        let meta = Meta {
            next_id: id + 1,
            last: Some((request.after_delayed, request.new_count)),
            ..state.meta.clone()
        };
        let mut batch = WriteBatch::default();
        batch.put(key(b'e', id), encode(&record));
        batch.put(key(b'p', id), &request.message);
        batch.put(digest_key(digest.as_bytes()), id.to_be_bytes());
        batch.put(META, encode(&meta));
        self.write(batch)?;
        state.meta = meta;
        state.bytes += length;
        state.active.insert(id, record.clone());
        drop(state);
        let _ = self.0.changes.send(record.clone());
        Ok((record, true))
    }

    /// Changes a batch that is not final, writes it down, and gives it back; `None` when there is no such batch.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Record)) -> Result<Option<Record>, QueueError> {
        let mut state = self.0.state.lock();
        let Some(old) = state.active.get(&id) else { return Ok(None) };
        let mut record = old.clone();
        change(&mut record);
        if record == *old {
            return Ok(Some(record));
        }
        let mut batch = WriteBatch::default();
        batch.put(key(b'e', id), encode(&record));
        let mut meta = state.meta.clone();
        if let Stage::Final { sequence, .. } = record.entry.stage {
            batch.delete(key(b'p', id));
            meta.least_batches = meta.least_batches.max(sequence + 1);
            let next = state.active.keys().find(|other| **other != id);
            meta.first_active = next.copied().unwrap_or(meta.next_id);
            batch.put(META, encode(&meta));
        }
        self.write(batch)?;
        state.meta = meta;
        if record.is_final() {
            state.active.remove(&id);
            state.bytes -= record.length;
        } else {
            state.active.insert(id, record.clone());
        }
        drop(state);
        let _ = self.0.changes.send(record.clone());
        Ok(Some(record))
    }

    /// Batches that are not final, in their order.
    pub fn active(&self) -> Vec<Record> {
        self.0.state.lock().active.values().cloned().collect()
    }

    /// How many are not final, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let state = self.0.state.lock();
        (state.active.len(), state.bytes)
    }

    /// `(afterDelayedMessagesRead, newMessageCount)` of the batch that was taken last.
    pub fn last_counts(&self) -> Option<(u64, u64)> {
        self.0.state.lock().meta.last
    }

    /// So many batches the contract has for good, as far as this queue knows.
    pub fn least_batches(&self) -> u64 {
        self.0.state.lock().meta.least_batches
    }

    /// A batch, final or not.
    pub fn record(&self, id: u64) -> Result<Option<Record>, QueueError> {
        let state = self.0.state.lock();
        self.find(&state, id)
    }

    /// The batch that a request was taken as.
    pub fn by_digest(&self, digest: &[u8; 32]) -> Result<Option<Record>, QueueError> {
        let state = self.0.state.lock();
        self.known(&state, digest)
    }

    /// The batch itself, as long as it is not final.
    pub fn payload(&self, id: u64) -> Result<Option<Bytes>, QueueError> {
        Ok(self.get(&key(b'p', id))?.map(Bytes::from))
    }

    /// What changes from now on, each batch as it is then. Who is too slow misses some.
    pub fn changes(&self) -> broadcast::Receiver<Record> {
        self.0.changes.subscribe()
    }

    fn known(&self, state: &State, digest: &[u8; 32]) -> Result<Option<Record>, QueueError> {
        let key = digest_key(digest);
        let Some(id) = self.get(&key)? else { return Ok(None) };
        let id = <[u8; 8]>::try_from(id.as_slice()).map_err(|_| self.damaged(&key))?;
        self.find(state, u64::from_be_bytes(id))
    }

    fn find(&self, state: &State, id: u64) -> Result<Option<Record>, QueueError> {
        if let Some(record) = state.active.get(&id) {
            return Ok(Some(record.clone()));
        }
        let key = key(b'e', id);
        let Some(bytes) = self.get(&key)? else { return Ok(None) };
        decode(&bytes).map(Some).ok_or_else(|| self.damaged(&key))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
        self.0.db.get(key).map_err(|error| self.failed(&error))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), QueueError> {
        self.0.db.write_opt(batch, &synced()).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rocksdb::Error) -> QueueError {
        QueueError::Database { path: self.0.path.clone(), reason: error.to_string() }
    }

    fn damaged(&self, key: &[u8]) -> QueueError {
        QueueError::Damaged { path: self.0.path.clone(), key: const_hex::encode(key) }
    }
}

impl Record {
    /// Is it on the chain for good?
    pub fn is_final(&self) -> bool {
        matches!(self.entry.stage, Stage::Final { .. })
    }
}

/// Whether a batch continues the one before it.
fn follows(request: &PostRequest, last: Option<(u64, u64)>) -> Result<(), RequestError> {
    let Some((delayed, count)) = last else { return Ok(()) };
    if request.prev_count > 0 && count > 0 && request.prev_count != count {
        return Err(RequestError::Gap { got: request.prev_count, expected: count });
    }
    if request.after_delayed < delayed {
        return Err(RequestError::Delayed { got: request.after_delayed, expected: delayed });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
