//! Records of custody: bytes whose meaning others know, in the same database, changed in the same steps.

use rocksdb::{Direction, IteratorMode};

use super::{Change, Index, IndexError};

/// The longest key.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest value.
pub const MAX_VALUE_BYTES: usize = 4 << 20;
/// The most entries of one answer ...
pub const MAX_ENTRIES: usize = 1 << 16;
/// ... which ends after so many bytes too.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A kind of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// What the custody of each batch has come to.
    Custody,
    /// Certificates, in the orders that they are asked for.
    Certificates,
    /// Every committee ever in force.
    Committees,
    /// What is still to be done at the archive, see `notes`.
    Archive,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Custody, Self::Certificates, Self::Committees, Self::Archive];

    /// The name of its column family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Custody => "custody",
            Self::Certificates => "certificates",
            Self::Committees => "committees",
            Self::Archive => "archive",
        }
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl Index {
    /// The value of a key.
    pub fn raw(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.db.get_cf(self.family(family.name()), key)?)
    }

    /// The first entries at or behind `from`, in order: at most `limit`, [`MAX_ENTRIES`] and about
    /// [`MAX_ANSWER_BYTES`].
    pub fn range(&self, family: Family, from: &[u8], limit: usize) -> Result<Vec<Entry>, IndexError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mode = IteratorMode::From(from, Direction::Forward);
        for entry in self.db.iterator_cf(self.family(family.name()), mode).take(limit.min(MAX_ENTRIES)) {
            let (key, value) = entry?;
            bytes += key.len() + value.len();
            found.push((key.into_vec(), value.into_vec()));
            if bytes >= MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok(found)
    }

    /// The first keys that begin with `prefix` and are not below `from`, in order: at most `limit` and
    /// [`MAX_ENTRIES`].
    pub fn keys(
        &self,
        family: Family,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, IndexError> {
        let mut found = Vec::new();
        let start = from.max(prefix);
        let mut entries = self.db.raw_iterator_cf(self.family(family.name()));
        entries.seek(start);
        while let Some(key) = entries.key().filter(|key| key.starts_with(prefix)) {
            if found.len() == limit.min(MAX_ENTRIES) {
                break;
            }
            found.push(key.to_vec());
            entries.next();
        }
        entries.status()?;
        Ok(found)
    }

    /// The first entry at or behind `key`.
    pub fn seek(&self, family: Family, key: &[u8]) -> Result<Option<Entry>, IndexError> {
        Ok(self.range(family, key, 1)?.pop())
    }
}

impl Change<'_> {
    /// Sets the value of a key, at most [`MAX_KEY_BYTES`] and [`MAX_VALUE_BYTES`] long.
    pub fn put_raw(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        for (what, got, limit) in [("key", key.len(), MAX_KEY_BYTES), ("value", value.len(), MAX_VALUE_BYTES)]
        {
            if got > limit {
                return Err(IndexError::TooLong { family: family.name(), what, got, limit });
            }
        }
        self.batch.put_cf(self.index.family(family.name()), key, value);
        Ok(())
    }

    /// Removes a key.
    pub fn delete_raw(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.index.family(family.name()), key);
    }
}
