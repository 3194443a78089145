//! What is in a data directory of Nitro's server, one file at a time.
//!
//! Three parts, in this order: the links by expiry, the batches by hash, the files of the older layout. A batch by hash tells
//! nothing of its end, so these are told apart ([`Found::Unlinked`]) and come behind [`Found::EndOfLinks`]: whoever takes a
//! batch from its link first needs them only where there was none. Nothing is remembered of what was passed, but for batches that
//! a living server has stored since the walk began: their links may have come behind it, and are looked for once more.

use std::collections::HashSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use das_common::data_hash::DataHash;
use das_common::nitro_layout::NitroFile;

/// Nitro's folders; the rest of a path is by [`NitroFile`].
const BY_HASH: &str = "by-data-hash";
const BY_EXPIRY: &str = "by-expiry-timestamp";
/// Folders below these are at most so deep.
const MAX_DEPTH: usize = 3;
/// What a das-node has in the same directory.
const OURS: [&str; 8] = [
    "admin.sock",
    "backup-links",
    "chain",
    "evidence",
    "index",
    "peer.key",
    "restore-unfinished",
    "segments",
];
/// What a health check of Nitro's stores, with an expiry of 0.
const HEALTH_CHECK: &[u8] = b"Test Data";

/// A file that has the name of a batch.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) hash: DataHash,
    /// When it expires (unix seconds), or would if it is [`Found::Unlinked`].
    pub(super) expiry: u64,
    pub(super) bytes: u64,
    /// Device and inode.
    pub(super) id: (u64, u64),
    /// Bytes that it counts for in the whole of the work.
    pub(super) weight: u64,
}

/// What a walk meets.
#[derive(Debug)]
pub(super) enum Found {
    /// A batch with its expiry.
    Batch(File),
    /// The same, found by looking once more: it may have been met before.
    Again(File),
    /// Every link by expiry was passed.
    EndOfLinks,
    /// A batch by hash: it may have been met by its links.
    Unlinked(File),
    /// Something that is no batch by its name, and may be left.
    Foreign { path: PathBuf, reason: String },
    /// Something that may be a batch and cannot be taken.
    Unusable { path: PathBuf, reason: String },
}

/// Walks through a directory. `retention`, in seconds, makes a file's time its expiry where nothing else says it. `each` says
/// whether to go on.
///
/// # Errors
/// Only when the directory itself cannot be read; what is below it is reported to `each`.
pub(super) fn walk(root: &Path, retention: u64, each: &mut dyn FnMut(Found) -> bool) -> io::Result<()> {
    let top: Vec<DirEntry> = fs::read_dir(root)?.collect::<Result<_, _>>()?;
    let has_ours = ["index", "segments"].iter().all(|name| root.join(name).is_dir());
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let started = i64::try_from(started).unwrap_or(i64::MAX);
    let mut walk = Walk { root, retention, started, young: Vec::new(), again: None, each };
    for part in [BY_EXPIRY, BY_HASH] {
        if root.join(part).is_dir() && !walk.folder(&root.join(part), MAX_DEPTH) {
            return Ok(());
        }
        if part == BY_EXPIRY && !(walk.each)(Found::EndOfLinks) {
            return Ok(());
        }
    }
    if !walk.young_ones() {
        return Ok(());
    }
    for entry in top {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_nitro_s = is_folder && (name == BY_EXPIRY || name == BY_HASH);
        let is_ours = has_ours && OURS.iter().any(|ours| name == *ours);
        if is_nitro_s || is_ours {
            continue;
        }
        let go_on = if is_folder {
            walk.foreign(entry.path(), "a folder that Nitro's server does not make")
        } else {
            walk.file(&entry)
        };
        if !go_on {
            return Ok(());
        }
    }
    Ok(())
}

struct Walk<'a> {
    root: &'a Path,
    retention: u64,
    /// When the walk began (unix seconds).
    started: i64,
    /// Batches by hash that are no older than the walk.
    young: Vec<File>,
    /// Only the links of these are looked for, once more.
    again: Option<HashSet<DataHash>>,
    each: &'a mut dyn FnMut(Found) -> bool,
}

