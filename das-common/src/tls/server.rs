//! The server's side: what it shows, and whom it lets in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::clients::{AllowedClients, names};
use super::files::{Identity, TlsError, TlsVersion, add_authorities, shown};
use super::reload::{LOOK_EVERY, Look, Reloaded};
use crate::alarm::Alarms;
use crate::fault;
use crate::telemetry::names as metric;

/// A certificate that ends sooner is an alarm.
const RENEW_SECONDS: i64 = 14 * 24 * 3600;

/// What a server is set up with.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// Our certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its secret key: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Who may come to ports that demand a client certificate; none: there is no such port.
    pub clients: Option<KnownClients>,
}

/// Clients that are let in by their certificates.
#[derive(Debug, Clone)]
pub struct KnownClients {
    /// Certificates of the authorities that clients have theirs from.
    pub authorities: PathBuf,
    /// DNS names of which a client's certificate has one; none: all certificates of the authorities will do.
    pub allowed: AllowedClients,
}

/// The certificate of a server. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<Reloaded<Configs>>);

struct Configs {
    /// For everybody.
    open: Arc<ServerConfig>,
    /// For known clients.
    known: Option<Arc<ServerConfig>>,
    not_after: i64,
}

impl ServerTls {
    /// Reads the files.
    pub fn open(files: ServerFiles) -> Result<Self, TlsError> {
        let mut paths = vec![files.certificate.clone(), files.key.clone()];
        paths.extend(files.clients.iter().map(|clients| clients.authorities.clone()));
        let reloaded = Reloaded::new(paths, move || configs(&files))?;
        Ok(Self(Arc::new(reloaded)))
    }

    /// For a port that everybody may come to.
    pub fn for_everybody(&self) -> PortTls {
        PortTls { tls: self.clone(), demands: false }
    }

    /// For a port that known clients may come to; everybody, if none are named.
    pub fn for_known(&self) -> PortTls {
        PortTls { tls: self.clone(), demands: true }
    }

    /// Looks at the files until it is stopped, with an alarm for files that cannot be used and for a certificate that ends
    /// soon.
    pub async fn watch(self, alarms: Alarms, stop: CancellationToken) {
        let watching = async {
            loop {
                self.look(&alarms);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    fn look(&self, alarms: &Alarms) {
        match self.0.look() {
            Look::Same => alarms.clear(fault::TLS_KEPT.code),
            Look::Replaced => {
                alarms.clear(fault::TLS_KEPT.code);
                let until = shown(self.0.current().not_after);
                tracing::info!(%until, "the certificate and the authorities of clients were read anew");
            }
            Look::Unsettled => {}
            Look::Refused(error) => {
                alarms.raise_fault(fault::TLS_KEPT, format!("{error}; what was read before stays in use"));
            }
        }
        let not_after = self.0.current().not_after;
        metrics::gauge!(metric::TLS_NOT_AFTER).set(not_after as f64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if not_after.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX)) < RENEW_SECONDS {
            alarms.raise_fault(
                fault::TLS_ENDS,
                format!("the server's certificate ends at {}", shown(not_after)),
            );
        } else {
            alarms.clear(fault::TLS_ENDS.code);
        }
    }
}

/// What one port shows and demands.
#[derive(Clone)]
pub struct PortTls {
    tls: ServerTls,
    demands: bool,
}

impl PortTls {
    /// For one connection: with what is in the files by now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let configs = self.tls.0.current();
        let known = configs.known.as_ref().filter(|_| self.demands);
        TlsAcceptor::from(Arc::clone(known.unwrap_or(&configs.open)))
    }
}

fn configs(files: &ServerFiles) -> Result<Configs, TlsError> {
    let identity = Identity::read(&files.certificate, &files.key)?;
    let known = files.clients.as_ref().map(|clients| config(files, &identity, Some(clients))).transpose()?;
    let not_after = identity.not_after;
    Ok(Configs { open: config(files, &identity, None)?, known, not_after })
}

fn config(
    files: &ServerFiles,
    identity: &Identity,
    clients: Option<&KnownClients>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |source| TlsError::Identity {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(files.min_version.versions())
        .map_err(|source| TlsError::Library { source })?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(KnownClients { authorities, allowed }) => {
            let mut roots = RootCertStore::empty();
            add_authorities(&mut roots, authorities)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(
                    |error| TlsError::Authority { path: authorities.clone(), reason: error.to_string() },
                )?;
            builder.with_client_cert_verifier(Arc::new(Named { verifier, allowed: allowed.clone() }))
        }
    };
    let mut config =
        builder.with_single_cert(identity.chain.clone(), identity.key.clone_key()).map_err(unfit)?;
    // What the servers speak.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Verifies as the library does, and then looks at the name.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: AllowedClients,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        if self.allowed.is_empty() || self.allowed.name_of(end_entity).is_some() {
            return Ok(verified);
        }
        let shown = names(end_entity);
        tracing::warn!(
            code = fault::TLS_CLIENT.code,
            names = shown,
            cure = fault::TLS_CLIENT.cure,
            "{}",
            fault::TLS_CLIENT
        );
        fault::count(fault::TLS_CLIENT);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
