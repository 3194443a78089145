//! Ed25519 keys of peers, and their text form.

use std::fmt;

use bincode::{Decode, Encode};
use thiserror::Error;

/// What comes before the key in the bytes of a peer id: identity hash, 36 bytes, a protobuf of an Ed25519 key.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Longest text that 38 bytes can have.
const LONGEST: usize = 52;

/// A peer's public key. Its text form is libp2p's peer id, `12D3KooW...`, which holds the key itself.
///
/// ```
/// use das_common::binding::PeerKey;
///
/// let key = PeerKey::new([7; 32]);
/// assert!(key.to_string().starts_with("12D3KooW"));
/// assert_eq!(key.to_string().parse(), Ok(key));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct PeerKey([u8; 32]);

/// What is no peer id of an Ed25519 key.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("not the peer id of an Ed25519 key (12D3KooW and 44 more letters and digits)")]
pub struct PeerKeyError;

impl PeerKey {
    /// Takes the 32 bytes of the public key.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Base 58: the bytes as one number, most significant digit first, a "1" for each leading zero byte.
        let mut digits: Vec<u8> = Vec::with_capacity(LONGEST);
        for byte in PREFIX.iter().chain(&self.0) {
            let mut carry = u32::from(*byte);
            for digit in &mut digits {
                carry += u32::from(*digit) << 8;
                *digit = (carry % 58) as u8;
                carry /= 58;
            }
            while carry > 0 {
                digits.push((carry % 58) as u8);
                carry /= 58;
            }
        }
        let text: String =
            digits.iter().rev().map(|digit| char::from(ALPHABET[usize::from(*digit)])).collect();
        write!(f, "1{text}")
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PeerKey {
    type Err = PeerKeyError;

    fn from_str(text: &str) -> Result<Self, PeerKeyError> {
        // The first byte of the prefix is the only zero in front.
        let rest = text.strip_prefix('1').filter(|rest| rest.len() < LONGEST).ok_or(PeerKeyError)?;
        let mut bytes = [0u8; 37];
        for letter in rest.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == letter).ok_or(PeerKeyError)?;
            let mut carry = digit as u32;
            for byte in bytes.iter_mut().rev() {
                carry += u32::from(*byte) * 58;
                *byte = (carry & 0xff) as u8;
                carry >>= 8;
            }
            if carry > 0 {
                return Err(PeerKeyError);
            }
        }
        let (prefix, key) = bytes.split_at(PREFIX.len() - 1);
        let key = key.try_into().map_err(|_| PeerKeyError)?;
        if prefix == &PREFIX[1..] { Ok(Self(key)) } else { Err(PeerKeyError) }
    }
}
