//! Evidence as it is kept and shown: with the accused's own word that the peer key is its own.

use bincode::{Decode, Encode};

use super::codec;
use super::evidence::{Evidence, MAX_EVIDENCE_BYTES, NotProved};
use crate::binding::{BindingError, PeerKey, SignedBinding, VerifiedBinding};
use crate::committee::Committee;

/// A bundle: evidence, and the binding by which the accused's BLS key vouched for the peer key that signed it. With the
/// committee file it convinces whoever has never seen the accused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bundle {
    /// What the accused signed.
    pub evidence: Evidence,
    /// [`SignedBinding::encode`]; missing when no binding was known.
    pub binding: Option<Vec<u8>>,
}

impl Bundle {
    /// Puts a member's binding to the evidence against it.
    pub fn new(evidence: Evidence, binding: Option<&VerifiedBinding>) -> Self {
        Self { evidence, binding: binding.map(|binding| binding.signed().encode()) }
    }

    /// The bundle as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotProved> {
        Ok(codec::decode::<_, MAX_EVIDENCE_BYTES>(bytes)?)
    }

    /// Whose key signed the evidence, as far as the binding says: member index and peer key. The binding is judged at the
    /// time when it was issued: what counts is that the member's BLS key named this peer key as its own.
    pub fn accused(&self, committee: &Committee) -> Result<Option<(u8, PeerKey)>, BindingError> {
        let Some(bytes) = &self.binding else { return Ok(None) };
        let signed = SignedBinding::decode(bytes)?;
        let verified = signed.verify(committee, signed.binding.issued)?;
        Ok(Some((verified.index(), verified.peer_key())))
    }
}
