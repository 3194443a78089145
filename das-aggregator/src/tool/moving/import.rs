//! `import`: batches from Nitro's data directory, or from REST servers, into a node's data directory.
//!
//! No journal: what is in the data directory already, and kept as long as it should be, is passed over by asking for its name,
//! thousands at a time. So an import that was ended at any moment, also by a crash of the machine, is simply run again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use das_common::admin::{AdminClient, AdminError, Form, Known, MAX_BATCH, PutAnswer};
use das_common::config::ByteSize;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_keys::storage_options::StorageKeyOptions;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Leftovers;
use super::home::{Home, HomeOptions};
use super::progress::{Meter, Shown};
use super::remote::{Remote, read_list};
use super::walk::{self, File, Found, walk};
use crate::tool::args;
use crate::tool::output::Answer;

/// What the reader of the source is ahead.
const AHEAD: usize = 2048;
/// Names that the node is asked about at once.
const NAMES: usize = 512;
/// A unit of memory.
const PAGE: u64 = 4096;

das_common::options! {
    /// Options of `import`.
    pub(crate) struct Options {
        ["From where"]
        /// Data directory of Nitro's server (local-file-storage.data-dir), of either layout; the server may be running.
        from: PathBuf,
        /// REST URLs of any members or mirrors, separated by commas: for the hashes given, and for what is damaged in --from.
        rest: Vec<String>,
        /// File with the hashes to fetch by --rest, one in a line, behind a blank the unix time until which to keep it if that
        /// is known; - is standard input. Hashes may be given as words too.
        hashes: PathBuf,

        ["To where"]
        /// Data directory of das-node, which may be running or not.
        data_dir: PathBuf,
        /// The program das-node, for when none is running; the one beside dastool, or of the PATH.
        das_node: PathBuf,
        /// Free space on the disk below which the import ends, for when no das-node is running.
        min_free: ByteSize = "64MiB",
        /// Keys of what is encrypted at rest there (das-node's storage-encryption.*), for when no das-node is running.
        storage_encryption: StorageKeyOptions,

        ["Until when"]
        /// Nitro's local-file-storage.max-retention: in its older layout a batch expires so long after the time of its file.
        retention: Duration = "504h0m0s",
        /// What nothing is known of is kept for so long.
        keep_for: Duration = "504h0m0s",
        /// What nothing is known of is kept until then (unix seconds), instead of for --keep-for.
        keep_until: u64 = "0",
        /// Leave out what has expired. Otherwise it is taken too, and a node with enable-expiry deletes it.
        skip_expired: bool = "false",

        ["How"]
        /// Batches that are read at once.
        parallel: usize = "8",
        /// Most memory for batches that are being moved.
        max_memory: ByteSize = "64MiB",
        /// How long to wait for each answer of --rest.
        timeout: Duration = "30s",
        /// Say on standard error how far it is.
        progress: bool = "true",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "import",
    "Takes batches over into the data directory of a das-node, running or not: `dastool import --from NITRO-DIR --data-dir DIR`, \
     or `dastool import --rest URL --hashes FILE --data-dir DIR`. Each is hashed against its name; its expiry comes with it. Run \
     it again after an interruption, or for what has come since: what is there is passed over. What does not verify is listed, \
     left alone, and makes the exit code 1."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=usize::MAX, |options: Options, words| {
        ensure!(
            !options.from.as_os_str().is_empty() || !options.rest.is_empty(),
            "{}: say what to import with --from or --rest",
            fault::IMPORT_SOURCE.code
        );
        ensure!(options.parallel > 0, "--parallel is 0, give at least 1");
        let words = words.iter().map(|word| word.parse::<DataHash>().with_context(|| format!("{word:?}")));
        let words: Vec<DataHash> = words.collect::<Result<_, _>>()?;
        let listed = !words.is_empty() || !options.hashes.as_os_str().is_empty();
        ensure!(
            !listed || !options.rest.is_empty(),
            "{}: hashes are fetched from servers; name them with --rest",
            fault::IMPORT_SOURCE.code
        );
        ensure!(
            listed || !options.from.as_os_str().is_empty(),
            "{}: name the hashes to fetch, with --hashes or as words: a server does not list what it has",
            fault::IMPORT_SOURCE.code
        );
        let json = options.json;
        let done = crate::tool::block_on(import(options, words))?;
        done.answer(json)
    })
}

