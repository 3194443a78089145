//! From a request to a signature, and everything that is in between.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::response::Response;
use das_common::fault::{self, Coded, Fault};
use das_common::signer::{Kind, LocalSigner, SignError, Signer as _};
use das_common::telemetry::names;
use das_keys::audit_log::{AuditError, AuditLog};
use das_keys::wire::{MAX_REQUEST_BYTES, Refusal, Request, RequestError, SIGN_PATH, Signed};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use thiserror::Error;
use tracing::{debug, warn};

use crate::limits::{LimitError, Limits};

/// Time for a request's body to come.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Why nothing was signed.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Not one of the clients.
    #[error("no name of this client's certificate is in allowed-clients")]
    Client,
    /// The body did not come, or is too long.
    #[error("no body of at most {MAX_REQUEST_BYTES} bytes came within {BODY_TIME:?}")]
    Body,
    /// Not well-formed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Forbidden.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The key.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No record.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Coded for ServiceError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Client => fault::SIGNER_CLIENT,
            Self::Body | Self::Request(_) => fault::SIGNER_REQUEST,
            Self::Limit(error) => error.fault(),
            Self::Sign(error) => error.fault(),
            Self::Audit(error) => error.fault(),
        }
    }
}

impl ServiceError {
    /// A node asks again after what is for now.
    fn status(&self) -> StatusCode {
        match self {
            Self::Client => StatusCode::FORBIDDEN,
            Self::Body | Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Limit(LimitError::Rate { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Limit(_) => StatusCode::FORBIDDEN,
            Self::Sign(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Audit(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What signs.
pub struct Service {
    /// The key.
    pub signer: LocalSigner,
    /// What is signed.
    pub limits: Limits,
    /// What was signed.
    pub audit: AuditLog,
}

impl Service {
    /// Signs what a client asks for, if it is one that may ask.
    async fn sign(&self, client: Option<&str>, body: Body) -> Result<Signed, ServiceError> {
        let client = client.ok_or(ServiceError::Client)?;
        let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_REQUEST_BYTES));
        let body: Bytes = read.await.map_err(|_| ServiceError::Body)?.map_err(|_| ServiceError::Body)?;
        let request = Request::parse(&body)?;
        let message = request.message()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.limits.check(&message, now)?;
        self.limits.count(client, Instant::now())?;
        let kind = match message.kind() {
            Kind::Certificate { .. } => "certificate",
            Kind::Binding(_) => "binding",
            Kind::Possession => "possession",
        };
        let signed = Signed::from(&self.signer.sign(message).await?);
        // The record says what was signed in our own writing, not in the client's.
        self.audit.signed(client.to_owned(), request, signed.signature.clone()).await?;
        metrics::counter!(names::SIGNER_SIGNATURES, "kind" => kind).increment(1);
        debug!(client, kind, "signed");
        Ok(signed)
    }
}

/// Answers a client of this name, if it has one of those that are allowed.
pub async fn answer(service: Arc<Service>, client: Option<String>, request: http::Request<Body>) -> Response {
    if request.uri().path() != SIGN_PATH {
        return json(StatusCode::NOT_FOUND, &Refusal { code: String::new(), message: "no such path".into() });
    }
    if request.method() != Method::POST {
        let message = "only POST is served here".into();
        return json(StatusCode::METHOD_NOT_ALLOWED, &Refusal { code: String::new(), message });
    }
    match service.sign(client.as_deref(), request.into_body()).await {
        Ok(signed) => json(StatusCode::OK, &signed),
        Err(error) => {
            let fault = error.fault();
            fault::count(fault);
            warn!(code = fault.code, client = client.as_deref().unwrap_or("unknown"), %error, "nothing signed");
            json(error.status(), &Refusal { code: fault.code.to_owned(), message: error.to_string() })
        }
    }
}

fn json(status: StatusCode, answer: &impl serde::Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(answer).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
