//! The client's side: whom it trusts and who it says it is.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::files::{Identity, TlsError, TlsVersion, add_authorities};

/// What a client is set up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that servers have theirs from; none: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Trust the system's authorities beside those of the file.
    pub system_roots: bool,
    /// Who the client is; none: it does not say.
    pub identity: Option<ClientIdentity>,
    /// The oldest version that it speaks.
    pub min_version: TlsVersion,
}

/// The client's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its secret key: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]);
        self.authorities.iter().cloned().chain(identity).collect()
    }
}

/// What the library is to do, by the files as they are now.
pub fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.authorities {
        add_authorities(&mut roots, path)?;
    }
    if files.authorities.is_none() || files.system_roots {
        add_system_roots(&mut roots)?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(files.min_version.versions())
        .map_err(|source| TlsError::Library { source })?
        .with_root_certificates(roots);
    let Some(ClientIdentity { certificate, key }) = &files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let own = Identity::read(certificate, key)?;
    builder.with_client_auth_cert(own.chain, own.key).map_err(|source| TlsError::Identity {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })
}

/// Single certificates that do not parse are left out, as browsers do; none at all is an error.
fn add_system_roots(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let reason = if reasons.is_empty() { "there are none".to_owned() } else { reasons.join("; ") };
    Err(TlsError::SystemRoots { reason })
}
