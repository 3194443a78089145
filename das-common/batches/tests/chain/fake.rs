//! A parent chain with a JSON-RPC server on loopback, for what no real one does on demand: batches posted in every way,
//! answers in any order, endpoints that forget, and reorganizations at every request.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, LogData, U256};
use alloy_sol_types::{SolCall, SolEvent};
use axum::extract::State;
use axum::routing::post;
use das_batches::types::Content;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::{Backoff, Endpoints, Settings};
use das_chain::reader::{Limits, Reader};
use das_common::alarm::Alarms;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

pub(crate) const CHAIN_ID: u64 = 4_242;
pub(crate) const INBOX: Address = Address::repeat_byte(0x1b);
/// Ways of posting, see [`World::post`].
pub(crate) const WAYS: u8 = 18;

#[derive(Clone)]
struct Transaction {
    hash: B256,
    to: Option<Address>,
    input: Bytes,
}

#[derive(Clone)]
pub(crate) struct FakeBlock {
    pub(crate) hash: B256,
    parent: B256,
    pub(crate) timestamp: u64,
    logs: Vec<(LogData, B256)>,
    transactions: Vec<Transaction>,
    /// Number, transaction, place of the event, content.
    pub(crate) batches: Vec<(u64, B256, u64, Content)>,
}

/// What the chain is now.
pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) blocks: Vec<FakeBlock>,
    gone: Vec<FakeBlock>,
    accumulator: B256,
    /// Whether logs come with times.
    pub(crate) tells_times: bool,
    /// One of so many requests fails; 0: none.
    pub(crate) fails_one_of: u32,
    /// The chain is reorganized at one of so many requests; 0: never.
    pub(crate) changes_one_of: u32,
    /// Transactions that the endpoint does not know.
    pub(crate) hidden: HashSet<B256>,
    /// Requests by method; of logs of one block by the block's hash too.
    pub(crate) asked: HashMap<String, usize>,
}

pub(crate) struct Fake {
    pub(crate) world: Mutex<World>,
    under_way: AtomicUsize,
    /// Most requests that were under way at once.
    pub(crate) most: AtomicUsize,
}

