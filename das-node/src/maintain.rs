//! Work on the data directory of a node that is stopped: what `dastool` starts when no node answers there.
//!
//! - `das-node maintain` opens the store and serves the socket alone, until its standard input ends: with the `dastool` that
//!   started it, however that ends.
//! - `das-node restore` makes a data directory from a backup, or checks one. It prints a line of JSON now and then, how far it is
//!   (`{"progress"}`), and at its end what it came to (`{"restored"}` or `{"failed"}`).

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use das_common::admin::Progress;
use das_common::config::{ByteSize, Inputs, Outcome, Problem, Program, Replaced, load};
use das_common::fault::{self, Coded, Fault};
use das_common::options;
use das_common::telemetry::{LogFormat, LogLevel, init_logging};
use das_keys::storage_options::StorageKeyOptions;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, bind, serve};
use crate::storage::backup::{Damaged, Manifest, Meter, Verified, restore, verify_backup};
use crate::storage::sealing::{Keyring, name_of};
use crate::storage::{BatchStore, StorageError, StorageOptions};

/// The store of a node, or of an earlier run of this, that is just ending is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
const LOCK_LOOK: Duration = Duration::from_millis(50);
/// Requests in flight have so long to end.
const GRACE: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// The most damaged batches that are named.
const MAX_NAMED: usize = 1000;

options! {
    /// Options of `das-node maintain`.
    pub struct MaintainOptions {
        ["Options"]
        /// The data directory.
        data_dir: PathBuf,
        /// Free space on the disk below which nothing is taken.
        min_free: ByteSize = "64MiB",
        /// Size of one file of batches.
        segment_size: ByteSize = "128MiB",
        /// The keys of what is encrypted at rest.
        storage_encryption: StorageKeyOptions,
    }
}

options! {
    /// Options of `das-node restore`.
    pub struct RestoreOptions {
        ["Options"]
        /// The backup.
        from: PathBuf,
        /// The data directory to make, without a database in it. Left out: the backup is checked only.
        data_dir: PathBuf,
        /// A folder to be made for the check alone, and removed after it.
        scratch: PathBuf,
        /// The keys of what is encrypted in the backup; what is under others is not read.
        storage_encryption: StorageKeyOptions,
    }
}

macro_rules! program {
    ($options:ty, $name:literal, $about:literal) => {
        impl Program for $options {
            const NAME: &'static str = concat!("das-node ", $name);
            const ABOUT: &'static str = $about;
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const REPLACED: &'static [Replaced] = &[];

            fn check(&self) -> Vec<Problem> {
                self.storage_encryption.problems()
            }
        }
    };
}

program!(
    MaintainOptions,
    "maintain",
    "Opens the store of a stopped node for dastool, which starts this by itself, until its standard input ends."
);
program!(
    RestoreOptions,
    "restore",
    "Makes a data directory from a backup, or checks a backup. dastool restore starts this."
);

/// The program named by the first argument, if it is one of these.
pub fn run() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let word = args.next()?;
    let rest = args.collect();
    match word.to_str()? {
        "maintain" => Some(with(rest, |options| maintain(&options))),
        "restore" => Some(with(rest, |options| restore_or_verify(&options))),
        _ => None,
    }
}

fn with<T: Program>(args: Vec<OsString>, run: impl FnOnce(T) -> ExitCode) -> ExitCode {
    match load::<T>(&Inputs { args, env: std::env::vars_os().collect() }) {
        Ok(Outcome::Run(loaded)) => run(loaded.options),
        Ok(Outcome::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(errors) => complain(&errors.to_string()),
    }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may have gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "das-node: {text}");
    ExitCode::FAILURE
}

fn maintain(options: &MaintainOptions) -> ExitCode {
    if !options.data_dir.is_dir() {
        return complain("--data-dir: name the data directory of a node");
    }
    // A logger that cannot be set up has nothing to say about batches.
    let _ = init_logging(LogLevel::Warn, LogFormat::Plaintext, "", None);
    let keys = match keyring(&options.storage_encryption) {
        Ok(keys) => keys,
        Err(text) => return complain(&text),
    };
    let stdin = Stdin::watch();
    let store = match open(options, keys, &stdin) {
        Ok(Some(store)) => Arc::new(store),
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            let fault = error.fault();
            return complain(&format!("{}: {error}\n  to do: {}", fault.code, fault.cure));
        }
    };
    let served = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(until_stdin_ends(Arc::clone(&store), &options.data_dir, &stdin)),
        Err(error) => Err(error),
    };
    store.close();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{}: {error}", fault::IMPORT_TARGET.code)),
    }
}

