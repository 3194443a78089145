//! TLS of a testnet: an authority, certificates for everybody, and how the load and fault tests' own client knows servers.
//!
//! ```text
//! <dir>/tls/authority.pem          whom everybody trusts
//! <dir>/tls/member-1.pem, .key     likewise aggregator, mirror; names: member-1.das.test, localhost, 127.0.0.1
//! <dir>/tls/load.pem, .key         who stores
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use das_common::tls::{ClientIdentity, TlsError, TlsFiles, TlsVersion};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use rustls::ClientConfig;

/// The folder, below the testnet's.
pub const FOLDER: &str = "tls";
/// The file of the authority's certificate.
const AUTHORITY: &str = "authority.pem";
/// Who stores and reads in tests.
pub const LOAD: &str = "load";

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Files could not be used.
    #[error(transparent)]
    Files(#[from] TlsError),
}

/// An authority, and the folder of what it issues.
pub struct Authority {
    folder: PathBuf,
    certificate: Certificate,
    key: KeyPair,
}

/// Files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl From<Identity> for ClientIdentity {
    fn from(identity: Identity) -> Self {
        Self { certificate: identity.certificate, key: identity.key }
    }
}

/// When a certificate is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InForce {
    /// Always.
    #[default]
    Always,
    /// It has expired.
    Over,
    /// So many seconds from now on.
    For(u64),
}

impl Authority {
    /// Makes one, with a key that only this value has.
    pub fn new(folder: &Path) -> Result<Self, CertificateError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let authority = Self { folder: folder.to_path_buf(), certificate, key };
        write(&authority.file(), &authority.certificate.pem())?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join(AUTHORITY)
    }

    /// A certificate with these DNS names or addresses, in files of this name.
    pub fn issue(&self, file: &str, names: &[&str], in_force: InForce) -> Result<Identity, CertificateError> {
        let key = KeyPair::generate()?;
        let issued = params(names, in_force)?.signed_by(&key, &self.certificate, &self.key)?;
        save(&self.folder, file, &issued, &key)
    }
}

/// A certificate that nobody vouches for.
pub fn self_signed(folder: &Path, file: &str, names: &[&str]) -> Result<Identity, CertificateError> {
    let key = KeyPair::generate()?;
    let issued = params(names, InForce::Always)?.self_signed(&key)?;
    save(folder, file, &issued, &key)
}

fn params(names: &[&str], in_force: InForce) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    let now = std::time::SystemTime::now();
    let second = std::time::Duration::from_secs(1);
    match in_force {
        InForce::Always => {}
        InForce::Over => {
            params.not_before = (now - 7200 * second).into();
            params.not_after = (now - 3600 * second).into();
        }
        InForce::For(seconds) => {
            params.not_before = (now - 60 * second).into();
            params.not_after = (now + u32::try_from(seconds).unwrap_or(u32::MAX) * second).into();
        }
    }
    Ok(params)
}

fn save(
    folder: &Path,
    file: &str,
    certificate: &Certificate,
    key: &KeyPair,
) -> Result<Identity, CertificateError> {
    let files =
        Identity { certificate: folder.join(format!("{file}.pem")), key: folder.join(format!("{file}.key")) };
    write(&files.certificate, &certificate.pem())?;
    write(&files.key, &key.serialize_pem())?;
    Ok(files)
}

/// Replaces a file with one rename; nobody else may read it.
fn write(path: &Path, text: &str) -> Result<(), CertificateError> {
    let io = |source| CertificateError::Io { path: path.to_path_buf(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(io)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
    fs::rename(&new, path).map_err(io)
}

/// Makes an authority and certificates of these names in a testnet's folder, anew each time.
pub(crate) fn make(dir: &Path, names: impl IntoIterator<Item = String>) -> Result<(), CertificateError> {
    let authority = Authority::new(&dir.join(FOLDER))?;
    for name in names.into_iter().chain([LOAD.to_owned()]) {
        let dns = format!("{name}.das.test");
        authority.issue(&name, &[&dns, "localhost", "127.0.0.1"], InForce::Always)?;
    }
    Ok(())
}

/// The files of one of a testnet's certificates.
pub fn identity(dir: &Path, name: &str) -> Identity {
    let folder = dir.join(FOLDER);
    Identity { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
}

/// The certificate of a testnet's authority.
pub fn authority(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join(AUTHORITY)
}

/// Whom a client of a testnet trusts, and that it is the one that stores.
pub fn client_files(dir: &Path) -> TlsFiles {
    TlsFiles {
        authorities: Some(authority(dir)),
        identity: Some(identity(dir, LOAD).into()),
        min_version: TlsVersion::Tls13,
        system_roots: false,
    }
}

/// How servers at these addresses (`127.0.0.1:PORT`) are known from now on by the client of this package: as those of the
/// testnet in this folder.
pub fn know(dir: &Path, addresses: impl IntoIterator<Item = String>) -> Result<(), CertificateError> {
    let config = Arc::new(das_common::tls::client_config(&client_files(dir))?);
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(addresses.into_iter().map(|address| (address, Arc::clone(&config))));
    Ok(())
}

/// How the server at an address is known.
pub(crate) fn known(address: &str) -> Option<Arc<ClientConfig>> {
    KNOWN.get()?.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
}

static KNOWN: OnceLock<Mutex<HashMap<String, Arc<ClientConfig>>>> = OnceLock::new();
