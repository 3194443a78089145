//! A member's BLS key encrypted with a password: the keystore of EIP-2335, version 4.
//!
//! ```text
//! password (NFKD, control codes left out) --kdf(salt)--> derived key, 32 bytes
//!                         | first 16: key of aes-128-ctr(iv): message <-> secret key
//!                         | last 16:  checksum = sha256(last 16 || message)
//! ```
//!
//! The secret is the scalar of [`SecretKey`], 32 bytes, big-endian: for an equal scalar, Ethereum's validators have
//! another public key (theirs is in G1, a member's in G2) and other signatures. So `pubkey` holds what `das_bls.pub`
//! does, in hex, and `path` is empty: the key was drawn, not derived.
//!
//! The checksum covers the encrypted message only. That no other byte of the file changes the key unseen is for
//! `pubkey`: a keystore without it, or with another key's, is refused.

pub mod parts;

use rand::RngCore;
use ring::digest;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::bls::{PublicKey, PublicKeyError, SecretKey, SecretKeyError};
use crate::fault::{self, Coded, Fault};
use crate::password::Password;
use parts::{
    CIPHER, DERIVED_BYTES, FormError, Kdf, KdfNames, SCRYPT, SCRYPT_P, SCRYPT_R, STRONGEST_LOG_N,
    WEAKEST_LOG_N, apply_cipher, bytes, expect, json, number, uuid,
};

/// A longer file is no keystore.
pub const MAX_BYTES: usize = 64 << 10;

const VERSION: u64 = 4;
const CHECKSUM: &str = "sha256";
const NAMES: KdfNames = KdfNames {
    function: "crypto.kdf.function",
    params: "crypto.kdf.params",
    dklen: "crypto.kdf.params.dklen",
    salt: "crypto.kdf.params.salt",
    n: "crypto.kdf.params.n",
    r: "crypto.kdf.params.r",
    p: "crypto.kdf.params.p",
    c: "crypto.kdf.params.c",
    prf: "crypto.kdf.params.prf",
};

/// Why a keystore was not opened, or not made.
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
    /// The checksum is another.
    #[error("the password is wrong, or the keystore is damaged")]
    Password,
    /// What was encrypted is no key.
    #[error("what the keystore holds is no key: {0}")]
    NoKey(#[from] SecretKeyError),
    /// Its public key is none.
    #[error("the keystore's field pubkey is no public key of a member (das_bls.pub in hex): {0}")]
    PublicKey(#[from] PublicKeyError),
    /// The key is another than the keystore says.
    #[error("the keystore's field pubkey is not the public key of what it holds")]
    OtherKey,
}

impl Coded for KeystoreError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Password => fault::KEY_PASSWORD,
            Self::OtherKey => fault::KEY_MISMATCH,
            Self::Form(_) | Self::Strength { .. } | Self::NoKey(_) | Self::PublicKey(_) => {
                fault::KEY_MALFORMED
            }
        }
    }
}

/// A keystore whose every field is within its bounds; nothing is decrypted yet.
#[derive(Debug)]
pub struct Keystore {
    sealed: Sealed,
    public_key: PublicKey,
}

impl Keystore {
    /// Reads a keystore.
    pub fn parse(text: &[u8]) -> Result<Self, KeystoreError> {
        let whole = json(text)?;
        if number(&whole["version"], "version")? != VERSION {
            return Err(FormError::Field { field: "version", expected: "4 (EIP-2335)" }.into());
        }
        let sealed = Sealed::parse(&whole["crypto"])?;
        let field = "pubkey";
        let error = FormError::Field { field, expected: "the public key (das_bls.pub) in hex" };
        let text = whole[field].as_str().filter(|text| text.len() <= MAX_BYTES).ok_or(error.clone())?;
        let public_key = PublicKey::parse(&const_hex::decode(text).map_err(|_| error)?)?;
        Ok(Self { sealed, public_key })
    }

    /// Whose key it says it holds.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Decrypts the key. Takes a second or more, and memory, as the file says within bounds, so it does not belong where
    /// others wait.
    pub fn open(&self, password: &Password) -> Result<SecretKey, KeystoreError> {
        let key = SecretKey::from_bytes(&*self.sealed.open(password)?)?;
        if key.public_key() != self.public_key {
            return Err(KeystoreError::OtherKey);
        }
        Ok(key)
    }

