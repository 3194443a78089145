//! Keysets from the chain: their bytes, which never change, and their validity, which does.
//!
//! A keyset is named by the hash of its bytes, so that it may come from anywhere and is checked wherever it comes from:
//! from memory, from the [`KeysetStore`], at last from the event by which it was made valid. It is kept for ever, since
//! batches under it are on the chain for ever.

mod history;
mod store;

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_sol_types::{SolError, SolEvent};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::keyset::{KeysetError, NitroKeyset};
use das_common::sequencer_message::KeysetSource;
use das_common::single_flight::SingleFlight;
use parking_lot::Mutex;
use thiserror::Error;

use crate::contract::SequencerInbox as Inbox;
use crate::error::ChainError;
use crate::reader::{At, Log, LogFilter, Reader};
pub use history::{KeysetHistory, MAX_CHANGES};
pub use store::{DirKeysets, KeysetStore};

/// Keysets held in memory: a committee has one, and another for a while when it changes.
const MAX_HELD: usize = 16;

/// A keyset of the chain.
#[derive(Debug)]
pub struct ChainKeyset {
    /// Names it.
    pub hash: DataHash,
    /// As published.
    pub bytes: Vec<u8>,
    /// As read.
    pub keyset: NitroKeyset,
}

/// Why there is no keyset.
#[derive(Debug, Clone, Error)]
pub enum KeysetReadError {
    /// The chain cannot be read.
    #[error("keyset {hash} cannot be read from the parent chain: {source}")]
    Chain {
        /// Which keyset.
        hash: DataHash,
        /// Why.
        source: ChainError,
    },
    /// It never was valid there.
    #[error("the parent chain knows no keyset {hash}")]
    Unknown {
        /// Which keyset.
        hash: DataHash,
    },
    /// Its creation block holds no event with its bytes.
    #[error("block {block} of the parent chain was to hold keyset {hash} and does not")]
    Missing {
        /// Which keyset.
        hash: DataHash,
        /// The block that the contract names.
        block: u64,
    },
    /// Its bytes are no keyset. This does not pass.
    #[error("keyset {hash} of the parent chain does not parse: {source}")]
    Form {
        /// Which keyset.
        hash: DataHash,
        /// The bytes of which that is the hash.
        bytes: Arc<[u8]>,
        /// What is wrong.
        source: KeysetError,
    },
    /// The lookup ended without an answer.
    #[error("keyset {hash}: the lookup failed unexpectedly")]
    Lost {
        /// Which keyset.
        hash: DataHash,
    },
}

impl Coded for KeysetReadError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Chain { source, .. } => source.fault(),
            Self::Unknown { .. } | Self::Missing { .. } => fault::CHAIN_KEYSET_UNKNOWN,
            Self::Form { .. } => fault::CHAIN_KEYSET_FORM,
            Self::Lost { .. } => fault::PROGRAM_PANIC,
        }
    }
}

/// What the contract says of a keyset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Whether batches may name it now.
    pub is_valid: bool,
    /// The block in which it was last made valid; none: it never was.
    pub created_in: Option<u64>,
}

struct Inner<S> {
    reader: Reader,
    inbox: alloy_primitives::Address,
    store: S,
    held: Mutex<Vec<Arc<ChainKeyset>>>,
}

/// Keysets by their hashes. Cheap to clone; clones share what is held.
pub struct Keysets<S> {
    inner: Arc<Inner<S>>,
    lookups: SingleFlight<[u8; 32], Result<Arc<ChainKeyset>, KeysetReadError>>,
}

impl<S> Clone for Keysets<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), lookups: self.lookups.clone() }
    }
}

impl<S: KeysetStore> Keysets<S> {
    /// Keysets of the contract at `inbox`, kept in `store`.
    pub fn new(reader: Reader, inbox: alloy_primitives::Address, store: S) -> Self {
        let inner = Inner { reader, inbox, store, held: Mutex::default() };
        Self { inner: Arc::new(inner), lookups: SingleFlight::default() }
    }

    /// The keyset of that hash, valid now or not.
    pub async fn get(&self, hash: DataHash) -> Result<Arc<ChainKeyset>, KeysetReadError> {
        if let Some(held) = self.inner.held(hash) {
            return Ok(held);
        }
        let inner = Arc::clone(&self.inner);
        let landed = self.lookups.run(*hash.as_bytes(), || async move { inner.find(hash).await }).await;
        landed.unwrap_or(Err(KeysetReadError::Lost { hash }))
    }

    /// Whether batches may name the keyset now, and since when.
    pub async fn validity(&self, hash: DataHash, at: At) -> Result<Validity, ChainError> {
        let keyset = B256::from(*hash.as_bytes());
        let Inner { reader, inbox, .. } = &*self.inner;
        let is_valid = reader.call(*inbox, &Inbox::isValidKeysetHashCall { keyset }, at).await?;
        Ok(Validity { is_valid, created_in: self.inner.creation_block(hash, at).await? })
    }

