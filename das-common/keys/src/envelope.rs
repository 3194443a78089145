//! A member's key encrypted by a key management service.
//!
//! ```text
//! { "version": 1, "service": "aws-kms", "key": "arn:..", "publicKey": "<das_bls.pub>", "ciphertext": "<base64>" }
//! ```
//!
//! The service is told, at encryption and at decryption, that this is a member's key and which public key it belongs to
//! (its encryption context), so that no other ciphertext of the same service key can be put in its place, and its audit
//! trail says what was decrypted.

use base64_simd::STANDARD;
use das_common::bls::{PublicKey, PublicKeyError, SecretKey, SecretKeyError};
use das_common::fault::{self, Coded, Fault};
use das_common::keccak::keccak256;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::kms::{Context, KeyService, KmsError};

/// A longer file is no envelope.
pub const MAX_BYTES: usize = 64 << 10;

const VERSION: u64 = 1;
const PURPOSE: &str = "das-bls-key";

/// Why an envelope was not opened, or not made.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Not of this form. (The parser's words may repeat the file, in which somebody may have put a bare key.)
    #[error("it is no envelope (line {line}, column {column})")]
    Json {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A newer one.
    #[error("the envelope has version {got}, not {VERSION}")]
    Version {
        /// Its version.
        got: u64,
    },
    /// Of another service than was set up.
    #[error("the envelope is of the service {got:?}, not {expected}")]
    Service {
        /// The envelope's.
        got: String,
        /// Ours.
        expected: &'static str,
    },
    /// A field is no base64.
    #[error("the envelope's field {field} is not standard base64")]
    Encoding {
        /// Which.
        field: &'static str,
    },
    /// Its public key is none.
    #[error("the envelope's field publicKey: {0}")]
    PublicKey(#[from] PublicKeyError),
    /// The service.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// What was decrypted is no key.
    #[error("what the envelope holds is no key: {0}")]
    NoKey(#[from] SecretKeyError),
    /// What was decrypted is another key.
    #[error("the envelope's field publicKey is not the public key of what it holds")]
    OtherKey,
}

impl Coded for EnvelopeError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Kms(error) => error.fault(),
            Self::OtherKey => fault::KEY_MISMATCH,
            Self::Json { .. }
            | Self::Version { .. }
            | Self::Service { .. }
            | Self::Encoding { .. }
            | Self::PublicKey(_)
            | Self::NoKey(_) => fault::KEY_MALFORMED,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    version: u64,
    service: String,
    key: String,
    public_key: String,
    ciphertext: String,
}

/// An envelope; nothing is decrypted yet.
#[derive(Debug, Clone)]
pub struct Envelope {
    service: String,
    key: String,
    public_key: PublicKey,
    ciphertext: Vec<u8>,
}

impl Envelope {
    /// Reads one of at most [`MAX_BYTES`].
    pub fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        let written: Written = serde_json::from_slice(text)
            .map_err(|error| EnvelopeError::Json { line: error.line(), column: error.column() })?;
        if written.version != VERSION {
            return Err(EnvelopeError::Version { got: written.version });
        }
        let bytes =
            |field, text: &str| STANDARD.decode_to_vec(text).map_err(|_| EnvelopeError::Encoding { field });
        Ok(Self {
            public_key: PublicKey::parse(&bytes("publicKey", &written.public_key)?)?,
            ciphertext: bytes("ciphertext", &written.ciphertext)?,
            service: written.service,
            key: written.key,
        })
    }

    /// As a file.
    pub fn to_text(&self) -> String {
        let written = Written {
            version: VERSION,
            service: self.service.clone(),
            key: self.key.clone(),
            public_key: STANDARD.encode_to_string(self.public_key.to_bytes()),
            ciphertext: STANDARD.encode_to_string(&self.ciphertext),
        };
        format!("{:#}\n", serde_json::json!(written))
    }

    /// Whose key it says it holds.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Encrypts a key with the service's key of that name.
    pub async fn seal(
        service: &dyn KeyService,
        key: &str,
        secret: &SecretKey,
    ) -> Result<Self, EnvelopeError> {
        let public_key = secret.public_key();
        let plaintext: Zeroizing<[u8; 32]> = secret.to_be_bytes();
        let ciphertext = service.encrypt(key, &*plaintext, &context(&public_key)).await?;
        Ok(Self { service: service.name().to_owned(), key: key.to_owned(), public_key, ciphertext })
    }

    /// Has it decrypted.
    pub async fn open(&self, service: &dyn KeyService) -> Result<SecretKey, EnvelopeError> {
        if self.service != service.name() {
            let (got, expected) = (self.service.clone(), service.name());
            return Err(EnvelopeError::Service { got, expected });
        }
        let plaintext = service.decrypt(&self.key, &self.ciphertext, &context(&self.public_key)).await?;
        let secret = SecretKey::from_bytes(&plaintext)?;
        if secret.public_key() != self.public_key {
            return Err(EnvelopeError::OtherKey);
        }
        Ok(secret)
    }
}