fn hash(rng: &mut StdRng) -> B256 {
    B256::from(rng.random::<[u8; 32]>())
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            blocks: Vec::new(),
            gone: Vec::new(),
            accumulator: B256::ZERO,
            tells_times: true,
            fails_one_of: 0,
            changes_one_of: 0,
            hidden: HashSet::new(),
            asked: HashMap::new(),
        };
        world.mine(&[]);
        world
    }

    pub(crate) fn number_of_batches(&self) -> u64 {
        self.blocks.iter().map(|block| block.batches.len() as u64).sum()
    }

    /// A block with batches that are posted in these ways.
    pub(crate) fn mine(&mut self, ways: &[u8]) {
        let parent = self.blocks.last();
        let mut block = FakeBlock {
            hash: hash(&mut self.rng),
            parent: parent.map_or(B256::ZERO, |parent| parent.hash),
            timestamp: parent.map_or(1_000, |parent| parent.timestamp) + self.rng.random_range(0..3),
            logs: Vec::new(),
            transactions: Vec::new(),
            batches: Vec::new(),
        };
        let first = self.number_of_batches();
        for (number, way) in (first..).zip(ways) {
            self.post(&mut block, number, *way);
        }
        self.blocks.push(block);
    }

    fn post(&mut self, block: &mut FakeBlock, number: u64, way: u8) {
        let length = self.rng.random_range(150..300);
        let body: Vec<u8> = (0..length).map(|_| self.rng.random()).collect();
        let data = |header: u8| Bytes::from([&[header][..], &body].concat());
        let certificate = |header: u8| Content::Certificate(data(header).to_vec());
        let of = |content: &Bytes| Content::Data {
            header: content.first().copied(),
            length: content.len() as u64,
        };
        let unreadable = || Content::Unreadable(String::new());
        let call = |number: U256, data: &Bytes| {
            let call = Inbox::addSequencerL2BatchFromOriginCall {
                sequenceNumber: number,
                data: data.clone(),
                afterDelayedMessagesRead: U256::from(1),
                gasRefunder: Address::ZERO,
                prevMessageCount: U256::ZERO,
                newMessageCount: U256::ZERO,
            };
            Bytes::from(call.abi_encode())
        };
        let n = U256::from(number);
        let at = Some(INBOX);
        let nothing = Bytes::new();
        let delay_proof = || {
            let call = Inbox::addSequencerL2BatchFromOriginDelayProofCall {
                sequenceNumber: n,
                data: data(0x88),
                afterDelayedMessagesRead: U256::from(1),
                gasRefunder: Address::ZERO,
                prevMessageCount: U256::ZERO,
                newMessageCount: U256::ZERO,
                delayProof: Inbox::DelayProof {
                    beforeDelayedAcc: B256::ZERO,
                    delayedMessage: Inbox::DelayedMessage {
                        kind: 1,
                        sender: Address::ZERO,
                        blockNumber: 1,
                        timestamp: 1,
                        inboxSeqNum: U256::ZERO,
                        baseFeeL1: U256::ZERO,
                        messageDataHash: B256::ZERO,
                    },
                },
            };
            Bytes::from(call.abi_encode())
        };
        let too_long = Bytes::from(vec![0x88; das_batches::reading::MAX_CALLDATA_BYTES]);
        let (location, to, input, in_events, content) = match way {
            0 => (0, at, call(n, &data(0x88)), vec![], certificate(0x88)),
            1 => (0, at, call(n, &data(0x80)), vec![], certificate(0x80)),
            2 => (0, at, call(n, &data(0)), vec![], of(&data(0))),
            3 => (0, at, call(U256::MAX, &data(0x88)), vec![], certificate(0x88)),
            4 => (0, at, delay_proof(), vec![], certificate(0x88)),
            5 => (0, at, call(n, &nothing), vec![], of(&nothing)),
            // Nodes leave 0x90 alone, although a certificate's flag is set.
            6 => (0, at, call(n, &data(0x90)), vec![], of(&data(0x90))),
            7 => (1, Some(Address::ZERO), nothing.clone(), vec![data(0x88)], certificate(0x88)),
            8 => (1, Some(Address::ZERO), nothing.clone(), vec![data(0x20)], of(&data(0x20))),
            9 => (2, Some(Address::ZERO), nothing.clone(), vec![], Content::Nothing),
            10 => (3, at, nothing.clone(), vec![], Content::Blobs),
            11 => (0, Some(Address::ZERO), call(n, &data(0x88)), vec![], unreadable()),
            12 => (0, None, call(n, &data(0x88)), vec![], unreadable()),
            13 => (0, at, call(n + U256::from(1), &data(0x88)), vec![], unreadable()),
            14 => (0, at, Bytes::from_static(b"\x01\x02\x03\x04rest"), vec![], unreadable()),
            15 => (0, at, call(n, &data(0x88)).slice(..60), vec![], unreadable()),
            16 => (9, at, nothing.clone(), vec![], unreadable()),
            17 if self.rng.random_ratio(1, 2) => (0, at, call(n, &too_long), vec![], unreadable()),
            17 => (1, at, nothing.clone(), vec![data(0x88), data(0x88)], unreadable()),
            other => panic!("there is no way {other}"),
        };
        let transaction = hash(&mut self.rng);
        let index = block.logs.len() as u64;
        let before = std::mem::replace(&mut self.accumulator, hash(&mut self.rng));
        let delivered = Inbox::SequencerBatchDelivered {
            batchSequenceNumber: n,
            beforeAcc: before,
            afterAcc: self.accumulator,
            delayedAcc: B256::ZERO,
            afterDelayedMessagesRead: U256::from(number / 2),
            timeBounds: Inbox::TimeBounds {
                minTimestamp: number,
                maxTimestamp: number + 1,
                minBlockNumber: number + 2,
                maxBlockNumber: number + 3,
            },
            dataLocation: location,
        };
        block.logs.push((delivered.encode_log_data(), transaction));
        for data in in_events {
            let event = Inbox::SequencerBatchData { batchSequenceNumber: n, data };
            block.logs.push((event.encode_log_data(), transaction));
        }
        block.transactions.push(Transaction { hash: transaction, to, input });
        block.batches.push((number, transaction, index, content));
    }

    /// The newest blocks vanish.
    pub(crate) fn drop_blocks(&mut self, count: usize) {
        let left = self.blocks.len().saturating_sub(count).max(1);
        self.gone.extend(self.blocks.drain(left..));
    }

    /// Another chain, of one block.
    pub(crate) fn start_anew(&mut self) {
        self.gone.append(&mut self.blocks);
        self.mine(&[]);
    }

    pub(crate) fn mine_at_random(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let ways = self.rng.random_range(0..4);
            let ways: Vec<u8> = (0..ways).map(|_| self.rng.random_range(0..WAYS)).collect();
            self.mine(&ways);
        }
    }

    fn happen(&mut self) {
        if self.changes_one_of == 0 || !self.rng.random_ratio(1, self.changes_one_of) {
            return;
        }
        match self.rng.random_range(0..10) {
            0..5 => self.mine_at_random(1),
            5..9 => {
                let depth = self.rng.random_range(1..8);
                self.drop_blocks(depth);
                self.mine_at_random(depth);
            }
            _ => {
                let depth = self.rng.random_range(1..60);
                self.drop_blocks(depth);
            }
        }
    }

    fn find(&self, hash: B256) -> Option<(u64, &FakeBlock)> {
        let numbered = || (0u64..).zip(&self.blocks);
        numbered().find(|(_, block)| block.hash == hash)
    }

    fn block_json(&self, number: u64) -> Value {
        let Some(block) = self.blocks.get(number as usize) else { return Value::Null };
        json!({
            "number": format!("{number:#x}"),
            "hash": block.hash,
            "parentHash": block.parent,
            "timestamp": format!("{:#x}", block.timestamp),
        })
    }

    fn logs_json(&self, filter: &Value) -> Result<Value, String> {
        let last = self.blocks.len() as u64 - 1;
        let range = match filter.get("blockHash") {
            Some(hash) => {
                let hash = serde_json::from_value(hash.clone()).unwrap();
                let (number, _) = self.find(hash).ok_or("unknown block")?;
                number..=number
            }
            None => {
                let (from, to) = (quantity(&filter["fromBlock"]), quantity(&filter["toBlock"]));
                if from > last {
                    return Err("beyond the head".into());
                }
                from..=to.min(last)
            }
        };
        let events: BTreeSet<B256> = serde_json::from_value(filter["topics"][0].clone()).unwrap();
        let mut found = Vec::new();
        for number in range {
            let block = &self.blocks[number as usize];
            for (index, (log, transaction)) in block.logs.iter().enumerate() {
                if !events.contains(&log.topics()[0]) {
                    continue;
                }
                let mut log = json!({
                    "address": INBOX,
                    "topics": log.topics(),
                    "data": log.data,
                    "blockNumber": format!("{number:#x}"),
                    "blockHash": block.hash,
                    "transactionHash": transaction,
                    "logIndex": format!("{index:#x}"),
                    "removed": false,
                });
                if self.tells_times {
                    log["blockTimestamp"] = json!(format!("{:#x}", block.timestamp));
                }
                found.push(log);
            }
        }
        Ok(json!(found))
    }

    fn transaction_json(&self, hash: B256) -> Value {
        if self.hidden.contains(&hash) {
            return Value::Null;
        }
        let all = self.blocks.iter().flat_map(|block| block.transactions.iter().map(move |t| (block, t)));
        let found = all.into_iter().find(|(_, transaction)| transaction.hash == hash);
        found.map_or(Value::Null, |(block, transaction)| {
            json!({
                "hash": hash,
                "from": Address::ZERO,
                "to": transaction.to,
                "input": transaction.input,
                "blockHash": block.hash,
            })
        })
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        *self.asked.entry(method.to_owned()).or_default() += 1;
        self.happen();
        if self.fails_one_of > 0 && self.rng.random_ratio(1, self.fails_one_of) {
            return Err("rate limit".into());
        }
        match method {
            "eth_chainId" => Ok(json!(format!("{CHAIN_ID:#x}"))),
            "eth_getBlockByNumber" if params[0] == "latest" => {
                Ok(self.block_json(self.blocks.len() as u64 - 1))
            }
            "eth_getBlockByNumber" => Ok(self.block_json(quantity(&params[0]))),
            "eth_getBlockByHash" => {
                let hash = serde_json::from_value(params[0].clone()).unwrap();
                Ok(self.find(hash).map_or(Value::Null, |(number, _)| self.block_json(number)))
            }
            "eth_getLogs" => {
                if let Some(hash) = params[0].get("blockHash").and_then(Value::as_str) {
                    *self.asked.entry(hash.to_owned()).or_default() += 1;
                }
                self.logs_json(&params[0])
            }
            "eth_getTransactionByHash" => {
                Ok(self.transaction_json(serde_json::from_value(params[0].clone()).unwrap()))
            }
            other => Err(format!("no method {other}")),
        }
    }
}

fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

async fn serve(State(fake): State<Arc<Fake>>, request: bytes::Bytes) -> String {
    let request: Value = serde_json::from_slice(&request).unwrap();
    let method = request["method"].as_str().unwrap();
    let now = fake.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    fake.most.fetch_max(now, Ordering::SeqCst);
    let pause = rand::rng().random_range(0..3_000);
    tokio::time::sleep(Duration::from_micros(pause)).await;
    let answer = fake.world.lock().answer(method, &request["params"]);
    fake.under_way.fetch_sub(1, Ordering::SeqCst);
    let answer = match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": 1, "result": result }),
        Err(message) => json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32000, "message": message } }),
    };
    answer.to_string()
}

impl Fake {
    /// A chain, and a reader of it that reads logs in ranges of at most `range` blocks.
    pub(crate) async fn start(world: World, range: u64) -> (Arc<Self>, Reader, Alarms) {
        let (under_way, most) = Default::default();
        let fake = Arc::new(Self { world: Mutex::new(world), under_way, most });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/", post(serve)).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let alarms = Alarms::new();
        let settings = Settings {
            backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
            ..Settings::new(vec![url], CHAIN_ID)
        };
        let endpoints = Endpoints::new(settings, alarms.clone()).unwrap();
        let limits = Limits { blocks: range, ..Limits::default() };
        (fake, Reader::new(endpoints, limits), alarms)
    }
}