async fn import(options: Options, words: Vec<DataHash>) -> anyhow::Result<Done> {
    let home = HomeOptions {
        data_dir: options.data_dir.clone(),
        das_node: options.das_node.clone(),
        min_free: options.min_free,
        keys: options.storage_encryption.clone(),
    };
    if !options.from.as_os_str().is_empty() {
        std::fs::read_dir(&options.from)
            .with_context(|| format!("{}: {}", fault::IMPORT_SOURCE.code, options.from.display()))?;
    }
    let remote = Remote::new(&options.rest, options.timeout)?;
    let home = Home::open(&home).await?;
    let meter = Arc::new(Meter::default());
    let shown = Shown::start("import", Arc::clone(&meter), options.progress);
    let import = Import {
        client: home.client.clone(),
        remote,
        now: crate::tool::now(),
        skip_expired: options.skip_expired,
        slots: Arc::new(Semaphore::new(options.parallel)),
        memory: Arc::new(Semaphore::new(pages(options.max_memory.0) as usize)),
        memory_pages: pages(options.max_memory.0),
        meter,
        done: Arc::default(),
        failed: Mutex::default(),
    };
    let import = Arc::new(import);
    let outcome = Arc::clone(&import).run(options, words).await;
    drop(shown);
    let closed = home.close().await;
    outcome?;
    closed?;
    let done = std::mem::take(&mut *import.done.lock());
    Ok(done)
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}

/// What came of it.
#[derive(Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    /// Batches that are new there, or whole again, or kept for longer.
    imported: u64,
    imported_bytes: u64,
    /// Passed over: they were there.
    present: u64,
    /// Left out with --skip-expired.
    expired: u64,
    /// Let go by a living server while it was read.
    gone: u64,
    /// What was damaged in the directory, and came from a server.
    mended: Leftovers,
    /// What does not verify.
    unverified: Leftovers,
    /// What is no batch.
    foreign: Leftovers,
}

impl Done {
    fn answer(&self, json: bool) -> anyhow::Result<Answer> {
        let mut text = format!(
            "{} batches imported ({} bytes), {} were there already",
            self.imported, self.imported_bytes, self.present
        );
        for (count, what) in [(self.expired, "had expired"), (self.gone, "were let go meanwhile")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text.push('\n');
        text += &self.foreign.text("Not batches, left alone");
        text += &self.mended.text("Damaged there, and fetched from a server");
        text += &self.unverified.text("NOT IMPORTED, left as they are");
        let good = self.unverified.count == 0;
        if !good {
            text += &format!("\n{}\n", fault::IMPORT_UNVERIFIED);
        }
        let mut answer = Answer::new(json, text, self)?;
        if !good {
            answer.json["code"] = json!(fault::IMPORT_UNVERIFIED.code);
        }
        answer.good = good;
        Ok(answer)
    }
}

/// A batch to be moved.
#[derive(Debug)]
struct Wanted {
    hash: DataHash,
    until: u64,
    /// Where it is; `None`: at the servers.
    file: Option<File>,
    /// Enough if it is there at all: `until` is a guess.
    any_end: bool,
    /// Nothing else counts for it, should it be there.
    counts: bool,
}

impl Wanted {
    fn what(&self) -> String {
        self.file.as_ref().map_or_else(|| format!("0x{}", self.hash), |file| file.path.display().to_string())
    }

