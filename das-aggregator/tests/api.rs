//! The `das_*` calls of the aggregator, over members in this process.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "members/fakes.rs"]
mod fakes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use das_aggregator::api::rpc::DasMethods;
use das_aggregator::certificates::Certificates;
use das_aggregator::fan_out::FanOutLimits;
use das_aggregator::read::{CacheLimits, Reads};
use das_aggregator::store::{Admission, Stores};
use das_aggregator::watch::Watch;
use das_common::alarm::Alarms;
use das_common::certificate::Certificate;
use das_common::chunked::{Bounds, PendingStores};
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::http::rest::Scope;
use das_common::json_rpc::{self, RpcLimits, run_request};
use das_common::rest_reader::{RestReader, RestReaderOptions};
use das_common::rpc_client::MemberClient;
use das_common::store_auth::{RequestDigest, StoreKey, StoreSigners};
use das_common::wire::StoreResult;
use fakes::{Acts, Committee, TIMEOUT};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Front {
    committee: Committee,
    methods: Arc<DasMethods>,
    reads: Reads,
    alarms: Alarms,
}

impl Front {
    async fn new(acts: &[Acts], admission: Admission, key: Option<StoreKey>) -> Self {
        let limits = FanOutLimits { member_timeout: Duration::from_secs(20), ..FanOutLimits::default() };
        let committee = Committee::new(acts, 2, limits).await;
        let reader = RestReader::new(RestReaderOptions::default(), HttpClient::default()).unwrap();
        let reads = Reads::new(reader, CacheLimits { bytes: 10 << 20, batches: 100 });
        let alarms = Alarms::new();
        let fan_out = committee.fan_out.clone();
        let watch = Watch::new(fan_out.clone(), alarms.clone(), Duration::from_secs(20), None);
        let stop = CancellationToken::new();
        let certificates = Certificates::start(&fan_out, Vec::new(), HttpClient::default(), &stop);
        let key = key.map(Arc::new);
        let stores = Stores::new(fan_out, reads.clone(), admission, key, certificates, alarms.clone());
        let pending = PendingStores::new(Bounds::default());
        let methods = Arc::new(DasMethods::new(stores, watch, pending));
        Self { committee, methods, reads, alarms }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let answer = run_request(&*self.methods, Bytes::from(request), &RpcLimits::default()).await;
        serde_json::from_slice(&answer).unwrap()
    }

    /// The certificate in an answer to a store, checked.
    fn certificate(&self, answer: &Value, message: &[u8]) -> Certificate {
        let result: StoreResult =
            serde_json::from_value(answer["result"].clone()).unwrap_or_else(|_| panic!("{answer}"));
        let certificate = Certificate {
            version: 1,
            keyset_hash: DataHash::from_bytes(result.keyset_hash),
            data_hash: DataHash::from_bytes(result.data_hash),
            timeout: result.timeout,
            signers_mask: result.signers_mask,
            signature: result.sig.try_into().unwrap(),
        };
        assert_eq!((result.version, result.timeout), (1, TIMEOUT));
        assert_eq!(certificate.data_hash, DataHash::of(message));
        certificate.verify(&self.committee.keyset).unwrap();
        certificate
    }
}

fn hex(bytes: &[u8]) -> Value {
    const_hex::encode_prefixed(bytes).into()
}

fn store_params(key: &StoreKey, message: &[u8]) -> Value {
    let signature = key.sign(&RequestDigest::store(message, TIMEOUT));
    json!([hex(message), format!("{TIMEOUT:#x}"), hex(&signature)])
}

