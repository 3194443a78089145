//! `backup`: a copy of a node's database, while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use das_common::admin::{BackupRequest, BackupSummary};
use das_common::config::ByteSize;
use das_keys::storage_options::StorageKeyOptions;
use serde_json::json;

use super::home::{Home, HomeOptions};
use super::progress::{Meter, Shown};
use crate::tool::args;
use crate::tool::output::Answer;

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

das_common::options! {
    /// Options of `backup`.
    pub(crate) struct Options {
        ["Options"]
        /// Data directory of das-node, which may be running or not.
        data_dir: PathBuf,
        /// The folder that the backup becomes. It must not exist; the node writes it, so its user must be able to.
        to: PathBuf,
        /// An earlier backup of the same node on the same disk as --to. What has not changed since is linked and takes neither time
        /// nor room; each backup stays complete in itself.
        base: PathBuf,
        /// The program das-node, for when none is running; the one beside dastool, or of the PATH.
        das_node: PathBuf,
        /// Keys of what is encrypted at rest there (das-node's storage-encryption.*), for when no das-node is running.
        storage_encryption: StorageKeyOptions,
        /// Say on standard error how far it is.
        progress: bool = "true",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "backup",
    "Writes a backup of a das-node's database while it runs, or while it is stopped: `dastool backup --data-dir DIR --to \
     FOLDER`. The folder has that name when the backup is complete and on disk. No key is in it."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        ensure!(!options.to.as_os_str().is_empty(), "say where to with --to");
        let request = BackupRequest {
            to: absolute(&options.to)?,
            base: Some(&options.base)
                .filter(|base| !base.as_os_str().is_empty())
                .map(|b| absolute(b))
                .transpose()?,
        };
        let summary = crate::tool::block_on(back_up(&options, request))?;
        let text = format!(
            "{}: {} batches, {} bytes, {} of them linked from the earlier backup\n",
            options.to.display(),
            summary.batches,
            summary.bytes,
            summary.linked_bytes
        );
        Answer::new(options.json, text, &json!({ "to": options.to, "backup": summary }))
    })
}

/// The node may be in another folder than we are.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

async fn back_up(options: &Options, request: BackupRequest) -> anyhow::Result<BackupSummary> {
    let home = HomeOptions {
        data_dir: options.data_dir.clone(),
        das_node: options.das_node.clone(),
        min_free: ByteSize(0),
        keys: options.storage_encryption.clone(),
    };
    let home = Home::open(&home).await?;
    let meter = Arc::new(Meter::default());
    let shown = Shown::start("backup", Arc::clone(&meter), options.progress);
    let client = home.client.clone();
    let watch = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Ok(progress) = client.backup_progress().await {
                meter.set(progress.done, progress.of);
            }
        }
    });
    let made = home.client.back_up(&request).await;
    watch.abort();
    drop(shown);
    let closed = home.close().await;
    let made = made?;
    closed?;
    Ok(made)
}
