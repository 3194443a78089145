//! The batch store: what a member has on disk.
//!
//! Guarantees, whatever else happens to the process or the machine:
//! - When [`BatchStore::put`] returns `Ok`, the batch and its timeout survive a power cut.
//! - What [`BatchStore::get`] returns was hashed on its way from the disk and has the name that was asked for.
//! - A batch is gone only after [`BatchStore::expire`] was called with a time beyond the latest timeout ever given
//!   for it.
//!
//! Each batch is written once: to the end of a [`segment`] file, synced together with the stores that came at the
//! same time. RocksDB holds the [`index`]. Space comes back by punching holes, and by removing segments whose batches
//! are all gone; nothing is ever rewritten.

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
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::warn;

pub mod index;
pub mod log;
pub mod segment;

use index::{Index, IndexError, state};
use log::{Command, Commands, Expired, Put, Writer};
use segment::SegmentHeader;

/// Open segment files kept for reading.
const OPEN_FILES: u64 = 128;

/// Why the store could not do what it was asked.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A file or folder could not be used at the start.
    #[error("cannot {what} {}: {source}", path.display())]
    Open {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// Another process has the database.
    #[error("the data directory {} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// RocksDB did not open.
    #[error("the index in {} cannot be opened: {source}", path.display())]
    OpenIndex {
        /// The index's folder.
        path: PathBuf,
        /// RocksDB's report.
        source: IndexError,
    },
    /// A segment that another store wrote, or whose first page is damaged.
    #[error("{} is no segment of this store: its first page is another store's, or damaged", path.display())]
    ForeignSegment {
        /// The segment.
        path: PathBuf,
    },
    /// Too little space is left.
    #[error("the disk is full: {free} bytes free, {reserve} are kept in reserve")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes kept in reserve.
        reserve: u64,
    },
    /// A write or sync failed.
    #[error("the batch could not be written: {source}")]
    Write {
        /// The system's report.
        source: io::Error,
    },
    /// A read failed.
    #[error("the batch could not be read: {source}")]
    Read {
        /// The system's report.
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] Arc<IndexError>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<IndexError> for StorageError {
    fn from(error: IndexError) -> Self {
        Self::Index(Arc::new(error))
    }
}

impl StorageError {
    fn open(what: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self::Open { what, path, source }
    }

    fn write(source: io::Error) -> Self {
        Self::Write { source }
    }

    /// The same error for another one who waited for the same write.
    fn copy(&self) -> Self {
        match self {
            Self::DiskFull { free, reserve } => Self::DiskFull { free: *free, reserve: *reserve },
            Self::Write { source } => Self::Write { source: copy_of(source) },
            Self::Read { source } => Self::Read { source: copy_of(source) },
            Self::Index(source) => Self::Index(Arc::clone(source)),
            Self::Open { what, path, source } => Self::open(what, path.clone(), copy_of(source)),
            Self::Locked { .. } | Self::OpenIndex { .. } | Self::ForeignSegment { .. } | Self::Closed => {
                Self::Closed
            }
        }
    }

    /// Whether the disk has no room, by our own reckoning or the system's.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Write { source } => source.kind() == io::ErrorKind::StorageFull,
            Self::Index(error) => {
                matches!(&**error, IndexError::Database(e) if e.to_string().contains("No space left"))
            }
            _ => false,
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// Where and how a store keeps its files.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The folder; made when it does not exist.
    pub directory: PathBuf,
    /// Room preallocated for one segment, in bytes.
    pub segment_bytes: u64,
    /// Stores are refused when less than this many bytes are free.
    pub reserve_bytes: u64,
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
}

/// The batches on this machine's disk.
#[derive(Debug)]
pub struct BatchStore {
    index: Arc<Index>,
    segments: PathBuf,
    files: moka::sync::Cache<u64, Arc<File>>,
    commands: Commands,
    writer: Mutex<Option<JoinHandle<()>>>,
    lacking: Arc<AtomicU64>,
}

