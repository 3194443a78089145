//! Why the store could not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use das_common::fault::{self, Coded, Fault};
use thiserror::Error;

use super::index::IndexError;
use super::sealing::{UnknownKey, name_of};

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
    /// What should be here comes from a backup, and not all of it is here.
    #[error("a restore into {} was not finished: run dastool restore again with the same backup", path.display())]
    UnfinishedRestore {
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
    /// A record needs a key that was not given.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
    /// What is here needs a key that was not given.
    #[error(
        "{records} batches and shards here ({bytes} bytes) are encrypted with the storage key {}, which is neither the active \
         one nor among the former ones", name_of(*key_id)
    )]
    MissingKey {
        /// Its id.
        key_id: u32,
        /// How many.
        records: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// More than fits one call.
    #[error("{got} in one call, the limit is {limit}")]
    TooMany {
        /// How many were given.
        got: usize,
        /// How many are taken.
        limit: usize,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Coded for StorageError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Locked { .. } => fault::DB_LOCKED,
            Self::UnfinishedRestore { .. } => fault::BACKUP_UNFINISHED,
            Self::Open { .. } => fault::DB_DIRECTORY,
            Self::OpenIndex { .. } | Self::ForeignSegment { .. } => fault::DB_CORRUPT,
            Self::UnknownKey(_) | Self::MissingKey { .. } => fault::STORAGE_KEY_MISSING,
            Self::Index(error) if error.is_newer() => fault::DB_VERSION,
            Self::Index(_) => fault::DB_RECORD,
            error if error.is_disk_full() => fault::STORE_DISK_FULL,
            Self::DiskFull { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::TooMany { .. }
            | Self::Closed => fault::DB_IO,
        }
    }
}

impl From<IndexError> for StorageError {
    fn from(error: IndexError) -> Self {
        Self::Index(Arc::new(error))
    }
}

impl StorageError {
    pub(super) fn open(what: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self::Open { what, path, source }
    }

    pub(super) fn write(source: io::Error) -> Self {
        Self::Write { source }
    }

    /// The same error for another one who waited for the same write.
    pub(super) fn copy(&self) -> Self {
        match self {
            Self::DiskFull { free, reserve } => Self::DiskFull { free: *free, reserve: *reserve },
            Self::Write { source } => Self::Write { source: copy_of(source) },
            Self::Read { source } => Self::Read { source: copy_of(source) },
            Self::Index(source) => Self::Index(Arc::clone(source)),
            Self::Open { what, path, source } => Self::open(what, path.clone(), copy_of(source)),
            Self::UnknownKey(unknown) => Self::UnknownKey(*unknown),
            Self::TooMany { got, limit } => Self::TooMany { got: *got, limit: *limit },
            Self::Locked { .. }
            | Self::UnfinishedRestore { .. }
            | Self::OpenIndex { .. }
            | Self::ForeignSegment { .. }
            | Self::MissingKey { .. }
            | Self::Closed => Self::Closed,
        }
    }

    /// Whether a storage key is missing.
    pub fn is_missing_key(&self) -> bool {
        matches!(self, Self::UnknownKey(_) | Self::MissingKey { .. })
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

pub(super) fn copy_of(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