    /// Keeps the keyset of a `SetValidKeyset` log, so that it need not be asked for. Bytes that do not have the hash
    /// that the log names, or are no keyset, are not kept.
    pub async fn observe(&self, log: &Log) {
        let Some(event) = log.decode::<Inbox::SetValidKeyset>() else { return };
        let hash = DataHash::from_bytes(event.keysetHash.0);
        if log.address == self.inner.inbox
            && self.inner.held(hash).is_none()
            && let Some(Ok(keyset)) = read(hash, event.keysetBytes.to_vec())
        {
            self.inner.keep(Arc::new(keyset)).await;
        }
    }
}

impl<S: KeysetStore> KeysetSource for Keysets<S> {
    type Error = KeysetReadError;

    async fn keyset(&self, hash: &DataHash) -> Result<bytes::Bytes, KeysetReadError> {
        match self.get(*hash).await {
            Ok(keyset) => Ok(bytes::Bytes::copy_from_slice(&keyset.bytes)),
            // That it is none is for whoever recovers to say: nodes know the text.
            Err(KeysetReadError::Form { bytes, .. }) => Ok(bytes::Bytes::copy_from_slice(&bytes)),
            Err(error) => Err(error),
        }
    }
}

/// The keyset, if these are its bytes.
fn read(hash: DataHash, bytes: Vec<u8>) -> Option<Result<ChainKeyset, KeysetReadError>> {
    if DataHash::of(&bytes) != hash {
        return None;
    }
    let parsed = NitroKeyset::parse(&bytes);
    Some(match parsed {
        Ok(keyset) => Ok(ChainKeyset { hash, bytes, keyset }),
        Err(source) => Err(KeysetReadError::Form { hash, bytes: bytes.into(), source }),
    })
}

impl<S: KeysetStore> Inner<S> {
    fn held(&self, hash: DataHash) -> Option<Arc<ChainKeyset>> {
        self.held.lock().iter().find(|keyset| keyset.hash == hash).cloned()
    }

    fn hold(&self, keyset: &Arc<ChainKeyset>) {
        let mut held = self.held.lock();
        if held.iter().all(|other| other.hash != keyset.hash) {
            if held.len() == MAX_HELD {
                held.remove(0);
            }
            held.push(Arc::clone(keyset));
        }
    }

    async fn keep(self: &Arc<Self>, keyset: Arc<ChainKeyset>) {
        self.hold(&keyset);
        let (inner, hash) = (Arc::clone(self), keyset.hash);
        let put = tokio::task::spawn_blocking(move || inner.store.put(hash, &keyset.bytes));
        if let Ok(Err(error)) = put.await {
            let code = fault::CHAIN_KEYSET_STORE.code;
            tracing::warn!(code, %hash, %error, "the keyset is held in memory only");
        }
    }

    async fn stored(self: &Arc<Self>, hash: DataHash) -> Option<ChainKeyset> {
        let inner = Arc::clone(self);
        let code = fault::CHAIN_KEYSET_STORE.code;
        let bytes = match tokio::task::spawn_blocking(move || inner.store.get(hash)).await {
            Ok(Ok(bytes)) => bytes?,
            Ok(Err(error)) => {
                tracing::warn!(code, %hash, %error, "the keyset is read from the chain");
                return None;
            }
            Err(_) => return None,
        };
        match read(hash, bytes) {
            Some(Ok(keyset)) => Some(keyset),
            // The chain has the right bytes, and they take this one's place.
            _ => {
                tracing::warn!(code, %hash, "the kept keyset is damaged; it is read from the chain anew");
                None
            }
        }
    }

    async fn find(self: &Arc<Self>, hash: DataHash) -> Result<Arc<ChainKeyset>, KeysetReadError> {
        if let Some(keyset) = self.stored(hash).await {
            let keyset = Arc::new(keyset);
            self.hold(&keyset);
            return Ok(keyset);
        }
        let failed = |source| KeysetReadError::Chain { hash, source };
        let block = self.creation_block(hash, At::Latest).await.map_err(failed)?;
        let block = block.ok_or(KeysetReadError::Unknown { hash })?;
        let filter = LogFilter {
            address: self.inbox,
            events: vec![Inbox::SetValidKeyset::SIGNATURE_HASH],
            topic1: Some(hash.as_bytes().into()),
        };
        let logs = self.reader.logs(&filter, block, block, None).await.map_err(failed)?.logs;
        let events = logs.iter().filter_map(|log| log.decode::<Inbox::SetValidKeyset>());
        let found = events.filter_map(|event| read(hash, event.keysetBytes.to_vec())).next();
        let keyset = Arc::new(found.ok_or(KeysetReadError::Missing { hash, block })??);
        self.keep(Arc::clone(&keyset)).await;
        Ok(keyset)
    }

    /// The block in which the keyset was last made valid, if it ever was.
    async fn creation_block(&self, hash: DataHash, at: At) -> Result<Option<u64>, ChainError> {
        let call = Inbox::getKeysetCreationBlockCall { ksHash: hash.as_bytes().into() };
        match self.reader.call(self.inbox, &call, at).await {
            Ok(block) => Ok(Some(block.saturating_to())),
            // Some endpoints say no more than that it reverted; this function has no other reason to.
            Err(ChainError::Reverted { data, .. })
                if data.is_empty() || data.starts_with(&Inbox::NoSuchKeyset::SELECTOR) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
