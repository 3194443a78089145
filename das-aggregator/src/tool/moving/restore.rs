//! `restore`: a data directory from a backup, or a check of a backup.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use das_common::admin::{Progress, Refusal};
use das_common::fault;
use das_keys::storage_options::StorageKeyOptions;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::Leftovers;
use super::home::{cannot_start, das_node};
use super::progress::{Meter, Shown};
use crate::tool::args;
use crate::tool::output::Answer;

das_common::options! {
    /// Options of `restore`.
    pub(crate) struct Options {
        ["Options"]
        /// The backup.
        from: PathBuf,
        /// The data directory to make. A directory that has a database is refused.
        data_dir: PathBuf,
        /// Only check the backup: its files against its manifest, every batch against its hash.
        verify_only: bool = "false",
        /// With --verify-only: where a folder for a copy of the index is made for a moment; the temporary directory otherwise.
        scratch: PathBuf,
        /// Keys of what is encrypted in the backup (das-node's storage-encryption.*): what is under others is restored and not
        /// checked.
        storage_encryption: StorageKeyOptions,
        /// The program das-node; the one beside dastool, or of the PATH.
        das_node: PathBuf,
        /// Say on standard error how far it is.
        progress: bool = "true",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "restore",
    "Makes a data directory from a backup and reads everything in it: `dastool restore --from FOLDER --data-dir DIR`; or checks \
     a backup with --verify-only. Batches that are damaged are listed and make the exit code 1; a member gets them from the \
     others."
);

/// What das-node says at the end.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Restored {
    made: u64,
    version: String,
    bytes: u64,
    whole: u64,
    shards: u64,
    locked: u64,
    locked_by: Vec<String>,
    damaged: u64,
    damaged_batches: Vec<DamagedBatch>,
}

#[derive(Debug, Deserialize, Serialize)]
struct DamagedBatch {
    hash: String,
    shard: bool,
}

/// A line of its output.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Progress(Progress),
    Restored(Restored),
    Failed(Refusal),
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        ensure!(!options.from.as_os_str().is_empty(), "say which backup with --from");
        let has_target = !options.data_dir.as_os_str().is_empty();
        ensure!(has_target || options.verify_only, "say where to with --data-dir, or give --verify-only");
        let done = crate::tool::block_on(restore(&options))?;
        let what = if options.verify_only { "checked" } else { "restored" };
        let mut text = format!(
            "{what}: the backup of {} (unix time), {} bytes: {} batches whole and {} shards are as they were written\n",
            done.made, done.bytes, done.whole, done.shards
        );
        if done.locked > 0 {
            let keys = done.locked_by.join(", ");
            let _ = writeln!(
                text,
                "NOT CHECKED: {} batches and shards, encrypted with the storage keys {keys}: give them with --storage-encryption.*",
                done.locked
            );
        }
        let mut damaged = Leftovers::default();
        for batch in &done.damaged_batches {
            damaged.add(&batch.hash, if batch.shard { "its shard" } else { "the batch" });
        }
        damaged.count = done.damaged;
        text += &damaged.text("DAMAGED");
        let mut answer = Answer::new(options.json, text, &done)?;
        answer.good = done.damaged == 0;
        if !answer.good {
            answer.json["code"] = json!(fault::BACKUP_DAMAGED.code);
        }
        Ok(answer)
    })
}

async fn restore(options: &Options) -> anyhow::Result<Restored> {
    let program = das_node(&options.das_node);
    let mut command = Command::new(&program);
    command.arg("restore").arg("--from").arg(&options.from).args(options.storage_encryption.to_args());
    // Removed when this ends, whatever becomes of the child.
    let mut scratch = None;
    if options.verify_only {
        let parent = Some(&options.scratch).filter(|path| !path.as_os_str().is_empty());
        let parent = parent.cloned().unwrap_or_else(std::env::temp_dir);
        let name = format!("dastool-restore-{}-{:08x}", std::process::id(), rand::random::<u32>());
        command.arg("--scratch").arg(parent.join(&name));
        scratch = Some(parent.join(name));
    } else {
        command.arg("--data-dir").arg(&options.data_dir);
    }
    let meter = Arc::new(Meter::default());
    let shown = Shown::start("restore", Arc::clone(&meter), options.progress);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| cannot_start(&program))?;
    let Some(stdout) = child.stdout.take() else { bail!("{} has no standard output", program.display()) };
    let mut lines = BufReader::new(stdout).lines();
    let mut last = None;
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line) {
            Ok(Line::Progress(progress)) => meter.set(progress.done, progress.of),
            Ok(line) => last = Some(line),
            Err(error) => bail!("{} says {line:?}: {error}", program.display()),
        }
    }
    let status = child.wait().await?;
    drop(shown);
    if let Some(scratch) = scratch {
        // Gone already, unless the child was ended.
        let _ = std::fs::remove_dir_all(scratch);
    }
    match last {
        Some(Line::Restored(done)) => Ok(done),
        Some(Line::Failed(refusal)) => {
            let cure = fault::find(&refusal.code).map_or("", |fault| fault.cure);
            bail!("{}: {}\n  to do: {cure}", refusal.code, refusal.error)
        }
        _ => bail!("{} ended ({status}) without a word", program.display()),
    }
}
