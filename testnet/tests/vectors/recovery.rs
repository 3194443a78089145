//! `recovery.json`: what a batch of the chain stands for. Nothing here may differ from what was recorded.

use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_common::sequencer_message::{
    KeysetSource, ParsedKeysets, PayloadSource, Recovered, SequencerMessage, recover_as_nitro,
};
use das_testnet::vectors::{bytes, same};
use futures::FutureExt;
use serde_json::Value;

use crate::hashes::same_preimages;

/// Batch number of all cases.
const BATCH: u64 = 7;
const VALIDATION: &str = "error validating recovered payload from batch";

#[derive(Debug, thiserror::Error)]
#[error("not found")]
struct NotFound;

struct Recorded<'a>(&'a Value);

impl KeysetSource for Recorded<'_> {
    type Error = NotFound;

    async fn keyset(&self, _: &DataHash) -> Result<Bytes, NotFound> {
        if self.0["keyset"].is_null() { Err(NotFound) } else { Ok(bytes(&self.0["keyset"]).into()) }
    }
}

impl PayloadSource for Recorded<'_> {
    type Error = NotFound;

    async fn payload(&self, hash: &DataHash) -> Result<Bytes, NotFound> {
        let stored = self.0["stored"].as_array().unwrap();
        let found = stored.iter().find(|entry| bytes(&entry["hash"]) == hash.as_bytes());
        found.map(|entry| bytes(&entry["payload"]).into()).ok_or(NotFound)
    }
}

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let message = Bytes::from(bytes(&case["sequencer_message"]));
    if SequencerMessage::parse(&message).is_ok_and(|parsed| parsed.to_bytes() != message) {
        return Err("written back differs".to_owned());
    }
    check_mode(case, &message, &case["outcome"])?;
    for outcome in case["outcome_of_other_modes"].as_array().into_iter().flatten() {
        check_mode(case, &message, outcome)?;
    }
    Ok(())
}

fn check_mode(case: &Value, message: &Bytes, outcome: &Value) -> Result<(), String> {
    let check_proofs = outcome["keyset_proofs"] == "checked";
    let source = Recorded(case);
    let parsed = ParsedKeysets::new(check_proofs);
    let got = recover_as_nitro(BATCH, message, &source, &source, &parsed).now_or_never();
    match got.expect("recorded sources answer at once") {
        Err(error) => {
            let recorded = outcome["error"].as_str().ok_or_else(|| format!("refused: {error}"))?;
            // The one text that nodes match on.
            let matched = |text: &str| text.contains(VALIDATION);
            if matched(recorded) != matched(&error.to_string()) {
                return Err(format!("says {error}, recorded was {recorded}"));
            }
            Ok(())
        }
        Ok(_) if outcome.get("error").is_some() => Err("no error".to_owned()),
        Ok(Recovered::Ignored(reason)) => {
            if outcome["payload"].is_null() && outcome["preimages"].is_null() {
                Ok(())
            } else {
                Err(format!("ignored: {reason}"))
            }
        }
        Ok(Recovered::Payload(found)) => {
            if outcome["payload"].is_null() {
                return Err("not ignored".to_owned());
            }
            same("the payload", &outcome["payload"], &found.payload)?;
            same_preimages(outcome["preimages"].as_object().ok_or("no preimages")?, &found.preimages())
        }
    }
}
