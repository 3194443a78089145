//! The metrics server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use das_common::telemetry::MetricsHandle;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::health::Health;

/// Where Nitro's dashboards scrape.
const PROMETHEUS: &str = "/debug/metrics/prometheus";

/// The routes of the metrics server.
pub fn router(metrics: MetricsHandle, health: Arc<Health>) -> axum::Router {
    axum::Router::new().fallback(move |request: Request| {
        let (metrics, health) = (metrics.clone(), Arc::clone(&health));
        async move {
            let (text, kind) = match request.uri().path() {
                PROMETHEUS | "/metrics" => (metrics.render(), "text/plain; version=0.0.4; charset=utf-8"),
                "/status" => (format!("{}\n", health.status().await.json()), "application/json"),
                _ => {
                    let mut response = Response::new(Body::from(format!("metrics are at {PROMETHEUS}\n")));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    return response;
                }
            };
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
    })
}
