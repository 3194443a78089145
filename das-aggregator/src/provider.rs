//! The `daprovider_*` calls, by which a Nitro node uses this committee as an external DA provider (spec section 10).
//!
//! Reading is consensus: what a batch on the chain stands for is decided by
//! [`recover_as_nitro`], keyset by keyset as every node has it. Writing is ours: a
//! batch is stored at the committee in the name of the aggregator's store key and comes back as a certificate.

pub mod gate;
pub mod keysets;
pub mod token;

use std::sync::Arc;

use bytes::Bytes;
use das_common::certificate::Certificate;
use das_common::chunked::{Moment, PendingStores, Start};
use das_common::data_hash::{DataHash, Preimages};
use das_common::fault::{self, Coded};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError};
use das_common::keccak::keccak256;
use das_common::rest_reader::ReadError;
use das_common::sequencer_message::{ParsedKeysets, PayloadSource, Recovered, recover_as_nitro};
use das_common::store_auth::StoreKey;
use das_common::wire::{BatchId, texts};
use parking_lot::Mutex;

use self::keysets::Keysets;
use crate::fan_out::StoreError;
use crate::read::Reads;
use crate::store::Stores;

/// What is told to nodes, and what is taken from them.
#[derive(Debug, Clone)]
pub struct ProviderLimits {
    /// The header bytes that we say we recover.
    pub header_bytes: Vec<u8>,
    /// The largest batch that we take.
    pub max_batch_bytes: usize,
}

/// The writing half: absent for a provider that only reads.
pub struct Writer {
    stores: Stores,
    key: Arc<StoreKey>,
    pending: Mutex<PendingStores>,
}

impl Writer {
    /// Stores in the name of `key`; what comes in chunks is collected in `pending`.
    pub fn new(stores: Stores, key: Arc<StoreKey>, pending: PendingStores) -> Self {
        Self { stores, key, pending: Mutex::new(pending) }
    }
}

/// The methods of the namespace `daprovider`.
pub struct ProviderMethods {
    limits: ProviderLimits,
    reads: Reads,
    keysets: Keysets,
    parsed: ParsedKeysets,
    writer: Option<Writer>,
}

/// What a call for recovery wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    payload: bool,
    preimages: bool,
}

impl Methods for ProviderMethods {
    fn namespace(&self) -> &'static str {
        "daprovider"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        let wanted = |payload, preimages| Wanted { payload, preimages };
        Some(match method {
            "getSupportedHeaderBytes" => self.header_bytes(&params),
            "recoverPayload" => self.recover(params, wanted(true, false)).await,
            "collectPreimages" => self.recover(params, wanted(false, true)).await,
            "recoverPayloadAndPreimages" => self.recover(params, wanted(true, true)).await,
            _ => return self.write(method, params).await,
        })
    }
}

impl ProviderMethods {
    /// Reads through `reads`, with keysets from `keysets`; writes if there is a writer.
    pub fn new(limits: ProviderLimits, reads: Reads, keysets: Keysets, writer: Option<Writer>) -> Self {
        Self { limits, reads, keysets, parsed: ParsedKeysets::default(), writer }
    }

    /// Forgets chunked stores that nothing is heard of. To be called from time to time.
    pub fn drop_idle(&self) {
        if let Some(writer) = &self.writer {
            writer.pending.lock().drop_idle(Moment::now());
        }
    }

    fn header_bytes(&self, params: &Params) -> Result<RawJson, RpcError> {
        params.at_most(0)?;
        let hex = const_hex::encode_prefixed(&self.limits.header_bytes);
        Ok(RawJson::from_trusted(format!("{{\"headerBytes\":\"{hex}\"}}")))
    }

    async fn recover(&self, params: Params, wanted: Wanted) -> Result<RawJson, RpcError> {
        let batch = params.uint64(0)?;
        check_block_hash(&params)?;
        let message = params.bytes(2)?;
        params.at_most(3)?;
        drop(params);
        let recovered =
            recover_as_nitro(batch, &message, &self.keysets, &Payloads(self.reads.clone()), &self.parsed)
                .await;
        match recovered.map_err(failed)? {
            Recovered::Payload(found) => {
                let preimages = if wanted.preimages { found.preimages() } else { Preimages::new() };
                Ok(recovery_answer(Some((&found.payload, &preimages)), wanted))
            }
            Recovered::Ignored(why) => {
                tracing::warn!(batch, %why, "a batch is ignored by every node");
                Ok(recovery_answer(None, wanted))
            }
        }
    }

    async fn write(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        let writer = self.writer.as_ref()?;
        Some(match method {
            "store" => self.store(writer, params).await,
            "startChunkedStore" => self.start_chunked(writer, &params),
            "sendChunk" => send_chunk(writer, &params),
            "commitChunkedStore" => self.commit_chunked(writer, params).await,
            "getMaxMessageSize" => self.max_message_size(&params),
            _ => return None,
        })
    }