impl BatchStore {
    /// Opens the store, or makes a new one, and brings the index up to the end of the log.
    pub fn open(options: &StorageOptions) -> Result<Self, StorageError> {
        let segments = options.directory.join("segments");
        let index_path = options.directory.join("index");
        make_directory(&segments)?;
        let index = Index::open(&index_path).map_err(|source| match &source {
            IndexError::Database(error) if is_lock_held(error) => {
                StorageError::Locked { path: options.directory.clone() }
            }
            _ => StorageError::OpenIndex { path: index_path, source },
        })?;
        let index = Arc::new(index);
        let storage = storage_id(&index, &segments)?;
        let writer = Writer::recover(
            Arc::clone(&index),
            segments.clone(),
            storage,
            options.segment_bytes,
            options.reserve_bytes,
        )?;
        let lacking = Arc::clone(&writer.lacking);
        let (commands, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| StorageError::open("start a thread for", options.directory.clone(), source))?;
        let files = moka::sync::Cache::new(OPEN_FILES);
        Ok(Self { index, segments, files, commands, writer: Mutex::new(Some(thread)), lacking })
    }

    /// Stores a batch until `timeout` (unix seconds) at least. Once this returns, a power cut takes nothing of it.
    pub async fn put(
        self: &Arc<Self>,
        batch: &VerifiedBatch,
        timeout: u64,
        now: u64,
    ) -> Result<PutOutcome, StorageError> {
        let hash = batch.hash();
        let mut heal = None;
        let known = self.index.batch(&hash)?;
        if let Some(record) = known {
            let store = Arc::clone(self);
            let wanted = batch.bytes().clone();
            let place = record.place();
            // Trusted only as far as its bytes go: rot must not be signed for.
            let whole = blocking(move || store.read(&place).is_ok_and(|bytes| bytes == wanted)).await?;
            if !whole {
                heal = Some(record.place());
            } else if record.timeout >= timeout {
                return Ok(PutOutcome::Present);
            }
        }
        let (reply, answer) = oneshot::channel();
        let put = Put { hash, payload: batch.bytes().clone(), timeout, now, heal, reply };
        self.commands.send(Command::Put(put)).map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)??;
        Ok(match (known, heal) {
            (None, _) => PutOutcome::Written,
            (Some(_), None) => PutOutcome::Present,
            (Some(_), Some(_)) => PutOutcome::Healed,
        })
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
        // A second look tells a batch that expired while it was read from one that rotted.
        let mut damaged = false;
        for _ in 0..2 {
            let Some(record) = self.index.batch(&hash)? else { return Ok(Lookup::Absent) };
            match self.read(&record.place()) {
                Ok(payload) => {
                    if let Ok(batch) = VerifiedBatch::check(Bytes::from(payload), &hash) {
                        return Ok(Lookup::Found(batch));
                    }
                    damaged = true;
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
                {
                    damaged = true;
                }
                Err(source) => return Err(StorageError::Read { source }),
            }
            self.files.invalidate(&record.segment);
        }
        Ok(if damaged { Lookup::Damaged } else { Lookup::Absent })
    }

    fn read(&self, place: &segment::Place) -> io::Result<Vec<u8>> {
        segment::read_payload(&*self.file(place.segment)?, place)
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

    /// One bounded step of expiry: removes at most `limit` batches whose latest timeout is at most `until`, and gives
    /// their space back.
    pub async fn expire(self: &Arc<Self>, until: u64, limit: usize) -> Result<Vec<DataHash>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Expire { until, limit, reply };
        self.commands.send(command).map_err(|_| StorageError::Closed)?;
        let expired = answer.await.map_err(|_| StorageError::Closed)??;
        let store = Arc::clone(self);
        blocking(move || {
            store.give_back(&expired);
            expired.hashes
        })
        .await
    }

    fn give_back(&self, expired: &Expired) {
        for id in &expired.segments {
            self.files.invalidate(id);
            if let Err(error) = std::fs::remove_file(segment::path(&self.segments, *id)) {
                warn!(%error, segment = id, "an empty segment could not be removed; the next start tries again");
            }
        }
        for place in expired.places.iter().filter(|p| !expired.segments.contains(&p.segment)) {
            let path = segment::path(&self.segments, place.segment);
            let punched =
                File::options().write(true).open(path).and_then(|file| segment::punch(&file, place));
            if let Err(error) = punched {
                warn!(%error, segment = place.segment, "space could not be given back; it comes back with the segment");
            }
        }
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
        free_bytes(&self.segments)
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

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
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
