//! A dev chain with the parent chain's real contracts: anvil, and `SequencerInbox` behind its proxy.
//!
//! Both come from the npm packages that `testnet/chain/package-lock.json` names with their hashes; `scripts/test`
//! installs them. Nothing here goes to a network: what is missing is an error that says what installs it.
//!
//! Anvil signs for its own dev accounts, so that every call here is `eth_sendTransaction`.

mod parts;
mod proxy;
mod rpc;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolConstructor, SolValue, sol};
use das_chain::contract::SequencerInbox as Inbox;
use serde_json::{Value, json};

use crate::process::{Launch, ProcessError, ServerProcess};
use parts::Parts;
pub use proxy::{Behaviour, Proxy};
pub use rpc::DevRpc;

/// The chain id of a [`DevChain`] that was not told another.
pub const CHAIN_ID: u64 = 412_346;

const READY_WITHIN: Duration = Duration::from_secs(60);
/// A kept chain is written down this often, seconds: what a kill takes of it is no more than a reorganization.
const KEEP_EVERY: &str = "30";
const STATE: &str = "state.json";
/// The largest batch that the contract takes: Nitro's own setting.
const MAX_DATA_SIZE: u64 = 117_964;

/// Why the dev chain could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DevChainError {
    /// A part is not installed.
    #[error("the dev chain is not installed, scripts/test installs it (need_chain in scripts/lib.sh): there is no {}", path.display())]
    NotInstalled {
        /// What is missing.
        path: PathBuf,
    },
    /// A build artifact is not of the expected form.
    #[error("{} holds no bytecode", path.display())]
    Artifact {
        /// The artifact.
        path: PathBuf,
    },
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Anvil did not say where it listens.
    #[error("anvil did not listen within {READY_WITHIN:?}; it said:\n{output}")]
    NotReady {
        /// All it printed.
        output: String,
    },
    /// A file of its state.
    #[error("a temporary directory for anvil: {0}")]
    Io(#[from] std::io::Error),
    /// The call did not reach it or its answer made no sense.
    #[error("{method}: {reason}")]
    Call {
        /// The method.
        method: String,
        /// Why.
        reason: String,
    },
    /// Anvil reports an error.
    #[error("{method}: {error}")]
    Rpc {
        /// The method.
        method: String,
        /// The error object.
        error: Value,
    },
    /// A transaction was included and failed.
    #[error("transaction {hash} was reverted")]
    Reverted {
        /// Which.
        hash: B256,
    },
}

sol! {
    interface BridgeSetup {
        function initialize(address rollup) external;
        function setSequencerInbox(address inbox) external;
    }
    interface InboxSetup {
        struct MaxTimeVariation { uint256 delayBlocks; uint256 futureBlocks; uint256 delaySeconds; uint256 futureSeconds; }
        struct BufferConfig { uint64 threshold; uint64 max; uint64 replenishRateInBasis; }
        function initialize(address bridge, MaxTimeVariation variation, BufferConfig buffer, address pricer) external;
    }
    contract ERC1967Proxy { constructor(address implementation, bytes data); }
}

/// A running anvil with the contracts on it. Dropping it kills the process.
#[derive(Debug)]
pub struct DevChain {
    rpc: DevRpc,
    process: Option<ServerProcess>,
    parts: Parts,
    home: PathBuf,
    /// Of a chain that is not kept.
    _temporary: Option<tempfile::TempDir>,
    /// Where what it prints goes, if it is kept.
    log: Option<PathBuf>,
    port: u16,
    chain_id: u64,
    genesis_time: Option<u64>,
    owner: Address,
    poster: Address,
    inbox: Address,
}

impl DevChain {
    /// Starts anvil on a free port and deploys the contracts; account 0 owns them, account 1 is the batch poster and
    /// the sequencer. Every transaction makes a block until [`set_interval_mining`](Self::set_interval_mining).
    pub async fn start() -> Result<Self, DevChainError> {
        let mut chain = Self::start_bare(CHAIN_ID).await?;
        chain.deploy().await?;
        Ok(chain)
    }

