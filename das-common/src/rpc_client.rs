//! Calling a member's JSON-RPC (spec section 6): plain and chunked stores, health, expiration policy.
//!
//! # Guarantees
//! - A request body is built once ([`store_body`]) and may be sent to any number of members.
//! - Every call has a deadline for all of its requests together, and bounds what it reads of an answer.
//! - Two chunked stores made here never carry the same start signature: Nitro's server takes the second for a replay
//!   of the first, and its own client then loses a batch. The chunk size is what varies.
//!
//! What a member answers is *parsed* here and nothing more: whether its signature is good is for the caller to check,
//! who knows the member's key.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use parking_lot::Mutex;
use rand::Rng;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::http::client::{Endpoint, HttpClient, HttpError};
use crate::store_auth::{RequestDigest, StoreKey};
use crate::wire::{BatchId, ExpirationPolicy, StoreResult, texts};

/// An answer of a member is small; its error texts are cut to something a person reads.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
const MAX_TEXT: usize = 400;
/// Chunks on their way to one member at a time: each is a body of its own.
const CHUNKS_AT_ONCE: usize = 4;
/// What a `das_sendChunk` request holds beside the chunk's hex, with every number at its longest.
const CHUNK_REQUEST_OVERHEAD: usize = 584;

/// The body limit of a server that was not told otherwise.
pub const DEFAULT_BODY_LIMIT: usize = 5 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, Clone, Error)]
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that is no JSON-RPC answer.
    #[error("HTTP status {status}: {text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The start of the body.
        text: String,
    },
    /// The member reports an error.
    #[error("{message} (code {code})")]
    Rpc {
        /// The JSON-RPC code.
        code: i64,
        /// The member's words.
        message: String,
    },
    /// The answer does not have the shape it must have.
    #[error("an answer that cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// An empty message cannot go through the chunked calls.
    #[error("an empty message cannot be stored in chunks")]
    EmptyMessage,
    /// The member's body limit does not leave room for a chunk.
    #[error("a body limit of {limit} bytes leaves no room for a chunk")]
    LimitTooSmall {
        /// The limit.
        limit: usize,
    },
    /// Not done by the deadline.
    #[error("not done within {after:?}")]
    Deadline {
        /// The time that was given.
        after: Duration,
    },
}

