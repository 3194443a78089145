//! The HTTP ports of a node, as an OpenAPI document.

use das_common::http::rest::describe;
use das_common::openapi::{Answer, Document};
use serde_json::{Value, json};

use crate::custody::CustodyReport;
use crate::health::NodeStatus;

/// The document.
pub fn openapi() -> Value {
    let about = "The REST port of a member, a mirror or a read node. `/status` is on the metrics and the dashboard port too, \
                 `/metrics` on the metrics port only.";
    let mut document = Document::new("das-node", about);
    describe::<NodeStatus, CustodyReport>(&mut document, true);
    document.get(
        "/metrics",
        "All metrics in Prometheus' text form; also at /debug/metrics/prometheus.",
        &[],
        vec![Answer::with(200, "The metrics.", "text/plain", json!({ "type": "string" }))],
    );
    document.finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_up_to_date() {
        das_common::openapi::check("docs/openapi-das-node.json", &super::openapi());
    }
}