    /// Starts anvil without any contract.
    pub async fn start_bare(chain_id: u64) -> Result<Self, DevChainError> {
        let temporary = tempfile::tempdir()?;
        let home = temporary.path().to_owned();
        Self::launched(Self::at(home, Some(temporary), None, 0, chain_id)?).await
    }

    /// Starts anvil on this port, without any contract, or with the chain that an earlier one left in the folder: all of
    /// it after an orderly end.
    pub async fn keep(home: &Path, port: u16) -> Result<Self, DevChainError> {
        std::fs::create_dir_all(home)?;
        let log = Some(home.join("log"));
        Self::launched(Self::at(home.to_owned(), None, log, port, CHAIN_ID)?).await
    }

    fn at(
        home: PathBuf,
        temporary: Option<tempfile::TempDir>,
        log: Option<PathBuf>,
        port: u16,
        chain_id: u64,
    ) -> Result<Self, DevChainError> {
        Ok(Self {
            rpc: DevRpc::new(String::new()),
            process: None,
            parts: Parts::find()?,
            home,
            _temporary: temporary,
            log,
            port,
            chain_id,
            genesis_time: None,
            owner: Address::ZERO,
            poster: Address::ZERO,
            inbox: Address::ZERO,
        })
    }

    async fn launched(mut chain: Self) -> Result<Self, DevChainError> {
        chain.launch(None).await?;
        let accounts: Vec<Address> = chain.rpc.call("eth_accounts", json!([])).await?;
        if let [owner, poster, ..] = accounts[..] {
            (chain.owner, chain.poster) = (owner, poster);
        }
        let genesis: Value = chain.rpc.call("eth_getBlockByNumber", json!(["0x0", false])).await?;
        chain.genesis_time = genesis["timestamp"].as_str().and_then(rpc::quantity);
        Ok(chain)
    }

