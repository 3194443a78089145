//! The keystore that Ethereum's programs share: Web3 Secret Storage, version 3.
//!
//! ```text
//! password --kdf(salt)--> derived key, 32 bytes
//!                         | first 16: key of aes-128-ctr(iv): ciphertext <-> secret key
//!                         | last 16:  mac = keccak256(last 16 || ciphertext)
//! ```
//!
//! How much work opening takes is said by the file, which may be somebody else's: it is bounded here.

use std::fmt;

use alloy_primitives::{Address, hex};
use das_common::fault::{self, Coded, Fault};
use das_common::keccak::keccak256;
use das_common::keystore::parts::{
    CIPHER, DERIVED_BYTES, FormError, Kdf, KdfNames, SCRYPT, SCRYPT_P, SCRYPT_R, STRONGEST_LOG_N,
    WEAKEST_LOG_N, apply_cipher, bytes, expect, json as read_json, number, uuid,
};
use rand::RngCore;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{LocalKey, Password};

const VERSION: u64 = 3;
const NAMES: KdfNames = KdfNames {
    function: "crypto.kdf",
    params: "crypto.kdfparams",
    dklen: "crypto.kdfparams.dklen",
    salt: "crypto.kdfparams.salt",
    n: "crypto.kdfparams.n",
    r: "crypto.kdfparams.r",
    p: "crypto.kdfparams.p",
    c: "crypto.kdfparams.c",
    prf: "crypto.kdfparams.prf",
};

/// Why a keystore was not opened. No text repeats the file, in which somebody may have put a bare key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeystoreError {
    /// The file.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A choice outside the bounds for new keystores.
    #[error("n = 2^{got} of a new keystore; 2^{WEAKEST_LOG_N} to 2^{STRONGEST_LOG_N} is possible")]
    Strength {
        /// The exponent.
        got: u8,
    },
    /// The MAC is another.
    #[error("the password is wrong, or the keystore is damaged")]
    Password,
    /// What was encrypted is no key.
    #[error("the keystore holds no secp256k1 key")]
    NoKey,
    /// The key is of another account than the keystore says.
    #[error("the keystore says it is of {named}, but its key is of {found}")]
    OtherAddress {
        /// What it says.
        named: Address,
        /// The key's.
        found: Address,
    },
}

impl Coded for KeystoreError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Password => fault::KEY_PASSWORD,
            Self::OtherAddress { .. } => fault::KEY_MISMATCH,
            Self::Form(_) | Self::Strength { .. } | Self::NoKey => fault::KEY_MALFORMED,
        }
    }
}

/// A keystore whose every field is within its bounds.
struct Keystore {
    kdf: Kdf,
    iv: [u8; 16],
    ciphertext: [u8; 32],
    mac: [u8; 32],
    address: Option<Address>,
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keystore({:?})", self.address)
    }
}

pub(super) fn open(text: &[u8], password: &Password) -> Result<LocalKey, KeystoreError> {
    let keystore = Keystore::parse(text)?;
    let derived = keystore.kdf.derive(password.as_bytes(), &NAMES)?;
    if !bool::from(mac(&derived, &keystore.ciphertext).ct_eq(&keystore.mac)) {
        return Err(KeystoreError::Password);
    }
    let mut secret = Zeroizing::new(keystore.ciphertext);
    apply_cipher(&derived, &keystore.iv, &mut secret);
    let key = LocalKey::from_bytes(&secret).ok_or(KeystoreError::NoKey)?;
    match keystore.address {
        Some(named) if named != key.address() => {
            Err(KeystoreError::OtherAddress { named, found: key.address() })
        }
        _ => Ok(key),
    }
}

/// A keystore of this key, as JSON. `log_n`, [`WEAKEST_LOG_N`] to [`STRONGEST_LOG_N`], says how much work a guess of the
/// password takes, and so every opening. Salt, iv and id are drawn at random.
pub fn write_keystore(key: &LocalKey, password: &Password, log_n: u8) -> Result<String, KeystoreError> {
    if !(WEAKEST_LOG_N..=STRONGEST_LOG_N).contains(&log_n) {
        return Err(KeystoreError::Strength { got: log_n });
    }
    let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut iv);
    rand::rng().fill_bytes(&mut id);
    let derived = Kdf::new_scrypt(log_n, salt).derive(password.as_bytes(), &NAMES)?;
    let mut text = key.to_bytes();
    apply_cipher(&derived, &iv, &mut text);
    let keystore = json!({
        "version": VERSION,
        "id": uuid(id),
        "address": hex::encode(key.address()),
        "crypto": {
            "cipher": CIPHER,
            "cipherparams": { "iv": hex::encode(iv) },
            "ciphertext": hex::encode(*text),
            "kdf": SCRYPT,
            "kdfparams": {
                "dklen": DERIVED_BYTES,
                "n": 1_u64 << log_n,
                "r": SCRYPT_R,
                "p": SCRYPT_P,
                "salt": hex::encode(salt),
            },
            "mac": hex::encode(mac(&derived, &text)),
        },
    });
    Ok(format!("{keystore:#}\n"))
}

fn mac(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8; 32]) -> [u8; 32] {
    let mut input = Zeroizing::new([0; 48]);
    input[..16].copy_from_slice(&derived[16..]);
    input[16..].copy_from_slice(ciphertext);
    keccak256(&*input)
}

impl Keystore {
    fn parse(text: &[u8]) -> Result<Self, KeystoreError> {
        let whole = read_json(text)?;
        // The oldest programs write it so.
        let crypto = match whole.get("crypto") {
            Some(crypto) => crypto,
            None => whole.get("Crypto").unwrap_or(&Value::Null),
        };
        if number(&whole["version"], "version")? != VERSION {
            return Err(FormError::Field { field: "version", expected: "3" }.into());
        }
        expect(&crypto["cipher"], "crypto.cipher", CIPHER)?;
        Ok(Self {
            kdf: Kdf::parse(&crypto["kdf"], &crypto["kdfparams"], &NAMES)?,
            iv: bytes(&crypto["cipherparams"]["iv"], "crypto.cipherparams.iv", "16 bytes in hex")?,
            ciphertext: bytes(&crypto["ciphertext"], "crypto.ciphertext", "32 bytes in hex")?,
            mac: bytes(&crypto["mac"], "crypto.mac", "32 bytes in hex")?,
            address: match &whole["address"] {
                Value::Null => None,
                address => Some(bytes::<20>(address, "address", "20 bytes in hex")?.into()),
            },
        })
    }
}
