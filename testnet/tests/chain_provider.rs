//! What a Nitro node's client for external DA providers does, in its order and with its tokens, against an aggregator over a
//! committee of six on a chain with the real contract.

// Helpers of tests fail like tests, and a random test prints its seed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::keccak::keccak256;
use das_testnet::custody::wait_until;
use das_testnet::load::bodies::unix_now;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::ServerProcess;
use das_testnet::promises::{Recipe, test_seed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PLAN: Plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
/// What the batch poster asks for.
const RETENTION: u64 = 15 * 24 * 3600;
const LARGEST: usize = 1_000_000;

/// HS256, written out.
fn hmac(secret: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(secret).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// The token of the engine API: when it was made, signed.
fn token(secret: &[u8; 32], issued: u64) -> String {
    let part = |json: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(json);
    let text =
        format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&format!("{{\"iat\":{issued}}}")));
    let signature = base64_simd::URL_SAFE_NO_PAD.encode_to_string(hmac(secret, text.as_bytes()));
    format!("{text}.{signature}")
}

/// A node's client.
struct Client {
    address: String,
    secret: [u8; 32],
}

impl Client {
    /// Status and body of one request, with what is said about who asks.
    fn exchange(&self, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\n{headers}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who is refused may be told before all is sent.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        let headers = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\n",
            self.address,
            token(&self.secret, unix_now())
        );
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
        let (status, text) = self.exchange(&headers, &body);
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        match answer["error"]["message"].as_str() {
            Some(message) => Err(message.to_owned()),
            None => Ok(answer["result"].clone()),
        }
    }

    fn store(&self, batch: &[u8]) -> Result<Vec<u8>, String> {
        let timeout = quantity(unix_now() + RETENTION);
        let stored = self.call("daprovider_store", &json!([const_hex::encode_prefixed(batch), timeout]))?;
        Ok(certificate_of(&stored))
    }

    fn store_in_chunks(&self, batch: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let commitment = |data: &[u8], numbers: &[u64]| {
            let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
            const_hex::encode_prefixed(keccak256(&data.iter().copied().chain(numbers).collect::<Vec<u8>>()))
        };
        let start = [
            unix_now(),
            batch.len().div_ceil(size) as u64,
            size as u64,
            batch.len() as u64,
            unix_now() + RETENTION,
        ];
        let mut params: Vec<Value> = start.iter().map(|number| json!(quantity(*number))).collect();
        params.push(json!(commitment(&[], &start)));
        let id = self.call("daprovider_startChunkedStore", &json!(params))?["BatchId"].clone();
        let number = u64::from_str_radix(id.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        for (place, chunk) in batch.chunks(size).enumerate() {
            let place = place as u64;
            let signed = commitment(chunk, &[number, place]);
            let hex = const_hex::encode_prefixed(chunk);
            self.call("daprovider_sendChunk", &json!([id, quantity(place), hex, signed]))?;
        }
        self.call("daprovider_commitChunkedStore", &json!([id, commitment(&[], &[number])]))
            .map(|stored| certificate_of(&stored))
    }

    fn recover(&self, method: &str, message: &[u8]) -> Result<Value, String> {
        let block = format!("0x{}", "ab".repeat(32));
        self.call(method, &json!([quantity(5), block, const_hex::encode_prefixed(message)]))
    }
}

fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

fn certificate_of(stored: &Value) -> Vec<u8> {
    const_hex::decode(stored["serialized-da-cert"].as_str().unwrap()).unwrap()
}

/// What the contract makes of a batch: bounds of time and block, delayed messages, then the batch.
fn sequencer_message(latest: u64, data: &[u8]) -> Vec<u8> {
    let bounds = [latest - 86_400, latest, 100, 200, 0];
    bounds.iter().flat_map(|bound| bound.to_be_bytes()).chain(data.iter().copied()).collect()
}

fn payload(recovered: &Value) -> Option<Vec<u8>> {
    recovered["Payload"].as_str().map(|text| base64_simd::STANDARD.decode_to_vec(text).unwrap())
}

