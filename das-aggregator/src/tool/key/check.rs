//! `key-check`: which key is where, and whether it is a member's.

use std::path::{Path, PathBuf};

use anyhow::bail;
use base64_simd::STANDARD;
use das_common::bls::PublicKey;
use das_common::committee::Committee;
use das_common::keyset::Keyset;
use das_common::signer::{Message, Signer as _};
use das_keys::options::{KeyOptions, NODE_NAMES};
use das_keys::source::{guard_process, open_remote, read_public_key};
use serde_json::json;

use super::super::output::{Answer, hex};
use super::super::{args, block_on};
use super::coded;

das_common::options! {
    /// Options of `key-check`.
    pub(crate) struct Options {
        ["Options"]
        /// How the key is held, as das-node's options data-availability.key.* say it.
        key: KeyOptions,
        /// Committee file of which the key should be a member's.
        committee: PathBuf,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "key-check",
    "Says which public key belongs to a key, and whether it is a member's of a committee file. With --key.* (as das-node has \
     them) the key is opened, or das-signer is asked to prove that it has it; `dastool key-check FILE` only reads the public \
     key that a keystore, an envelope or a das_bls.pub names."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=1, |options: Options, words| {
        guard_process(false);
        if let Some(problem) = options.key.problems(&NODE_NAMES).first() {
            bail!(
                "--{}: {}; {}",
                problem.option.replace("data-availability.", ""),
                problem.text,
                problem.cure
            );
        }
        let (key, proved) = match (words.first(), options.key.is_given()) {
            (Some(file), false) => (read_public_key(Path::new(file)).map_err(coded)?, false),
            (None, true) => (block_on(open(&options.key))?, true),
            _ => bail!("give a file, or one way to hold a key by --key.*"),
        };
        report(&options, &key, proved)
    })
}

async fn open(options: &KeyOptions) -> anyhow::Result<PublicKey> {
    if let Some(source) = options.held() {
        return Ok(source.open().await.map_err(coded)?.public_key());
    }
    let signer = open_remote(options).map_err(coded)?;
    signer.sign(Message::possession()).await.map_err(coded)?;
    Ok(signer.public_key().clone())
}

fn report(options: &Options, key: &PublicKey, proved: bool) -> anyhow::Result<Answer> {
    let public_key = STANDARD.encode_to_string(key.to_bytes());
    let keyset_hash = hex(Keyset::single(key.clone()).hash().as_bytes());
    let how = if proved { "the secret key was used" } else { "only named by the file" };
    let mut text = format!("public key    {public_key}\nkeyset hash   {keyset_hash}\nproof         {how}\n");
    let mut json = json!({ "publicKey": public_key, "keysetHash": keyset_hash, "proved": proved });
    let mut good = true;
    if !options.committee.as_os_str().is_empty() {
        let committee = Committee::load(&options.committee)?;
        let index = committee.index_of(key);
        let name = index.map(|index| committee.members()[index].name.clone());
        text += &match (&name, index) {
            (Some(name), Some(index)) => format!("member        {name}, index {index}\n"),
            _ => "member        of this committee file: none\n".to_owned(),
        };
        json["member"] = json!(name);
        json["index"] = json!(index);
        good = index.is_some();
    }
    let mut answer = Answer::new(options.json, text, &json)?;
    answer.good = good;
    Ok(answer)
}
