//! Which clients are let in: by the DNS names of their certificates, which the TLS library has verified.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names that are allowed.
#[derive(Debug, Clone)]
pub struct AllowedClients(Vec<String>);

impl AllowedClients {
    /// Case does not matter.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether no name is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first allowed name of this certificate. A wildcard is no name.
    pub fn name_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut names = certificate.valid_dns_names().map(str::to_ascii_lowercase);
        names.find(|name| !name.starts_with('*') && self.0.contains(name))
    }
}

/// The DNS names of a certificate, for messages.
pub(super) fn names(certificate: &CertificateDer<'_>) -> String {
    const SHOWN: usize = 200;
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return String::new() };
    let names: Vec<&str> = certificate.valid_dns_names().collect();
    names.join(", ").chars().take(SHOWN).collect()
}