/// A committee on a chain, its aggregator a provider with a token.
fn start(dir: &std::path::Path) -> (Network, ServerProcess, Client) {
    let mut network = Network::open(dir, &PLAN).unwrap().with_chain(&PLAN).unwrap();
    for member in 0..6 {
        network.start(Who::Member(member)).unwrap();
    }
    let secret = keccak256(b"a secret");
    std::fs::write(dir.join("jwt"), const_hex::encode(secret)).unwrap();
    let (aggregator, client) = start_aggregator(&network, secret);
    (network, aggregator, client)
}

fn start_aggregator(network: &Network, secret: [u8; 32]) -> (ServerProcess, Client) {
    let aggregator = network
        .launch(Who::Aggregator)
        .args(["--provider-server.enable", "--provider-server.enable-da-writer", "--provider-server.port=0"])
        .arg("--provider-server.jwtsecret")
        .arg(network.dir().join("jwt"))
        // A member that is gone is known at once; one that hangs would be another test.
        .args(["--data-availability.request-timeout", "3s"])
        .start()
        .unwrap();
    let url = aggregator.ready().url("provider").unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    (aggregator, Client { address, secret })
}

#[test]
fn a_stock_client_stores_recovers_and_collects_preimages() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (network, _aggregator, client) = start(dir.path());
    let keyset = Committee::load(network.committee_file()).unwrap().keyset().hash();

    // At its start.
    let header_bytes = client.call("daprovider_getSupportedHeaderBytes", &json!([])).unwrap();
    assert_eq!(header_bytes, json!({ "headerBytes": "0x8088" }));
    // For every batch.
    let max = client.call("daprovider_getMaxMessageSize", &json!([])).unwrap();
    assert_eq!(max, json!({ "maxSize": LARGEST }));
    let plain = Recipe { seed, size: 200_000 }.batch();
    let chunked = Recipe { seed: seed + 1, size: 700_001 }.batch();
    let certificates = [
        (&plain, client.store(&plain).unwrap()),
        (&chunked, client.store_in_chunks(&chunked, 250_000).unwrap()),
    ];
    for (batch, bytes) in &certificates {
        assert_eq!(bytes.len(), 178);
        let certificate = Certificate::parse_as_nitro(bytes).unwrap();
        assert_eq!((certificate.keyset_hash, certificate.data_hash), (keyset, DataHash::of(batch)));
        assert!(certificate.signers_mask.count_ones() >= 5, "{certificate:?}");
    }

    // At every node, and at a validator.
    let latest = unix_now() + 3600;
    for (batch, bytes) in &certificates {
        let message = sequencer_message(latest, bytes);
        let recovered = client.recover("daprovider_recoverPayload", &message).unwrap();
        assert_eq!(payload(&recovered).as_ref(), Some(*batch));
        let collected = client.recover("daprovider_collectPreimages", &message).unwrap();
        let both = client.recover("daprovider_recoverPayloadAndPreimages", &message).unwrap();
        assert_eq!(both, json!({ "Payload": recovered["Payload"], "Preimages": collected["Preimages"] }));
        let preimages = both["Preimages"]["0"].as_object().unwrap();
        let mut bytes = 0;
        for (hash, preimage) in preimages {
            let preimage = base64_simd::STANDARD.decode_to_vec(preimage.as_str().unwrap()).unwrap();
            assert_eq!(*hash, const_hex::encode_prefixed(keccak256(&preimage)));
            bytes += preimage.len();
        }
        assert!(bytes > batch.len(), "the payload is not among its preimages");
        // A data hash is the root's plain hash with one bit turned.
        for hash in [keyset, DataHash::of(batch)] {
            let mut root = *hash.as_bytes();
            root[0] ^= 0x80;
            assert!(preimages.contains_key(&const_hex::encode_prefixed(root)), "{hash} has no root");
        }
    }

    // What every node takes for an empty batch: an answer, and no error.
    let good = &certificates[0].1;
    let forged = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        sequencer_message(latest, &bytes)
    };
    let ignored = json!({ "Payload": null, "Preimages": null });
    // The signature; the timeout, which is signed; a version to come; one that ends too early; one that was cut off.
    let messages = [
        forged(150),
        forged(72),
        forged(73),
        sequencer_message(unix_now() + RETENTION - 7 * 86_400 + 60, good),
        sequencer_message(latest, &good[..100]),
    ];
    for message in &messages {
        let answer = client.recover("daprovider_recoverPayloadAndPreimages", message);
        assert_eq!(answer.as_ref(), Ok(&ignored));
    }
    // A keyset that the chain does not know is not an ignored batch: the node has to try again.
    let error = client.recover("daprovider_recoverPayload", &forged(20)).unwrap_err();
    assert!(error.contains("keyset"), "{error}");

    let error = client.store(&vec![1; LARGEST + 1]).unwrap_err();
    assert!(error.contains("message too large for current DA backend"), "{error}");

    // Tokens.
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"daprovider_getMaxMessageSize","params":[]}"#;
    let host = format!("Host: {}\r\n", client.address);
    let bearer =
        |secret: &[u8; 32], issued| format!("{host}Authorization: Bearer {}\r\n", token(secret, issued));
    let (now, secret) = (unix_now(), &client.secret);
    let by_name = bearer(secret, now).replace("127.0.0.1", "attacker.example");
    let refused = [
        (host.clone(), 401, "missing token"),
        (bearer(&[7; 32], now), 401, "signature is invalid"),
        (bearer(secret, now - 120), 401, "stale token"),
        (bearer(secret, now + 120), 401, "future token"),
        (by_name, 403, "invalid host specified"),
    ];
    for (headers, status, text) in refused {
        let answer = client.exchange(&headers, ask);
        assert_eq!((answer.0, answer.1.trim()), (status, text), "{headers}");
    }
    assert_eq!(client.exchange(&bearer(secret, now), ask).0, 200);
}

