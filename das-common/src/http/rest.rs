//! The REST port of everything that serves batches: members, mirrors and aggregators (spec section 7).
//!
//! | path | answer |
//! |---|---|
//! | `/get-by-hash/<64 hex, with or without 0x>` | 200 `{"data":"<base64>"}`, 404, 400 for what is no 32-byte hash, 503 when it cannot be told |
//! | `/health` and anything that starts so | 200 or 503, empty |
//! | `/expiration-policy`, with or without more behind a slash | 200 `{"expirationPolicy":"..."}` |
//! | `/status` | 200, the server's state as JSON |
//! | `/custody` | 200, in which form batches are held, as JSON; 400 at a server that holds no shards |
//! | `/certificate/<64 hex, with or without 0x>` | 200 `{"certificate":"0x..."}`, 404 where it is unknown, 503 when it cannot be told; 400 at a server that keeps none |
//! | anything else | 400 |
//!
//! GET and HEAD are answered, any other method gets 405. A batch found may be cached for four weeks, since its name is its hash;
//! anything else for a second. With the header of [`Scope::Local`], a server looks only at what it has itself.
//!
//! # Speed
//! A small batch is answered in a few tens of microseconds, nearly all of them the kernel's. So there is one handler, which
//! looks at the path itself, and a batch's answer is one [`Bytes`] that is only handed on.

mod describe;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use metrics::histogram;

use super::answers::{AnswerBudget, Counted};
use crate::batch::VerifiedBatch;
use crate::data_hash::DataHash;
use crate::fault;
use crate::telemetry::{Meter, names, within_request};
use crate::wire::{self, CertificateBytes, ExpirationPolicy};

pub use describe::describe;

const FOREVER: HeaderValue = HeaderValue::from_static(wire::CACHE_FOUND);
const SHORTLY: HeaderValue = HeaderValue::from_static(wire::CACHE_OTHER);
const NEVER: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const GET_BY_HASH: &str = "/get-by-hash/";
const CERTIFICATE: &str = "/certificate/";

/// The body of the answer for one batch, checked and encoded. Cheap to clone, which makes it the form to cache.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    body: Bytes,
    /// However many read it at once.
    counted: Counted,
}

impl EncodedBatch {
    /// Encodes a batch.
    pub fn new(batch: &VerifiedBatch) -> Self {
        Self { body: wire::get_by_hash_answer(batch.bytes()).into(), counted: Counted::default() }
    }

    /// The body as it goes out.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Where a server may look for a batch that it is asked for.
///
/// Servers may name each other as places to look, and a question that is passed on without end comes back to one that
/// waits for its answer. So what a server of ours asks another is for what that one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Also at the servers that it reads from.
    #[default]
    Everywhere,
    /// Nowhere but in its own memory and on its own disk; an aggregator, which has none, at the members' own.
    Local,
}

impl Scope {
    /// The header that narrows a question.
    pub const HEADER: HeaderName = HeaderName::from_static("das-scope");
    const LOCAL: HeaderValue = HeaderValue::from_static("local");

    /// The header with which to ask.
    pub fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Everywhere => None,
            Self::Local => Some((Self::HEADER, Self::LOCAL)),
        }
    }

    fn of(request: &Request) -> Self {
        match request.headers().get(Self::HEADER) {
            Some(value) if *value == Self::LOCAL => Self::Local,
            Some(_) | None => Self::Everywhere,
        }
    }
}

/// What there is to say of a batch's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateLookup {
    /// This server keeps none.
    NotKept,
    /// None is known.
    Unknown,
    /// This one.
    Found(CertificateBytes),
    /// It cannot be told.
    Failed,
}

