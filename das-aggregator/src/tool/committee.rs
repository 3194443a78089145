//! `committee`: checks a committee file and prints what it promises, or what three numbers would promise.

use anyhow::bail;
use das_common::committee::{Committee, Policy, Promise};
use serde_json::json;

use super::args;
use super::output::{Answer, hex};

das_common::options! {
    /// Options of `committee`.
    pub(crate) struct Options {
        ["Options"]
        /// Number of members (n), to print a promise without a committee file.
        members: u32 = "0",
        /// How many of them are honest (H).
        honest_members: u32 = "0",
        /// How many shards rebuild a cold batch (k); 1 is whole copies.
        data_shards: u32 = "0",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "committee",
    "Checks a committee file and prints what it promises (what may be down, what may be lost, what it costs), its members \
     and keyset: `dastool committee FILE`. Or prints what three numbers would promise."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=1, |options: Options, words| {
        let numbers = [options.members, options.honest_members, options.data_shards];
        match (words.first(), numbers) {
            (Some(path), [0, 0, 0]) => of_file(options.json, path),
            (Some(_), _) => bail!("give a committee file or three numbers, not both"),
            (None, [0, 0, 0]) => {
                bail!("give a committee file, or --members, --honest-members and --data-shards")
            }
            (None, [n, h, k]) => {
                let promise = Promise::of(&Policy::new(n.into(), h.into(), k.into())?);
                Answer::new(options.json, promise.to_string(), &json!({ "promise": promise }))
            }
        }
    })
}

fn of_file(as_json: bool, path: &str) -> anyhow::Result<Answer> {
    let committee = Committee::load(path)?;
    let promise = committee.promise();
    let keyset_hash = committee.keyset().hash();
    let mut text = promise.to_string();
    text += "\nmembers\n";
    for (index, member) in committee.members().iter().enumerate() {
        let rest = member.rest.as_ref().map_or("-", |url| url.as_str());
        let peer = member.peer.as_ref().map_or("-", |peer| peer.as_str());
        text += &format!("  {index:>2}  {:<16} rpc {}  rest {rest}  peer {peer}\n", member.name, member.rpc);
    }
    text += &format!("\nkeyset hash  0x{keyset_hash}\ncoding id    0x{}\n", committee.coding_id());
    let members: Vec<_> = committee
        .members()
        .iter()
        .map(|member| {
            json!({
                "name": member.name,
                "publicKey": base64_simd::STANDARD.encode_to_string(member.public_key.to_bytes()),
                "rpc": member.rpc.as_str(),
                "rest": member.rest.as_ref().map(|url| url.as_str()),
                "peer": member.peer.as_ref().map(|peer| peer.as_str()),
            })
        })
        .collect();
    let json = json!({
        "promise": promise,
        "members": members,
        "keyset": hex(&committee.keyset().to_bytes()),
        "keysetHash": hex(keyset_hash.as_bytes()),
        "codingId": hex(committee.coding_id().as_bytes()),
    });
    Answer::new(as_json, text, &json)
}
