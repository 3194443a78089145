//! What a poster asks of the chain: its account, fees, gas, and what became of its transactions.
//!
//! # Guarantees, whatever an endpoint does
//! - Answers are those to what was asked: a receipt is of the transaction and holds only its logs, the hash that sending
//!   returns is that of the bytes sent, fees are as many as blocks. Anything else is [`ChainError::Malformed`].
//! - Sending is safe to repeat: whoever has the transaction already is taken to have accepted it, and an endpoint that may
//!   or may not have got it is no reason not to give it to the next one.

use alloy_primitives::{Address, B256, Bytes, U64, U128, U256};
use das_common::fault::{self, Coded, Fault};
use das_common::keccak::keccak256;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use crate::endpoints::{Endpoints, OneEndpoint};
use crate::error::ChainError;
use crate::reader::{At, BlockId, Log, RawLog};
use crate::refusal::Refusal;
use crate::revert::Revert;

const NONCE: &str = "eth_getTransactionCount";
const BALANCE: &str = "eth_getBalance";
const CODE: &str = "eth_getCode";
const FEE_HISTORY: &str = "eth_feeHistory";
const ESTIMATE_GAS: &str = "eth_estimateGas";
const SEND_RAW: &str = "eth_sendRawTransaction";
const RECEIPT: &str = "eth_getTransactionReceipt";

/// Most blocks of a fee history; endpoints have bounds of this size too.
pub const MAX_FEE_BLOCKS: u64 = 1024;

/// What blocks cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeHistory {
    /// The base fees, wei per gas, of the blocks asked for, oldest first, and of the block that comes next.
    pub base_fees: Vec<u128>,
    /// The tips, wei per gas, that the asked percentage of the gas of each block paid at most; one less than base fees.
    pub rewards: Vec<u128>,
}

/// What became of a transaction that is in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The block, which may still vanish.
    pub block: BlockId,
    /// Whether it did something; false: it was reverted.
    pub status: bool,
    /// Gas that it was charged for.
    pub gas_used: u64,
    /// What was paid for the gas, wei per gas.
    pub effective_gas_price: u128,
    /// What the contracts said.
    pub logs: Vec<Log>,
}

/// Why a transaction was not taken, or its gas not estimated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// It would be reverted.
    #[error("the contract refuses: {revert} ({})", revert.advice())]
    Reverted {
        /// What the contract says.
        revert: Revert,
        /// The endpoint's words.
        message: String,
    },
    /// No endpoint takes it, and one of them said why.
    #[error("{endpoint} refuses the transaction: {message} ({})", refusal.advice())]
    Refused {
        /// Who said it.
        endpoint: String,
        /// Why, as far as the words are known.
        refusal: Refusal,
        /// The endpoint's words.
        message: String,
    },
    /// The chain cannot be asked. Some endpoint may have got the transaction all the same.
    #[error(transparent)]
    Chain(ChainError),
}

impl From<ChainError> for SendError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Reverted { data, message } => {
                Self::Reverted { revert: Revert::decode(&data), message }
            }
            ChainError::Refused { endpoint, message, .. } => {
                Self::Refused { endpoint, refusal: Refusal::of(&message), message }
            }
            error => Self::Chain(error),
        }
    }
}

impl Coded for SendError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Reverted { .. } | Self::Refused { .. } => fault::CHAIN_REFUSED,
            Self::Chain(error) => error.fault(),
        }
    }
}

/// Asks the endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PosterRpc {
    endpoints: Endpoints,
}

impl PosterRpc {
    /// Asks these endpoints.
    pub fn new(endpoints: Endpoints) -> Self {
        Self { endpoints }
    }

    /// Transactions that an account has made.
    pub async fn nonce(&self, account: Address, at: At) -> Result<u64, ChainError> {
        let nonce: U64 = self.endpoints.request(NONCE, json!([account, at.to_json()])).await?;
        Ok(nonce.to())
    }

