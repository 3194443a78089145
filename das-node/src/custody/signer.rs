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
        // The birth of a storage id is signed, too, and is no list that states something.
        signed.is_signed_by(&PeerPublicKey(*self.identity.peer_key().as_bytes()))
    }
}

/// Ed25519 over these bytes.
pub(super) fn sign(identity: &PeerIdentity, bytes: &[u8]) -> [u8; 64] {
    let signature = identity.keypair().sign(bytes);
    signature.try_into().expect("an Ed25519 signature is 64 bytes long")
}

#[cfg(test)]
mod tests {
    use das_common::custody::StorageId;

    use super::*;

    #[test]
    fn the_birth_of_an_own_storage_id_is_known_again() {
        let signer = ListSigner::new(PeerIdentity::generate());
        let birth = signer.sign(StatementList::birth(StorageId([3; 16]), 1)).signed().clone();
        assert!(signer.is_own(&birth), "a member that was rolled back would never learn of it");
        assert!(!ListSigner::new(PeerIdentity::generate()).is_own(&birth));
    }
}
