//! Signing lists with the peer key.

use das_common::custody::{PeerPublicKey, SignLists, SignedList, StatementList, VerifiedList};

use crate::peer::PeerIdentity;

/// Signs with this node's peer key, which is in memory.
pub(super) struct ListSigner {
    identity: PeerIdentity,
}

impl ListSigner {
    pub(super) fn new(identity: PeerIdentity) -> Self {
        Self { identity }
    }
}

impl SignLists for ListSigner {
    fn sign(&self, list: StatementList) -> VerifiedList {
        list.sign_with(|bytes| sign(&self.identity, bytes))
    }

    fn is_own(&self, signed: &SignedList) -> bool {
        signed.clone().verify(&PeerPublicKey(*self.identity.peer_key().as_bytes())).is_ok()
    }
}

/// Ed25519 over these bytes.
pub(super) fn sign(identity: &PeerIdentity, bytes: &[u8]) -> [u8; 64] {
    let signature = identity.keypair().sign(bytes);
    signature.try_into().expect("an Ed25519 signature is 64 bytes long")
}
