//! Blocks, logs and transactions, with only those of their fields that are used: chains differ in the others.

use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_sol_types::SolEvent;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// A number as the block parameter of a call.
pub(super) fn by_number(number: u64) -> String {
    format!("{number:#x}")
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    U64::deserialize(deserializer).map(|number| number.to())
}

/// A block that is on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its number.
    #[serde(deserialize_with = "number")]
    pub number: u64,
    /// Names it.
    pub hash: B256,
    /// Names the one before.
    #[serde(rename = "parentHash")]
    pub parent: B256,
    /// Unix seconds. After a reorg they may repeat or go back.
    #[serde(deserialize_with = "number")]
    pub timestamp: u64,
}

/// A block by its place and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockId {
    /// Its number.
    pub number: u64,
    /// Names it.
    pub hash: B256,
}

impl Block {
    /// Its number and hash.
    pub fn id(&self) -> BlockId {
        BlockId { number: self.number, hash: self.hash }
    }
}

/// At which block a contract is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// After the newest and all transactions that the endpoint expects to come next.
    Pending,
    /// The one of that number.
    Number(u64),
    /// The one of that hash.
    Hash(B256),
}

impl At {
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::Latest => json!("latest"),
            Self::Pending => json!("pending"),
            Self::Number(number) => json!(by_number(number)),
            Self::Hash(hash) => json!({ "blockHash": hash }),
        }
    }
}

/// An event of a contract, in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// What it is and its indexed fields; at most 4.
    pub topics: Vec<B256>,
    /// Its other fields.
    pub data: Bytes,
    /// The block's number.
    pub block_number: u64,
    /// The block under which it was read.
    pub block_hash: B256,
    /// The transaction.
    pub transaction: B256,
    /// Its place in the block.
    pub index: u64,
    /// The block's time (unix seconds), where the endpoint tells it with the log.
    pub timestamp: Option<u64>,
}

impl Log {
    /// The event that it is, if it is that event.
    pub fn decode<E: SolEvent>(&self) -> Option<E> {
        (self.topics.first() == Some(&E::SIGNATURE_HASH))
            .then(|| E::decode_raw_log_validate(self.topics.iter().copied(), &self.data).ok())
            .flatten()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    transaction_hash: Option<B256>,
    log_index: Option<U64>,
    /// No part of the standard; most endpoints give it today.
    #[serde(default)]
    block_timestamp: Option<U64>,
    #[serde(default)]
    removed: bool,
}

impl RawLog {
    /// The log, if it is in a block.
    pub(crate) fn included(self) -> Option<Log> {
        Some(Log {
            address: self.address,
            block_number: self.block_number?.to(),
            block_hash: self.block_hash?,
            transaction: self.transaction_hash?,
            index: self.log_index?.to(),
            timestamp: self.block_timestamp.map(|time| time.to()),
            topics: Some(self.topics).filter(|topics| topics.len() <= 4 && !self.removed)?,
            data: self.data,
        })
    }
}

/// Which logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Of this contract.
    pub address: Address,
    /// Which are one of these events ([`SolEvent::SIGNATURE_HASH`]); empty: all.
    pub events: Vec<B256>,
    /// Whose first indexed field is this.
    pub topic1: Option<B256>,
}

impl LogFilter {
    /// These events of a contract.
    pub fn events(address: Address, events: &[B256]) -> Self {
        Self { address, events: events.to_vec(), topic1: None }
    }

    pub(super) fn takes(&self, log: &Log) -> bool {
        log.address == self.address
            && (self.events.is_empty() || log.topics.first().is_some_and(|topic| self.events.contains(topic)))
            && (self.topic1.is_none() || log.topics.get(1) == self.topic1.as_ref())
    }

    pub(super) fn to_json(&self, blocks: Value) -> Value {
        let events = if self.events.is_empty() { Value::Null } else { json!(self.events) };
        let topics = match self.topic1 {
            Some(topic) => json!([events, topic]),
            None => json!([events]),
        };
        super::merged(json!({ "address": self.address, "topics": topics }), blocks)
    }
}

/// A transaction, by what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Names it.
    pub hash: B256,
    /// Who signed it.
    pub from: Address,
    /// Whom it calls; none: it makes a contract.
    pub to: Option<Address>,
    /// Its calldata.
    pub input: Bytes,
    /// The block it is in.
    pub block_hash: Option<B256>,
}
