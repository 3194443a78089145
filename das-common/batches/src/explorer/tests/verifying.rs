//! The checks against what every node makes of the same batch.

use bytes::Bytes;
use das_common::certificate::Certificate;
use das_common::data_hash::{DataHash, flat_hash};
use das_common::keyset::NitroKeyset;
use das_common::sequencer_message::{
    KeysetSource, MIN_LIFETIME, ParsedKeysets, PayloadSource, Recovered, RecoveryError, SequencerMessage,
    recover_as_nitro,
};

use super::fake::*;
use crate::types::{Content, Payload, PostedBatch};

#[derive(Debug, thiserror::Error)]
#[error("not there")]
pub(super) struct NotThere;

impl KeysetSource for &Sources {
    type Error = NotThere;

    async fn keyset(&self, hash: &DataHash) -> Result<Bytes, NotThere> {
        let known = self.keysets.lock().get(hash).cloned();
        known.filter(|_| !self.chain_away).map(Bytes::from).ok_or(NotThere)
    }
}

impl PayloadSource for &Sources {
    type Error = NotThere;

    async fn payload(&self, hash: &DataHash) -> Result<Bytes, NotThere> {
        self.payloads.lock().get(hash).cloned().filter(|_| !self.payloads_away).ok_or(NotThere)
    }
}

/// What nodes make of a batch.
async fn recovered(batch: &PostedBatch, sources: &Sources) -> &'static str {
    let Content::Certificate(bytes) = &batch.content else { panic!("no certificate") };
    let message = SequencerMessage {
        min_timestamp: batch.bounds.min_timestamp,
        max_timestamp: batch.bounds.max_timestamp,
        min_block: batch.bounds.min_block,
        max_block: batch.bounds.max_block,
        after_delayed_messages_read: batch.after_delayed,
        data: bytes.clone().into(),
    };
    match recover_as_nitro(
        batch.number,
        &message.to_bytes().into(),
        &sources,
        &sources,
        &ParsedKeysets::default(),
    )
    .await
    {
        Ok(Recovered::Payload(_)) => "payload",
        Ok(Recovered::Ignored(_)) => "ignored",
        Err(RecoveryError::KeysetUnavailable(_)) => "no keyset",
        Err(RecoveryError::Keyset { .. }) => "bad keyset",
        Err(RecoveryError::PayloadUnavailable(_)) => "no payload",
        Err(RecoveryError::WrongPayload { .. }) => "wrong payload",
    }
}

const TEXT: &[u8] = b"what the batch stands for";

fn good(version: u8) -> Certificate {
    certificate(version, TEXT, START + 2 * MIN_LIFETIME)
}

fn sources() -> Sources {
    let sources = Sources::with_keyset();
    sources.keep(TEXT);
    sources
}

