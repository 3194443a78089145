//! Log lines, and the id that ties those of one request together.

use std::fmt;
use std::future::Future;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use thiserror::Error;
use tracing::Instrument as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use super::level::{LogFormat, LogLevel};
use crate::fault;
use crate::traces::{self, Traces};

/// Logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The option `log-filter` does not parse.
    #[error(
        "--log-filter: {filter:?} is wrong: {error}; expected parts and levels such as das_node::storage=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        error: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set it up before.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up logging to standard error for this process, and logs panics like other errors.
///
/// `filter` holds levels of single parts (`das_node::storage=debug,hyper=warn`) on top of `level`; it may be empty.
/// With `traces` the spans of those are made too.
pub fn init_logging(
    level: LogLevel,
    format: LogFormat,
    filter: &str,
    traces: Option<&Traces>,
) -> Result<(), LogError> {
    let ansi = std::io::stderr().is_terminal();
    subscriber(level, format, filter, traces, ansi, std::io::stderr)?.try_init()?;
    log_panics();
    Ok(())
}

/// Where the two forms of lines meet: a registry with one of two layers, behind its filter, and that of traces.
pub(super) fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    filter: &str,
    traces: Option<&Traces>,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .with_default_directive(level.filter().into())
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), error })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Plaintext => lines.with_ansi(ansi).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    Ok(match traces {
        None => Box::new(Registry::default().with(lines).with(filter)),
        // Each sees its own spans only.
        Some(traces) => Box::new(Registry::default().with(lines.with_filter(filter)).with(traces.layer())),
    })
}

/// A panic ends one task, not the server; it must not pass unseen in JSON logs.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(code = fault::PROGRAM_PANIC.code, place, "panic: {text}");
    }));
}

/// Names one request in the log. Unique in the process, and very likely beyond it: the count starts at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The next id.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Initialized by whoever comes first; a second one that races takes the same path and only moves the start.
        if NEXT.load(Ordering::Relaxed) == 0 {
            let start = rand::random::<u64>() | 1;
            let _ = NEXT.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
        }
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Works on one request: every line logged within carries its id, and where traces are made it is part of the one that
/// its headers name. `server` is `rpc`, `rest` and the like.
pub fn within_request<T, F: Future<Output = T>>(
    server: &'static str,
    headers: &HeaderMap,
    work: F,
) -> impl Future<Output = T> + use<T, F> {
    let id = RequestId::next().to_string();
    let traced = traces::of_request(server, &id, headers);
    let logged = tracing::info_span!("request", server, id);
    work.instrument(traced).instrument(logged)
}