/// The keys that the options name, or what to say.
fn keyring(options: &StorageKeyOptions) -> Result<Arc<Keyring>, String> {
    let said = |fault: &Fault, error: &dyn Display| {
        format!("{}: --storage-encryption: {error}\n  to do: {}", fault.code, fault.cure)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| said(fault::STORAGE_KEY_MALFORMED, &error))?;
    let keys = runtime.block_on(options.open(false)).map_err(|error| said(error.fault(), &error))?;
    let keys = Keyring::new(keys.active, keys.former);
    keys.map(Arc::new).map_err(|error| said(fault::STORAGE_KEY_MALFORMED, &error))
}

/// Whether whoever started this has gone.
struct Stdin {
    ended: watch::Receiver<bool>,
}

impl Stdin {
    fn watch() -> Self {
        let (sender, ended) = watch::channel(false);
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
            sender.send_replace(true);
        });
        Self { ended }
    }

    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    async fn end(&self) {
        // The sender goes only after it has said so.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Opens the store. `None`: whoever wanted it has gone, so that it is not kept from the next one.
fn open(
    options: &MaintainOptions,
    keys: Arc<Keyring>,
    stdin: &Stdin,
) -> Result<Option<BatchStore>, StorageError> {
    let storage = StorageOptions {
        directory: options.data_dir.clone(),
        segment_bytes: options.segment_size.0,
        reserve_bytes: options.min_free.0,
        keys,
    };
    let end = Instant::now() + LOCK_PATIENCE;
    while !stdin.has_ended() {
        match BatchStore::open(&storage) {
            Err(StorageError::Locked { .. }) if Instant::now() < end => std::thread::sleep(LOCK_LOOK),
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

async fn until_stdin_ends(store: Arc<BatchStore>, directory: &Path, stdin: &Stdin) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let listener = bind(directory)?;
    let admin = Admin::of_store(store, stop.clone());
    let served = tokio::spawn(serve(listener, directory.to_owned(), admin, GRACE));
    print(&format!("das-node ready: admin={}\n", directory.display()));
    tokio::select! {
        () = stdin.end() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    served.await.map_err(std::io::Error::other)?
}

fn restore_or_verify(options: &RestoreOptions) -> ExitCode {
    let keys = match keyring(&options.storage_encryption) {
        Ok(keys) => keys,
        Err(text) => return complain(&text),
    };
    let meter = Arc::new(Meter::default());
    let (sender, receiver) = channel();
    let (work, watched) = (options.clone(), Arc::clone(&meter));
    let worker = std::thread::spawn(move || {
        let outcome = if work.data_dir.as_os_str().is_empty() {
            let manifest = Manifest::read(&work.from);
            manifest.and_then(|manifest| {
                Ok((manifest, verify_backup(&work.from, &work.scratch, &keys, &watched)?))
            })
        } else {
            restore(&work.from, &work.data_dir, &keys, &watched).map(|done| (done.manifest, done.verified))
        };
        // The other end waits for it.
        let _ = sender.send(outcome);
    });
    let outcome = loop {
        match receiver.recv_timeout(REPORT_EVERY) {
            Ok(outcome) => break Some(outcome),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {
                let (done, of) = meter.read();
                line(&json!({ "progress": Progress { done, of } }));
            }
        }
    };
    let panicked = worker.join().is_err();
    match outcome {
        Some(Ok((manifest, verified))) => {
            line(&json!({ "restored": summary(&manifest, &verified) }));
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            let fault = error.fault();
            line(
                &json!({ "failed": { "code": fault.code, "error": error.to_string(), "cure": fault.cure } }),
            );
            ExitCode::FAILURE
        }
        None => {
            complain(if panicked { "the restore ended unexpectedly" } else { "the restore said nothing" })
        }
    }
}

fn line(value: &Value) {
    print(&format!("{value}\n"));
}

fn summary(manifest: &Manifest, verified: &Verified) -> Value {
    let name =
        |damaged: &Damaged| json!({ "hash": format!("0x{}", damaged.hash), "shard": damaged.is_shard });
    json!({
        "made": manifest.made,
        "version": manifest.version,
        "bytes": manifest.bytes(),
        "whole": verified.whole,
        "shards": verified.shards,
        "locked": verified.locked.values().sum::<u64>(),
        "lockedBy": verified.locked.keys().map(|key| name_of(*key)).collect::<Vec<_>>(),
        "damaged": verified.damaged.len(),
        "damagedBatches": verified.damaged.iter().take(MAX_NAMED).map(name).collect::<Vec<_>>(),
    })
}
