//! Key files as Nitro's operators have them: `das_bls` and `das_bls.pub`, base64.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64_simd::STANDARD;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::{PublicKey, PublicKeyError, SecretKey, SecretKeyError};
use crate::secret_file::{self, SecretFile, SecretFileError};

/// The file of the secret key.
pub const SECRET_FILE: &str = "das_bls";
/// The file of the public key.
pub const PUBLIC_FILE: &str = "das_bls.pub";
/// A longer file is no key.
const MAX_FILE_BYTES: usize = 64 << 10;

/// Why a key file could not be read or written.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The system's report.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The report.
        source: io::Error,
    },
    /// Too long for a key.
    #[error("{} is {bytes} bytes long; a key file has at most {MAX_FILE_BYTES}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not base64.
    #[error("{} is not standard base64", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// No secret key in it.
    #[error("{}: {source}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SecretKeyError,
    },
    /// No public key in it.
    #[error("{}: {source}", path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PublicKeyError,
    },
}

/// Where the two files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The secret key.
    pub secret: PathBuf,
    /// The public key.
    pub public: PathBuf,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_path_buf();
    move |source| KeyFileError::Io { what, path, source }
}

/// What a key file holds, and its mode when it is too wide.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Option<u32>), KeyFileError> {
    let SecretFile { bytes: mut text, wide_mode } =
        secret_file::read(path, MAX_FILE_BYTES).map_err(|error| match error {
            SecretFileError::Io { path, source } => KeyFileError::Io { what: "read", path, source },
            SecretFileError::TooLong { path, bytes, .. } => KeyFileError::TooLong { path, bytes },
        })?;
    // Lines may be wrapped, as `base64` does; Nitro reads over line ends too.
    text.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    let decoded = STANDARD.decode_to_vec(text.trim_ascii());
    let decoded = decoded.map_err(|_| KeyFileError::Encoding { path: path.to_path_buf() })?;
    Ok((Zeroizing::new(decoded), wide_mode))
}

/// Reads a secret key file. The second value is the mode of the file when others than the owner may read it: worth a
/// warning.
pub fn read_secret_key_file(path: &Path) -> Result<(SecretKey, Option<u32>), KeyFileError> {
    let (bytes, wide_mode) = read(path)?;
    let key = SecretKey::from_bytes(&bytes)
        .map_err(|source| KeyFileError::Secret { path: path.to_path_buf(), source })?;
    Ok((key, wide_mode))
}

/// Reads a public key file.
pub fn read_public_key_file(path: &Path) -> Result<PublicKey, KeyFileError> {
    let (bytes, _) = read(path)?;
    PublicKey::parse(&bytes).map_err(|source| KeyFileError::Public { path: path.to_path_buf(), source })
}

/// Writes both files of a key, synced, mode 0600, making the folder (0700) where it is missing. A file that exists is
/// not overwritten; where writing fails, neither file is left behind.
pub fn write_key_files(directory: &Path, key: &SecretKey) -> Result<KeyFiles, KeyFileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(io_error("make the folder", directory))?;
    let files = KeyFiles { secret: directory.join(SECRET_FILE), public: directory.join(PUBLIC_FILE) };
    if files.public.exists() {
        return Err(io_error("write", &files.public)(io::ErrorKind::AlreadyExists.into()));
    }
    let mut secret = STANDARD.encode_to_string(&*key.to_bytes());
    let written = write(&files.secret, secret.as_bytes());
    secret.zeroize();
    written?;
    let public = STANDARD.encode_to_string(key.public_key().to_bytes());
    if let Err(error) = write(&files.public, public.as_bytes()) {
        let _ = std::fs::remove_file(&files.secret);
        return Err(error);
    }
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", directory))?;
    Ok(files)
}

fn write(path: &Path, text: &[u8]) -> Result<(), KeyFileError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(io_error("write", path))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|error| {
        // A beginning of a key would be read as another key.
        let _ = std::fs::remove_file(path);
        io_error("write", path)(error)
    })
}
