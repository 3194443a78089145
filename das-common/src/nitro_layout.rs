//! Where Nitro's server keeps batches on disk (`local-file-storage`, spec section 11).
//!
//! ```text
//! by-data-hash/<h[0..2]>/<h[2..4]>/<h>                                      the batch
//! by-expiry-timestamp/<expiry / 10000>/<expiry % 10000, four digits>/<h>    a hard link to it
//! <h>                                                                       the batch, in the older layout
//! ```
//! `h` is the data hash, 64 lower-case hex digits; `expiry` is in unix seconds.

use std::path::{Component, Path, PathBuf};

use crate::data_hash::DataHash;

const BY_HASH: &str = "by-data-hash";
const BY_EXPIRY: &str = "by-expiry-timestamp";
const SECONDS_OF_A_FOLDER: u64 = 10_000;

/// Where the batch of this hash is.
pub fn by_hash(hash: &DataHash) -> PathBuf {
    let name = hash.to_string();
    [BY_HASH, &name[..2], &name[2..4], &name].iter().collect()
}

/// Where it is linked for its expiry.
pub fn by_expiry(hash: &DataHash, expiry: u64) -> PathBuf {
    let (folder, rest) = (expiry / SECONDS_OF_A_FOLDER, expiry % SECONDS_OF_A_FOLDER);
    [BY_EXPIRY, &folder.to_string(), &format!("{rest:04}"), &hash.to_string()].iter().collect()
}

/// What a file of a data directory is, by its path below the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NitroFile {
    /// A batch.
    Batch(DataHash),
    /// The link by which a batch expires.
    Expiry {
        /// The batch.
        hash: DataHash,
        /// When (unix seconds).
        expiry: u64,
    },
    /// A batch in the older layout; its expiry is the time of modification plus the retention.
    OlderBatch(DataHash),
}

impl NitroFile {
    /// `None` for anything else, such as what a health check leaves behind.
    pub fn of_path(path: &Path) -> Option<Self> {
        let parts: Option<Vec<&str>> = path
            .components()
            .map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        // Only names that this module would write: no 0x, no upper case, no misplaced batch.
        let hash = |name: &str| name.parse::<DataHash>().ok().filter(|hash| hash.to_string() == name);
        match parts?.as_slice() {
            [name] => hash(name).map(Self::OlderBatch),
            [BY_HASH, .., name] => hash(name).filter(|h| by_hash(h) == path).map(Self::Batch),
            [BY_EXPIRY, folder, rest, name] => {
                let hash = hash(name)?;
                let expiry = folder
                    .parse::<u64>()
                    .ok()?
                    .checked_mul(SECONDS_OF_A_FOLDER)?
                    .checked_add(rest.parse().ok()?)?;
                (by_expiry(&hash, expiry) == path).then_some(Self::Expiry { hash, expiry })
            }
            _ => None,
        }
    }
}
