//! Certificates and keys in PEM, and whether they can be used now.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{OptionValue, RawValue};
use crate::fault::{self, Coded, Fault};
use crate::secret_file::{self, SecretFileError};

/// A longer file holds no certificates or key that anybody needs.
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;

/// Why files of certificates and keys cannot be used.
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
    /// Authorities' certificates cannot be used.
    #[error("{}: an authority's certificate cannot be used: {reason}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system's authorities cannot be read.
    #[error(
        "the system's root certificates cannot be read: {reason} (install the system's ca-certificates, set \
         SSL_CERT_FILE, or name an authority)"
    )]
    SystemRoots {
        /// The report.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("{} and {} do not belong together or cannot be used: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate that is not in force.
    #[error("{}: its certificate is in force from {from} to {to}, which is not now", path.display())]
    NotInForce {
        /// The file.
        path: PathBuf,
        /// RFC 3339.
        from: String,
        /// RFC 3339.
        to: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {source}")]
    Library {
        /// Why.
        source: rustls::Error,
    },
}

impl Coded for TlsError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::NotInForce { .. } => fault::TLS_NOT_IN_FORCE,
            _ => fault::TLS_FILES,
        }
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// 1.3.
    #[default]
    Tls13,
    /// 1.2, and 1.3 with whoever speaks it.
    Tls12,
}

impl TlsVersion {
    /// What the library is told.
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
        const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        match self {
            Self::Tls13 => NEW,
            Self::Tls12 => BOTH,
        }
    }
}

impl OptionValue for TlsVersion {
    const KIND: &'static str = "string";
    fn expected() -> String {
        "1.3 or 1.2".to_owned()
    }
    fn parse(raw: &RawValue) -> Option<Self> {
        match raw.as_text()?.as_str() {
            "1.3" => Some(Self::Tls13),
            "1.2" => Some(Self::Tls12),
            _ => None,
        }
    }
    fn to_raw(&self) -> RawValue {
        RawValue::Text(if *self == Self::Tls13 { "1.3" } else { "1.2" }.to_owned())
    }
}

crate::option_values!(TlsVersion);

/// A certificate and its key, in force now.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Unix seconds at which the first certificate of the chain ends.
    pub(super) not_after: i64,
}

impl Identity {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let not_after = check_in_force(certificate, &chain)?;
        let secret = secret_file::read(key, MAX_FILE_BYTES)?;
        if let Some(mode) = secret.wide_mode {
            let (code, file) = (fault::KEY_MODE.code, key.display());
            tracing::warn!(code, %file, mode = format!("{mode:03o}"), "{}", fault::KEY_MODE);
        }
        let key = PrivateKeyDer::from_pem_slice(&secret.bytes)
            .map_err(|_| TlsError::Pem { path: key.to_path_buf(), expected: "private key" })?;
        Ok(Self { chain, key, not_after })
    }
}

/// The certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Pem { path: path.to_path_buf(), expected: "certificate" };
    let text = secret_file::read(path, MAX_FILE_BYTES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.bytes).collect();
    let found = found.map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// Adds the authorities of a file.
pub(super) fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authority { path: path.to_path_buf(), reason: error.to_string() })?;
    }
    Ok(())
}

/// Whether all of a chain is in force now; unix seconds of the time at which that ends.
fn check_in_force(path: &Path, chain: &[CertificateDer<'_>]) -> Result<i64, TlsError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut end = i64::MAX;
    for certificate in chain {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| TlsError::Pem { path: path.to_path_buf(), expected: "certificate" })?;
        let validity = parsed.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if now < from || now > to {
            return Err(TlsError::NotInForce { path: path.to_path_buf(), from: shown(from), to: shown(to) });
        }
        end = end.min(to);
    }
    Ok(end)
}

/// RFC 3339 of unix seconds.
pub(super) fn shown(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}
