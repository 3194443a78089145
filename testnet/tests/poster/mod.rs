//! A committee, an aggregator that posts, and a dev chain with the real contract, for tests of posting.

// No test uses all of it, and helpers of tests fail like tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolEvent};
use bytes::Bytes;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::{Endpoints, Settings};
use das_chain::reader::{Limits, LogFilter, Reader};
use das_common::alarm::Alarms;
use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::keyset::Keyset;
use das_common::store_auth::{RequestDigest, StoreKey};
use das_testnet::chain::DevChain;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, unix_now};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::ServerProcess;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything takes; what is not there by then never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A batch stays for so long.
const RETENTION: u64 = 15 * 24 * 3600;

/// Everything that posting needs, on this machine.
pub(crate) struct World {
    pub(crate) chain: DevChain,
    pub(crate) network: Network,
    pub(crate) key: Arc<StoreKey>,
    pub(crate) aggregator: Option<ServerProcess>,
    pub(crate) home: TempDir,
    pub(crate) makes: BodyMaker,
    options: Vec<String>,
    /// The endpoint that the aggregator is told.
    pub(crate) node_url: String,
    /// All that was taken, in order.
    pub(crate) taken: Vec<Taken>,
}

/// A batch to be posted.
#[derive(Debug, Clone)]
pub(crate) struct PostRequest {
    pub(crate) message: Bytes,
    pub(crate) timeout: u64,
    pub(crate) after_delayed: u64,
    pub(crate) prev_count: u64,
    pub(crate) new_count: u64,
}

/// A batch that the aggregator said it has.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) id: u64,
    pub(crate) hash: DataHash,
    pub(crate) request: PostRequest,
}

impl World {
    /// Three members of which two must sign, the keyset and the poster known to the contract.
    pub(crate) async fn new(seed: u64, options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let plan = Plan { members: 3, honest: 2, shards: 1, base_port: 0 };
        let mut network = Network::open(home.path(), &plan).unwrap();
        let text = std::fs::read_to_string(network.poster_key_file()).unwrap();
        let key = Arc::new(StoreKey::from_hex(text.trim()).unwrap());
        let chain = DevChain::start().await.unwrap();
        let account = account_of(&key);
        give_ether(&chain, account, 100).await;
        chain.set_batch_poster(account, true).await.unwrap();
        let keyset = Committee::load(network.committee_file()).unwrap().keyset().to_bytes();
        chain.set_keyset(keyset).await.unwrap();
        // Reorganizations of tests do not reach what was set up.
        chain.mine(30).await.unwrap();
        for member in 0..3 {
            network.start(Who::Member(member)).unwrap();
        }
        let makes = BodyMaker::new(Arc::clone(&key), seed);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let node_url = chain.url().to_owned();
        let mut world =
            Self { node_url, chain, network, key, aggregator: None, home, makes, options, taken: Vec::new() };
        world.start_aggregator(&[]);
        world
    }

    /// How the aggregator is started.
    pub(crate) fn launch(&self, more: &[&str]) -> das_testnet::process::Launch {
        // One account posts, with one key.
        let file = self.network.poster_key_file();
        let own = ["--post.key.file".as_ref(), file.as_os_str()];
        let key = if more.iter().any(|option| option.starts_with("--post.key.")) { &[] } else { &own[..] };
        self.network
            .launch(Who::Aggregator)
            .args(["--parent-chain.node-url", &self.node_url, "--parent-chain.poll-interval", "100ms"])
            .args(["--parent-chain.sequencer-inbox-address", &self.chain.inbox().to_string()])
            .args(["--parent-chain.request-timeout", "2s", "--post.enable", "--post.resend-after", "1s"])
            .args(["--post.replace-after", "4s", "--post.min-tip-gwei", "1"])
            .arg("--data-dir")
            .arg(self.home.path().join("aggregator/own"))
            .args(&self.options)
            .args(more)
            .args(key)
    }

    pub(crate) fn start_aggregator(&mut self, more: &[&str]) {
        self.aggregator = Some(self.launch(more).start().unwrap());
    }

    pub(crate) fn kill_aggregator(&mut self) {
        if let Some(mut aggregator) = self.aggregator.take() {
            aggregator.kill().unwrap();
        }
    }

    pub(crate) fn account(&self) -> Address {
        account_of(&self.key)
    }

