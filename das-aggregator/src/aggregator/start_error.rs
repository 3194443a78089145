//! Why an aggregator could not start: each names the option and, through its fault, the cure.

use std::io;
use std::path::PathBuf;

use das_chain::ChainError;
use das_chain::parent::ParentError;
use das_chain::poster_key::KeyError;
use das_common::committee::{CommitteeError, Problem};
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::EndpointError;
use das_common::store_auth::{SignersError, StoreKeyError};
use das_common::tls::TlsError;
use das_dashboard::DashboardError;
use thiserror::Error;

use crate::explorer::ExplorerError;
use crate::post::queue::QueueError;
use crate::provider::keysets::KeysetFileError;
use crate::provider::token::SecretError;

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
    /// Certificates and keys of our servers.
    #[error("--tls: {0}")]
    Tls(#[source] TlsError),
    /// Certificates and keys for what we call.
    #[error("--tls.outgoing: {0}")]
    OutgoingTls(#[source] TlsError),
    /// A URL without TLS.
    #[error("--require-tls: {url} would be called over plain HTTP")]
    PlainUrl {
        /// The URL of a member, or one to read from.
        url: String,
    },
    /// A keyset of a former committee.
    #[error("--provider-server.keyset-files: {0}")]
    KeysetFile(#[from] KeysetFileError),
    /// The file of the token secret.
    #[error("--provider-server.jwtsecret: cannot read {}: {source}", path.display())]
    TokenSecretFile {
        /// The file.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// The token secret.
    #[error("--provider-server.jwtsecret: {}: {source}", path.display())]
    TokenSecret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The header bytes.
    #[error("--provider-server.supported-header-bytes: {got:?} is not the hex of bytes")]
    HeaderBytes {
        /// The value given.
        got: String,
    },
    /// A writer has to sign.
    #[error(
        "--provider-server.enable-da-writer: a writer signs store requests to the members; there is no store key"
    )]
    WriterWithoutKey,
    /// The parent chain.
    #[error(transparent)]
    ParentChain(#[from] ParentError),
    /// The contract does not take the committee's keyset.
    #[error("the contract {inbox} does not take the committee's keyset: {text}")]
    KeysetNotValid {
        /// The contract.
        inbox: String,
        /// What it knows of the keyset.
        text: String,
    },
    /// The contract does not say whether it takes the committee's keyset.
    #[error(
        "--parent-chain.sequencer-inbox-address: {inbox} cannot be asked for the committee's keyset: {source}"
    )]
    KeysetUnknown {
        /// The contract.
        inbox: String,
        /// Why.
        source: ChainError,
    },
    /// The batch explorer.
    #[error(transparent)]
    Explorer(#[from] ExplorerError),
    /// Something that posting needs.
    #[error("--post.enable: posting needs --{option}")]
    PostWithout {
        /// What is missing.
        option: &'static str,
    },
    /// The poster's key.
    #[error("--post.key: {0}")]
    PosterKey(KeyError),
    /// The queue.
    #[error("--data-dir: {0}")]
    Queue(#[from] QueueError),
    /// The dashboard.
    #[error("--data-dir: {0}")]
    Dashboard(#[from] DashboardError),
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
            Self::Committee(CommitteeError { problem, .. })
                if matches!(**problem, Problem::OtherAssumedHonest { .. }) =>
            {
                fault::CONFIG_QUORUM
            }
            Self::Committee(_) => fault::CONFIG_COMMITTEE,
            Self::KeysetFile(_)
            | Self::TokenSecretFile { .. }
            | Self::TokenSecret { .. }
            | Self::HeaderBytes { .. } => fault::CONFIG_VALUE,
            Self::WriterWithoutKey => fault::STORE_KEY_MISSING,
            Self::ParentChain(error) => error.fault(),
            Self::Tls(error) | Self::OutgoingTls(error) => error.fault(),
            Self::PlainUrl { .. } => fault::TLS_WANTED,
            Self::KeysetNotValid { .. } => fault::CHAIN_KEYSET_INVALID,
            Self::KeysetUnknown { source, .. } => source.fault(),
            Self::PostWithout { .. } => fault::POST_OPTIONS,
            Self::Explorer(ExplorerError::Index(error)) => error.fault(),
            Self::Explorer(ExplorerError::Link(_)) => fault::CONFIG_VALUE,
            Self::Queue(_) => fault::POST_QUEUE,
            Self::PosterKey(error) => error.fault(),
            Self::StoreKey { .. } => fault::KEY_MALFORMED,
            Self::StoreKeyFile { .. } => fault::KEY_MISSING,
            Self::Signers(_) | Self::Endpoint(_) => fault::CONFIG_VALUE,
            Self::Dashboard(_) => fault::CONFIG_VALUE,
            Self::Bind { .. } => fault::NET_BIND,
        }
    }
}
