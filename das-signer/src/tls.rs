//! The TLS side of the server, from files in PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use das_common::fault::{self, Coded, Fault};
use das_common::secret_file::{self, SecretFileError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use thiserror::Error;

use crate::options::TlsOptions;

/// A longer file holds no certificates or key that anybody needs.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file does not hold what it should. (A parser's words may repeat what it stumbled over.)
    #[error("{}: there is no {expected} in PEM in it", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The clients' authorities cannot be used.
    #[error("{}: {reason}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("{} and {} do not make a server's certificate: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Coded for TlsError {
    fn fault(&self) -> &'static Fault {
        fault::SIGNER_SETTINGS
    }
}

/// What the server shows, and whom it lets in: clients without a certificate of the authorities do not get as far as
/// asking.
pub fn server_config(options: &TlsOptions) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] =
        if options.allow_tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let authority = |reason: String| TlsError::Authority { path: options.client_ca.clone(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&options.client_ca)? {
        roots.add(certificate).map_err(|error| authority(error.to_string()))?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| authority(error.to_string()))?;
    let identity =
        |source| TlsError::Identity { certificate: options.cert.clone(), key: options.key.clone(), source };
    let secret = secret_file::read(&options.key, MAX_FILE_BYTES)?;
    if let Some(mode) = secret.wide_mode {
        let (code, file) = (fault::KEY_MODE.code, options.key.display());
        tracing::warn!(code, %file, mode = format!("{mode:03o}"), "{}", fault::KEY_MODE);
    }
    let secret = PrivateKeyDer::from_pem_slice(&secret.bytes)
        .map_err(|_| TlsError::Pem { path: options.key.clone(), expected: "private key" })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(identity)?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&options.cert)?, secret)
        .map_err(identity)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Pem { path: path.to_path_buf(), expected: "certificate" };
    let text = secret_file::read(path, MAX_FILE_BYTES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.bytes).collect();
    let found = found.map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}
