//! What a rotten disk may hand to the readers of segments and index records: any bytes at all, and right ones changed.

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use proptest::prelude::*;
use tempfile::TempDir;

use super::index::record::decode;
use super::index::{BatchRecord, LogEnd, SegmentRecord};
use super::sealing::Sealer;
use super::segment::{self, Append, Found, OpenSegment, RecordHeader, RecordKind};
use super::*;

const STORAGE: segment::StorageId = [7; 16];
const ID: u64 = 3;

fn sealer() -> Sealer {
    Sealer { keys: Arc::default(), storage: STORAGE }
}

/// Bytes changed at some places, and perhaps cut off.
fn mutated(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)], cut: prop::sample::Index) -> Vec<u8> {
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    let keep = cut.index(2 * bytes.len() + 1);
    bytes.truncate(keep);
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)
}

fn header(batch: &VerifiedBatch) -> RecordHeader {
    let length = batch.bytes().len() as u64;
    let (hash, kind) = (batch.hash(), RecordKind::Payload);
    RecordHeader { kind, key_id: 0, length, hash, timeout: 10, stored_at: 1 }
}

/// A segment of three batches.
fn written(directory: &TempDir) -> (Vec<VerifiedBatch>, Vec<u8>) {
    let batches: Vec<_> =
        [10, 5000, 100].map(|length| VerifiedBatch::new(Bytes::from(vec![length as u8; length]))).into();
    let mut open = OpenSegment::create(directory.path(), ID, STORAGE, 1 << 16).unwrap();
    let records = batches.iter().map(|b| Append::Batch { header: header(b), payload: b.bytes().clone() });
    open.append(&records.collect::<Vec<_>>()).unwrap();
    open.seal().unwrap();
    let bytes = std::fs::read(segment::path(directory.path(), ID)).unwrap();
    (batches, bytes)
}

/// The hashes that a scan of these bytes finds.
fn scanned(bytes: &[u8], from: u64) -> Vec<DataHash> {
    let directory = TempDir::new().unwrap();
    std::fs::write(segment::path(directory.path(), ID), bytes).unwrap();
    let mut found = Vec::new();
    let end = segment::scan(directory.path(), ID, &sealer(), from, |record| {
        if let Found::Batch { header, .. } = record {
            found.push(header.hash);
        }
        Ok(())
    });
    assert!(end.unwrap() >= segment::ALIGNMENT);
    let _ = segment::read_header(directory.path(), ID).unwrap();
    found
}

proptest! {
    #[test]
    fn any_bytes_are_a_segment_without_records(
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        from in any::<u64>(),
    ) {
        prop_assert!(scanned(&bytes, 0).is_empty());
        prop_assert!(scanned(&bytes, from).is_empty());
    }

    #[test]
    fn a_changed_segment_yields_only_what_was_stored(
        changes in changes(),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = TempDir::new().unwrap();
        let (batches, bytes) = written(&directory);
        prop_assert_eq!(scanned(&bytes, 0).len(), batches.len());
        for hash in scanned(&mutated(bytes, &changes, cut), 0) {
            prop_assert!(batches.iter().any(|batch| batch.hash() == hash));
        }
    }

    #[test]
    fn a_changed_record_header_is_refused(changes in changes(), cut in any::<prop::sample::Index>()) {
        let batch = VerifiedBatch::new(Bytes::from_static(b"a batch"));
        let right = header(&batch).encode(&STORAGE, ID).to_vec();
        let bytes = mutated(right.clone(), &changes, cut);
        let decoded = RecordHeader::decode(&bytes, &STORAGE, ID);
        prop_assert_eq!(decoded.is_some(), bytes == right);
        prop_assert!(RecordHeader::decode(&right, &STORAGE, ID + 1).is_none());
    }

    #[test]
    fn index_records_of_any_bytes_decode_or_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in changes(),
        cut in any::<prop::sample::Index>(),
    ) {
        let record = BatchRecord {
            payload: Some((1, 1 << 40)),
            length: 70_000,
            timeout: u64::MAX,
            stored_at: 300,
            key_id: 0,
            extension: Some((2, 4096)),
            shards: 1,
        };
        for bytes in [mutated(record.encode(), &changes, cut), bytes] {
            if let Ok(decoded) = BatchRecord::decode("batches", &bytes) {
                // The version byte, and nothing behind the record.
                prop_assert!((1..=record.encode()[0]).contains(&bytes[0]));
                prop_assert_eq!(BatchRecord::decode("batches", &decoded.encode()).unwrap(), decoded);
            }
            let _ = decode::<SegmentRecord>("segments", &bytes);
            let _ = decode::<LogEnd>("state", &bytes);
        }
    }
}

#[test]
fn a_record_of_a_newer_release_is_told_from_a_damaged_one() {
    let mut bytes = super::index::record::encode(&LogEnd { segment: 1, offset: 2 });
    let cut = &bytes[..bytes.len() - 1];
    assert!(!decode::<LogEnd>("state", cut).unwrap_err().is_newer());
    bytes[0] = u8::MAX;
    assert!(decode::<LogEnd>("state", &bytes).unwrap_err().is_newer());
}
