//! Keys, signatures, keysets, certificates.

use std::sync::LazyLock;

use bytes::Bytes;
use das_common::bls::{NitroPublicKey, NitroSignature, PublicKey, SecretKey, Signature};
use das_common::certificate::{Certificate, signed_bytes_v1};
use das_common::data_hash::DataHash;
use das_common::keyset::{Keyset, NitroKeyset};
use das_common::sequencer_message::{
    KeysetSource, ParsedKeysets, PayloadSource, Recovered, SequencerMessage, recover_as_nitro,
};
use das_common::store_auth::{Address, RequestDigest, SignerKey, StoreKey, recover};

/// The committee of the seeds: two members, one honest.
struct Sample {
    secrets: Vec<SecretKey>,
    keyset: Keyset,
    as_nitro: NitroKeyset,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let secrets: Vec<_> =
        [7u8, 8].iter().map(|seed| SecretKey::from_bytes(&[*seed; 32]).expect("not zero")).collect();
    let keyset = Keyset::new(1, secrets.iter().map(SecretKey::public_key).collect()).expect("two keys");
    let as_nitro = NitroKeyset::parse(&keyset.to_bytes()).expect("just written");
    Sample { secrets, keyset, as_nitro }
});

fn sample_certificate(version: u8) -> Certificate {
    let data_hash = DataHash::of(b"batch");
    let signed = signed_bytes_v1(&data_hash, 5_000_000_000);
    let signed = if version == 0 { &signed[..40] } else { &signed[..] };
    let parts: Vec<_> = SAMPLE.secrets.iter().map(|secret| secret.sign(signed)).collect();
    let sum = das_common::bls::AggregateSignature::sum(&parts).expect("two signatures");
    Certificate {
        version,
        keyset_hash: SAMPLE.keyset.hash(),
        data_hash,
        timeout: 5_000_000_000,
        signers_mask: 3,
        signature: sum.to_bytes(),
    }
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![sample_certificate(0).to_bytes(), sample_certificate(1).to_bytes()]
}

pub(crate) fn certificate(data: &[u8]) {
    let strict = Certificate::parse_strict(data);
    match Certificate::parse_as_nitro(data) {
        Ok(certificate) => {
            let written = certificate.to_bytes();
            let again = Certificate::parse_as_nitro(&written).expect("what is written is read");
            assert_eq!(again, certificate);
            assert_eq!(certificate.signed_bytes().len(), if certificate.version == 0 { 40 } else { 41 });
            let by_nitro = certificate.verify_as_nitro(&SAMPLE.as_nitro);
            if certificate.verify(&SAMPLE.keyset).is_ok() {
                by_nitro.expect("what the strict rules accept Nitro accepts");
            }
        }
        Err(_) => assert!(strict.is_err(), "strict accepts what lenient refuses"),
    }
    if let Ok(certificate) = strict {
        assert_eq!(certificate.to_bytes(), data, "strict means one form");
    }
}

/// Knows the keyset of the seeds and their batch, which it gives for any name.
struct Chain;

impl KeysetSource for Chain {
    type Error = std::fmt::Error;

    async fn keyset(&self, hash: &DataHash) -> Result<Bytes, Self::Error> {
        let keyset = &SAMPLE.keyset;
        (*hash == keyset.hash()).then(|| keyset.to_bytes().into()).ok_or(std::fmt::Error)
    }
}

impl PayloadSource for Chain {
    type Error = std::fmt::Error;

    async fn payload(&self, _: &DataHash) -> Result<Bytes, Self::Error> {
        Ok(Bytes::from_static(b"batch"))
    }
}

pub(crate) fn sequencer_message_seeds() -> Vec<Vec<u8>> {
    let message = |certificate: Certificate| SequencerMessage {
        min_timestamp: 1,
        max_timestamp: 2,
        min_block: 3,
        max_block: 4,
        after_delayed_messages_read: 5,
        data: certificate.to_bytes().into(),
    };
    vec![message(sample_certificate(0)).to_bytes(), message(sample_certificate(1)).to_bytes()]
}

pub(crate) fn sequencer_message(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    if let Ok(message) = SequencerMessage::parse(&data) {
        assert_eq!(message.to_bytes(), data);
    }
    let recovered =
        futures::executor::block_on(recover_as_nitro(7, &data, &Chain, &Chain, &ParsedKeysets::new(false)));
    if let Ok(Recovered::Payload(found)) = recovered {
        assert_eq!(found.payload, &b"batch"[..]);
        for (hash, preimage) in &found.preimages() {
            assert_eq!(das_common::keccak::keccak256(preimage), *hash);
        }
    }
}

