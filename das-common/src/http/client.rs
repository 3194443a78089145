//! The HTTP client of everything that calls a member, a mirror or a list of them.
//!
//! # Guarantees, whatever the other side does
//! - Every call ends by its deadline, connecting and reading the answer included.
//! - An answer above the caller's bound is refused as soon as that is known; no more than the bound is ever held.
//! - Redirects are not followed: where a request goes is decided by configuration only.
//! - What a URL says about a user goes into the `Authorization` header and never into an error text or a log.
//! - Servers of `https` URLs are known by their certificates ([`crate::tls`]); files of certificates and keys that are
//!   replaced are used for connections that begin from then on.
//!
//! Connections are kept and reused. A request body is one [`Bytes`], so that any number of requests can share it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use thiserror::Error;
use url::Url;

use crate::alarm::Alarms;
use crate::fault;
use crate::telemetry::traffic;
use crate::tls::{LOOK_EVERY, Look, Reloaded, client_config, explain};
use crate::traces::{self, TRACEPARENT};

pub use crate::tls::{ClientIdentity, TlsError, TlsFiles, TlsVersion};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("das/", env!("CARGO_PKG_VERSION")));

/// Why a URL cannot be called.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a URL at all.
    #[error("`{shown}` is not a URL: {reason}")]
    NotAUrl {
        /// The text, without a password.
        shown: String,
        /// What the parser says.
        reason: String,
    },
    /// Neither `http` nor `https`.
    #[error("`{shown}`: the scheme must be http or https")]
    Scheme {
        /// The URL, without a password.
        shown: String,
    },
    /// No host in it.
    #[error("`{shown}` names no host")]
    NoHost {
        /// The URL, without a password.
        shown: String,
    },
}

/// A parsed URL that requests can be sent to. Cheap to clone; prints without user and password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    inner: Arc<EndpointParts>,
}

#[derive(PartialEq, Eq, Hash)]
struct EndpointParts {
    uri: Uri,
    https: bool,
    /// `host:port` as dashboards know the backend by.
    authority: String,
    /// The path without its last slash, and the query if there is one.
    base_path: String,
    query: Option<String>,
    authorization: Option<HeaderValue>,
    shown: String,
}

impl Endpoint {
    /// Parses an `http` or `https` URL; user and password in it become basic authorization.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let trimmed = text.trim();
        let mut url = Url::parse(trimmed).map_err(|e| EndpointError::NotAUrl {
            shown: without_userinfo(trimmed),
            reason: e.to_string(),
        })?;
        let authorization = basic_authorization(&url);
        // Clearing them fails only for URLs that cannot have a host, which are refused below.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let shown = url.to_string();
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(EndpointError::Scheme { shown }),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(EndpointError::NoHost { shown });
        };
        let authority = match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let uri: Uri = url.as_str().parse().map_err(|e: http::uri::InvalidUri| EndpointError::NotAUrl {
            shown: shown.clone(),
            reason: e.to_string(),
        })?;
        let parts = EndpointParts {
            uri,
            https,
            authority,
            base_path: url.path().trim_end_matches('/').to_owned(),
            query: url.query().map(str::to_owned),
            authorization,
            shown,
        };
        Ok(Self { inner: Arc::new(parts) })
    }

    /// `host:port`, the port always given.
    pub fn authority(&self) -> &str {
        &self.inner.authority
    }

    /// Whether it is called over TLS.
    pub fn is_https(&self) -> bool {
        self.inner.https
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        self.inner.uri.host().unwrap_or_default()
    }

    /// The URL that `path` (which starts with a slash) has below this endpoint. The endpoint's own query is kept.
    fn below(&self, path: &str) -> Result<Uri, HttpError> {
        let EndpointParts { uri, base_path, query, .. } = &*self.inner;
        let path_and_query = match query {
            Some(query) => format!("{base_path}{path}?{query}"),
            None => format!("{base_path}{path}"),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(
            PathAndQuery::try_from(path_and_query)
                .map_err(|e| HttpError::BadPath { path: path.to_owned(), reason: e.to_string() })?,
        );
        Uri::from_parts(parts)
            .map_err(|e| HttpError::BadPath { path: path.to_owned(), reason: e.to_string() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.shown)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.inner.shown)
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

/// Whatever stands between `//` and `@` of something that may be a URL, taken out.
fn without_userinfo(text: &str) -> String {
    match (text.find("//"), text.rfind('@')) {
        (Some(slashes), Some(at)) if slashes + 2 <= at => {
            format!("{}{}", &text[..slashes + 2], &text[at + 1..])
        }
        _ => text.to_owned(),
    }
}

fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |part: &str| percent_decode(part);
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or_default()));
    let text = format!("Basic {}", base64_simd::STANDARD.encode_to_string(&pair));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `%xx` turned back into bytes; anything else is kept as it is.
fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let digits = bytes.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        let byte =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    out
}

