//! `export`: a node's batches as a data directory of Nitro's server.
//!
//! Resumable: a file that is there is read and hashed; what is right stays, everything else is written anew. A file gets its name
//! when it is complete.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use das_common::admin::{AdminClient, AdminError, Entry};
use das_common::batch::VerifiedBatch;
use das_common::config::ByteSize;
use das_common::fault;
use das_common::nitro_layout::{by_expiry, by_hash};
use das_keys::storage_options::StorageKeyOptions;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Leftovers;
use super::home::{Home, HomeOptions};
use super::progress::{Meter, Shown};
use crate::tool::args;
use crate::tool::output::Answer;

/// Entries of the list that are asked for at once.
const ENTRIES: usize = 1024;
/// Where files are until they are complete.
const WORKSHOP: &str = ".das-export";
/// A unit of memory.
const PAGE: u64 = 4096;

das_common::options! {
    /// Options of `export`.
    pub(crate) struct Options {
        ["From where"]
        /// Data directory of das-node. While it runs, batches of which only a shard is there are gathered from the others.
        data_dir: PathBuf,
        /// The program das-node, for when none is running; the one beside dastool, or of the PATH.
        das_node: PathBuf,
        /// Keys of what is encrypted at rest there (das-node's storage-encryption.*), for when no das-node is running.
        storage_encryption: StorageKeyOptions,

        ["To where"]
        /// The directory to write, local-file-storage.data-dir of Nitro's server; made if it is not there.
        to: PathBuf,
        /// by-expiry (by-data-hash and by-expiry-timestamp, what Nitro's server writes today) or flat (its older one).
        layout: String = "by-expiry",
        /// Nitro's local-file-storage.max-retention, for the older layout: the time of a file is its expiry less this.
        retention: Duration = "504h0m0s",

        ["How"]
        /// Batches that are moved at once.
        parallel: usize = "8",
        /// Most memory for batches that are being moved.
        max_memory: ByteSize = "64MiB",
        /// Say on standard error how far it is.
        progress: bool = "true",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "export",
    "Writes the batches of a das-node, running or not, as Nitro's server keeps them: `dastool export --data-dir DIR --to \
     NITRO-DIR`. Each is hashed against its name. Run it again after an interruption, or for what has come since. What cannot be \
     had, such as shards while the node is stopped, is listed and makes the exit code 1."
);

/// The two layouts.
#[derive(Debug, Clone, Copy)]
enum Layout {
    ByExpiry,
    Flat { retention: u64 },
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        ensure!(!options.to.as_os_str().is_empty(), "say where to with --to");
        ensure!(options.parallel > 0, "--parallel is 0, give at least 1");
        let layout = match options.layout.as_str() {
            "by-expiry" => Layout::ByExpiry,
            "flat" => Layout::Flat { retention: options.retention.as_secs() },
            other => anyhow::bail!("--layout {other:?}: by-expiry or flat"),
        };
        let json = options.json;
        let done = crate::tool::block_on(export(options, layout))?;
        done.answer(json)
    })
}

/// What came of it.
#[derive(Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    exported: u64,
    exported_bytes: u64,
    /// They were there, and right.
    present: u64,
    /// What could not be had or written.
    left: Leftovers,
}

impl Done {
    fn answer(&self, json: bool) -> anyhow::Result<Answer> {
        let mut text = format!(
            "{} batches exported ({} bytes), {} were there already\n",
            self.exported, self.exported_bytes, self.present
        );
        text += &self.left.text("NOT EXPORTED");
        let good = self.left.count == 0;
        let mut answer = Answer::new(json, text, self)?;
        if !good {
            answer.json["code"] = json!(fault::IMPORT_UNVERIFIED.code);
        }
        answer.good = good;
        Ok(answer)
    }
}