    /// What an account has at the newest block, wei.
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        self.endpoints.request(BALANCE, json!([account, At::Latest.to_json()])).await
    }

    /// The code of an account at the newest block. An account that has some cannot post by its key alone; a delegation
    /// (EIP-7702) is code too.
    pub async fn code(&self, account: Address) -> Result<Bytes, ChainError> {
        self.endpoints.request(CODE, json!([account, At::Latest.to_json()])).await
    }

    /// What the newest blocks (1 to [`MAX_FEE_BLOCKS`]; a young chain has fewer) cost, and the next one. `percentile`, 0 to
    /// 100, says of which of each block's transactions, by gas, the tip is meant.
    pub async fn fee_history(&self, blocks: u64, percentile: u8) -> Result<FeeHistory, ChainError> {
        let blocks = blocks.clamp(1, MAX_FEE_BLOCKS);
        let params = json!([format!("{blocks:#x}"), At::Latest.to_json(), [percentile.min(100)]]);
        self.endpoints
            .on_one(|one| {
                let params = params.clone();
                async move {
                    let raw: RawFeeHistory = one.request(FEE_HISTORY, params).await?;
                    raw.check(blocks).map_err(|reason| one.malformed(FEE_HISTORY, reason))
                }
            })
            .await
    }

    /// The gas that a call would use, with nothing added.
    pub async fn estimate_gas(
        &self,
        from: Address,
        to: Address,
        data: &Bytes,
        at: At,
    ) -> Result<u64, SendError> {
        let params = json!([{ "from": from, "to": to, "data": data }, at.to_json()]);
        let gas: U64 = self.endpoints.request(ESTIMATE_GAS, params).await?;
        Ok(gas.to())
    }

    /// Gives a signed transaction to the first endpoint that takes it; its hash. That somebody has taken it says nothing of
    /// its coming into a block.
    pub async fn send_raw(&self, raw: &Bytes) -> Result<B256, SendError> {
        let hash = B256::from(keccak256(raw));
        // Of several endpoints that refuse, one that does not send transactions at all says the least.
        let told: Mutex<Option<SendError>> = Mutex::default();
        let sent = self.endpoints.on_one(|one| {
            let told = &told;
            async move {
                match one.request::<B256>(SEND_RAW, json!([raw])).await {
                    Ok(got) if got == hash => Ok(()),
                    Ok(got) => Err(one.malformed(SEND_RAW, format!("the hash {got} for {hash}"))),
                    Err(error) => match SendError::from(error.clone()) {
                        SendError::Refused { refusal: Refusal::AlreadyKnown, .. } => Ok(()),
                        refused @ SendError::Refused { .. } => {
                            let mut told = told.lock();
                            if !matches!(&*told, Some(SendError::Refused { refusal, .. }) if *refusal != Refusal::Other)
                            {
                                *told = Some(refused);
                            }
                            Err(error)
                        }
                        _ => Err(error),
                    },
                }
            }
        });
        match sent.await {
            Ok(()) => Ok(hash),
            Err(error @ ChainError::Reverted { .. }) => Err(error.into()),
            Err(error) => Err(told.into_inner().unwrap_or_else(|| error.into())),
        }
    }

    /// What became of a transaction; `None`: it is in no block that the endpoint knows.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, ChainError> {
        self.endpoints
            .on_one(|one| async move {
                let raw: Option<RawReceipt> = one.request(RECEIPT, json!([hash])).await?;
                raw.map_or(Ok(None), |raw| raw.check(&one, hash))
            })
            .await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFeeHistory {
    base_fee_per_gas: Vec<U128>,
    reward: Vec<Vec<U128>>,
}

impl RawFeeHistory {
    fn check(self, blocks: u64) -> Result<FeeHistory, String> {
        let (fees, rewards) = (self.base_fee_per_gas.len(), self.reward.len());
        if rewards == 0 || rewards as u64 > blocks || fees != rewards + 1 {
            return Err(format!("{fees} base fees and {rewards} rewards for {blocks} blocks"));
        }
        let rewards = self.reward.iter().map(|reward| match reward[..] {
            [reward] => Ok(reward.to()),
            _ => Err(format!("{} rewards of one block, asked was 1", reward.len())),
        });
        Ok(FeeHistory {
            rewards: rewards.collect::<Result<_, _>>()?,
            base_fees: self.base_fee_per_gas.iter().map(|fee| fee.to()).collect(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReceipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: U64,
    gas_used: U64,
    effective_gas_price: U128,
    logs: Vec<RawLog>,
}

impl RawReceipt {
    fn check(self, one: &OneEndpoint, hash: B256) -> Result<Option<Receipt>, ChainError> {
        let malformed = |reason: &str| one.malformed(RECEIPT, reason);
        if self.transaction_hash != hash {
            return Err(malformed("of another transaction"));
        }
        // Some have receipts of what is in no block yet.
        let (Some(number), Some(block)) = (self.block_number, self.block_hash) else { return Ok(None) };
        let block = BlockId { number: number.to(), hash: block };
        let status = match self.status.to::<u64>() {
            0 => false,
            1 => true,
            _ => return Err(malformed("a status that is neither 0 nor 1")),
        };
        let logs = self.logs.into_iter().map(|raw| {
            let log = raw.included().ok_or_else(|| malformed("a log of no block"))?;
            let is_of_it =
                (log.block_number, log.block_hash, log.transaction) == (block.number, block.hash, hash);
            if is_of_it { Ok(log) } else { Err(malformed("a log of another transaction or block")) }
        });
        Ok(Some(Receipt {
            block,
            status,
            gas_used: self.gas_used.to(),
            effective_gas_price: self.effective_gas_price.to(),
            logs: logs.collect::<Result<_, _>>()?,
        }))
    }
}

#[cfg(test)]
mod tests;
