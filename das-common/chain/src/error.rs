//! What goes wrong in reading the chain.

use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use das_common::fault::{self, Coded, Fault};
use thiserror::Error;

/// Why the chain gave no answer. No text holds more of an endpoint's URL than its host and port.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ChainError {
    /// Nobody answered.
    #[error("no endpoint of the parent chain answers: {reasons} (next try in {retry_in:?})")]
    Away {
        /// Every endpoint with what is wrong with it.
        reasons: String,
        /// When the first is tried again.
        retry_in: Duration,
    },
    /// One endpoint gave no answer; another may.
    #[error("{endpoint}: {reason}")]
    Failed {
        /// Which.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// An endpoint is of another chain.
    #[error("{endpoint} is of chain {got}, expected {expected}")]
    WrongChain {
        /// Which.
        endpoint: String,
        /// Its chain id.
        got: u64,
        /// The one configured.
        expected: u64,
    },
    /// An endpoint answers with an error.
    #[error("{endpoint} refuses {method}: {message} (code {code})")]
    Refused {
        /// Which.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// JSON-RPC code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// A contract call was reverted.
    #[error("the contract reverts: {message}")]
    Reverted {
        /// The ABI encoding of the contract's error; empty when the endpoint does not give it.
        data: Bytes,
        /// The endpoint's words.
        message: String,
    },
    /// An answer above the bound.
    #[error("the answer of {endpoint} to {method} is larger than {limit}")]
    TooLarge {
        /// Which.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// The bound with its unit.
        limit: String,
    },
    /// An answer that is none.
    #[error("{endpoint} gives no sensible answer to {method}: {reason}")]
    Malformed {
        /// Which.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A call of an address without the contract.
    #[error("there is no contract with this function at {address}")]
    NoContract {
        /// The address.
        address: Address,
    },
    /// The endpoint's chain ends before what was asked for.
    #[error("{endpoint} is at block {head}, {asked} was asked for")]
    Beyond {
        /// Which.
        endpoint: String,
        /// The block asked for.
        asked: u64,
        /// Its newest block.
        head: u64,
    },
    /// The endpoint does not know something that is on the chain by what was read before: it may lag behind, or have
    /// let go of what is old, or the chain was reorganized meanwhile.
    #[error("{endpoint} does not know {what}")]
    Lacks {
        /// Which.
        endpoint: String,
        /// What was asked for.
        what: String,
    },
    /// The chain was another one after reading than before.
    #[error("the chain changed at block {block} while it was read")]
    Unsettled {
        /// Where that was seen.
        block: u64,
    },
}

impl ChainError {
    /// Is it a refusal that a smaller range may not meet?
    pub(crate) fn may_be_the_range(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLarge { .. })
    }

    /// Does it mean that the chain cannot be asked now?
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Failed { .. } | Self::WrongChain { .. })
    }
}

impl Coded for ChainError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Away { .. } | Self::Failed { .. } => fault::CHAIN_AWAY,
            Self::WrongChain { .. } => fault::CHAIN_WRONG_ID,
            Self::Refused { .. } | Self::Reverted { .. } | Self::Beyond { .. } | Self::Lacks { .. } => {
                fault::CHAIN_REFUSED
            }
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::NoContract { .. } => fault::CHAIN_ANSWER,
            Self::Unsettled { .. } => fault::CHAIN_UNSETTLED,
        }
    }
}
