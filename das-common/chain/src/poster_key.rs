//! The batch poster's key.

use alloy_primitives::Address;
use secp256k1::{Message, SECP256K1, SecretKey};
use thiserror::Error;

use crate::transaction::{Eip1559, SignedTransaction};

/// Why a transaction is not signed.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file.
    #[error("{0}")]
    File(String),
}

/// Signs transactions.
pub struct PosterKey {
    key: SecretKey,
    address: Address,
}

impl PosterKey {
    /// From 64 hex digits in a file.
    pub fn from_file(path: &std::path::Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|error| KeyError::File(error.to_string()))?;
        let mut bytes = [0; 32];
        const_hex::decode_to_slice(text.trim(), &mut bytes).map_err(|e| KeyError::File(e.to_string()))?;
        let key = SecretKey::from_byte_array(bytes).map_err(|e| KeyError::File(e.to_string()))?;
        let public = key.public_key(SECP256K1).serialize_uncompressed();
        let address = Address::from_raw_public_key(&public[1..]);
        Ok(Self { key, address })
    }

    /// Whose transactions they are.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs.
    pub async fn sign(&self, transaction: &Eip1559) -> Result<SignedTransaction, KeyError> {
        let message = Message::from_digest(transaction.signing_hash().0);
        let (id, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &self.key).serialize_compact();
        Ok(transaction.signed(i32::from(id) as u8, &bytes[..32], &bytes[32..]))
    }
}
