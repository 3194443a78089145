//! What somebody may mean by a few characters.

use alloy_primitives::B256;
use das_common::data_hash::DataHash;

use super::clock;
use super::listing::{self, Found};
use super::query::{BadParameter, cut};
use super::refusal::Refusal;
use crate::types::{Batches, PostedBatch};

/// Digits from here on may also be a time: 2001 in unix seconds.
const FIRST_TIME: u64 = 1_000_000_000;

/// What was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Digits: a batch number, and a time if they are many.
    Number(u64),
    /// A data hash or a transaction.
    Hash(DataHash),
    /// Unix seconds.
    Time(u64),
}

impl Wanted {
    pub(super) fn parse(text: &str) -> Result<Self, BadParameter> {
        if text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = text.parse()
        {
            return Ok(Self::Number(number));
        }
        if let Ok(hash) = text.parse() {
            return Ok(Self::Hash(hash));
        }
        clock::parse(text).map(Self::Time).ok_or_else(|| BadParameter::Search { got: cut(text) })
    }
}

/// How a batch was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Number,
    DataHash,
    Transaction,
    Time,
}

impl By {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::DataHash => "dataHash",
            Self::Transaction => "transaction",
            Self::Time => "time",
        }
    }
}

/// Batches, the likeliest meaning first.
#[derive(Debug, Clone, Default)]
pub(super) struct Matches {
    pub(super) found: Vec<(By, PostedBatch)>,
    pub(super) more: bool,
}

impl Matches {
    fn add(&mut self, by: By, found: Found) {
        self.more |= found.more;
        self.found.extend(found.batches.into_iter().map(|batch| (by, batch)));
    }
}

/// Looks a text up in every sense that it has. No match is no error.
pub(super) fn search(batches: &dyn Batches, wanted: Wanted, limit: usize) -> Result<Matches, Refusal> {
    let mut matches = Matches::default();
    match wanted {
        Wanted::Number(number) => {
            matches.add(By::Number, listing::numbered(batches, number, limit)?);
            if number >= FIRST_TIME {
                matches.add(By::Time, at(batches, number)?);
            }
        }
        Wanted::Hash(hash) => {
            matches.add(By::DataHash, listing::with_data_hash(batches, &hash, limit)?);
            let transaction = B256::from(*hash.as_bytes());
            matches.add(By::Transaction, listing::of_transaction(batches, &transaction, limit)?);
        }
        Wanted::Time(time) => matches.add(By::Time, at(batches, time)?),
    }
    matches.more |= matches.found.len() > limit;
    matches.found.truncate(limit);
    Ok(matches)
}

fn at(batches: &dyn Batches, time: u64) -> Result<Found, Refusal> {
    match listing::at(batches, None, time) {
        Ok(batch) => Ok(Found { batches: vec![batch], more: false }),
        Err(Refusal::Time { .. } | Refusal::NoEra) => Ok(Found::default()),
        Err(other) => Err(other),
    }
}
