//! The REST port (spec section 7).

use std::sync::Arc;

use das_common::data_hash::DataHash;
use das_common::http::rest::{BatchSource, CertificateLookup, EncodedBatch, Scope};
use das_common::wire::ExpirationPolicy;
use tracing::error;

use crate::custody::Custody;
use crate::health::Health;
use crate::policy::RetentionPolicy;
use crate::retrieve::{Retrieve, RetrieveError};

/// What stands behind the REST port.
pub struct RestPort {
    retrieve: Retrieve,
    health: Arc<Health>,
    policy: RetentionPolicy,
    custody: Option<Custody>,
}

impl RestPort {
    /// Puts the parts together.
    pub fn new(retrieve: Retrieve, health: Arc<Health>, policy: RetentionPolicy) -> Self {
        Self { retrieve, health, policy, custody: None }
    }

    /// Shows what custody holds.
    pub fn with_custody(self, custody: Option<Custody>) -> Self {
        Self { custody, ..self }
    }
}

impl BatchSource for RestPort {
    type Error = Arc<RetrieveError>;

    async fn get(&self, hash: &DataHash, scope: Scope) -> Result<Option<EncodedBatch>, Arc<RetrieveError>> {
        self.retrieve.get(hash, scope).await
    }

    async fn expiration_policy(&self) -> ExpirationPolicy {
        self.policy.expiration()
    }

    async fn healthy(&self) -> bool {
        self.health.can_serve().is_ok()
    }

    async fn custody(&self) -> Option<String> {
        let report = self.custody.as_ref()?.report().await?;
        Some(serde_json::to_string(&report).expect("numbers and texts have a JSON form"))
    }

    async fn certificate(&self, hash: &DataHash) -> CertificateLookup {
        let Some(custody) = self.custody.clone() else { return CertificateLookup::NotKept };
        let hash = *hash;
        match tokio::task::spawn_blocking(move || custody.certificate(&hash)).await {
            Ok(Ok(Some(bytes))) => CertificateLookup::Found(bytes),
            Ok(Ok(None)) => CertificateLookup::Unknown,
            Ok(Err(error)) => {
                error!(%error, %hash, "a certificate could not be read");
                CertificateLookup::Failed
            }
            Err(_) => CertificateLookup::Failed,
        }
    }

    async fn status(&self) -> String {
        self.health.status().await.json()
    }
}
