//! Transactions of the batch poster: EIP-1559, to a contract, with an empty access list.
//!
//! ```text
//! signed:   02 || rlp([chain id, nonce, tip, max fee, gas limit, to, value, data, [], parity, r, s])
//! to sign:  keccak256(02 || rlp([chain id, nonce, tip, max fee, gas limit, to, value, data, []]))
//! hash:     keccak256(signed)
//! ```
//!
//! # What parsing guarantees
//! A signed transaction that [`Eip1559::parse_signed`] takes is, to the byte, the only encoding of what it returns: no
//! bytes follow, no number has a leading zero, and its signature is the one of the two possible ones whose s is low.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::{Decodable, Encodable, Header};
use das_common::keccak::keccak256;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use thiserror::Error;

/// The first byte of the encoding.
const TYPE: u8 = 2;

/// Half the order of secp256k1; s may not be above.
const MAX_S: U256 = U256::from_limbs([
    0xdfe9_2f46_681b_20a0,
    0x5d57_6e73_57a4_501d,
    0xffff_ffff_ffff_ffff,
    0x7fff_ffff_ffff_ffff,
]);

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eip1559 {
    /// The chain that takes it.
    pub chain_id: u64,
    /// Transactions that its sender has made before.
    pub nonce: u64,
    /// The most that goes to who builds the block, wei per gas.
    pub max_priority_fee_per_gas: u128,
    /// The most that is paid, base fee and tip together, wei per gas.
    pub max_fee_per_gas: u128,
    /// The most gas it may use.
    pub gas_limit: u64,
    /// Whom it calls.
    pub to: Address,
    /// What goes there, wei.
    pub value: U256,
    /// The calldata.
    pub data: Bytes,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    /// The encoding, as `eth_sendRawTransaction` takes it.
    pub raw: Bytes,
    /// Names it.
    pub hash: B256,
}

/// A signed transaction taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedTransaction {
    /// What was signed.
    pub transaction: Eip1559,
    /// Whose key signed it.
    pub sender: Address,
    /// Names the signed transaction.
    pub hash: B256,
}

/// What is no signed EIP-1559 transaction of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// No bytes at all.
    #[error("a signed transaction is empty")]
    Empty,
    /// Of another kind.
    #[error("a transaction of type {got}, expected {TYPE} (EIP-1559)")]
    Type {
        /// The type; of the oldest kind, which has none, 0.
        got: u8,
    },
    /// A field cannot be read.
    #[error("the field {field} of a signed transaction: {reason}")]
    Field {
        /// Which; `list` for all of them.
        field: &'static str,
        /// What is wrong.
        reason: alloy_rlp::Error,
    },
    /// Bytes where the end has to be.
    #[error("{bytes} bytes follow {after} of a signed transaction")]
    Trailing {
        /// So many.
        bytes: usize,
        /// After what.
        after: &'static str,
    },
    /// An access list with something in it.
    #[error("the access list of a signed transaction has {bytes} bytes, expected an empty list")]
    AccessList {
        /// Its length.
        bytes: usize,
    },
    /// The parity of the signature.
    #[error("the parity of the signature is {got}, expected 0 or 1")]
    Parity {
        /// It.
        got: u64,
    },
    /// A signature of which others can make another one.
    #[error("the signature's s is above half the group order")]
    HighS,
    /// A signature that no key can have made.
    #[error("no key can have made the signature")]
    Signature,
    /// An encoding of which there is a shorter one.
    #[error("the encoding is not the shortest one")]
    NotCanonical,
}

/// The address of a public key.
pub(crate) fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

impl Eip1559 {
    fn fields(&self) -> [&dyn Encodable; 8] {
        [
            &self.chain_id,
            &self.nonce,
            &self.max_priority_fee_per_gas,
            &self.max_fee_per_gas,
            &self.gas_limit,
            &self.to,
            &self.value,
            &self.data,
        ]
    }

    /// The encoding with these fields after the access list.
    fn encode(&self, signature: &[&dyn Encodable]) -> Vec<u8> {
        let access_list = Header { list: true, payload_length: 0 };
        let fields = self.fields();
        let lengths = fields.iter().chain(signature).map(|field| field.length());
        let header = Header { list: true, payload_length: lengths.sum::<usize>() + access_list.length() };
        let mut out = Vec::with_capacity(1 + header.length_with_payload());
        out.push(TYPE);
        header.encode(&mut out);
        fields.iter().for_each(|field| field.encode(&mut out));
        access_list.encode(&mut out);
        signature.iter().for_each(|field| field.encode(&mut out));
        out
    }

