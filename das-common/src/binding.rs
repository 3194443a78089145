//! Bindings: a peer key vouched for by a member's BLS key.
//!
//! **Guarantee.** A [`VerifiedBinding`] was signed with the BLS key of the member of a known committee that it is
//! verified for, names that committee by keyset, H, k and n, and was in force at the time of the check. Nothing but
//! [`SignedBinding::verify`] makes one.
//!
//! ```text
//! wire     u8 version || bincode( places, peer key (32), u64 issued, u64 not after ) || BLS signature (96)
//! place    u8 code version || keyset hash (32) || u8 H || u8 k || u8 n || u8 index
//! signed   keccak256( "das peer binding" || u8 version || bincode(..) ), 32 bytes
//! ```
//!
//! What certificates sign is 40 or 41 bytes long (spec section 4); a digest of 32 can never be taken for it.
//!
//! A member that belongs to several codings (a committee that changes) names its place in each, in one binding. The
//! binding with the newest issue time supersedes all older ones of that member, whatever peer key they name.

mod peer_key;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::bls::{PointError, PublicKey, SIGNATURE_BYTES, Signature};
use crate::committee::{CodingId, Committee};
use crate::data_hash::DataHash;
use crate::erasure::CODE_VERSION;
use crate::keccak::keccak256;

pub use peer_key::{PeerKey, PeerKeyError};

/// How long a binding lasts unless told otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest life of a binding that is accepted.
pub const MAX_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);
/// How far in the future a binding may be issued: clocks differ.
pub const MAX_AHEAD: Duration = Duration::from_secs(3600);
/// Most places that a binding names.
pub const MAX_PLACES: usize = 16;
/// Longest encoding of a signed binding.
pub const MAX_BYTES: usize = 1024;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"das peer binding";

/// Names a member across committees: Keccak-256 over a domain and the point of its BLS key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct MemberId([u8; 32]);

impl MemberId {
    /// Of the member with this key.
    pub fn of(key: &PublicKey) -> Self {
        Self(keccak256(&[b"das member id".as_slice(), &key.point_bytes()].concat()))
    }

    /// Of a mirror, which has a peer key only.
    pub fn of_mirror(key: &PeerKey) -> Self {
        Self(keccak256(&[b"das mirror id".as_slice(), key.as_bytes()].concat()))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first bytes in hex: enough to tell members apart.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(&self.0[..8]))
    }
}

/// A member's seat in one coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// Version of the erasure code.
    pub code_version: u8,
    /// Names the keyset.
    pub keyset_hash: [u8; 32],
    /// H.
    pub honest_members: u8,
    /// k.
    pub data_shards: u8,
    /// n.
    pub members: u8,
    /// The member's index: signer and shard.
    pub index: u8,
}

impl Place {
    /// The seat of the member at `index`; `None` when there is none.
    pub fn of(committee: &Committee, index: usize) -> Option<Self> {
        let small = |number: u64| u8::try_from(number).ok();
        committee.members().get(index)?;
        Some(Self {
            code_version: CODE_VERSION,
            keyset_hash: *committee.keyset().hash().as_bytes(),
            honest_members: small(committee.honest_members())?,
            data_shards: small(committee.data_shards())?,
            members: u8::try_from(committee.members().len()).ok()?,
            index: u8::try_from(index).ok()?,
        })
    }

    /// The coding that these facts make.
    pub fn coding_id(&self) -> CodingId {
        CodingId::of_facts(
            self.code_version,
            &DataHash::from_bytes(self.keyset_hash),
            [self.honest_members, self.data_shards, self.members],
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, h, k, version) = (self.members, self.honest_members, self.data_shards, self.code_version);
        write!(f, "n = {n}, H = {h}, k = {k}, code version {version}, keyset 0x")?;
        f.write_str(&const_hex::encode(&self.keyset_hash[..8]))
    }
}

