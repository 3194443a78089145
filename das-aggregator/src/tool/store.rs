//! `store`: one batch to a member or an aggregator, and the certificate that comes back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use das_common::certificate::Certificate;
use das_common::config::{Replaced, Secret};
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::rpc_client::{MemberClient, store_body_length};
use das_common::store_auth::{RequestDigest, StoreKey};
use das_common::tls::OutgoingTlsOptions;
use das_common::wire::StoreResult;
use rand::Rng as _;
use serde_json::json;

use super::args;
use super::output::{Answer, hex};

das_common::options! {
    /// Options of `store`.
    pub(crate) struct Options {
        ["Options"]
        /// JSON-RPC URL of a member or an aggregator.
        rpc: String,
        /// Store these bytes.
        message: String,
        /// Store the content of this file.
        file: PathBuf,
        /// Store this many random bytes.
        random: usize = "0",
        /// secp256k1 key that signs the request: hex with 0x, or a file that holds it.
        signing_key: Secret,
        /// How long the batch must be kept.
        retention: Duration = "24h0m0s",
        /// Send in chunks: auto (when it is too large for one request), always or never.
        chunked: String = "auto",
        /// Longest request that the server takes, in bytes.
        body_limit: usize = "5242880",
        /// How long to wait for the answer.
        timeout: Duration = "30s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "store",
    "Stores a batch and prints its certificate and data hash. A member's certificate is under the keyset of that member \
     alone; an aggregator's is the committee's."
);

das_common::options! {
    /// Nitro's `rpc` below `rpc-client`.
    pub(crate) struct NitroRpc {
        /// JSON-RPC URL of a member or an aggregator.
        url: String = "self-auth",
        /// How long to wait for the answer.
        timeout: Duration = "10s",
    }
}

das_common::options! {
    /// Nitro's `data-stream` below `rpc-client`.
    pub(crate) struct NitroDataStream {
        /// Longest request that carries a chunk, in bytes.
        max_store_chunk_body_size: usize = "5242880",
    }
}

das_common::options! {
    /// Nitro's `rpc-client`.
    pub(crate) struct NitroRpcClient {
        /// The server.
        rpc: NitroRpc,
        /// Send in chunks, and in one request to servers that know no chunks.
        enable_chunked_store: bool = "true",
        /// Chunks.
        data_stream: NitroDataStream,
    }
}

das_common::options! {
    /// Options of Nitro's `client rpc store`.
    pub(crate) struct NitroOptions {
        ["Options"]
        /// Store these bytes.
        message: String,
        /// Store this many random bytes.
        random_message_size: usize = "0",
        /// secp256k1 key that signs the request: hex with 0x, or a file that holds it.
        signing_key: Secret,
        /// Nitro's encrypted wallet; give --signing-key instead.
        signing_wallet: String,
        /// How long the batch must be kept.
        anytrust_retention_period: Duration = "24h0m0s",
        /// The server.
        rpc_client: NitroRpcClient,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    NitroOptions,
    "client rpc store",
    "Stores a batch and prints its certificate and data hash, as Nitro's anytrusttool does. dastool store does more.",
    &[
        Replaced {
            section: "",
            options: &[("signing-wallet-password", "string", "PASSWORD_NOT_SET")],
            by: "encrypted wallets are not read; give the key itself with --signing-key",
        },
        Replaced {
            section: "rpc-client.rpc",
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
                ("websocket-message-size-limit", "int64", "268435456"),
            ],
            by: "one plain HTTP request is made; repeat the command to try again",
        },
        Replaced {
            section: "rpc-client.data-stream.rpc-methods",
            options: &[
                ("start-stream", "string", "das_startChunkedStore"),
                ("stream-chunk", "string", "das_sendChunk"),
                ("finalize-stream", "string", "das_commitChunkedStore"),
            ],
            by: "the methods have these names",
        },
    ]
);

/// A store to be made, by whichever names it was asked for.
struct Order {
    rpc: String,
    message: Bytes,
    key: Option<StoreKey>,
    retention: Duration,
    chunked: Chunked,
    body_limit: usize,
    timeout: Duration,
    http: HttpClient,
    as_json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunked {
    Never,
    Always,
    /// In chunks, but plainly where the server knows no chunks (Nitro's default).
    Preferred,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let message = message(&options.message, &options.file, options.random, "--random")?;
        let chunked = match options.chunked.as_str() {
            "always" => Chunked::Always,
            "never" => Chunked::Never,
            "auto" if store_body_length(message.len()) > options.body_limit => Chunked::Always,
            "auto" => Chunked::Never,
            other => bail!("--chunked is {other:?}; it takes auto, always or never"),
        };
        order(&Order {
            rpc: options.rpc,
            message,
            key: read_key(&options.signing_key)?,
            retention: options.retention,
            chunked,
            body_limit: options.body_limit,
            timeout: options.timeout,
            http: super::http(&options.tls)?,
            as_json: options.json,
        })
    })
}