    /// The same members in another order, which makes another keyset: its file and the keyset.
    pub(crate) fn turned_committee(&self) -> (PathBuf, Keyset) {
        let text = std::fs::read_to_string(self.network.committee_file()).unwrap();
        let (head, members) = text.split_at(text.find("[[member]]").unwrap());
        let members: Vec<&str> = members.split("[[member]]").skip(1).collect();
        let turned: String =
            members.iter().rev().map(|member| format!("[[member]]\n{}\n", member.trim())).collect();
        let file = self.home.path().join("turned-committee.toml");
        std::fs::write(&file, format!("{head}{turned}")).unwrap();
        let keyset = Committee::load(&file).unwrap().keyset().clone();
        (file, keyset)
    }

    /// The next batch, continuing the last one that was taken.
    pub(crate) fn next_request(&mut self, size: usize) -> PostRequest {
        let mut message = self.makes.batch(size.max(1));
        message[0] = 0;
        let prev_count = self.taken.last().map_or(1, |last| last.request.new_count);
        PostRequest {
            message: Bytes::from(message),
            timeout: unix_now() + RETENTION,
            after_delayed: 0,
            prev_count,
            new_count: prev_count + 3,
        }
    }

    /// Hands a batch over; its status, or the error.
    pub(crate) fn hand(&self, request: &PostRequest, key: &StoreKey) -> Result<Value, String> {
        let numbers = [request.timeout, request.after_delayed, request.prev_count, request.new_count];
        let inbox = self.chain.inbox().into_array();
        let digest = RequestDigest::post_batch(self.chain.chain_id(), &inbox, numbers, &request.message);
        let quantity = |number: u64| json!(format!("{number:#x}"));
        self.call(
            "das_postBatch",
            &json!([
                const_hex::encode_prefixed(&request.message),
                quantity(request.timeout),
                quantity(request.after_delayed),
                quantity(request.prev_count),
                quantity(request.new_count),
                const_hex::encode_prefixed(key.sign(&digest)),
            ]),
        )
    }

    /// Hands a batch over that must be taken.
    pub(crate) fn post(&mut self, size: usize) -> u64 {
        let request = self.next_request(size);
        let status = self.hand(&request, &Arc::clone(&self.key)).unwrap();
        self.note(request, &status)
    }

    pub(crate) fn note(&mut self, request: PostRequest, status: &Value) -> u64 {
        let hash = DataHash::of(&request.message);
        let id = status["id"].as_u64().unwrap();
        assert_eq!(status["dataHash"], format!("0x{hash}"));
        self.taken.push(Taken { id, hash, request });
        id
    }

