use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;

use super::*;
use crate::bls::{AggregateSignature, SecretKey};
use crate::keyset::Keyset;

#[derive(Debug, Error)]
#[error("not found")]
struct NotFound;

/// Keysets and payloads by their names, and what was asked for.
#[derive(Default)]
struct Sources {
    held: BTreeMap<DataHash, Bytes>,
    asked: Mutex<Vec<DataHash>>,
}

impl Sources {
    fn with(mut self, hash: DataHash, bytes: impl Into<Bytes>) -> Self {
        self.held.insert(hash, bytes.into());
        self
    }

    fn get(&self, hash: &DataHash) -> Result<Bytes, NotFound> {
        self.asked.lock().unwrap().push(*hash);
        self.held.get(hash).cloned().ok_or(NotFound)
    }

    fn asked(&self) -> Vec<DataHash> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl KeysetSource for Sources {
    type Error = NotFound;

    async fn keyset(&self, hash: &DataHash) -> Result<Bytes, NotFound> {
        self.get(hash)
    }
}

impl PayloadSource for Sources {
    type Error = NotFound;

    async fn payload(&self, hash: &DataHash) -> Result<Bytes, NotFound> {
        self.get(hash)
    }
}

const PAYLOAD: &[u8] = b"a batch";
const MAX_TIMESTAMP: u64 = 1_800_000_000;

fn secrets() -> [SecretKey; 3] {
    [1, 2, 3].map(|i| SecretKey::from_bytes(&[8, i]).unwrap())
}

fn keyset() -> Keyset {
    Keyset::new(2, secrets().iter().map(SecretKey::public_key).collect()).unwrap()
}

/// A certificate that two of three signed.
fn certificate(version: u8, timeout: u64) -> Certificate {
    let data_hash = match version {
        0 => DataHash::from_bytes(flat_hash(PAYLOAD)),
        _ => DataHash::of(PAYLOAD),
    };
    let mut certificate = Certificate {
        version,
        keyset_hash: keyset().hash(),
        data_hash,
        timeout,
        signers_mask: 0b101,
        signature: [0; 96],
    };
    let signed = certificate.signed_bytes();
    let signatures = [0, 2].map(|i| secrets()[i].sign(&signed));
    certificate.signature = AggregateSignature::sum(&signatures).unwrap().to_bytes();
    certificate
}

fn message(certificate: &Certificate, max_timestamp: u64) -> Bytes {
    let message = SequencerMessage {
        min_timestamp: 0,
        max_timestamp,
        min_block: 0,
        max_block: 0,
        after_delayed_messages_read: 0,
        data: certificate.to_bytes().into(),
    };
    message.to_bytes().into()
}

fn recover(message: &Bytes, sources: &Sources) -> Result<Recovered, RecoveryError<NotFound, NotFound>> {
    recover_as_nitro(7, message, sources, sources, &ParsedKeysets::default())
        .now_or_never()
        .expect("the sources answer at once")
}

fn ignored(message: &Bytes, sources: &Sources) -> Ignored {
    match recover(message, sources).unwrap() {
        Recovered::Ignored(reason) => reason,
        Recovered::Payload(_) => panic!("not ignored"),
    }
}

const LONG_ENOUGH: u64 = MAX_TIMESTAMP + MIN_LIFETIME;

#[test]
fn what_is_ignored_is_found_out_in_the_order_in_which_every_node_looks() {
    let nothing = Sources::default();
    let good = certificate(1, LONG_ENOUGH);
    let bytes = message(&good, MAX_TIMESTAMP);
    for short in 0..HEADER_BYTES {
        assert!(matches!(ignored(&bytes.slice(..short), &nothing), Ignored::Message(_)), "{short} bytes");
    }
    for short in HEADER_BYTES..bytes.len() {
        assert!(matches!(ignored(&bytes.slice(..short), &nothing), Ignored::Certificate(_)), "{short} bytes");
    }
    let later = Certificate { version: 2, timeout: 0, signers_mask: 0, ..good.clone() };
    assert_eq!(ignored(&message(&later, MAX_TIMESTAMP), &nothing), Ignored::Version { version: 2 });
    assert_eq!(nothing.asked(), [], "neither a keyset nor a payload was needed");

    // Without the keyset it cannot be told whether the batch is to be ignored, however bad the certificate.
    let few = Certificate { signers_mask: 0b100, timeout: 0, ..good.clone() };
    let error = recover(&message(&few, MAX_TIMESTAMP), &nothing).unwrap_err();
    assert!(matches!(error, RecoveryError::KeysetUnavailable(NotFound)));
    assert_eq!(nothing.asked(), [good.keyset_hash]);

    // With it, everything is ignored that is to be, without a payload being asked for.
    let sources = Sources::default().with(good.keyset_hash, keyset().to_bytes());
    let reason = ignored(&message(&few, MAX_TIMESTAMP), &sources);
    assert!(matches!(reason, Ignored::Certificate(CertificateError::TooFewSigners { signers: 1, .. })));
    let unsigned = Certificate { timeout: LONG_ENOUGH + 1, ..good.clone() };
    let reason = ignored(&message(&unsigned, MAX_TIMESTAMP), &sources);
    assert_eq!(reason, Ignored::Certificate(CertificateError::WrongSignature));
    let early = certificate(1, LONG_ENOUGH - 1);
    assert!(matches!(ignored(&message(&early, MAX_TIMESTAMP), &sources), Ignored::Timeout { .. }));
    assert_eq!(sources.asked(), [good.keyset_hash; 3]);

    let error = recover(&bytes, &sources).unwrap_err();
    assert!(matches!(error, RecoveryError::PayloadUnavailable(NotFound)));
    let sources = sources.with(good.data_hash, PAYLOAD);
    assert!(
        matches!(recover(&bytes, &sources).unwrap(), Recovered::Payload(found) if found.payload == PAYLOAD)
    );
}

#[test]
fn the_earliest_timeout_wraps() {
    let sources =
        Sources::default().with(keyset().hash(), keyset().to_bytes()).with(DataHash::of(PAYLOAD), PAYLOAD);
    let timeout = MIN_LIFETIME - 1;
    let wraps = message(&certificate(1, timeout), u64::MAX);
    assert!(matches!(recover(&wraps, &sources).unwrap(), Recovered::Payload(_)));
    let early = message(&certificate(1, timeout - 1), u64::MAX);
    assert!(matches!(ignored(&early, &sources), Ignored::Timeout { .. }));
}

#[test]
fn a_keyset_that_is_none_is_told_in_the_words_that_nodes_know() {
    let bytes = message(&certificate(1, LONG_ENOUGH), MAX_TIMESTAMP);
    let sources = Sources::default().with(keyset().hash(), keyset().to_bytes()[..300].to_vec());
    let error = recover(&bytes, &sources).unwrap_err().to_string();
    assert!(error.starts_with("error validating recovered payload from batch"), "{error}");
    // With any other text a node tries again; with this one it goes on without the batch.
    let error = recover(&bytes, &Sources::default()).unwrap_err().to_string();
    assert!(!error.contains("error validating recovered payload from batch"), "{error}");
}

#[test]
fn other_bytes_are_no_payload() {
    let sources = Sources::default().with(keyset().hash(), keyset().to_bytes());
    let sources = sources.with(DataHash::of(PAYLOAD), &b"another batch"[..]);
    let error = recover(&message(&certificate(1, LONG_ENOUGH), MAX_TIMESTAMP), &sources).unwrap_err();
    assert!(matches!(error, RecoveryError::WrongPayload { expected } if expected == DataHash::of(PAYLOAD)));
}

#[test]
fn of_version_0_the_payload_has_two_names_and_two_preimages() {
    let flat = DataHash::from_bytes(flat_hash(PAYLOAD));
    let tree_form = DataHash::of_flat(flat_hash(PAYLOAD));
    let bytes = message(&certificate(0, LONG_ENOUGH), MAX_TIMESTAMP);
    for held_as in [tree_form, flat] {
        let sources = Sources::default().with(keyset().hash(), keyset().to_bytes()).with(held_as, PAYLOAD);
        let Recovered::Payload(found) = recover(&bytes, &sources).unwrap() else { panic!("ignored") };
        assert_eq!(found.payload, PAYLOAD);
        let expected: &[DataHash] = if held_as == flat { &[tree_form, flat] } else { &[tree_form] };
        assert_eq!(sources.asked()[1..], *expected);
        let mut of_both = preimages(&keyset().to_bytes());
        let leaf = [&[0xfe], &flat_hash(PAYLOAD)[..]].concat();
        of_both.extend([(flat_hash(PAYLOAD), PAYLOAD.to_vec()), (flat_hash(&leaf), leaf)]);
        assert_eq!(found.preimages(), of_both);
    }
}
