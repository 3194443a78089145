//! What posting decides by: one look at the parent chain, all of it as of one block.

use std::collections::HashMap;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_sol_types::SolCall;
use das_chain::ChainError;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::{Endpoints, OneEndpoint};
use das_chain::reader::Block as ChainBlock;
use das_common::data_hash::DataHash;
use serde::Deserialize;
use serde_json::{Value, json};

use super::entry::{Block, TxHash};
use super::fees::Market;
use super::plan::View;

/// Blocks of fee history that are looked at, and which of their tips count: the median.
const FEE_BLOCKS: u64 = 10;
const FEE_PERCENTILE: f64 = 50.0;

/// The contract and the account that posts.
#[derive(Debug, Clone)]
pub struct PosterChain {
    /// Whom to ask.
    pub endpoints: Endpoints,
    /// The contract.
    pub inbox: Address,
    /// The account.
    pub account: Address,
    /// The committee's keyset.
    pub keyset: DataHash,
}

/// One look at the chain.
#[derive(Debug, Clone)]
pub struct Look {
    /// What there is to decide by.
    pub view: View,
    /// The block that all of it is as of.
    pub at: Block,
    /// That block's time, unix seconds.
    pub time: u64,
    /// What the account has, wei.
    pub balance: U256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    block_hash: Option<B256>,
    block_number: Option<U64>,
    status: Option<U64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    base_fee_per_gas: Vec<U256>,
    #[serde(default)]
    reward: Option<Vec<Vec<U256>>>,
}

fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

impl PosterChain {
    /// Everything as of one block, with the receipts of these transactions. `least_nonce`: the first nonce under way.
    pub async fn look(&self, attempts: &[TxHash], least_nonce: Option<u64>) -> Result<Look, ChainError> {
        self.endpoints.on_one(|one| async move { self.look_at(&one, attempts, least_nonce).await }).await
    }

    async fn look_at(
        &self,
        one: &OneEndpoint,
        attempts: &[TxHash],
        least_nonce: Option<u64>,
    ) -> Result<Look, ChainError> {
        let head = block(one, json!("latest")).await?.ok_or_else(|| unsettled(0))?;
        let at = quantity(head.number);
        let nonce: U64 = one.request("eth_getTransactionCount", json!([self.account, &at])).await?;
        let balance: U256 = one.request("eth_getBalance", json!([self.account, &at])).await?;
        let batches = self.call(one, &Inbox::batchCountCall {}, &at).await?;
        let keyset = B256::from(*self.keyset.as_bytes());
        let keyset_valid = self.call(one, &Inbox::isValidKeysetHashCall { keyset }, &at).await?;
        // A chain that has none final yet may say so with nothing.
        let finalized = block(one, json!("finalized")).await?.map_or(0, |block| block.number);
        let nonce: u64 = nonce.to();
        let final_nonce = match least_nonce.is_some_and(|least| least < nonce) {
            true => self.final_nonce(one).await,
            false => 0,
        };
        let market = market(one, head.number).await?;
        let mut receipts = HashMap::new();
        for tx in attempts {
            let receipt: Option<Receipt> =
                one.request("eth_getTransactionReceipt", json!([B256::from(*tx)])).await?;
            let Some(receipt) = receipt else { continue };
            let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else { continue };
            let block = Block { number: number.to(), hash: hash.0 };
            // What came after the block that all of this is as of is seen the next time.
            if block.number <= head.number {
                receipts.insert(*tx, (block, receipt.status.is_none_or(|status| status == U64::from(1))));
            }
        }
        // The same block at the same height after all this: what was read belongs together.
        match block(one, json!(at)).await? {
            Some(still) if still.hash == head.hash => {}
            _ => return Err(unsettled(head.number)),
        }
        let batches = u64::try_from(batches).map_err(|_| ChainError::Malformed {
            endpoint: one.label().to_owned(),
            method: "eth_call",
            reason: format!("{batches} batches"),
        })?;
        Ok(Look {
            view: View {
                finalized: finalized.min(head.number),
                batches,
                nonce,
                final_nonce,
                market,
                keyset_valid,
                receipts,
            },
            at: Block { number: head.number, hash: head.hash.0 },
            time: head.timestamp,
            balance,
        })
    }

    /// The account's next nonce in the newest final block. An endpoint that has no state of that block any more says
    /// nothing against posting: 0.
    async fn final_nonce(&self, one: &OneEndpoint) -> u64 {
        let asked = json!([self.account, "finalized"]);
        one.request::<U64>("eth_getTransactionCount", asked).await.map_or(0, |nonce| nonce.to())
    }

    async fn call<C: SolCall>(&self, one: &OneEndpoint, call: &C, at: &str) -> Result<C::Return, ChainError> {
        let input = Bytes::from(call.abi_encode());
        let answer: Bytes = one.request("eth_call", json!([{ "to": self.inbox, "data": input }, at])).await?;
        if answer.is_empty() {
            return Err(ChainError::NoContract { address: self.inbox });
        }
        C::abi_decode_returns_validate(&answer).map_err(|error| ChainError::Malformed {
            endpoint: one.label().to_owned(),
            method: "eth_call",
            reason: error.to_string(),
        })
    }

    /// How far beyond its block's time a batch's messages may name a time: `futureSeconds` of the contract.
    pub async fn future(&self) -> Result<Duration, ChainError> {
        let variation = self
            .endpoints
            .on_one(|one| async move { self.call(&one, &Inbox::maxTimeVariationCall {}, "latest").await });
        let seconds = variation.await?.futureSeconds;
        Ok(Duration::from_secs(seconds.saturating_to()))
    }
}

fn unsettled(block: u64) -> ChainError {
    ChainError::Unsettled { block }
}

async fn block(one: &OneEndpoint, which: Value) -> Result<Option<ChainBlock>, ChainError> {
    one.request("eth_getBlockByNumber", json!([which, false])).await
}

async fn market(one: &OneEndpoint, head: u64) -> Result<Market, ChainError> {
    let blocks = quantity(FEE_BLOCKS.min(head + 1));
    let asked = json!([blocks, quantity(head), [FEE_PERCENTILE]]);
    let history: FeeHistory = one.request("eth_feeHistory", asked).await?;
    let base = history.base_fee_per_gas.last().copied().unwrap_or_default().saturating_to();
    let mut tips: Vec<u128> =
        history.reward.unwrap_or_default().iter().flatten().map(U256::saturating_to).collect();
    tips.sort_unstable();
    Ok(Market { base, tip: tips.get(tips.len() / 2).copied().unwrap_or_default() })
}
