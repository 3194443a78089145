//! Who may store: the signatures of store requests (spec section 5).

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;

use rand::RngCore;
use secp256k1::ecdsa::{self, RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::data_hash::DataHash;
use crate::fault::{self, Coded, Fault};
use crate::keccak::keccak256;

const DOMAIN: &[u8] = b"Arbitrum Nitro DAS API Store:";
const POST_DOMAIN: &[u8] = b"das-aggregator postBatch v1:";

/// Bytes of a request signature.
pub const SIGNATURE_BYTES: usize = 65;

/// An Ethereum address. Displayed with its checksum (EIP-55).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 20]);

/// What is no address.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("an address is 0x and 40 hex digits, not {got} characters of which some may be no hex")]
pub struct ParseAddressError {
    /// Characters given.
    pub got: usize,
}

impl Address {
    /// Takes the bytes of an address.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    fn of(key: &PublicKey) -> Self {
        let hash = keccak256(&key.serialize_uncompressed()[1..]);
        Self(hash[12..].try_into().expect("20 bytes"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = const_hex::encode(self.0);
        let hash = keccak256(digits.as_bytes());
        f.write_str("0x")?;
        for (i, digit) in digits.chars().enumerate() {
            let nibble = hash[i / 2] >> (4 * (1 - i % 2)) & 0xf;
            fmt::Write::write_char(f, if nibble >= 8 { digit.to_ascii_uppercase() } else { digit })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 20];
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.starts_with("0x") || const_hex::decode_to_slice(digits, &mut bytes).is_err() {
            return Err(ParseAddressError { got: text.len() });
        }
        Ok(Self(bytes))
    }
}

/// What a store request's signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestDigest([u8; 32]);

impl RequestDigest {
    /// Of any request: its bytes, and the numbers that are signed with them.
    pub fn over(data: &[u8], extras: &[u64]) -> Self {
        let extras: Vec<u8> = extras.iter().flat_map(|extra| extra.to_be_bytes()).collect();
        Self(*DataHash::of_parts(&[DOMAIN, &extras, data]).as_bytes())
    }

    /// Of `das_store`.
    pub fn store(message: &[u8], timeout: u64) -> Self {
        Self::over(message, &[timeout])
    }

    /// Of `das_startChunkedStore`.
    pub fn start_chunked(
        timestamp: u64,
        n_chunks: u64,
        chunk_size: u64,
        total_size: u64,
        timeout: u64,
    ) -> Self {
        Self::over(&[], &[timestamp, n_chunks, chunk_size, total_size, timeout])
    }

    /// Of `das_sendChunk`.
    pub fn send_chunk(chunk: &[u8], message_id: u64, chunk_id: u64) -> Self {
        Self::over(chunk, &[message_id, chunk_id])
    }

    /// Of `das_commitChunkedStore`.
    pub fn commit_chunked(message_id: u64) -> Self {
        Self::over(&[], &[message_id])
    }

    /// Of `das_postBatch`, a request of our own. `numbers`: timeout, delayed messages read after it, message counts before
    /// and after it. Chain and contract are part of it, so that a batch can be posted nowhere else.
    pub fn post_batch(chain_id: u64, inbox: &[u8; 20], numbers: [u64; 4], message: &[u8]) -> Self {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let chain_id = chain_id.to_be_bytes();
        Self(*DataHash::of_parts(&[POST_DOMAIN, &chain_id, inbox, &numbers, message]).as_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What is no signature of a request.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// Too few or too many bytes.
    #[error("a request signature is {SIGNATURE_BYTES} bytes long, not {got}")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// The last byte.
    #[error("invalid signature recovery id: {got} is none of 0, 1, 27, 28")]
    RecoveryId {
        /// The last byte.
        got: u8,
    },
    /// No key has made it.
    #[error("no key can have made this signature")]
    Impossible,
}

/// What is no key for signing requests.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StoreKeyError {
    /// A secret key.
    #[error("a store key is 64 hex digits below the group order of secp256k1")]
    Secret,
    /// A public key.
    #[error("a public key is 0x and the hex of the 65 bytes of an uncompressed secp256k1 key")]
    Public,
}

/// A secret key that signs store requests. Never printed.
pub struct StoreKey(SecretKey);

impl Drop for StoreKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

impl StoreKey {
    /// Draws a key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rand::rng().fill_bytes(&mut *bytes);
            if let Ok(key) = SecretKey::from_byte_array(*bytes) {
                return Self(key);
            }
        }
    }

    /// Reads 64 hex digits, with or without 0x.
    pub fn from_hex(text: &str) -> Result<Self, StoreKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        const_hex::decode_to_slice(text, &mut *bytes).map_err(|_| StoreKeyError::Secret)?;
        SecretKey::from_byte_array(*bytes).map(Self).map_err(|_| StoreKeyError::Secret)
    }

    /// 64 hex digits, as in the key file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.secret_bytes());
        Zeroizing::new(const_hex::encode(bytes.as_slice()))
    }

    /// The address that requests signed with it come from.
    pub fn address(&self) -> Address {
        Address::of(&self.0.public_key(SECP256K1))
    }

    /// The uncompressed public key.
    pub fn public_key(&self) -> [u8; 65] {
        self.0.public_key(SECP256K1).serialize_uncompressed()
    }

    /// Signs a request: `r || s || v`, v being 0 or 1 (RFC 6979, so equal requests give equal signatures).
    pub fn sign(&self, digest: &RequestDigest) -> [u8; SIGNATURE_BYTES] {
        let message = Message::from_digest(digest.0);
        let (id, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &self.0).serialize_compact();
        let mut out = [0; SIGNATURE_BYTES];
        out[..64].copy_from_slice(&bytes);
        out[64] = u8::try_from(i32::from(id)).expect("a recovery id is 0 to 3");
        out
    }
}

