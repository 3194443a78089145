//! `keyset-tx`: what the owner of a rollup sends to its contract to make a committee's keyset valid, or invalid.

use anyhow::Context as _;
use das_chain::contract::{invalidate_keyset_calldata, set_keyset_calldata};
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use serde_json::json;

use super::args;
use super::keyset::CommitteeFile;
use super::output::{Answer, hex};

das_common::options! {
    /// Options of `keyset-tx`.
    pub(crate) struct Options {
        ["Options"]
        /// The committee file, whose keyset is to be set (or, with --invalidate, taken back).
        committee: CommitteeFile,
        /// Make the keyset invalid instead. Batches that name it can be read as before, but none is posted any more.
        invalidate: bool = "false",
        /// Hash of the keyset to make invalid, when there is no committee file any more.
        keyset_hash: String,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "keyset-tx",
    "Prints the calldata that the rollup's owner sends to the SequencerInbox (usually through its UpgradeExecutor) to set a \
     committee's keyset, or to invalidate it.",
    &[]
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let committee = match options.committee.file.as_str() {
            "" => None,
            file => Some(Committee::load(file)?),
        };
        let (function, hash, calldata) = match (committee, options.keyset_hash.as_str(), options.invalidate) {
            (Some(committee), "", false) => {
                let keyset = committee.keyset();
                ("setValidKeyset(bytes)", keyset.hash(), set_keyset_calldata(keyset))
            }
            (Some(committee), "", true) => invalidation(committee.keyset().hash()),
            (None, hash, true) if !hash.is_empty() => {
                invalidation(hash.parse().with_context(|| format!("--keyset-hash {hash:?}"))?)
            }
            (None, _, false) => anyhow::bail!("give --committee.file"),
            (None, _, true) => anyhow::bail!("give --committee.file or --keyset-hash"),
            (Some(_), _, _) => {
                anyhow::bail!(
                    "--keyset-hash is for --invalidate without a committee file: leave out one of the two"
                )
            }
        };
        let (hash, calldata) = (hex(hash.as_bytes()), hex(&calldata));
        let text = format!("Function: {function}\nKeysetHash: {hash}\nCalldata: {calldata}\n");
        let json = json!({ "function": function, "keysetHash": hash, "calldata": calldata });
        Answer::new(options.json, text, &json)
    })
}

fn invalidation(hash: DataHash) -> (&'static str, DataHash, alloy_primitives::Bytes) {
    ("invalidateKeysetHash(bytes32)", hash, invalidate_keyset_calldata(hash))
}