fn context(key: &PublicKey) -> Context {
    let hash = const_hex::encode_prefixed(keccak256(&key.point_bytes()));
    Context::from([("purpose", PURPOSE.to_owned()), ("public-key", hash)])
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::future::{BoxFuture, ready};

    use super::*;

    /// Keeps what it was given, in the clear, in what it calls a ciphertext.
    struct Fake;

    impl KeyService for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn encrypt<'a>(
            &'a self,
            key: &'a str,
            plaintext: &'a [u8],
            context: &'a Context,
        ) -> BoxFuture<'a, Result<Vec<u8>, KmsError>> {
            Box::pin(ready(Ok([plaintext, format!("{key} {context:?}").as_bytes()].concat())))
        }

        fn decrypt<'a>(
            &'a self,
            key: &'a str,
            ciphertext: &'a [u8],
            context: &'a Context,
        ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KmsError>> {
            let (plaintext, rest) = ciphertext.split_at(32);
            Box::pin(ready(if rest == format!("{key} {context:?}").as_bytes() {
                Ok(Zeroizing::new(plaintext.to_vec()))
            } else {
                Err(KmsError::Refused { service: "fake", reason: "another context".into() })
            }))
        }
    }

    #[test]
    fn an_envelope_is_bound_to_its_public_key() {
        let secret = SecretKey::from_bytes(&[7; 32]).unwrap();
        let sealed = block_on(Envelope::seal(&Fake, "k", &secret)).unwrap();
        let read = Envelope::parse(sealed.to_text().as_bytes()).unwrap();
        assert_eq!(read.public_key(), &secret.public_key());
        assert_eq!(block_on(read.open(&Fake)).unwrap().to_be_bytes(), secret.to_be_bytes());

        let other = SecretKey::from_bytes(&[8; 32]).unwrap();
        let swapped = Envelope { public_key: other.public_key(), ..read.clone() };
        assert_eq!(block_on(swapped.open(&Fake)).unwrap_err().fault(), fault::KMS_REFUSED);
        let mut ciphertext = read.ciphertext.clone();
        ciphertext[..32].copy_from_slice(&*other.to_be_bytes());
        let changed = Envelope { ciphertext, ..read.clone() };
        assert_eq!(block_on(changed.open(&Fake)).unwrap_err().fault(), fault::KEY_MISMATCH);
        let elsewhere = Envelope { service: "aws-kms".into(), ..read };
        assert!(matches!(block_on(elsewhere.open(&Fake)), Err(EnvelopeError::Service { .. })));
        for text in ["", "00112233", "{}", r#"{"version":2}"#] {
            assert_eq!(Envelope::parse(text.as_bytes()).unwrap_err().fault(), fault::KEY_MALFORMED, "{text}");
        }
    }
}
