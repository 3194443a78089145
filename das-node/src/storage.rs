//! The batch store: what a member has on disk.
//!
//! Guarantees, whatever else happens to the process or the machine:
//! - When [`BatchStore::put`] returns `Ok`, the batch and its timeout survive a power cut.
//! - When [`BatchStore::put_shards`] returns `Ok`, the shards do too. A whole copy is dropped only when a shard is there:
//!   at every instant, after any crash, the batch is here whole or as a shard.
//! - What [`BatchStore::get`] returns was hashed on its way from the disk and has the name that was asked for.
//! - Where there is an archive, every batch that is written is noted for upload in the same change of the index, and a
//!   payload that was dropped in its favour is still known ([`Lookup::Archived`]).
//! - A batch is gone only after [`BatchStore::expire`] was called with a time beyond the latest timeout ever given
//!   for it.
//!
//! Each batch is written once: to the end of a [`segment`] file, synced together with the stores that came at the
//! same time. RocksDB holds the [`index`]. Shards are written many at a time, as one record ([`segment::pack`]). Space
//! comes back by punching holes, and by removing segments in which nothing is left; nothing is ever rewritten, unless the key that
//! it is encrypted with changes ([`sealing`]).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use parking_lot::Mutex;
use tokio::sync::oneshot;

mod archived;
pub mod backup;
mod certificates;
mod error;
mod forms;
pub mod index;
mod log;
mod rekey;
mod scrub;
pub mod sealing;
pub mod segment;
mod usage;

pub use certificates::Waiting;
pub use error::StorageError;
pub use forms::{DropOutcome, Held, HeldShard, MAX_BATCHES, NewShard};
pub use rekey::{KeyReport, KeysReport, RekeyStep};
pub use scrub::{Form, ScrubStep};
pub use usage::Usage;

use error::copy_of;
use index::{Index, IndexError, state};
use log::{Command, Commands, Put, Sweeper, Upkeep, Writer};
use sealing::{Keyring, Sealer};
use segment::SegmentHeader;

/// The folders in the data directory.
const SEGMENTS: &str = "segments";
const INDEX: &str = "index";

/// Open segment files kept for reading.
const OPEN_FILES: u64 = 128;

type Files = moka::sync::Cache<u64, Arc<File>>;

/// Where and how a store keeps its files.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The folder; made when it does not exist.
    pub directory: PathBuf,
    /// Room preallocated for one segment, in bytes.
    pub segment_bytes: u64,
    /// Stores are refused when less than this many bytes are free.
    pub reserve_bytes: u64,
    /// The keys that payloads are encrypted with.
    pub keys: Arc<Keyring>,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The batch, checked, or what was made of it.
    Found(T),
    /// Not here.
    Absent,
    /// It is in the index, but the bytes on disk are not those of this hash.
    Damaged,
    /// It is in the archive only.
    Archived {
        /// The name that it is stored under, as for `Sharded`.
        hash: DataHash,
    },
    /// Only shards of it are here.
    Sharded {
        /// The name that it is stored under: of a batch asked for by its flat hash, the tree form of that.
        hash: DataHash,
    },
}

/// What a store did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// New here.
    Written,
    /// It was here already, whole, and is now kept at least as long as asked.
    Present,
    /// It was here but damaged, and is whole again.
    Healed,
    /// Only shards of it were here, and it is whole again.
    MadeWhole,
}

/// The batches on this machine's disk.
#[derive(Debug)]
pub struct BatchStore {
    index: Arc<Index>,
    segments: PathBuf,
    sealer: Sealer,
    files: Files,
    commands: Commands,
    writer: Mutex<Option<JoinHandle<()>>>,
    sweeper: Sweeper,
    /// Held while a backup is made.
    backup: Mutex<()>,
    lacking: Arc<AtomicU64>,
    /// Held while certificates and their digests change.
    certificates: Mutex<()>,
}