    fn is_met_by(&self, known: &Known) -> bool {
        known.form != Form::Absent && (self.any_end || known.until >= self.until)
    }
}

/// A file that is not its batch.
#[derive(Debug, Clone, Copy)]
struct Failed {
    /// Device and inode.
    id: (u64, u64),
    /// When its link says that it expires.
    until: u64,
}

struct Import {
    client: AdminClient,
    remote: Remote,
    now: u64,
    skip_expired: bool,
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_pages: u32,
    meter: Arc<Meter>,
    done: Arc<Mutex<Done>>,
    /// Batches of which a file failed.
    failed: Mutex<HashMap<DataHash, Failed>>,
}

impl Import {
    async fn run(self: Arc<Self>, options: Options, words: Vec<DataHash>) -> anyhow::Result<()> {
        let (sender, mut source) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || read_source(&options, &words, &sender));
        let counted = Arc::clone(&self);
        let mut under_way = JoinSet::new();
        let mut wanted = Vec::with_capacity(NAMES);
        let mut chunk = Vec::with_capacity(NAMES);
        while source.recv_many(&mut chunk, NAMES).await > 0 {
            for item in chunk.drain(..) {
                match item {
                    Item::Total(bytes) => counted.meter.expect(bytes),
                    Item::EndOfLinks => {
                        self.move_all(&mut wanted, &mut under_way).await?;
                        while let Some(moved) = under_way.join_next().await {
                            moved??;
                        }
                    }
                    Item::Foreign(path, reason) => {
                        self.done.lock().foreign.add(path.display().to_string(), reason);
                    }
                    Item::Unusable(path, reason) => {
                        self.done.lock().unverified.add(path.display().to_string(), reason);
                    }
                    Item::Wanted(one) => wanted.extend(self.admit(one)),
                }
            }
            self.move_all(&mut wanted, &mut under_way).await?;
        }
        while let Some(moved) = under_way.join_next().await {
            moved??;
        }
        reader.await?
    }

    /// Sorts out what needs no question.
    fn admit(&self, mut wanted: Wanted) -> Option<Wanted> {
        if let (Some(file), true) = (&wanted.file, wanted.any_end)
            && let Some(failed) = self.failed.lock().get(&wanted.hash)
        {
            if failed.id == file.id {
                // The same file, which is in the list already.
                return None;
            }
            (wanted.until, wanted.any_end, wanted.counts) = (failed.until, false, true);
        }
        if self.skip_expired && !wanted.any_end && wanted.until < self.now {
            self.done.lock().expired += 1;
            self.count(&wanted);
            return None;
        }
        Some(wanted)
    }

    fn count(&self, wanted: &Wanted) {
        self.meter.add(wanted.file.as_ref().map_or(0, |file| file.weight));
    }

    /// Has what is not there moved; returns when the last of them is under way.
    async fn move_all(
        self: &Arc<Self>,
        wanted: &mut Vec<Wanted>,
        under_way: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let names: Vec<DataHash> = wanted.iter().map(|one| one.hash).collect();
        let known = self.client.known(&names).await?;
        for (one, known) in wanted.drain(..).zip(known) {
            if one.is_met_by(&known) {
                self.done.lock().present += u64::from(one.counts);
                self.count(&one);
                continue;
            }
            let bytes = one.file.as_ref().map_or(PAGE, |file| file.bytes);
            let share = pages(bytes).min(self.memory_pages);
            let memory = Arc::clone(&self.memory).acquire_many_owned(share).await?;
            let slot = Arc::clone(&self.slots).acquire_owned().await?;
            under_way.spawn(Arc::clone(self).move_one(one, memory, slot));
            while let Some(moved) = under_way.try_join_next() {
                moved??;
            }
        }
        Ok(())
    }

    async fn move_one(
        self: Arc<Self>,
        wanted: Wanted,
        _memory: OwnedSemaphorePermit,
        _slot: OwnedSemaphorePermit,
    ) -> anyhow::Result<()> {
        let Some(file) = &wanted.file else {
            match self.remote.fetch(&wanted.hash).await {
                Ok((batch, _)) => self.put(&wanted, batch.into_bytes()).await?.map_or_else(
                    || self.count(&wanted),
                    |reason| self.done.lock().unverified.add(wanted.what(), reason),
                ),
                Err(reason) => self.done.lock().unverified.add(wanted.what(), reason),
            }
            return Ok(());
        };
        let reason = match read(file.clone()).await? {
            Read::Bytes(bytes) => self.put(&wanted, bytes).await?,
            Read::Gone => {
                self.done.lock().gone += 1;
                self.count(&wanted);
                return Ok(());
            }
            Read::Failed(reason) => Some(reason),
        };
        self.count(&wanted);
        let Some(mut reason) = reason else { return Ok(()) };
        if self.remote.is_given() {
            match self.remote.fetch(&wanted.hash).await {
                Ok((batch, from)) => match self.put(&wanted, batch.into_bytes()).await? {
                    None => {
                        self.done.lock().mended.add(wanted.what(), format!("{reason}; fetched from {from}"));
                        return Ok(());
                    }
                    Some(other) => reason += &format!("; {from}: {other}"),
                },
                Err(error) => reason += &format!("; {error}"),
            }
        }
        self.failed.lock().insert(wanted.hash, Failed { id: file.id, until: wanted.until });
        self.done.lock().unverified.add(wanted.what(), reason);
        Ok(())
    }

