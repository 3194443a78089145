//! Why a request gets something else than what it asked for.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use das_common::data_hash::DataHash;
use http::StatusCode;
use thiserror::Error;

use super::query::BadParameter;
use super::sources::PayloadUnavailable;
use crate::types::IndexError;

/// Every reason.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    #[error("there is no such page")]
    NoSuchPage,
    #[error("only GET and HEAD are answered")]
    Method,
    #[error("nothing was read from the chain yet")]
    NoEra,
    #[error("there is no era {got}: the newest is {newest}")]
    Era { got: u32, newest: u32 },
    #[error("batch {number} is not known in era {era}{}", newest.map_or_else(|| ", which has none".into(), |newest| format!(": the newest there is {newest}")))]
    Batch { era: u32, number: u64, newest: Option<u64> },
    #[error("no batch with the data hash 0x{0} is known")]
    DataHash(DataHash),
    #[error("no batch posted by the transaction {0} is known")]
    Transaction(alloy_primitives::B256),
    #[error("no batch of era {era} was posted by {}", super::clock::shown(*time))]
    Time { era: u32, time: u64 },
    #[error(
        "batch {number} of era {era} was not posted as a certificate: there is no payload to fetch or to check"
    )]
    NoCertificate { era: u32, number: u64 },
    #[error("batch {number} of era {era} has a certificate that does not parse: {why}")]
    Certificate { era: u32, number: u64, why: String },
    #[error(
        "batch {number} of era {era} has the data hash 0x{got}, not 0x{asked}: the chain has another batch there now"
    )]
    OtherHash { era: u32, number: u64, got: DataHash, asked: DataHash },
    #[error("nobody who was asked has the payload 0x{0}")]
    NoPayload(DataHash),
    #[error(transparent)]
    PayloadUnavailable(#[from] PayloadUnavailable),
    #[error("what was read is not the payload 0x{0}: its hash is another")]
    WrongPayload(DataHash),
    #[error("too much is being asked at once, try again")]
    Busy,
    #[error("the index of batches cannot be read; the log of this server says why")]
    Index(#[from] IndexError),
    #[error("the answer was lost; the log of this server says why")]
    Lost,
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Parameter(_) => StatusCode::BAD_REQUEST,
            Self::NoSuchPage
            | Self::NoEra
            | Self::Era { .. }
            | Self::Batch { .. }
            | Self::DataHash(_)
            | Self::Transaction(_)
            | Self::Time { .. }
            | Self::NoCertificate { .. }
            | Self::Certificate { .. }
            | Self::OtherHash { .. }
            | Self::NoPayload(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::WrongPayload(_) => StatusCode::BAD_GATEWAY,
            Self::PayloadUnavailable(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Index(_) | Self::Lost => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    /// Without a body: it is written by [`answer::finish`](super::answer::finish), which knows whether to a program or
    /// to a person.
    fn into_response(self) -> Response {
        if let Self::Index(error) = &self {
            tracing::error!(%error, "the batch explorer cannot answer");
        }
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