async fn export(options: Options, layout: Layout) -> anyhow::Result<Done> {
    let home = HomeOptions {
        data_dir: options.data_dir.clone(),
        das_node: options.das_node.clone(),
        min_free: ByteSize(0),
        keys: options.storage_encryption.clone(),
    };
    let home = Home::open(&home).await?;
    let meter = Arc::new(Meter::default());
    meter.expect(home.about.bytes);
    let shown = Shown::start("export", Arc::clone(&meter), options.progress);
    let folder = Folder::open(options.to.clone(), layout)?;
    let pages = pages(options.max_memory.0);
    let export = Arc::new(Export {
        client: home.client.clone(),
        folder,
        meter,
        done: Mutex::default(),
        slots: Arc::new(Semaphore::new(options.parallel)),
        memory: Arc::new(Semaphore::new(pages as usize)),
        pages,
    });
    let outcome = Arc::clone(&export).run().await;
    drop(shown);
    let closed = home.close().await;
    outcome?;
    closed?;
    export.folder.finish()?;
    let done = std::mem::take(&mut *export.done.lock());
    Ok(done)
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}

struct Export {
    client: AdminClient,
    folder: Folder,
    meter: Arc<Meter>,
    done: Mutex<Done>,
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    pages: u32,
}

impl Export {
    async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let mut under_way = JoinSet::new();
        let mut after = None;
        loop {
            let entries = self.client.list(after.as_ref(), ENTRIES).await?;
            let Some(last) = entries.last() else { break };
            after = Some(last.hash);
            for entry in entries {
                let share = pages(entry.length).min(self.pages);
                let memory = Arc::clone(&self.memory).acquire_many_owned(share).await?;
                let slot = Arc::clone(&self.slots).acquire_owned().await?;
                under_way.spawn(Arc::clone(&self).move_one(entry, memory, slot));
                while let Some(moved) = under_way.try_join_next() {
                    moved??;
                }
            }
        }
        while let Some(moved) = under_way.join_next().await {
            moved??;
        }
        Ok(())
    }

    async fn move_one(
        self: Arc<Self>,
        entry: Entry,
        _memory: OwnedSemaphorePermit,
        _slot: OwnedSemaphorePermit,
    ) -> anyhow::Result<()> {
        let this = Arc::clone(&self);
        let there = tokio::task::spawn_blocking(move || this.folder.settle(&entry)).await?;
        let name = format!("0x{}", entry.hash);
        match there {
            Ok(true) => self.done.lock().present += 1,
            Ok(false) => match self.fetch(&entry).await? {
                Ok(batch) => {
                    let (this, length) = (Arc::clone(&self), batch.len() as u64);
                    let written =
                        tokio::task::spawn_blocking(move || this.folder.write(&entry, &batch)).await?;
                    match written {
                        Ok(()) => {
                            let mut done = self.done.lock();
                            done.exported += 1;
                            done.exported_bytes += length;
                        }
                        Err(Unwritten::Time(reason)) => self.done.lock().left.add(name, reason),
                        Err(Unwritten::File(error)) => return Err(error),
                    }
                }
                Err(reason) => self.done.lock().left.add(name, reason),
            },
            Err(error) => return Err(error),
        }
        self.meter.add(entry.length);
        Ok(())
    }

    /// A batch that has its name; or why there is none.
    async fn fetch(&self, entry: &Entry) -> anyhow::Result<Result<Bytes, String>> {
        let refused = |status| {
            matches!(
                status,
                StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::SERVICE_UNAVAILABLE
            )
        };
        Ok(match self.client.get(&entry.hash).await {
            Ok(Some(bytes)) => match VerifiedBatch::check(bytes, &entry.hash) {
                Ok(batch) => Ok(batch.into_bytes()),
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Err("it expired meanwhile".into()),
            Err(AdminError::Refused { status, refusal }) if refused(status) => Err(refusal.error),
            Err(error) => return Err(error).context("run the same again to go on"),
        })
    }
}

/// Why a batch is not as it should be in the directory.
enum Unwritten {
    /// The file system does not keep such a time.
    Time(String),
    File(anyhow::Error),
}

impl From<anyhow::Error> for Unwritten {
    fn from(error: anyhow::Error) -> Self {
        Self::File(error)
    }
}

/// The directory that is written.
struct Folder {
    root: PathBuf,
    workshop: PathBuf,
    layout: Layout,
}

