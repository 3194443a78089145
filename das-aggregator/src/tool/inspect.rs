//! `inspect`: says what some bytes are.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use das_common::bls::PublicKey;
use das_common::certificate::Certificate;
use das_common::keyset::NitroKeyset;
use das_common::store_auth::Address;
use serde_json::json;

use super::args;
use super::output::{Answer, hex};
use super::show::{self, Shown, row};

das_common::options! {
    /// Options of `inspect`.
    pub(crate) struct Options {
        ["Options"]
        /// Inspect the content of this file: hex, base64 or plain bytes.
        file: PathBuf,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "inspect",
    "Says what some hex or base64 is: a certificate, a keyset, a BLS or ECDSA public key, an address, a hash, or a \
     sequencer message. `dastool inspect HEX`, or with --file."
);

/// Length of a sequencer message before its data.
const MESSAGE_HEADER: usize = 40;

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=1, |options: Options, words| {
        let bytes = match (words.first(), options.file.as_os_str().is_empty()) {
            (Some(word), true) => decode(word).context("this is neither hex nor base64")?,
            (None, false) => {
                let path = &options.file;
                let content = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                std::str::from_utf8(&content).ok().and_then(decode).unwrap_or(content)
            }
            _ => bail!("give either hex or --file"),
        };
        let Some(shown) = recognize(&bytes) else {
            bail!("{} bytes that are nothing this tool knows", bytes.len());
        };
        Answer::new(options.json, shown.text, &shown.json)
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    const_hex::decode(text).ok().or_else(|| base64_simd::STANDARD.decode_to_vec(text).ok())
}

/// The first form that fits, strict ones first: a sequencer message may hold almost anything.
fn recognize(bytes: &[u8]) -> Option<Shown> {
    if let Ok(key) = PublicKey::parse(bytes) {
        return Some(show::public_key(&key));
    }
    if bytes.first().is_some_and(|header| matches!(header, 0x80 | 0x88))
        && let Ok(certificate) = Certificate::parse_as_nitro(bytes)
    {
        return Some(show::certificate(&certificate));
    }
    if let Ok(keyset) = NitroKeyset::parse(bytes) {
        return Some(show::keyset(&keyset));
    }
    match bytes.len() {
        20 | 32 | 65 => short(bytes),
        193 if bytes[0] == 0 => Some(simple("BLS public key without proof", &hex(&bytes[1..]))),
        MESSAGE_HEADER.. => Some(sequencer_message(bytes)),
        _ => None,
    }
}

fn short(bytes: &[u8]) -> Option<Shown> {
    match bytes {
        [4, ..] if bytes.len() == 65 => {
            let mut shown = simple("ECDSA public key", &hex(bytes));
            let hash = das_common::keccak::keccak256(&bytes[1..]);
            let address = hex(&hash[12..]).parse::<Address>().ok()?.to_string();
            row(&mut shown.text, "address", &address);
            shown.json["address"] = json!(address);
            Some(shown)
        }
        _ if bytes.len() == 20 => Some(simple("address", &hex(bytes).parse::<Address>().ok()?.to_string())),
        _ if bytes.len() == 32 => Some(simple("32 bytes: a data hash, keyset hash or key", &hex(bytes))),
        _ => Some(simple("65 bytes: a store request's signature", &hex(bytes))),
    }
}

fn simple(what: &str, value: &str) -> Shown {
    let mut text = String::new();
    row(&mut text, "what", what);
    row(&mut text, "value", value);
    Shown { text, json: json!({ "what": what, "value": value }) }
}

/// Spec section 9: five numbers and the data.
fn sequencer_message(bytes: &[u8]) -> Shown {
    let (header, data) = bytes.split_at(MESSAGE_HEADER);
    let numbers: Vec<u64> = header
        .chunks_exact(8)
        .map(|number| u64::from_be_bytes(number.try_into().expect("chunks of 8 bytes")))
        .collect();
    let mut text = String::new();
    row(&mut text, "what", "sequencer message");
    row(&mut text, "min timestamp", show::time(numbers[0]));
    row(&mut text, "max timestamp", show::time(numbers[1]));
    row(&mut text, "blocks", format_args!("{} to {}", numbers[2], numbers[3]));
    row(&mut text, "delayed read", numbers[4]);
    let kind = match data.first() {
        None => "no data",
        Some(0x00) => "brotli-compressed messages",
        Some(0x20) => "a batch of delayed messages (or other layer-1 authenticated data)",
        Some(0x50) => "hashes of blobs",
        Some(0x80 | 0x88) => "a certificate",
        Some(_) => "data of an unknown kind",
    };
    row(&mut text, "data", format_args!("{} bytes: {kind}", data.len()));
    let mut json = json!({
        "what": "sequencerMessage",
        "minTimestamp": numbers[0],
        "maxTimestamp": numbers[1],
        "minBlock": numbers[2],
        "maxBlock": numbers[3],
        "afterDelayedMessagesRead": numbers[4],
        "data": hex(data),
    });
    if data.first().is_some_and(|header| matches!(header, 0x80 | 0x88)) {
        match Certificate::parse_as_nitro(data) {
            Ok(certificate) => {
                let shown = show::certificate(&certificate);
                text += "\n";
                text += &shown.text;
                // Nodes ignore such a batch (spec section 9).
                let needed = numbers[1].wrapping_add(604_800);
                if certificate.timeout < needed {
                    row(&mut text, "attention", "the timeout is too early: nodes ignore this batch");
                }
                json["certificate"] = shown.json;
                json["timeoutTooEarly"] = json!(certificate.timeout < needed);
            }
            Err(error) => {
                row(
                    &mut text,
                    "attention",
                    format_args!("no certificate ({error}): nodes ignore this batch"),
                );
                json["certificateError"] = json!(error.to_string());
            }
        }
    }
    Shown { text, json }
}