    /// A keystore of this key, as JSON. `log_n`, [`WEAKEST_LOG_N`] to [`STRONGEST_LOG_N`], says how much work a guess of
    /// the password takes, and so every opening. Salt, iv and id are drawn at random.
    pub fn write(key: &SecretKey, password: &Password, log_n: u8) -> Result<String, KeystoreError> {
        let crypto = seal_secret(key.to_be_bytes(), password, log_n)?;
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        let keystore = json!({
            "crypto": crypto,
            "description": "BLS key of a data availability committee's member",
            "pubkey": const_hex::encode(key.public_key().to_bytes()),
            "path": "",
            "uuid": uuid(id),
            "version": VERSION,
        });
        Ok(format!("{keystore:#}\n"))
    }
}

/// The field `crypto` of a keystore that holds any 32 bytes. `log_n` as for [`Keystore::write`].
pub fn seal_secret(
    secret: Zeroizing<[u8; 32]>,
    password: &Password,
    log_n: u8,
) -> Result<Value, KeystoreError> {
    if !(WEAKEST_LOG_N..=STRONGEST_LOG_N).contains(&log_n) {
        return Err(KeystoreError::Strength { got: log_n });
    }
    let (mut salt, mut iv) = ([0; 32], [0; 16]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut iv);
    let derived = Kdf::new_scrypt(log_n, salt).derive(&normalized(password), &NAMES)?;
    let mut message = secret;
    apply_cipher(&derived, &iv, &mut message);
    Ok(json!({
        "kdf": {
            "function": SCRYPT,
            "params": {
                "dklen": DERIVED_BYTES,
                "n": 1_u64 << log_n,
                "r": SCRYPT_R,
                "p": SCRYPT_P,
                "salt": const_hex::encode(salt),
            },
            "message": "",
        },
        "checksum": {
            "function": CHECKSUM,
            "params": {},
            "message": const_hex::encode(checksum(&derived, &message)),
        },
        "cipher": {
            "function": CIPHER,
            "params": { "iv": const_hex::encode(iv) },
            "message": const_hex::encode(*message),
        },
    }))
}

/// What [`seal_secret`] sealed. Takes as much time and memory as [`Keystore::open`].
pub fn open_secret(crypto: &Value, password: &Password) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    Sealed::parse(crypto)?.open(password)
}

/// The field `crypto`: any 32 bytes under a password.
#[derive(Debug)]
struct Sealed {
    kdf: Kdf,
    iv: [u8; 16],
    message: [u8; 32],
    checksum: [u8; 32],
}

impl Sealed {
    fn parse(crypto: &Value) -> Result<Self, FormError> {
        let (kdf, checksum, cipher) = (&crypto["kdf"], &crypto["checksum"], &crypto["cipher"]);
        expect(&checksum["function"], "crypto.checksum.function", CHECKSUM)?;
        expect(&cipher["function"], "crypto.cipher.function", CIPHER)?;
        Ok(Self {
            kdf: Kdf::parse(&kdf["function"], &kdf["params"], &NAMES)?,
            iv: bytes(&cipher["params"]["iv"], "crypto.cipher.params.iv", "16 bytes in hex")?,
            message: bytes(&cipher["message"], "crypto.cipher.message", "32 bytes in hex")?,
            checksum: bytes(&checksum["message"], "crypto.checksum.message", "32 bytes in hex")?,
        })
    }

    fn open(&self, password: &Password) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let derived = self.kdf.derive(&normalized(password), &NAMES)?;
        if !bool::from(checksum(&derived, &self.message).ct_eq(&self.checksum)) {
            return Err(KeystoreError::Password);
        }
        let mut secret = Zeroizing::new(self.message);
        apply_cipher(&derived, &self.iv, &mut secret);
        Ok(secret)
    }
}

fn checksum(derived: &[u8; DERIVED_BYTES], message: &[u8; 32]) -> [u8; 32] {
    let mut input = Zeroizing::new([0; 48]);
    input[..16].copy_from_slice(&derived[16..]);
    input[16..].copy_from_slice(message);
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, &*input).as_ref());
    out
}

/// The password as the EIP has it: NFKD, then without C0, C1 and Delete. What is no UTF-8 is taken as it is.
fn normalized(password: &Password) -> Zeroizing<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(password.as_bytes()) else {
        return Zeroizing::new(password.as_bytes().to_vec());
    };
    // No character becomes longer than this by NFKD, so that the buffer never moves and leaves a copy behind.
    const LONGEST: usize = 18;
    let mut out = Zeroizing::new(Vec::with_capacity(LONGEST * text.len()));
    let normalizer = icu_normalizer::DecomposingNormalizerBorrowed::new_nfkd();
    for character in normalizer.normalize_iter(text.chars()).filter(|character| !character.is_control()) {
        let mut utf8 = Zeroizing::new([0; 4]);
        out.extend_from_slice(character.encode_utf8(&mut *utf8).as_bytes());
    }
    out
}

#[cfg(test)]
mod tests;