impl CallError {
    /// Did the server refuse the request for its size alone?
    pub fn is_body_too_large(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. })
    }

    /// Does the server not know the method? Then it may know an older one.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Rpc { message, .. }
            if message.contains("the method das_") && message.contains("does not exist/is not available"))
    }

    /// Might the same request succeed a moment later?
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Http(HttpError::NoRoots { .. } | HttpError::BadPath { .. }) => false,
            Self::Http(_) | Self::Deadline { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            // A member's own words do not say whether it will change its mind; -32000 covers a full disk as well as
            // a wrong signature.
            Self::Rpc { .. } | Self::Malformed { .. } | Self::EmptyMessage | Self::LimitTooSmall { .. } => {
                false
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

fn malformed(reason: impl Into<String>) -> CallError {
    CallError::Malformed { reason: reason.into() }
}

fn read<T: serde::de::DeserializeOwned>(result: &str) -> Result<T, CallError> {
    serde_json::from_str(result).map_err(|e| malformed(e.to_string()))
}

/// The body of a `das_store` request, for any number of members.
pub fn store_body(message: &[u8], timeout: u64, signature: &[u8]) -> Bytes {
    request("das_store", &[Param::Bytes(message), Param::Number(timeout), Param::Bytes(signature)])
}

/// How long the body of a `das_store` request for a message of this length is, with its other parameters at their
/// longest.
pub fn store_body_length(message: usize) -> usize {
    2 * message + 256
}

enum Param<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

fn request(method: &str, params: &[Param<'_>]) -> Bytes {
    let lengths = params.iter().map(|param| match param {
        Param::Bytes(bytes) => 2 * bytes.len() + 5,
        Param::Number(_) => 21,
    });
    let mut body = Vec::with_capacity(80 + method.len() + lengths.sum::<usize>());
    body.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"");
    body.extend_from_slice(method.as_bytes());
    body.extend_from_slice(b"\",\"params\":[");
    for (i, param) in params.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        match param {
            Param::Bytes(bytes) => {
                body.extend_from_slice(b"\"0x");
                append_hex(&mut body, bytes);
                body.push(b'"');
            }
            Param::Number(number) => body.extend_from_slice(format!("\"{number:#x}\"").as_bytes()),
        }
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    // By way of a buffer that stays in the nearest cache: cheaper than to clear the room first.
    let mut digits = [0; 4096];
    for part in bytes.chunks(digits.len() / 2) {
        let digits = &mut digits[..2 * part.len()];
        const_hex::encode_to_slice(part, digits).expect("two digits of room for every byte");
        out.extend_from_slice(digits);
    }
}

/// One member's JSON-RPC port.
#[derive(Debug)]
pub struct MemberClient {
    endpoint: Endpoint,
    http: HttpClient,
    starts: RecentStarts,
}

impl MemberClient {
    /// Calls the member at this URL.
    pub fn new(endpoint: Endpoint, http: HttpClient) -> Self {
        Self { endpoint, http, starts: RecentStarts::default() }
    }

    /// Where the member is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `das_store`, the body built here.
    pub async fn store(
        &self,
        message: &[u8],
        timeout: u64,
        signature: &[u8],
        deadline: Duration,
    ) -> Result<StoreResult, CallError> {
        self.store_prepared(store_body(message, timeout, signature), deadline).await
    }

    /// `das_store` with a body of [`store_body`].
    pub async fn store_prepared(&self, body: Bytes, deadline: Duration) -> Result<StoreResult, CallError> {
        let result = self.exchange(body, deadline).await?;
        read(&result)
    }

    /// Stores through the chunked calls, each signed with `key`. No request is longer than `body_limit`.
    pub async fn store_chunked(
        &self,
        message: &Bytes,
        timeout: u64,
        key: &StoreKey,
        body_limit: usize,
        deadline: Duration,
    ) -> Result<StoreResult, CallError> {
        /// A start that another of our processes happened to make as well in the same second.
        const STARTS: usize = 3;
        let largest = body_limit.saturating_sub(CHUNK_REQUEST_OVERHEAD) / 2;
        if largest == 0 {
            return Err(CallError::LimitTooSmall { limit: body_limit });
        }
        if message.is_empty() {
            return Err(CallError::EmptyMessage);
        }
        let ends = Instant::now() + deadline;
        let work = async {
            let mut tries = 1;
            let (id, chunk_size) = loop {
                match self.start_chunked(message.len(), timeout, key, largest, deadline).await {
                    Ok(started) => break started,
                    Err(CallError::Rpc { message, .. })
                        if tries < STARTS && message.contains("already seen") =>
                    {
                        tries += 1;
                    }
                    Err(error) => return Err(error),
                }
            };
            let chunks = 0..message.len().div_ceil(chunk_size);
            stream::iter(chunks)
                .map(|number| {
                    let start = number * chunk_size;
                    let chunk = message.slice(start..message.len().min(start + chunk_size));
                    self.send_chunk(id, number as u64, chunk, key, ends)
                })
                .buffer_unordered(CHUNKS_AT_ONCE)
                .try_for_each(|()| std::future::ready(Ok(())))
                .await?;
            let signature = key.sign(&RequestDigest::commit_chunked(id));
            let body = request("das_commitChunkedStore", &[Param::Number(id), Param::Bytes(&signature)]);
            read(&self.exchange(body, deadline).await?)
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Deadline { after: deadline }),
        }
    }

    /// The id given by the member, and the chunk size announced.
    async fn start_chunked(
        &self,
        length: usize,
        timeout: u64,
        key: &StoreKey,
        largest: usize,
        deadline: Duration,
    ) -> Result<(u64, usize), CallError> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let chunk_size = self.starts.chunk_size(timestamp, length, timeout, largest);
        let n_chunks = length.div_ceil(chunk_size) as u64;
        let (size, total) = (chunk_size as u64, length as u64);
        let digest = RequestDigest::start_chunked(timestamp, n_chunks, size, total, timeout);
        let signature = key.sign(&digest);
        let body = request(
            "das_startChunkedStore",
            &[
                Param::Number(timestamp),
                Param::Number(n_chunks),
                Param::Number(size),
                Param::Number(total),
                Param::Number(timeout),
                Param::Bytes(&signature),
            ],
        );
        let started: BatchId = read(&self.exchange(body, deadline).await?)?;
        Ok((started.batch_id, chunk_size))
    }

    async fn send_chunk(
        &self,
        id: u64,
        number: u64,
        chunk: Bytes,
        key: &StoreKey,
        ends: Instant,
    ) -> Result<(), CallError> {
        let signature = key.sign(&RequestDigest::send_chunk(&chunk, id, number));
        let params =
            [Param::Number(id), Param::Number(number), Param::Bytes(&chunk), Param::Bytes(&signature)];
        let body = request("das_sendChunk", &params);
        drop(chunk);
        self.exchange(body, ends.saturating_duration_since(Instant::now())).await.map(|_| ())
    }

    /// Whether the member takes stores that are signed with `key`: it is shown a chunk of a message that it knows nothing
    /// of, and says first what it thinks of the signature. Nothing is left behind there.
    ///
    /// # Errors
    /// When it does not answer, knows no chunks, or cannot tell now.
    pub async fn admits(&self, key: &StoreKey, deadline: Duration) -> Result<bool, CallError> {
        let id = rand::rng().random();
        let signature = key.sign(&RequestDigest::send_chunk(&[], id, 0));
        let params = [Param::Number(id), Param::Number(0), Param::Bytes(&[]), Param::Bytes(&signature)];
        match self.exchange(request("das_sendChunk", &params), deadline).await {
            Err(error) if error.is_unknown_method() => Err(error),
            Err(CallError::Rpc { code, message }) => {
                let refuses = [texts::NOT_PROPERLY_SIGNED, texts::NO_VERIFICATION_METHOD];
                if refuses.iter().any(|text| message.contains(text)) {
                    Ok(false)
                } else if message.contains(texts::UNKNOWN_MESSAGE) {
                    Ok(true)
                } else {
                    Err(CallError::Rpc { code, message })
                }
            }
            Err(error) => Err(error),
            // Nobody has begun that message.
            Ok(_) => Err(malformed("it took a chunk of a message that was never begun")),
        }
    }

    /// `das_healthCheck`.
    pub async fn health_check(&self, deadline: Duration) -> Result<(), CallError> {
        self.exchange(request("das_healthCheck", &[]), deadline).await.map(|_| ())
    }

    /// `das_keepCertificate`, which members of ours know.
    pub async fn keep_certificate(&self, certificate: &[u8], deadline: Duration) -> Result<(), CallError> {
        let body = request("das_keepCertificate", &[Param::Bytes(certificate)]);
        self.exchange(body, deadline).await.map(|_| ())
    }

    /// `das_postBatch`, which aggregators that post know; how far the batch is. `numbers`: timeout, delayed messages read
    /// after it, message counts before and after it.
    pub async fn post_batch(
        &self,
        message: &[u8],
        numbers: [u64; 4],
        signature: &[u8],
        deadline: Duration,
    ) -> Result<serde_json::Value, CallError> {
        let mut params = vec![Param::Bytes(message)];
        params.extend(numbers.map(Param::Number));
        params.push(Param::Bytes(signature));
        read(&self.exchange(request("das_postBatch", &params), deadline).await?)
    }

    /// `das_batchStatus`.
    pub async fn batch_status(&self, id: u64, deadline: Duration) -> Result<serde_json::Value, CallError> {
        read(&self.exchange(request("das_batchStatus", &[Param::Number(id)]), deadline).await?)
    }

    /// `das_postStatus`.
    pub async fn post_status(&self, deadline: Duration) -> Result<serde_json::Value, CallError> {
        read(&self.exchange(request("das_postStatus", &[]), deadline).await?)
    }

    /// `das_expirationPolicy`.
    pub async fn expiration_policy(&self, deadline: Duration) -> Result<ExpirationPolicy, CallError> {
        read(&self.exchange(request("das_expirationPolicy", &[]), deadline).await?)
    }

    /// One request, and the text of its `result`.
    async fn exchange(&self, body: Bytes, deadline: Duration) -> Result<String, CallError> {
        let answer = self.http.post_json(&self.endpoint, body, deadline, MAX_ANSWER_BYTES).await?;
        if answer.status != StatusCode::OK {
            return Err(CallError::Status { status: answer.status, text: shortened(&answer.body) });
        }
        let envelope: Envelope<'_> =
            serde_json::from_slice(&answer.body).map_err(|e| malformed(e.to_string()))?;
        if let Some(error) = envelope.error {
            return Err(CallError::Rpc { code: error.code, message: shortened(error.message.as_bytes()) });
        }
        Ok(envelope.result.map_or_else(|| "null".to_owned(), |result| result.get().to_owned()))
    }
}

