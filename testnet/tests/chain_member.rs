//! A member that takes orders from the contract's batch posters: real das-node, real contract.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use das_common::store_auth::{Address, StoreKey};
use das_testnet::chain::DevChain;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{store_body, unix_now};
use das_testnet::process::{Launch, ServerProcess};
use serde_json::Value;

const KEY: &str = "F90HspUZooyBFBn6gJTAxtJ44QcnLQEtTbK95aDREro=";

/// Far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(byte: u8) -> StoreKey {
    StoreKey::from_hex(&const_hex::encode([byte; 32])).unwrap()
}

fn on_chain(address: Address) -> alloy_primitives::Address {
    (*address.as_bytes()).into()
}

/// Nothing, or the error that a store is answered with.
fn store(server: &ServerProcess, key: &StoreKey) -> Result<(), String> {
    let body = store_body(key, b"a batch of this rollup", unix_now() + 3600);
    let answer = Connection::new(&server.rpc_url()).unwrap().post_json(&[&body.json]).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    match answer["error"]["message"].as_str() {
        Some(message) => Err(message.to_owned()),
        None => {
            assert!(answer["result"]["sig"].is_string(), "{answer}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_says_who_may_store_and_its_absence_stops_nobody_who_is_known() {
    let mut chain = DevChain::start().await.unwrap();
    let (poster, sequencer, late, stranger) = (key(1), key(2), key(3), key(4));
    chain.set_batch_poster(on_chain(poster.address()), true).await.unwrap();
    chain.set_sequencer(on_chain(sequencer.address()), true).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let (url, inbox) = (chain.url().to_owned(), chain.inbox().to_string());
    let member = |more: &[&str]| {
        Launch::new("das-node")
            .args(["--enable-rpc", "--rpc-port", "0", "--enable-rest", "--rest-port", "0"])
            .args(["--data-availability.local-file-storage.enable", "--data-availability.key.priv-key", KEY])
            .arg("--data-availability.local-file-storage.data-dir")
            .arg(data.path())
            .args(["--parent-chain.poll-interval", "100ms", "--parent-chain.node-url", &url])
            .args(["--parent-chain.sequencer-inbox-address", &inbox])
            .args(more)
    };
    let mut server = member(&[]).start().unwrap();

    assert_eq!(store(&server, &poster), Ok(()));
    assert_eq!(store(&server, &sequencer), Ok(()));
    assert_eq!(store(&server, &stranger), Err("request not properly signed".into()));

    // Rights that come and go are seen by their events, not by the hour for which answers count.
    chain.set_batch_poster(on_chain(late.address()), true).await.unwrap();
    chain.set_batch_poster(on_chain(poster.address()), false).await.unwrap();
    wait_until(PATIENCE, || store(&server, &late) == Ok(())).unwrap();
    wait_until(PATIENCE, || store(&server, &poster) == Err("request not properly signed".into())).unwrap();

    // The chain is away: who is known stores, of others it cannot be told, and that is not "no".
    chain.stop().unwrap();
    assert_eq!(store(&server, &sequencer), Ok(()));
    let untold = store(&server, &key(5)).unwrap_err();
    assert!(untold.contains("cannot tell now") && untold.contains("try again"), "{untold}");
    server.stop().unwrap();

    // A start asks for the chain id, unless it is given.
    let (status, output) = member(&["--parent-chain.connection-attempts", "2"]).run_to_end(PATIENCE).unwrap();
    assert!(!status.success());
    assert!(output.contains("--parent-chain.chain-id") && output.contains("DAS-CHAIN-001"), "{output}");
    let chain_id = chain.chain_id().to_string();
    let server = member(&["--parent-chain.chain-id", &chain_id]).start().unwrap();
    assert!(store(&server, &sequencer).unwrap_err().contains("cannot tell now"));
    chain.resume().await.unwrap();
    wait_until(PATIENCE, || store(&server, &sequencer) == Ok(())).unwrap();
    drop(server);

    // Another chain behind the URL is never asked who may store.
    let server = member(&["--parent-chain.chain-id", "42161"]).start().unwrap();
    assert!(store(&server, &sequencer).unwrap_err().contains("cannot tell now"));
    assert!(server.output().contains("DAS-CHAIN-002"), "{}", server.output());
}
