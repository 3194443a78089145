//! Whom a gather asks, and what it says about those who answered wrongly.

use std::future::Future;

use bytes::Bytes;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::{Root, Shard, ShardError};
use thiserror::Error;

/// The members as a gather sees them. A member's number is its index in the committee of the coding.
///
/// Both questions are answered by the member from its own disk only, never by asking further. What comes back is
/// trusted in nothing; an implementation bounds its length by what it accepts in one answer, and allocates nothing
/// because of a length that is only promised. A future that is dropped gives up its question.
pub trait ShardSource: Send + Sync + 'static {
    /// The member's own shard of a batch.
    fn shard(
        &self,
        member: usize,
        hash: DataHash,
        coding: CodingId,
    ) -> impl Future<Output = Result<Shard, SourceError>> + Send;

    /// The member's whole copy of a batch.
    fn whole(&self, member: usize, hash: DataHash)
    -> impl Future<Output = Result<Bytes, SourceError>> + Send;
}

/// Why a member gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SourceError {
    /// It says that it has the batch in no form.
    #[error("does not have it")]
    Absent,
    /// It says that it has the batch whole, and no shard of this coding.
    #[error("has it whole only")]
    OnlyWhole {
        /// The length of the batch in bytes, as it says.
        data_length: u64,
    },
    /// It answers, but not now: too many questions, or its disk fails.
    #[error("refused for now")]
    Refused,
    /// There is no connection to it.
    #[error("not connected")]
    Unreachable,
    /// The connection broke, or the time allowed for one answer was over.
    #[error("no answer")]
    NoAnswer,
    /// Its answer cannot be read.
    #[error("an answer that cannot be read")]
    Malformed,
}

/// A member answered with something that no honest member sends.
#[derive(Debug, Clone)]
pub struct Offence {
    /// Who.
    pub member: usize,
    /// What it was asked for.
    pub hash: DataHash,
    /// The coding it was asked for.
    pub coding: CodingId,
    /// What it did.
    pub kind: OffenceKind,
}

/// What a member did, with what it sent where that may serve as evidence.
#[derive(Debug, Clone)]
pub enum OffenceKind {
    /// A shard of a length or with a proof that no shard of its coding has.
    BadShard {
        /// What it sent.
        shard: Box<Shard>,
        /// What is wrong with it.
        error: ShardError,
    },
    /// Another member's shard.
    WrongIndex {
        /// What it sent.
        shard: Box<Shard>,
    },
    /// A shard of a batch longer than any that is taken.
    TooLong {
        /// The length it states for the batch, in bytes.
        data_length: u64,
    },
    /// A shard proved under a root that is not the batch's (flipped bits lead to one, too).
    WrongRoot {
        /// The root that it leads to.
        root: Root,
        /// What it sent.
        shard: Box<Shard>,
    },
    /// A whole copy that is not the batch.
    WrongBatch {
        /// How long it was, in bytes.
        length: usize,
    },
}

impl OffenceKind {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadShard { .. } => "bad-shard",
            Self::WrongIndex { .. } => "wrong-index",
            Self::TooLong { .. } => "too-long",
            Self::WrongRoot { .. } => "wrong-root",
            Self::WrongBatch { .. } => "wrong-batch",
        }
    }
}

/// Where offences are told: audits and evidence. Called from a task of the runtime; must not block.
pub trait OffenceSink: Send + Sync + 'static {
    /// Takes note.
    fn offence(&self, offence: Offence);
}

impl<F: Fn(Offence) + Send + Sync + 'static> OffenceSink for F {
    fn offence(&self, offence: Offence) {
        self(offence);
    }
}
