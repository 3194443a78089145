//! Keys and records of the database. A record is a version byte, then bincode.

use alloy_primitives::{Address, B256};
use bincode::{Decode, Encode};
use das_chain::reader::BlockId;

use crate::types::{Content, Era, Payload, PostedBatch, TimeBounds};

const VERSION: u8 = 1;
/// Longest record: twice the longest data of a batch.
const MAX_RECORD_BYTES: usize = 2 * crate::reading::MAX_CALLDATA_BYTES;
/// Where a certificate has its data hash (spec section 4).
const DATA_HASH: std::ops::Range<usize> = 33..65;
/// Longest text that is kept of why something failed, in characters.
const MAX_TEXT_CHARS: usize = 500;

pub(super) fn encode(record: &impl Encode) -> Vec<u8> {
    let mut out = vec![VERSION];
    bincode::encode_into_std_write(record, &mut out, bincode::config::standard()).expect("writing to memory");
    out
}

/// The record; none: it is damaged, or of another version.
pub(super) fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let config = bincode::config::standard().with_limit::<MAX_RECORD_BYTES>();
    let (record, used) = bincode::decode_from_slice(rest, config).ok()?;
    (used == rest.len()).then_some(record)
}

/// `u32 era || u64 number`, of a batch, and of a time.
pub(super) fn era_key(era: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&era.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn split_era_key(key: &[u8]) -> Option<(u32, u64)> {
    let (era, number) = key.split_first_chunk()?;
    Some((u32::from_be_bytes(*era), u64::from_be_bytes(number.try_into().ok()?)))
}

/// `hash || u32 era || u64 number`.
pub(super) fn hash_key(hash: &[u8; 32], era: u32, number: u64) -> [u8; 44] {
    let mut key = [0; 44];
    key[..32].copy_from_slice(hash);
    key[32..].copy_from_slice(&era_key(era, number));
    key
}

/// `u32 era || u64 retry at || u64 number`.
pub(super) fn queue_key(era: u32, retry_at: u64, number: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..12].copy_from_slice(&era_key(era, retry_at));
    key[12..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn split_queue_key(key: &[u8]) -> Option<(u32, u64, u64)> {
    let (front, number) = key.split_last_chunk()?;
    let (era, retry_at) = split_era_key(front)?;
    Some((era, retry_at, u64::from_be_bytes(*number)))
}

/// What is followed, and how many there are.
#[derive(Debug, Clone, Copy, Default, Encode, Decode)]
pub(super) struct FollowingRecord {
    /// The era in force.
    pub(super) era: Option<u32>,
    /// Eras there ever were: the next one's id.
    pub(super) eras: u32,
    pub(super) batches: u64,
    pub(super) waiting: u64,
    pub(super) failing: u64,
}

#[derive(Debug, Clone, Encode, Decode)]
pub(super) struct EraRecord {
    pub(super) chain_id: u64,
    pub(super) genesis: [u8; 32],
    pub(super) inbox: [u8; 20],
    pub(super) start: u64,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
}

impl EraRecord {
    pub(super) fn into_era(self, id: u32) -> Era {
        Era {
            id,
            chain_id: self.chain_id,
            genesis: B256::from(self.genesis),
            inbox: Address::from(self.inbox),
            began: self.began,
            ended: self.ended,
        }
    }
}

#[derive(Debug, Clone, Encode, Decode)]
pub(super) enum ContentRecord {
    Certificate(Vec<u8>),
    Data { header: Option<u8>, length: u64 },
    Nothing,
    Blobs,
    Unreadable(String),
}

#[derive(Debug, Clone, Encode, Decode)]
pub(super) enum PayloadRecord {
    None,
    Waiting { attempts: u32, retry_at: u64, why: Option<String> },
    Fetched { length: u64 },
    Ignored { why: String },
}

#[derive(Debug, Clone, Encode, Decode)]
pub(super) struct BatchRecord {
    pub(super) block: u64,
    pub(super) block_hash: [u8; 32],
    timestamp: u64,
    pub(super) transaction: [u8; 32],
    log_index: u64,
    bounds: [u64; 4],
    after_delayed: u64,
    before_acc: [u8; 32],
    pub(super) after_acc: [u8; 32],
    content: ContentRecord,
    pub(super) payload: PayloadRecord,
}

impl From<&PostedBatch> for BatchRecord {
    fn from(batch: &PostedBatch) -> Self {
        let bounds = &batch.bounds;
        Self {
            block: batch.block.number,
            block_hash: batch.block.hash.0,
            timestamp: batch.timestamp,
            transaction: batch.transaction.0,
            log_index: batch.log_index,
            bounds: [bounds.min_timestamp, bounds.max_timestamp, bounds.min_block, bounds.max_block],
            after_delayed: batch.after_delayed,
            before_acc: batch.before_acc.0,
            after_acc: batch.after_acc.0,
            content: match &batch.content {
                Content::Certificate(bytes) => ContentRecord::Certificate(bytes.clone()),
                Content::Data { header, length } => ContentRecord::Data { header: *header, length: *length },
                Content::Nothing => ContentRecord::Nothing,
                Content::Blobs => ContentRecord::Blobs,
                Content::Unreadable(why) => ContentRecord::Unreadable(shortened(why)),
            },
            payload: (&batch.payload).into(),
        }
    }
}

impl From<&Payload> for PayloadRecord {
    fn from(payload: &Payload) -> Self {
        match payload {
            Payload::None => Self::None,
            Payload::Waiting { attempts, retry_at, why } => {
                Self::Waiting { attempts: *attempts, retry_at: *retry_at, why: why.as_deref().map(shortened) }
            }
            Payload::Fetched { length } => Self::Fetched { length: *length },
            Payload::Ignored { why } => Self::Ignored { why: shortened(why) },
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

impl BatchRecord {
    /// The data hash of the certificate, if it is one and long enough to have one.
    pub(super) fn data_hash(&self) -> Option<[u8; 32]> {
        match &self.content {
            ContentRecord::Certificate(bytes) => bytes.get(DATA_HASH)?.try_into().ok(),
            _ => None,
        }
    }

    pub(super) fn into_batch(self, era: u32, number: u64) -> PostedBatch {
        let [min_timestamp, max_timestamp, min_block, max_block] = self.bounds;
        PostedBatch {
            era,
            number,
            block: BlockId { number: self.block, hash: B256::from(self.block_hash) },
            timestamp: self.timestamp,
            transaction: B256::from(self.transaction),
            log_index: self.log_index,
            bounds: TimeBounds { min_timestamp, max_timestamp, min_block, max_block },
            after_delayed: self.after_delayed,
            before_acc: B256::from(self.before_acc),
            after_acc: B256::from(self.after_acc),
            content: match self.content {
                ContentRecord::Certificate(bytes) => Content::Certificate(bytes),
                ContentRecord::Data { header, length } => Content::Data { header, length },
                ContentRecord::Nothing => Content::Nothing,
                ContentRecord::Blobs => Content::Blobs,
                ContentRecord::Unreadable(why) => Content::Unreadable(why),
            },
            payload: match self.payload {
                PayloadRecord::None => Payload::None,
                PayloadRecord::Waiting { attempts, retry_at, why } => {
                    Payload::Waiting { attempts, retry_at, why }
                }
                PayloadRecord::Fetched { length } => Payload::Fetched { length },
                PayloadRecord::Ignored { why } => Payload::Ignored { why },
            },
        }
    }
}
