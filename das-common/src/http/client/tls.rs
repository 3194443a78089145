//! Whom a client trusts and who it says it is, from files in PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::secret_file::{self, SecretFileError};

/// A longer file holds no certificates or key that anybody needs.
const MAX_FILE_BYTES: usize = 1 << 20;

/// The files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that servers have theirs from; none: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Who the client is; none: it does not say.
    pub identity: Option<ClientIdentity>,
}

/// The client's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its secret key: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file does not hold what it should.
    #[error("{}: no {expected} in PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// An authority's certificate is none.
    #[error("{}: an authority's certificate cannot be used: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The system's authorities cannot be read.
    #[error("the system's root certificates cannot be read: {source}")]
    SystemRoots {
        /// The report.
        source: std::io::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("{} and {} do not make a client certificate: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {source}")]
    Library {
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads the files.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Library { source })?;
        let builder = match &self.authorities {
            None => builder.with_native_roots().map_err(|source| TlsError::SystemRoots { source })?,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|source| TlsError::Authority { path: path.clone(), source })?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let Some(ClientIdentity { certificate, key }) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let secret = secret_file::read(key, MAX_FILE_BYTES)?;
        // The parser may repeat what it stumbled over.
        let secret = PrivateKeyDer::from_pem_slice(&secret.bytes).map_err(|_| TlsError::Pem {
            path: key.clone(),
            expected: "private key",
            reason: "it does not parse".into(),
        })?;
        builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(|source| {
            TlsError::Identity { certificate: certificate.clone(), key: key.clone(), source }
        })
    }
}

/// The certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |reason: String| TlsError::Pem { path: path.to_path_buf(), expected: "certificate", reason };
    let text = secret_file::read(path, MAX_FILE_BYTES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.bytes).collect();
    let found = found.map_err(|e| error(e.to_string()))?;
    if found.is_empty() { Err(error("there is none".into())) } else { Ok(found) }
}
