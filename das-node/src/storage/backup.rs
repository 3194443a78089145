//! Backups of a running store, and the way back.
//!
//! A backup is a folder that has everything itself: deleting another one costs it nothing.
//!
//! ```text
//! index/           a checkpoint of the index (RocksDB), at one moment
//! segments/        every segment that the index named at that moment, and what was appended while it was copied
//! evidence/        the evidence kept, if there is any
//! manifest.json    Manifest; written last
//! ```
//!
//! Guarantees:
//! - What [`BatchStore::put`] had returned for before the backup began is in it, until the moment that it was to be deleted.
//!   Nothing is punched while segments are copied; the holes wait in the index.
//! - A folder of the name asked for is there only when it is complete and on disk. Before that it has `.unfinished` at its end.
//! - Stores and reads go on meanwhile.
//! - With an earlier backup as base, segments that were sealed then are linked from it: a daily backup costs what a day
//!   brought. Only from one that this database remembers having made: one that was rolled back gives numbers to segments
//!   a second time. Never from the live store: space is given back there by punching holes, and a link would have them too.
//! - No key is in it. What is encrypted in the store is encrypted in it, with the same keys.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use das_common::fault::{self, Coded, Fault};
use das_common::keccak::keccak256;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::index::{IndexError, Totals, state};
use super::segment::{self, SegmentHeader};
use super::{BatchStore, INDEX, SEGMENTS};
use crate::clock::unix_time;

mod copy;
mod restore;
mod verify;

pub use restore::{Restored, check_finished, restore};
pub use verify::{Damaged, Verified, verify_backup};

use copy::copy_file;

/// The form of backups that this release writes, and the only one that it reads.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const EVIDENCE: &str = "evidence";
const UNFINISHED: &str = "unfinished";
/// So many backups are remembered.
const REMEMBERED: usize = 256;
/// A longer manifest is not one of ours: room for the segments of a petabyte.
const MAX_MANIFEST: u64 = 1 << 30;

/// Why there is no backup, or no store from one.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Something is in the way.
    #[error("{} exists already", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// One at a time.
    #[error("another backup is being made")]
    Busy,
    /// The node shuts down.
    #[error("the node ends; the backup was given up")]
    Stopped,
    /// A file or folder.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The manifest.
    #[error("{} is no manifest of a backup: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the backup.
    #[error("{} is not what was written: {reason}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a database.
    #[error("there is a database in {} already", path.display())]
    Occupied {
        /// The data directory.
        path: PathBuf,
    },
}

impl Coded for BackupError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Exists { .. } | Self::Busy | Self::Stopped | Self::File { .. } | Self::Index(_) => {
                fault::BACKUP_FAILED
            }
            Self::Manifest { .. } | Self::Changed { .. } => fault::BACKUP_DAMAGED,
            Self::Occupied { .. } => fault::BACKUP_TARGET,
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::File { what, path, source }
}

/// How far a backup, a restore or a check is; for whoever watches.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    of: AtomicU64,
}

impl Meter {
    fn expect(&self, bytes: u64) {
        self.of.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes done, and of how many.
    pub fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed))
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Drawn at random; its database knows it.
    id: String,
    /// The release that wrote it.
    pub version: String,
    /// When it was begun (unix seconds).
    pub made: u64,
    /// Batches in it, in any form, when it was begun.
    pub batches: u64,
    segments: Vec<SegmentFile>,
    index: Vec<SmallFile>,
    evidence: Vec<SmallFile>,
}

/// A segment of a backup. What is in it has checks of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SegmentFile {
    id: u64,
    bytes: u64,
    /// Linked from an earlier backup.
    linked: bool,
}

/// Any other file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SmallFile {
    name: String,
    bytes: u64,
    keccak: String,
}

