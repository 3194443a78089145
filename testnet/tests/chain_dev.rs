//! The dev chain itself: what the tests of the parent chain build on.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use das_chain::contract::SequencerInbox as Inbox;
use das_testnet::chain::{DevChain, DevChainError};
use serde_json::{Value, json};

async fn valid(chain: &DevChain, keyset: B256) -> bool {
    let data = Bytes::from(Inbox::isValidKeysetHashCall { keyset }.abi_encode());
    let result: Bytes =
        chain.rpc().call("eth_call", json!([{ "to": chain.inbox(), "data": data }, "latest"])).await.unwrap();
    Inbox::isValidKeysetHashCall::abi_decode_returns(&result).unwrap()
}

async fn block_hash(chain: &DevChain, number: u64) -> Value {
    let block: Value =
        chain.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await.unwrap();
    block["hash"].clone()
}

/// The contract takes a keyset and certificates under it from the batch poster, and the chain does what tests ask of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_contract_runs_and_the_chain_can_be_bent() {
    let mut chain = DevChain::start().await.unwrap();
    let bytes = b"any bytes will do for the contract".to_vec();
    chain.set_keyset(bytes.clone()).await.unwrap();
    // The hash of one bin: 0xfe and the flat hash, with the highest bit turned.
    let mut leaf = vec![0xfe];
    leaf.extend_from_slice(keccak256(&bytes).as_slice());
    let mut keyset = keccak256(&leaf);
    keyset.0[0] ^= 0x80;
    assert!(valid(&chain, keyset).await);

    let mut batch = vec![0x88];
    batch.extend_from_slice(keyset.as_slice());
    batch.resize(178, 1);
    let receipt = chain.post_batch(0, batch.clone().into()).await.unwrap();
    let hash: B256 = serde_json::from_value(receipt["transactionHash"].clone()).unwrap();
    let raw = chain.raw_transaction(hash).await.unwrap();

    // A reorg with the transaction, and one without.
    let head = chain.head().await.unwrap();
    let before = block_hash(&chain, head).await;
    chain.reorg(1, &[(raw, 0)]).await.unwrap();
    assert_ne!(block_hash(&chain, head).await, before);
    let posted: Value = chain.rpc().call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
    assert_eq!(posted["status"], "0x1");
    chain.reorg(2, &[]).await.unwrap();
    assert!(!valid(&chain, keyset).await);
    let gone: Value = chain.rpc().call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
    assert!(gone.is_null());
    assert_eq!(chain.head().await.unwrap(), head);
    let refused = chain.post_batch(0, batch.into()).await.unwrap_err();
    assert!(matches!(refused, DevChainError::Rpc { .. } | DevChainError::Reverted { .. }), "{refused}");

    chain.mine(10).await.unwrap();
    chain.rollback(4).await.unwrap();
    let head = chain.head().await.unwrap();
    let (genesis, tip) = (block_hash(&chain, 0).await, block_hash(&chain, head).await);
    chain.stop().unwrap();
    assert!(chain.head().await.is_err());
    chain.resume().await.unwrap();
    assert_eq!((block_hash(&chain, 0).await, block_hash(&chain, head).await), (genesis.clone(), tip));
    chain.reset().await.unwrap();
    assert_ne!(block_hash(&chain, 0).await, genesis);
    chain.restart_empty().await.unwrap();
    assert_eq!((chain.head().await.unwrap(), block_hash(&chain, 0).await), (0, genesis));
}
