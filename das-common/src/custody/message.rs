//! What members ask each other, and what they answer. Bodies are opaque to the transport, which knows who sent them.
//!
//! Everything is answered from the own disk; nothing here makes a member ask another.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::evidence::{AuditQuestion, SignedAnswer};
use super::hello::Hello;
use super::statement::{MAX_LIST_BYTES, SignedList, StorageId};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Shard;

/// Most bytes of a question.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Most bytes of an answer without its batch or shard.
pub const MAX_RESPONSE_OVERHEAD: usize = 64 << 10;
/// Most bytes of an answer. A batch is at most half of it.
pub const MAX_RESPONSE_BYTES: usize = 128 << 20;
/// Most bytes of a published message: a list and its signature.
pub const MAX_GOSSIP_BYTES: usize = MAX_LIST_BYTES + 256;
/// Most lists of one answer.
pub const MAX_LISTS: usize = 8;
/// Most certificates of one message.
pub const MAX_CERTIFICATES: usize = 64;
/// Most buckets of one question.
pub const MAX_BUCKETS: usize = 512;
/// Most entries of a bucket in one answer.
pub const MAX_BUCKET_ENTRIES: usize = 4096;

pub use crate::wire::CertificateBytes;

/// A question of one member to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "made one at a time and never kept in numbers")]
pub enum PeerRequest {
    /// Who are you, what do you know of me?
    Hello(Hello),
    /// Lists of a storage id (anybody's), from a counter on.
    Lists {
        /// Whose.
        storage_id: StorageId,
        /// The first counter wanted.
        from: u64,
    },
    /// The shard that you hold.
    Shard {
        /// The batch.
        hash: DataHash,
        /// Under which coding.
        coding: CodingId,
    },
    /// The whole batch, from your own disk only.
    Whole {
        /// The batch.
        hash: DataHash,
    },
    /// A leaf of your shard.
    Audit(AuditQuestion),
    /// Digests of the certificates that you keep, by bucket of timeout.
    BucketDigests {
        /// How wide the buckets are.
        level: BucketLevel,
        /// The first bucket.
        first: u64,
        /// How many, at most [`MAX_BUCKETS`].
        count: u16,
    },
    /// What is in a bucket of the finest level.
    BucketEntries {
        /// The bucket.
        bucket: u64,
        /// Only what comes behind this one, by timeout and hash.
        after: Option<(u64, DataHash)>,
    },
    /// The certificates of these batches, if you have them; at most [`MAX_CERTIFICATES`].
    AskCertificates(Vec<DataHash>),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "made one at a time and never kept in numbers")]
pub enum PeerResponse {
    /// To a hello.
    Hello(Hello),
    /// Lists in the order of their counters.
    Lists {
        /// At most [`MAX_LISTS`].
        lists: Vec<SignedList>,
        /// Nothing below this counter is left to ask for: it was given here, or has ended and is gone.
        next: u64,
    },
    /// A shard; `None` where there is neither that nor the whole batch.
    Shard(Option<WireShard>),
    /// To a question for a shard: only the whole batch is here.
    OnlyWhole {
        /// The batch's length in bytes.
        data_length: u64,
    },
    /// A whole batch; `None` where there is none.
    Whole(Option<Vec<u8>>),
    /// A leaf.
    Audit(SignedAnswer),
    /// One digest for each bucket asked for.
    BucketDigests(Vec<BucketDigest>),
    /// Data hash and timeout of the certificates in a bucket, by timeout and hash; at most [`MAX_BUCKET_ENTRIES`].
    BucketEntries(Vec<(DataHash, u64)>),
    /// Certificates; at most [`MAX_CERTIFICATES`].
    Certificates(Vec<CertificateBytes>),
    /// Done; nothing to say.
    Done,
    /// Not now: ask again later.
    Busy,
}

/// What members publish to all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Gossip {
    /// A list of the publisher's own statements.
    List(SignedList),
}

impl Gossip {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, MAX_GOSSIP_BYTES>(bytes)
    }
}

/// How wide a bucket of timeouts is.
///
/// Members compare the hours first, then the minutes of those that differ, and only then what is in a minute: what that
/// costs is in proportion to what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BucketLevel {
    /// An hour.
    Hour,
    /// A minute.
    Minute,
}

impl BucketLevel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Minute];

    /// A bucket's width.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Hour => 3600,
            Self::Minute => 60,
        }
    }

    /// The bucket of a time, unix seconds.
    pub const fn bucket_of(self, time: u64) -> u64 {
        time / self.seconds()
    }

    /// The first second of a bucket.
    pub const fn begin(self, bucket: u64) -> u64 {
        bucket.saturating_mul(self.seconds())
    }
}

/// What a bucket holds, in short: equal sets give equal digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketDigest {
    /// How many.
    pub count: u64,
    /// The exclusive or of the keccak256 of every `data hash || u64 timeout`.
    pub sum: [u8; 32],
}

/// A [`Shard`] as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WireShard {
    /// Which shard.
    pub index: u8,
    /// The batch's length in bytes.
    pub data_length: u64,
    /// The shard's bytes.
    pub bytes: Vec<u8>,
    /// The path to the root.
    pub proof: Vec<[u8; 32]>,
}

impl PeerRequest {
    /// The request's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, MAX_REQUEST_BYTES>(bytes)
    }
}

impl PeerResponse {
    /// The response's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a response. `most` is how many bytes the answer to what was asked may have; see [`PeerRequest::answer_limit`].
    pub fn from_bytes(bytes: &[u8], most: usize) -> Result<Self, CodecError> {
        if bytes.len() > most {
            return Err(CodecError::TooLong { got: bytes.len(), limit: most });
        }
        codec::decode::<_, MAX_RESPONSE_BYTES>(bytes)
    }
}

impl PeerRequest {
    /// How many bytes an answer may have; `payload` is the greatest length of a batch or shard.
    pub fn answer_limit(&self, payload: usize) -> usize {
        match self {
            Self::Lists { .. } => MAX_LISTS * (MAX_LIST_BYTES + 128),
            Self::Shard { .. } | Self::Whole { .. } => payload.saturating_add(MAX_RESPONSE_OVERHEAD),
            Self::BucketEntries { .. } => MAX_BUCKET_ENTRIES * 48,
            _ => MAX_RESPONSE_OVERHEAD,
        }
    }
}

impl BucketDigest {
    /// Puts a batch in, or takes it out again.
    pub fn toggle(&mut self, hash: &DataHash, timeout: u64, held: bool) {
        let mut input = [0; 40];
        input[..32].copy_from_slice(hash.as_bytes());
        input[32..].copy_from_slice(&timeout.to_be_bytes());
        let mixed = crate::keccak::keccak256(&input);
        self.sum.iter_mut().zip(mixed).for_each(|(sum, byte)| *sum ^= byte);
        self.count = if held { self.count.wrapping_add(1) } else { self.count.wrapping_sub(1) };
    }
}

impl From<Shard> for WireShard {
    fn from(shard: Shard) -> Self {
        Self {
            index: shard.index,
            data_length: shard.data_length,
            bytes: shard.bytes.to_vec(),
            proof: shard.proof,
        }
    }
}

impl From<WireShard> for Shard {
    fn from(shard: WireShard) -> Self {
        Self {
            index: shard.index,
            data_length: shard.data_length,
            bytes: shard.bytes.into(),
            proof: shard.proof,
        }
    }
}