impl Manifest {
    /// Reads and checks that of a backup.
    pub fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST);
        let bad = |reason: String| BackupError::Manifest { path: path.clone(), reason };
        let length = fs::metadata(&path).map_err(failed("read", &path))?.len();
        if length > MAX_MANIFEST {
            return Err(bad(format!("{length} bytes, the limit is {MAX_MANIFEST}")));
        }
        let text = fs::read(&path).map_err(failed("read", &path))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(bad(format!("its format is {}, this release reads {FORMAT}", manifest.format)));
        }
        let mut names = manifest.index.iter().chain(&manifest.evidence).map(|file| &file.name);
        if let Some(name) = names.find(|name| name.contains('/') || matches!(name.as_str(), "" | "." | ".."))
        {
            return Err(bad(format!("{name:?} is no file of a backup")));
        }
        Ok(manifest)
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        let small = self.index.iter().chain(&self.evidence).map(|file| file.bytes);
        self.segments.iter().map(|segment| segment.bytes).chain(small).sum()
    }

    /// Those of them that were linked from an earlier backup.
    pub fn linked_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.linked).map(|segment| segment.bytes).sum()
    }

    /// Those that were sealed: the last one may have been open.
    fn sealed(&self) -> impl Iterator<Item = &SegmentFile> {
        let last = self.segments.iter().map(|segment| segment.id).max();
        self.segments.iter().filter(move |segment| Some(segment.id) != last)
    }

    fn write(&self, into: &Path) -> Result<(), BackupError> {
        let path = into.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| BackupError::Manifest { path: path.clone(), reason: error.to_string() })?;
        let written = || {
            let mut file = File::create_new(&path)?;
            io::Write::write_all(&mut file, &text)?;
            file.sync_all()
        };
        written().map_err(failed("write", &path))
    }
}

/// Ends the pause when it is dropped, and punches what waited.
pub(super) struct Pause<'a>(&'a BatchStore);

impl<'a> Pause<'a> {
    pub(super) fn begin(store: &'a BatchStore) -> Self {
        *store.sweeper.paused.lock() = true;
        Self(store)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        *self.0.sweeper.paused.lock() = false;
        if let Err(error) = self.0.sweeper.catch_up() {
            tracing::warn!(%error, "space that was freed during a backup is given back by the next start");
        }
    }
}

