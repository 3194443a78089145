use std::sync::Arc;

use alloy_primitives::hex;
use das_common::alarm::Alarms;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::endpoints::Settings;
use crate::poster_key::LocalKey;
use crate::transaction::Eip1559;

type Script = Box<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// An endpoint of chain 7 that answers every other question by a script: with `result` or `error`, or, with `null`, by
/// hanging up. It notes what it is asked.
struct Node {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn node(script: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (script, notes): (Arc<Script>, _) = (Arc::new(Box::new(script)), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, notes) = (Arc::clone(&script), Arc::clone(&notes));
            tokio::spawn(async move {
                let (mut held, mut buffer) = (Vec::new(), vec![0; 65_536]);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    held.extend_from_slice(&buffer[..read]);
                    let Some(head) = held.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
                    // Nothing parses before the body is complete.
                    let Ok(request) = serde_json::from_slice::<Value>(&held[head + 4..]) else { continue };
                    held.clear();
                    let method = request["method"].as_str().unwrap().to_owned();
                    let answer = match method.as_str() {
                        "eth_chainId" => json!({ "result": "0x7" }),
                        method => {
                            notes.lock().push((method.to_owned(), request["params"].clone()));
                            script(method, &request["params"])
                        }
                    };
                    if answer.is_null() {
                        return;
                    }
                    let body = answer.to_string();
                    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Node { url, asked }
}

fn rpc(nodes: &[&Node]) -> PosterRpc {
    let urls = nodes.iter().map(|node| node.url.clone()).collect();
    PosterRpc::new(Endpoints::new(Settings::new(urls, 7), Alarms::new()).unwrap())
}

/// One that answers everything with this result.
async fn answering(result: Value) -> PosterRpc {
    rpc(&[&node(move |_, _| json!({ "result": result })).await])
}

fn refusing(words: &str) -> impl Fn(&str, &Value) -> Value + use<> {
    let words = words.to_owned();
    move |_, _| json!({ "error": { "code": -32000, "message": words } })
}

fn signed() -> (Bytes, B256) {
    let transaction = Eip1559 {
        chain_id: 7,
        nonce: 1,
        max_priority_fee_per_gas: 1,
        max_fee_per_gas: 2,
        gas_limit: 3,
        to: Address::repeat_byte(4),
        value: U256::ZERO,
        data: Bytes::from_static(b"data"),
    };
    let signed = LocalKey::generate().sign(&transaction);
    (signed.raw, signed.hash)
}

#[tokio::test]
async fn the_account_is_asked_about_as_nodes_expect_it() {
    let account = Address::repeat_byte(0xab);
    let node = node(|method, _| match method {
        "eth_getTransactionCount" => json!({ "result": "0x1f" }),
        "eth_getBalance" => json!({ "result": "0xde0b6b3a7640000" }),
        "eth_getCode" => json!({ "result": "0x" }),
        "eth_estimateGas" => json!({ "result": "0x5208" }),
        method => panic!("{method}"),
    })
    .await;
    let rpc = rpc(&[&node]);
    assert_eq!(rpc.nonce(account, At::Latest).await, Ok(31));
    assert_eq!(rpc.nonce(account, At::Pending).await, Ok(31));
    assert_eq!(rpc.balance(account).await, Ok(U256::from(10_u64.pow(18))));
    assert_eq!(rpc.code(account).await, Ok(Bytes::new()));
    let data = Bytes::from_static(&[1, 2]);
    assert_eq!(rpc.estimate_gas(account, Address::ZERO, &data, At::Number(16)).await, Ok(21_000));
    let asked: Vec<Value> = node.asked.lock().iter().map(|(_, params)| params.clone()).collect();
    let call = json!({ "from": account, "to": Address::ZERO, "data": "0x0102" });
    let expected = [
        json!([account, "latest"]),
        json!([account, "pending"]),
        json!([account, "latest"]),
        json!([account, "latest"]),
        json!([call, "0x10"]),
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_fee_history_has_as_many_numbers_as_blocks() {
    let history = json!({
        "oldestBlock": "0x10",
        "baseFeePerGas": ["0x1", "0x2", "0xffffffffffffffffffffffffffffffff"],
        "gasUsedRatio": [0.5, 0],
        "reward": [["0x0"], ["0x7"]],
    });
    let rpc = answering(history.clone()).await;
    let expected = FeeHistory { base_fees: vec![1, 2, u128::MAX], rewards: vec![0, 7] };
    assert_eq!(rpc.fee_history(2, 50).await.unwrap(), expected);
    // More blocks than asked for, too few, none, too many percentiles, and numbers that are none.
    for (field, value) in [
        ("reward", json!([["0x0"]])),
        ("reward", json!([["0x0"], ["0x1", "0x2"]])),
        ("reward", json!([["0x0"], []])),
        ("reward", Value::Null),
        ("baseFeePerGas", json!(["0x1", "0x2"])),
        ("baseFeePerGas", json!([])),
        ("baseFeePerGas", json!(["0x1", "0x2", format!("0x1{}", "0".repeat(32))])),
    ] {
        let mut wrong = history.clone();
        wrong[field] = value;
        let text = wrong.to_string();
        let error = answering(wrong).await.fee_history(2, 50).await.unwrap_err();
        assert!(matches!(error, ChainError::Malformed { .. }), "{text}: {error}");
    }
    let error = answering(history).await.fee_history(1, 50).await.unwrap_err();
    assert!(error.to_string().contains("3 base fees and 2 rewards for 1 blocks"), "{error}");
}

#[tokio::test]
async fn a_revert_is_named_wherever_the_node_puts_it() {
    let number = format!("0xac7411c9{:064x}{:064x}", 5, 4);
    let expected = Revert::BadSequencerNumber { stored: U256::from(5), received: U256::from(4) };
    let errors = [
        json!({ "code": 3, "message": "execution reverted", "data": number }),
        json!({ "code": -32000, "message": "execution reverted", "data": { "data": number, "message": "m" } }),
        json!({ "code": -32603, "message": "m", "data": { "originalError": { "data": number, "message": "reverted" } } }),
        json!({ "code": -32015, "message": "VM execution error.", "data": format!("Reverted {number}") }),
    ];
    for error in errors {
        let text = error.to_string();
        let rpc = rpc(&[&node(move |_, _| json!({ "error": error })).await]);
        let estimate = rpc.estimate_gas(Address::ZERO, Address::ZERO, &Bytes::new(), At::Latest).await;
        match estimate.unwrap_err() {
            SendError::Reverted { revert, .. } => assert_eq!(revert, expected, "{text}"),
            error => panic!("{text}: {error}"),
        }
    }
    let silent = rpc(&[&node(refusing("execution reverted")).await]);
    let error =
        silent.estimate_gas(Address::ZERO, Address::ZERO, &Bytes::new(), At::Latest).await.unwrap_err();
    assert!(matches!(error, SendError::Reverted { revert: Revert::Silent, .. }), "{error}");
    let poor = rpc(&[&node(refusing("insufficient funds for transfer")).await]);
    let error = poor.estimate_gas(Address::ZERO, Address::ZERO, &Bytes::new(), At::Latest).await.unwrap_err();
    assert!(matches!(error, SendError::Refused { refusal: Refusal::InsufficientFunds, .. }), "{error}");
}

#[tokio::test]
async fn sending_goes_on_until_somebody_takes_it() {
    let (raw, hash) = signed();
    let takes = move |_: &str, _: &Value| json!({ "result": hash });
    let taker = node(takes).await;
    let hangs_up = node(|_, _| Value::Null).await;
    let lies = node(|_, _| json!({ "result": B256::repeat_byte(1) })).await;
    let poor = node(refusing("insufficient funds for gas * price + value: balance 0")).await;
    let reads_only = node(refusing("the method eth_sendRawTransaction does not exist")).await;
    let knows = node(refusing("already known")).await;
    assert_eq!(rpc(&[&hangs_up, &lies, &poor, &reads_only, &taker]).send_raw(&raw).await, Ok(hash));
    assert_eq!(
        *taker.asked.lock(),
        [("eth_sendRawTransaction".to_owned(), json!([hex::encode_prefixed(&raw)]))]
    );
    assert_eq!(rpc(&[&hangs_up, &knows]).send_raw(&raw).await, Ok(hash));
    // What the most knowing one says, whoever is asked last.
    for nodes in [[&reads_only, &poor], [&poor, &reads_only]] {
        match rpc(&nodes).send_raw(&raw).await.unwrap_err() {
            SendError::Refused { refusal, message, .. } => {
                assert_eq!(refusal, Refusal::InsufficientFunds);
                assert_eq!(message, "insufficient funds for gas * price + value: balance 0");
            }
            error => panic!("{error}"),
        }
    }
    let error = rpc(&[&hangs_up]).send_raw(&raw).await.unwrap_err();
    assert!(matches!(error, SendError::Chain(ChainError::Away { .. })), "{error}");
    let error = rpc(&[&lies]).send_raw(&raw).await.unwrap_err();
    assert!(matches!(error, SendError::Chain(ChainError::Malformed { .. })), "{error}");
    let reverts =
        node(|_, _| json!({ "error": { "code": 3, "message": "reverted", "data": "0x2dd9fc97" } })).await;
    let error = rpc(&[&reverts]).send_raw(&raw).await.unwrap_err();
    assert!(matches!(error, SendError::Reverted { revert: Revert::NotBatchPoster, .. }), "{error}");
}

#[tokio::test]
async fn a_receipt_is_of_the_transaction_and_so_are_its_logs() {
    let hash = B256::repeat_byte(9);
    let block = BlockId { number: 16, hash: B256::repeat_byte(8) };
    let log = json!({
        "address": Address::repeat_byte(1), "topics": [B256::repeat_byte(2)], "data": "0x03", "blockNumber": "0x10",
        "blockHash": block.hash, "transactionHash": hash, "logIndex": "0x0", "removed": false,
    });
    let receipt = json!({
        "transactionHash": hash, "blockNumber": "0x10", "blockHash": block.hash, "status": "0x1", "gasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00", "logs": [log], "type": "0x2",
    });
    let read = answering(receipt.clone()).await.receipt(hash).await.unwrap().unwrap();
    assert_eq!((read.block, read.status, read.gas_used), (block, true, 21_000));
    assert_eq!((read.effective_gas_price, read.logs.len()), (1_000_000_000, 1));
    let changed = |path: &'static str, value: Value| {
        let mut changed = receipt.clone();
        *changed.pointer_mut(path).unwrap() = value;
        async move { answering(changed).await.receipt(hash).await }
    };
    assert!(!changed("/status", json!("0x0")).await.unwrap().unwrap().status);
    assert_eq!(changed("/blockHash", Value::Null).await, Ok(None));
    assert_eq!(answering(Value::Null).await.receipt(hash).await, Ok(None));
    for (path, value) in [
        ("/transactionHash", json!(B256::ZERO)),
        ("/status", json!("0x2")),
        ("/status", Value::Null),
        ("/gasUsed", json!("0x10000000000000000")),
        ("/effectiveGasPrice", json!("x")),
        ("/logs", Value::Null),
        ("/logs/0/transactionHash", json!(B256::ZERO)),
        ("/logs/0/blockHash", json!(B256::ZERO)),
        ("/logs/0/blockNumber", json!("0x11")),
        ("/logs/0/removed", json!(true)),
        ("/logs/0/topics", json!([B256::ZERO, B256::ZERO, B256::ZERO, B256::ZERO, B256::ZERO])),
    ] {
        let text = value.to_string();
        let error = changed(path, value).await.unwrap_err();
        assert!(matches!(error, ChainError::Malformed { .. }), "{path} = {text}: {error}");
    }
}