    /// A call of the aggregator.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        let aggregator = self.aggregator.as_ref().ok_or("not running")?;
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer =
            Connection::new(&aggregator.rpc_url()).and_then(|mut it| it.post_json(&[body.as_bytes()]));
        let answer: Value = serde_json::from_slice(&answer.map_err(|e| e.to_string())?.body).unwrap();
        match answer["error"]["message"].as_str() {
            Some(message) => Err(message.to_owned()),
            None => Ok(answer["result"].clone()),
        }
    }

    pub(crate) fn status(&self, id: u64) -> Value {
        self.call("das_batchStatus", &json!([format!("{id:#x}")])).unwrap()
    }

    pub(crate) fn stage(&self, id: u64) -> String {
        self.status(id)["stage"].as_str().unwrap().to_owned()
    }

    /// What the aggregator says of itself.
    pub(crate) fn status_page(&self) -> Value {
        let aggregator = self.aggregator.as_ref().unwrap();
        let answer = Connection::new(&aggregator.rest_url()).unwrap().get("/status").unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The codes of the aggregator's alarms.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let status = self.status_page();
        let alarms = status["alarms"].as_array().unwrap().iter();
        alarms.map(|alarm| alarm["code"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn has_alarm(&self, code: &str) -> bool {
        self.alarms().iter().any(|alarm| alarm == code)
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl FnMut() -> bool) -> Duration {
        das_testnet::custody::wait_until(PATIENCE, is_so).unwrap_or_else(|| {
            let states: Vec<Value> = self.taken.iter().map(|taken| self.status(taken.id)).collect();
            let output = self.aggregator.as_ref().map(ServerProcess::output).unwrap_or_default();
            let tail: Vec<&str> = output.lines().rev().take(40).collect();
            panic!("never came: {what}\n{states:#?}\n{:?}\n{tail:#?}", self.alarms());
        })
    }

    /// Makes everything final and checks that the chain has what was taken: all of it, in order, each once.
    pub(crate) async fn all_is_on_the_chain(&mut self) {
        let in_a_block = |world: &Self| {
            world.taken.iter().all(|taken| matches!(world.stage(taken.id).as_str(), "included" | "final"))
        };
        let world = &*self;
        world.until("every batch is in a block", || in_a_block(world));
        self.chain.mine(70).await.unwrap();
        let world = &*self;
        world.until("every batch is final", || {
            world.taken.iter().all(|taken| world.stage(taken.id) == "final")
        });
        let posted = posted(&self.chain).await;
        let expected: Vec<(u64, DataHash)> =
            self.taken.iter().enumerate().map(|(place, taken)| (place as u64, taken.hash)).collect();
        assert_eq!(posted, expected);
        for (place, taken) in self.taken.iter().enumerate() {
            let status = self.status(taken.id);
            assert_eq!(status["sequenceNumber"], place, "{status}");
            assert!(status["problem"].is_null(), "{status}");
        }
    }
}

/// Blocks are made only when the test says so, or for each transaction.
pub(crate) async fn set_automine(world: &World, on: bool) {
    world.chain.rpc().call::<Value>("evm_setAutomine", json!([on])).await.unwrap();
}

pub(crate) fn account_of(key: &StoreKey) -> Address {
    (*key.address().as_bytes()).into()
}

pub(crate) async fn give_ether(chain: &DevChain, account: Address, ether: u64) {
    let wei = U256::from(ether) * U256::from(10_u64.pow(18));
    chain.rpc().call::<Value>("anvil_setBalance", json!([account, wei])).await.unwrap();
}

/// What somebody else sends to the contract to post a batch, with counts that it does not look at.
pub(crate) fn post_call(number: u64, data: Vec<u8>) -> alloy_primitives::Bytes {
    let call = Inbox::addSequencerL2BatchFromOriginCall {
        sequenceNumber: U256::from(number),
        data: data.into(),
        afterDelayedMessagesRead: U256::ZERO,
        gasRefunder: Address::ZERO,
        prevMessageCount: U256::ZERO,
        newMessageCount: U256::ZERO,
    };
    call.abi_encode().into()
}

pub(crate) fn reader(chain: &DevChain) -> Reader {
    let settings = Settings::new(vec![chain.url().to_owned()], chain.chain_id());
    Reader::new(Endpoints::new(settings, Alarms::new()).unwrap(), Limits::default())
}

/// The batches of the contract: number and data hash, of the certificate or of the data itself.
pub(crate) async fn posted(chain: &DevChain) -> Vec<(u64, DataHash)> {
    let reader = reader(chain);
    let filter = LogFilter::events(chain.inbox(), &[Inbox::SequencerBatchDelivered::SIGNATURE_HASH]);
    let head = reader.head().await.unwrap().number;
    let mut found = Vec::new();
    let mut from = 0;
    while from <= head {
        let read = reader.logs(&filter, from, head, None).await.unwrap();
        from = read.through.number + 1;
        for log in read.logs {
            let event = log.decode::<Inbox::SequencerBatchDelivered>().unwrap();
            let transaction = reader.transaction(log.transaction).await.unwrap().unwrap();
            let call = Inbox::addSequencerL2BatchFromOriginCall::abi_decode(&transaction.input).unwrap();
            let hash = match Certificate::parse_as_nitro(&call.data) {
                Ok(certificate) => certificate.data_hash,
                Err(_) => DataHash::of(&call.data),
            };
            found.push((event.batchSequenceNumber.saturating_to(), hash));
        }
    }
    found
}

/// The transactions of the newest blocks, oldest first, each with its place counted from `depth` blocks below the head.
pub(crate) async fn transactions_of(chain: &DevChain, depth: u64) -> Vec<(alloy_primitives::Bytes, u64)> {
    let head = chain.head().await.unwrap();
    let mut all = Vec::new();
    for place in 0..depth {
        let number = head + 1 + place - depth;
        let block: Value =
            chain.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await.unwrap();
        for hash in block["transactions"].as_array().unwrap() {
            let hash: B256 = hash.as_str().unwrap().parse().unwrap();
            all.push((chain.raw_transaction(hash).await.unwrap(), place));
        }
    }
    all
}