/// Why a call gave no answer.
#[derive(Debug, Clone, Error)]
pub enum HttpError {
    /// The server could not be reached.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// The chain of causes.
        reason: String,
    },
    /// The connection broke before the answer was complete, or the answer is not HTTP.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Where to.
        endpoint: Endpoint,
        /// The chain of causes.
        reason: String,
    },
    /// No complete answer by the deadline.
    #[error("{endpoint} gave no answer within {after:?}")]
    Timeout {
        /// Where to.
        endpoint: Endpoint,
        /// The time that was given.
        after: Duration,
    },
    /// The answer is larger than the caller takes.
    #[error("the answer of {endpoint} is larger than {limit} bytes")]
    TooLarge {
        /// Where to.
        endpoint: Endpoint,
        /// The bound in bytes.
        limit: usize,
    },
    /// The system's root certificates cannot be read, so no `https` URL can be called.
    #[error("https cannot be used: {reason}")]
    NoRoots {
        /// What the loader says.
        reason: String,
    },
    /// A path that cannot stand in a request.
    #[error("`{path}` is not a path: {reason}")]
    BadPath {
        /// The path.
        path: String,
        /// What the parser says.
        reason: String,
    },
}

impl HttpError {
    /// Could the request have reached the server? False only where it certainly did not.
    pub fn may_have_been_sent(&self) -> bool {
        !matches!(self, Self::Connect { .. } | Self::NoRoots { .. } | Self::BadPath { .. })
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body, within the bound that the caller gave.
    pub body: Bytes,
}

/// Bounds of a client.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// Time to connect, TLS excluded.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// Idle connections kept for one host.
    pub max_idle_per_host: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            // Below the idle time at which common servers and balancers hang up, so that a request is seldom
            // written to a connection that is being closed.
            idle_timeout: Duration::from_secs(50),
            max_idle_per_host: 32,
        }
    }
}

type PlainClient = Client<HttpConnector, Full<Bytes>>;
type TlsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A pooled client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    limits: ClientLimits,
    files: TlsFiles,
    alarms: Alarms,
    plain: PlainClient,
    /// Made at the first `https` call, if no files are to be read for it: reading the system's roots takes time that most committees on a private
    /// network never need.
    tls: OnceLock<Result<Tls, String>>,
}

/// The client over TLS. When its files change there is another, with connections of its own.
struct Tls {
    client: Reloaded<TlsClient>,
    looked: Mutex<Looked>,
    alarms: Alarms,
}

struct Looked {
    at: Instant,
    /// Whether the alarm is of this client: others may have it, too.
    refused: bool,
}

impl Tls {
    fn new(limits: ClientLimits, files: TlsFiles, alarms: Alarms) -> Result<Self, TlsError> {
        let client = Reloaded::new(files.paths(), move || {
            let builder = HttpsConnectorBuilder::new()
                .with_tls_config(client_config(&files)?)
                .https_only()
                .enable_http1();
            Ok(pooled(&limits).build(builder.wrap_connector(connector(&limits))))
        })?;
        Ok(Self { client, looked: Mutex::new(Looked { at: Instant::now(), refused: false }), alarms })
    }

    /// With what is in the files by now.
    fn current(&self) -> Arc<TlsClient> {
        let mut looked = self.looked.lock();
        if looked.at.elapsed() >= LOOK_EVERY {
            looked.at = Instant::now();
            match self.client.look() {
                Look::Same | Look::Replaced if looked.refused => {
                    looked.refused = false;
                    self.alarms.clear(fault::TLS_CLIENT_KEPT.code);
                }
                Look::Same | Look::Replaced | Look::Unsettled => {}
                Look::Refused(error) => {
                    looked.refused = true;
                    let text = format!("{error}; what was read before stays in use");
                    self.alarms.raise_fault(fault::TLS_CLIENT_KEPT, text);
                }
            }
        }
        drop(looked);
        self.client.current()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new(ClientLimits::default())
    }
}

impl HttpClient {
    /// A client with connections of its own, which trusts the authorities that the system trusts.
    pub fn new(limits: ClientLimits) -> Self {
        Self::made(limits, TlsFiles::default(), Alarms::new(), OnceLock::new())
    }

    fn made(
        limits: ClientLimits,
        files: TlsFiles,
        alarms: Alarms,
        tls: OnceLock<Result<Tls, String>>,
    ) -> Self {
        let plain = pooled(&limits).build(connector(&limits));
        Self { inner: Arc::new(Inner { limits, files, alarms, plain, tls }) }
    }

    /// A client that knows servers by their certificates and shows one of its own, as the files say. They are read now, and
    /// when they change.
    pub fn with_tls(limits: ClientLimits, files: &TlsFiles) -> Result<Self, TlsError> {
        Self::with_watched_tls(limits, files, &Alarms::new())
    }

    /// As [`with_tls`](Self::with_tls); changes that cannot be used are among these alarms.
    pub fn with_watched_tls(
        limits: ClientLimits,
        files: &TlsFiles,
        alarms: &Alarms,
    ) -> Result<Self, TlsError> {
        let tls = if files.paths().is_empty() {
            OnceLock::new()
        } else {
            OnceLock::from(Ok(Tls::new(limits.clone(), files.clone(), alarms.clone())?))
        };
        Ok(Self::made(limits, files.clone(), alarms.clone(), tls))
    }

