//! From ended spans to the collector.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use metrics::{Counter, counter};
use opentelemetry::Context;
use opentelemetry_http::{HttpClient as Carrier, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::options::{TraceError, TraceOptions, TraceSettings};
use crate::http::client::{ClientLimits, Endpoint, HttpClient};
use crate::secret_file;
use crate::telemetry::names;

/// Spans of one message.
const MOST_AT_ONCE: usize = 512;
/// A span waits so long for others.
const GATHER: Duration = Duration::from_secs(1);
/// Longest answer of a collector that is read: it says next to nothing.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest file of headers.
const MAX_HEADERS: usize = 16 * 1024;

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Queue {
    ended: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl Queue {
    pub(super) fn open(
        settings: &TraceSettings<'_>,
        resource: &Resource,
    ) -> Result<(Self, Worker), TraceError> {
        let options = settings.options;
        let endpoint = Endpoint::parse(&options.endpoint)?;
        let carrier = Collector {
            http: HttpClient::with_tls(ClientLimits::default(), &settings.tls)?,
            endpoint,
            headers: headers(options)?,
            timeout: options.timeout,
        };
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(carrier)
            .with_endpoint(&options.endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(options.timeout)
            .build()
            .map_err(|error| TraceError::Exporter(error.to_string()))?;
        exporter.set_resource(resource);
        let (sender, ended) = mpsc::channel(options.queue);
        let count = |result: &'static str| counter!(names::TRACE_SPANS, "result" => result);
        let worker = Worker {
            ended,
            exporter,
            endpoint: options.endpoint.clone(),
            timeout: options.timeout,
            sent: count("sent"),
            failed: count("failed"),
            works: None,
        };
        Ok((Self { ended: sender, dropped: count("dropped") }, worker))
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.ended.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what is in the queue.
pub struct Worker {
    ended: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    endpoint: String,
    timeout: Duration,
    sent: Counter,
    failed: Counter,
    /// Whether the last message was taken; told on the log when it changes.
    works: Option<bool>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("queued", &self.ended.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Runs until told to stop, and then sends what is left, within the time that one message has.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        while let Some(true) = stop.run_until_cancelled(self.gather(&mut batch)).await {
            self.send(std::mem::take(&mut batch)).await;
        }
        let timeout = self.timeout;
        let rest = async {
            loop {
                while batch.len() < MOST_AT_ONCE
                    && let Ok(span) = self.ended.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
                self.send(std::mem::take(&mut batch)).await;
            }
        };
        // What is not sent by then is lost.
        let _ = tokio::time::timeout(timeout, rest).await;
    }

    /// Waits for spans, and a little for more of them. False: there will be none any more.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) -> bool {
        if self.ended.recv_many(batch, MOST_AT_ONCE).await == 0 {
            return false;
        }
        let more = async {
            while batch.len() < MOST_AT_ONCE
                && self.ended.recv_many(batch, MOST_AT_ONCE - batch.len()).await > 0
            {}
        };
        // However many came.
        let _ = tokio::time::timeout(GATHER, more).await;
        true
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let outcome = tokio::time::timeout(self.timeout, self.exporter.export(batch)).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {:?}", self.timeout)),
        };
        match error {
            None => {
                self.sent.increment(count);
                if self.works.replace(true) == Some(false) {
                    info!(endpoint = self.endpoint, "the collector takes traces again");
                }
            }
            Some(error) => {
                self.failed.increment(count);
                if self.works.replace(false) != Some(false) {
                    warn!(
                        endpoint = self.endpoint,
                        error, "the collector takes no traces: spans are lost, nothing else"
                    );
                }
            }
        }
    }
}

/// The collector, over our own client.
#[derive(Debug)]
struct Collector {
    http: HttpClient,
    endpoint: Endpoint,
    headers: HeaderMap,
    timeout: Duration,
}

#[async_trait]
impl Carrier for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        headers.extend(self.headers.clone());
        let answer = self.http.post(&self.endpoint, headers, body, self.timeout, MAX_ANSWER).await?;
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

fn headers(options: &TraceOptions) -> Result<HeaderMap, TraceError> {
    let mut headers = HeaderMap::new();
    let path = &options.header_file;
    if path.as_os_str().is_empty() {
        return Ok(headers);
    }
    let file = secret_file::read(path, MAX_HEADERS)?;
    for (number, line) in file.bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let header = line.iter().position(|byte| *byte == b':').and_then(|at| {
            let name = HeaderName::from_bytes(line[..at].trim_ascii()).ok()?;
            let mut value = HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let Some((name, value)) = header else {
            return Err(TraceError::Header { path: path.clone(), line: number + 1 });
        };
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_headers_are_read_and_their_lines_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            headers(&TraceOptions { header_file: path.clone(), ..TraceOptions::default() })
        };
        let good = read("# for the collector\nAuthorization: Bearer s3cret:x\n\n x-scope : a \r\n").unwrap();
        assert_eq!(
            (good["authorization"].as_bytes(), good["x-scope"].as_bytes()),
            (&b"Bearer s3cret:x"[..], &b"a"[..])
        );
        assert!(!format!("{good:?}").contains("s3cret"));
        for wrong in ["x: 1\ns3cret", "x: 1\ns3c ret: a", "x: 1\nx: s3c\u{1}ret"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("line 2") && !error.contains("s3c"), "{error}");
        }
        assert!(headers(&TraceOptions::default()).unwrap().is_empty());
        assert!(read(&"x".repeat(MAX_HEADERS + 1)).unwrap_err().to_string().contains("at most 16384"));
    }
}
