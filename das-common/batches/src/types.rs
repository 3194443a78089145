//! What is known of a posted batch, and who is asked for it.

use alloy_primitives::{Address, B256};
use das_chain::reader::BlockId;
use das_common::data_hash::DataHash;

/// One chain's contract from the first block seen to its reset, if it was ever reset: batches of different eras may have
/// the same numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Era {
    /// Names it; later eras have higher numbers.
    pub id: u32,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Hash of the chain's block 0.
    pub genesis: B256,
    /// The contract.
    pub inbox: Address,
    /// When it was first seen (unix seconds).
    pub began: u64,
    /// When it was seen to be over (unix seconds); none: it is the one that is followed now.
    pub ended: Option<u64>,
}

/// The times and blocks that a batch's messages may name, by the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBounds {
    /// Unix seconds.
    pub min_timestamp: u64,
    /// Unix seconds. A certificate must reach 7 days further.
    pub max_timestamp: u64,
    /// Block number.
    pub min_block: u64,
    /// Block number.
    pub max_block: u64,
}

/// What a batch consists of on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A certificate, header byte first, exactly as posted: the payload is at the committee.
    Certificate(Vec<u8>),
    /// The payload itself or something else that is no certificate.
    Data {
        /// Says what it is; none when there is not even that.
        header: Option<u8>,
        /// Bytes, the header byte among them.
        length: u64,
    },
    /// No data at all, by the contract (location 2).
    Nothing,
    /// The data is in blobs (location 3).
    Blobs,
    /// The chain says that there is data, and it could not be made out.
    Unreadable(String),
}

/// What became of a certificate's payload here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// There is nothing to fetch: no certificate.
    None,
    /// To be fetched.
    Waiting {
        /// Tries that failed.
        attempts: u32,
        /// Not before (unix seconds).
        retry_at: u64,
        /// Why the last try failed.
        why: Option<String>,
    },
    /// Fetched and verified.
    Fetched {
        /// Bytes.
        length: u64,
    },
    /// Nodes take the batch for an empty one: its certificate is not valid, or its timeout is too early.
    Ignored {
        /// What is wrong with it.
        why: String,
    },
}

/// A batch as it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedBatch {
    /// The era whose chain it is on.
    pub era: u32,
    /// Its place in the contract's sequence.
    pub number: u64,
    /// The block that has it.
    pub block: BlockId,
    /// That block's time (unix seconds).
    pub timestamp: u64,
    /// The transaction that posted it.
    pub transaction: B256,
    /// Place of its event among the logs of the block.
    pub log_index: u64,
    /// By the contract.
    pub bounds: TimeBounds,
    /// Delayed messages that are read with it and before.
    pub after_delayed: u64,
    /// The contract's accumulator before it.
    pub before_acc: B256,
    /// The contract's accumulator with it.
    pub after_acc: B256,
    /// What was posted.
    pub content: Content,
    /// What became of its payload here.
    pub payload: Payload,
}

/// How far the chain has been followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The era in force; none before the first block was read.
    pub era: Option<u32>,
    /// The last block whose logs were read.
    pub at: Option<BlockId>,
    /// The chain's newest block, as last heard.
    pub head: Option<u64>,
    /// Batches known in this era.
    pub batches: u64,
    /// Of them, those whose payload waits to be fetched.
    pub waiting: u64,
    /// Of those, the ones for which a try has failed.
    pub failing: u64,
}

/// The chain cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// It last answered then (unix seconds).
    pub since: u64,
    /// What the last try came to, without secrets: it is shown to everybody.
    pub why: String,
}

/// Why the index could not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database failed.
    #[error("the index of batches cannot be read or written: {0}")]
    Database(String),
    /// A record does not parse.
    #[error(
        "the index of batches is damaged at {key}: delete the folder {folder}, it is made anew from the chain"
    )]
    Damaged {
        /// Key, in hex.
        key: String,
        /// Where the database is.
        folder: String,
    },
}

/// Whoever knows the posted batches. Calls may read from disk; none of them reads more than what it returns.
pub trait Batches: Send + Sync + 'static {
    /// All eras, the newest first.
    fn eras(&self) -> Result<Vec<Era>, IndexError>;

    /// A batch by its number.
    fn batch(&self, era: u32, number: u64) -> Result<Option<PostedBatch>, IndexError>;

    /// Batches with numbers below one, the highest first; `None`: from the newest on.
    fn below(&self, era: u32, number: Option<u64>, limit: usize) -> Result<Vec<PostedBatch>, IndexError>;

    /// The number of the first batch of an era whose block is not older than a time (unix seconds).
    fn first_since(&self, era: u32, time: u64) -> Result<Option<u64>, IndexError>;

    /// Eras and numbers of batches whose certificate has this data hash, the newest first.
    fn with_data_hash(&self, hash: &DataHash, limit: usize) -> Result<Vec<(u32, u64)>, IndexError>;

    /// Eras and numbers of batches that a transaction posted, the newest first.
    fn of_transaction(&self, hash: &B256, limit: usize) -> Result<Vec<(u32, u64)>, IndexError>;

    /// How far the chain has been followed.
    fn progress(&self) -> Progress;

    /// That the chain cannot be read now; none: it answers, or nothing is known of it.
    fn away(&self) -> Option<Away> {
        None
    }
}
