//! What the contracts that take batches say when they refuse one, by name, and what the operator should do then.
//!
//! The names are those of the custom errors of `SequencerInbox` and `Bridge`, as far as who posts can meet them, of the
//! contracts of today and of those before them.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_sol_types::{Panic, Revert as ErrorText, SolError, SolInterface, sol};

use crate::endpoints::answer::shortened;

sol! {
    /// The errors, as the contracts declare them.
    interface Contracts {
        error NotBatchPoster();
        error NotOrigin();
        error NotCodelessOrigin();
        error BadSequencerNumber(uint256 stored, uint256 received);
        error BadSequencerMessageNumber(uint256 stored, uint256 received);
        error DelayedBackwards();
        error DelayedTooFar();
        error DelayProofRequired();
        error InvalidDelayedAccPreimage();
        error NotDelayBufferable();
        error InvalidHeaderFlag(bytes1 flag);
        error NoSuchKeyset(bytes32 keyset);
        error DataTooLarge(uint256 data_length, uint256 max_data_length);
        error DataBlobsNotSupported();
        error MissingDataHashes();
        error ExtraGasNotUint64();
        error Deprecated();
        error AlreadyInit();
        error HadZeroInit();
        error NotForked();
        error NotSequencerInbox(address sender);
        error NotDelayedInbox(address sender);
        error NotOwner(address sender, address owner);
        error NotBatchPosterManager(address sender);
        error AlreadyValidDASKeyset(bytes32 keyset);
        error KeysetTooLarge();
    }
}

macro_rules! reverts {
    ($($(#[doc = $doc:literal])+ $name:ident $({ $($argument:ident: $type:ty),+ })? = $advice:literal;)+) => {
        /// Why a contract reverted.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the arguments are those of the contract's error")]
        pub enum Revert {
            $($(#[doc = $doc])+ $name $({ $($argument: $type),+ })?,)+
            /// A text: `Error(string)`, shortened.
            Text(String),
            /// A failed check of the language itself: `Panic(uint256)`, with its code.
            Panic(U256),
            /// An error that is not known here, with its arguments.
            Unknown(Bytes),
            /// Nothing was said, or the endpoint does not pass it on.
            Silent,
        }

        impl Revert {
            /// Reads what a call that reverted returned.
            pub fn decode(data: &[u8]) -> Self {
                if data.is_empty() {
                    return Self::Silent;
                }
                if let Ok(error) = Contracts::ContractsErrors::abi_decode_validate(data) {
                    return match error {
                        $(Contracts::ContractsErrors::$name(Contracts::$name { $($($argument),+)? }) => {
                            Self::$name $({ $($argument: $argument.into()),+ })?
                        })+
                    };
                }
                if let Ok(error) = ErrorText::abi_decode_validate(data) {
                    return Self::Text(shortened(&error.reason));
                }
                if let Ok(error) = Panic::abi_decode_validate(data) {
                    return Self::Panic(error.code);
                }
                Self::Unknown(Bytes::copy_from_slice(data))
            }

            /// What the operator should do.
            pub fn advice(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $advice,)+
                    Self::Text(_) => "see what the text says; it is none of the inbox's own errors",
                    Self::Panic(_) => "check that the inbox's address is right; a contract of the rollup does not fail so",
                    Self::Unknown(_) => {
                        "check that the inbox's address is right and its version one that this program knows; the first 4 \
                         bytes name the error"
                    }
                    Self::Silent => {
                        "check that the inbox's address is right; if it is, the gas limit was too low, or an endpoint \
                         that gives the contract's error will say more"
                    }
                }
            }
        }

        impl fmt::Display for Revert {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name $({ $($argument),+ })? => {
                        let arguments: &[(&str, &dyn fmt::Display)] = &[$($((stringify!($argument), $argument)),+)?];
                        f.write_str(stringify!($name))?;
                        write_arguments(f, arguments)
                    })+
                    Self::Text(text) => write!(f, "Error(\"{text}\")"),
                    Self::Panic(code) => write!(f, "Panic({code:#x})"),
                    Self::Unknown(data) => {
                        let shown = &data[..data.len().min(68)];
                        write!(f, "an unknown error of {} bytes, {}", data.len(), Bytes::copy_from_slice(shown))
                    }
                    Self::Silent => f.write_str("no reason given"),
                }
            }
        }
    };
}

