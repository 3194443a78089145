//! Whom the explorer asks for what the index does not know: keysets, names, payloads.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use das_chain::keysets::{ChainKeyset, KeysetReadError, KeysetStore, Keysets};
use das_common::bls::{NitroPublicKey, POINT_BYTES};
use das_common::data_hash::DataHash;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use thiserror::Error;

/// A keyset, or why there is none.
pub type KeysetOf = Result<Arc<ChainKeyset>, KeysetReadError>;

/// Whoever knows keysets and the names of signers.
pub trait Signers: Send + Sync + 'static {
    /// The keyset of this hash.
    fn keyset(&self, hash: DataHash) -> BoxFuture<'_, KeysetOf>;

    /// What the owner of a key is called; the key is given by its point alone.
    fn name(&self, key: &[u8; POINT_BYTES]) -> Option<String>;
}

/// The chain's keysets, and names for the keys of a committee that is known.
pub struct NamedKeysets<S> {
    keysets: Keysets<S>,
    names: HashMap<[u8; POINT_BYTES], String>,
}

impl<S: KeysetStore> NamedKeysets<S> {
    /// Names are by the point of the key ([`PublicKey::point_bytes`](das_common::bls::PublicKey::point_bytes)).
    pub fn new(keysets: Keysets<S>, names: HashMap<[u8; POINT_BYTES], String>) -> Self {
        Self { keysets, names }
    }
}

impl<S: KeysetStore> Signers for NamedKeysets<S> {
    fn keyset(&self, hash: DataHash) -> BoxFuture<'_, KeysetOf> {
        self.keysets.get(hash).boxed()
    }

    fn name(&self, key: &[u8; POINT_BYTES]) -> Option<String> {
        self.names.get(key).cloned()
    }
}

/// Where a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// Held here, whole.
    Whole,
    /// Held here as a shard; the batch can be put together with those of others.
    Shard,
    /// Not held here, and others gave it.
    Elsewhere,
    /// Nobody who was asked has it.
    NotFound,
    /// It cannot be told.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Why it cannot be told whether there is a payload.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("the payload cannot be read now: {why}")]
pub struct PayloadUnavailable {
    /// What stands in the way.
    pub why: String,
}

/// Whoever has payloads. Only asked about single batches, or on request; a future that is dropped ends the question.
pub trait Payloads: Send + Sync + 'static {
    /// Where the payload of this name is.
    fn availability(&self, hash: DataHash) -> BoxFuture<'_, Availability>;

    /// The bytes of this name, which are checked by whoever asks; `None` when nobody who was asked has them.
    fn payload(&self, hash: DataHash) -> BoxFuture<'_, Result<Option<Bytes>, PayloadUnavailable>>;
}

/// The point of a key, which is what names are given to: its proof of possession may be missing.
pub(super) fn point_of(key: &NitroPublicKey) -> [u8; POINT_BYTES] {
    let bytes = key.to_bytes();
    let mut point = [0; POINT_BYTES];
    point.copy_from_slice(&bytes[bytes.len() - POINT_BYTES..]);
    point
}
