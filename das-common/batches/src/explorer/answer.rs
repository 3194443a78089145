//! What every answer of the explorer has in common.

use std::sync::{Arc, LazyLock};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use maud::Markup;
use serde::Serialize;

use super::Explorer;
use super::pages;
use super::refusal::Refusal;
use super::shapes::ErrorShape;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// A page may use its own stylesheet, send its form here, and nothing else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = ring::digest::digest(&ring::digest::SHA256, pages::STYLE.as_bytes());
    let style = base64_simd::STANDARD.encode_to_string(digest.as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("the policy is made of printable characters")
});

const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

fn text<T: Serialize>(value: &T) -> Bytes {
    let mut body = serde_json::to_vec(value).expect("the shapes have string keys only");
    body.push(b'\n');
    body.into()
}

/// An answer to a program.
pub(super) async fn json<T: Serialize>(explorer: &Explorer, value: &T) -> Result<Response, Refusal> {
    counted(explorer, text(value), JSON).await
}

/// An answer to a person.
pub(super) async fn html(explorer: &Explorer, page: Markup) -> Result<Response, Refusal> {
    counted(explorer, page.into_string().into(), HTML).await
}

/// An answer whose memory counts, if it is a large one.
pub(super) async fn counted(
    explorer: &Explorer,
    body: Bytes,
    content_type: HeaderValue,
) -> Result<Response, Refusal> {
    let mut response = Response::default();
    explorer.answers.fill(&mut response, body).await.map_err(|_| Refusal::Busy)?;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Writes refusals in the form of their route, and the headers that every answer has.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let to_program = request.uri().path().starts_with("/api/") || request.uri().path() == "/api";
    let head = *request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions_mut().remove::<Arc<Refusal>>() {
        response = match to_program {
            true => ([(header::CONTENT_TYPE, JSON)], text(&ErrorShape { error: refusal.to_string() })),
            false => ([(header::CONTENT_TYPE, HTML)], pages::refused(&refusal).into_string().into()),
        }
        .into_response();
        *response.status_mut() = refusal.status();
        if head {
            *response.body_mut() = axum::body::Body::empty();
        }
        if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
            let only = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, only);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    // A live page shows what is known now; an answer that never changes says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(NEVER);
    response
}
