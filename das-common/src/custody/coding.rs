//! A committee as custody sees it: who has which shard, and how many statements it takes.

use std::fmt;

use bincode::{Decode, Encode};

use crate::bls::PublicKey;
use crate::committee::{CodingId, Committee};
use crate::erasure::{Code, CodeError};
use crate::keccak::keccak256;

/// Names a member across committees: Keccak-256 of its BLS key's point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct MemberKey([u8; 32]);

/// A way of cutting batches into shards, and who holds them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Coding {
    /// Its name.
    pub id: CodingId,
    /// H.
    pub honest_members: u8,
    /// k.
    pub data_shards: u8,
    /// The members; a member's position is its shard's index.
    pub members: Vec<MemberKey>,
}

impl Coding {
    /// The coding of a committee.
    pub fn of(committee: &Committee) -> Self {
        let small = |number: u64| u8::try_from(number).expect("a policy's numbers are at most 64");
        Self {
            id: committee.coding_id(),
            honest_members: small(committee.honest_members()),
            data_shards: small(committee.data_shards()),
            members: committee.members().iter().map(|member| MemberKey::of(&member.public_key)).collect(),
        }
    }

    /// n.
    pub fn shards(&self) -> usize {
        self.members.len()
    }

    /// n - H: how many members may lie.
    pub fn dishonest(&self) -> usize {
        self.members.len() - usize::from(self.honest_members)
    }

    /// K = n - H + k: so many statements hold k honest ones.
    pub fn threshold(&self) -> usize {
        self.dishonest() + usize::from(self.data_shards)
    }

    /// n - H + 1: among so many members is an honest one.
    pub fn one_honest(&self) -> usize {
        self.dishonest() + 1
    }

    /// Whether cold batches are kept as shards.
    pub fn is_coded(&self) -> bool {
        self.data_shards > 1
    }

    /// The index of a member's shard.
    pub fn index_of(&self, member: &MemberKey) -> Option<usize> {
        self.members.iter().position(|key| key == member)
    }

    /// The code itself.
    pub fn code(&self) -> Result<Code, CodeError> {
        Code::new(self.data_shards.into(), self.members.len() as u64)
    }
}

impl MemberKey {
    /// The name of the member with this key.
    pub fn of(key: &PublicKey) -> Self {
        Self(keccak256(&key.point_bytes()))
    }

    /// A name as it was written down.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(&self.0[..4]))
    }
}