pub(crate) fn keyset_seeds() -> Vec<Vec<u8>> {
    let mut trusted = Vec::new();
    trusted.extend(1u64.to_be_bytes());
    trusted.extend(1u64.to_be_bytes());
    let key = [&[0][..], &SAMPLE.keyset.keys()[0].point_bytes()].concat();
    trusted.extend((key.len() as u16).to_be_bytes());
    trusted.extend(key);
    vec![SAMPLE.keyset.to_bytes(), Keyset::single(SAMPLE.keyset.keys()[0].clone()).to_bytes(), trusted]
}

pub(crate) fn keyset(data: &[u8]) {
    let trusted = NitroKeyset::parse_from(data, true);
    match NitroKeyset::parse_from(data, false) {
        Ok(keyset) => {
            trusted.expect("trust only adds");
            let again = NitroKeyset::parse(&keyset.to_bytes()).expect("what is written is read");
            assert_eq!((again.hash(), again.keys().len()), (keyset.hash(), keyset.keys().len()));
            assert!(keyset.keys().len() <= 64);
        }
        Err(_) => assert!(NitroKeyset::parse(data).is_err()),
    }
}

pub(crate) fn public_key_seeds() -> Vec<Vec<u8>> {
    let key = &SAMPLE.keyset.keys()[0];
    vec![key.to_bytes(), [&[0][..], &key.point_bytes()].concat(), [&[0][..], &[0; 192]].concat()]
}

pub(crate) fn public_key(data: &[u8]) {
    let proved = PublicKey::parse(data);
    let trusted = PublicKey::parse_trusted(data);
    if let Ok(key) = &proved {
        assert_eq!(key.to_bytes(), data);
        NitroPublicKey::parse(data, false).expect("what is strict is lenient");
        trusted.as_ref().expect("trust only adds");
    }
    if let Ok(key) = &trusted {
        assert_eq!(key.to_bytes(), data);
        NitroPublicKey::parse(data, true).expect("what is strict is lenient");
    }
    if let Ok(key) = NitroPublicKey::parse(data, true) {
        NitroPublicKey::parse(&key.to_bytes(), true).expect("what is written is read");
    }
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    let signed = SAMPLE.secrets[0].sign(b"batch").to_bytes().to_vec();
    vec![signed, vec![0; 96], vec![0xc0; 96]]
}

pub(crate) fn signature(data: &[u8]) {
    if let Ok(signature) = Signature::parse(data) {
        assert_eq!(signature.to_bytes(), data);
        NitroSignature::parse(data).expect("what is strict is lenient");
        let own = SAMPLE.secrets[0].sign(b"batch").to_bytes() == data;
        assert_eq!(SAMPLE.keyset.keys()[0].verify(b"batch", &signature), own, "signatures are unique");
    }
    if let Ok(secret) = SecretKey::from_bytes(data) {
        let again = SecretKey::from_bytes(&secret.to_bytes()).expect("what is written is read");
        assert_eq!(again.to_bytes(), secret.to_bytes());
    }
}

pub(crate) fn store_auth_seeds() -> Vec<Vec<u8>> {
    let key = StoreKey::from_hex(&"11".repeat(32)).expect("a key");
    let digest = RequestDigest::store(b"", 0);
    vec![
        key.sign(&digest).to_vec(),
        key.address().to_string().into_bytes(),
        key.to_hex().as_bytes().to_vec(),
        const_hex::encode_prefixed(key.public_key()).into_bytes(),
        DataHash::of(b"").to_string().into_bytes(),
    ]
}

pub(crate) fn store_auth(data: &[u8]) {
    let digest = RequestDigest::store(b"", 0);
    if let Ok(signer) = recover(&digest, data) {
        assert_eq!(data.len(), 65);
        assert_eq!(signer.to_string().parse::<Address>().as_ref(), Ok(&signer));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }
    if let Ok(hash) = text.parse::<DataHash>() {
        assert_eq!(hash.to_string(), text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase());
    }
    if let Ok(key) = StoreKey::from_hex(text) {
        assert_eq!(StoreKey::from_hex(&key.to_hex()).map(|k| k.address()).ok(), Some(key.address()));
    }
    let _ = SignerKey::parse(text);
}
