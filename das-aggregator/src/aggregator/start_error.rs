//! Why an aggregator could not start: each names the option and, through its fault, the cure.

use std::io;
use std::path::PathBuf;

use das_common::committee::CommitteeError;
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::EndpointError;
use das_common::store_auth::{SignersError, StoreKeyError};
use thiserror::Error;

/// Why an aggregator could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The committee.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// The store key.
    #[error("--data-availability.store-key.{option}: {source}")]
    StoreKey {
        /// Which of the two.
        option: &'static str,
        /// What is wrong with it.
        source: StoreKeyError,
    },
    /// The file of the store key.
    #[error("--data-availability.store-key.file: cannot read {}: {source}", path.display())]
    StoreKeyFile {
        /// The file.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// Who may store.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// A URL of a member, or one to read from.
    #[error("--data-availability.rest-aggregator, or the committee: {0}")]
    Endpoint(#[from] EndpointError),
    /// A port.
    #[error("--{option}: cannot listen on {address}: {source}")]
    Bind {
        /// The option of the port.
        option: &'static str,
        /// The address.
        address: String,
        /// The system's report.
        source: io::Error,
    },
}

impl Coded for StartError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Committee(_) => fault::CONFIG_COMMITTEE,
            Self::StoreKey { .. } => fault::KEY_MALFORMED,
            Self::StoreKeyFile { .. } => fault::KEY_MISSING,
            Self::Signers(_) | Self::Endpoint(_) => fault::CONFIG_VALUE,
            Self::Bind { .. } => fault::NET_BIND,
        }
    }
}
