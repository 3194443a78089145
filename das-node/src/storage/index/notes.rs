//! Notes of what is still to be done at the archive: made in the change that makes them due, removed once it was done.
//!
//! ```text
//! column family  key                           value
//! archive        `u` || u64 stored at || hash   empty: to be uploaded
//! archive        `x` || u64 timeout || hash     empty: expired here, to be deleted there
//! ```

use das_common::data_hash::DataHash;

use super::{BatchRecord, Change, Family, Index, IndexError};

/// What is to be done at the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// Bring the batch there.
    Upload,
    /// It expired here: delete it there.
    Delete,
}

impl Errand {
    const fn letter(self) -> u8 {
        match self {
            Self::Upload => b'u',
            Self::Delete => b'x',
        }
    }
}

/// A note that something is to be done at the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Note {
    /// What.
    pub errand: Errand,
    /// Unix seconds since which, for uploads; for deletions the timeout that passed.
    pub time: u64,
    /// Of which batch.
    pub hash: DataHash,
}

impl Note {
    const BYTES: usize = 41;

    /// The note that a batch of this record is to be uploaded.
    pub fn upload(hash: DataHash, record: &BatchRecord) -> Self {
        Self { errand: Errand::Upload, time: record.stored_at, hash }
    }

    fn key(&self) -> [u8; Self::BYTES] {
        let mut key = [self.errand.letter(); Self::BYTES];
        key[1..9].copy_from_slice(&self.time.to_be_bytes());
        key[9..].copy_from_slice(self.hash.as_bytes());
        key
    }

    fn of_key(key: &[u8]) -> Result<Self, IndexError> {
        let damaged = || IndexError::Record { family: Family::Archive.name(), version: None };
        let key: &[u8; Self::BYTES] = key.try_into().map_err(|_| damaged())?;
        let errand = match key[0] {
            b'u' => Errand::Upload,
            b'x' => Errand::Delete,
            _ => return Err(damaged()),
        };
        let time = key[1..].first_chunk().map(|time| u64::from_be_bytes(*time)).ok_or_else(damaged)?;
        let hash = key.last_chunk().map(|hash| DataHash::from_bytes(*hash)).ok_or_else(damaged)?;
        Ok(Self { errand, time, hash })
    }
}

impl Index {
    /// The notes behind `after`, in the order of errand and time; from the first one on without it.
    pub fn notes(&self, errand: Errand, after: Option<&Note>, limit: usize) -> Result<Vec<Note>, IndexError> {
        let from = after.map_or_else(|| vec![errand.letter()], |note| [&note.key()[..], &[0]].concat());
        let keys = self.keys(Family::Archive, &[errand.letter()], &from, limit)?;
        keys.iter().map(|key| Note::of_key(key)).collect()
    }

    /// Whether this is still to be done.
    pub fn has_note(&self, note: &Note) -> Result<bool, IndexError> {
        Ok(self.raw(Family::Archive, &note.key())?.is_some())
    }
}

impl Change<'_> {
    /// Something is to be done at the archive.
    pub fn add_note(&mut self, note: &Note) {
        self.batch.put_cf(self.index.family(Family::Archive.name()), note.key(), []);
    }

    /// It was done, or is no longer needed.
    pub fn delete_note(&mut self, note: &Note) {
        self.delete_raw(Family::Archive, &note.key());
    }

    /// A batch was written whole.
    pub fn note_written(&mut self, hash: &DataHash, record: &BatchRecord) {
        if self.index.archiving().uploads {
            self.add_note(&Note::upload(*hash, record));
        }
    }

    /// A batch was forgotten.
    pub fn note_forgotten(&mut self, hash: &DataHash, record: &BatchRecord) {
        let archiving = self.index.archiving();
        if archiving.uploads {
            self.delete_note(&Note::upload(*hash, record));
        }
        if archiving.deletes {
            self.add_note(&Note { errand: Errand::Delete, time: record.timeout, hash: *hash });
        }
    }
}
