//! Reading files that hold secrets: bounded, and without leaving copies behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The system's report.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The report.
        source: io::Error,
    },
    /// Longer than what it should hold can be.
    #[error("{} is {bytes} bytes long or longer; at most {limit} are possible", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length, as far as it was looked at.
        bytes: u64,
        /// The bound.
        limit: usize,
    },
}

/// What a file holds.
pub struct SecretFile {
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Its mode when others than its owner may do something with it: worth a warning.
    pub wide_mode: Option<u32>,
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<SecretFile, SecretFileError> {
    let io = |source| SecretFileError::Io { path: path.to_path_buf(), source };
    let too_long = |bytes| SecretFileError::TooLong { path: path.to_path_buf(), bytes, limit };
    let mut file = File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    if about.len() > limit as u64 {
        return Err(too_long(about.len()));
    }
    // What is no regular file does not say its length, and a growing buffer would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    if length > limit {
        return Err(too_long(length as u64));
    }
    bytes.truncate(length);
    let mode = about.permissions().mode() & 0o777;
    Ok(SecretFile { bytes, wide_mode: (mode & 0o077 != 0).then_some(mode) })
}
