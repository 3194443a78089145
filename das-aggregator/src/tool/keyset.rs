//! `dump-keyset`: the keyset of a committee, as it is posted to the parent chain.

use anyhow::bail;
use das_common::committee::Committee;
use das_common::config::{OptionValue as _, Replaced};
use serde_json::json;

use super::args;
use super::output::{Answer, hex};
use crate::options::Backends;

das_common::options! {
    /// Nitro's description of a committee.
    pub(crate) struct KeysetOptions {
        /// A, of Nitro's options; with --keyset.backends.
        assumed_honest: u64 = "0",
        /// Nitro's JSON list of members, [{"url":"..","pubkey":"<base64>"}].
        backends: Backends,
    }
}

das_common::options! {
    /// Where a committee file is.
    pub(crate) struct CommitteeFile {
        /// The committee file.
        file: String,
    }
}

das_common::options! {
    /// Options of `dump-keyset`.
    pub(crate) struct Options {
        ["Options"]
        /// The committee file.
        committee: CommitteeFile,
        /// Nitro's options instead.
        keyset: KeysetOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

/// How members would be called, which nobody does to print a keyset.
const NOT_CALLED: &str = "members are not called to print a keyset";

/// The rest of Nitro's options of the same name.
const REPLACED: &[Replaced] = &[
    Replaced {
        section: "keyset",
        options: &[("enable", "bool", "false"), ("rpc-client.enable-chunked-store", "bool", "true")],
        by: NOT_CALLED,
    },
    Replaced {
        section: "keyset.rpc-client.data-stream",
        options: &[
            ("max-store-chunk-body-size", "int", "5242880"),
            ("rpc-methods.start-stream", "string", "das_startChunkedStore"),
            ("rpc-methods.stream-chunk", "string", "das_sendChunk"),
            ("rpc-methods.finalize-stream", "string", "das_commitChunkedStore"),
        ],
        by: NOT_CALLED,
    },
    Replaced {
        section: "keyset.rpc-client.rpc",
        options: &[
            ("arg-log-limit", "uint", "2048"),
            ("connection-wait", "duration", "0s"),
            ("jwtsecret", "string", ""),
            ("retries", "uint", "3"),
            ("retry-delay", "duration", "0s"),
            (
                "retry-errors",
                "string",
                "websocket: close.*|dial tcp .*|.*i/o timeout|.*connection reset by peer|.*connection refused",
            ),
            ("timeout", "duration", "10s"),
            ("url", "string", "self-auth"),
            ("websocket-message-size-limit", "int64", "268435456"),
        ],
        by: NOT_CALLED,
    },
];

args::command!(
    Options,
    "dump-keyset",
    "Prints the keyset to post to the parent chain, and its hash: of a committee file (--committee.file) or of Nitro's \
     options (--keyset.assumed-honest and --keyset.backends).",
    REPLACED
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let committee = committee(&options)?;
        let keyset = hex(&committee.keyset().to_bytes());
        let hash = hex(committee.keyset().hash().as_bytes());
        let text = format!("Keyset: {keyset}\nKeysetHash: {hash}\n");
        Answer::new(options.json, text, &json!({ "keyset": keyset, "keysetHash": hash }))
    })
}

fn committee(options: &Options) -> anyhow::Result<Committee> {
    let KeysetOptions { assumed_honest, backends } = &options.keyset;
    let honest = (*assumed_honest != 0).then_some(*assumed_honest);
    let backends = (!backends.0.is_empty()).then(|| backends.to_raw().to_string());
    let backends = backends.as_deref();
    if !options.committee.file.is_empty() {
        let committee = Committee::load(&options.committee.file)?;
        committee.check_agrees_with_nitro(honest, backends)?;
        return Ok(committee);
    }
    match (honest, backends) {
        (Some(honest), Some(backends)) => Ok(Committee::from_nitro(honest, backends)?),
        (None, Some(_)) => bail!("--keyset.assumed-honest must be set"),
        (Some(_), None) => bail!("--keyset.backends must be set"),
        (None, None) => bail!("give --committee.file, or --keyset.assumed-honest and --keyset.backends"),
    }
}
