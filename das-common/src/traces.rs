//! Traces for an OpenTelemetry collector: one from a poster's request over the fan-out to each member's disk.
//!
//! Spans are those of `tracing` under the [`TARGET`]; nobody else sees them, and while no collector is named they are not
//! made at all. Ended ones go through a bounded queue to a task that sends them (OTLP over HTTP, protobuf). A collector
//! that is away, slow or talks nonsense costs spans, which are counted, and nothing else.
//!
//! A trace goes on from process to process by the header `traceparent` of W3C Trace Context (level 1, version 00), which
//! every call of [`HttpClient`](crate::http::client::HttpClient) carries while traces are made. Whose it is is not known
//! when a request begins, so it names the trace, and decides about sampling only where callers are trusted
//! ([`TraceOptions::follow_callers`]).

mod context;
mod exporter;
mod options;
mod sampler;

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

pub use context::TRACEPARENT;
pub use exporter::Worker;
pub use options::{TraceError, TraceOptions, TraceSettings};

use exporter::Queue;
use sampler::ByTraceId;

/// The target of all spans that are for a collector.
pub const TARGET: &str = "das_trace";

/// Set once there is a collector.
static ON: OnceLock<()> = OnceLock::new();

/// What makes spans, and what sends them.
pub struct Traces {
    provider: SdkTracerProvider,
    worker: Worker,
}

impl Traces {
    /// Sets up spans as the options say; none when they name no collector.
    ///
    /// # Errors
    /// [`TraceError`]: an option is wrong, or one of its files.
    pub fn open(settings: &TraceSettings<'_>) -> Result<Option<Self>, TraceError> {
        let options = settings.options;
        if options.endpoint.is_empty() {
            return Ok(None);
        }
        options.check()?;
        let name = if options.service_name.is_empty() { settings.program } else { &options.service_name };
        // A machine that does not say its name has none in traces.
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let instance = format!("{}-{}", machine.trim(), std::process::id());
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", name.to_owned()),
                KeyValue::new("service.version", settings.version),
                KeyValue::new("service.instance.id", instance),
            ])
            .build();
        let (queue, worker) = Queue::open(settings, &resource)?;
        let sampler = ByTraceId::new(options.sample_ratio, options.follow_callers);
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        ON.get_or_init(|| ());
        Ok(Some(Self { provider, worker }))
    }

    /// What the subscriber needs.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: tracing::Subscriber + Send + Sync + for<'a> LookupSpan<'a>,
    {
        let tracer: SdkTracer = self.provider.tracer("das");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(|about| about.is_span() && about.target() == TARGET))
    }

    /// What sends spans, to be run until the end of the process.
    pub fn into_worker(self) -> Worker {
        self.worker
    }
}

/// The span of a request that came in, within the trace that its headers name.
pub(crate) fn of_request(server: &'static str, id: &str, headers: &HeaderMap) -> Span {
    let span = tracing::trace_span!(target: TARGET, "request", otel.kind = "server", server, request.id = id);
    if !span.is_disabled()
        && let Some(parent) = context::from_headers(headers)
    {
        // It fails only for spans that were entered.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
    span
}

/// The header that makes a call part of the current trace; none while no traces are made.
pub(crate) fn header() -> Option<HeaderValue> {
    ON.get()?;
    let context = Span::current().context();
    let span = context.span();
    let about = span.span_context();
    about.is_valid().then(|| context::to_header(about)).flatten()
}