    fn encode_signed(&self, parity: u64, r: U256, s: U256) -> Vec<u8> {
        self.encode(&[&parity, &r, &s])
    }

    /// What a signature is over.
    pub fn signing_hash(&self) -> B256 {
        keccak256(&self.encode(&[])).into()
    }

    /// Signs it (RFC 6979: equal transactions have equal signatures).
    pub(crate) fn sign(&self, key: &SecretKey) -> SignedTransaction {
        let message = Message::from_digest(self.signing_hash().0);
        let (id, compact) = SECP256K1.sign_ecdsa_recoverable(message, key).serialize_compact();
        // The library gives the low s, and an r above the group order, for which the number would be 2 or 3, has never been
        // seen: finding one is as hard as finding a key.
        let parity = u64::from(i32::from(id).unsigned_abs() & 1);
        let (r, s) = compact.split_at(32);
        let raw = self.encode_signed(parity, U256::from_be_slice(r), U256::from_be_slice(s));
        SignedTransaction { hash: keccak256(&raw).into(), raw: raw.into() }
    }

    /// Takes a signed transaction apart and finds whose it is.
    pub fn parse_signed(raw: &[u8]) -> Result<ParsedTransaction, TransactionError> {
        let rest = match raw.split_first() {
            None => return Err(TransactionError::Empty),
            Some((&TYPE, rest)) => rest,
            // Where a list begins at once, it is of the kind that had no type yet.
            Some((&got, _)) => return Err(TransactionError::Type { got: if got >= 0xc0 { 0 } else { got } }),
        };
        let mut after = rest;
        let list = |reason| TransactionError::Field { field: "list", reason };
        let mut fields = Header::decode_bytes(&mut after, true).map_err(list)?;
        expect_end(after, "the end")?;
        let rest = &mut fields;
        let transaction = Self {
            chain_id: field(rest, "chainId")?,
            nonce: field(rest, "nonce")?,
            max_priority_fee_per_gas: field(rest, "maxPriorityFeePerGas")?,
            max_fee_per_gas: field(rest, "maxFeePerGas")?,
            gas_limit: field(rest, "gas")?,
            to: field(rest, "to")?,
            value: field(rest, "value")?,
            data: field(rest, "data")?,
        };
        let access_list = Header::decode_bytes(rest, true);
        let access_list =
            access_list.map_err(|reason| TransactionError::Field { field: "accessList", reason })?;
        if !access_list.is_empty() {
            return Err(TransactionError::AccessList { bytes: access_list.len() });
        }
        let (parity, r, s): (u64, U256, U256) =
            (field(rest, "yParity")?, field(rest, "r")?, field(rest, "s")?);
        expect_end(rest, "the field s")?;
        let sender = recover(&transaction.signing_hash(), parity, r, s)?;
        // What the library may read with leniency is found here.
        if transaction.encode_signed(parity, r, s) != raw {
            return Err(TransactionError::NotCanonical);
        }
        Ok(ParsedTransaction { transaction, sender, hash: keccak256(raw).into() })
    }
}

fn field<T: Decodable>(rest: &mut &[u8], field: &'static str) -> Result<T, TransactionError> {
    T::decode(rest).map_err(|reason| TransactionError::Field { field, reason })
}

fn expect_end(rest: &[u8], after: &'static str) -> Result<(), TransactionError> {
    if rest.is_empty() { Ok(()) } else { Err(TransactionError::Trailing { bytes: rest.len(), after }) }
}

fn recover(hash: &B256, parity: u64, r: U256, s: U256) -> Result<Address, TransactionError> {
    let id = match parity {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        got => return Err(TransactionError::Parity { got }),
    };
    if s > MAX_S {
        return Err(TransactionError::HighS);
    }
    let compact = [r.to_be_bytes::<32>(), s.to_be_bytes::<32>()].concat();
    RecoverableSignature::from_compact(&compact, id)
        .and_then(|signature| SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature))
        .map(|key| address_of(&key))
        .map_err(|_| TransactionError::Signature)
}

#[cfg(test)]
mod tests;
