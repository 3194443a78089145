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
use std::num::NonZeroU32;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use alloy_primitives::{Address, hex};
use ctr::Ctr128BE;
use das_common::fault::{self, Coded, Fault};
use das_common::keccak::keccak256;
use rand::RngCore;
use ring::pbkdf2;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{LocalKey, Password};

const VERSION: u64 = 3;
const CIPHER: &str = "aes-128-ctr";
const SCRYPT: &str = "scrypt";
const PBKDF2: &str = "pbkdf2";
const PRF: &str = "hmac-sha256";
const DERIVED_BYTES: usize = 32;
const MAX_SALT_BYTES: usize = 256;

/// scrypt's memory, 128 r (n + p) bytes: twice what the usual programs take.
const MAX_SCRYPT_BYTES: u64 = 512 << 20;
/// scrypt's work, n r p: eight times what the usual programs take, which is about a second.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// pbkdf2's iterations: forty times what the usual programs take.
const MAX_ITERATIONS: u64 = 10_000_000;

/// The least n of a new keystore, as a power of 2: opened in hundredths of a second.
pub const WEAKEST_LOG_N: u8 = 13;
/// The greatest n of a new keystore, as a power of 2: what the usual programs take, a second and 256 MiB.
pub const STRONGEST_LOG_N: u8 = 18;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

/// Why a keystore was not opened. No text repeats the file, in which somebody may have put a bare key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeystoreError {
    /// Not JSON.
    #[error("it is no JSON (line {line}, column {column})")]
    Json {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A field is not there or not what it has to be.
    #[error("the keystore's field {field} is not {expected}")]
    Field {
        /// Its path.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A number above the bound.
    #[error("the keystore's {field} is {got}, at most {limit} is taken")]
    Limit {
        /// Its path, or what is computed from several fields.
        field: &'static str,
        /// The number.
        got: u64,
        /// The bound.
        limit: u64,
    },
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
            Self::Json { .. }
            | Self::Field { .. }
            | Self::Limit { .. }
            | Self::Strength { .. }
            | Self::NoKey => fault::KEY_MALFORMED,
        }
    }
}

/// How the password becomes a key.
#[derive(Clone, PartialEq, Eq)]
enum Kdf {
    Scrypt { log_n: u8, r: u32, p: u32 },
    Pbkdf2 { iterations: NonZeroU32 },
}

/// A keystore whose every field is within its bounds.
struct Keystore {
    kdf: Kdf,
    salt: Vec<u8>,
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
    let derived = derive(&keystore.kdf, &keystore.salt, password)?;
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
    let derived = derive(&Kdf::Scrypt { log_n, r: SCRYPT_R, p: SCRYPT_P }, &salt, password)?;
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

/// A version 4 UUID of random bytes.
fn uuid(mut id: [u8; 16]) -> String {
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let text = hex::encode(id);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn derive(
    kdf: &Kdf,
    salt: &[u8],
    password: &Password,
) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
    let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
    match *kdf {
        Kdf::Pbkdf2 { iterations } => {
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut *derived);
        }
        Kdf::Scrypt { log_n, r, p } => {
            // The library's bounds are wider than ours, so that neither call fails.
            let unusable =
                KeystoreError::Field { field: "crypto.kdfparams", expected: "what scrypt can use" };
            let params = scrypt::Params::new(log_n, r, p).map_err(|_| unusable.clone())?;
            scrypt::scrypt(password.as_bytes(), salt, &params, &mut *derived).map_err(|_| unusable)?;
        }
    }
    Ok(derived)
}

fn mac(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8; 32]) -> [u8; 32] {
    let mut input = Zeroizing::new([0; 48]);
    input[..16].copy_from_slice(&derived[16..]);
    input[16..].copy_from_slice(ciphertext);
    keccak256(&*input)
}

fn apply_cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8; 16], text: &mut [u8; 32]) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(text);
}

