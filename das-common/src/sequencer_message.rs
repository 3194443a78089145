//! Sequencer messages, and what a batch posted as a certificate stands for (spec section 9).
//!
//! ```text
//! u64 min timestamp || u64 max timestamp || u64 min block || u64 max block || u64 after delayed messages read || data
//! ```
//!
//! [`recover_as_nitro`] is consensus: every node of a chain must come to the same result, so it follows Nitro in what is
//! accepted, what is ignored, and in which order things are looked at.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::data_hash::{DataHash, Preimages, flat_hash, preimages};
use crate::keyset::{KeysetError, NitroKeyset};
use crate::wire::texts;

/// Bytes before the data.
pub const HEADER_BYTES: usize = 40;
/// A certificate must last so many seconds beyond the latest timestamp of its batch.
pub const MIN_LIFETIME: u64 = 7 * 24 * 3600;
/// Keysets remembered; a chain has one at a time.
const KEYSETS_REMEMBERED: u64 = 64;
/// Certificates of this version and above are for later software.
pub const FIRST_UNKNOWN_VERSION: u8 = 2;

/// A batch as the inbox of the parent chain has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencerMessage {
    /// Earliest time that the batch may claim (unix seconds).
    pub min_timestamp: u64,
    /// Latest.
    pub max_timestamp: u64,
    /// Earliest block of the parent chain.
    pub min_block: u64,
    /// Latest.
    pub max_block: u64,
    /// Delayed messages read once this batch is.
    pub after_delayed_messages_read: u64,
    /// A header byte, then a certificate (or, of other kinds, the batch itself).
    pub data: Bytes,
}

/// What is no sequencer message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("a sequencer message is at least {HEADER_BYTES} bytes long, not {got}")]
pub struct ShortMessage {
    /// Bytes there are.
    pub got: usize,
}

impl SequencerMessage {
    /// Reads a message.
    pub fn parse(bytes: &Bytes) -> Result<Self, ShortMessage> {
        let (numbers, _) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ShortMessage { got: bytes.len() })?;
        let number = |i: usize| u64::from_be_bytes(numbers.as_chunks::<8>().0[i]);
        Ok(Self {
            min_timestamp: number(0),
            max_timestamp: number(1),
            min_block: number(2),
            max_block: number(3),
            after_delayed_messages_read: number(4),
            data: bytes.slice(HEADER_BYTES..),
        })
    }

    /// Writes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [
            self.min_timestamp,
            self.max_timestamp,
            self.min_block,
            self.max_block,
            self.after_delayed_messages_read,
        ];
        let mut out: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        out.extend_from_slice(&self.data);
        out
    }
}

/// Where keysets are looked up.
pub trait KeysetSource {
    /// Why there is none.
    type Error: std::error::Error;

    /// The bytes of the keyset of this hash, which were checked to have it.
    fn keyset(&self, hash: &DataHash) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

/// Where payloads are read.
pub trait PayloadSource {
    /// Why there is none.
    type Error: std::error::Error;

    /// The bytes kept under this name. They are checked by whoever asks.
    fn payload(&self, hash: &DataHash) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// It stands for this payload.
    Payload(RecoveredPayload),
    /// Every node ignores it, and the chain goes on.
    Ignored(Ignored),
}

/// Why every node ignores a batch.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// Too short for a sequencer message.
    #[error(transparent)]
    Message(#[from] ShortMessage),
    /// No certificate, too few signers, or a signature that does not verify.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// For later software.
    #[error("the certificate is of version {version}: this software is out of date")]
    Version {
        /// The certificate's version.
        version: u8,
    },
    /// Its signers promise too little.
    #[error(
        "the certificate times out at {timeout}, less than a week after the batch's last timestamp {max_timestamp}"
    )]
    Timeout {
        /// The certificate's timeout.
        timeout: u64,
        /// The batch's last timestamp.
        max_timestamp: u64,
    },
}

/// A payload, and what its validators need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredPayload {
    /// The batch.
    pub payload: Bytes,
    keyset: Bytes,
    /// The flat hash, for a certificate of version 0.
    flat: Option<[u8; 32]>,
}

impl RecoveredPayload {
    /// Every hash that was made on the way, with what was hashed: as much again as the payload.
    pub fn preimages(&self) -> Preimages {
        let mut all = preimages(&self.keyset);
        match self.flat {
            None => all.extend(preimages(&self.payload)),
            Some(flat) => {
                let leaf = [&[0xfe], &flat[..]].concat();
                all.insert(flat_hash(&leaf), leaf);
                all.insert(flat, self.payload.to_vec());
            }
        }
        all
    }
}