fn split_signature(signature: &[u8]) -> Result<(&[u8], RecoveryId), SignatureError> {
    if signature.len() != SIGNATURE_BYTES {
        return Err(SignatureError::Length { got: signature.len() });
    }
    let id = match signature[64] {
        0 | 27 => RecoveryId::Zero,
        1 | 28 => RecoveryId::One,
        got => return Err(SignatureError::RecoveryId { got }),
    };
    Ok((&signature[..64], id))
}

fn recover_key(digest: &RequestDigest, signature: &[u8]) -> Result<PublicKey, SignatureError> {
    let (compact, id) = split_signature(signature)?;
    let message = Message::from_digest(digest.0);
    RecoverableSignature::from_compact(compact, id)
        .and_then(|signature| SECP256K1.recover_ecdsa(message, &signature))
        .map_err(|_| SignatureError::Impossible)
}

/// The address that signed a request: 65 bytes, v being 0, 1, 27 or 28, any s.
pub fn recover(digest: &RequestDigest, signature: &[u8]) -> Result<Address, SignatureError> {
    recover_key(digest, signature).map(|key| Address::of(&key))
}

/// The public key of somebody who may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerKey(PublicKey);

impl SignerKey {
    /// Reads 65 bytes in hex, with or without 0x.
    pub fn parse(text: &str) -> Result<Self, StoreKeyError> {
        let mut bytes = [0; 65];
        const_hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| StoreKeyError::Public)?;
        PublicKey::from_byte_array_uncompressed(bytes).map(Self).map_err(|_| StoreKeyError::Public)
    }

    /// Its address.
    pub fn address(&self) -> Address {
        Address::of(&self.0)
    }

    /// Whether this key signed the request. Which of the two values v has does not matter, since the key is known.
    pub fn signed(&self, digest: &RequestDigest, signature: &[u8]) -> bool {
        let Ok((compact, _)) = split_signature(signature) else { return false };
        let Ok(mut signature) = ecdsa::Signature::from_compact(compact) else { return false };
        // The library verifies the low one of the two values that s may have; both are of the same signer.
        signature.normalize_s();
        SECP256K1.verify_ecdsa(Message::from_digest(digest.0), &signature, &self.0).is_ok()
    }
}

/// Why a request is refused. The texts are those that callers know.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// Signed by nobody who may, or not at all.
    #[error("request not properly signed")]
    NotProperlySigned,
    /// Nobody may.
    #[error("no signature verification method configured")]
    NotConfigured,
    /// Neither yes nor no: whoever has to be asked about the signer does not answer. Trying again may help.
    #[error("cannot tell now whether the signer of this request may store: try again")]
    Untold,
}

