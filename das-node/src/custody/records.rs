//! What custody keeps in the index beside the machine's records: the committees ever in force.

use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use tracing::info;

use crate::storage::index::{Family, IndexError, arrival_key};
use crate::storage::{BatchStore, StorageError};

/// Batches noted in one change.
const NOTES_AT_ONCE: usize = 4096;
/// Former committees that are read.
const MAX_COMMITTEES: usize = 200;

/// Writes down the file of a committee that is in force.
pub fn remember_committee(store: &BatchStore, coding: &CodingId, file: &[u8]) -> Result<(), StorageError> {
    put(store, Family::Committees, coding.as_bytes(), file)
}

/// The files of all committees ever in force.
pub fn committees(store: &BatchStore) -> Result<Vec<Vec<u8>>, StorageError> {
    let all = store.index().range(Family::Committees, &[], MAX_COMMITTEES)?;
    Ok(all.into_iter().map(|(_, file)| file).collect())
}

/// Has every store leave a note for custody from now on, and leaves one for each batch that was stored before. Ports are
/// not open yet, so nothing comes in between.
pub(super) fn note_arrivals(store: &BatchStore) -> Result<(), StorageError> {
    let index = store.index();
    if index.notes_arrivals() {
        return Ok(());
    }
    let (mut from, mut batches) = (DataHash::from_bytes([0; 32]), 0_u64);
    loop {
        let step = index.batches_from(&from, NOTES_AT_ONCE)?;
        let Some((last, _)) = step.last() else { break };
        if batches == 0 {
            info!("custody begins at a store that has batches already: each of them is taken up");
        }
        let (full, next) = (step.len() == NOTES_AT_ONCE, *last);
        let mut change = index.change();
        for (hash, _) in &step {
            change.put_raw(Family::Custody, &arrival_key(hash), &[])?;
        }
        change.apply(false)?;
        batches += step.len() as u64;
        // The last one is noted once more by the next step, which does no harm.
        if !full || next == from {
            break;
        }
        from = next;
    }
    store.note_arrivals(true)
}

fn put(store: &BatchStore, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    let written = || -> Result<(), IndexError> {
        let mut change = store.index().change();
        change.put_raw(family, key, value)?;
        change.apply(true)
    };
    Ok(written()?)
}
