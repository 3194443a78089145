//! Where a follower is on the chain.
//!
//! As bytes: the version, then in bincode's form `chain id, genesis hash, first block, blocks (number, hash)`.

use alloy_primitives::B256;
use bincode::{Decode, Encode};
use das_common::fault::{self, Coded, Fault};
use thiserror::Error;

use crate::reader::BlockId;

const VERSION: u8 = 1;
/// Blocks of this age are all remembered.
const DENSE: u64 = 64;
/// Of older ones so many that no gap is longer than its age divided by this, if they were seen at all.
const THINNING: u64 = 8;
/// More blocks than the thinning leaves of any chain.
const MAX_BLOCKS: usize = 1024;
/// Longest record.
pub const MAX_POSITION_BYTES: usize = 64 * 1024;

/// The blocks seen, in order; and of which chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    chain_id: u64,
    genesis: B256,
    start: u64,
    blocks: Vec<BlockId>,
}

/// Why a position cannot be used.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PositionError {
    /// Another version, or no bytes.
    #[error("the position has version {got:?}, this program reads {VERSION}")]
    Version {
        /// Its first byte.
        got: Option<u8>,
    },
    /// Not the form, or blocks not in order.
    #[error("the record of the position is damaged")]
    Damaged,
    /// It belongs to other options.
    #[error(
        "the position is of chain {got_chain} from block {got_start}, the options say chain {chain} from block {start}"
    )]
    Other {
        /// Its chain id.
        got_chain: u64,
        /// The configured one.
        chain: u64,
        /// Its first block.
        got_start: u64,
        /// The configured one.
        start: u64,
    },
}

impl Coded for PositionError {
    fn fault(&self) -> &'static Fault {
        fault::CHAIN_POSITION
    }
}

#[derive(Encode, Decode)]
struct Record {
    chain_id: u64,
    genesis: [u8; 32],
    start: u64,
    blocks: Vec<(u64, [u8; 32])>,
}

impl Position {
    /// Nothing seen yet.
    pub(super) fn start(chain_id: u64, genesis: B256, start: u64) -> Self {
        Self { chain_id, genesis, start, blocks: Vec::new() }
    }

    /// Names the chain's first block.
    pub fn genesis(&self) -> B256 {
        self.genesis
    }

    /// The chain's id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The newest block whose logs were reported.
    pub fn tip(&self) -> Option<BlockId> {
        self.blocks.last().copied()
    }

    /// The first block whose logs were not.
    pub fn next(&self) -> u64 {
        self.tip().map_or(self.start, |tip| tip.number + 1)
    }

    pub(super) fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    pub(super) fn newest_up_to(&self, number: u64) -> Option<BlockId> {
        self.blocks.iter().rev().find(|block| block.number <= number).copied()
    }

    pub(super) fn keep(&mut self, blocks: usize) {
        self.blocks.truncate(blocks);
    }

    pub(super) fn expect_of(&self, chain: u64, start: u64) -> Result<(), PositionError> {
        if (self.chain_id, self.start) == (chain, start) {
            return Ok(());
        }
        Err(PositionError::Other { got_chain: self.chain_id, chain, got_start: self.start, start })
    }

    /// Adds a newer block, and forgets of the older ones those that are not needed. The first is always kept.
    pub(super) fn advance(&mut self, tip: BlockId) {
        self.blocks.push(tip);
        let mut kept: Vec<BlockId> = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate().rev() {
            let needed = match (kept.last(), i.checked_sub(1).map(|older| self.blocks[older])) {
                (Some(newer), Some(older)) => {
                    let age = tip.number - newer.number;
                    tip.number - block.number <= DENSE || newer.number - older.number > age / THINNING
                }
                _ => true,
            };
            if needed {
                kept.push(*block);
            }
        }
        kept.reverse();
        self.blocks = kept;
    }

    /// To be kept by the caller.
    pub fn to_bytes(&self) -> Vec<u8> {
        let record = Record {
            chain_id: self.chain_id,
            genesis: self.genesis.0,
            start: self.start,
            blocks: self.blocks.iter().map(|block| (block.number, block.hash.0)).collect(),
        };
        let mut out = vec![VERSION];
        bincode::encode_into_std_write(record, &mut out, bincode::config::standard())
            .expect("writing to memory");
        out
    }

    /// Reads what was kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PositionError> {
        let (version, rest) = bytes.split_first().ok_or(PositionError::Version { got: None })?;
        if *version != VERSION {
            return Err(PositionError::Version { got: Some(*version) });
        }
        let config = bincode::config::standard().with_limit::<MAX_POSITION_BYTES>();
        let decoded = bincode::decode_from_slice::<Record, _>(rest, config);
        let (record, used) = decoded.map_err(|_| PositionError::Damaged)?;
        let blocks =
            record.blocks.iter().map(|(number, hash)| BlockId { number: *number, hash: hash.into() });
        let blocks: Vec<BlockId> = blocks.collect();
        let in_order = blocks.windows(2).all(|pair| pair[0].number < pair[1].number)
            && blocks.first().is_none_or(|first| first.number >= record.start)
            && blocks.last().is_none_or(|last| last.number < u64::MAX);
        if used != rest.len() || !in_order || blocks.len() > MAX_BLOCKS {
            return Err(PositionError::Damaged);
        }
        Ok(Self { chain_id: record.chain_id, genesis: record.genesis.into(), start: record.start, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BlockId {
        BlockId { number, hash: B256::left_padding_from(&number.to_be_bytes()) }
    }

    /// However long the chain and the ranges, the list stays short, and for any depth there is a block that is at most
    /// an eighth deeper, or the length of a range.
    #[test]
    fn positions_thin_with_age_and_stay_useful() {
        for stride in [1, 2, 7, 1000, 1 << 33] {
            let mut position = Position::start(1, B256::ZERO, 5);
            let mut tip = 5;
            for _ in 0..20_000 {
                tip += stride;
                position.advance(id(tip));
            }
            let blocks = position.blocks();
            assert!(blocks.len() < 500, "stride {stride}: {} blocks", blocks.len());
            assert_eq!((blocks[0], position.tip()), (id(5 + stride), Some(id(tip))));
            for pair in blocks.windows(2) {
                let (gap, age) = (pair[1].number - pair[0].number, tip - pair[1].number);
                assert!(gap <= (age / THINNING).max(stride), "stride {stride}: a gap of {gap} at age {age}");
            }
            for age in (0..=DENSE.min(tip - 5 - stride)).filter(|age| age % stride == 0) {
                assert_eq!(position.newest_up_to(tip - age), Some(id(tip - age)));
            }
            let bytes = position.to_bytes();
            assert!(bytes.len() < MAX_POSITION_BYTES / 2);
            assert_eq!(Position::from_bytes(&bytes), Ok(position));
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let mut position = Position::start(1, B256::ZERO, 0);
        (1..100).for_each(|number| position.advance(id(number)));
        let bytes = position.to_bytes();
        assert_eq!(Position::from_bytes(&[]), Err(PositionError::Version { got: None }));
        assert_eq!(Position::from_bytes(&[9, 1]), Err(PositionError::Version { got: Some(9) }));
        for length in 1..bytes.len() {
            assert_eq!(Position::from_bytes(&bytes[..length]), Err(PositionError::Damaged), "{length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Position::from_bytes(&longer), Err(PositionError::Damaged));
        position.blocks.swap(3, 4);
        assert_eq!(Position::from_bytes(&position.to_bytes()), Err(PositionError::Damaged));
        assert!(matches!(position.expect_of(2, 0), Err(PositionError::Other { got_chain: 1, chain: 2, .. })));
    }
}
