//! What is on the chain: blocks, logs, transactions, and what contracts say.
//!
//! # What a range of logs guarantees
//! [`Reader::logs`] reads from one endpoint, which had the same last block (by hash) before and after; a log of one of
//! the newest blocks is of the block that this endpoint has at its height; and nothing comes back that was not asked
//! for. A range of one block is asked for by its hash. Whatever cannot be made sure of is [`ChainError::Unsettled`].
//!
//! Endpoints bound what they answer in ways of their own (10 blocks, 10 000 logs, seconds, megabytes). So the range is
//! halved as often as it is refused, and grows again slowly; each endpoint has its own.

mod chain_types;
mod ranges;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::endpoints::{Endpoints, OneEndpoint};
use crate::error::ChainError;
use crate::names;
pub(crate) use chain_types::RawLog;
use chain_types::by_number;
pub use chain_types::{At, Block, BlockId, Log, LogFilter, Transaction};
pub use ranges::Ranges;

const BLOCK_BY_NUMBER: &str = "eth_getBlockByNumber";
const BLOCK_BY_HASH: &str = "eth_getBlockByHash";
const GET_LOGS: &str = "eth_getLogs";
const CALL: &str = "eth_call";
const TRANSACTION: &str = "eth_getTransactionByHash";

/// Below this depth nodes behind one URL are taken to agree, and logs are not compared with their blocks one by one.
const SETTLED_DEPTH: u64 = 128;
const BLOCKS_AT_ONCE: usize = 8;

/// Bounds of reading logs.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most blocks of a range.
    pub blocks: u64,
    /// Most logs of a range; one block may not have more.
    pub logs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blocks: 2_000, logs: 10_000 }
    }
}

/// Logs of a range, complete up to a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsRead {
    /// The last block of the range that was read, which may end before the one asked for.
    pub through: Block,
    /// By block and place in it.
    pub logs: Vec<Log>,
}

/// Asks the endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    endpoints: Endpoints,
    limits: Limits,
    ranges: Arc<[Mutex<Ranges>]>,
}

impl Reader {
    /// Reads from these endpoints.
    pub fn new(endpoints: Endpoints, limits: Limits) -> Self {
        let ranges = (0..endpoints.count()).map(|_| Mutex::new(Ranges::new(limits.blocks))).collect();
        Self { endpoints, limits, ranges }
    }

