//! What the machine needs of a disk, and where on it each thing is.
//!
//! ```text
//! key                                                             value (version byte, bincode)
//! 'A' hash                                                        empty: stored or extended, not yet taken up
//! 'B' hash                                                        Record
//! 'C' coding number                                               Coding
//! 'E' u64 until | hash                                            empty: order of expiry
//! 'L' u16 witness | u64 counter                                   a signed list
//! 'M' member key                                                  MemberRecord
//! 'N' a key of work without since and hash                      Amount: how many such keys there are
//! 'Q' form | coding | ... | u64 since | hash                      empty: order of work, see `record`
//! 'S'                                                             State
//! 'U' hash                                                        empty: n - H + 1 members disagree about its root
//! 'W' u16 witness                                                 WitnessRecord
//! 'X' u64 until | u16 witness | u64 counter                       empty: order in which lists end
//! ```

use crate::committee::CodingId;
use crate::data_hash::DataHash;

/// What a disk holds of a batch, now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The latest timeout ever promised; `None` when nothing is held and nothing promised.
    pub promise: Option<u64>,
    /// Whether the whole batch can be read.
    pub whole: bool,
    /// The codings under which the own shard can be read.
    pub shards: Vec<CodingId>,
}

/// One change of a key; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Durable, ordered keys, and a look at what is stored.
pub trait Ledger {
    /// Why it cannot answer.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The first keys that begin with `prefix` and are not below `from`, in order, at most `limit`.
    fn keys(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Applies all changes or none. With `synced` they, and everything applied before, survive a power cut when this
    /// returns.
    fn commit(&mut self, changes: Vec<Change>, synced: bool) -> Result<(), Self::Error>;

    /// What is held of a batch. What it says is on disk must be readable after a power cut, except that a shard
    /// written since the last [`ShardsSynced`](super::Event::ShardsSynced) may be missing then.
    fn held(&self, hash: &DataHash) -> Result<Held, Self::Error>;
}

/// The key that whoever stores or extends a batch writes in one with it, so that no crash hides a batch from the machine.
pub fn arrival_key(hash: &DataHash) -> Vec<u8> {
    with_hash(b'A', hash)
}

pub(super) const ARRIVALS: &[u8] = b"A";
pub(super) const CODINGS: &[u8] = b"C";
pub(super) const EXPIRY: &[u8] = b"E";
pub(super) const MEMBERS: &[u8] = b"M";
pub(super) const STATE: &[u8] = b"S";
pub(super) const SUSPECTS: &[u8] = b"U";
pub(super) const WITNESSES: &[u8] = b"W";
pub(super) const TALLIES: &[u8] = b"N";
pub(super) const LIST_ENDS: &[u8] = b"X";

pub(super) fn record_key(hash: &DataHash) -> Vec<u8> {
    with_hash(b'B', hash)
}

pub(super) fn suspect_key(hash: &DataHash) -> Vec<u8> {
    with_hash(b'U', hash)
}

fn with_hash(family: u8, hash: &DataHash) -> Vec<u8> {
    let mut key = Vec::with_capacity(33);
    key.push(family);
    key.extend_from_slice(hash.as_bytes());
    key
}

pub(super) fn expiry_key(until: u64, hash: &DataHash) -> Vec<u8> {
    let mut key = Vec::with_capacity(41);
    key.push(b'E');
    key.extend_from_slice(&until.to_be_bytes());
    key.extend_from_slice(hash.as_bytes());
    key
}

pub(super) fn list_key(witness: u16, counter: u64) -> Vec<u8> {
    let mut key = lists_of(witness);
    key.extend_from_slice(&counter.to_be_bytes());
    key
}

pub(super) fn lists_of(witness: u16) -> Vec<u8> {
    let mut key = vec![b'L'];
    key.extend_from_slice(&witness.to_be_bytes());
    key
}

pub(super) fn list_end_key(until: u64, witness: u16, counter: u64) -> Vec<u8> {
    let mut key = vec![b'X'];
    key.extend_from_slice(&until.to_be_bytes());
    key.extend_from_slice(&witness.to_be_bytes());
    key.extend_from_slice(&counter.to_be_bytes());
    key
}

pub(super) fn witness_key(witness: u16) -> Vec<u8> {
    let mut key = WITNESSES.to_vec();
    key.extend_from_slice(&witness.to_be_bytes());
    key
}

/// The hash that a key ends in.
pub(super) fn hash_at_end(key: &[u8]) -> Option<DataHash> {
    key.last_chunk::<32>().map(|bytes| DataHash::from_bytes(*bytes))
}

/// A number in the middle of a key.
pub(super) fn number_at(key: &[u8], at: usize) -> Option<u64> {
    key.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The first key behind all those that begin with `prefix`; `None` when there is none.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            return Some(key);
        }
    }
    None
}
