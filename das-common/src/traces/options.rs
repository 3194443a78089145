//! What is traced, and where the traces go.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::fault::{self, Coded, Fault};
use crate::http::client::{EndpointError, TlsError, TlsFiles};
use crate::options;
use crate::secret_file::SecretFileError;

options! {
    /// Traces for an OpenTelemetry collector.
    pub struct TraceOptions {
        /// URL that a collector takes traces at (OTLP over HTTP, protobuf), such as http://127.0.0.1:4318/v1/traces;
        /// empty: none are made.
        endpoint: String,
        /// File with headers for the collector, one a line as "name: value": its credentials.
        header_file: PathBuf,
        /// Share of the requests that are traced, 0 to 1, chosen by the trace's id: servers with the same share choose
        /// the same traces.
        sample_ratio: f64 = "1",
        /// Let a caller's traceparent decide whether a request is traced. Only where all callers are trusted.
        follow_callers: bool = "false",
        /// The service's name in traces; empty: the program's.
        service_name: String,
        /// Spans kept until the collector has taken them; further ones are dropped, and counted.
        queue: usize = "4096",
        /// Longest time for the collector to take some; and at the end for those that are left.
        timeout: Duration = "5s",
    }
}

/// What traces are made with.
#[derive(Debug)]
pub struct TraceSettings<'a> {
    /// The options.
    pub options: &'a TraceOptions,
    /// How a collector with an https URL is known.
    pub tls: TlsFiles,
    /// The program's name.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Why no traces can be made.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The URL.
    #[error("--traces.endpoint: {0}")]
    Endpoint(#[from] EndpointError),
    /// The share.
    #[error("--traces.sample-ratio: {got} is not from 0 to 1")]
    Ratio {
        /// What was given.
        got: f64,
    },
    /// No room for a span.
    #[error("--traces.queue: it is 0; give at least 1")]
    Queue,
    /// The file with headers.
    #[error("--traces.header-file: {0}")]
    HeaderFile(#[from] SecretFileError),
    /// A line of it. What it says is not repeated: it may be a credential.
    #[error("--traces.header-file: line {line} of {} is not as \"name: value\"", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Certificates for calling it.
    #[error("--tls.outgoing: {0}")]
    Tls(#[from] TlsError),
    /// The exporter does not take the settings.
    #[error("--traces.endpoint: {0}")]
    Exporter(String),
}

impl Coded for TraceError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Tls(error) => error.fault(),
            _ => fault::CONFIG_VALUE,
        }
    }
}

impl TraceOptions {
    pub(super) fn check(&self) -> Result<(), TraceError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(TraceError::Ratio { got: self.sample_ratio });
        }
        if self.queue == 0 { Err(TraceError::Queue) } else { Ok(()) }
    }
}
