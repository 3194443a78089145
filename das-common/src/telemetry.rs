//! Logs and metrics of a server.
//!
//! Logs go to standard error, one line each, as text or as JSON; standard output is for the line that says that the
//! server is ready. A request's lines carry its id, through the span of [`within_request`].
//!
//! Metrics are rendered by [`MetricsHandle::render`] in Prometheus' text form. The names on the dashboards of Nitro's
//! operators (spec section 11) are there with the units those dashboards expect, our own beside them; all are in
//! [`names`].

mod level;
mod logging;
mod metering;
pub mod names;
mod process;
mod traffic;

pub use level::{LogFormat, LogLevel};
pub use logging::{LogError, RequestId, init_logging, within_request};
pub use metering::{Meter, MetricsHandle, canonical_metric_name, init_metrics, member_store_counters};
pub(crate) use process::open_process_files;
pub use process::{ProcessUse, process_use, watch_process};
pub use traffic::{Traffic, traffic};

#[cfg(test)]
mod tests;
