//! Which keysets are valid, from the events of a follower.

use alloy_sol_types::SolEvent;
use bincode::{Decode, Encode};
use das_common::data_hash::DataHash;

use crate::contract::SequencerInbox as Inbox;
use crate::follow::PositionError;
use crate::reader::Log;

const VERSION: u8 = 1;
/// Most changes that are remembered; older ones are merged into their outcome.
pub const MAX_CHANGES: usize = 1024;
const MAX_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Change {
    block: u64,
    index: u64,
    hash: [u8; 32],
    is_valid: bool,
}

/// The keysets made valid and invalid, so far back that a reorganization can be undone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct KeysetHistory {
    changes: Vec<Change>,
}

impl KeysetHistory {
    /// The events to follow.
    pub const EVENTS: [alloy_primitives::B256; 2] =
        [Inbox::SetValidKeyset::SIGNATURE_HASH, Inbox::InvalidateKeyset::SIGNATURE_HASH];

    /// Takes note of a log; others than those of keysets change nothing. Logs come in order.
    pub fn observe(&mut self, log: &Log) {
        let (hash, is_valid) =
            match (log.decode::<Inbox::SetValidKeyset>(), log.decode::<Inbox::InvalidateKeyset>()) {
                (Some(event), _) => (event.keysetHash.0, true),
                (_, Some(event)) => (event.keysetHash.0, false),
                _ => return,
            };
        self.changes.push(Change { block: log.block_number, index: log.index, hash, is_valid });
        if self.changes.len() > MAX_CHANGES {
            self.merge();
        }
    }

    /// Forgets what happened above a block; `None`: everything.
    pub fn roll_back(&mut self, to: Option<u64>) {
        self.changes.retain(|change| to.is_some_and(|to| change.block <= to));
    }

    /// The keysets that are valid, each with the block in which it last became so.
    pub fn valid(&self) -> Vec<(DataHash, u64)> {
        let last = self
            .changes
            .iter()
            .enumerate()
            .filter(|(i, change)| self.changes[i + 1..].iter().all(|later| later.hash != change.hash));
        last.filter(|(_, change)| change.is_valid)
            .map(|(_, change)| (DataHash::from_bytes(change.hash), change.block))
            .collect()
    }

    /// Of the older half only the last change of each keyset that left it valid stays.
    fn merge(&mut self) {
        let newer = self.changes.split_off(self.changes.len() / 2);
        let valid = self.valid();
        self.changes.retain(|change| {
            change.is_valid && valid.contains(&(DataHash::from_bytes(change.hash), change.block))
        });
        self.changes.extend(newer);
        // An owner who sets ever new keysets and invalidates none: the oldest are forgotten.
        let excess = self.changes.len().saturating_sub(MAX_CHANGES);
        self.changes.drain(..excess);
    }

    /// To be kept with the follower's position.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        bincode::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("writing to memory");
        out
    }

    /// Reads what was kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PositionError> {
        let (version, rest) = bytes.split_first().ok_or(PositionError::Version { got: None })?;
        if *version != VERSION {
            return Err(PositionError::Version { got: Some(*version) });
        }
        let config = bincode::config::standard().with_limit::<MAX_BYTES>();
        let decoded = bincode::decode_from_slice::<Self, _>(rest, config);
        let (history, used) = decoded.map_err(|_| PositionError::Damaged)?;
        let in_order = history.changes.is_sorted_by_key(|change| (change.block, change.index));
        if used != rest.len() || !in_order || history.changes.len() > MAX_CHANGES {
            return Err(PositionError::Damaged);
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, Bytes};

    use super::*;

    fn log(block: u64, keyset: u8, is_valid: bool) -> Log {
        let hash = B256::repeat_byte(keyset);
        let encoded = match is_valid {
            true => Inbox::SetValidKeyset { keysetHash: hash, keysetBytes: Bytes::new() }.encode_log_data(),
            false => Inbox::InvalidateKeyset { keysetHash: hash }.encode_log_data(),
        };
        Log {
            address: Address::ZERO,
            topics: encoded.topics().to_vec(),
            data: encoded.data,
            block_number: block,
            block_hash: B256::ZERO,
            transaction: B256::ZERO,
            index: 0,
            timestamp: None,
        }
    }

    fn id(keyset: u8) -> DataHash {
        DataHash::from_bytes([keyset; 32])
    }

    #[test]
    fn validity_follows_the_events_and_goes_back_with_a_reorganization() {
        let mut history = KeysetHistory::default();
        for log in [log(1, 7, true), log(2, 8, true), log(3, 7, false), log(4, 7, true), log(5, 8, false)] {
            history.observe(&log);
        }
        assert_eq!(history.valid(), [(id(7), 4)]);
        assert_eq!(KeysetHistory::from_bytes(&history.to_bytes()), Ok(history.clone()));
        history.roll_back(Some(4));
        assert_eq!(history.valid(), [(id(8), 2), (id(7), 4)]);
        history.roll_back(Some(3));
        assert_eq!(history.valid(), [(id(8), 2)]);
        history.roll_back(Some(2));
        assert_eq!(history.valid(), [(id(7), 1), (id(8), 2)]);
        history.roll_back(None);
        assert_eq!(history, KeysetHistory::default());
    }

    #[test]
    fn it_stays_bounded_and_right() {
        let mut history = KeysetHistory::default();
        history.observe(&log(0, 255, true));
        for block in 1..10_000u64 {
            history.observe(&log(block, (block / 2 % 200) as u8, block % 2 == 0));
            assert!(history.changes.len() <= MAX_CHANGES);
        }
        // 9999 invalidates what 9998 set.
        assert_eq!(history.valid(), [(id(255), 0)]);
        let bytes = history.to_bytes();
        assert!(bytes.len() < MAX_BYTES);
        assert_eq!(KeysetHistory::from_bytes(&bytes), Ok(history));
        assert!(KeysetHistory::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}
