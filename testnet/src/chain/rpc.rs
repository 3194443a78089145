//! Calls of the dev chain's own JSON-RPC.

use std::time::Duration;

use bytes::Bytes;
use das_common::http::client::{Endpoint, HttpClient};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::DevChainError;

const TIMEOUT: Duration = Duration::from_secs(60);
/// The dev chain is trusted; the bound only ends a mistake.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Calls a JSON-RPC server that the test itself has started.
#[derive(Debug, Clone)]
pub struct DevRpc {
    url: String,
    http: HttpClient,
}

impl DevRpc {
    pub(super) fn new(url: String) -> Self {
        Self { url, http: HttpClient::default() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One call.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, DevChainError> {
        let failed = |reason: String| DevChainError::Call { method: method.to_owned(), reason };
        let endpoint = Endpoint::parse(&self.url).map_err(|e| failed(e.to_string()))?;
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self
            .http
            .post_json(&endpoint, Bytes::from(request.to_string()), TIMEOUT, MAX_ANSWER)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let mut answer: Value = serde_json::from_slice(&answer.body).map_err(|e| failed(e.to_string()))?;
        if !answer["error"].is_null() {
            return Err(DevChainError::Rpc { method: method.to_owned(), error: answer["error"].take() });
        }
        serde_json::from_value(answer["result"].take()).map_err(|e| failed(e.to_string()))
    }
}

/// A number as JSON-RPC writes it.
pub(super) fn quantity(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
