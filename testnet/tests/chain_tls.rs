//! The parent chain over https: who reads it and who posts to it through an endpoint that speaks TLS, and what is said when
//! its certificate is not right.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod poster;

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::http::server::{Door, Limits, serve_over};
use das_common::store_auth::StoreKey;
use das_common::tls::{ServerFiles, ServerTls, TlsVersion};
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::process::{Launch, ServerProcess};
use das_testnet::tls::{Authority, Identity, InForce};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use poster::{PATIENCE, World};

const KEY: &str = "F90HspUZooyBFBn6gJTAxtJ44QcnLQEtTbK95aDREro=";
/// Where providers keep the customer's key.
const PATH: &str = "/v3/a-key-of-the-provider";

/// Ends TLS before an endpoint that speaks none.
struct Terminator {
    port: u16,
    stop: CancellationToken,
}

impl Terminator {
    async fn start(upstream: &str, identity: &Identity) -> Self {
        let files = ServerFiles {
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            min_version: TlsVersion::Tls13,
            clients: None,
        };
        let tls = ServerTls::open(files).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
        let (http, upstream) = (HttpClient::default(), Endpoint::parse(upstream).unwrap());
        let router = Router::new().fallback(move |body: Bytes| async move {
            let answer = http.post_json(&upstream, body, Duration::from_secs(30), 64 << 20).await.unwrap();
            (answer.status, [(CONTENT_TYPE, "application/json")], answer.body)
        });
        let door = Door { tls: Some(tls.for_everybody()), clients: None };
        tokio::spawn(serve_over(door, listener, router, Limits::default(), stop.clone()));
        Self { port, stop }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}{PATH}", self.port)
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A member that asks the contract who may store, by an endpoint whose authority is in this file.
fn member(world: &World, url: &str, authority: Option<PathBuf>) -> Launch {
    let data = world.home.path().join("by-https");
    std::fs::create_dir_all(&data).unwrap();
    let launch = Launch::new("das-node")
        .args(["--enable-rpc", "--rpc-port", "0", "--data-availability.local-file-storage.enable"])
        .args(["--data-availability.key.priv-key", KEY, "--data-availability.local-file-storage.data-dir"])
        .arg(data)
        .args(["--parent-chain.node-url", url, "--parent-chain.poll-interval", "100ms"])
        .args(["--parent-chain.connection-attempts", "1", "--parent-chain.sequencer-inbox-address"])
        .arg(world.chain.inbox().to_string());
    match authority {
        Some(file) => launch.arg("--parent-chain.ca").arg(file),
        None => launch,
    }
}

/// A member and an aggregator, which both ask for the chain's id once.
fn launches(world: &mut World, url: &str, authority: Option<&Authority>) -> [Launch; 2] {
    url.clone_into(&mut world.node_url);
    let file = authority.map(Authority::file);
    let aggregator = world.launch(&["--parent-chain.connection-attempts", "1"]);
    let aggregator = match &file {
        Some(file) => aggregator.arg("--parent-chain.ca").arg(file),
        None => aggregator,
    };
    [member(world, url, file), aggregator]
}

/// The signature, or the error that a store is answered with.
fn store(server: &ServerProcess, key: &StoreKey) -> Result<String, String> {
    let body = store_body(key, b"a batch of this rollup", unix_now() + 3600);
    let answer = Connection::new(&server.rpc_url()).unwrap().post_json(&[&body.json]).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&answer["result"]["sig"]).ok_or_else(|| text(&answer["error"]["message"]).unwrap())
}

/// A start that must fail, and what it must say.
#[track_caller]
fn refuses(launch: &Launch, words: &str) {
    let (status, said) = launch.run_to_end(PATIENCE).unwrap();
    assert!(!status.success(), "it started: {said}");
    for words in ["--parent-chain.node-url", "DAS-CHAIN-001", "DAS-TLS-005", "to do:", words] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("a-key-of-the-provider"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_is_read_and_posted_to_over_https_and_a_wrong_certificate_is_refused() {
    let mut world = World::new(7, &[]).await;
    world.kill_aggregator();
    let folder = |name: &str| world.home.path().join(name);
    let (ours, theirs) =
        (Authority::new(&folder("ours")).unwrap(), Authority::new(&folder("theirs")).unwrap());
    let upstream = world.chain.url().to_owned();
    let good = ours.issue("good", &["localhost"], InForce::Always).unwrap();
    let terminator = Terminator::start(&upstream, &good).await;
    let url = terminator.url();

    // A member learns from the contract who may store.
    let mut server = member(&world, &url, Some(ours.file())).start().unwrap();
    store(&server, &world.key).unwrap();
    let stranger = StoreKey::generate();
    assert_eq!(store(&server, &stranger), Err("request not properly signed".into()));
    // And that it changed, by events.
    world.chain.set_batch_poster(poster::account_of(&stranger), true).await.unwrap();
    wait_until(PATIENCE, || store(&server, &stranger).is_ok()).unwrap();
    server.stop().unwrap();

    // The aggregator posts through it.
    world.node_url = url.clone();
    let authority = ours.file();
    world.start_aggregator(&["--parent-chain.ca", authority.to_str().unwrap()]);
    for _ in 0..3 {
        world.post(1000);
    }
    world.all_is_on_the_chain().await;
    world.kill_aggregator();

    // Wrong certificates: of an authority that is not the one named, or named by nobody; of another name; over; and none.
    for launch in launches(&mut world, &url, Some(&theirs)).iter().chain(&launches(&mut world, &url, None)) {
        refuses(launch, "not from an authority that is trusted here");
    }
    let other = ours.issue("other", &["other.example"], InForce::Always).unwrap();
    let misnamed = Terminator::start(&upstream, &other).await;
    for launch in &launches(&mut world, &misnamed.url(), Some(&ours)) {
        refuses(launch, "of another name than the URL's");
    }
    let short = ours.issue("short", &["localhost"], InForce::For(3)).unwrap();
    let over = Terminator::start(&upstream, &short).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    for launch in &launches(&mut world, &over.url(), Some(&ours)) {
        refuses(launch, "has expired");
    }
    let plain = upstream.replace("http://127.0.0.1", "https://localhost") + PATH;
    for launch in &launches(&mut world, &plain, Some(&ours)) {
        refuses(launch, "does not speak TLS");
    }
    // What is no certificate is said before anybody is asked.
    let none = world.home.path().join("none.pem");
    let (status, said) = member(&world, &url, Some(none)).run_to_end(PATIENCE).unwrap();
    assert!(!status.success() && said.contains("DAS-TLS-001") && said.contains("none.pem"), "{said}");
}