    /// Whom it asks.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Block, ChainError> {
        let head = self.tagged("latest").await?;
        metrics::gauge!(names::HEAD).set(head.number as f64);
        Ok(head)
    }

    /// The newest block that is unlikely to go away. Endpoints of some chains do not know it.
    pub async fn safe(&self) -> Result<Block, ChainError> {
        self.tagged("safe").await
    }

    /// The newest block that stays. Endpoints of some chains do not know it.
    pub async fn finalized(&self) -> Result<Block, ChainError> {
        self.tagged("finalized").await
    }

    async fn tagged(&self, tag: &'static str) -> Result<Block, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let block: Option<Block> = one.request(BLOCK_BY_NUMBER, json!([tag, false])).await?;
                block.ok_or_else(|| one.malformed(BLOCK_BY_NUMBER, format!("it has no {tag} block")))
            })
            .await
    }

    /// The block of that number, if the chain is that long.
    pub async fn block(&self, number: u64) -> Result<Option<Block>, ChainError> {
        self.endpoints.on_one(|one| async move { block_at(&one, number).await }).await
    }

    /// The block of that hash, if the endpoint has it; it need not be on the chain any more.
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<Block>, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let block: Option<Block> = one.request(BLOCK_BY_HASH, json!([hash, false])).await?;
                match block {
                    Some(block) if block.hash != hash => Err(one.malformed(BLOCK_BY_HASH, "another block")),
                    block => Ok(block),
                }
            })
            .await
    }

    /// A transaction that is in a block.
    pub async fn transaction(&self, hash: B256) -> Result<Option<Transaction>, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let transaction: Option<Transaction> = one.request(TRANSACTION, json!([hash])).await?;
                match transaction {
                    Some(transaction) if transaction.hash != hash => {
                        Err(one.malformed(TRANSACTION, "another transaction"))
                    }
                    transaction => Ok(transaction.filter(|transaction| transaction.block_hash.is_some())),
                }
            })
            .await
    }

    /// A transaction that is in this block, by what was read before. [`ChainError::Lacks`]: no endpoint knows it there.
    pub async fn transaction_in(&self, hash: B256, block: BlockId) -> Result<Transaction, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let transaction: Option<Transaction> = one.request(TRANSACTION, json!([hash])).await?;
                match transaction {
                    Some(transaction) if transaction.hash != hash => {
                        Err(one.malformed(TRANSACTION, "another transaction"))
                    }
                    Some(transaction) if transaction.block_hash == Some(block.hash) => Ok(transaction),
                    _ => Err(ChainError::Lacks {
                        endpoint: one.label().to_owned(),
                        what: format!("transaction {hash} in block {}", block.number),
                    }),
                }
            })
            .await
    }

    /// The logs of one block, by place in it; the block need not be on the chain any more.
    pub async fn logs_of_block(&self, filter: &LogFilter, block: BlockId) -> Result<Vec<Log>, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let blocks = json!({ "blockHash": block.hash });
                let logs: Vec<RawLog> = one.request(GET_LOGS, json!([filter.to_json(blocks)])).await?;
                check_logs(&one, filter, block.number, block, logs)
            })
            .await
    }

    /// What a contract returns at a block. A revert is [`ChainError::Reverted`].
    pub async fn call<C: SolCall>(&self, to: Address, call: &C, at: At) -> Result<C::Return, ChainError> {
        let data = Bytes::from(call.abi_encode());
        let params = json!([{ "to": to, "data": data }, at.to_json()]);
        let result: Bytes = self.endpoints.request(CALL, params).await?;
        // An address without code returns nothing, whatever is asked.
        C::abi_decode_returns(&result).map_err(|_| ChainError::NoContract { address: to })
    }

    /// Logs of the blocks `from` to at most `to`, as far as one answer takes it. `below`, if given, must be on the same
    /// chain. Nothing is read when the chain ends before the range ([`ChainError::Beyond`]).
    pub async fn logs(
        &self,
        filter: &LogFilter,
        from: u64,
        to: u64,
        below: Option<BlockId>,
    ) -> Result<LogsRead, ChainError> {
        let to = to.max(from);
        self.endpoints
            .on_one(|one| async move {
                let ranges = &self.ranges[one.index()];
                loop {
                    let last = to.min(from.saturating_add(ranges.lock().window() - 1));
                    let size = last - from + 1;
                    match self.read_range(&one, filter, from, last, to, below).await {
                        Ok(read) => {
                            ranges.lock().worked(size);
                            return Ok(read);
                        }
                        Err(error) if error.may_be_the_range() && size > 1 => ranges.lock().refused(size),
                        Err(error) => {
                            // It may have taken too long for its size; the next try is not to fail of that again.
                            if matches!(error, ChainError::Failed { .. }) {
                                ranges.lock().refused(size);
                            }
                            return Err(error);
                        }
                    }
                }
            })
            .await
    }

    async fn read_range(
        &self,
        one: &OneEndpoint,
        filter: &LogFilter,
        from: u64,
        last: u64,
        newest: u64,
        below: Option<BlockId>,
    ) -> Result<LogsRead, ChainError> {
        let Some(through) = block_at(one, last).await? else {
            let head: Option<Block> = one.request(BLOCK_BY_NUMBER, json!(["latest", false])).await?;
            let head = head.map_or(0, |head| head.number);
            return Err(ChainError::Beyond { endpoint: one.label().to_owned(), asked: last, head });
        };
        if let Some(below) = below {
            expect_on_chain(one, below.number, below.hash).await?;
        }
        let blocks = match from == last {
            true => json!({ "blockHash": through.hash }),
            false => json!({ "fromBlock": by_number(from), "toBlock": by_number(last) }),
        };
        let logs: Vec<RawLog> = one.request(GET_LOGS, json!([filter.to_json(blocks)])).await?;
        if logs.len() > self.limits.logs {
            return Err(ChainError::TooLarge {
                endpoint: one.label().to_owned(),
                method: GET_LOGS,
                limit: format!("{} logs", self.limits.logs),
            });
        }
        let logs = check_logs(one, filter, from, through.id(), logs)?;
        let mut seen = BTreeMap::new();
        for log in &logs {
            if *seen.entry(log.block_number).or_insert(log.block_hash) != log.block_hash {
                return Err(ChainError::Unsettled { block: log.block_number });
            }
        }
        let recent = seen.into_iter().filter(|(number, _)| *number < last && newest - number < SETTLED_DEPTH);
        // Collected first: the requests then borrow nothing that is not `Send`.
        let recent: Vec<(u64, B256)> = recent.collect();
        stream::iter(recent.into_iter().map(|(number, hash)| expect_on_chain(one, number, hash)))
            .buffer_unordered(BLOCKS_AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        expect_on_chain(one, last, through.hash).await?;
        Ok(LogsRead { through, logs })
    }
}

async fn block_at(one: &OneEndpoint, number: u64) -> Result<Option<Block>, ChainError> {
    let block: Option<Block> = one.request(BLOCK_BY_NUMBER, json!([by_number(number), false])).await?;
    match block {
        Some(block) if block.number != number => {
            Err(one.malformed(BLOCK_BY_NUMBER, format!("block {} for {number}", block.number)))
        }
        block => Ok(block),
    }
}

async fn expect_on_chain(one: &OneEndpoint, number: u64, hash: B256) -> Result<(), ChainError> {
    match block_at(one, number).await? {
        Some(block) if block.hash == hash => Ok(()),
        _ => Err(ChainError::Unsettled { block: number }),
    }
}

/// The logs in order, if they are what was asked for.
fn check_logs(
    one: &OneEndpoint,
    filter: &LogFilter,
    from: u64,
    through: BlockId,
    logs: Vec<RawLog>,
) -> Result<Vec<Log>, ChainError> {
    let unwanted = |what: &str| one.malformed(GET_LOGS, format!("a log {what}"));
    let mut out = Vec::with_capacity(logs.len());
    for raw in logs {
        let log = raw.included().ok_or_else(|| unwanted("of no block"))?;
        if !(from..=through.number).contains(&log.block_number) {
            return Err(unwanted("outside the range"));
        }
        if !filter.takes(&log) {
            return Err(unwanted("that the filter does not take"));
        }
        if log.block_number == through.number && log.block_hash != through.hash {
            return Err(ChainError::Unsettled { block: through.number });
        }
        out.push(log);
    }
    out.sort_by_key(|log| (log.block_number, log.index));
    if out
        .windows(2)
        .any(|pair| (pair[0].block_number, pair[0].index) == (pair[1].block_number, pair[1].index))
    {
        return Err(unwanted("given twice"));
    }
    Ok(out)
}

/// Merges two JSON objects.
fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
