//! The peer key of this machine: made at the first start, kept in a file that only its owner reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64_simd::STANDARD;
use das_common::binding::PeerKey;
use das_common::fault::{self, Coded, Fault};
use libp2p::identity::ed25519;
use thiserror::Error;
use zeroize::Zeroizing;

/// Its name in the data directory.
pub const KEY_FILE: &str = "peer.key";
/// A longer file is no key.
const MAX_FILE_BYTES: u64 = 1024;

/// Why there is no peer key.
#[derive(Debug, Error)]
pub enum PeerKeyFileError {
    /// The system's report.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The report.
        source: io::Error,
    },
    /// Not a key.
    #[error(
        "{} is no peer key (32 bytes in base64); restore it, or remove it and a new one is made: the other members \
         learn it by themselves",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Coded for PeerKeyFileError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Io { .. } => fault::KEY_MISSING,
            Self::Malformed { .. } => fault::KEY_MALFORMED,
        }
    }
}

/// The key that this machine speaks with. Never printed.
#[derive(Clone)]
pub struct PeerIdentity {
    keypair: ed25519::Keypair,
}

impl std::fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerIdentity({})", self.peer_key())
    }
}

fn error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PeerKeyFileError {
    let path = path.to_path_buf();
    move |source| PeerKeyFileError::Io { what, path, source }
}

impl PeerIdentity {
    /// Draws a key that is kept nowhere.
    pub fn generate() -> Self {
        Self { keypair: ed25519::Keypair::generate() }
    }

    /// Reads the key file, or makes it (mode 0600, synced). The second value is the mode of a file that others than its
    /// owner may read: worth a warning.
    pub fn load_or_make(path: &Path) -> Result<(Self, Option<u32>), PeerKeyFileError> {
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let identity = Self::generate();
                identity.write(path)?;
                Ok((identity, None))
            }
            Err(source) => Err(error("read", path)(source)),
        }
    }

    fn read(path: &Path, file: File) -> Result<(Self, Option<u32>), PeerKeyFileError> {
        let mode = file.metadata().map_err(error("read", path))?.permissions().mode() & 0o777;
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(error("read", path))?;
        let malformed = || PeerKeyFileError::Malformed { path: path.to_path_buf() };
        let seed = STANDARD.decode_to_vec(text.trim_ascii()).map_err(|_| malformed())?;
        let mut seed = Zeroizing::new(seed);
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed[..]).map_err(|_| malformed())?;
        Ok((Self { keypair: secret.into() }, (mode & 0o077 != 0).then_some(mode)))
    }

    fn write(&self, path: &Path) -> Result<(), PeerKeyFileError> {
        let seed = Zeroizing::new(self.keypair.secret().as_ref().to_vec());
        let text = Zeroizing::new(STANDARD.encode_to_string(&*seed));
        // Under another name first: a crash leaves no beginning of a key behind.
        let half = path.with_extension("new");
        let _ = std::fs::remove_file(&half);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
        let mut file = file.map_err(error("make", path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error("write", path))?;
        std::fs::rename(&half, path).map_err(error("make", path))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(error("sync the folder of", path))
    }

    /// The public key.
    pub fn peer_key(&self) -> PeerKey {
        PeerKey::new(self.keypair.public().to_bytes())
    }

    /// Signs with the peer key. Every use has a domain of its own at the beginning of the bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.keypair.sign(bytes).try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// Both keys.
    pub fn keypair(&self) -> &ed25519::Keypair {
        &self.keypair
    }
}

/// Whether the holder of a peer key signed these bytes.
pub fn peer_key_signed(key: &PeerKey, bytes: &[u8], signature: &[u8; 64]) -> bool {
    ed25519::PublicKey::try_from_bytes(key.as_bytes()).is_ok_and(|key| key.verify(bytes, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let (made, _) = PeerIdentity::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (read, wide) = PeerIdentity::load_or_make(&path).unwrap();
        assert_eq!((read.peer_key(), wide), (made.peer_key(), None));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(PeerIdentity::load_or_make(&path).unwrap().1, Some(0o644));
        assert!(!format!("{made:?}").contains(&std::fs::read_to_string(&path).unwrap()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_no_key_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        for content in ["", "%%%", "AAAA", &"A".repeat(5000)] {
            std::fs::write(&path, content).unwrap();
            let error = PeerIdentity::load_or_make(&path).unwrap_err().to_string();
            assert!(error.contains("peer.key is no peer key"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let nowhere = folder.path().join("missing").join(KEY_FILE);
        let error = PeerIdentity::load_or_make(&nowhere).unwrap_err().to_string();
        assert!(error.starts_with("cannot make "), "{error}");
    }
}