    fn max_message_size(&self, params: &Params) -> Result<RawJson, RpcError> {
        params.at_most(0)?;
        Ok(RawJson::from_trusted(format!("{{\"maxSize\":{}}}", self.limits.max_batch_bytes)))
    }

    async fn store(&self, writer: &Writer, params: Params) -> Result<RawJson, RpcError> {
        let (message, timeout) = (params.bytes(0)?, params.uint64(1)?);
        params.at_most(2)?;
        drop(params);
        self.certify(writer, message, timeout).await
    }

    fn start_chunked(&self, writer: &Writer, params: &Params) -> Result<RawJson, RpcError> {
        let start = Start {
            timestamp: params.uint64(0)?,
            n_chunks: params.uint64(1)?,
            chunk_size: params.uint64(2)?,
            total_size: params.uint64(3)?,
            timeout: params.uint64(4)?,
        };
        let commitment = params.bytes(5)?;
        params.at_most(6)?;
        let Start { timestamp, n_chunks, chunk_size, total_size, timeout } = start;
        let expected = commit_to(b"", &[timestamp, n_chunks, chunk_size, total_size, timeout]);
        check_commitment(&commitment, &expected)?;
        self.check_size(total_size)?;
        let id = writer.pending.lock().start(Moment::now(), start, &[expected]);
        Ok(RawJson::of(&BatchId { batch_id: id.map_err(refused)? }))
    }

    async fn commit_chunked(&self, writer: &Writer, params: Params) -> Result<RawJson, RpcError> {
        let (id, commitment) = (params.uint64(0)?, params.bytes(1)?);
        params.at_most(2)?;
        check_commitment(&commitment, &commit_to(b"", &[id]))?;
        let complete = writer.pending.lock().commit(Moment::now(), id).map_err(refused)?;
        let timeout = complete.timeout;
        let (message, _reserved) = complete.into_parts();
        self.certify(writer, message, timeout).await
    }

    fn check_size(&self, bytes: u64) -> Result<(), RpcError> {
        let max = self.limits.max_batch_bytes;
        if bytes <= max as u64 {
            return Ok(());
        }
        Err(RpcError::method(format!("{}: {bytes} bytes, at most {max}", texts::TOO_LARGE)))
    }

    async fn certify(&self, writer: &Writer, message: Bytes, timeout: u64) -> Result<RawJson, RpcError> {
        self.check_size(message.len() as u64)?;
        let certified = writer.stores.store_as_ourselves(message, timeout, writer.key.clone()).await;
        match certified {
            Ok(certificate) => Ok(certificate_answer(&certificate)),
            // The batch poster knows these words, and nothing more; who failed and why is in the log and at /status.
            Err(error @ (StoreError::TooFew { .. } | StoreError::Unsound { .. })) => {
                Err(RpcError::method(format!("{}: {}", texts::FALLBACK, error.in_nitros_words())))
            }
        }
    }
}

fn send_chunk(writer: &Writer, params: &Params) -> Result<RawJson, RpcError> {
    let (id, number, chunk) = (params.uint64(0)?, params.uint64(1)?, params.bytes(2)?);
    let commitment = params.bytes(3)?;
    params.at_most(4)?;
    check_commitment(&commitment, &commit_to(&chunk, &[id, number]))?;
    writer.pending.lock().chunk(Moment::now(), id, number, chunk).map_err(refused)?;
    Ok(RawJson::NULL)
}

fn refused(error: impl Coded) -> RpcError {
    fault::count(error.fault());
    failed(error)
}

fn failed(error: impl std::fmt::Display) -> RpcError {
    RpcError::method(error.to_string())
}

/// What stands in the place of a signature: a hash over the data and the numbers.
fn commit_to(data: &[u8], extras: &[u64]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(data.len() + 8 * extras.len());
    bytes.extend_from_slice(data);
    for extra in extras {
        bytes.extend_from_slice(&extra.to_be_bytes());
    }
    keccak256(&bytes)
}

fn check_commitment(given: &[u8], expected: &[u8; 32]) -> Result<(), RpcError> {
    if given == expected { Ok(()) } else { Err(RpcError::method("signature does not match")) }
}

