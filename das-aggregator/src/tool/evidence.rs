//! `verify-evidence`: does a bundle prove that a member did not keep its word?
//!
//! Works offline: a bundle holds what the accused signed, the committee file says how batches are coded. That the peer key is
//! the member's is what the members' bindings say; whoever runs this brings the key from where he trusts it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use das_common::binding::PeerKey;
use das_common::committee::Committee;
use das_common::custody::bundle::Bundle;
use das_common::custody::evidence::{AuditAnswer, Evidence, MAX_EVIDENCE_BYTES, NotProved};
use das_common::custody::{Coding, PeerPublicKey, SignedList, Statement, StatementList};
use das_common::data_hash::DataHash;
use serde_json::{Value, json};

use super::args;
use super::keyset::CommitteeFile;
use super::output::{Answer, hex};
use super::show::{row, time};

das_common::options! {
    /// Options of `verify-evidence`.
    pub(crate) struct Options {
        ["Options"]
        /// The committee file that was in force when the statement was made.
        committee: CommitteeFile,
        /// The peer key of the accused, where the bundle does not say it by the accused's own binding: its peer id
        /// (12D3KooW..., as /custody of the other members shows it), or 32 bytes in hex.
        peer_key: String,
        /// The batch in question; needed when the member is accused of a wrong root.
        batch: PathBuf,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "verify-evidence",
    "Checks offline whether a bundle of evidence proves that a member did not keep its word: `dastool verify-evidence FILE \
     --committee.file F`, with --batch for a wrong root. Exit code 1 when it proves nothing."
);

/// What a bundle says, as far as it can be read.
struct Claim {
    kind: &'static str,
    text: String,
    json: Value,
    /// Whom the statement is by, for the name in the committee file.
    list: StatementList,
    proves: &'static str,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 1..=1, |options: Options, words| {
        ensure!(!options.committee.file.is_empty(), "say how batches were coded with --committee.file");
        let committee = Committee::load(&options.committee.file)?;
        let length = std::fs::metadata(&words[0]).with_context(|| format!("reading {}", words[0]))?.len();
        ensure!(
            length <= MAX_EVIDENCE_BYTES as u64,
            "{} has {length} bytes, a bundle has at most {MAX_EVIDENCE_BYTES}",
            words[0]
        );
        let bytes = std::fs::read(&words[0]).with_context(|| format!("reading {}", words[0]))?;
        let bundle = match Bundle::from_bytes(&bytes) {
            Ok(bundle) => bundle,
            Err(error) => return unreadable(options.json, &error),
        };
        let accused = match accused(&bundle, &committee, &options.peer_key)? {
            Ok(accused) => accused,
            Err(why) => return unreadable(options.json, &why),
        };
        let evidence = bundle.evidence;
        let batch = batch(&options.batch, &evidence)?;
        let public = PeerPublicKey(*accused.key.as_bytes());
        let verdict = evidence.verify(&public, &Coding::of(&committee), batch.as_deref());
        if let Err(error @ NotProved::BatchNeeded { .. }) = &verdict {
            anyhow::bail!("{error}: read it with dastool get, and give it with --batch");
        }
        let claim = match claim(&evidence, &public) {
            Ok(claim) => claim,
            Err(error) => return unreadable(options.json, &error),
        };
        let (said, bound) = (claim.list.member, accused.bound);
        if let Some(bound) = bound.filter(|bound| *bound != said) {
            let why =
                format!("the binding is that of member {bound}, the list says that it is member {said}'s");
            return unreadable(options.json, &why);
        }
        show(options.json, &committee, &accused, &claim, verdict.as_ref().err())
    })
}

/// The key that is accused, and the member whose it is if that is proved too.
struct Accused {
    key: PeerKey,
    bound: Option<u8>,
}

/// Whom the binding of the bundle names, or else whom the option does. The inner error: the bundle contradicts itself or
/// the option.
fn accused(bundle: &Bundle, committee: &Committee, option: &str) -> anyhow::Result<Result<Accused, String>> {
    let given = if option.is_empty() { None } else { Some(peer_key(option)?) };
    Ok(match (bundle.accused(committee), given) {
        (Err(error), _) => Err(format!("the accused's binding in the bundle does not hold: {error}")),
        (Ok(Some((_, key))), Some(given)) if key != given => {
            Err(format!("the bundle accuses {key}, --peer-key says {given}"))
        }
        (Ok(Some((index, key))), _) => Ok(Accused { key, bound: Some(index) }),
        (Ok(None), Some(key)) => Ok(Accused { key, bound: None }),
        (Ok(None), None) => {
            anyhow::bail!("the bundle has no binding: say who is accused with --peer-key")
        }
    })
}

/// A peer id, or 32 bytes in hex.
fn peer_key(text: &str) -> anyhow::Result<PeerKey> {
    if let Ok(key) = text.trim().parse() {
        return Ok(key);
    }
    let bytes = const_hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(PeerKey::new).context("--peer-key is neither a peer id (12D3KooW...) nor 32 bytes in hex")
}

/// The batch, which must be the one that the bundle is about.
fn batch(path: &Path, evidence: &Evidence) -> anyhow::Result<Option<Vec<u8>>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    if let Evidence::WrongRoot { hash, .. } = evidence {
        let got = DataHash::of(&bytes);
        ensure!(got == *hash, "{} is the batch 0x{got}, the bundle is about 0x{hash}", path.display());
    }
    Ok(Some(bytes))
}