/// What is no binding, or none that is in force here.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum BindingError {
    /// A version that is not known.
    #[error("the binding has version {got:?}, not {VERSION}")]
    Version {
        /// The first byte, if there is one.
        got: Option<u8>,
    },
    /// Too long.
    #[error("the binding is {got} bytes long; at most {MAX_BYTES} are possible")]
    TooLong {
        /// Bytes.
        got: usize,
    },
    /// Not the one encoding of a binding.
    #[error("the binding is malformed")]
    Malformed,
    /// No place, or too many.
    #[error("the binding names {got} places; 1 to {MAX_PLACES} are possible")]
    Places {
        /// How many.
        got: usize,
    },
    /// The signature's point.
    #[error("the binding's signature {0}")]
    Point(#[from] PointError),
    /// It lasts no time at all, or for longer than any binding.
    #[error("the binding is issued at {issued} and lasts until {not_after}, which is no possible life")]
    Life {
        /// Unix seconds.
        issued: u64,
        /// Unix seconds.
        not_after: u64,
    },
    /// Issued in the future.
    #[error("the binding is issued at {issued}, which is in the future (it is {now})")]
    Ahead {
        /// Unix seconds.
        issued: u64,
        /// Unix seconds.
        now: u64,
    },
    /// Over.
    #[error("the binding expired at {not_after} (it is {now})")]
    Expired {
        /// Unix seconds.
        not_after: u64,
        /// Unix seconds.
        now: u64,
    },
    /// One keyset, but another H, k or code.
    #[error("the binding is for the same keyset with another coding: {theirs}; here: {ours}")]
    OtherCoding {
        /// The binding's.
        theirs: Place,
        /// The committee's.
        ours: Place,
    },
    /// Another committee.
    #[error("the binding is for another committee: {theirs}")]
    OtherCommittee {
        /// The binding's first place.
        theirs: Place,
    },
    /// No member of that index.
    #[error("the binding names member {index}, which the committee does not have")]
    Index {
        /// The index.
        index: u8,
    },
    /// It does not verify.
    #[error("the binding's signature is not that of member {index}")]
    WrongSignature {
        /// The member.
        index: u8,
    },
}

/// What a member says about its peer key. It proves nothing until signed and verified.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    /// The member's seats, one for each coding.
    pub places: Vec<Place>,
    /// The key that speaks for the member on the wire.
    pub peer_key: PeerKey,
    /// Unix seconds.
    pub issued: u64,
    /// Unix seconds; the last second in which it is in force.
    pub not_after: u64,
}

impl Binding {
    fn body(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        bincode::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("writing to memory");
        out
    }

    /// What is signed with the BLS key.
    pub fn digest(&self) -> [u8; 32] {
        keccak256(&[DOMAIN, &self.body()].concat())
    }

    /// The binding without its signature, as it goes to a signer.
    pub fn encode(&self) -> Vec<u8> {
        self.body()
    }

    /// Reads one. Every binding has one encoding; every other is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        if bytes.len() > MAX_BYTES {
            return Err(BindingError::TooLong { got: bytes.len() });
        }
        let (&version, body) = bytes.split_first().ok_or(BindingError::Version { got: None })?;
        if version != VERSION {
            return Err(BindingError::Version { got: Some(version) });
        }
        let config = bincode::config::standard().with_limit::<{ 8 * MAX_BYTES }>();
        let (binding, used): (Self, usize) =
            bincode::decode_from_slice(body, config).map_err(|_| BindingError::Malformed)?;
        // Numbers have longer forms than the shortest; two encodings of one binding would have two digests.
        if used != body.len() || binding.body()[1..] != *body {
            return Err(BindingError::Malformed);
        }
        binding.check_shape()?;
        Ok(binding)
    }

    /// When it is to be renewed: at half its life (unix seconds).
    pub fn renewal(&self) -> u64 {
        self.issued + self.not_after.saturating_sub(self.issued) / 2
    }

    /// Puts a signature to it.
    pub fn signed(self, signature: &Signature) -> SignedBinding {
        SignedBinding { binding: self, signature: signature.to_bytes() }
    }

    /// Whether it is one that could be in force: a possible number of places, and a possible life.
    pub fn check_shape(&self) -> Result<(), BindingError> {
        let got = self.places.len();
        if !(1..=MAX_PLACES).contains(&got) {
            return Err(BindingError::Places { got });
        }
        let (issued, not_after) = (self.issued, self.not_after);
        match not_after.checked_sub(issued) {
            Some(life) if life > 0 && life <= MAX_LIFE.as_secs() => Ok(()),
            _ => Err(BindingError::Life { issued, not_after }),
        }
    }

    /// Whether it is in force at a time in unix seconds.
    pub fn check_time(&self, now: u64) -> Result<(), BindingError> {
        if self.issued > now.saturating_add(MAX_AHEAD.as_secs()) {
            return Err(BindingError::Ahead { issued: self.issued, now });
        }
        if now > self.not_after {
            return Err(BindingError::Expired { not_after: self.not_after, now });
        }
        Ok(())
    }

    fn place_in(&self, committee: &Committee) -> Result<Place, BindingError> {
        let coding = committee.coding_id();
        if let Some(place) = self.places.iter().find(|place| place.coding_id() == coding) {
            return Ok(*place);
        }
        let keyset = committee.keyset().hash();
        let near = self.places.iter().find(|place| place.keyset_hash == *keyset.as_bytes());
        match (near, Place::of(committee, 0), self.places.first()) {
            (Some(theirs), Some(ours), _) => Err(BindingError::OtherCoding { theirs: *theirs, ours }),
            (_, _, Some(theirs)) => Err(BindingError::OtherCommittee { theirs: *theirs }),
            (_, _, None) => Err(BindingError::Places { got: 0 }),
        }
    }
}

