//! Cards: what a member tells about itself and others pass on. Its binding, and its addresses signed by its peer key.
//!
//! ```text
//! u8 version || bincode( peer key, signed binding or nothing (mirrors), u64 sequence, addresses, signature (64) )
//! signed by the peer key: "das peer addresses" || u8 version || bincode( peer key, sequence, addresses )
//! ```

use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;
use das_common::binding::{BindingError, MemberId, PeerKey, SignedBinding, VerifiedBinding};
use das_common::committee::Committee;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use super::address::{is_peer_address, peer_id};
use super::identity::{PeerIdentity, peer_key_signed};

/// Longest encoding of a card.
pub(super) const MAX_BYTES: usize = 3500;
/// Most addresses of a card.
pub(super) const MAX_ADDRESSES: usize = 8;
/// Longest address, as text.
const MAX_ADDRESS: usize = 256;
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"das peer addresses";

/// A card as it travels: nothing about it is known to be true.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Card {
    /// The key that the connection must be of.
    pub peer_key: PeerKey,
    /// The member's binding, encoded; a mirror has none.
    pub binding: Option<Vec<u8>>,
    /// Rises with every change of the addresses.
    pub sequence: u64,
    /// Addresses in multiaddr notation.
    pub addresses: Vec<String>,
    /// Signature of the peer key over sequence and addresses.
    pub signature: [u8; 64],
}

/// What is no card, or none of anybody we know.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CardError {
    /// Not the encoding of a card.
    #[error("the card is malformed")]
    Malformed,
    /// The peer key did not sign the addresses.
    #[error("the addresses are not signed by the peer key")]
    Signature,
    /// Somebody else's card.
    #[error("the card is of another peer key than the connection")]
    OtherPeer,
    /// The binding.
    #[error("{0}")]
    Binding(#[from] BindingError),
    /// The binding is for another peer key.
    #[error("the binding is for another peer key")]
    OtherKey,
    /// Neither a member nor a mirror.
    #[error("no binding, and no mirror of the committee file has this peer id")]
    Unknown,
    /// There is a newer binding of this member.
    #[error("the binding is superseded by one issued at {newest}")]
    Superseded {
        /// Unix seconds.
        newest: u64,
    },
    /// It says that it is us.
    #[error("the binding is of the member that it was shown to: two programs run with one key")]
    Ourselves,
}

impl CardError {
    /// Value of the label `reason` of the metric of refusals.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature | Self::OtherPeer | Self::OtherKey => "card",
            Self::Binding(BindingError::Expired { .. }) => "expired",
            Self::Binding(BindingError::OtherCoding { .. }) => "other-coding",
            Self::Binding(BindingError::OtherCommittee { .. }) => "other-committee",
            Self::Binding(_) => "binding",
            Self::Unknown => "unknown",
            Self::Superseded { .. } => "superseded",
            Self::Ourselves => "ourselves",
        }
    }
}

fn signed_bytes(peer_key: &PeerKey, sequence: u64, addresses: &[String]) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.push(VERSION);
    bincode::encode_into_std_write((peer_key, sequence, addresses), &mut out, bincode::config::standard())
        .expect("writing to memory");
    out
}

impl Card {
    /// Signs a card. Addresses beyond the bounds are left out.
    pub fn sign(
        identity: &PeerIdentity,
        binding: Option<&SignedBinding>,
        sequence: u64,
        addresses: &[Multiaddr],
    ) -> Self {
        let peer_key = identity.peer_key();
        let texts = addresses.iter().map(ToString::to_string).filter(|text| text.len() <= MAX_ADDRESS);
        let addresses: Vec<String> = texts.take(MAX_ADDRESSES).collect();
        let signature = identity.sign(&signed_bytes(&peer_key, sequence, &addresses));
        Self { peer_key, binding: binding.map(SignedBinding::encode), sequence, addresses, signature }
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        bincode::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("writing to memory");
        out
    }

