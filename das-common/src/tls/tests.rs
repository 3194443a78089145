use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;

use super::files::Identity;
use super::*;
use crate::config::OptionValue as _;
use crate::fault::{self, Coded as _};

/// Writes a certificate that is in force for so many seconds from an hour ago, and its key.
fn write(folder: &Path, name: &str, seconds: u64) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned(), "*.wild.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let from = SystemTime::now() - Duration::from_secs(3600);
    params.not_before = from.into();
    params.not_after = (from + Duration::from_secs(seconds)).into();
    let certificate = params.self_signed(&key).unwrap();
    let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    fs::write(&files.0, certificate.pem()).unwrap();
    fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

#[test]
fn what_replaces_a_file_is_taken_when_it_can_be_used_and_told_when_it_stays_unusable() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write(folder.path(), "one", 7200);
    let (other_certificate, other_key) = write(folder.path(), "two", 7200);
    let (over, over_key) = write(folder.path(), "over", 1800);
    let (files, paths) = ((certificate.clone(), key.clone()), vec![certificate.clone(), key.clone()]);
    let reloaded = Reloaded::new(paths, move || {
        let read = Identity::read(&files.0, &files.1)?;
        // As the library does.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(TlsVersion::Tls13.versions())
            .and_then(|b| b.with_no_client_auth().with_single_cert(read.chain.clone(), read.key.clone_key()))
            .map_err(|source| TlsError::Library { source })?;
        Ok(read.chain)
    })
    .unwrap();
    let first = reloaded.current();
    assert!(matches!(reloaded.look(), Look::Same));

    // First the certificate, then, a look later, the key.
    fs::copy(&other_certificate, &certificate).unwrap();
    assert!(matches!(reloaded.look(), Look::Unsettled));
    fs::copy(&other_key, &key).unwrap();
    assert!(matches!(reloaded.look(), Look::Replaced));
    let second = reloaded.current();
    assert_ne!(first, second);

    let half = fs::read(&certificate).unwrap();
    for (bytes, code) in [
        (&half[..half.len() / 2], fault::TLS_FILES),
        (&b""[..], fault::TLS_FILES),
        (&fs::read(&over).unwrap()[..], fault::TLS_NOT_IN_FORCE),
    ] {
        fs::write(&certificate, bytes).unwrap();
        fs::copy(if code == fault::TLS_NOT_IN_FORCE { &over_key } else { &other_key }, &key).unwrap();
        assert!(matches!(reloaded.look(), Look::Unsettled));
        let Look::Refused(error) = reloaded.look() else { panic!("it is told when it stays so") };
        assert_eq!(error.fault(), code, "{error}");
        assert_eq!(reloaded.current(), second);
    }
    fs::remove_file(&certificate).unwrap();
    assert!(matches!(reloaded.look(), Look::Unsettled));
    fs::write(&certificate, &half).unwrap();
    fs::copy(&other_key, &key).unwrap();
    assert!(matches!(reloaded.look(), Look::Same));
}

#[test]
fn names_are_compared_without_case_and_a_wildcard_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write(folder.path(), "Alice.Example", 7200);
    let certificate: CertificateDer<'_> = Identity::read(&certificate, &key).unwrap().chain.remove(0);
    let name = |allowed: &str| AllowedClients::new(&[allowed.to_owned()]).name_of(&certificate);
    assert_eq!(name("alice.example").as_deref(), Some("alice.example"));
    assert_eq!(name("ALICE.example").as_deref(), Some("alice.example"));
    for other in ["bob.example", "a.wild.example", "*.wild.example", "example", ""] {
        assert_eq!(name(other), None, "{other}");
    }
    assert!(AllowedClients::new(&[]).is_empty());
}

#[test]
fn versions_are_read_and_written_alike() {
    for (text, version) in [("1.3", TlsVersion::Tls13), ("1.2", TlsVersion::Tls12)] {
        let raw = crate::config::RawValue::Text(text.to_owned());
        assert_eq!(TlsVersion::parse(&raw), Some(version));
        assert_eq!(version.to_raw().to_string(), text);
    }
}
