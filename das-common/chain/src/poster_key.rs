//! The batch poster's key: here, or with a signer elsewhere.
//!
//! # Guarantees
//! - A secret key or a password appears in no debug output, no error and no log, and its memory is overwritten when it is
//!   no longer needed.
//! - No key file, keystore or answer of a signer makes us take more memory or time than named bounds allow.
//! - What a remote signer answers is used only if it is exactly the transaction that it was asked to sign, signed by the
//!   account that it should have.

mod keystore;
mod remote;

use std::fmt;
use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use das_common::fault::{self, Coded, Fault};
pub use das_common::password::Password;
use das_common::password::PasswordError;
use das_common::secret_file::{self, SecretFile, SecretFileError};
use rand::RngCore;
use secp256k1::{SECP256K1, SecretKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::transaction::{Eip1559, SignedTransaction, address_of};
pub use keystore::{KeystoreError, write_keystore};
pub use remote::{RemoteError, RemoteSettings, RemoteSigner};

/// A key file is a line.
const MAX_KEY_FILE_BYTES: usize = 1024;

/// Whose transactions the poster sends.
#[derive(Debug)]
pub enum PosterKey {
    /// The key is here.
    Local(LocalKey),
    /// Somebody signs for us.
    Remote(RemoteSigner),
}

impl PosterKey {
    /// The account.
    pub fn address(&self) -> Address {
        match self {
            Self::Local(key) => key.address(),
            Self::Remote(signer) => signer.address(),
        }
    }

    /// Signs a transaction. A remote signer is asked once; the caller repeats it if it wants to.
    pub async fn sign(&self, transaction: &Eip1559) -> Result<SignedTransaction, KeyError> {
        match self {
            Self::Local(key) => Ok(key.sign(transaction)),
            Self::Remote(signer) => Ok(signer.sign(transaction).await?),
        }
    }
}

/// Why there is no key, or no signature.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A key file without a key.
    #[error("{} holds no key: 64 hex digits below the group order of secp256k1 are expected", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A keystore that cannot be opened.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// No password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The remote signer cannot be used, or does not sign.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl Coded for KeyError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::File(_) => fault::KEY_MISSING,
            Self::Malformed { .. } => fault::KEY_MALFORMED,
            Self::Password(error) => error.fault(),
            Self::Keystore { source, .. } => source.fault(),
            Self::Remote(error) => error.fault(),
        }
    }
}

/// A secret key of an account. Shown by its address.
pub struct LocalKey {
    secret: SecretKey,
    address: Address,
}

impl Drop for LocalKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.address)
    }
}

impl LocalKey {
    /// Draws a key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rand::rng().fill_bytes(&mut *bytes);
            if let Some(key) = Self::from_bytes(&bytes) {
                return key;
            }
        }
    }

    /// The key of these bytes, unless they are zero or not below the group order.
    fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_byte_array(*bytes).ok()?;
        Some(Self { secret, address: address_of(&secret.public_key(SECP256K1)) })
    }

    /// Reads a key file: 64 hex digits, with or without 0x, white space around them. The second value is the mode of a file
    /// with which others than its owner may do something: worth a warning.
    pub fn from_file(path: &Path) -> Result<(Self, Option<u32>), KeyError> {
        let SecretFile { bytes, wide_mode } = secret_file::read(path, MAX_KEY_FILE_BYTES)?;
        let mut key = Zeroizing::new([0; 32]);
        let key = alloy_primitives::hex::decode_to_slice(bytes.trim_ascii(), &mut *key)
            .ok()
            .and_then(|()| Self::from_bytes(&key));
        Ok((key.ok_or_else(|| KeyError::Malformed { path: path.to_path_buf() })?, wide_mode))
    }

    /// Opens a keystore: Web3 Secret Storage, version 3. Takes a second or more, and memory, both as the file says within
    /// bounds, so it does not belong where others wait.
    pub fn from_keystore(path: &Path, password: &Password) -> Result<Self, KeyError> {
        let file = secret_file::read(path, das_common::keystore::MAX_BYTES)?;
        keystore::open(&file.bytes, password)
            .map_err(|source| KeyError::Keystore { path: path.to_path_buf(), source })
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a transaction.
    pub fn sign(&self, transaction: &Eip1559) -> SignedTransaction {
        transaction.sign(&self.secret)
    }

    fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.secret_bytes())
    }
}

#[cfg(test)]
mod tests;
