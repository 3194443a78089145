//! Audits, and what proves to anybody that a member did not keep its word.
//!
//! A bundle holds nothing but what the accused signed, so it is checked offline, with the accused's peer key and, for a
//! wrong root, the batch itself.

use bincode::{Decode, Encode};
use bytes::Bytes;
use thiserror::Error;

use super::codec::{self, CodecError};
use super::coding::Coding;
use super::statement::{
    ListError, PeerPublicKey, SignedList, Statement, StatementList, VerifiedList, verify_signature,
};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::{LEAF_BYTES, LeafProof, Root, ShardError};

/// Most bytes of a bundle.
pub const MAX_EVIDENCE_BYTES: usize = 2 << 20;
/// Most bytes of an audit's answer.
pub const MAX_ANSWER_BYTES: usize = LEAF_BYTES + 64 * 32 + 256;

const DOMAIN: &[u8] = b"das custody audit answer";

/// "Show me this leaf of your shard."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditQuestion {
    /// The batch.
    pub hash: DataHash,
    /// The coding of the statement.
    pub coding: CodingId,
    /// The leaf, from 0.
    pub leaf: u64,
}

/// The answer, in its signed form.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedAnswer {
    /// Version byte and bincode of an [`AuditAnswer`].
    pub body: Vec<u8>,
    /// Ed25519 over the domain and the body.
    pub signature: [u8; 64],
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditAnswer {
    /// What was asked.
    pub question: AuditQuestion,
    /// When it was answered, unix seconds.
    pub answered_at: u64,
    /// The leaf; `None` is "I do not have it".
    pub leaf: Option<Leaf>,
}

/// A [`LeafProof`] as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Leaf {
    /// Which shard.
    pub shard: u8,
    /// Which leaf.
    pub leaf: u64,
    /// The batch's length in bytes.
    pub data_length: u64,
    /// The leaf's bytes.
    pub bytes: Vec<u8>,
    /// The path to the root.
    pub path: Vec<[u8; 32]>,
}

/// What a member did not keep.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Evidence {
    /// It stated custody and could not show a leaf.
    FailedAudit {
        /// The statement.
        list: SignedList,
        /// The answer that shows nothing.
        answer: SignedAnswer,
    },
    /// It stated a root that the batch does not have.
    WrongRoot {
        /// The statement.
        list: SignedList,
        /// The batch.
        hash: DataHash,
    },
    /// It used one counter of one storage id for two lists.
    SameCounter {
        /// One.
        first: SignedList,
        /// The other.
        second: SignedList,
    },
}