impl BatchStore {
    /// Opens the store, or makes a new one, and brings the index up to the end of the log.
    pub fn open(options: &StorageOptions) -> Result<Self, StorageError> {
        backup::check_finished(&options.directory)?;
        let segments = options.directory.join(SEGMENTS);
        let index_path = options.directory.join(INDEX);
        make_directory(&segments)?;
        let index = Index::open(&index_path).map_err(|source| match &source {
            IndexError::Database(error) if is_lock_held(error) => {
                StorageError::Locked { path: options.directory.clone() }
            }
            _ => StorageError::OpenIndex { path: index_path, source },
        })?;
        let index = Arc::new(index);
        let sealer = Sealer { storage: storage_id(&index, &segments)?, keys: Arc::clone(&options.keys) };
        let files = moka::sync::Cache::new(OPEN_FILES);
        let sweeper = Sweeper {
            index: Arc::clone(&index),
            directory: segments.clone(),
            files: files.clone(),
            paused: Arc::default(),
        };
        let writer =
            Writer::recover(Arc::clone(&index), segments.clone(), sealer.clone(), options, &sweeper)?;
        let lacking = Arc::clone(&writer.lacking);
        let (commands, receiver) = std::sync::mpsc::channel();
        let (sweeps, swept) = std::sync::mpsc::channel();
        let failed = |source| StorageError::open("start a thread for", options.directory.clone(), source);
        let sweeping = std::thread::Builder::new().name("store-sweeper".into());
        let swept_by = sweeper.clone();
        let sweeping = sweeping.spawn(move || swept_by.run(&swept)).map_err(failed)?;
        let thread = std::thread::Builder::new().name("store-writer".into());
        let thread = thread.spawn(move || writer.run(&receiver, sweeps, sweeping)).map_err(failed)?;
        let writer = Mutex::new(Some(thread));
        let (certificates, backup) = Default::default();
        let store =
            Self { index, segments, sealer, files, commands, writer, sweeper, backup, lacking, certificates };
        // The log was read first: it may say that nothing needs a key any more.
        store.check_keys()?;
        Ok(store)
    }

    /// Stores a batch whole, until `timeout` (unix seconds) at least. Once this returns, a power cut takes nothing of it.
    pub async fn put(
        self: &Arc<Self>,
        batch: &VerifiedBatch,
        timeout: u64,
        now: u64,
    ) -> Result<PutOutcome, StorageError> {
        let hash = batch.hash();
        let mut heal = None;
        let known = self.index.batch(&hash)?;
        let place = known.as_ref().and_then(index::BatchRecord::place);
        if let (Some(record), Some(place)) = (known, place) {
            let store = Arc::clone(self);
            let wanted = batch.bytes().clone();
            // Trusted only as far as its bytes go: rot must not be signed for.
            let whole = blocking(move || match store.read(&hash, &record) {
                Ok(found) => found.is_some_and(|bytes| bytes == wanted),
                Err(_) => false,
            });
            let whole = whole.await?;
            if !whole {
                heal = Some(place);
            } else if record.timeout >= timeout {
                return Ok(PutOutcome::Present);
            }
        }
        let (payload, key_id) = self.seal(batch).await?;
        let (reply, answer) = oneshot::channel();
        let put = Put { hash, payload, key_id, timeout, now, heal, reply };
        self.ask(Command::Put(put), answer).await?;
        Ok(match (known, place, heal) {
            (None, ..) => PutOutcome::Written,
            (Some(_), None, _) => PutOutcome::MadeWhole,
            (Some(_), Some(_), None) => PutOutcome::Present,
            (Some(_), Some(_), Some(_)) => PutOutcome::Healed,
        })
    }

    /// The payload as it is to be stored. Encrypted off the threads that serve requests, and off the writer's.
    async fn seal(&self, batch: &VerifiedBatch) -> Result<(Bytes, u32), StorageError> {
        let (sealer, hash, payload) = (self.sealer.clone(), batch.hash(), batch.bytes().clone());
        if sealer.keys.active_id() == sealing::PLAIN {
            return Ok((payload, sealing::PLAIN));
        }
        blocking(move || sealer.seal_batch(&hash, &payload)).await
    }

