//! From a backup to a data directory.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::copy::copy_file;
use super::verify::{Verified, check_files, verify};
use super::{
    BackupError, EVIDENCE, INDEX, Manifest, Meter, SEGMENTS, failed, make_folder, remove_tree, sync_folder,
};
use crate::storage::index::Index;
use crate::storage::sealing::Keyring;
use crate::storage::{StorageError, segment};

/// In a data directory for as long as not everything of a backup is there.
const MARKER: &str = "restore-unfinished";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// What was found on the disk afterwards.
    pub verified: Verified,
}

/// Refuses a data directory in which a restore was begun and not finished.
pub fn check_finished(directory: &Path) -> Result<(), StorageError> {
    match directory.join(MARKER).try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StorageError::UnfinishedRestore { path: directory.to_path_buf() }),
        Err(source) => Err(StorageError::open("look into", directory.to_path_buf(), source)),
    }
}

/// Puts the files of a backup into a data directory that has no database (or one that an interrupted run of this began), and
/// reads everything there. No node opens the directory before this has come to its end. What is damaged is reported and left:
/// the node that starts has it healed by others, or answers that it is damaged.
/// What is under a key that is not in `keys` is restored all the same, and not read.
pub fn restore(
    backup: &Path,
    directory: &Path,
    keys: &Arc<Keyring>,
    meter: &Meter,
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read(backup)?;
    check_files(backup, &manifest)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make", directory))?;
    let marker = directory.join(MARKER);
    let (segments, index) = (directory.join(SEGMENTS), directory.join(INDEX));
    if marker.exists() {
        remove_tree(&segments)?;
        remove_tree(&index)?;
    } else if segments.symlink_metadata().is_ok() || index.symlink_metadata().is_ok() {
        return Err(BackupError::Occupied { path: directory.to_path_buf() });
    }
    File::create(&marker).and_then(|file| file.sync_all()).map_err(failed("write", &marker))?;
    sync_folder(directory)?;

    manifest.segments.iter().for_each(|segment| meter.expect(segment.bytes));
    make_folder(&segments)?;
    let stop = CancellationToken::new();
    for file in &manifest.segments {
        let from = segment::path(&backup.join(SEGMENTS), file.id);
        copy_file(&from, &segment::path(&segments, file.id), file.bytes, meter, &stop)?;
    }
    make_folder(&index)?;
    for file in &manifest.index {
        let from = backup.join(INDEX).join(&file.name);
        copy_file(&from, &index.join(&file.name), file.bytes, &Meter::default(), &stop)?;
    }
    let evidence = directory.join(EVIDENCE);
    if !manifest.evidence.is_empty() && !evidence.is_dir() {
        make_folder(&evidence)?;
    }
    for file in &manifest.evidence {
        let (from, to) = (backup.join(EVIDENCE).join(&file.name), evidence.join(&file.name));
        fs::copy(&from, &to).map_err(failed("copy", &from))?;
        File::open(&to).and_then(|file| file.sync_all()).map_err(failed("sync", &to))?;
    }
    for folder in [&segments, &index] {
        sync_folder(folder)?;
    }
    let opened = Index::open(&index)?;
    let verified = verify(&opened, &segments, keys, meter)?;
    opened.sync()?;
    drop(opened);
    fs::remove_file(&marker).map_err(failed("remove", &marker))?;
    sync_folder(directory)?;
    Ok(Restored { manifest, verified })
}
