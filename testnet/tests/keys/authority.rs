//! An authority with whose certificates both sides of a connection show who they are.

use std::path::{Path, PathBuf};

use das_testnet::tls::{self, InForce};

pub(crate) use das_testnet::tls::Identity;

/// An authority, and the folder for what it issues.
pub(crate) struct Authority(tls::Authority);

impl Authority {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(tls::Authority::new(folder).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.file()
    }

    /// A certificate with this DNS name.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.0.issue(name, &[name], InForce::Always).unwrap()
    }
}
