//! Where the data of a batch is in what a transaction sent, and what it is.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::reader::{Log, Transaction};
use das_common::certificate::{HEADER_FLAG, VERSION_FLAG};

use super::MAX_CALLDATA_BYTES;
use crate::types::Content;

/// The header bytes that nodes take for a certificate's.
const CERTIFICATES: [u8; 2] = [HEADER_FLAG, HEADER_FLAG | VERSION_FLAG];

/// What a transaction that posted the batch `number` holds of it.
pub(super) fn content_of(transaction: &Transaction, inbox: Address, number: u64) -> Content {
    match data_of(transaction, inbox, number) {
        Ok(data) => content(&data),
        Err(why) => Content::Unreadable(why),
    }
}

/// What the events of a block hold of a batch; none: nothing.
pub(super) fn content_in_events(logs: &[Log], number: u64) -> Option<Content> {
    let number = U256::from(number).into();
    let mut of_batch = logs.iter().filter(|log| log.topics.get(1) == Some(&number));
    let log = of_batch.next()?;
    Some(match (log.decode::<Inbox::SequencerBatchData>(), of_batch.next()) {
        (_, Some(_)) => Content::Unreadable("two events of its block hold data for it".into()),
        (None, _) => Content::Unreadable("the event with its data does not decode".into()),
        (Some(event), _) => match check_length("the event with its data", event.data.len()) {
            Ok(()) => content(&event.data),
            Err(why) => Content::Unreadable(why),
        },
    })
}

fn data_of(
    transaction: &Transaction,
    inbox: Address,
    number: u64,
) -> Result<alloy_primitives::Bytes, String> {
    let input = &transaction.input;
    match transaction.to {
        Some(to) if to == inbox => {}
        Some(to) => return Err(format!("its transaction calls {to}, not the contract itself")),
        None => return Err("its transaction makes a contract".into()),
    }
    check_length("its transaction's calldata", input.len())?;
    let Some((selector, _)) = input.split_first_chunk::<4>() else {
        return Err("its transaction calls no function".into());
    };
    let undecodable = |_| "its transaction's calldata does not decode".to_owned();
    let (sequence_number, data) = match *selector {
        Inbox::addSequencerL2BatchFromOriginCall::SELECTOR => {
            let call = Inbox::addSequencerL2BatchFromOriginCall::abi_decode(input).map_err(undecodable)?;
            (call.sequenceNumber, call.data)
        }
        Inbox::addSequencerL2BatchFromOriginDelayProofCall::SELECTOR => {
            let call = Inbox::addSequencerL2BatchFromOriginDelayProofCall::abi_decode(input);
            let call = call.map_err(undecodable)?;
            (call.sequenceNumber, call.data)
        }
        other => {
            let other = const_hex::encode_prefixed(other);
            return Err(format!("its transaction calls the function {other}, whose calldata we cannot read"));
        }
    };
    // The largest number means "whichever is next".
    if sequence_number != U256::from(number) && sequence_number != U256::MAX {
        return Err(format!("its transaction's calldata is of batch {sequence_number}"));
    }
    Ok(data)
}

fn check_length(what: &str, length: usize) -> Result<(), String> {
    if length <= MAX_CALLDATA_BYTES {
        return Ok(());
    }
    Err(format!("{what} has {length} bytes, the limit is {MAX_CALLDATA_BYTES}"))
}

fn content(data: &[u8]) -> Content {
    match data.first() {
        Some(header) if CERTIFICATES.contains(header) => Content::Certificate(data.to_vec()),
        header => Content::Data { header: header.copied(), length: data.len() as u64 },
    }
}