/// What stands behind a REST port.
pub trait BatchSource: Send + Sync + 'static {
    /// Why a batch could be neither found nor said to be missing. It is logged by the source; the caller gets 503.
    type Error: std::error::Error + Send;

    /// The batch of this name; `None` when it is certain not to be within `scope`.
    fn get(
        &self,
        hash: &DataHash,
        scope: Scope,
    ) -> impl Future<Output = Result<Option<EncodedBatch>, Self::Error>> + Send;

    /// How long batches are kept.
    fn expiration_policy(&self) -> impl Future<Output = ExpirationPolicy> + Send;

    /// Can it serve, and store if that is its task?
    fn healthy(&self) -> impl Future<Output = bool> + Send;

    /// The certificate of a batch. Why it could not be told is logged by the source.
    fn certificate(&self, hash: &DataHash) -> impl Future<Output = CertificateLookup> + Send {
        let _ = hash;
        std::future::ready(CertificateLookup::NotKept)
    }

    /// Where batches are and in which form, as one JSON value; `None` where there is no such thing.
    fn custody(&self) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }

    /// The server's state, as one JSON value.
    fn status(&self) -> impl Future<Output = String> + Send;
}

/// The routes of a REST port, whose answers share `answers`. To be called after [`init_metrics`](crate::telemetry::init_metrics).
pub fn router<S: BatchSource>(source: Arc<S>, answers: AnswerBudget) -> axum::Router {
    let port = Arc::new(Port { source, answers, meter: Meter::of_reads() });
    axum::Router::new().fallback(move |request: Request| {
        let port = port.clone();
        // The body of a GET means nothing and is dropped unread.
        let (question, scope) = (Question::of(&request), Scope::of(&request));
        let (head, _body) = request.into_parts();
        within_request("rest", &head.headers, async move { port.answer(question, scope).await })
    })
}

struct Port<S> {
    source: Arc<S>,
    answers: AnswerBudget,
    meter: Meter,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Batch(DataHash),
    BadHash,
    Health,
    ExpirationPolicy,
    Status,
    Custody,
    Certificate(DataHash),
    Unknown,
}

impl Route {
    /// As a label.
    fn name(&self) -> &'static str {
        match self {
            Self::Batch(_) | Self::BadHash => "get-by-hash",
            Self::Health => "health",
            Self::ExpirationPolicy => "expiration-policy",
            Self::Status => "status",
            Self::Custody => "custody",
            Self::Certificate(_) => "certificate",
            Self::Unknown => "unknown",
        }
    }

    fn of(path: &str) -> Self {
        // Everybody asks in this form; what does not fit is looked at with patience.
        if let Some(hash) = path.strip_prefix(GET_BY_HASH).and_then(|hash| hash.parse().ok()) {
            return Self::Batch(hash);
        }
        let Some(path) = clean(path) else { return Self::Unknown };
        if let Some(hash) = path.strip_prefix(GET_BY_HASH) {
            // `0X` is taken as little as anything else that is not exactly a hash.
            return hash.parse().map_or(Self::BadHash, Self::Batch);
        }
        if let Some(hash) = path.strip_prefix(CERTIFICATE) {
            return hash.parse().map_or(Self::Unknown, Self::Certificate);
        }
        if path.starts_with("/health") {
            Self::Health
        } else if path == "/expiration-policy" || path.starts_with("/expiration-policy/") {
            Self::ExpirationPolicy
        } else if path == "/status" {
            Self::Status
        } else if path == "/custody" {
            Self::Custody
        } else {
            Self::Unknown
        }
    }
}