/// The bundle proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotProved {
    /// The bytes.
    #[error("the bundle is {0}")]
    Codec(#[from] CodecError),
    /// A list.
    #[error("a list of the bundle does not hold: {0}")]
    List(#[from] ListError),
    /// The answer is not signed by this key.
    #[error("the answer is not signed by this peer key")]
    AnswerSignature,
    /// List and answer are about different things.
    #[error("the list has no statement about {hash} under the coding asked for")]
    OtherBatch {
        /// The batch.
        hash: DataHash,
    },
    /// The answer was given when the statement did not bind.
    #[error("answered at {answered_at}, but the statement binds from {from} to {until}")]
    OutOfTime {
        /// Unix seconds.
        answered_at: u64,
        /// Unix seconds.
        from: u64,
        /// Unix seconds.
        until: u64,
    },
    /// The committee given has another coding id.
    #[error("the statement is of coding {got}, the committee given has {expected}")]
    OtherCoding {
        /// The statement's.
        got: CodingId,
        /// The committee's.
        expected: CodingId,
    },
    /// The answer is right.
    #[error("the answer is right")]
    RightAnswer,
    /// A batch is needed to tell.
    #[error("the batch {hash} is needed to compute its root")]
    BatchNeeded {
        /// The batch.
        hash: DataHash,
    },
    /// The root is right.
    #[error("the root stated is the batch's own")]
    RightRoot,
    /// Different counters, storage ids, or the same list twice.
    #[error("the two lists do not contradict each other")]
    NoContradiction,
}

impl AuditAnswer {
    /// Signs it; `sign` is Ed25519 by the member's peer key over the bytes it is given.
    pub fn sign_with(&self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> SignedAnswer {
        let body = codec::encode(self);
        let signature = sign(&[DOMAIN, &body].concat());
        SignedAnswer { body, signature }
    }

    /// Whether it shows the leaf asked for of this member's shard.
    pub fn check(&self, coding: &Coding, index: u8, root: &Root) -> bool {
        let Some(leaf) = &self.leaf else { return false };
        let asked = leaf.leaf == self.question.leaf && leaf.shard == index;
        let code = coding.code().ok();
        asked && code.is_some_and(|code| leaf.to_proof().check(&code, root).is_ok())
    }
}

impl SignedAnswer {
    /// Checks form and signature.
    pub fn verify(&self, key: &PeerPublicKey) -> Result<AuditAnswer, NotProved> {
        let answer = codec::decode::<AuditAnswer, MAX_ANSWER_BYTES>(&self.body)?;
        verify_signature(key, &[DOMAIN, &self.body].concat(), &self.signature)
            .ok_or(NotProved::AnswerSignature)?;
        Ok(answer)
    }
}

impl Leaf {
    /// As it travels.
    pub fn of(proof: &LeafProof) -> Self {
        Self {
            shard: proof.shard,
            leaf: proof.leaf,
            data_length: proof.data_length,
            bytes: proof.bytes.to_vec(),
            path: proof.path.clone(),
        }
    }

    /// To be checked.
    pub fn to_proof(&self) -> LeafProof {
        LeafProof {
            shard: self.shard,
            leaf: self.leaf,
            data_length: self.data_length,
            bytes: Bytes::copy_from_slice(&self.bytes),
            path: self.path.clone(),
        }
    }

    /// Checks it as [`LeafProof::check`] does.
    pub fn check(&self, coding: &Coding, root: &Root) -> Result<(), ShardError> {
        match coding.code() {
            Ok(code) => self.to_proof().check(&code, root),
            Err(_) => Err(ShardError::Index { got: self.shard, shards: 0 }),
        }
    }
}

impl Evidence {
    /// The bundle as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotProved> {
        Ok(codec::decode::<_, MAX_EVIDENCE_BYTES>(bytes)?)
    }

    /// Whether it proves that the holder of this peer key did not keep its word. `batch` is needed for a wrong root only,
    /// and must have been checked against its hash.
    pub fn verify(
        &self,
        key: &PeerPublicKey,
        coding: &Coding,
        batch: Option<&[u8]>,
    ) -> Result<(), NotProved> {
        match self {
            Self::FailedAudit { list, answer } => {
                let list = list.clone().verify(key)?;
                let answer = answer.verify(key)?;
                let question = answer.question;
                let statement = statement_about(&list, coding, &question.hash)?;
                if list.list().coding != question.coding {
                    return Err(NotProved::OtherBatch { hash: question.hash });
                }
                let (from, until) = (list.list().issued_at, statement.until);
                if !(from..=until).contains(&answer.answered_at) {
                    return Err(NotProved::OutOfTime { answered_at: answer.answered_at, from, until });
                }
                let right = answer.check(coding, list.list().member, &statement.root);
                if right { Err(NotProved::RightAnswer) } else { Ok(()) }
            }
            Self::WrongRoot { list, hash } => {
                let list = list.clone().verify(key)?;
                let statement = statement_about(&list, coding, hash)?;
                let batch = batch.ok_or(NotProved::BatchNeeded { hash: *hash })?;
                let code = coding.code().map_err(|_| NotProved::BatchNeeded { hash: *hash })?;
                if code.root_of(batch) == statement.root { Err(NotProved::RightRoot) } else { Ok(()) }
            }
            Self::SameCounter { first, second } => {
                let (first, second) = (first.clone().verify(key)?, second.clone().verify(key)?);
                let place = |list: &StatementList| (list.storage_id, list.counter);
                let contradiction =
                    place(first.list()) == place(second.list()) && first.digest() != second.digest();
                if contradiction { Ok(()) } else { Err(NotProved::NoContradiction) }
            }
        }
    }
}

fn statement_about<'a>(
    list: &'a VerifiedList,
    coding: &Coding,
    hash: &DataHash,
) -> Result<&'a Statement, NotProved> {
    let list = list.list();
    if list.coding != coding.id {
        return Err(NotProved::OtherCoding { got: list.coding, expected: coding.id });
    }
    let found = list.entries.iter().find(|entry| entry.hash == *hash);
    found.ok_or(NotProved::OtherBatch { hash: *hash })
}