    async fn ask<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.commands.send(command).map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)?
    }

    /// Reads a batch by its name, or by its flat hash.
    pub async fn get(self: &Arc<Self>, hash: DataHash) -> Result<Lookup<VerifiedBatch>, StorageError> {
        self.get_as(hash, |batch| batch).await
    }

    /// Reads a batch and makes something of it, off the threads that serve requests.
    pub async fn get_as<T: Send + 'static>(
        self: &Arc<Self>,
        hash: DataHash,
        make: impl FnOnce(VerifiedBatch) -> T + Send + 'static,
    ) -> Result<Lookup<T>, StorageError> {
        let store = Arc::clone(self);
        blocking(move || {
            Ok(match store.get_blocking(hash)? {
                Lookup::Found(batch) => Lookup::Found(make(batch)),
                Lookup::Absent => Lookup::Absent,
                Lookup::Damaged => Lookup::Damaged,
                Lookup::Archived { hash } => Lookup::Archived { hash },
                Lookup::Sharded { hash } => Lookup::Sharded { hash },
            })
        })
        .await?
    }

    fn get_blocking(&self, hash: DataHash) -> Result<Lookup<VerifiedBatch>, StorageError> {
        match self.look_up(hash)? {
            // Certificates of version 0 name a batch by its flat hash; it is stored under the tree form of that.
            Lookup::Absent => self.look_up(DataHash::of_flat(*hash.as_bytes())),
            found => Ok(found),
        }
    }

    fn look_up(&self, hash: DataHash) -> Result<Lookup<VerifiedBatch>, StorageError> {
        // A second look tells a batch that expired or was dropped while it was read from one that rotted.
        let mut damaged = false;
        for _ in 0..2 {
            let Some(record) = self.index.batch(&hash)? else { return Ok(Lookup::Absent) };
            if record.is_archived() {
                return Ok(Lookup::Archived { hash });
            }
            let Some(place) = record.place() else { return Ok(Lookup::Sharded { hash }) };
            if let Some(payload) = self.read(&hash, &record)?
                && let Ok(batch) = VerifiedBatch::check(payload, &hash)
            {
                return Ok(Lookup::Found(batch));
            }
            damaged = true;
            self.files.invalidate(&place.segment);
        }
        Ok(if damaged { Lookup::Damaged } else { Lookup::Absent })
    }

    /// The payload that a record names, not checked against its hash yet. `None`: it is not there, is cut off, or does not
    /// open.
    fn read(&self, hash: &DataHash, record: &index::BatchRecord) -> Result<Option<Bytes>, StorageError> {
        let Some(place) = record.place() else { return Ok(None) };
        match self.file(place.segment).and_then(|file| segment::read_payload(&file, &place)) {
            Ok(stored) => Ok(self.sealer.open_batch(hash, record.key_id, stored)?),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Ok(None)
            }
            Err(source) => Err(StorageError::Read { source }),
        }
    }

    fn file(&self, id: u64) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.get(&id) {
            return Ok(file);
        }
        let file = Arc::new(File::open(segment::path(&self.segments, id))?);
        self.files.insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// The latest timeout (unix seconds) promised for a batch that is here.
    pub fn timeout(&self, hash: &DataHash) -> Result<Option<u64>, StorageError> {
        Ok(self.index.batch(hash)?.map(|record| record.timeout))
    }

    /// One bounded step of expiry: removes at most `limit` batches whose latest timeout is at most `until`, in every
    /// form, and gives their space back.
    pub async fn expire(self: &Arc<Self>, until: u64, limit: usize) -> Result<Vec<DataHash>, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upkeep(Upkeep::Expire { until, limit, reply }), answer).await
    }

    /// The index database, for what else a node keeps there.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether the index answers.
    pub fn check_index(&self) -> Result<(), StorageError> {
        self.index.batch(&DataHash::from_bytes([0; 32]))?;
        Ok(())
    }

    /// Does the disk take writes, beside the segments and in the index? Writes and syncs a little of both.
    pub fn probe(&self) -> Result<(), StorageError> {
        self.probe_segments().map_err(StorageError::write)?;
        // RocksDB refuses writes after an error of its own, on a disk that takes them again.
        let mut change = self.index.change();
        change.set_state(state::PROBE, &());
        Ok(change.apply(true)?)
    }

    fn probe_segments(&self) -> io::Result<()> {
        let path = self.segments.join("probe");
        let mut file = File::create(&path)?;
        io::Write::write_all(&mut file, b"probe")?;
        file.sync_all()?;
        std::fs::remove_file(path)
    }

    /// If the last store was refused for want of room: how many bytes must be free for it to be taken.
    pub fn lacking_bytes(&self) -> Option<u64> {
        Some(self.lacking.load(Ordering::Relaxed)).filter(|&bytes| bytes > 0)
    }

    /// Bytes free on the disk of the store.
    pub fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.disk()?.free)
    }

    /// The disk that batches are on.
    pub fn disk(&self) -> io::Result<Disk> {
        disk(&self.segments)
    }

    /// Finishes what was asked so far, syncs and closes. Later calls get [`StorageError::Closed`].
    pub fn close(&self) {
        // A send that fails means that the writer is gone already.
        let _ = self.commands.send(Command::Close);
        if let Some(thread) = self.writer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer had panicked");
        }
    }
}

impl Drop for BatchStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether RocksDB could not open for another process's (or our own) lock. It has no kind of its own for that.
fn is_lock_held(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    error.kind() == rocksdb::ErrorKind::IOError
        && (text.contains("While lock file") || text.contains("lock hold by current process"))
}

/// Room on a disk.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// Bytes that this process may still write.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

fn disk(directory: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Disk { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

fn make_directory(path: &Path) -> Result<(), StorageError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StorageError::open("make the folder", path.to_path_buf(), source))
}

fn storage_id(index: &Index, segments: &Path) -> Result<segment::StorageId, StorageError> {
    if let Some(id) = index.state(state::STORAGE_ID)? {
        return Ok(id);
    }
    let failed = |source| StorageError::open("read the segments in", segments.to_path_buf(), source);
    // A lost index is built anew from the segments, under the id that they carry.
    let mut id: Option<segment::StorageId> = None;
    for segment in segment::list(segments).map_err(failed)? {
        if let SegmentHeader::Valid(found) = segment::read_header(segments, segment).map_err(failed)? {
            id.get_or_insert(found);
        }
    }
    let id = id.unwrap_or_else(rand::random);
    let mut change = index.change();
    change.set_state(state::STORAGE_ID, &id);
    change.apply(true)?;
    Ok(id)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Closed)
}

#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod tests;