/// The hash of the block that a batch was posted in is not needed to recover it, but must be one.
fn check_block_hash(params: &Params) -> Result<(), RpcError> {
    const DIGITS: usize = 64;
    let invalid = |text: String| Err(RpcError::invalid_params(format!("invalid argument 1: {text}")));
    let cannot =
        |what: &str| invalid(format!("json: cannot unmarshal {what} into Go value of type common.Hash"));
    let [b'"', text @ .., b'"'] = params.raw(1)? else { return cannot("non-string") };
    let digits = match text {
        [] => text,
        [b'0', b'x' | b'X', digits @ ..] => digits,
        _ => return cannot("hex string without 0x prefix"),
    };
    if digits.len() % 2 != 0 {
        return cannot("hex string of odd length");
    }
    if digits.len() != DIGITS {
        return invalid(format!("hex string has length {}, want {DIGITS} for common.Hash", digits.len()));
    }
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return cannot("invalid hex string");
    }
    Ok(())
}

fn certificate_answer(certificate: &Certificate) -> RawJson {
    let hex = const_hex::encode_prefixed(certificate.to_bytes());
    RawJson::from_trusted(format!("{{\"serialized-da-cert\":\"{hex}\"}}"))
}

/// `{"Payload": .., "Preimages": ..}`, of which what was asked for; null where the batch is ignored.
fn recovery_answer(recovered: Option<(&Bytes, &Preimages)>, wanted: Wanted) -> RawJson {
    let base64 = &base64_simd::STANDARD;
    let mut out: Vec<u8> = b"{".to_vec();
    if wanted.payload {
        out.extend_from_slice(b"\"Payload\":");
        push_or_null(&mut out, recovered, |out, (payload, _)| {
            out.push(b'"');
            base64.encode_append(payload, out);
            out.push(b'"');
        });
    }
    if wanted.preimages {
        out.extend_from_slice(if wanted.payload { b",\"Preimages\":" } else { b"\"Preimages\":" });
        push_or_null(&mut out, recovered, |out, (_, preimages)| {
            out.extend_from_slice(b"{\"0\":{");
            for (i, (hash, preimage)) in preimages.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                out.extend_from_slice(
                    format!("{comma}\"{}\":\"", const_hex::encode_prefixed(hash)).as_bytes(),
                );
                base64.encode_append(preimage, out);
                out.push(b'"');
            }
            out.extend_from_slice(b"}}");
        });
    }
    out.push(b'}');
    RawJson::from_trusted(out)
}

fn push_or_null<T>(out: &mut Vec<u8>, value: Option<T>, push: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => push(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// Payloads from the read side.
pub(crate) struct Payloads(pub(crate) Reads);

impl PayloadSource for Payloads {
    type Error = ReadError;

    async fn payload(&self, hash: &DataHash) -> Result<Bytes, ReadError> {
        self.0.batch(hash).await.map(das_common::batch::VerifiedBatch::into_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_empty_and_full_batches_are_told_apart() {
        let both = Wanted { payload: true, preimages: true };
        let text = |answer: RawJson| String::from_utf8(answer.as_bytes().to_vec()).unwrap();
        assert_eq!(text(recovery_answer(None, both)), r#"{"Payload":null,"Preimages":null}"#);
        let none = Preimages::new();
        let empty = (&Bytes::new(), &none);
        assert_eq!(text(recovery_answer(Some(empty), both)), r#"{"Payload":"","Preimages":{"0":{}}}"#);
        let preimages = Preimages::from([([1; 32], b"hi".to_vec()), ([2; 32], Vec::new())]);
        let full = (&Bytes::from_static(b"hi"), &preimages);
        let only = |payload, preimages| text(recovery_answer(Some(full), Wanted { payload, preimages }));
        assert_eq!(only(true, false), r#"{"Payload":"aGk="}"#);
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(
            only(false, true),
            format!(r#"{{"Preimages":{{"0":{{"0x{one}":"aGk=","0x{two}":""}}}}}}"#)
        );
        let json: serde_json::Value = serde_json::from_str(&only(true, true)).unwrap();
        assert_eq!(json["Preimages"]["0"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn block_hashes_are_checked_in_the_recorded_words() {
        let check = |raw: &str| {
            let params = Params::parse(Bytes::from(format!("[0,{raw}]"))).unwrap();
            check_block_hash(&params).map_err(|error| error.message.into_owned())
        };
        assert_eq!(check(&format!("\"0x{}\"", "aB".repeat(32))), Ok(()));
        for (raw, end) in [
            ("null", "cannot unmarshal non-string into Go value of type common.Hash"),
            ("\"0xabab\"", "invalid argument 1: hex string has length 4, want 64 for common.Hash"),
            ("\"\"", "hex string has length 0, want 64 for common.Hash"),
            ("\"0xa\"", "cannot unmarshal hex string of odd length into Go value of type common.Hash"),
            ("\"abab\"", "cannot unmarshal hex string without 0x prefix into Go value of type common.Hash"),
        ] {
            assert!(check(raw).unwrap_err().ends_with(end), "{raw}: {:?}", check(raw));
        }
    }
}
