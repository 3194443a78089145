//! A look at everything that a backup, or a store that is not open, holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use tokio_util::sync::CancellationToken;

use super::copy::copy_file;
use super::{BackupError, Manifest, Meter, SmallFile, check_of, failed, make_folder, remove_tree};
use crate::storage::index::{BatchRecord, Index, state};
use crate::storage::sealing::{Keyring, Sealer, UnknownKey};
use crate::storage::segment::{self, pack};
use crate::storage::{Files, INDEX, OPEN_FILES, SEGMENTS};

/// Index entries read at a time.
const ENTRIES: usize = 1024;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The batch.
    pub hash: DataHash,
    /// Whether it is a shard of it.
    pub is_shard: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Batches that are whole, and have their name.
    pub whole: u64,
    /// Shards that are as they were written.
    pub shards: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Batches and shards that could not be opened for want of the key, by its id. The shards of them are whole on disk.
    pub locked: BTreeMap<u32, u64>,
    /// What is not.
    pub damaged: Vec<Damaged>,
}

/// Checks a backup against its manifest and every batch in it against its name. Leaves it as it is; `scratch` is a folder for a
/// copy of the index, made and removed.
pub fn verify_backup(
    backup: &Path,
    scratch: &Path,
    keys: &Arc<Keyring>,
    meter: &Meter,
) -> Result<Verified, BackupError> {
    let manifest = Manifest::read(backup)?;
    check_files(backup, &manifest)?;
    make_folder(scratch)?;
    let verified = (|| {
        for file in &manifest.index {
            let from = backup.join(INDEX).join(&file.name);
            copy_file(
                &from,
                &scratch.join(&file.name),
                file.bytes,
                &Meter::default(),
                &CancellationToken::new(),
            )?;
        }
        verify(&Index::open(scratch)?, &backup.join(SEGMENTS), keys, meter)
    })();
    remove_tree(scratch)?;
    verified
}

/// Whether the files are those of the manifest. What is in segments is not looked at.
pub(super) fn check_files(backup: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    for segment in &manifest.segments {
        let path = segment::path(&backup.join(SEGMENTS), segment.id);
        let bytes = std::fs::metadata(&path).map_err(failed("read", &path))?.len();
        if bytes != segment.bytes {
            let reason = format!("{bytes} bytes, there were {}", segment.bytes);
            return Err(BackupError::Changed { path, reason });
        }
    }
    let evidence = manifest.evidence.iter().map(|file| (super::EVIDENCE, file));
    for (folder, file) in manifest.index.iter().map(|file| (INDEX, file)).chain(evidence) {
        check_small(&backup.join(folder).join(&file.name), file)?;
    }
    Ok(())
}

fn check_small(path: &Path, file: &SmallFile) -> Result<(), BackupError> {
    let bytes = std::fs::metadata(path).map_err(failed("read", path))?.len();
    let reason = if bytes != file.bytes {
        format!("{bytes} bytes, there were {}", file.bytes)
    } else if check_of(&std::fs::read(path).map_err(failed("read", path))?) != file.keccak {
        "its check differs".to_owned()
    } else {
        return Ok(());
    };
    Err(BackupError::Changed { path: path.to_path_buf(), reason })
}

/// Reads everything that an index names.
pub(super) fn verify(
    index: &Index,
    segments: &Path,
    keys: &Arc<Keyring>,
    meter: &Meter,
) -> Result<Verified, BackupError> {
    for (_, segment) in index.segments()? {
        meter.expect(segment.live_bytes);
    }
    let Some(storage) = index.state(state::STORAGE_ID)? else { return Ok(Verified::default()) };
    let sealer = Sealer { storage, keys: Arc::clone(keys) };
    let look = Look { index, segments, sealer, files: moka::sync::Cache::new(OPEN_FILES) };
    let (mut verified, mut from) = (Verified::default(), DataHash::from_bytes([0; 32]));
    loop {
        let batches = index.batches_from(&from, ENTRIES)?;
        let more = batches.len() == ENTRIES;
        for (hash, record) in batches {
            let before = verified.bytes;
            look.batch(&hash, &record, &mut verified)?;
            meter.add(verified.bytes - before);
            let Some(next) = crate::storage::scrub::successor(&hash) else { return Ok(verified) };
            from = next;
        }
        if !more {
            return Ok(verified);
        }
    }
}

struct Look<'a> {
    index: &'a Index,
    segments: &'a Path,
    sealer: Sealer,
    files: Files,
}

impl Look<'_> {
    fn batch(&self, hash: &DataHash, record: &BatchRecord, into: &mut Verified) -> Result<(), BackupError> {
        if let Some(place) = record.place() {
            into.bytes += place.disk_bytes();
            let read = self.file(place.segment).and_then(|file| segment::read_payload(&file, &place));
            let stored = self.readable(place.segment, read)?;
            let opened = stored.map(|stored| self.sealer.open_batch(hash, record.key_id, stored)).transpose();
            match opened.map(Option::flatten) {
                Ok(Some(payload)) if VerifiedBatch::check(payload.clone(), hash).is_ok() => into.whole += 1,
                Ok(_) => into.damaged.push(Damaged { hash: *hash, is_shard: false }),
                Err(UnknownKey { key_id }) => *into.locked.entry(key_id).or_default() += 1,
            }
        }
        if record.shards == 0 {
            return Ok(());
        }
        for (coding, shard) in self.index.shards(hash)? {
            let size = shard.disk_bytes();
            into.bytes += size;
            let read = self.file(shard.segment).and_then(|file| {
                pack::read_shard(&file, &self.sealer.storage, shard.segment, shard.offset, size)
            });
            let found = self.readable(shard.segment, read)?.flatten();
            let found = found.filter(|(head, _)| head.hash == *hash && head.coding == coding);
            let opened = found.map(|(head, shard)| self.sealer.open_shard(&head, shard.bytes)).transpose();
            match opened.map(Option::flatten) {
                Ok(Some(_)) => into.shards += 1,
                Ok(None) => into.damaged.push(Damaged { hash: *hash, is_shard: true }),
                Err(UnknownKey { key_id }) => *into.locked.entry(key_id).or_default() += 1,
            }
        }
        Ok(())
    }

    /// What is missing or cut short is damaged; a disk that does not answer is an error.
    fn readable<T>(&self, segment: u64, read: io::Result<T>) -> Result<Option<T>, BackupError> {
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Ok(None)
            }
            Err(error) => Err(failed("read", &segment::path(self.segments, segment))(error)),
        }
    }

    fn file(&self, id: u64) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.get(&id) {
            return Ok(file);
        }
        let file = Arc::new(File::open(segment::path(self.segments, id))?);
        self.files.insert(id, Arc::clone(&file));
        Ok(file)
    }
}
