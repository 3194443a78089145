//! What stands before the provider's methods: the token, then the Host header.
//!
//! Without a secret anybody may call, under any name. With one, a request whose Host is a name gets 403 unless the name is
//! on the list: a browser that was made to resolve a foreign name to this address is stopped by that.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use das_common::fault;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use tower::ServiceExt;

use super::token::TokenSecret;
use crate::api::status::unix_now;

/// Who may come in.
pub struct Gate {
    secret: TokenSecret,
    hosts: HashSet<String>,
}

/// Why somebody may not.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Gate {
    /// For callers with a token under `secret`, that call us by an address or by one of `hosts` (`*`: by any name).
    pub fn new(secret: TokenSecret, hosts: &[String]) -> Self {
        Self { secret, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    fn check(&self, headers: &HeaderMap, now: u64) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        self.secret.check(text(AUTHORIZATION), now).map_err(|error| {
            tracing::warn!(code = fault::PROVIDER_TOKEN.code, %error, "a caller showed no valid token");
            Refusal { status: StatusCode::UNAUTHORIZED, text: error.to_string() }
        })?;
        let host = text(HOST).unwrap_or_default();
        if self.is_allowed(host) {
            return Ok(());
        }
        tracing::warn!(
            code = fault::PROVIDER_HOST.code,
            host,
            cure = fault::PROVIDER_HOST.cure,
            "host refused"
        );
        Err(Refusal { status: StatusCode::FORBIDDEN, text: fault::PROVIDER_HOST.text.to_owned() })
    }

    fn is_allowed(&self, host: &str) -> bool {
        let name = without_port(host);
        name.is_empty()
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.contains("*")
            || self.hosts.contains(&name.to_ascii_lowercase())
    }
}

/// `host` of `host:port`, and the address in brackets of an IPv6 host.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(host, |(address, _)| address);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Puts the gate before `inner`.
pub fn guarded(gate: Gate, inner: axum::Router) -> axum::Router {
    let gate = Arc::new(gate);
    axum::Router::new().fallback(move |request: Request| {
        let (inner, refused) = (inner.clone(), gate.check(request.headers(), unix_now()).err());
        async move {
            match refused {
                None => inner.oneshot(request).await.unwrap_or_else(|never| match never {}),
                Some(refusal) => response(&refusal),
            }
        }
    })
}

fn response(refusal: &Refusal) -> Response {
    let mut response = Response::new(Body::from(format!("{}\n", refusal.text)));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_listed_names_may_be_called() {
        let secret = TokenSecret::parse(&"17".repeat(32)).unwrap();
        let gate = Gate::new(secret, &["Provider.example.org".to_owned()]);
        for host in ["127.0.0.1", "10.1.2.3:9880", "[::1]:9880", "[::1]", "provider.EXAMPLE.org:9880", ""] {
            assert!(gate.is_allowed(host), "{host}");
        }
        for host in
            ["localhost", "localhost:9880", "evil.example.org", "127.0.0.1.example.org", "[::1", "a:b:c"]
        {
            assert!(!gate.is_allowed(host), "{host}");
        }
    }
}
