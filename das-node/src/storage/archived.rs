//! What the store keeps account of for the archive: what is still to be brought there or deleted, and what is only there.

use std::sync::Arc;

use das_common::data_hash::DataHash;
use tokio::sync::oneshot;

use super::forms::check_count;
use super::index::{Archived, Archiving, Errand, Note, state};
use super::log::{Command, Upkeep};
use super::{BatchStore, Lookup, StorageError, blocking};

/// Entries of the index that are noted in one step when an archive is new.
const BACKFILL_STEP: usize = 1024;

impl BatchStore {
    /// What is in the archive only.
    pub fn archived(&self) -> Result<Archived, StorageError> {
        Ok(self.index.state(state::ARCHIVED)?.unwrap_or_default())
    }

    /// Which archive it is, if there ever was one.
    pub fn archive_name(&self) -> Result<Option<String>, StorageError> {
        Ok(self.index.state(state::ARCHIVE)?)
    }

    /// From now on stores and expiry note what is to be done at the archive of this name. With an archive that is new,
    /// everything that is here is to be uploaded, see [`Self::backfill_step`].
    pub fn archive_to(&self, name: &str, archiving: Archiving) -> Result<(), StorageError> {
        let known = self.archive_name()?;
        if archiving.uploads && (known.as_deref() != Some(name) || !self.index.archiving().uploads) {
            // Before the name: a start that ends between the two begins anew.
            let mut change = self.index.change();
            change.set_state(state::BACKFILL, &Some([0u8; 32]));
            change.set_state(state::ARCHIVE, &name.to_owned());
            change.apply(true)?;
        }
        Ok(self.index.set_archiving(archiving)?)
    }

    /// There is no archive any more.
    pub fn archive_nowhere(&self) -> Result<(), StorageError> {
        if self.index.archiving() != Archiving::default() {
            self.index.set_archiving(Archiving::default())?;
        }
        Ok(())
    }

    /// Notes some of what was here before the archive was. `false`: all of it is noted.
    pub async fn backfill_step(self: &Arc<Self>) -> Result<bool, StorageError> {
        let store = Arc::clone(self);
        blocking(move || {
            let Some(Some(from)) = store.index.state::<Option<[u8; 32]>>(state::BACKFILL)? else {
                return Ok(false);
            };
            let batches = store.index.batches_from(&DataHash::from_bytes(from), BACKFILL_STEP)?;
            let next = batches.last().filter(|_| batches.len() == BACKFILL_STEP);
            let mut change = store.index.change();
            for (hash, record) in batches.iter().filter(|(_, record)| !record.is_archived()) {
                change.add_note(&Note::upload(*hash, record));
            }
            // The last one is noted twice, which does no harm.
            change.set_state(state::BACKFILL, &next.map(|(hash, _)| *hash.as_bytes()));
            change.apply(true)?;
            Ok(next.is_some())
        })
        .await?
    }

    /// What is to be done at the archive, behind `after`, in the order of time.
    pub async fn notes(
        self: &Arc<Self>,
        errand: Errand,
        after: Option<Note>,
        limit: usize,
    ) -> Result<Vec<Note>, StorageError> {
        let store = Arc::clone(self);
        blocking(move || Ok(store.index.notes(errand, after.as_ref(), limit)?)).await?
    }

    /// Forgets notes of what was done.
    pub async fn forget_note(self: &Arc<Self>, note: Note) -> Result<(), StorageError> {
        let store = Arc::clone(self);
        blocking(move || {
            let mut change = store.index.change();
            change.delete_note(&note);
            // After a power cut it may be done again.
            Ok(change.apply(false)?)
        })
        .await?
    }

    /// A batch is to be uploaded again, if it is here whole.
    pub async fn upload_again(self: &Arc<Self>, hash: DataHash) -> Result<(), StorageError> {
        let store = Arc::clone(self);
        blocking(move || {
            let record = store.index.batch(&hash)?.filter(|record| record.payload.is_some());
            let Some(record) = record else { return Ok(()) };
            let mut change = store.index.change();
            change.add_note(&Note::upload(hash, &record));
            Ok(change.apply(true)?)
        })
        .await?
    }

    /// The note by which a batch is to be uploaded, if it still is.
    pub async fn upload_note(self: &Arc<Self>, hash: DataHash) -> Result<Option<Note>, StorageError> {
        let store = Arc::clone(self);
        blocking(move || {
            let Some(record) = store.index.batch(&hash)? else { return Ok(None) };
            let note = Note::upload(hash, &record);
            Ok(store.index.has_note(&note)?.then_some(note))
        })
        .await?
    }

    /// Whether a batch is known here, in whatever form.
    pub async fn knows(self: &Arc<Self>, hash: DataHash) -> Result<bool, StorageError> {
        let store = Arc::clone(self);
        blocking(move || Ok(store.index.batch(&hash)?.is_some())).await?
    }

    /// Drops the payloads of batches that were found in the archive, and gives their space back. What is to be uploaded
    /// stays. The answer is how many were dropped; the index is synced before the bytes go.
    pub async fn drop_archived(&self, batches: Vec<DataHash>) -> Result<usize, StorageError> {
        check_count(batches.len())?;
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upkeep(Upkeep::DropArchived { batches, reply }), answer).await
    }
}

impl<T> Lookup<T> {
    /// Whether it is in the archive only.
    pub fn is_archived(&self) -> bool {
        matches!(self, Self::Archived { .. })
    }
}