/// The start of a text that somebody else wrote, in one line.
fn shortened(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_TEXT)]);
    let mut out: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    if text.chars().count() > MAX_TEXT {
        let _ = write!(out, "...");
    }
    out
}

/// The starts made in the last seconds, so that none is made twice.
#[derive(Debug, Default)]
struct RecentStarts {
    seen: Mutex<HashSet<(u64, usize, u64, usize)>>,
    newest: AtomicU64,
}

impl RecentStarts {
    /// Chunk sizes to choose from; random, since other processes may sign with the same key.
    const CHOICES: usize = 65_536;

    /// A chunk size of at most `largest` (which is not 0), new for this second, length and timeout as long as there
    /// are new ones.
    fn chunk_size(&self, timestamp: u64, length: usize, timeout: u64, largest: usize) -> usize {
        let mut seen = self.seen.lock();
        if self.newest.swap(timestamp, Ordering::Relaxed) != timestamp {
            // A start is refused as too old long before a second could come again.
            seen.retain(|(second, ..)| second.abs_diff(timestamp) <= 1);
        }
        let choices = Self::CHOICES.min(largest / 16 + 1);
        let first = rand::rng().random_range(0..choices);
        for i in 0..choices {
            let size = largest - (first + i) % choices;
            if seen.insert((timestamp, length, timeout, size)) {
                return size;
            }
        }
        largest - first
    }
}

#[cfg(test)]
mod tests;