/// The path as Go's servers understand it: percent-decoded, without empty, `.` and `..` segments and without a slash
/// at the end. `None` when the percent signs are wrong.
fn clean(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let decoded: Cow<'_, str> =
        if path.contains('%') { Cow::Owned(percent_decode(path)?) } else { path.into() };
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut cleaned = String::with_capacity(decoded.len() + 1);
    for segment in segments {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    Some(cleaned)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// A request, understood.
#[derive(Debug)]
enum Question {
    Get(Route),
    Head(Route),
    OtherMethod,
}

impl Question {
    fn of(request: &Request) -> Self {
        match *request.method() {
            Method::GET => Self::Get(Route::of(request.uri().path())),
            Method::HEAD => Self::Head(Route::of(request.uri().path())),
            _ => Self::OtherMethod,
        }
    }
}

impl<S: BatchSource> Port<S> {
    async fn answer(&self, question: Question, scope: Scope) -> Response {
        let (route, head) = match question {
            Question::Get(route) => (route, false),
            Question::Head(route) => (route, true),
            Question::OtherMethod => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return response;
            }
        };
        let (began, name) = (Instant::now(), route.name());
        let response = self.answer_to(route, scope, head).await;
        let code = response.status().as_str().to_owned();
        histogram!(names::REST_SECONDS, "route" => name, "code" => code)
            .record(began.elapsed().as_secs_f64());
        response
    }

    async fn answer_to(&self, route: Route, scope: Scope, head: bool) -> Response {
        match route {
            Route::Batch(hash) => self.batch(&hash, scope, head).await,
            Route::BadHash => {
                self.meter.failed(Instant::now());
                empty(StatusCode::BAD_REQUEST)
            }
            Route::Health if self.source.healthy().await => empty(StatusCode::OK),
            Route::Health => empty(StatusCode::SERVICE_UNAVAILABLE),
            Route::ExpirationPolicy => {
                let policy = self.source.expiration_policy().await;
                json(policy.rest_answer().into(), SHORTLY, head)
            }
            Route::Status => {
                let mut status = self.source.status().await;
                status.push('\n');
                json(status.into(), SHORTLY, head)
            }
            Route::Custody => match self.source.custody().await {
                Some(report) => json(format!("{report}\n").into(), SHORTLY, head),
                None => empty(StatusCode::BAD_REQUEST),
            },
            Route::Certificate(hash) => match self.source.certificate(&hash).await {
                CertificateLookup::Found(bytes) => {
                    json(wire::certificate_answer(&bytes).into(), SHORTLY, head)
                }
                CertificateLookup::Unknown => empty(StatusCode::NOT_FOUND),
                CertificateLookup::Failed => empty(StatusCode::SERVICE_UNAVAILABLE),
                CertificateLookup::NotKept => empty(StatusCode::BAD_REQUEST),
            },
            Route::Unknown => empty(StatusCode::BAD_REQUEST),
        }
    }

    async fn batch(&self, hash: &DataHash, scope: Scope, head: bool) -> Response {
        let started = Instant::now();
        match self.source.get(hash, scope).await {
            Ok(Some(batch)) => {
                let EncodedBatch { body, counted } = batch;
                let length = body.len();
                let mut response = json_head(length, FOREVER);
                if !head
                    && let Err(error) = self.answers.fill_counted(&mut response, body, Some(&counted)).await
                {
                    self.meter.failed(started);
                    fault::count(fault::NET_OVERLOADED);
                    tracing::debug!(%hash, %error, "a batch was not sent");
                    return empty(StatusCode::SERVICE_UNAVAILABLE);
                }
                self.meter.succeeded(started, length);
                response
            }
            Ok(None) => {
                self.meter.failed(started);
                let mut response = empty(StatusCode::NOT_FOUND);
                if scope == Scope::Local {
                    // Not to be told to somebody who asks for more than that.
                    response.headers_mut().insert(CACHE_CONTROL, NEVER);
                }
                response
            }
            Err(error) => {
                self.meter.failed(started);
                tracing::warn!(%hash, %error, "a batch could not be read");
                empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

fn json(body: Bytes, cache: HeaderValue, head: bool) -> Response {
    let mut response = json_head(body.len(), cache);
    if !head {
        *response.body_mut() = Body::from(body);
    }
    response
}

/// The answer to a HEAD.
fn json_head(length: usize, cache: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, cache);
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, SHORTLY);
    response
}

#[cfg(test)]
mod tests;