    /// POSTs a JSON body to the endpoint itself.
    pub async fn post_json(
        &self,
        endpoint: &Endpoint,
        body: Bytes,
        deadline: Duration,
        max_body: usize,
    ) -> Result<HttpResponse, HttpError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.inner.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.call(endpoint, request, deadline, max_body).await
    }

    /// POSTs a body of any kind to the endpoint itself, with these headers.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Bytes,
        deadline: Duration,
        max_body: usize,
    ) -> Result<HttpResponse, HttpError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.inner.uri.clone();
        *request.headers_mut() = headers;
        self.call(endpoint, request, deadline, max_body).await
    }

    /// GETs `path`, which is empty or starts with a slash, below the endpoint.
    pub async fn get(
        &self,
        endpoint: &Endpoint,
        path: &str,
        deadline: Duration,
        max_body: usize,
    ) -> Result<HttpResponse, HttpError> {
        self.get_with(endpoint, path, None, deadline, max_body).await
    }

    /// As [`get`](Self::get), with one more header.
    pub async fn get_with(
        &self,
        endpoint: &Endpoint,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
        deadline: Duration,
        max_body: usize,
    ) -> Result<HttpResponse, HttpError> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() =
            if path.is_empty() { endpoint.inner.uri.clone() } else { endpoint.below(path)? };
        request.headers_mut().extend(header);
        self.call(endpoint, request, deadline, max_body).await
    }

    async fn call(
        &self,
        endpoint: &Endpoint,
        mut request: Request<Full<Bytes>>,
        deadline: Duration,
        max_body: usize,
    ) -> Result<HttpResponse, HttpError> {
        let exchange = async {
            request.headers_mut().insert(USER_AGENT, AGENT);
            if let Some(parent) = traces::header() {
                request.headers_mut().insert(TRACEPARENT, parent);
            }
            // What goes out is counted as the body that was asked to, heads not.
            traffic().sent(usize::try_from(request.body().size_hint().lower()).unwrap_or(0));
            if let Some(value) = &endpoint.inner.authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            let sent = if endpoint.inner.https {
                self.tls()?.request(request).await
            } else {
                self.inner.plain.request(request).await
            };
            let response = sent.map_err(|e| {
                let (endpoint, reason) = (endpoint.clone(), causes(&e));
                if e.is_connect() {
                    HttpError::Connect { endpoint, reason }
                } else {
                    HttpError::Broken { endpoint, reason }
                }
            })?;
            let (head, body) = response.into_parts();
            let body = collect(endpoint, &head.headers, body, max_body).await?;
            traffic().received(body.len());
            Ok(HttpResponse { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::Timeout { endpoint: endpoint.clone(), after: deadline }),
        }
    }

    fn tls(&self) -> Result<Arc<TlsClient>, HttpError> {
        let made = self.inner.tls.get_or_init(|| {
            let Inner { limits, files, alarms, .. } = &*self.inner;
            let made = Tls::new(limits.clone(), files.clone(), alarms.clone());
            made.map_err(|error| error.to_string())
        });
        let tls = made.as_ref().map_err(|reason| HttpError::NoRoots { reason: reason.clone() })?;
        Ok(tls.current())
    }
}

fn connector(limits: &ClientLimits) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(limits.connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector.enforce_http(false);
    connector
}

fn pooled(limits: &ClientLimits) -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits.idle_timeout)
        .pool_max_idle_per_host(limits.max_idle_per_host);
    builder
}

/// Reads a body of at most `limit` bytes. Memory follows what arrives, starting at the promised length only when
/// that is within the bound.
async fn collect(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, HttpError> {
    let too_large = || HttpError::TooLarge { endpoint: endpoint.clone(), limit };
    let promised =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if promised.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| HttpError::Broken { endpoint: endpoint.clone(), reason: causes(&e) })?;
        let Ok(data) = frame.into_data() else { continue };
        let held = whole.as_ref().map_or_else(|| first.as_ref().map_or(0, Bytes::len), BytesMut::len);
        if held + data.len() > limit {
            return Err(too_large());
        }
        if first.is_none() && whole.is_none() {
            // Most answers arrive in one piece, which is passed on without a copy.
            first = Some(data);
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        let buffer = whole.get_or_insert_with(|| {
            let first = first.take().unwrap_or_default();
            let mut buffer = BytesMut::with_capacity(promised.unwrap_or(0).max(first.len() + data.len()));
            buffer.extend_from_slice(&first);
            buffer
        });
        buffer.extend_from_slice(&data);
    }
    Ok(match whole {
        Some(buffer) => buffer.freeze(),
        None => first.unwrap_or_default(),
    })
}

/// An error and what caused it, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    match explain(error) {
        Some(meaning) => format!("{text} ({meaning})"),
        None => text,
    }
}

#[cfg(test)]
mod tests;
