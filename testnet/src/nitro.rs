//! Data directories of Nitro's server: written as it writes them, from recorded lists or generated, and compared.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use das_common::data_hash::DataHash;
use das_common::nitro_layout::{by_expiry, by_hash};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::Value;

use crate::vectors::bytes;

/// A directory, written as by Nitro's server.
#[derive(Debug, Clone)]
pub struct NitroDirectory {
    root: PathBuf,
}

impl NitroDirectory {
    /// Makes it, if it is not there.
    pub fn open(root: &Path) -> io::Result<Self> {
        for part in ["by-data-hash", "by-expiry-timestamp"] {
            make_folders(&root.join(part))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Stores a batch: a file with a name of its own first, then the right name, then the link by expiry.
    pub fn store(&self, batch: &[u8], expiry: u64) -> io::Result<DataHash> {
        let hash = DataHash::of(batch);
        let (path, link) = (self.root.join(by_hash(&hash)), self.root.join(by_expiry(&hash, expiry)));
        make_folders(path.parent().unwrap_or(&self.root))?;
        make_folders(link.parent().unwrap_or(&self.root))?;
        let draft = path.with_extension("tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(batch)?;
        if path.exists() {
            fs::remove_file(&draft)?;
        } else {
            fs::rename(&draft, &path)?;
        }
        match fs::hard_link(&path, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(hash),
        }
    }

    /// Reads a batch.
    pub fn read(&self, hash: &DataHash) -> io::Result<Vec<u8>> {
        fs::read(self.root.join(by_hash(hash)))
    }
}

/// Stores a batch in the older layout.
pub fn store_flat(root: &Path, batch: &[u8], modified: u64) -> io::Result<DataHash> {
    let hash = DataHash::of(batch);
    make_folders(root)?;
    let path = root.join(hash.to_string());
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(batch)?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(modified))?;
    Ok(hash)
}

fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a recorded list (`before` or `after` of `on_disk.json`) out to disk.
///
/// # Panics
/// When the list is not of the form that is recorded.
pub fn write_recorded(root: &Path, list: &Value) -> io::Result<()> {
    make_folders(root)?;
    for entry in list.as_array().expect("a list") {
        let path = root.join(entry["path"].as_str().expect("a path"));
        if entry["kind"] == "directory" {
            make_folders(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            make_folders(parent)?;
        }
        if let Some(same) = entry["same_file_as"].as_str() {
            fs::hard_link(root.join(same), &path)?;
            continue;
        }
        let mut file = File::create_new(&path)?;
        file.write_all(&bytes(&entry["content"]))?;
        let mode = entry["mode"].as_str().map_or(0o600, |mode| u32::from_str_radix(mode, 8).expect("a mode"));
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(modified) = entry["mtime"].as_u64() {
            file.set_modified(UNIX_EPOCH + Duration::from_secs(modified))?;
        }
    }
    Ok(())
}

/// What is below a directory: path to kind, mode, number of links, the first path of the same file, and the hash of the
/// content; with `times` also the time of each file.
pub fn tree(root: &Path, times: bool) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for path in paths {
        let below = path.strip_prefix(root).map_err(io::Error::other)?.to_owned();
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.mode() & 0o7777;
        let text = if metadata.is_dir() {
            format!("folder {mode:o}")
        } else if metadata.is_file() {
            let same = first.entry(metadata.ino()).or_insert_with(|| below.clone());
            let time = if times { metadata.mtime() } else { 0 };
            let content = DataHash::of(&fs::read(&path)?);
            format!("file {mode:o}, {} links, as {}, {content}, {time}", metadata.nlink(), same.display())
        } else {
            "something else".to_owned()
        };
        found.insert(below, text);
    }
    Ok(found)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        into.push(entry.path());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        }
    }
    Ok(())
}

/// A batch that was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Its name.
    pub hash: DataHash,
    /// When it expires (unix seconds).
    pub expiry: u64,
    /// Its bytes.
    pub length: u64,
    seed: u64,
}

impl Generated {
    /// A batch of random bytes.
    pub fn make(seed: u64, length: usize) -> Vec<u8> {
        let mut batch = vec![0; length];
        StdRng::seed_from_u64(seed).fill_bytes(&mut batch);
        batch
    }

    /// Its bytes, once more.
    pub fn bytes(&self) -> Vec<u8> {
        Self::make(self.seed, usize::try_from(self.length).unwrap_or(0))
    }
}

/// Fills a directory with random batches, `total` bytes of these sizes at least. Each expires within three weeks.
pub fn generate(
    root: &Path,
    seed: u64,
    total: u64,
    sizes: RangeInclusive<usize>,
    now: u64,
) -> io::Result<Vec<Generated>> {
    let directory = NitroDirectory::open(root)?;
    let mut random = StdRng::seed_from_u64(seed);
    let (mut made, mut bytes) = (Vec::new(), 0);
    while bytes < total {
        let (seed, length) = (random.random(), random.random_range(sizes.clone()));
        let expiry = now + random.random_range(3600..21 * 24 * 3600);
        let hash = directory.store(&Generated::make(seed, length), expiry)?;
        bytes += length as u64;
        made.push(Generated { hash, expiry, length: length as u64, seed });
    }
    Ok(made)
}
