use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::logging::subscriber;
use super::*;
use crate::alarm::Alarms;
use crate::config::{OptionValue, RawValue};
use crate::json_rpc::{self, Methods, Params, RawJson, RpcError};

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(level: LogLevel, format: LogFormat, filter: &str) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = subscriber(level, format, filter, None, false, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let talk = async { tracing::info!(bytes = 5, "stored") };
        futures::executor::block_on(within_request("rpc", &http::HeaderMap::new(), talk));
        tracing::debug!("a detail");
    });
    let bytes = lines.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn lines_carry_the_request_in_both_forms() {
    let json = logged(LogLevel::Info, LogFormat::Json, "");
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(
        (&line["message"], &line["bytes"], &line["level"]),
        (&"stored".into(), &5.into(), &"INFO".into())
    );
    assert_eq!(line["span"]["server"], "rpc");
    assert_eq!(line["span"]["id"].as_str().map(str::len), Some(16));

    let plain = logged(LogLevel::Debug, LogFormat::Plaintext, "");
    assert!(plain.contains("INFO request{server=\"rpc\" id=") && plain.contains("a detail"), "{plain}");
    assert!(!logged(LogLevel::Debug, LogFormat::Plaintext, "das_common=info").contains("a detail"));
    assert!(subscriber(LogLevel::Info, LogFormat::Json, "=;=", None, false, std::io::sink).is_err());
}

/// Logs in the middle of a call.
struct Talker;

impl Methods for Talker {
    fn namespace(&self) -> &'static str {
        "das"
    }
    async fn call(&self, _: &str, _: Params) -> Option<Result<RawJson, RpcError>> {
        tokio::task::yield_now().await;
        tracing::warn!("in the call");
        Some(Ok(RawJson::NULL))
    }
}

#[tokio::test]
async fn what_a_method_logs_carries_the_id_of_its_request() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        subscriber(LogLevel::Info, LogFormat::Json, "", None, false, move || writer.clone()).unwrap();
    let _guard = tracing::subscriber::set_default(subscriber);
    let router = json_rpc::router(Arc::new(Talker), json_rpc::RpcLimits::default());
    let call = || {
        let body = axum::body::Body::from(r#"{"jsonrpc":"2.0","id":1,"method":"das_x"}"#);
        http::Request::post("/").header("content-type", "application/json").body(body).unwrap()
    };
    let (one, two) = (router.clone().oneshot(call()), router.oneshot(call()));
    let _ = tokio::join!(one, two);
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    let ids: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["span"]["id"].to_string())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids[0].len() == 18, "{text}");
}

#[test]
fn request_ids_differ() {
    let first = RequestId::next();
    assert_ne!(first, RequestId::next());
}

#[test]
fn levels_have_nitros_names_and_numbers() {
    let level = |text: &str| LogLevel::parse(&RawValue::Text(text.to_owned()));
    for (name, number, expected) in
        [("CRIT", "0", LogLevel::Crit), ("info", "3", LogLevel::Info), ("TRACE", "5", LogLevel::Trace)]
    {
        assert_eq!((level(name), level(number)), (Some(expected), Some(expected)));
        assert!(expected.to_raw() == RawValue::Text(name.to_uppercase()));
    }
    assert_eq!((level("NOPE"), level("6"), level("")), (None, None, None));
}

#[tokio::test]
async fn metrics_have_nitros_names_and_units() {
    let handle = init_metrics();
    let (stores, reads) = (Meter::of_stores(), Meter::of_reads());
    stores.succeeded(Instant::now(), 1_000);
    stores.failed(Instant::now());
    reads.succeeded(Instant::now(), 7);
    let (success, _) = member_store_counters("alice.example.org");
    success.increment(1);
    metrics::gauge!(names::RPC_AGGREGATOR_STORE_ERROR).set(0.0);
    Alarms::new().raise("DAS-TEST-002", "for the metric", "none needed");
    let shutdown = CancellationToken::new();
    let watch = watch_process(init_metrics(), "test", "1", Duration::from_millis(100), shutdown.clone());
    let _ = tokio::time::timeout(Duration::from_millis(50), watch).await;

    let page = handle.render();
    for expected in [
        "# TYPE arb_das_rpc_store_requests counter\narb_das_rpc_store_requests 2\n",
        "arb_das_rpc_store_success 1\n",
        "arb_das_rpc_store_failure 1\n",
        "arb_das_rpc_store_bytes 1000\n",
        "# TYPE arb_das_rpc_store_duration summary\narb_das_rpc_store_duration{quantile=\"0.5\"}",
        "arb_das_rpc_store_duration_count 2\n",
        "arb_das_rest_getbyhash_requests 1\n",
        "arb_das_rpc_aggregator_store_alice_example_org_success_total 1\n",
        "arb_das_rpc_aggregator_store_error_gauge 0\n",
        "das_store_duration_seconds_bucket{result=\"ok\",size=\"1kB\",le=\"0.05\"}",
        "das_alarm{code=\"DAS-TEST-002\"} 1\n",
        "das_build_info{program=\"test\",version=\"1\"} 1\n",
    ] {
        assert!(page.contains(expected), "missing: {expected}\nin: {page}");
    }
    let memory = page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    assert!(memory.and_then(|n| n.parse::<f64>().ok()).is_some_and(|n| n > 100_000.0), "{memory:?}");
}

#[test]
fn names_of_hosts_are_made_nitros_way() {
    assert_eq!(canonical_metric_name("127.0.0.1"), "127_0_0_1");
    assert_eq!(canonical_metric_name("a--b._c:1"), "a_b__c:1");
}
