//! The data directory of a node, running or not.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use das_common::admin::{AboutNode, AdminClient, AdminError};
use das_common::config::ByteSize;
use das_common::fault;
use das_keys::storage_options::StorageKeyOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A node that was started here has so long to close its store.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

/// Where the node's data is, and how it is opened.
#[derive(Debug, Clone)]
pub(super) struct HomeOptions {
    pub(super) data_dir: PathBuf,
    pub(super) das_node: PathBuf,
    pub(super) min_free: ByteSize,
    pub(super) keys: StorageKeyOptions,
}

/// A way to the batches of a data directory.
pub(super) struct Home {
    pub(super) client: AdminClient,
    pub(super) about: AboutNode,
    /// Started here, and ends with its standard input.
    child: Option<Child>,
}

impl Home {
    /// Calls the node that runs there, or opens the store of one that does not.
    pub(super) async fn open(options: &HomeOptions) -> anyhow::Result<Self> {
        let target = fault::IMPORT_TARGET;
        ensure!(!options.data_dir.as_os_str().is_empty(), "name the node's data directory with --data-dir");
        ensure!(
            options.data_dir.is_dir(),
            "{}: {} is no directory; make it, or look for --data-availability.local-file-storage.data-dir of the node",
            target.code,
            options.data_dir.display()
        );
        let client = AdminClient::new(&options.data_dir);
        let child = match client.about().await {
            Ok(about) => return Ok(Self { client, about, child: None }),
            Err(AdminError::Connect { .. }) => start(options).await?,
            Err(error) => return Err(error).context(target.code),
        };
        let about = client.about().await.with_context(|| target.to_string())?;
        Ok(Self { client, about, child: Some(child) })
    }

    /// Lets the store of a node that is stopped be closed in order.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Some(mut child) = self.child else { return Ok(()) };
        drop(child.stdin.take());
        let ended = tokio::time::timeout(CLOSE_WITHIN, child.wait()).await;
        let status = ended.context("the data directory was not closed in time")??;
        ensure!(
            status.success(),
            "the data directory was not closed in order; what was taken is on disk all the same"
        );
        Ok(())
    }
}

async fn start(options: &HomeOptions) -> anyhow::Result<Child> {
    let program = das_node(&options.das_node);
    let mut child = Command::new(&program)
        .arg("maintain")
        .arg("--data-dir")
        .arg(&options.data_dir)
        .arg("--min-free")
        .arg(options.min_free.to_string())
        .args(options.keys.to_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(false)
        .spawn()
        .with_context(|| cannot_start(&program))?;
    let Some(stdout) = child.stdout.take() else { bail!("{} has no standard output", program.display()) };
    let line = BufReader::new(stdout).lines().next_line().await?;
    if line.is_some_and(|line| line.starts_with("das-node ready:")) {
        return Ok(child);
    }
    let status = child.wait().await?;
    bail!(
        "{}: the store in {} could not be opened ({status}); the reason is above",
        fault::IMPORT_TARGET.code,
        options.data_dir.display()
    )
}

pub(super) fn cannot_start(program: &Path) -> String {
    format!(
        "{}: cannot start {} (say where it is with --das-node)",
        fault::IMPORT_TARGET.code,
        program.display()
    )
}

/// The program: as named, or the one beside this, or the one of the PATH.
pub(super) fn das_node(named: &Path) -> PathBuf {
    if !named.as_os_str().is_empty() {
        return named.to_owned();
    }
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name("das-node"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| "das-node".into())
}