struct Case {
    name: &'static str,
    posted: Vec<u8>,
    sources: Sources,
    /// The step that does not pass, how, the verdict, and what nodes make of it.
    expected: (&'static str, &'static str, &'static str, &'static str),
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, posted: Vec<u8>, sources, expected| {
        cases.push(Case { name, posted, sources, expected });
    };
    let bytes = good(1).to_bytes();
    let changed = |place: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[place] = value;
        changed
    };
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut changed = good(1);
        change(&mut changed);
        signed(changed).to_bytes()
    };
    add("good", bytes.clone(), sources(), ("", "", "valid", "payload"));
    add("trailing bytes", [&bytes[..], b"more"].concat(), sources(), ("", "", "valid", "payload"));
    add("everybody signed", with(&|c| c.signers_mask = 0b111), sources(), ("", "", "valid", "payload"));
    add("a bit beyond", with(&|c| c.signers_mask = 0b1101), sources(), ("", "", "valid", "payload"));
    let flat = sources();
    flat.payloads.lock().clear();
    flat.payloads.lock().insert(DataHash::of_flat(flat_hash(TEXT)), TEXT.into());
    add("version 0", good(0).to_bytes(), flat, ("", "", "valid", "payload"));
    add("no header", changed(0, 0x08), sources(), ("form", "failed", "ignored", "ignored"));
    add("short", bytes[..177].to_vec(), sources(), ("form", "failed", "ignored", "ignored"));
    add("empty", Vec::new(), sources(), ("form", "failed", "ignored", "ignored"));
    add("no point", changed(177, !bytes[177]), sources(), ("form", "failed", "ignored", "ignored"));
    add("version 2", with(&|c| c.version = 2), sources(), ("version", "failed", "ignored", "ignored"));
    let away = || Sources { chain_away: true, ..sources() };
    add(
        "version 2 comes before the keyset",
        with(&|c| c.version = 2),
        away(),
        ("version", "failed", "ignored", "ignored"),
    );
    let other = with(&|c| c.keyset_hash = DataHash::of(b"other"));
    add("unknown keyset", other.clone(), sources(), ("keyset", "failed", "blocked", "no keyset"));
    add("chain away", bytes.clone(), away(), ("keyset", "unknown", "unknown", "no keyset"));
    let broken = sources();
    broken.keysets.lock().insert(DataHash::of(b"other"), b"other".to_vec());
    add("bad keyset", other, broken, ("keyset", "failed", "ignored", "bad keyset"));
    add(
        "one signer",
        with(&|c| c.signers_mask = 0b010),
        sources(),
        ("signers", "failed", "ignored", "ignored"),
    );
    add("another's signature", changed(81, 0b011), sources(), ("signature", "failed", "ignored", "ignored"));
    let early = START + 3600 + MIN_LIFETIME - 1;
    add("early", with(&|c| c.timeout = early), sources(), ("timeout", "failed", "ignored", "ignored"));
    add("just in time", with(&|c| c.timeout = early + 1), sources(), ("", "", "valid", "payload"));
    let gone = sources();
    gone.payloads.lock().clear();
    add("no payload", bytes.clone(), gone, ("payload", "failed", "blocked", "no payload"));
    let late = Sources { payloads_away: true, ..sources() };
    add("payloads away", bytes.clone(), late, ("payload", "unknown", "unknown", "no payload"));
    let lying = sources();
    lying.payloads.lock().insert(DataHash::of(TEXT), "a lie".into());
    add("wrong payload", bytes.clone(), lying, ("hash", "failed", "blocked", "wrong payload"));
    cases
}

#[tokio::test]
async fn each_kind_of_bad_certificate_fails_at_the_step_at_which_nodes_stop() {
    assert_eq!(NitroKeyset::from(&keyset()).keys().len(), 3);
    for Case { name, posted, sources, expected: (step, state, verdict, nodes) } in cases() {
        let batch = batch(1, 0, Content::Certificate(posted), Payload::None);
        assert_eq!(recovered(&batch, &sources).await, nodes, "{name}: the case is another");
        let site = Site::new(Shelf::of(vec![batch]), sources);
        let answer = site.json("/api/batches/0/verify").await;
        assert_eq!(answer["verdict"], verdict, "{name}: {answer}");
        let checks = answer["checks"].as_array().unwrap();
        let names: Vec<_> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
        let all = ["form", "version", "keyset", "signers", "signature", "timeout", "payload", "hash"];
        assert_eq!(names, all, "{name}");
        let place = all.iter().position(|name| *name == step).unwrap_or(all.len());
        for (index, check) in checks.iter().enumerate() {
            let expected = match index.cmp(&place) {
                std::cmp::Ordering::Less => "passed",
                std::cmp::Ordering::Equal => state,
                std::cmp::Ordering::Greater => "skipped",
            };
            assert_eq!(check["state"], expected, "{name}, check {}: {answer}", all[index]);
            assert_eq!(check["why"] == "", expected == "skipped", "{name}: {answer}");
        }
        let page = site.get("/batch/0/verify").await;
        assert_eq!(page.status, 200, "{name}");
        let marks = |mark: &str| page.text().matches(&format!("<li class=\"{mark}\">")).count();
        assert_eq!(marks("good"), place, "{name}");
        assert_eq!(marks("skipped"), all.len().saturating_sub(place + 1), "{name}");
    }
}

#[tokio::test]
async fn the_end_of_time_wraps_as_it_does_in_every_node() {
    for (timeout, verdict, nodes) in
        [(MIN_LIFETIME - 2, "ignored", "ignored"), (MIN_LIFETIME - 1, "valid", "payload")]
    {
        let posted = certificate(1, TEXT, timeout).to_bytes();
        let mut batch = batch(1, 0, Content::Certificate(posted), Payload::None);
        batch.bounds.max_timestamp = u64::MAX;
        assert_eq!(recovered(&batch, &sources()).await, nodes);
        let site = Site::new(Shelf::of(vec![batch]), sources());
        assert_eq!(site.json("/api/batches/0/verify").await["verdict"], verdict);
    }
}