    /// Reads a card within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        let rest = bytes.strip_prefix(&[VERSION]).filter(|_| bytes.len() <= MAX_BYTES);
        let rest = rest.ok_or(CardError::Malformed)?;
        let config = bincode::config::standard().with_limit::<{ 4 * MAX_BYTES }>();
        let (card, used): (Self, usize) =
            bincode::decode_from_slice(rest, config).map_err(|_| CardError::Malformed)?;
        let short = card.addresses.iter().all(|address| address.len() <= MAX_ADDRESS);
        if used != rest.len() || card.addresses.len() > MAX_ADDRESSES || !short || card.encode() != bytes {
            return Err(CardError::Malformed);
        }
        Ok(card)
    }
}

/// A card that was checked.
#[derive(Clone, Debug)]
pub(super) struct KnownCard {
    pub(super) member: MemberId,
    pub(super) peer: PeerId,
    /// `None` for a mirror.
    pub(super) binding: Option<VerifiedBinding>,
    pub(super) sequence: u64,
    pub(super) addresses: Vec<Multiaddr>,
    /// As it travels.
    pub(super) bytes: Bytes,
}

impl KnownCard {
    /// Checks a card. A binding that is known already is not verified again: that is the costly part.
    pub(super) fn check(
        bytes: &[u8],
        committees: &[Arc<Committee>],
        now: u64,
        known: impl Fn(&SignedBinding) -> Option<VerifiedBinding>,
    ) -> Result<Self, CardError> {
        let card = Card::decode(bytes)?;
        let signed = signed_bytes(&card.peer_key, card.sequence, &card.addresses);
        if !peer_key_signed(&card.peer_key, &signed, &card.signature) {
            return Err(CardError::Signature);
        }
        let peer = peer_id(&card.peer_key).ok_or(CardError::Signature)?;
        let addresses = card.addresses.iter().filter_map(|text| text.parse().ok());
        let addresses = addresses.filter(is_peer_address).collect();
        let (member, binding) = match &card.binding {
            None => {
                let named = |committee: &Arc<Committee>| {
                    committee.mirrors().iter().any(|m| m.peer_key == card.peer_key)
                };
                if !committees.iter().any(named) {
                    return Err(CardError::Unknown);
                }
                (MemberId::of_mirror(&card.peer_key), None)
            }
            Some(binding) => {
                let signed = SignedBinding::decode(binding)?;
                if signed.binding.peer_key != card.peer_key {
                    return Err(CardError::OtherKey);
                }
                let binding = match known(&signed) {
                    Some(binding) if binding.is_in_force(now) => binding,
                    _ => verify(&signed, committees, now)?,
                };
                (binding.member(), Some(binding))
            }
        };
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(Self { member, peer, binding, sequence: card.sequence, addresses, bytes })
    }

    /// Whether it takes the place of the other one.
    pub(super) fn supersedes(&self, other: &Self) -> bool {
        match (&self.binding, &other.binding) {
            (Some(ours), Some(theirs)) if ours != theirs => ours.supersedes(theirs),
            _ => self.peer == other.peer && self.sequence > other.sequence,
        }
    }

    pub(super) fn is_in_force(&self, now: u64) -> bool {
        self.binding.as_ref().is_none_or(|binding| binding.is_in_force(now))
    }
}

/// Verifies a binding for the first committee that it is of. Of several errors the most telling is reported.
pub(super) fn verify(
    signed: &SignedBinding,
    committees: &[Arc<Committee>],
    now: u64,
) -> Result<VerifiedBinding, CardError> {
    let mut error = CardError::Unknown;
    for committee in committees {
        match signed.verify(committee, now) {
            Ok(binding) => return Ok(binding),
            Err(other @ BindingError::OtherCommittee { .. }) => {
                if error == CardError::Unknown {
                    error = other.into();
                }
            }
            Err(telling) => error = telling.into(),
        }
    }
    Err(error)
}
