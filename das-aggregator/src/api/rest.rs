//! The REST port: reads over the committee, by the rules that all our servers share.

use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded};
use das_common::http::rest::{BatchSource, CertificateLookup, EncodedBatch, Scope};
use das_common::rest_reader::ReadError;
use das_common::wire::ExpirationPolicy;
use tracing::debug;

use super::status::StatusSource;

/// What stands behind the aggregator's REST port.
pub struct RestSource(pub StatusSource);

impl BatchSource for RestSource {
    type Error = ReadError;

    async fn get(&self, hash: &DataHash, scope: Scope) -> Result<Option<EncodedBatch>, ReadError> {
        self.0.reads.encoded(hash, scope).await
    }

    async fn expiration_policy(&self) -> ExpirationPolicy {
        self.0.watch.expiration_policy().await
    }

    async fn healthy(&self) -> bool {
        self.0.watch.look().await.is_enough()
    }

    async fn certificate(&self, hash: &DataHash) -> CertificateLookup {
        match self.0.certificates.get(hash).await {
            Ok(Some(bytes)) => CertificateLookup::Found(bytes),
            Ok(None) => CertificateLookup::Unknown,
            Err(error) => {
                fault::count(error.fault());
                debug!(%error, "a certificate was not found");
                CertificateLookup::Failed
            }
        }
    }

    async fn status(&self) -> String {
        self.0.json()
    }
}
