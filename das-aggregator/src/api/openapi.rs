//! The HTTP ports of an aggregator, as an OpenAPI document.

use das_common::http::rest::describe;
use das_common::openapi::{Answer, Document};
use serde_json::{Value, json};

use super::status::Status;
use crate::post::status::BatchStatus;

/// The document.
pub fn openapi() -> Value {
    let about = "The REST port of an aggregator. `/status` is on the metrics and the dashboard port too, `/metrics` on the metrics \
                 port only, `/batches/events` on the JSON-RPC port where posting is enabled.";
    let mut document = Document::new("das-aggregator", about);
    describe::<Status, ()>(&mut document, false);
    document.get(
        "/metrics",
        "All metrics in Prometheus' text form; also at /debug/metrics/prometheus.",
        &[],
        vec![Answer::with(200, "The metrics.", "text/plain", json!({ "type": "string" }))],
    );
    let batch = document.schema::<BatchStatus>();
    document.get(
        "/batches/events",
        "Server-sent events named `batch`: first how far each batch is that is not final, then every change. An event named \
         `missed` says how many changes were too fast for this listener.",
        &[],
        vec![Answer::with(200, "A stream of events; the data of each is such an object.", "text/event-stream", batch)],
    );
    document.finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_up_to_date() {
        das_common::openapi::check("docs/openapi-das-aggregator.json", &super::openapi());
    }
}