fn only(key: &StoreKey) -> Admission {
    Admission::Signers(StoreSigners::allowing(vec![key.address()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_answered_with_a_certificate_and_read_back_at_once() {
    let poster = StoreKey::generate();
    let front = Front::new(&vec![Acts::Honest; 3], Admission::Members, None).await;
    let answer = front.call("das_store", store_params(&poster, b"a batch")).await;
    let certificate = front.certificate(&answer, b"a batch");
    assert!(certificate.signers_mask.count_ones() >= 2);
    // No REST endpoint is known: it is there because it was just stored.
    assert!(front.reads.encoded(&DataHash::of(b"a batch"), Scope::Everywhere).await.unwrap().is_some());
    assert_eq!(front.call("das_healthCheck", json!([])).await["result"], Value::Null);
    assert_eq!(front.call("das_expirationPolicy", json!([])).await["result"], "KeepForever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_before_any_member_hears_of_it() {
    let (poster, stranger) = (StoreKey::generate(), StoreKey::generate());
    let front = Front::new(&vec![Acts::Honest; 3], only(&poster), None).await;
    let answer = front.call("das_store", store_params(&stranger, b"a batch")).await;
    assert_eq!(answer["error"]["code"], -32000);
    assert_eq!(answer["error"]["message"], "request not properly signed");
    for fake in &front.committee.fakes {
        assert!(fake.methods.lock().is_empty());
    }
    front.certificate(&front.call("das_store", store_params(&poster, b"a batch")).await, b"a batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_raises_an_alarm_that_the_next_certificate_ends() {
    let poster = StoreKey::generate();
    let acts =
        [Acts::Honest, Acts::Refuses("no space left on device"), Acts::Refuses("no space left on device")];
    let front = Front::new(&acts, Admission::Members, None).await;
    let answer = front.call("das_store", store_params(&poster, b"a batch")).await;
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("unable to batch to DAS") && text.contains("member-2: no space left"), "{text}");
    assert_eq!(answer["error"]["code"], -32000);
    assert_eq!(front.alarms.list().len(), 1);
    let health = front.call("das_healthCheck", json!([])).await;
    assert_eq!(health["error"]["message"], "1 members are well, 2 are needed");
    *front.committee.fakes[1].acts.lock() = Acts::Honest;
    front.certificate(&front.call("das_store", store_params(&poster, b"a batch")).await, b"a batch");
    assert!(front.alarms.list().iter().all(|alarm| alarm.code != das_common::fault::QUORUM_MISSED.code));
}

/// What comes in chunks is signed by the aggregator, so it must have a key and know whom to sign for. Clients of the
/// recorded servers look for this text and turn to the plain store.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_refused_in_words_that_make_clients_store_plainly() {
    let keyless = Front::new(&[Acts::Honest, Acts::Honest], Admission::Anybody, None).await;
    let unknowing =
        Front::new(&[Acts::Honest, Acts::Honest], Admission::Members, Some(StoreKey::generate())).await;
    for (front, why) in [(keyless, "store-key.file"), (unknowing, "allowed-signers")] {
        let params = json!(["0x1", "0x1", "0x1", "0x1", "0x1", "0x"]);
        let answer = front.call("das_startChunkedStore", params).await;
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(
            text.starts_with("the method das_startChunkedStore does not exist/is not available"),
            "{text}"
        );
        assert!(text.contains(why), "{text}");
    }
}

/// Over HTTP with our own client, which sends chunks as Nitro's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_store_reaches_every_member_in_the_aggregators_name() {
    let (poster, own) = (StoreKey::generate(), StoreKey::generate());
    let own_address = own.address();
    let front = Front::new(&vec![Acts::Honest; 3], only(&poster), Some(own)).await;
    let (listener, url) = fakes::listener().await;
    let router = json_rpc::router(front.methods.clone(), RpcLimits::default());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = MemberClient::new(Endpoint::parse(&url).unwrap(), HttpClient::default());
    let message = Bytes::from(vec![3; 300_000]);
    let (limit, deadline) = (70_000, Duration::from_secs(20));
    let answer = client.store_chunked(&message, TIMEOUT, &poster, limit, deadline).await.unwrap();
    front.certificate(&json!({ "result": serde_json::to_value(&answer).unwrap() }), &message);
    let hash = DataHash::of(&message);
    for fake in &front.committee.fakes {
        fakes::until("every member has the batch", || fake.has(&hash)).await;
        assert_eq!(*fake.stored.lock(), [(hash, own_address)]);
    }
    let stranger = StoreKey::generate();
    let error = client.store_chunked(&message, TIMEOUT, &stranger, limit, deadline).await.unwrap_err();
    assert!(error.to_string().contains("request not properly signed"), "{error}");
}
