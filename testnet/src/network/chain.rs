//! The parent chain of a testnet: anvil with the real contract, kept in the data directory.

use std::fs;
use std::path::Path;

use alloy_primitives::{Address, B256};
use das_chain::contract::SequencerInbox as Inbox;
use das_common::committee::Committee;
use das_common::store_auth::StoreKey;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::files::{self, FilesError};
use super::{NetworkError, Plan, Ports, Settings};
use crate::chain::DevChain;

/// Folder of the chain, and of the mirror, in the data directory.
pub(super) const FOLDER: &str = "chain";
const SETTINGS: &str = "chain.toml";
/// A block each so many seconds.
const BLOCK_SECONDS: u64 = 1;
/// What the batch poster's account has at each start, ether.
const ETHER: u64 = 100;

/// What was chosen for the chain of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSettings {
    /// Port of the chain's JSON-RPC.
    pub node: u16,
    /// Port of the aggregator's explorer.
    pub explorer: u16,
    /// Ports of the mirror.
    pub mirror: Ports,
    /// Port of the mirror's explorer.
    pub mirror_explorer: u16,
    /// The contract, once it is deployed.
    pub sequencer_inbox: Option<Address>,
}

/// A running chain on which committee and batch poster are known.
#[derive(Debug)]
pub struct LocalChain {
    chain: DevChain,
    runtime: Runtime,
    settings: ChainSettings,
}

impl LocalChain {
    /// Starts the chain of a directory, with everything on it that the committee needs.
    pub(super) fn start(dir: &Path, plan: &Plan, committee: &Settings) -> Result<Self, NetworkError> {
        let home = dir.join(FOLDER);
        let settings_file = home.join(SETTINGS);
        let mut settings = match fs::read_to_string(&settings_file) {
            Ok(text) => toml::from_str(&text)
                .map_err(|e| FilesError::Form { path: settings_file.clone(), reason: e.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => choose(plan, committee)?,
            Err(source) => return Err(FilesError::Io { action: "read", path: settings_file, source }.into()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| FilesError::Io { action: "start work for", path: home.clone(), source })?;
        let chain = runtime.block_on(async {
            let mut chain = DevChain::keep(&home, settings.node).await?;
            let known = match settings.sequencer_inbox {
                Some(inbox) => chain.take_up(inbox).await?,
                None => false,
            };
            if !known {
                chain.deploy().await?;
                begin_anew(dir)?;
            }
            admit(&chain, dir).await?;
            chain.set_interval_mining(BLOCK_SECONDS).await?;
            Ok::<_, NetworkError>(chain)
        })?;
        settings.sequencer_inbox = Some(chain.inbox());
        let text = toml::to_string(&settings).expect("the settings are numbers and an address");
        files::write(&settings_file, &text, 0o644)?;
        Ok(Self { chain, runtime, settings })
    }

    /// Its JSON-RPC URL.
    pub fn url(&self) -> &str {
        self.chain.url()
    }

    /// The contract.
    pub fn sequencer_inbox(&self) -> Address {
        self.chain.inbox()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.chain.pid()
    }

    /// What was chosen for it.
    pub fn settings(&self) -> &ChainSettings {
        &self.settings
    }

    /// The newest block's number, and how many batches the contract has.
    pub fn progress(&self) -> Result<(u64, u64), NetworkError> {
        self.runtime.block_on(async {
            let head = self.chain.head().await?;
            Ok((head, self.chain.ask(Inbox::batchCountCall {}).await?.saturating_to()))
        })
    }

    /// Makes so many empty blocks at once.
    pub fn mine(&self, blocks: u64) -> Result<(), NetworkError> {
        Ok(self.runtime.block_on(self.chain.mine(blocks))?)
    }

    /// Replaces the newest blocks by empty ones.
    pub fn reorg(&self, depth: u64) -> Result<(), NetworkError> {
        Ok(self.runtime.block_on(self.chain.reorg(depth, &[]))?)
    }

    pub(super) fn stop(&mut self) -> Result<(), NetworkError> {
        Ok(self.chain.stop()?)
    }
}

fn choose(plan: &Plan, committee: &Settings) -> Result<ChainSettings, FilesError> {
    // Beside the aggregator's, and in the place of a further member.
    let more =
        |ports: &Ports, offset| if plan.base_port == 0 { files::free_port() } else { Ok(ports.rpc + offset) };
    let mirror = files::choose_ports(plan, committee.members.len() + 1)?;
    Ok(ChainSettings {
        node: more(&committee.aggregator, 5)?,
        explorer: more(&committee.aggregator, 4)?,
        mirror_explorer: more(&mirror, 4)?,
        mirror,
        sequencer_inbox: None,
    })
}

/// Another chain with the same id and, since it was deployed alike, the same contract: a queue of batches to be posted to
/// the one before would wait for ever, so it is put aside. What indexes the chain finds out by itself.
fn begin_anew(dir: &Path) -> Result<(), FilesError> {
    let queue = dir.join(files::AGGREGATOR_DATA).join("post");
    if !queue.exists() {
        return Ok(());
    }
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let aside = queue.with_file_name(format!("post-until-{since}"));
    fs::rename(&queue, &aside).map_err(|source| FilesError::Io { action: "put aside", path: queue, source })
}

/// The contract knows keyset and batch poster, and the poster can pay.
async fn admit(chain: &DevChain, dir: &Path) -> Result<(), NetworkError> {
    let file = dir.join(files::POSTER_KEY);
    let form = |path: &Path, reason: String| FilesError::Form { path: path.to_owned(), reason };
    let key = StoreKey::from_hex(files::read(&file)?.trim()).map_err(|e| form(&file, e.to_string()))?;
    let poster = Address::from(*key.address().as_bytes());
    chain.set_ether(poster, ETHER).await?;
    if !chain.ask(Inbox::isBatchPosterCall { poster }).await? {
        chain.set_batch_poster(poster, true).await?;
    }
    let file = dir.join(files::COMMITTEE);
    let committee = Committee::load(&file).map_err(|e| form(&file, e.to_string()))?;
    let keyset = B256::from(*committee.keyset().hash().as_bytes());
    if !chain.ask(Inbox::isValidKeysetHashCall { keyset }).await? {
        chain.set_keyset(committee.keyset().to_bytes()).await?;
    }
    Ok(())
}