fn claim(evidence: &Evidence, key: &PeerPublicKey) -> Result<Claim, NotProved> {
    Ok(match evidence {
        Evidence::FailedAudit { list, answer } => {
            // An answer by somebody else is still shown; that it is not the accused's is the verdict.
            let answer = answer.verify(key)?;
            let list = list.read()?;
            let (statement, statement_json) = statement(&list, &answer.question.hash);
            let (said, said_json) = said(&answer);
            Claim {
                kind: "failed audit",
                text: statement + &said,
                json: json!({ "statement": statement_json, "answer": said_json }),
                list,
                proves: "it signed that it holds this shard, and signed an answer that does not show it",
            }
        }
        Evidence::WrongRoot { list, hash } => {
            let list = list.read()?;
            let (text, statement) = statement(&list, hash);
            Claim {
                kind: "wrong root",
                text,
                json: json!({ "statement": statement }),
                list,
                proves: "it signed a root that this batch does not have",
            }
        }
        Evidence::SameCounter { first, second } => {
            let digests = [digest(first), digest(second)];
            let list = first.read()?;
            let mut text = String::new();
            row(&mut text, "storage id", hex(&list.storage_id.0));
            row(&mut text, "counter", list.counter);
            row(&mut text, "first list", &digests[0]);
            row(&mut text, "second list", &digests[1]);
            Claim {
                kind: "two lists with one number",
                text,
                json: json!({ "storageId": hex(&list.storage_id.0), "counter": list.counter, "lists": digests }),
                list,
                proves: "it signed two different lists of statements under one number",
            }
        }
    })
}

fn digest(list: &SignedList) -> String {
    hex(&das_common::keccak::keccak256(&list.body))
}

fn statement(list: &StatementList, hash: &DataHash) -> (String, Value) {
    let mut text = String::new();
    row(&mut text, "batch", format_args!("0x{hash}"));
    let found = list.entries.iter().find(|entry| entry.hash == *hash);
    let Some(Statement { length, root, until, .. }) = found else { return (text, Value::Null) };
    row(&mut text, "stated", format_args!("shard {} of its {length} bytes is on disk", list.member));
    row(&mut text, "under root", hex(root.as_bytes()));
    row(&mut text, "stated at", time(list.issued_at));
    let end = if *until == das_common::custody::FOR_EVER { "for ever".to_owned() } else { time(*until) };
    row(&mut text, "until", end);
    let json = json!({
        "dataHash": hex(hash.as_bytes()),
        "length": length,
        "root": hex(root.as_bytes()),
        "issuedAt": list.issued_at,
        "until": until,
    });
    (text, json)
}

fn said(answer: &AuditAnswer) -> (String, Value) {
    let mut text = String::new();
    row(&mut text, "asked for", format_args!("leaf {} of that shard", answer.question.leaf));
    let what = match answer.leaf {
        None => "that it does not have it",
        Some(_) => "with some leaf",
    };
    row(&mut text, "answered", format_args!("{what}, {}", time(answer.answered_at)));
    let json = json!({
        "leaf": answer.question.leaf,
        "answeredAt": answer.answered_at,
        "showsLeaf": answer.leaf.is_some(),
    });
    (text, json)
}

fn show(
    as_json: bool,
    committee: &Committee,
    accused: &Accused,
    claim: &Claim,
    verdict: Option<&NotProved>,
) -> anyhow::Result<Answer> {
    // An index means a member only in the committee that the list was made for.
    let index = usize::from(claim.list.member);
    let same = claim.list.coding == committee.coding_id();
    let name = committee.members().get(index).filter(|_| same).map(|member| member.name.as_str());
    let mut text = String::new();
    row(&mut text, "what", claim.kind);
    row(&mut text, "member", format_args!("{index} ({})", name.unwrap_or("of another committee file")));
    row(&mut text, "peer key", accused.key);
    text += &claim.text;
    row(&mut text, "proved", if verdict.is_none() { "yes" } else { "no" });
    match verdict {
        None => {
            row(&mut text, "", claim.proves);
            let whose = match accused.bound {
                Some(_) => "the member's BLS key vouched for this peer key: the binding is in the bundle",
                None => "whoever holds this peer key signed that; that it is the member's you must know",
            };
            row(&mut text, "", whose);
        }
        Some(why) => row(&mut text, "", why),
    }
    let json = json!({
        "proved": verdict.is_none(),
        "why": verdict.map(ToString::to_string),
        "what": claim.kind,
        "member": index,
        "name": name,
        "peerKey": accused.key.to_string(),
        "bound": accused.bound.is_some(),
        "claim": claim.json,
    });
    let mut answer = Answer::new(as_json, text, &json)?;
    answer.good = verdict.is_none();
    Ok(answer)
}

/// What is no bundle, or is not signed by the accused, proves nothing: that is an answer, not a failure.
fn unreadable(as_json: bool, error: &impl ToString) -> anyhow::Result<Answer> {
    let mut text = String::new();
    row(&mut text, "proved", "no");
    row(&mut text, "", error.to_string());
    let mut answer = Answer::new(as_json, text, &json!({ "proved": false, "why": error.to_string() }))?;
    answer.good = false;
    Ok(answer)
}

#[cfg(test)]
mod tests;