#[test]
fn with_one_member_gone_it_stores_with_two_it_asks_for_the_fallback_and_trouble_is_no_empty_batch() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut network, aggregator, client) = start(dir.path());
    let batch = |place| Recipe { seed: seed + place, size: 30_000 }.batch();

    network.kill(Who::Member(4)).unwrap();
    let certificate = client.store(&batch(0)).unwrap();
    network.kill(Who::Member(1)).unwrap();
    let error = client.store(&batch(1)).unwrap_err();
    // By the first words the batch poster takes its next writer; the last are those of Nitro's own aggregator.
    assert!(error.starts_with("DA provider requests fallback to next writer"), "{error}");
    assert!(error.contains("unable to batch to DAS"), "{error}");
    let error = client.store_in_chunks(&batch(2), 10_000).unwrap_err();
    assert!(error.starts_with("DA provider requests fallback to next writer"), "{error}");

    // Nobody has it: an error, so that the node asks again. An empty answer would fork the chain.
    let message = sequencer_message(unix_now() + 3600, &certificate);
    for member in 0..6 {
        network.kill(Who::Member(member)).unwrap();
    }
    drop(aggregator);
    let (_aggregator, client) = start_aggregator(&network, client.secret);
    for method in
        ["daprovider_recoverPayload", "daprovider_collectPreimages", "daprovider_recoverPayloadAndPreimages"]
    {
        let error = client.recover(method, &message).unwrap_err();
        assert!(!error.contains("error validating recovered payload from batch"), "{error}");
    }
    for member in [0, 2, 3, 4, 5] {
        network.start(Who::Member(member)).unwrap();
    }
    let recovered = || client.recover("daprovider_recoverPayload", &message);
    let is_back = || recovered().is_ok_and(|recovered| payload(&recovered).as_ref() == Some(&batch(0)));
    assert!(wait_until(Duration::from_secs(60), is_back).is_some(), "{:?}", recovered());
    let stored = || client.store(&batch(1)).is_ok();
    assert!(wait_until(Duration::from_secs(60), stored).is_some(), "{:?}", client.store(&batch(1)));
}
