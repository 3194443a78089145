//! Amazon's KMS.
//!
//! Credentials come from where all of Amazon's tools take them: environment, profile files, a web identity, or the
//! machine's role.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use das_common::secret_file;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use super::{Context, KeyService, KmsError};

/// Its name in envelopes.
pub const NAME: &str = "aws-kms";

const MAX_AUTHORITIES_BYTES: usize = 1 << 20;

/// Where the service is.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// The region; none: as the environment says.
    pub region: Option<String>,
    /// A URL instead of Amazon's own.
    pub endpoint: Option<String>,
    /// Certificates of the authorities that the endpoint has its certificate from; none: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Time for one request, all repetitions together.
    pub deadline: Duration,
}

/// A client of Amazon's KMS.
pub struct AwsKms {
    client: Client,
    deadline: Duration,
}

fn settings(reason: impl Into<String>) -> KmsError {
    KmsError::Settings { service: NAME, reason: reason.into() }
}

impl AwsKms {
    /// Looks for credentials and region; the service is not asked yet.
    pub async fn new(from: &AwsSettings) -> Result<Self, KmsError> {
        let mut trust = TrustStore::default();
        if let Some(path) = &from.authorities {
            let file = secret_file::read(path, MAX_AUTHORITIES_BYTES).map_err(|e| settings(e.to_string()))?;
            trust = TrustStore::empty().with_pem_certificate(file.bytes.to_vec());
        }
        let tls = TlsContext::builder().with_trust_store(trust).build();
        let tls = tls.map_err(|error| settings(causes(&error)))?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls)
            .build_https();
        let times = TimeoutConfig::builder().operation_timeout(from.deadline).build();
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(times);
        if let Some(region) = &from.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &from.endpoint {
            check_endpoint(endpoint)?;
            loader = loader.endpoint_url(endpoint);
        }
        let found = tokio::time::timeout(from.deadline, loader.load()).await;
        let config = found.map_err(|_| KmsError::Away {
            service: NAME,
            reason: "region and credentials were not found in time".into(),
        })?;
        if config.region().is_none() {
            return Err(settings("no region: give the option, or set AWS_REGION"));
        }
        Ok(Self { client: Client::new(&config), deadline: from.deadline })
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, KmsError>>) -> Result<T, KmsError> {
        let away =
            |_| KmsError::Away { service: NAME, reason: format!("no answer within {:?}", self.deadline) };
        tokio::time::timeout(self.deadline, work).await.map_err(away)?
    }
}

/// What the service decrypts comes back on the connection.
fn check_endpoint(endpoint: &str) -> Result<(), KmsError> {
    let Some(rest) = endpoint.strip_prefix("http://") else { return Ok(()) };
    let is_here = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .filter_map(|host| rest.strip_prefix(host))
        .any(|rest| rest.is_empty() || rest.starts_with([':', '/']));
    if is_here {
        return Ok(());
    }
    Err(settings(format!("the endpoint {endpoint} is neither https nor on this machine")))
}

fn context_map(context: &Context) -> Option<std::collections::HashMap<String, String>> {
    Some(context.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

/// Errors that the same request may not meet again.
const FOR_NOW: &[&str] = &[
    "KMSInternalException",
    "DependencyTimeoutException",
    "ThrottlingException",
    "LimitExceededException",
    "ServiceUnavailable",
    "InternalFailure",
];

fn kms_error<E>(error: SdkError<E>) -> KmsError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(error) => {
            let code = error.err().code().unwrap_or("an error without a code").to_owned();
            let words = error.err().message().unwrap_or_default();
            let reason = format!("{code} {words}").trim_end().to_owned();
            if FOR_NOW.contains(&code.as_str()) || error.raw().status().is_server_error() {
                KmsError::Away { service: NAME, reason }
            } else {
                KmsError::Refused { service: NAME, reason }
            }
        }
        error => KmsError::Away { service: NAME, reason: causes(&error) },
    }
}

/// An error and what caused it, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl KeyService for AwsKms {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encrypt<'a>(
        &'a self,
        key: &'a str,
        plaintext: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsError>> {
        let request = self.client.encrypt().key_id(key).set_encryption_context(context_map(context));
        Box::pin(self.within(async move {
            let answer = request.plaintext(Blob::new(plaintext)).send().await.map_err(kms_error)?;
            let missing =
                || KmsError::Refused { service: NAME, reason: "its answer holds no ciphertext".into() };
            Ok(answer.ciphertext_blob.ok_or_else(missing)?.into_inner())
        }))
    }

    fn decrypt<'a>(
        &'a self,
        key: &'a str,
        ciphertext: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KmsError>> {
        let request = self.client.decrypt().key_id(key).set_encryption_context(context_map(context));
        Box::pin(self.within(async move {
            let answer = request.ciphertext_blob(Blob::new(ciphertext)).send().await.map_err(kms_error)?;
            let missing =
                || KmsError::Refused { service: NAME, reason: "its answer holds no plaintext".into() };
            Ok(Zeroizing::new(answer.plaintext.ok_or_else(missing)?.into_inner()))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decrypted_crosses_no_network_in_the_clear() {
        for good in ["https://kms.example", "http://127.0.0.1:5000", "http://localhost", "http://[::1]:1/"] {
            check_endpoint(good).unwrap();
        }
        for bad in ["http://kms.example", "http://127.0.0.1.example:1", "http://localhost.example"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }
}
