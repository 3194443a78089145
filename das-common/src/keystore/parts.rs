//! What keystores of both kinds are made of: key derivation within bounds, cipher, and fields of JSON.
//!
//! How much work opening a keystore takes is said by its file, which may be somebody else's: it is bounded here.

use std::num::NonZeroU32;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use ring::pbkdf2;
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

/// The cipher's name in both kinds.
pub const CIPHER: &str = "aes-128-ctr";
/// The key derivation that new keystores use.
pub const SCRYPT: &str = "scrypt";
/// The other one.
pub const PBKDF2: &str = "pbkdf2";
/// What pbkdf2 runs.
pub const PRF: &str = "hmac-sha256";
/// Bytes of the derived key: 16 for the cipher, 16 for the checksum.
pub const DERIVED_BYTES: usize = 32;
/// scrypt's r of new keystores.
pub const SCRYPT_R: u32 = 8;
/// scrypt's p of new keystores.
pub const SCRYPT_P: u32 = 1;
/// The least n of a new keystore, as a power of 2: opened in hundredths of a second.
pub const WEAKEST_LOG_N: u8 = 13;
/// The greatest n of a new keystore, as a power of 2: what the usual programs take, a second and 256 MiB.
pub const STRONGEST_LOG_N: u8 = 18;

const MAX_SALT_BYTES: usize = 256;
/// scrypt's memory, 128 r (n + p) bytes: twice what the usual programs take.
const MAX_SCRYPT_BYTES: u64 = 512 << 20;
/// scrypt's work, n r p: eight times what the usual programs take, which is about a second.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// pbkdf2's iterations: forty times what the usual programs take.
const MAX_ITERATIONS: u64 = 10_000_000;

/// What is no keystore. No text repeats the file, in which somebody may have put a bare key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormError {
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
}

/// How the fields of a key derivation are called in messages.
#[derive(Debug, Clone, Copy)]
pub struct KdfNames {
    /// The function.
    pub function: &'static str,
    /// All parameters.
    pub params: &'static str,
    /// Length of the derived key.
    pub dklen: &'static str,
    /// The salt.
    pub salt: &'static str,
    /// scrypt's cost.
    pub n: &'static str,
    /// scrypt's block size.
    pub r: &'static str,
    /// scrypt's parallelism.
    pub p: &'static str,
    /// pbkdf2's iterations.
    pub c: &'static str,
    /// pbkdf2's pseudo-random function.
    pub prf: &'static str,
}

/// How a password becomes a key, within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kdf {
    function: Function,
    salt: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Scrypt { log_n: u8, r: u32, p: u32 },
    Pbkdf2 { iterations: NonZeroU32 },
}

impl Kdf {
    /// scrypt as new keystores have it. `log_n` is at most [`STRONGEST_LOG_N`].
    pub fn new_scrypt(log_n: u8, salt: [u8; 32]) -> Self {
        Self { function: Function::Scrypt { log_n, r: SCRYPT_R, p: SCRYPT_P }, salt: salt.to_vec() }
    }

    /// Reads function and parameters.
    pub fn parse(function: &Value, params: &Value, names: &KdfNames) -> Result<Self, FormError> {
        if number(&params["dklen"], names.dklen)? != DERIVED_BYTES as u64 {
            return Err(FormError::Field { field: names.dklen, expected: "32" });
        }
        let salt = salt(&params["salt"], names.salt)?;
        let function = match function.as_str() {
            Some(SCRYPT) => parse_scrypt(params, names)?,
            Some(PBKDF2) => parse_pbkdf2(params, names)?,
            _ => return Err(FormError::Field { field: names.function, expected: "scrypt or pbkdf2" }),
        };
        Ok(Self { function, salt })
    }