impl Folder {
    fn open(root: PathBuf, layout: Layout) -> anyhow::Result<Self> {
        make_folders(&root)?;
        let workshop = root.join(WORKSHOP);
        match fs::remove_dir_all(&workshop) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| workshop.display().to_string());
            }
            _ => make_folders(&workshop)?,
        }
        if matches!(layout, Layout::ByExpiry) {
            // Nitro's server makes both when it starts.
            for part in ["by-data-hash", "by-expiry-timestamp"] {
                make_folders(&root.join(part))?;
            }
        }
        Ok(Self { root, workshop, layout })
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        match self.layout {
            Layout::ByExpiry => self.root.join(by_hash(&entry.hash)),
            Layout::Flat { .. } => self.root.join(entry.hash.to_string()),
        }
    }

    /// Whether the batch is there and right; if so, its expiry is brought up to date.
    fn settle(&self, entry: &Entry) -> anyhow::Result<bool> {
        let path = self.path(entry);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() == entry.length => {}
            _ => return Ok(false),
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if VerifiedBatch::check(bytes.into(), &entry.hash).is_err() {
            return Ok(false);
        }
        match self.expire(entry, &path) {
            Ok(()) => Ok(true),
            // It is written once more, and the reason is heard there.
            Err(Unwritten::Time(_)) => Ok(false),
            Err(Unwritten::File(error)) => Err(error),
        }
    }

    fn write(&self, entry: &Entry, batch: &[u8]) -> Result<(), Unwritten> {
        let (path, draft) = (self.path(entry), self.workshop.join(entry.hash.to_string()));
        let written = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(batch)
        };
        written().with_context(|| draft.display().to_string())?;
        if let Some(folder) = path.parent() {
            make_folders(folder)?;
        }
        fs::rename(&draft, &path).with_context(|| path.display().to_string())?;
        self.expire(entry, &path)
    }

    fn expire(&self, entry: &Entry, path: &Path) -> Result<(), Unwritten> {
        match self.layout {
            Layout::ByExpiry => Ok(self.link(entry, path)?),
            Layout::Flat { retention } => {
                set_time(path, i128::from(entry.known.until) - i128::from(retention))
            }
        }
    }

    fn link(&self, entry: &Entry, path: &Path) -> anyhow::Result<()> {
        let link = self.root.join(by_expiry(&entry.hash, entry.known.until));
        let at = || link.display().to_string();
        if let Some(folder) = link.parent() {
            make_folders(folder)?;
        }
        match fs::hard_link(path, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked.with_context(at),
        }
        let (is, should) =
            (fs::symlink_metadata(&link).with_context(at)?, fs::metadata(path).with_context(at)?);
        if (is.dev(), is.ino()) == (should.dev(), should.ino()) {
            return Ok(());
        }
        // A link to a file that was damaged, and has been replaced.
        let draft = self.workshop.join(format!("{}.link", entry.hash));
        fs::hard_link(path, &draft).with_context(at)?;
        fs::rename(&draft, &link).with_context(at)
    }

    /// Everything to the disk.
    fn finish(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.workshop).with_context(|| self.workshop.display().to_string())?;
        let root = File::open(&self.root).with_context(|| self.root.display().to_string())?;
        rustix::fs::syncfs(&root).with_context(|| format!("sync {}", self.root.display()))
    }
}

/// Folders as Nitro's server makes them.
fn make_folders(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| path.display().to_string())
}

fn set_time(path: &Path, seconds: i128) -> Result<(), Unwritten> {
    let unkept =
        || Unwritten::Time(format!("no file of this system has the time {seconds}; use --layout by-expiry"));
    let time = match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => u64::try_from(-seconds)
            .ok()
            .and_then(|before| UNIX_EPOCH.checked_sub(Duration::from_secs(before))),
    };
    let time: SystemTime = time.ok_or_else(unkept)?;
    let set = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_modified(time)?;
        file.metadata()?.modified()
    };
    let kept = set().with_context(|| path.display().to_string())?;
    if kept == time { Ok(()) } else { Err(unkept()) }
}
