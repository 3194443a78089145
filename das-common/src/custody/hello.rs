//! What two members tell each other on a connection that proved who they are.
//!
//! A [`Hello`] is asked with a nonce of the asker and answered with the same nonce. Only an answer to the latest nonce says
//! what is true now: bytes that were on their way when the peer lost its disk carry an older one.

use bincode::{Decode, Encode};

use super::coding::Coding;
use super::statement::{SignedList, StorageId};
use crate::committee::CodingId;

/// Most codings that a peer may name.
pub const MAX_CODINGS: usize = 16;

/// Who I am, and what I know of you.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Of the asker's choice; the answer repeats it.
    pub nonce: u64,
    /// The sender's clock, unix seconds.
    pub wall: u64,
    /// What the sender codes by, newest first; at most [`MAX_CODINGS`].
    pub codings: Vec<Named>,
    /// The sender's own sequence of lists.
    pub mine: Position,
    /// The sender's signature that it took this storage id.
    pub birth: SignedList,
    /// What the sender knows of the one addressed.
    pub yours: Option<Known>,
}

/// A coding by name, with enough to say what is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Named {
    /// Its name.
    pub id: CodingId,
    /// n.
    pub members: u8,
    /// H.
    pub honest_members: u8,
    /// k.
    pub data_shards: u8,
}

/// A place in a member's sequence of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// The database.
    pub storage_id: StorageId,
    /// The highest counter; 0 before the first list.
    pub counter: u64,
    /// The digest of the list with that counter; zeroes before the first.
    pub digest: [u8; 32],
}

/// What one member knows of another's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Known {
    /// The storage id in force, and the highest list seen of it.
    pub position: Position,
    /// What the one addressed signed when it took that storage id: if it does not know the storage id, it was rolled back.
    pub birth: SignedList,
    /// Whether the one addressed was last heard of with a storage id that had been replaced before.
    pub refused: bool,
}

impl From<&Coding> for Named {
    fn from(coding: &Coding) -> Self {
        let members = u8::try_from(coding.members.len()).expect("a committee has at most 64 members");
        Self {
            id: coding.id,
            members,
            honest_members: coding.honest_members,
            data_shards: coding.data_shards,
        }
    }
}
