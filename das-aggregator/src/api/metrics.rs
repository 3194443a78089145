//! The metrics server.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use das_common::telemetry::MetricsHandle;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::status::StatusSource;

/// Where Nitro's dashboards scrape.
const PROMETHEUS: &str = "/debug/metrics/prometheus";

/// The routes of the metrics server: the exposition, and the same state as on the REST port.
pub fn metrics_router(metrics: MetricsHandle, status: StatusSource) -> axum::Router {
    axum::Router::new().fallback(move |request: Request| {
        let answer = match request.uri().path() {
            PROMETHEUS | "/metrics" => Some((metrics.render(), "text/plain; version=0.0.4; charset=utf-8")),
            "/status" => Some((format!("{}\n", status.json()), "application/json")),
            _ => None,
        };
        let (text, kind, code) = match answer {
            Some((text, kind)) => (text, kind, StatusCode::OK),
            None => (format!("metrics are at {PROMETHEUS}\n"), "text/plain", StatusCode::NOT_FOUND),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        std::future::ready(response)
    })
}