impl Coded for AuthError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::NotProperlySigned => fault::STORE_NOT_SIGNED,
            Self::NotConfigured => fault::STORE_NO_METHOD,
            Self::Untold => fault::CHAIN_SIGNER,
        }
    }
}

/// Whoever was to be asked about a signer cannot be asked now; why is on the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untold;

/// Somebody else to ask whether an address may store, such as a contract.
pub trait SignerRegistry: Send + Sync {
    /// Whether requests of this address are accepted.
    fn may_store(&self, address: Address) -> Pin<Box<dyn Future<Output = Result<bool, Untold>> + Send + '_>>;
}

/// Whose store requests are accepted.
#[derive(Default)]
pub struct StoreSigners {
    disabled: bool,
    key: Option<SignerKey>,
    allowed: Vec<Address>,
    registry: Option<Box<dyn SignerRegistry>>,
}

impl StoreSigners {
    /// Accepts requests of these addresses.
    pub fn allowing(allowed: Vec<Address>) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// Accepts requests of the holder of this key too.
    #[must_use]
    pub fn with_key(self, key: SignerKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Accepts everything. For tests only.
    pub fn unchecked() -> Self {
        Self { disabled: true, ..Self::default() }
    }

    /// Asks `registry` about addresses that are not on the list.
    #[must_use]
    pub fn with_registry(self, registry: impl SignerRegistry + 'static) -> Self {
        Self { registry: Some(Box::new(registry)), ..self }
    }

    /// Whether anybody may store.
    pub fn is_configured(&self) -> bool {
        self.disabled || self.key.is_some() || !self.allowed.is_empty() || self.registry.is_some()
    }

    /// Whether everybody may store.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Checks a request. The digest is computed only if there is something to check it against.
    pub async fn check(
        &self,
        digest: impl FnOnce() -> RequestDigest + Send,
        signature: &[u8],
    ) -> Result<(), AuthError> {
        if self.disabled {
            return Ok(());
        }
        if !self.is_configured() {
            return Err(AuthError::NotConfigured);
        }
        if signature.len() != SIGNATURE_BYTES {
            return Err(AuthError::NotProperlySigned);
        }
        let digest = digest();
        if self.key.is_some_and(|key| key.signed(&digest, signature)) {
            return Ok(());
        }
        if self.allowed.is_empty() && self.registry.is_none() {
            return Err(AuthError::NotProperlySigned);
        }
        let address = recover(&digest, signature).map_err(|_| AuthError::NotProperlySigned)?;
        if self.allowed.contains(&address) {
            return Ok(());
        }
        match &self.registry {
            Some(registry) => match registry.may_store(address).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(AuthError::NotProperlySigned),
                Err(Untold) => Err(AuthError::Untold),
            },
            None => Err(AuthError::NotProperlySigned),
        }
    }
}

/// Why the options that say who may store cannot be used.
#[derive(Debug, Error)]
pub enum SignersError {
    /// An allowed address.
    #[error("--data-availability.allowed-signers: {0}")]
    Address(#[from] ParseAddressError),
    /// The further signer's key.
    #[error("--data-availability.extra-signature-checking-public-key: {0}")]
    Key(#[from] StoreKeyError),
    /// The file of that key.
    #[error("--data-availability.extra-signature-checking-public-key: cannot read {}: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
}

impl StoreSigners {
    /// Those whom the options name: `allowed` are addresses, `extra_key` is a public key (0x and hex), the path of a
    /// file with one, or empty.
    pub fn from_options(allowed: &[String], extra_key: &str) -> Result<Self, SignersError> {
        let allowed = allowed.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
        let signers = Self::allowing(allowed);
        let text = match extra_key.trim() {
            "" => return Ok(signers),
            key if key.starts_with("0x") => key.to_owned(),
            file => std::fs::read_to_string(file)
                .map_err(|source| SignersError::KeyFile { path: file.into(), source })?,
        };
        Ok(signers.with_key(SignerKey::parse(&text)?))
    }
}

#[cfg(test)]
mod tests;
