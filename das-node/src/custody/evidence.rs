//! Evidence that members did not keep their word: one file a bundle, for the operator to take and show.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use das_common::custody::bundle::Bundle;

/// Where bundles are, in the data directory.
const FOLDER: &str = "evidence";
/// Bundles kept; a member that lies all the time must not fill the disk.
const MAX_BUNDLES: usize = 4096;

/// The bundles of this node.
#[derive(Debug, Clone)]
pub(super) struct EvidenceFolder(PathBuf);

impl EvidenceFolder {
    pub(super) fn of(data_dir: &Path) -> Self {
        Self(data_dir.join(FOLDER))
    }

    /// Writes a bundle down, synced. `None` when there are so many that one more tells nobody anything.
    pub(super) fn save(&self, time: u64, member: &str, bundle: &Bundle) -> io::Result<Option<PathBuf>> {
        std::fs::create_dir_all(&self.0)?;
        if self.count()? >= MAX_BUNDLES {
            return Ok(None);
        }
        // A name of the committee file may have any characters.
        let member: String = member
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(64)
            .collect();
        let path = self.0.join(format!("{time}-{member}-{:08x}.bin", rand::random::<u32>()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&bundle.to_bytes())?;
        file.sync_all()?;
        File::open(&self.0)?.sync_all()?;
        Ok(Some(path))
    }

    /// How many there are.
    pub(super) fn count(&self) -> io::Result<usize> {
        match std::fs::read_dir(&self.0) {
            Ok(entries) => Ok(entries.take(MAX_BUNDLES).count()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}