impl Keystore {
    fn parse(text: &[u8]) -> Result<Self, KeystoreError> {
        let whole: Value = serde_json::from_slice(text)
            .map_err(|error| KeystoreError::Json { line: error.line(), column: error.column() })?;
        // The oldest programs write it so.
        let crypto = match whole.get("crypto") {
            Some(crypto) => crypto,
            None => whole.get("Crypto").unwrap_or(&Value::Null),
        };
        if number(&whole["version"], "version")? != VERSION {
            return Err(KeystoreError::Field { field: "version", expected: "3" });
        }
        expect(&crypto["cipher"], "crypto.cipher", CIPHER)?;
        let kdf = &crypto["kdfparams"];
        if number(&kdf["dklen"], "crypto.kdfparams.dklen")? != DERIVED_BYTES as u64 {
            return Err(KeystoreError::Field { field: "crypto.kdfparams.dklen", expected: "32" });
        }
        Ok(Self {
            salt: salt(&kdf["salt"])?,
            kdf: match crypto["kdf"].as_str() {
                Some(SCRYPT) => parse_scrypt(kdf)?,
                Some(PBKDF2) => parse_pbkdf2(kdf)?,
                _ => return Err(KeystoreError::Field { field: "crypto.kdf", expected: "scrypt or pbkdf2" }),
            },
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

fn parse_scrypt(params: &Value) -> Result<Kdf, KeystoreError> {
    const N: &str = "crypto.kdfparams.n";
    let n = number(&params["n"], N)?;
    let r = number(&params["r"], "crypto.kdfparams.r")?;
    let p = number(&params["p"], "crypto.kdfparams.p")?;
    if n < 2 || !n.is_power_of_two() {
        return Err(KeystoreError::Field { field: N, expected: "a power of 2 above 1" });
    }
    for (field, number) in [("crypto.kdfparams.r", r), ("crypto.kdfparams.p", p)] {
        if number == 0 {
            return Err(KeystoreError::Field { field, expected: "1 or more" });
        }
    }
    let product =
        |numbers: &[u64]| numbers.iter().fold(1_u64, |product, number| product.saturating_mul(*number));
    let memory = product(&[128, r, n.saturating_add(p)]);
    within("crypto.kdfparams: scrypt's memory, 128 r (n + p) bytes,", memory, MAX_SCRYPT_BYTES)?;
    within("crypto.kdfparams: scrypt's work, n r p,", product(&[n, r, p]), MAX_SCRYPT_WORK)?;
    let log_n = n.trailing_zeros() as u8;
    // By the bounds above neither is cut.
    Ok(Kdf::Scrypt { log_n, r: r as u32, p: p as u32 })
}

fn parse_pbkdf2(params: &Value) -> Result<Kdf, KeystoreError> {
    const C: &str = "crypto.kdfparams.c";
    expect(&params["prf"], "crypto.kdfparams.prf", PRF)?;
    let iterations = number(&params["c"], C)?;
    within(C, iterations, MAX_ITERATIONS)?;
    match NonZeroU32::new(iterations as u32) {
        Some(iterations) => Ok(Kdf::Pbkdf2 { iterations }),
        None => Err(KeystoreError::Field { field: C, expected: "1 or more" }),
    }
}

fn within(field: &'static str, got: u64, limit: u64) -> Result<(), KeystoreError> {
    if got > limit { Err(KeystoreError::Limit { field, got, limit }) } else { Ok(()) }
}

fn expect(value: &Value, field: &'static str, expected: &'static str) -> Result<(), KeystoreError> {
    if value.as_str() == Some(expected) { Ok(()) } else { Err(KeystoreError::Field { field, expected }) }
}

fn number(value: &Value, field: &'static str) -> Result<u64, KeystoreError> {
    value.as_u64().ok_or(KeystoreError::Field { field, expected: "a whole number of at most 64 bits" })
}

fn salt(value: &Value) -> Result<Vec<u8>, KeystoreError> {
    let error = KeystoreError::Field { field: "crypto.kdfparams.salt", expected: "hex of at most 256 bytes" };
    let text = value.as_str().filter(|text| text.len() <= 2 + 2 * MAX_SALT_BYTES);
    text.and_then(|text| hex::decode(text).ok()).filter(|salt| salt.len() <= MAX_SALT_BYTES).ok_or(error)
}

fn bytes<const N: usize>(
    value: &Value,
    field: &'static str,
    expected: &'static str,
) -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    let text = value.as_str().unwrap_or_default();
    hex::decode_to_slice(text, &mut bytes).map_err(|_| KeystoreError::Field { field, expected })?;
    Ok(bytes)
}