/// A binding as it travels: nothing about it is known to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBinding {
    /// What is signed.
    pub binding: Binding,
    /// The signature's bytes.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl SignedBinding {
    /// The bytes that travel, at most [`MAX_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.binding.body();
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads one. Every binding has one encoding; every other is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        if bytes.len() > MAX_BYTES {
            return Err(BindingError::TooLong { got: bytes.len() });
        }
        let Some((body, signature)) = bytes.split_last_chunk::<SIGNATURE_BYTES>() else {
            return Err(match bytes.first() {
                Some(&VERSION) => BindingError::Malformed,
                first => BindingError::Version { got: first.copied() },
            });
        };
        let binding = match body {
            [] => return Err(BindingError::Version { got: bytes.first().copied() }),
            body => Binding::decode(body)?,
        };
        Ok(Self { binding, signature: *signature })
    }

    /// Checks it for a member of the committee, at a time in unix seconds. The costly check comes last.
    pub fn verify(&self, committee: &Committee, now: u64) -> Result<VerifiedBinding, BindingError> {
        self.binding.check_shape()?;
        let place = self.binding.place_in(committee)?;
        let index = place.index;
        let member = committee.members().get(usize::from(index)).ok_or(BindingError::Index { index })?;
        self.binding.check_time(now)?;
        let signature = Signature::parse(&self.signature)?;
        if !member.public_key.verify(&self.binding.digest(), &signature) {
            return Err(BindingError::WrongSignature { index });
        }
        Ok(VerifiedBinding { member: MemberId::of(&member.public_key), index, signed: self.clone() })
    }

    /// Which member of the committee it claims to be of. Only a claim: for looking up what is known already.
    pub fn claims(&self, committee: &Committee) -> Option<MemberId> {
        let place = self.binding.place_in(committee).ok()?;
        Some(MemberId::of(&committee.members().get(usize::from(place.index))?.public_key))
    }
}

/// A binding that the member's BLS key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBinding {
    member: MemberId,
    index: u8,
    signed: SignedBinding,
}

impl VerifiedBinding {
    /// Whose it is.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The member's index in the committee it was verified for.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The peer key vouched for.
    pub fn peer_key(&self) -> PeerKey {
        self.signed.binding.peer_key
    }

    /// When it was issued (unix seconds).
    pub fn issued(&self) -> u64 {
        self.signed.binding.issued
    }

    /// The signed form, to be passed on.
    pub fn signed(&self) -> &SignedBinding {
        &self.signed
    }

    /// Whether its time has not passed. (It had begun when it was verified.)
    pub fn is_in_force(&self, now: u64) -> bool {
        now <= self.signed.binding.not_after
    }

    /// Whether it takes the place of the other one of the same member. Of two of one second, the digest decides, so
    /// that all members decide alike.
    pub fn supersedes(&self, other: &Self) -> bool {
        let rank = |binding: &Self| (binding.issued(), binding.signed.binding.digest());
        self.member == other.member && rank(self) > rank(other)
    }
}
