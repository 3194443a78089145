//! Which batches an answer is about, as the index knows them now.

use std::fmt;

use alloy_primitives::B256;
use das_common::certificate::Certificate;
use das_common::data_hash::DataHash;

use super::refusal::Refusal;
use crate::types::{Batches, Content, Era, PostedBatch};

/// Eras in which a number is looked up.
const MAX_ERAS: usize = 1_000;

/// Where the next page begins: with the batches of an era below a number. Both are needed, since a reset may come
/// between two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) era: u32,
    pub(super) below: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.era, self.below)
    }
}

/// Which batches are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// None: the one in force.
    pub(super) era: Option<u32>,
    /// Numbers below this one.
    pub(super) below: Option<u64>,
    /// Blocks not older (unix seconds).
    pub(super) since: Option<u64>,
    /// Blocks not younger (unix seconds).
    pub(super) until: Option<u64>,
    /// At most so many.
    pub(super) limit: usize,
}

/// Batches, the newest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// None: nothing was read from the chain yet.
    pub(super) era: Option<Era>,
    pub(super) batches: Vec<PostedBatch>,
    pub(super) next: Option<Cursor>,
}

/// The era of that number; without one, the era in force.
pub(super) fn era(batches: &dyn Batches, wanted: Option<u32>) -> Result<Option<Era>, Refusal> {
    let mut eras = batches.eras()?;
    let newest = eras.first().map(|era| era.id);
    let wanted_or_now = wanted.or(batches.progress().era).or(newest);
    let place = eras.iter().position(|era| Some(era.id) == wanted_or_now);
    match (place, wanted, newest) {
        (Some(place), _, _) => Ok(Some(eras.swap_remove(place))),
        (None, Some(got), Some(newest)) => Err(Refusal::Era { got, newest }),
        (None, Some(_), None) => Err(Refusal::NoEra),
        (None, None, _) => Ok(None),
    }
}

/// One page.
pub(super) fn list(batches: &dyn Batches, window: &Window) -> Result<Listing, Refusal> {
    let Some(era) = era(batches, window.era)? else { return Ok(Listing::default()) };
    let first = match window.since {
        None => Some(0),
        Some(since) => batches.first_since(era.id, since)?,
    };
    let Some(first) = first else { return Ok(Listing { era: Some(era), ..Listing::default() }) };
    let after = match window.until.and_then(|until| until.checked_add(1)) {
        None => None,
        Some(after) => batches.first_since(era.id, after)?,
    };
    let below = [window.below, after].into_iter().flatten().min();
    let mut found = batches.below(era.id, below, window.limit + 1)?;
    found.retain(|batch| batch.number >= first);
    let more = found.len() > window.limit;
    found.truncate(window.limit);
    let next = found.last().filter(|_| more).map(|last| Cursor { era: era.id, below: last.number });
    Ok(Listing { era: Some(era), batches: found, next })
}

/// One batch by its number.
pub(super) fn one(
    batches: &dyn Batches,
    wanted: Option<u32>,
    number: u64,
) -> Result<(Era, PostedBatch), Refusal> {
    let era = era(batches, wanted)?.ok_or(Refusal::NoEra)?;
    match batches.batch(era.id, number)? {
        Some(batch) => Ok((era, batch)),
        None => {
            let newest = batches.below(era.id, None, 1)?.first().map(|batch| batch.number);
            Err(Refusal::Batch { era: era.id, number, newest })
        }
    }
}

/// The newest batch that was posted at a time or before.
pub(super) fn at(batches: &dyn Batches, wanted: Option<u32>, time: u64) -> Result<PostedBatch, Refusal> {
    let era = era(batches, wanted)?.ok_or(Refusal::NoEra)?;
    let window = Window { era: Some(era.id), until: Some(time), limit: 1, ..Window::default() };
    let found = list(batches, &window)?.batches.pop();
    found.ok_or(Refusal::Time { era: era.id, time })
}

/// Batches that were found by something else than their place, and whether there are more.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) batches: Vec<PostedBatch>,
    pub(super) more: bool,
}

/// Batches whose certificate has this data hash.
pub(super) fn with_data_hash(batches: &dyn Batches, hash: &DataHash, limit: usize) -> Result<Found, Refusal> {
    let places = batches.with_data_hash(hash, limit + 1)?;
    let is_it = |batch: &PostedBatch| certificate(batch).is_some_and(|found| found.data_hash == *hash);
    look_up(batches, &places, limit, is_it)
}

/// Batches that a transaction posted.
pub(super) fn of_transaction(batches: &dyn Batches, hash: &B256, limit: usize) -> Result<Found, Refusal> {
    let places = batches.of_transaction(hash, limit + 1)?;
    look_up(batches, &places, limit, |batch| batch.transaction == *hash)
}

/// A number in the newest eras.
pub(super) fn numbered(batches: &dyn Batches, number: u64, limit: usize) -> Result<Found, Refusal> {
    let mut found = Found::default();
    for (looked_at, era) in batches.eras()?.into_iter().enumerate() {
        if found.batches.len() == limit || looked_at == MAX_ERAS {
            found.more = true;
            break;
        }
        found.batches.extend(batches.batch(era.id, number)?);
    }
    Ok(found)
}

/// Between the two questions the chain may have taken a batch back, or put another in its place.
fn look_up(
    batches: &dyn Batches,
    places: &[(u32, u64)],
    limit: usize,
    is_it: impl Fn(&PostedBatch) -> bool,
) -> Result<Found, Refusal> {
    let mut found = Found { batches: Vec::new(), more: places.len() > limit };
    for (era, number) in places.iter().take(limit) {
        found.batches.extend(batches.batch(*era, *number)?.filter(&is_it));
    }
    Ok(found)
}

/// A batch's certificate, as nodes read it.
pub(super) fn certificate(batch: &PostedBatch) -> Option<Certificate> {
    match &batch.content {
        Content::Certificate(bytes) => Certificate::parse_as_nitro(bytes).ok(),
        Content::Data { .. } | Content::Nothing | Content::Blobs | Content::Unreadable(_) => None,
    }
}
