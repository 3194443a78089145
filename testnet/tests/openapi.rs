//! The OpenAPI documents say what the servers answer: every answer of a live committee fits its schema.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use das_common::store_auth::StoreKey;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::network::{Network, Plan, Who};
use serde_json::{Value, json};

fn document(program: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/openapi-{program}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Expects the answer to be one that the document has, and its body to fit.
fn fits(document: &Value, path: &str, status: u16, body: &[u8]) {
    let answer = &document["paths"][path]["get"]["responses"][status.to_string()];
    assert!(answer.is_object(), "{path} answered {status}, which the document does not have");
    let Some(content) = answer.get("content") else {
        assert!(body.is_empty(), "{path} {status}: a body that the document does not have");
        return;
    };
    let Some(schema) = content.get("application/json") else { return };
    // References of the schema lead into the document.
    let mut whole = schema["schema"].clone();
    whole["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&whole).unwrap();
    let value: Value = serde_json::from_slice(body).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{path}: {wrong:#?} in {value:#}");
    if let Some(example) = schema.get("example") {
        assert!(validator.is_valid(example), "{path}: the example does not fit its schema");
    }
    // A schema that lets everything through would prove nothing.
    assert!(!validator.is_valid(&json!("a text")), "{path}: anything fits");
}

#[test]
fn answers_fit_their_documents() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap().with_aggregator_options([
        "--canary.enable",
        "--canary.interval",
        "1s",
        "--canary.retention",
        "10m",
    ]);
    network.start_all(|_, _| ()).unwrap();
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let key = StoreKey::from_hex(key.trim()).unwrap();
    let body = store_body(&key, b"a batch", unix_now() + 3_600);
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    Connection::new(&rpc).unwrap().post_json(&[&body.json]).unwrap();
    // One round of the canary, so that it is in the status.
    std::thread::sleep(std::time::Duration::from_secs(3));
    for (who, program) in [(Who::Aggregator, "das-aggregator"), (Who::Member(0), "das-node")] {
        let document = document(program);
        let addresses = network.addresses(who).unwrap();
        let mut rest = Connection::new(&addresses.rest).unwrap();
        let mut ask = |template: &str, hash: &str| {
            let answer = rest.get(&template.replace("{hash}", hash)).unwrap();
            fits(&document, template, answer.status, &answer.body);
        };
        for path in ["/health", "/expiration-policy", "/status"] {
            ask(path, "");
        }
        if program == "das-node" {
            ask("/custody", "");
        }
        for path in ["/get-by-hash/{hash}", "/certificate/{hash}"] {
            ask(path, &body.hash.to_string());
            ask(path, &"0".repeat(64));
            ask(path, "nonsense");
        }
        let metrics = Connection::new(&addresses.metrics).unwrap().get("/metrics").unwrap();
        fits(&document, "/metrics", metrics.status, &metrics.body);
    }
}
