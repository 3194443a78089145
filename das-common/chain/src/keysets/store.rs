//! Where keysets are kept.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use das_common::data_hash::DataHash;
use das_common::keyset::MAX_BYTES;

/// Keeps the bytes of keysets for ever. What comes back is checked by who asked.
pub trait KeysetStore: Send + Sync + 'static {
    /// The bytes, if they are kept.
    fn get(&self, hash: DataHash) -> io::Result<Option<Vec<u8>>>;

    /// Keeps the bytes, in the place of others if there are any.
    fn put(&self, hash: DataHash, bytes: &[u8]) -> io::Result<()>;
}

/// A directory with a file for each keyset, `<hash>.keyset`.
#[derive(Debug)]
pub struct DirKeysets {
    dir: PathBuf,
}

impl DirKeysets {
    /// Makes the directory if it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, hash: DataHash) -> PathBuf {
        self.dir.join(format!("{hash}.keyset"))
    }
}

impl KeysetStore for DirKeysets {
    fn get(&self, hash: DataHash) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(hash)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // One byte more than a keyset can have: a longer file then fails its hash.
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES as u64), &mut bytes)?;
        Ok(Some(bytes))
    }

    fn put(&self, hash: DataHash, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(hash);
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_dir(&self.dir)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
