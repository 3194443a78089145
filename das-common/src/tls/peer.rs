//! The other side of a connection: who it is, and in plain words why there is none.

use std::error::Error;
use std::io;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError};

use super::clients::AllowedClients;
use crate::fault;

/// The verified certificate of a client, in the extensions of its requests.
#[derive(Debug, Clone)]
pub struct TlsPeer(CertificateDer<'static>);

impl TlsPeer {
    /// The one whose chain of certificates this is.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        chain.first().map(|certificate| Self(certificate.clone().into_owned()))
    }

    /// The client's first name among those allowed.
    pub fn name_among(&self, allowed: &AllowedClients) -> Option<String> {
        allowed.name_of(&self.0)
    }
}

/// What a failed connection means, with its code, if TLS is why it failed.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let meaning = meaning(find(error)?)?;
    Some(format!("{}: {meaning}", fault::TLS_REFUSED.code))
}

/// The library's error below others.
pub(super) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An error of the system's kind passes over the one that it was made of when it is asked for its cause.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| find(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn meaning(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate of the server has expired; who runs the server must replace it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate of the server is not in force yet; compare the clocks"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of the server is of another name than the URL's"
            }
            // Of an authority with the name of one that is trusted, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate of the server is not from an authority that is trusted here; give the authority's \
                 certificate if it is one of your own"
            }
            _ => "the certificate of the server cannot be verified",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server demands a client certificate, and none was given"
            }
            AlertDescription::AccessDenied => {
                "the server does not let clients in by the name of this client's certificate"
            }
            AlertDescription::CertificateExpired => "this client's certificate has expired",
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError => {
                "the server does not trust the authority of this client's certificate"
            }
            AlertDescription::ProtocolVersion => "the server does not speak this client's versions of TLS",
            AlertDescription::HandshakeFailure => {
                "the server has no way to encrypt in common with this client"
            }
            _ => return None,
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; if it serves plain HTTP, its URL begins with http://"
        }
        rustls::Error::PeerIncompatible(_) => "the server speaks other versions of TLS",
        _ => return None,
    })
}
