//! Who holds a member's BLS key, and what it may be asked to sign.
//!
//! **Guarantee.** A signer is never given bytes, only a [`Message`]: a certificate's word, a binding of a peer key, or the
//! proof that it has its key, each well-formed. So every implementation, here or in a process of its own, can refuse all
//! else, and nothing that is asked of one can be passed off as something of another kind: words have 41 bytes, bindings a
//! digest of 32, and the proof is in another mode.

use futures::future::BoxFuture;
use thiserror::Error;

use crate::binding::{Binding, BindingError};
use crate::bls::{PublicKey, SecretKey, Signature};
use crate::certificate::signed_bytes_v1;
use crate::data_hash::DataHash;
use crate::fault::{self, Coded, Fault};
use crate::secret_memory::Locked;

/// What is not signed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum MessageError {
    /// Beyond what other implementations of the protocol can represent.
    #[error("timeout {timeout} is above the limit {}", i64::MAX)]
    Timeout {
        /// Unix seconds.
        timeout: u64,
    },
    /// No binding that could be in force.
    #[error(transparent)]
    Binding(#[from] BindingError),
}

/// What a signer signs. Well-formed: there is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Kind);

/// The kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// "This batch is kept until then."
    Certificate {
        /// The batch.
        data_hash: DataHash,
        /// Unix seconds.
        timeout: u64,
    },
    /// "This peer key speaks for this member."
    Binding(Binding),
    /// "I have the secret key of this public key."
    Possession,
}

impl Message {
    /// The word of a certificate: "this batch is kept until `timeout`" (unix seconds).
    pub fn certificate(data_hash: DataHash, timeout: u64) -> Result<Self, MessageError> {
        if i64::try_from(timeout).is_err() {
            return Err(MessageError::Timeout { timeout });
        }
        Ok(Self(Kind::Certificate { data_hash, timeout }))
    }

    /// A binding. It is given whole, so that the signer itself makes the digest that it signs.
    pub fn binding(binding: Binding) -> Result<Self, MessageError> {
        binding.check_shape()?;
        Ok(Self(Kind::Binding(binding)))
    }

    /// The proof that the signer has its key.
    pub fn possession() -> Self {
        Self(Kind::Possession)
    }

    /// What it says.
    pub fn kind(&self) -> &Kind {
        &self.0
    }

    /// Signs it.
    pub fn sign(&self, secret: &SecretKey) -> Signature {
        match &self.0 {
            Kind::Certificate { data_hash, timeout } => secret.sign(&signed_bytes_v1(data_hash, *timeout)),
            Kind::Binding(binding) => secret.sign(&binding.digest()),
            Kind::Possession => secret.prove_possession(),
        }
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &PublicKey, signature: &Signature) -> bool {
        match &self.0 {
            Kind::Certificate { data_hash, timeout } => {
                key.verify(&signed_bytes_v1(data_hash, *timeout), signature)
            }
            Kind::Binding(binding) => key.verify(&binding.digest(), signature),
            Kind::Possession => key.is_proved_by(signature),
        }
    }
}

/// Why there is no signature.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SignError {
    /// What was to be signed is not well-formed.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The signer cannot be reached at the moment.
    #[error("the signer {signer} is away: {reason}")]
    Away {
        /// Host and port.
        signer: String,
        /// What it or the network said.
        reason: String,
    },
    /// The signer does not want to.
    #[error("the signer {signer} refuses: {reason}")]
    Refused {
        /// Host and port.
        signer: String,
        /// Its words.
        reason: String,
    },
    /// The signer's answer is not what was asked for.
    #[error("the signer {signer} gives no signature of this member's key: {reason}")]
    Wrong {
        /// Host and port.
        signer: String,
        /// What is wrong.
        reason: String,
    },
}

impl Coded for SignError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Message(_) => fault::STORE_SIGN,
            Self::Away { .. } => fault::KEY_SIGNER_AWAY,
            Self::Refused { .. } => fault::KEY_SIGNER_REFUSED,
            Self::Wrong { .. } => fault::KEY_SIGNER_WRONG,
        }
    }
}

/// Signs with a member's BLS key. For equal messages, all implementations give equal signatures.
pub trait Signer: Send + Sync {
    /// The key under which the signatures verify, with its proof of possession.
    fn public_key(&self) -> &PublicKey;

    /// Signs. A certificate's word is asked for only after the batch is on disk.
    fn sign(&self, message: Message) -> BoxFuture<'_, Result<Signature, SignError>>;
}

/// A key in this process's memory.
pub struct LocalSigner {
    secret: Locked<SecretKey>,
    public: PublicKey,
}

impl LocalSigner {
    /// Takes the key.
    pub fn new(secret: SecretKey) -> Self {
        let public = secret.public_key();
        Self { secret: Locked::new(secret), public }
    }

    /// Whether the key's memory never goes to swap space: the system allows a process only so much of such memory.
    pub fn is_locked(&self) -> bool {
        self.secret.is_locked()
    }
}

impl Signer for LocalSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Takes a fraction of a millisecond, in the thread that calls it.
    fn sign(&self, message: Message) -> BoxFuture<'_, Result<Signature, SignError>> {
        let signature = message.sign(&self.secret);
        Box::pin(std::future::ready(Ok(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_signed_under_its_own_rules() {
        let secret = SecretKey::from_bytes(&[9]).unwrap();
        let other = SecretKey::from_bytes(&[10]).unwrap().public_key();
        let signer = LocalSigner::new(secret.clone());
        let (key, hash) = (signer.public_key().clone(), DataHash::from_bytes([5; 32]));
        let word = Message::certificate(hash, 77).unwrap();
        let signature = futures::executor::block_on(signer.sign(word.clone())).unwrap();
        assert_eq!(signature, secret.sign(&signed_bytes_v1(&hash, 77)));
        assert!(word.is_signed_by(&key, &signature) && !word.is_signed_by(&other, &signature));
        assert!(!Message::certificate(hash, 78).unwrap().is_signed_by(&key, &signature));
        assert!(!Message::possession().is_signed_by(&key, &signature));

        let proof = futures::executor::block_on(signer.sign(Message::possession())).unwrap();
        assert!(Message::possession().is_signed_by(&key, &proof));
        assert_eq!(key.to_bytes()[1..97], proof.to_bytes());

        let timeout = 1 << 63;
        assert_eq!(Message::certificate(hash, timeout), Err(MessageError::Timeout { timeout }));
    }
}