impl Walk<'_> {
    /// What was stored since the walk began: by its link if there is one now.
    fn young_ones(&mut self) -> bool {
        let young = std::mem::take(&mut self.young);
        if young.is_empty() {
            return true;
        }
        self.again = Some(young.iter().map(|file| file.hash).collect());
        let go_on = self.folder(&self.root.join(BY_EXPIRY), MAX_DEPTH) && (self.each)(Found::EndOfLinks);
        self.again = None;
        go_on && young.into_iter().all(|file| (self.each)(Found::Unlinked(file)))
    }

    fn folder(&mut self, folder: &Path, depth: usize) -> bool {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(folder, &error),
        };
        for entry in entries {
            let go_on = match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    if depth == 1 {
                        self.foreign(entry.path(), "a folder that Nitro's server does not make")
                    } else {
                        self.folder(&entry.path(), depth - 1)
                    }
                }
                Ok(entry) => self.file(&entry),
                Err(error) => self.unreadable(folder, &error),
            };
            if !go_on {
                return false;
            }
        }
        true
    }

    fn file(&mut self, entry: &DirEntry) -> bool {
        let path = entry.path();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return self.unreadable(&path, &error),
        };
        let known = path.strip_prefix(self.root).ok().and_then(NitroFile::of_path);
        if !metadata.is_file() {
            return match known {
                Some(_) => self.unusable(path, "it is no regular file"),
                None => self.foreign(path, "it is no regular file"),
            };
        }
        let is_health_check = |hash: &DataHash| *hash == DataHash::of(HEALTH_CHECK);
        let found = match known {
            Some(NitroFile::Expiry { hash, expiry: 0 } | NitroFile::Batch(hash))
                if is_health_check(&hash) =>
            {
                return true;
            }
            Some(NitroFile::Expiry { hash, .. })
                if self.again.as_ref().is_some_and(|of| !of.contains(&hash)) =>
            {
                return true;
            }
            Some(NitroFile::Expiry { hash, expiry }) if self.again.is_some() => {
                Found::Again(file(path, hash, expiry, &metadata, 0))
            }
            Some(NitroFile::Expiry { hash, expiry }) => {
                Found::Batch(file(path, hash, expiry, &metadata, metadata.len()))
            }
            Some(NitroFile::Batch(hash)) => {
                // One with links has counted by those.
                let weight = if metadata.nlink() == 1 { metadata.len() } else { 0 };
                let file = file(path, hash, self.by_time(&metadata), &metadata, weight);
                if metadata.ctime() >= self.started {
                    self.young.push(file);
                    return true;
                }
                Found::Unlinked(file)
            }
            Some(NitroFile::OlderBatch(hash)) => {
                Found::Batch(file(path, hash, self.by_time(&metadata), &metadata, metadata.len()))
            }
            None => return self.unnamed(path),
        };
        (self.each)(found)
    }

    /// A file with another name than Nitro gives.
    fn unnamed(&mut self, path: PathBuf) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let starts_as_batch =
            name.get(..64).is_some_and(|start| start.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if starts_as_batch && name.len() == 64 {
            return self.unusable(path, "a batch's name, but not where or as Nitro's server writes it");
        }
        if starts_as_batch || name.contains(".tmp") || name.starts_with("tmp") {
            return self.foreign(path, "a write that was not finished");
        }
        self.foreign(path, "not the name of a batch")
    }

    /// Seconds are rounded up: rather a second too long.
    fn by_time(&self, metadata: &Metadata) -> u64 {
        let seconds = metadata.mtime().saturating_add(i64::from(metadata.mtime_nsec() > 0));
        u64::try_from(i128::from(seconds) + i128::from(self.retention)).unwrap_or(0)
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::NotFound {
            // A living server has let it go since.
            return true;
        }
        self.unusable(path.to_owned(), &format!("it cannot be read: {error}"))
    }

    fn unusable(&mut self, path: PathBuf, reason: &str) -> bool {
        // What is looked at once more was reported the first time.
        self.again.is_some() || (self.each)(Found::Unusable { path, reason: reason.to_owned() })
    }

    fn foreign(&mut self, path: PathBuf, reason: &str) -> bool {
        self.again.is_some() || (self.each)(Found::Foreign { path, reason: reason.to_owned() })
    }
}

fn file(path: PathBuf, hash: DataHash, expiry: u64, metadata: &Metadata, weight: u64) -> File {
    File { path, hash, expiry, bytes: metadata.len(), id: (metadata.dev(), metadata.ino()), weight }
}

#[cfg(test)]
mod tests {
    use das_common::nitro_layout::{by_expiry, by_hash};

    use super::*;

    fn store(root: &Path, batch: &[u8], expiry: u64) -> DataHash {
        let hash = DataHash::of(batch);
        let (path, link) = (root.join(by_hash(&hash)), root.join(by_expiry(&hash, expiry)));
        for path in [&path, &link] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(&path, batch).unwrap();
        fs::hard_link(path, link).unwrap();
        hash
    }

    #[test]
    fn what_a_living_server_stores_behind_the_walk_has_its_own_expiry() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let first = store(root, b"before", 4_102_444_800);
        let (mut found, mut late) = (Vec::new(), None);
        walk(root, 7, &mut |item| {
            match item {
                Found::EndOfLinks if late.is_none() => late = Some(store(root, b"behind it", 4_102_449_999)),
                Found::Batch(file) | Found::Again(file) => found.push((file.hash, file.expiry)),
                Found::EndOfLinks | Found::Unlinked(_) => {}
                other => panic!("{other:?}"),
            }
            true
        })
        .unwrap();
        // The first one may be as young as the walk, and be met twice.
        found.sort_unstable();
        found.dedup();
        let mut wanted = vec![(first, 4_102_444_800), (late.unwrap(), 4_102_449_999)];
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }
}
