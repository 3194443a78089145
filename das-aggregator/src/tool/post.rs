//! `post` and `batch-status`: a batch to an aggregator that posts, and how far it is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use das_common::config::Secret;
use das_common::http::client::Endpoint;
use das_common::rpc_client::MemberClient;
use das_common::store_auth::RequestDigest;
use das_common::tls::OutgoingTlsOptions;
use serde_json::Value;

use super::args;
use super::output::Answer;
use super::store::{message, read_key};

/// How often the batch is asked about.
const LOOK_EVERY: Duration = Duration::from_millis(300);

das_common::options! {
    /// Options of `post`.
    pub(crate) struct Options {
        ["Options"]
        /// JSON-RPC URL of an aggregator with post.enable.
        rpc: String,
        /// Post these bytes.
        message: String,
        /// Post the content of this file.
        file: PathBuf,
        /// Post this many random bytes.
        random: usize = "0",
        /// secp256k1 key that signs the request: hex with 0x, or a file that holds it.
        signing_key: Secret,
        /// How long the batch must be kept.
        retention: Duration = "360h0m0s",
        /// Messages of the chain that are in it.
        messages: u64 = "1",
        /// Delayed messages that are read with it and before; auto: as after the batch before.
        after_delayed: String = "auto",
        /// Messages of the chain before it; auto: as after the batch that the aggregator took last, or 0 (the contract does
        /// not look at the counts then).
        prev_count: String = "auto",
        /// Wait until it is: received, certified, submitted, included or final.
        wait: String = "included",
        /// How long to wait for that.
        wait_at_most: Duration = "10m0s",
        /// How long to wait for one answer.
        timeout: Duration = "30s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "post",
    "Hands a batch to an aggregator that has it certified and posts it to the parent chain, and says how far it is until it is \
     in a block (--wait)."
);

das_common::options! {
    /// Options of `batch-status`.
    pub(crate) struct StatusOptions {
        ["Options"]
        /// JSON-RPC URL of an aggregator with post.enable.
        rpc: String,
        /// How long to wait for the answer.
        timeout: Duration = "30s",
        /// Servers with https URLs: whom to trust, and who we are.
        tls: OutgoingTlsOptions,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    StatusOptions,
    "batch-status",
    "Prints how far a batch is that was handed over with dastool post or das_postBatch: dastool batch-status ID."
);

/// In their order.
const STAGES: [&str; 5] = ["received", "certified", "submitted", "included", "final"];

fn place(stage: &str) -> Option<usize> {
    STAGES.iter().position(|known| *known == stage)
}

fn client(rpc: &str, tls: &OutgoingTlsOptions) -> anyhow::Result<MemberClient> {
    ensure!(!rpc.is_empty(), "--rpc must say which aggregator");
    Ok(MemberClient::new(Endpoint::parse(rpc).context("--rpc")?, super::http(tls)?))
}

/// A number that was given, or else is known.
fn number(option: &str, given: &str, known: &Value) -> anyhow::Result<u64> {
    match given {
        "auto" => Ok(known.as_u64().unwrap_or(0)),
        text => text.parse().with_context(|| format!("--{option} is {text:?}; it takes a number or auto")),
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        let Some(wanted) = place(&options.wait) else {
            bail!("--wait is {:?}; it takes {}", options.wait, STAGES.join(", "));
        };
        let message = message(&options.message, &options.file, options.random, "--random")?;
        let key = read_key(&options.signing_key)?.context("--signing-key must sign the request")?;
        let client = client(&options.rpc, &options.tls)?;
        let (status, reached) = super::block_on(async {
            let known = client.post_status(options.timeout).await;
            let known = known.context("the aggregator does not say what it posts to (post.enable?)")?;
            let chain_id = known["chainId"].as_u64().context("the aggregator names no chain id")?;
            let inbox = known["sequencerInbox"].as_str().unwrap_or_default();
            let inbox: [u8; 20] =
                const_hex::decode_to_array(inbox).context("the aggregator names no contract")?;
            let last = &known["last"];
            let delayed = number("after-delayed", &options.after_delayed, &last["afterDelayedMessagesRead"])?;
            let before = number("prev-count", &options.prev_count, &last["newMessageCount"])?;
            let after = before.checked_add(options.messages).context("--messages is too large")?;
            let numbers = [super::now().saturating_add(options.retention.as_secs()), delayed, before, after];
            let signature = key.sign(&RequestDigest::post_batch(chain_id, &inbox, numbers, &message));
            let status = client.post_batch(&message, numbers, &signature, options.timeout).await?;
            follow(&client, status, wanted, &options).await
        })?;
        let mut answer = Answer::new(options.json, text_of(&status), &status)?;
        if !reached {
            answer.aside = format!(
                "dastool: it is not {} after {:?}; dastool batch-status {} asks again\n",
                options.wait, options.wait_at_most, status["id"]
            );
            answer.good = false;
        }
        Ok(answer)
    })
}

/// Looks until the batch is as far as it should be; whether it came so far in time.
async fn follow(
    client: &MemberClient,
    mut status: Value,
    wanted: usize,
    options: &Options,
) -> anyhow::Result<(Value, bool)> {
    let (begun, id) = (Instant::now(), status["id"].as_u64().context("the answer names no batch")?);
    let mut told = None;
    loop {
        let stage = status["stage"].as_str().and_then(place);
        let now = (stage, status["problem"].clone());
        if told.as_ref() != Some(&now) && !options.json {
            tell(&status, begun.elapsed());
        }
        told = Some(now);
        if stage >= Some(wanted) {
            return Ok((status, true));
        }
        if begun.elapsed() >= options.wait_at_most {
            return Ok((status, false));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        status = client.batch_status(id, options.timeout).await?;
    }
}

fn tell(status: &Value, after: Duration) {
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let mut line = format!("{:>6.1} s  {}", after.as_secs_f64(), text("stage"));
    match text("stage") {
        "submitted" => drop(write!(line, " {}", text("transaction"))),
        "included" | "final" => drop(write!(line, " in block {}", status["block"]["number"])),
        _ => {}
    }
    if let Some(problem) = status["problem"].as_str() {
        let _ = write!(line, ": {problem}");
    }
    // Progress, beside what is piped on; whoever reads may have hung up.
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn run_status(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: StatusOptions, words| {
        let word = words.first().map(String::as_str).unwrap_or_default();
        let id = word.parse().with_context(|| format!("{word:?} is no number of a batch"))?;
        let client = client(&options.rpc, &options.tls)?;
        let status = super::block_on(async { Ok(client.batch_status(id, options.timeout).await?) })?;
        let mut answer = Answer::new(options.json, text_of(&status), &status)?;
        answer.good = status["problem"].is_null();
        Ok(answer)
    })
}

fn text_of(status: &Value) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &Value| {
        let value = match value {
            Value::Null => return,
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(text, "{name:<17}{value}");
    };
    row("batch", &status["id"]);
    row("stage", &status["stage"]);
    row("data hash", &status["dataHash"]);
    row("bytes", &status["length"]);
    row("posted as", &status["postedAs"]);
    row("certificate", &status["certificate"]);
    row("number on chain", &status["sequenceNumber"]);
    row("transaction", &status["transaction"]);
    row("block", &status["block"]["number"]);
    row("block hash", &status["block"]["hash"]);
    row("problem", &status["problem"]);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_given_or_known_or_zero() {
        assert_eq!(number("prev-count", "auto", &json!(7)).unwrap(), 7);
        assert_eq!(number("prev-count", "auto", &Value::Null).unwrap(), 0);
        assert_eq!(number("prev-count", "9", &json!(7)).unwrap(), 9);
        let error = number("prev-count", "nine", &json!(7)).unwrap_err();
        assert_eq!(error.to_string(), "--prev-count is \"nine\"; it takes a number or auto");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let status =
            json!({ "id": 3, "stage": "received", "dataHash": "0x12", "block": null, "problem": null });
        assert_eq!(
            text_of(&status),
            "batch            3\nstage            received\ndata hash        0x12\n"
        );
    }
}