pub(crate) fn run_as_nitro(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: NitroOptions, _| {
        if !options.signing_wallet.is_empty() {
            bail!("--signing-wallet: encrypted wallets are not read; give the key itself with --signing-key");
        }
        // Nitro's default, which its own server fills in.
        if options.rpc_client.rpc.url == "self-auth" {
            bail!("--rpc-client.rpc.url must say where to store");
        }
        let message =
            message(&options.message, Path::new(""), options.random_message_size, "--random-message-size")?;
        let NitroRpcClient { rpc, enable_chunked_store, data_stream } = options.rpc_client;
        order(&Order {
            rpc: rpc.url,
            message,
            key: read_key(&options.signing_key)?,
            retention: options.anytrust_retention_period,
            chunked: if enable_chunked_store { Chunked::Preferred } else { Chunked::Never },
            body_limit: data_stream.max_store_chunk_body_size,
            timeout: rpc.timeout,
            http: HttpClient::default(),
            as_json: options.json,
        })
    })
}

fn order(order: &Order) -> anyhow::Result<Answer> {
    let endpoint = Endpoint::parse(&order.rpc).context("the server's URL")?;
    let client = MemberClient::new(endpoint, order.http.clone());
    let timeout = super::now().saturating_add(order.retention.as_secs());
    let answer = super::block_on(send(&client, order, timeout))?;

    let expected = DataHash::of(&order.message);
    ensure!(
        answer.data_hash == *expected.as_bytes(),
        "the server signed data hash {}, but the message's is 0x{expected}",
        hex(&answer.data_hash)
    );
    let certificate = certificate(&answer)?;
    let (cert, hash) = (hex(&certificate.to_bytes()), hex(expected.as_bytes()));
    let text = format!("Hex Encoded Cert: {cert}\nHex Encoded Data Hash: {hash}\n");
    let shown = super::show::certificate(&certificate).json;
    Answer::new(order.as_json, text, &json!({ "cert": cert, "dataHash": hash, "certificate": shown }))
}

async fn send(client: &MemberClient, order: &Order, timeout: u64) -> anyhow::Result<StoreResult> {
    let Order { message, key, body_limit, .. } = order;
    if order.chunked != Chunked::Never && !(message.is_empty() && order.chunked == Chunked::Preferred) {
        let Some(key) = key else {
            bail!("a store in chunks must be signed: give --signing-key");
        };
        match client.store_chunked(message, timeout, key, *body_limit, order.timeout).await {
            Err(error) if order.chunked == Chunked::Preferred && error.is_unknown_method() => {}
            other => return Ok(other?),
        }
    }
    let digest = RequestDigest::store(message, timeout);
    let signature = key.as_ref().map(|key| key.sign(&digest));
    let signature = signature.as_ref().map_or(&[][..], |signature| &signature[..]);
    Ok(client.store(message, timeout, signature, order.timeout).await?)
}

/// The certificate that an answer is.
pub(crate) fn certificate(answer: &StoreResult) -> anyhow::Result<Certificate> {
    let signature = answer.sig.as_slice().try_into();
    Ok(Certificate {
        version: answer.version.try_into().with_context(|| format!("version {}", answer.version))?,
        keyset_hash: DataHash::from_bytes(answer.keyset_hash),
        data_hash: DataHash::from_bytes(answer.data_hash),
        timeout: answer.timeout,
        signers_mask: answer.signers_mask,
        signature: signature.with_context(|| format!("a signature of {} bytes", answer.sig.len()))?,
    })
}

/// The one message that is given; `random` names its option.
pub(crate) fn message(text: &str, file: &Path, random_size: usize, random: &str) -> anyhow::Result<Bytes> {
    match (text.is_empty(), file.as_os_str().is_empty(), random_size) {
        (false, true, 0) => Ok(text.to_owned().into()),
        (true, false, 0) => {
            Ok(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?.into())
        }
        (true, true, 1..) => {
            /// Beyond this the number is a mistake.
            const MOST: usize = 1 << 30;
            ensure!(random_size <= MOST, "{random} is {random_size}, at most {MOST}");
            let mut message = vec![0; random_size];
            rand::rng().fill(message.as_mut_slice());
            Ok(message.into())
        }
        (true, true, 0) => bail!("--message or {random} must be specified"),
        _ => bail!("give one message only"),
    }
}

/// A key given as hex (with 0x, or 64 digits), or by a file that holds hex.
pub(crate) fn read_key(given: &Secret) -> anyhow::Result<Option<StoreKey>> {
    let text = given.expose().trim();
    if text.is_empty() {
        return Ok(None);
    }
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = if text.starts_with("0x") || is_hex {
        StoreKey::from_hex(text)
    } else {
        // The text may be a mistyped key, so it is not repeated.
        let content = std::fs::read_to_string(text);
        let content = content.context("--signing-key is neither hex with 0x nor a readable file")?;
        StoreKey::from_hex(Secret::from(content).expose().trim())
    };
    Ok(Some(key.context("--signing-key")?))
}
