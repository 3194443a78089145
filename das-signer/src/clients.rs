//! Which clients are served: by the DNS names of their certificates, which the TLS library has verified.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names for which is signed.
#[derive(Debug, Clone)]
pub struct AllowedClients(Vec<String>);

impl AllowedClients {
    /// Case does not matter.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// The first allowed name of this certificate. A wildcard is no name.
    pub fn name_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut names = certificate.valid_dns_names().map(str::to_ascii_lowercase);
        names.find(|name| self.0.contains(name))
    }
}
