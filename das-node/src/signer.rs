//! Who holds the BLS key.
//!
//! A signer signs certificates' words, bindings of peer keys, and (once, in its public key) the proof that it has the
//! key: nothing else, so that a signer in a process of its own can refuse all else.

use das_common::binding::Binding;
use das_common::bls::{PublicKey, SecretKey, Signature};
use das_common::certificate::signed_bytes_v1;
use das_common::data_hash::DataHash;
use futures::future::BoxFuture;
use thiserror::Error;

/// Why there is no signature.
#[derive(Debug, Error)]
pub enum SignError {
    /// The signer cannot be reached at the moment.
    #[error("the signer is away: {reason}")]
    Away {
        /// What it or the network said.
        reason: &'static str,
    },
}

/// Signs promises to keep a batch. It is asked only after the batch is on disk.
pub trait Signer: Send + Sync {
    /// The key under which the signatures verify, with its proof of possession.
    fn public_key(&self) -> &PublicKey;

    /// Signs "this batch is kept until `timeout`" (unix seconds).
    fn sign(&self, data_hash: DataHash, timeout: u64) -> BoxFuture<'_, Result<Signature, SignError>>;

    /// Signs "this peer key speaks for this member". The binding is given whole, so that the signer itself makes the
    /// digest that it signs.
    fn sign_binding(&self, binding: &Binding) -> BoxFuture<'_, Result<Signature, SignError>>;
}

/// A key in this process's memory.
pub struct LocalSigner {
    secret: SecretKey,
    public: PublicKey,
}

impl LocalSigner {
    /// Takes the key.
    pub fn new(secret: SecretKey) -> Self {
        let public = secret.public_key();
        Self { secret, public }
    }
}

impl Signer for LocalSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, data_hash: DataHash, timeout: u64) -> BoxFuture<'_, Result<Signature, SignError>> {
        let signature = self.secret.sign(&signed_bytes_v1(&data_hash, timeout));
        Box::pin(std::future::ready(Ok(signature)))
    }

    fn sign_binding(&self, binding: &Binding) -> BoxFuture<'_, Result<Signature, SignError>> {
        let signature = self.secret.sign(&binding.digest());
        Box::pin(std::future::ready(Ok(signature)))
    }
}