    /// Derives the key. Takes a second or more, and memory, as the parameters say.
    pub fn derive(
        &self,
        password: &[u8],
        names: &KdfNames,
    ) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, FormError> {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        match self.function {
            Function::Pbkdf2 { iterations } => {
                let function = pbkdf2::PBKDF2_HMAC_SHA256;
                pbkdf2::derive(function, iterations, &self.salt, password, &mut *derived);
            }
            Function::Scrypt { log_n, r, p } => {
                // The library's bounds are wider than ours, so that neither call fails.
                let unusable = FormError::Field { field: names.params, expected: "what scrypt can use" };
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| unusable.clone())?;
                scrypt::scrypt(password, &self.salt, &params, &mut *derived).map_err(|_| unusable)?;
            }
        }
        Ok(derived)
    }
}

/// Encrypts or decrypts with the first half of the derived key.
pub fn apply_cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8; 16], text: &mut [u8; 32]) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(text);
}

/// Reads JSON.
pub fn json(text: &[u8]) -> Result<Value, FormError> {
    serde_json::from_slice(text)
        .map_err(|error| FormError::Json { line: error.line(), column: error.column() })
}

/// A version 4 UUID of random bytes.
pub fn uuid(mut id: [u8; 16]) -> String {
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let text = const_hex::encode(id);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// This text and no other.
pub fn expect(value: &Value, field: &'static str, expected: &'static str) -> Result<(), FormError> {
    if value.as_str() == Some(expected) { Ok(()) } else { Err(FormError::Field { field, expected }) }
}

/// A whole number.
pub fn number(value: &Value, field: &'static str) -> Result<u64, FormError> {
    value.as_u64().ok_or(FormError::Field { field, expected: "a whole number of at most 64 bits" })
}

/// So many bytes in hex.
pub fn bytes<const N: usize>(
    value: &Value,
    field: &'static str,
    expected: &'static str,
) -> Result<[u8; N], FormError> {
    let mut bytes = [0; N];
    let text = value.as_str().unwrap_or_default();
    const_hex::decode_to_slice(text, &mut bytes).map_err(|_| FormError::Field { field, expected })?;
    Ok(bytes)
}

fn parse_scrypt(params: &Value, names: &KdfNames) -> Result<Function, FormError> {
    let n = number(&params["n"], names.n)?;
    let r = number(&params["r"], names.r)?;
    let p = number(&params["p"], names.p)?;
    if n < 2 || !n.is_power_of_two() {
        return Err(FormError::Field { field: names.n, expected: "a power of 2 above 1" });
    }
    for (field, number) in [(names.r, r), (names.p, p)] {
        if number == 0 {
            return Err(FormError::Field { field, expected: "1 or more" });
        }
    }
    let product =
        |numbers: &[u64]| numbers.iter().fold(1_u64, |product, number| product.saturating_mul(*number));
    let memory = product(&[128, r, n.saturating_add(p)]);
    within("scrypt's memory, 128 r (n + p) bytes,", memory, MAX_SCRYPT_BYTES)?;
    within("scrypt's work, n r p,", product(&[n, r, p]), MAX_SCRYPT_WORK)?;
    let log_n = n.trailing_zeros() as u8;
    // By the bounds above neither is cut.
    Ok(Function::Scrypt { log_n, r: r as u32, p: p as u32 })
}

fn parse_pbkdf2(params: &Value, names: &KdfNames) -> Result<Function, FormError> {
    expect(&params["prf"], names.prf, PRF)?;
    let iterations = number(&params["c"], names.c)?;
    within(names.c, iterations, MAX_ITERATIONS)?;
    match NonZeroU32::new(iterations as u32) {
        Some(iterations) => Ok(Function::Pbkdf2 { iterations }),
        None => Err(FormError::Field { field: names.c, expected: "1 or more" }),
    }
}

fn within(field: &'static str, got: u64, limit: u64) -> Result<(), FormError> {
    if got > limit { Err(FormError::Limit { field, got, limit }) } else { Ok(()) }
}

fn salt(value: &Value, field: &'static str) -> Result<Vec<u8>, FormError> {
    let error = FormError::Field { field, expected: "hex of at most 256 bytes" };
    let text = value.as_str().filter(|text| text.len() <= 2 + 2 * MAX_SALT_BYTES);
    text.and_then(|text| const_hex::decode(text).ok())
        .filter(|salt| salt.len() <= MAX_SALT_BYTES)
        .ok_or(error)
}
