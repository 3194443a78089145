//! Key management services: keys that encrypt and decrypt for us and never leave the service.

pub mod aws;

use std::collections::BTreeMap;

use das_common::fault::{self, Coded, Fault};
use futures::future::BoxFuture;
use thiserror::Error;
use zeroize::Zeroizing;

/// What a ciphertext is bound to: the service decrypts only if it is given again.
pub type Context = BTreeMap<&'static str, String>;

/// Why a service did not do it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KmsError {
    /// No answer, or no credentials to ask with.
    #[error("{service} does not answer: {reason}")]
    Away {
        /// The service.
        service: &'static str,
        /// Why.
        reason: String,
    },
    /// It does not want to.
    #[error("{service} refuses: {reason}")]
    Refused {
        /// The service.
        service: &'static str,
        /// Its words.
        reason: String,
    },
    /// The settings.
    #[error("{service}: {reason}")]
    Settings {
        /// The service.
        service: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Coded for KmsError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Away { .. } => fault::KMS_AWAY,
            Self::Refused { .. } => fault::KMS_REFUSED,
            Self::Settings { .. } => fault::CONFIG_VALUE,
        }
    }
}

/// A service. Another one than Amazon's needs these three functions and a name in an envelope.
pub trait KeyService: Send + Sync {
    /// How envelopes name it.
    fn name(&self) -> &'static str;

    /// Encrypts up to 4 KiB with the key of that name.
    fn encrypt<'a>(
        &'a self,
        key: &'a str,
        plaintext: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsError>>;

    /// Decrypts, if key and context are those of the encryption.
    fn decrypt<'a>(
        &'a self,
        key: &'a str,
        ciphertext: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KmsError>>;
}