impl BatchStore {
    /// Writes a backup into the folder `to`, which must not exist, while stores and reads go on. Blocks for as long as it takes.
    pub fn back_up(
        &self,
        to: &Path,
        base: Option<&Path>,
        meter: &Meter,
        stop: &CancellationToken,
    ) -> Result<Manifest, BackupError> {
        let Some(_alone) = self.backup.try_lock() else { return Err(BackupError::Busy) };
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: to.to_path_buf() });
        }
        let base = base.map(|base| Ok::<_, BackupError>((base, Manifest::read(base)?))).transpose()?;
        let (id, known) = self.remember_backup()?;
        let base = base.filter(|(path, manifest)| {
            let is_ours = known.contains(&manifest.id);
            if !is_ours {
                tracing::warn!(base = %path.display(), "not a backup that this database made: everything is copied");
            }
            is_ours
        });
        let mut name = to.file_name().unwrap_or_default().to_os_string();
        name.push(".");
        name.push(UNFINISHED);
        let unfinished = to.with_file_name(name);
        remove_tree(&unfinished)?;
        make_folder(&unfinished)?;

        let made = unix_time();
        let pause = Pause::begin(self);
        let index = unfinished.join(INDEX);
        self.index.checkpoint(&index)?;
        // Those that become empty meanwhile are removed: links keep them until they are copied.
        let links = self.segments.with_file_name("backup-links");
        remove_tree(&links)?;
        make_folder(&links)?;
        let segments = self.link_segments(&links).and_then(|ids| {
            let folder = unfinished.join(SEGMENTS);
            make_folder(&folder)?;
            self.copy_segments(&ids, &links, &folder, base.as_ref(), meter, stop)
        });
        drop(pause);
        remove_tree(&links)?;

        let totals: Totals = self.index.state(state::TOTALS)?.unwrap_or_default();
        let manifest = Manifest {
            format: FORMAT,
            id,
            version: env!("CARGO_PKG_VERSION").into(),
            made,
            batches: totals.whole_batches + totals.sharded_batches,
            segments: segments?,
            index: describe(&index)?,
            evidence: self.copy_evidence(&unfinished)?,
        };
        for folder in [INDEX, SEGMENTS] {
            sync_folder(&unfinished.join(folder))?;
        }
        manifest.write(&unfinished)?;
        sync_folder(&unfinished)?;
        // Fails on a folder that has come meanwhile, unless that is empty.
        fs::rename(&unfinished, to).map_err(failed("name", to))?;
        if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Ok(manifest)
    }

    /// Draws a name for a backup and writes it down; with those written down before.
    fn remember_backup(&self) -> Result<(String, Vec<String>), BackupError> {
        let known: Vec<[u8; 16]> = self.index.state(state::BACKUPS)?.unwrap_or_default();
        let id: [u8; 16] = rand::random();
        let mut all = known.clone();
        all.push(id);
        let forgotten = all.len().saturating_sub(REMEMBERED);
        let mut change = self.index.change();
        change.set_state(state::BACKUPS, &all.split_off(forgotten));
        change.apply(true)?;
        Ok((const_hex::encode(id), known.iter().map(const_hex::encode).collect()))
    }

    fn link_segments(&self, links: &Path) -> Result<Vec<u64>, BackupError> {
        let ids = segment::list(&self.segments).map_err(failed("list", &self.segments))?;
        let mut linked = Vec::with_capacity(ids.len());
        for id in ids {
            let path = segment::path(&self.segments, id);
            match fs::hard_link(&path, segment::path(links, id)) {
                Ok(()) => linked.push(id),
                // Nothing was left in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("link", &path)(error)),
            }
        }
        Ok(linked)
    }

    fn copy_segments(
        &self,
        ids: &[u64],
        from: &Path,
        to: &Path,
        base: Option<&(&Path, Manifest)>,
        meter: &Meter,
        stop: &CancellationToken,
    ) -> Result<Vec<SegmentFile>, BackupError> {
        let length = |id: u64| {
            let path = segment::path(from, id);
            fs::metadata(&path).map(|metadata| metadata.len()).map_err(failed("read", &path))
        };
        for &id in ids {
            meter.expect(length(id)?);
        }
        let mut copied = Vec::with_capacity(ids.len());
        for &id in ids {
            let (source, target) = (segment::path(from, id), segment::path(to, id));
            let expected = length(id)?;
            let linked = base.is_some_and(|(base, manifest)| self.link_from(base, manifest, id, &target));
            let bytes = if linked {
                meter.add(expected);
                fs::metadata(&target).map_err(failed("read", &target))?.len()
            } else {
                // Room preallocated beyond what was written is a hole, and costs nothing.
                copy_file(&source, &target, expected, meter, stop)?
            };
            copied.push(SegmentFile { id, bytes, linked });
        }
        Ok(copied)
    }

    /// Links a segment from an earlier backup, if it was sealed then and is of this store.
    fn link_from(&self, base: &Path, manifest: &Manifest, id: u64, target: &Path) -> bool {
        let folder = base.join(SEGMENTS);
        let path = segment::path(&folder, id);
        manifest.sealed().any(|segment| {
            segment.id == id && fs::metadata(&path).is_ok_and(|metadata| metadata.len() == segment.bytes)
        }) && segment::read_header(&folder, id)
            .is_ok_and(|header| header == SegmentHeader::Valid(self.sealer.storage))
            // Another file system, or one without links: then it is copied.
            && fs::hard_link(path, target).is_ok()
    }

    fn copy_evidence(&self, to: &Path) -> Result<Vec<SmallFile>, BackupError> {
        let from = self.segments.with_file_name(EVIDENCE);
        if !from.is_dir() {
            return Ok(Vec::new());
        }
        let to = to.join(EVIDENCE);
        make_folder(&to)?;
        for name in file_names(&from)? {
            let (source, target) = (from.join(&name), to.join(&name));
            fs::copy(&source, &target).map_err(failed("copy", &source))?;
        }
        describe(&to)
    }
}

/// The files of a folder with their checks, synced.
fn describe(folder: &Path) -> Result<Vec<SmallFile>, BackupError> {
    let mut files = Vec::new();
    for name in file_names(folder)? {
        let path = folder.join(&name);
        let content = fs::read(&path).map_err(failed("read", &path))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
        files.push(SmallFile { name, bytes: content.len() as u64, keccak: check_of(&content) });
    }
    sync_folder(folder)?;
    Ok(files)
}

fn check_of(content: &[u8]) -> String {
    const_hex::encode(keccak256(content))
}

/// Regular files with names that can be written down, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let is_file = entry.file_type().map_err(failed("read", folder))?.is_file();
        names.extend(entry.file_name().into_string().ok().filter(|_| is_file));
    }
    names.sort_unstable();
    Ok(names)
}

fn make_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(path).map_err(failed("make", path))
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Removes a folder that an earlier run left.
fn remove_tree(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