    /// Gives it to the node; `Some`: why it is not what it should be. Everything else ends the import.
    async fn put(&self, wanted: &Wanted, bytes: Bytes) -> anyhow::Result<Option<String>> {
        let length = bytes.len() as u64;
        match self.client.put(&wanted.hash, wanted.until, bytes).await {
            Ok(PutAnswer::Written | PutAnswer::Mended | PutAnswer::Present) => {
                let mut done = self.done.lock();
                done.imported += 1;
                done.imported_bytes += length;
                Ok(None)
            }
            Err(AdminError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, refusal }) => {
                Ok(Some(refusal.error))
            }
            Err(error) => Err(error).with_context(|| {
                format!("{}; what was imported so far stays, run the same again to go on", wanted.what())
            }),
        }
    }
}

/// What a reader of sources says.
enum Item {
    Wanted(Wanted),
    Total(u64),
    EndOfLinks,
    Foreign(PathBuf, String),
    Unusable(PathBuf, String),
}

fn read_source(options: &Options, words: &[DataHash], sender: &mpsc::Sender<Item>) -> anyhow::Result<()> {
    let retention = options.retention.as_secs();
    if !options.from.as_os_str().is_empty() {
        // How much there is, is found out beside the work.
        let (root, counted) = (options.from.clone(), sender.clone());
        let counting = std::thread::spawn(move || {
            let mut total = 0;
            let _ = walk(&root, retention, &mut |found| {
                if let Found::Batch(file) | Found::Unlinked(file) = found {
                    total += file.weight;
                }
                !counted.is_closed()
            });
            let _ = counted.blocking_send(Item::Total(total));
        });
        walk(&options.from, retention, &mut |found| sender.blocking_send(item(found)).is_ok())
            .with_context(|| format!("{}: {}", fault::IMPORT_SOURCE.code, options.from.display()))?;
        if counting.join().is_err() {
            bail!("the files could not be counted");
        }
    }
    let guess = match options.keep_until {
        0 => crate::tool::now().saturating_add(options.keep_for.as_secs()),
        until => until,
    };
    let send = |(hash, until): (DataHash, Option<u64>)| {
        let (until, any_end) = (until.unwrap_or(guess), until.is_none());
        let wanted = Wanted { hash, until, file: None, any_end, counts: true };
        sender.blocking_send(Item::Wanted(wanted)).map_err(|_| anyhow::anyhow!("the import has ended"))
    };
    words.iter().try_for_each(|hash| send((*hash, None)))?;
    if !options.hashes.as_os_str().is_empty() {
        read_list(&options.hashes, send)?;
    }
    Ok(())
}

fn item(found: Found) -> Item {
    let wanted = |file: File, any_end, counts| {
        Item::Wanted(Wanted { hash: file.hash, until: file.expiry, file: Some(file), any_end, counts })
    };
    match found {
        Found::Batch(file) => wanted(file, false, true),
        // It was met before, but for those that came meanwhile.
        Found::Again(file) => wanted(file, false, false),
        Found::Unlinked(file) => {
            // One with links has counted by those.
            let has_no_links = file.weight > 0;
            wanted(file, true, has_no_links)
        }
        Found::EndOfLinks => Item::EndOfLinks,
        Found::Foreign { path, reason } => Item::Foreign(path, reason),
        Found::Unusable { path, reason } => Item::Unusable(path, reason),
    }
}

enum Read {
    Bytes(Bytes),
    Gone,
    Failed(String),
}

async fn read(file: walk::File) -> anyhow::Result<Read> {
    let read = move || {
        if file.bytes > MAX_BATCH as u64 {
            return Read::Failed(format!("{} bytes, the limit is {MAX_BATCH}", file.bytes));
        }
        match std::fs::read(&file.path) {
            Ok(bytes) => Read::Bytes(bytes.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Read::Gone,
            Err(error) => Read::Failed(format!("it cannot be read: {error}")),
        }
    };
    Ok(tokio::task::spawn_blocking(read).await?)
}
