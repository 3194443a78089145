//! The REST port: reads over the committee, by the rules that all our servers share.

use das_common::data_hash::DataHash;
use das_common::http::rest::{BatchSource, EncodedBatch, Scope};
use das_common::rest_reader::ReadError;
use das_common::wire::ExpirationPolicy;

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

    async fn status(&self) -> String {
        self.0.json()
    }
}
