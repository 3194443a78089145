//! `get`: reads a batch back by its hash.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use das_common::batch::VerifiedBatch;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::tls::OutgoingTlsOptions;
use das_common::wire::parse_get_by_hash;
use http::StatusCode;
use serde_json::json;

use super::args;
use super::keyset::CommitteeFile;
use super::output::{Answer, hex};

/// The longest answer that is read: base64 of 256 MiB.
const MAX_ANSWER_BYTES: usize = 358 << 20;

das_common::options! {
    /// Options of `get`.
    pub(crate) struct Options {
        ["Options"]
        /// REST URL of a member, mirror or aggregator; several are separated by commas and tried in their order.
        rest: Vec<String>,
        /// Ask the members of this committee.
        committee: CommitteeFile,
        /// Write the batch to this file; to standard output otherwise.
        out: PathBuf,
        /// How long to wait for each server.
        timeout: Duration = "30s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON, the batch in base64.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "get",
    "Reads a batch by its data hash, checks it against the hash, and writes it as it is: `dastool get HASH --rest URL`, or \
     with --committee.file."
);

das_common::options! {
    /// Options of Nitro's `client rest getbyhash`.
    pub(crate) struct NitroOptions {
        ["Options"]
        /// REST URL of the server.
        url: String = "http://localhost:9877",
        /// Data hash: hex with 0x, or base64.
        data_hash: String,
        /// Print JSON, the batch in base64.
        json: bool = "false",
    }
}

args::command!(
    NitroOptions,
    "client rest getbyhash",
    "Reads a batch by its data hash and prints it after `Message: `, as Nitro's anytrusttool does."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: Options, words| {
        let hash: DataHash = words[0].parse().context("the data hash")?;
        let mut urls = options.rest;
        if !options.committee.file.is_empty() {
            let committee = Committee::load(&options.committee.file)?;
            urls.extend(committee.members().iter().filter_map(|m| m.rest.as_ref()).map(ToString::to_string));
        }
        ensure!(!urls.is_empty(), "say where to read with --rest or --committee.file");
        let (batch, from) = read_any(&super::http(&options.tls)?, &urls, &hash, options.timeout)?;
        let bytes = batch.bytes();
        let json = json!({
            "dataHash": hex(hash.as_bytes()),
            "length": bytes.len(),
            "from": from,
            "data": options.out.as_os_str().is_empty().then(|| base64_simd::STANDARD.encode_to_string(bytes)),
        });
        if options.out.as_os_str().is_empty() {
            return Answer::new(options.json, bytes.to_vec(), &json);
        }
        std::fs::write(&options.out, bytes).with_context(|| format!("writing {}", options.out.display()))?;
        let text = format!("wrote {} bytes from {from} to {}\n", bytes.len(), options.out.display());
        Answer::new(options.json, text, &json)
    })
}

pub(crate) fn run_as_nitro(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: NitroOptions, _| {
        let hash = nitro_hash(&options.data_hash)?;
        ensure!(
            options.url.starts_with("http://") || options.url.starts_with("https://"),
            "--url must begin with http:// or https://; it is {:?}",
            options.url
        );
        let (batch, _) = read_any(&HttpClient::default(), &[options.url], &hash, Duration::from_secs(30))?;
        let text = [b"Message: ", batch.bytes().as_ref(), b"\n"].concat();
        let data = base64_simd::STANDARD.encode_to_string(batch.bytes());
        Answer::new(options.json, text, &json!({ "dataHash": hex(hash.as_bytes()), "data": data }))
    })
}

/// Nitro's tool takes hex with 0x, and base64 otherwise.
fn nitro_hash(text: &str) -> anyhow::Result<DataHash> {
    if text.starts_with("0x") || text.len() == 64 {
        return text.parse().context("--data-hash");
    }
    let bytes = base64_simd::STANDARD
        .decode_to_vec(text)
        .ok()
        .context("--data-hash is neither hex with 0x nor base64")?;
    let length = bytes.len();
    let bytes = <[u8; 32]>::try_from(bytes).ok();
    Ok(DataHash::from_bytes(bytes.with_context(|| format!("--data-hash has {length} bytes, a hash has 32"))?))
}

/// The batch from the first server that has it, and that server's URL.
fn read_any(
    client: &HttpClient,
    urls: &[String],
    hash: &DataHash,
    timeout: Duration,
) -> anyhow::Result<(VerifiedBatch, String)> {
    let endpoints: Vec<Endpoint> = urls.iter().map(|url| Endpoint::parse(url)).collect::<Result<_, _>>()?;
    super::block_on(async {
        let mut failures = Vec::new();
        for endpoint in &endpoints {
            match read(client, endpoint, hash, timeout).await {
                Ok(batch) => return Ok((batch, endpoint.to_string())),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        bail!("{}", failures.join("\n"))
    })
}

/// Reads a batch and checks it.
pub(crate) async fn read(
    client: &HttpClient,
    endpoint: &Endpoint,
    hash: &DataHash,
    timeout: Duration,
) -> anyhow::Result<VerifiedBatch> {
    let response = client.get(endpoint, &format!("/get-by-hash/{hash}"), timeout, MAX_ANSWER_BYTES).await?;
    match response.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => bail!("{endpoint} does not have the batch (404)"),
        status => bail!("{endpoint} answers HTTP status {status}"),
    }
    let data = parse_get_by_hash(&response.body).with_context(|| format!("the answer of {endpoint}"))?;
    VerifiedBatch::check(data.into(), hash)
        .with_context(|| format!("{endpoint} serves other bytes under this hash"))
}