fn write_arguments(f: &mut fmt::Formatter<'_>, arguments: &[(&str, &dyn fmt::Display)]) -> fmt::Result {
    let mut before = "(";
    for (name, value) in arguments {
        write!(f, "{before}{name} {value}")?;
        before = ", ";
    }
    f.write_str(if arguments.is_empty() { "()" } else { ")" })
}

reverts! {
    /// The sender may not post.
    NotBatchPoster =
        "have the chain's owner or batch poster manager make this address a batch poster (setIsBatchPoster)";
    /// The sender is a contract; of older inboxes.
    NotOrigin = "post from an account with a key, not through a contract";
    /// The sender is a contract, or an account that has code (EIP-7702).
    NotCodelessOrigin =
        "post from an account without code, or take its delegation (EIP-7702) back";
    /// The batch's number is not the next one.
    BadSequencerNumber { stored: U256, received: U256 } =
        "see whether another poster is at work; if not, nothing: the batch is posted again with the right number";
    /// The count of messages before the batch is not the one after the last batch.
    BadSequencerMessageNumber { stored: U256, received: U256 } =
        "see whether another poster is at work, or the sequencer gave batches in the wrong order or left one out";
    /// It reads fewer delayed messages than the batch before it.
    DelayedBackwards =
        "check the sequencer: its batch reads fewer delayed messages than the one before it";
    /// It reads delayed messages that are not there.
    DelayedTooFar =
        "wait if the parent chain was just reorganized; otherwise check that sequencer and inbox are of one chain";
    /// Delayed messages waited so long that a proof has to come with the batch.
    DelayProofRequired =
        "have the sequencer's own poster post a batch with a delay proof, which this poster does not make";
    /// The proof about delayed messages is wrong.
    InvalidDelayedAccPreimage =
        "check that sequencer and inbox are of one chain: the proof of delayed messages is of another one";
    /// A proof about delayed messages where none is taken.
    NotDelayBufferable = "post without a delay proof: this chain has no delay buffer";
    /// The first byte of the batch is of a kind that may not be posted as calldata.
    InvalidHeaderFlag { flag: FixedBytes<1> } =
        "have the sequencer make batches whose first byte the inbox takes in calldata: 0x00, 0x80 and 0x88 are always among them";
    /// The batch's certificate names a keyset that is not valid.
    NoSuchKeyset { keyset: B256 } =
        "have the chain's owner make the committee's keyset valid (dastool keyset-tx prints the calldata)";
    /// The batch is above the inbox's bound.
    DataTooLarge { data_length: U256, max_data_length: U256 } =
        "have the sequencer make smaller batches, or post certificates instead of the data itself";
    /// Blobs on a chain that has none.
    DataBlobsNotSupported = "post calldata: this parent chain has no blobs";
    /// A batch of blobs without blobs.
    MissingDataHashes = "check that the inbox's address is right: the call was one that takes blobs";
    /// The parent chain's price of data is beyond all bounds.
    ExtraGasNotUint64 = "see whether the parent chain reports a sensible price of data, and try again";
    /// The function is one of older inboxes.
    Deprecated = "use a version of this program that knows this inbox: the function it called is no longer there";
    /// The contract was set up before.
    AlreadyInit = "check that the inbox's address is right: a batch does not set a contract up";
    /// The contract was never set up.
    HadZeroInit = "check that the inbox's address is right: the contract there was never set up";
    /// The parent chain was not forked.
    NotForked = "check that the inbox's address is right: a batch does not say that the chain was forked";
    /// The inbox is not the one of its bridge.
    NotSequencerInbox { sender: Address } =
        "correct the inbox's address: the bridge has another inbox now";
    /// The inbox may not report what batches cost.
    NotDelayedInbox { sender: Address } =
        "correct the inbox's address, or have the chain's owner allow it at the bridge (setDelayedInbox)";
    /// The sender is not the owner.
    NotOwner { sender: Address, owner: Address } = "send this from the chain's owner";
    /// The sender may not say who posts.
    NotBatchPosterManager { sender: Address } =
        "send this from the chain's owner or its batch poster manager";
    /// The keyset is valid as it is.
    AlreadyValidDASKeyset { keyset: B256 } = "nothing: the keyset is valid already";
    /// The keyset is above the inbox's bound.
    KeysetTooLarge = "make a committee of fewer members: a keyset has less than 64 KiB";
}

#[cfg(test)]
mod tests;
