//! The keysets that batches on the chain may name: the committee's own, those of former committees from files, and
//! whatever the contract has ever taken.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use das_chain::keysets::{DirKeysets, KeysetReadError, Keysets as ChainKeysets};
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::keyset::Keyset;
use das_common::sequencer_message::KeysetSource;
use thiserror::Error;

/// A keyset is shorter than 64 KiB; as text it takes two digits a byte.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why a file holds no keyset.
#[derive(Debug, Error)]
pub enum KeysetFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's report.
        source: std::io::Error,
    },
    /// It is larger than any keyset.
    #[error("{} is too large for a keyset", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Why there is no keyset; trying again may help.
#[derive(Debug, Clone, Error)]
pub enum NoKeyset {
    /// Nobody told us, and there is no chain to ask.
    #[error("keyset {hash} not found: {}", fault::PROVIDER_KEYSET.cure)]
    Unknown {
        /// Its hash.
        hash: DataHash,
    },
    /// The chain does not give it.
    #[error(transparent)]
    Chain(#[from] KeysetReadError),
}

/// Keysets by their hashes.
#[derive(Clone, Default)]
pub struct Keysets {
    known: HashMap<DataHash, Bytes>,
    chain: Option<ChainKeysets<DirKeysets>>,
}

impl Keysets {
    /// The committee's own.
    pub fn of(keyset: &Keyset) -> Self {
        Self { known: HashMap::from([(keyset.hash(), keyset.to_bytes().into())]), chain: None }
    }

    /// Asks the contract about all others.
    #[must_use]
    pub fn with_chain(self, chain: Option<ChainKeysets<DirKeysets>>) -> Self {
        Self { chain, ..self }
    }

    /// Adds the content of a file: the keyset's bytes as they are, or in hex as `dumpkeyset` prints them, with or
    /// without the word `Keyset:` before. It need not be a good keyset: what the chain has is what counts.
    pub fn add_file(&mut self, path: &Path) -> Result<DataHash, KeysetFileError> {
        let io = |source| KeysetFileError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
            return Err(KeysetFileError::TooLarge { path: path.to_owned() });
        }
        let content = std::fs::read(path).map_err(io)?;
        Ok(self.add(from_text(&content).unwrap_or(content)))
    }

    fn add(&mut self, bytes: Vec<u8>) -> DataHash {
        let hash = DataHash::of(&bytes);
        self.known.insert(hash, bytes.into());
        hash
    }
}

fn from_text(content: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Keyset:")).unwrap_or(text);
    let digits = line.trim().strip_prefix("0x")?;
    const_hex::decode(digits).ok()
}

impl KeysetSource for Keysets {
    type Error = NoKeyset;

    async fn keyset(&self, hash: &DataHash) -> Result<Bytes, NoKeyset> {
        if let Some(known) = self.known.get(hash) {
            return Ok(known.clone());
        }
        let Some(chain) = &self.chain else { return Err(NoKeyset::Unknown { hash: *hash }) };
        Ok(chain.keyset(hash).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_every_form_give_the_same_keyset() {
        let bytes = vec![0, 0, 0, 7];
        let dir = tempfile::tempdir().unwrap();
        for (i, content) in
            [bytes.clone(), b"0x00000007\n".to_vec(), b"Keyset: 0x00000007\nKeysetHash: 0x1234\n".to_vec()]
                .into_iter()
                .enumerate()
        {
            let path = dir.path().join(i.to_string());
            std::fs::write(&path, content).unwrap();
            let mut keysets = Keysets::default();
            let hash = keysets.add_file(&path).unwrap();
            assert_eq!(hash, DataHash::of(&bytes));
            assert_eq!(keysets.known[&hash], bytes);
        }
        let missing = Keysets::default().add_file(&dir.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("missing"));
    }
}