/// Why it cannot be told what a batch stands for.
#[derive(Debug, Error)]
pub enum RecoveryError<K: std::error::Error, P: std::error::Error> {
    /// The keyset cannot be had; trying again may help.
    #[error(transparent)]
    KeysetUnavailable(K),
    /// What the chain has under the keyset's hash is none. Nodes know this text.
    #[error(
        "{}. Couldn't deserialize keyset, err: {source}, keyset hash: {keyset_hash} batch num: {batch}",
        texts::RECOVERY_INVALID
    )]
    Keyset {
        /// Names it.
        keyset_hash: DataHash,
        /// The batch's number.
        batch: u64,
        /// What is wrong.
        source: KeysetError,
    },
    /// The payload cannot be had; trying again may help.
    #[error(transparent)]
    PayloadUnavailable(P),
    /// What was read is another payload; trying again elsewhere may help.
    #[error("result does not match expected hash {expected}")]
    WrongPayload {
        /// The hash in the certificate.
        expected: DataHash,
    },
}

/// Keysets that were parsed and whose proofs were checked: they never change, and a proof takes longer than all else about
/// a batch. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct ParsedKeysets {
    check_proofs: bool,
    /// By the hash of their bytes.
    known: moka::sync::Cache<[u8; 32], Arc<NitroKeyset>>,
}

impl ParsedKeysets {
    /// None yet. `check_proofs`: whether the keys' proofs of possession are verified (nodes do).
    pub fn new(check_proofs: bool) -> Self {
        Self { check_proofs, known: moka::sync::Cache::new(KEYSETS_REMEMBERED) }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Arc<NitroKeyset>, KeysetError> {
        let name = flat_hash(bytes);
        if let Some(keyset) = self.known.get(&name) {
            return Ok(keyset);
        }
        let keyset = Arc::new(NitroKeyset::parse_from(bytes, !self.check_proofs)?);
        self.known.insert(name, Arc::clone(&keyset));
        Ok(keyset)
    }
}

impl Default for ParsedKeysets {
    /// As nodes do it.
    fn default() -> Self {
        Self::new(true)
    }
}

/// What a batch of the chain stands for, exactly as every node sees it.
pub async fn recover_as_nitro<K: KeysetSource, P: PayloadSource>(
    batch: u64,
    message: &Bytes,
    keysets: &K,
    payloads: &P,
    parsed: &ParsedKeysets,
) -> Result<Recovered, RecoveryError<K::Error, P::Error>> {
    let message = match SequencerMessage::parse(message) {
        Ok(message) => message,
        Err(short) => return Ok(Recovered::Ignored(short.into())),
    };
    let certificate = match Certificate::parse_as_nitro(&message.data) {
        Ok(certificate) => certificate,
        Err(error) => return Ok(Recovered::Ignored(error.into())),
    };
    if certificate.version >= FIRST_UNKNOWN_VERSION {
        return Ok(Recovered::Ignored(Ignored::Version { version: certificate.version }));
    }
    let keyset_hash = certificate.keyset_hash;
    let keyset_bytes = keysets.keyset(&keyset_hash).await.map_err(RecoveryError::KeysetUnavailable)?;
    let keyset =
        parsed.parse(&keyset_bytes).map_err(|source| RecoveryError::Keyset { keyset_hash, batch, source })?;
    if let Err(error) = certificate.verify_as_nitro(&keyset) {
        return Ok(Recovered::Ignored(error.into()));
    }
    let (timeout, max_timestamp) = (certificate.timeout, message.max_timestamp);
    // The sum wraps, as it does in every node.
    if timeout < max_timestamp.wrapping_add(MIN_LIFETIME) {
        return Ok(Recovered::Ignored(Ignored::Timeout { timeout, max_timestamp }));
    }
    let (payload, flat) = match certificate.version {
        0 => {
            let payload = flat_payload(&certificate.data_hash, payloads).await?;
            (payload, Some(*certificate.data_hash.as_bytes()))
        }
        _ => (tree_payload(&certificate.data_hash, payloads).await?, None),
    };
    Ok(Recovered::Payload(RecoveredPayload { payload, keyset: keyset_bytes, flat }))
}

type Found<K, P> = Result<Bytes, RecoveryError<K, P>>;

async fn tree_payload<K: std::error::Error, P: PayloadSource>(
    hash: &DataHash,
    payloads: &P,
) -> Found<K, P::Error> {
    let payload = payloads.payload(hash).await.map_err(RecoveryError::PayloadUnavailable)?;
    if DataHash::of(&payload) != *hash {
        return Err(RecoveryError::WrongPayload { expected: *hash });
    }
    Ok(payload)
}

/// A certificate of version 0 names the flat hash; servers keep the payload under the tree form of that, older ones
/// under the flat hash itself.
async fn flat_payload<K: std::error::Error, P: PayloadSource>(
    hash: &DataHash,
    payloads: &P,
) -> Found<K, P::Error> {
    let flat = *hash.as_bytes();
    let payload = match payloads.payload(&DataHash::of_flat(flat)).await {
        Ok(payload) => payload,
        Err(_) => payloads.payload(hash).await.map_err(RecoveryError::PayloadUnavailable)?,
    };
    if flat_hash(&payload) != flat {
        return Err(RecoveryError::WrongPayload { expected: *hash });
    }
    Ok(payload)
}

#[cfg(test)]
mod tests;