    async fn launch(&mut self, genesis_time: Option<u64>) -> Result<(), DevChainError> {
        let mut launch = Launch::new("anvil")
            .program(self.parts.anvil())
            .args(["--port", &self.port.to_string(), "--chain-id", &self.chain_id.to_string()])
            .arg("--state")
            .arg(self.home.join(STATE))
            .own_group();
        if let Some(log) = &self.log {
            launch = launch.args(["--state-interval", KEEP_EVERY]).log(log);
        }
        if let Some(time) = genesis_time {
            launch = launch.args(["--timestamp", &time.to_string()]);
        }
        let mut process = launch.begin()?;
        let deadline = Instant::now() + READY_WITHIN;
        self.port = loop {
            let output = process.output();
            let port = output.lines().find_map(|line| line.strip_prefix("Listening on 127.0.0.1:"));
            if let Some(port) = port.and_then(|port| port.trim().parse().ok()) {
                break port;
            }
            if Instant::now() > deadline || process.exit_status()?.is_some() {
                return Err(DevChainError::NotReady { output });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.process = Some(process);
        self.rpc = DevRpc::new(format!("http://127.0.0.1:{}", self.port));
        Ok(())
    }

    /// Its JSON-RPC URL, the same for as long as this value lives.
    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// For calls that have no helper here.
    pub fn rpc(&self) -> &DevRpc {
        &self.rpc
    }

    /// Its chain id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The address of `SequencerInbox` (of its proxy).
    pub fn inbox(&self) -> Address {
        self.inbox
    }

    /// The contracts' owner.
    pub fn owner(&self) -> Address {
        self.owner
    }

    /// The batch poster.
    pub fn poster(&self) -> Address {
        self.poster
    }

    /// Ends anvil, which writes its state down; its port refuses connections until [`resume`](Self::resume).
    pub fn stop(&mut self) -> Result<(), DevChainError> {
        if let Some(mut process) = self.process.take() {
            process.stop()?;
        }
        Ok(())
    }

    /// Starts anvil again at the same port, with its chain; of older blocks the contracts' state is gone, so that these
    /// blocks can neither be asked about it nor be reorganized.
    pub async fn resume(&mut self) -> Result<(), DevChainError> {
        self.launch(None).await
    }

    /// Starts anvil again at the same port with nothing but the same genesis block, to which [`reset`](Self::reset)
    /// then goes back too.
    pub async fn restart_empty(&mut self) -> Result<(), DevChainError> {
        self.stop()?;
        std::fs::remove_file(self.home.join(STATE))?;
        self.launch(self.genesis_time).await
    }

    /// Takes up the contract at this address, where a kept chain has one.
    pub async fn take_up(&mut self, inbox: Address) -> Result<bool, DevChainError> {
        let code: Bytes = self.rpc.call("eth_getCode", json!([inbox, "latest"])).await?;
        if !code.is_empty() {
            self.inbox = inbox;
        }
        Ok(!code.is_empty())
    }

    /// Asks the contract.
    pub async fn ask<C: SolCall>(&self, call: C) -> Result<C::Return, DevChainError> {
        let request = json!({ "to": self.inbox, "data": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.rpc.call("eth_call", json!([request, "latest"])).await?;
        C::abi_decode_returns(&answer)
            .map_err(|error| DevChainError::Call { method: C::SIGNATURE.into(), reason: error.to_string() })
    }

    /// Lets an account have so much ether.
    pub async fn set_ether(&self, account: Address, ether: u64) -> Result<(), DevChainError> {
        let wei = U256::from(ether) * U256::from(10_u64.pow(18));
        self.rpc.call::<Value>("anvil_setBalance", json!([account, wei])).await.map(|_| ())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::id)
    }

    /// Deploys the contracts and registers the batch poster.
    pub async fn deploy(&mut self) -> Result<(), DevChainError> {
        let owner = self.owner;
        let reader = self.create(self.parts.reader4844()?, &[]).await?;
        let rollup = self.create(self.parts.rollup_mock()?, &owner.abi_encode()).await?;
        let bridge_code = self.create(self.parts.bridge()?, &[]).await?;
        let settings = (U256::from(MAX_DATA_SIZE), reader, false, false).abi_encode_params();
        let inbox_code = self.create(self.parts.sequencer_inbox()?, &settings).await?;
        let bridge =
            self.create_proxy(bridge_code, BridgeSetup::initializeCall { rollup }.abi_encode()).await?;
        let setup = InboxSetup::initializeCall {
            bridge,
            variation: InboxSetup::MaxTimeVariation {
                delayBlocks: U256::from(5760),
                futureBlocks: U256::from(64),
                delaySeconds: U256::from(86_400),
                futureSeconds: U256::from(3600),
            },
            buffer: InboxSetup::BufferConfig { threshold: 0, max: 0, replenishRateInBasis: 0 },
            pricer: Address::ZERO,
        };
        self.inbox = self.create_proxy(inbox_code, setup.abi_encode()).await?;
        let wire = BridgeSetup::setSequencerInboxCall { inbox: self.inbox }.abi_encode();
        self.send(owner, Some(bridge), wire.into()).await?;
        self.set_batch_poster(self.poster, true).await?;
        self.set_sequencer(self.poster, true).await?;
        Ok(())
    }

    async fn create(&self, mut code: Vec<u8>, arguments: &[u8]) -> Result<Address, DevChainError> {
        code.extend_from_slice(arguments);
        let receipt = self.send(self.owner, None, code.into()).await?;
        receipt["contractAddress"].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            DevChainError::Call { method: "eth_sendTransaction".into(), reason: "no contract address".into() }
        })
    }

    async fn create_proxy(&self, implementation: Address, data: Vec<u8>) -> Result<Address, DevChainError> {
        let arguments = ERC1967Proxy::constructorCall { implementation, data: data.into() }.abi_encode();
        self.create(self.parts.proxy()?, &arguments).await
    }

    /// Sends a transaction and waits for its receipt.
    pub async fn send(
        &self,
        from: Address,
        to: Option<Address>,
        data: Bytes,
    ) -> Result<Value, DevChainError> {
        let hash = self.submit(from, to, data).await?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let receipt: Value = self.rpc.call("eth_getTransactionReceipt", json!([hash])).await?;
            match receipt["status"].as_str() {
                Some("0x1") => return Ok(receipt),
                Some(_) => return Err(DevChainError::Reverted { hash }),
                None if Instant::now() > deadline => {
                    let reason = format!("{hash} is not included after {READY_WITHIN:?}");
                    return Err(DevChainError::Call { method: "eth_getTransactionReceipt".into(), reason });
                }
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Sends a transaction and does not wait for it.
    pub async fn submit(
        &self,
        from: Address,
        to: Option<Address>,
        data: Bytes,
    ) -> Result<B256, DevChainError> {
        let transaction = json!({ "from": from, "to": to, "data": data });
        self.rpc.call("eth_sendTransaction", json!([transaction])).await
    }

    /// Sends a call of the inbox as its owner.
    pub async fn own(&self, call: impl SolCall) -> Result<Value, DevChainError> {
        self.send(self.owner, Some(self.inbox), call.abi_encode().into()).await
    }

    /// Grants or revokes the right to post batches.
    pub async fn set_batch_poster(&self, poster: Address, allowed: bool) -> Result<Value, DevChainError> {
        self.own(Inbox::setIsBatchPosterCall { poster, allowed }).await
    }

    /// Makes an address the sequencer, or no longer.
    pub async fn set_sequencer(&self, sequencer: Address, allowed: bool) -> Result<Value, DevChainError> {
        self.own(Inbox::setIsSequencerCall { sequencer, allowed }).await
    }

    /// Makes a keyset valid.
    pub async fn set_keyset(&self, bytes: Vec<u8>) -> Result<Value, DevChainError> {
        self.own(Inbox::setValidKeysetCall { keysetBytes: bytes.into() }).await
    }

    /// Makes a keyset invalid.
    pub async fn invalidate_keyset(&self, keyset: B256) -> Result<Value, DevChainError> {
        self.own(Inbox::invalidateKeysetHashCall { keyset }).await
    }

    /// Posts a batch as the batch poster: header byte and data as they go on the chain, one message more than before.
    pub async fn post_batch(&self, number: u64, data: Bytes) -> Result<Value, DevChainError> {
        let call = Inbox::addSequencerL2BatchFromOriginCall {
            sequenceNumber: U256::from(number),
            data,
            afterDelayedMessagesRead: U256::ZERO,
            gasRefunder: Address::ZERO,
            prevMessageCount: U256::from(number),
            newMessageCount: U256::from(number + 1),
        };
        self.send(self.poster, Some(self.inbox), call.abi_encode().into()).await
    }

    /// The newest block's number.
    pub async fn head(&self) -> Result<u64, DevChainError> {
        Ok(self.rpc.call::<U256>("eth_blockNumber", json!([])).await?.saturating_to())
    }

    /// Makes so many empty blocks.
    pub async fn mine(&self, blocks: u64) -> Result<(), DevChainError> {
        self.rpc.call::<Value>("anvil_mine", json!([blocks])).await.map(|_| ())
    }

    /// Makes a block every so many seconds instead of one for each transaction.
    pub async fn set_interval_mining(&self, seconds: u64) -> Result<(), DevChainError> {
        self.rpc.call::<Value>("evm_setIntervalMining", json!([seconds])).await.map(|_| ())
    }

    /// Replaces the newest `depth` blocks by others; `keep` are transactions that the new blocks hold again, each with
    /// its place (0 is the oldest of the new blocks).
    pub async fn reorg(&self, depth: u64, keep: &[(Bytes, u64)]) -> Result<(), DevChainError> {
        self.rpc.call::<Value>("anvil_reorg", json!([depth, keep])).await.map(|_| ())
    }

    /// The signed bytes of a transaction, for [`reorg`](Self::reorg).
    pub async fn raw_transaction(&self, hash: B256) -> Result<Bytes, DevChainError> {
        self.rpc.call("eth_getRawTransactionByHash", json!([hash])).await
    }

    /// Takes the newest `depth` blocks away.
    pub async fn rollback(&self, depth: u64) -> Result<(), DevChainError> {
        self.rpc.call::<Value>("anvil_rollback", json!([depth])).await.map(|_| ())
    }

    /// Begins another chain: another genesis block (its time is that of the call), and nothing else.
    pub async fn reset(&self) -> Result<(), DevChainError> {
        self.rpc.call::<Value>("anvil_reset", json!([])).await.map(|_| ())
    }
}
