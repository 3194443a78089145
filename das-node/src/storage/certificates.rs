//! Certificates, each as long as it lasts, with what members compare to find out which of them they lack.
//!
//! ```text
//! key in the family `certificates`        value
//! 'c' || data hash                        u64 timeout || the certificate
//! 'd' || u8 level || u64 bucket           u64 count || sum (32): the digest of what expires in the bucket
//! 't' || u64 timeout || data hash         empty
//! 'w' || u64 due || data hash             u64 timeout: custody is to hear of it then
//! ```
//! All of them change in one step, so a digest is always that of what is here.

use das_common::certificate::{CERTIFICATE_BYTES, Certificate};
use das_common::custody::message::{BucketDigest, BucketLevel, CertificateBytes};
use das_common::data_hash::DataHash;

use super::index::{Change, Family, IndexError};
use super::{BatchStore, StorageError};

const FAMILY: Family = Family::Certificates;
const CERTIFICATE: u8 = b'c';
const DIGEST: u8 = b'd';
const TIME: u8 = b't';
const WAITING: u8 = b'w';
/// The most entries of one answer.
const MAX_ENTRIES: usize = 4096;

/// A certificate that custody has not heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When it is to hear of it, unix seconds.
    pub due: u64,
    /// The batch.
    pub hash: DataHash,
    /// The certificate's timeout, unix seconds.
    pub until: u64,
}

fn timed(kind: u8, time: u64, hash: &DataHash) -> Vec<u8> {
    [&[kind][..], &time.to_be_bytes(), hash.as_bytes()].concat()
}

/// Time and hash of a key that [`timed`] made.
fn split_timed(key: &[u8]) -> Option<(u64, DataHash)> {
    let (time, hash) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), DataHash::from_bytes(hash.try_into().ok()?)))
}

fn certificate_key(hash: &DataHash) -> Vec<u8> {
    [&[CERTIFICATE][..], hash.as_bytes()].concat()
}

fn digest_key(level: BucketLevel, bucket: u64) -> Vec<u8> {
    [&[DIGEST, level as u8][..], &bucket.to_be_bytes()].concat()
}

fn damaged() -> StorageError {
    IndexError::Record { family: FAMILY.name(), version: None }.into()
}

impl BatchStore {
    /// Keeps a certificate that was verified, unless one with as late a timeout is here. Custody is to hear of it at `due`
    /// (unix seconds). Whether it was kept. It survives a crash of the process, and a power cut as soon as anything later is
    /// synced.
    pub fn put_certificate(&self, certificate: &Certificate, due: u64) -> Result<bool, StorageError> {
        let (hash, until) = (certificate.data_hash, certificate.timeout);
        let _turn = self.certificates.lock();
        let known = self.certificate_timeout(&hash)?;
        if known.is_some_and(|known| known >= until) {
            return Ok(false);
        }
        let mut change = self.index.change();
        if let Some(known) = known {
            change.delete_raw(FAMILY, &timed(TIME, known, &hash));
        }
        self.toggle(&mut change, &hash, known, Some(until))?;
        change.put_raw(FAMILY, &timed(TIME, until, &hash), &[])?;
        let value = [&until.to_be_bytes()[..], &certificate.to_bytes()].concat();
        change.put_raw(FAMILY, &certificate_key(&hash), &value)?;
        change.put_raw(FAMILY, &timed(WAITING, due, &hash), &until.to_be_bytes())?;
        change.apply(false)?;
        Ok(true)
    }

    /// Moves a batch between the digests of two timeouts.
    fn toggle(
        &self,
        change: &mut Change<'_>,
        hash: &DataHash,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<(), StorageError> {
        for level in BucketLevel::ALL {
            let mut digests: Vec<(u64, BucketDigest)> = Vec::with_capacity(2);
            for (time, held) in [(from, false), (to, true)] {
                let Some(time) = time else { continue };
                let bucket = level.bucket_of(time);
                if digests.iter().all(|(known, _)| *known != bucket) {
                    digests.push((bucket, self.digest(level, bucket)?));
                }
                if let Some((_, digest)) = digests.iter_mut().find(|(known, _)| *known == bucket) {
                    digest.toggle(hash, time, held);
                }
            }
            for (bucket, digest) in digests {
                let key = digest_key(level, bucket);
                if digest.count == 0 {
                    change.delete_raw(FAMILY, &key);
                } else {
                    let value = [&digest.count.to_be_bytes()[..], &digest.sum].concat();
                    change.put_raw(FAMILY, &key, &value)?;
                }
            }
        }
        Ok(())
    }

    fn value_of(&self, hash: &DataHash) -> Result<Option<(u64, CertificateBytes)>, StorageError> {
        let Some(value) = self.index.raw(FAMILY, &certificate_key(hash))? else { return Ok(None) };
        let (time, bytes) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        let bytes = <[u8; CERTIFICATE_BYTES]>::try_from(bytes).map_err(|_| damaged())?;
        Ok(Some((u64::from_be_bytes(*time), bytes)))
    }

    /// The certificate of a batch.
    pub fn certificate(&self, hash: &DataHash) -> Result<Option<CertificateBytes>, StorageError> {
        Ok(self.value_of(hash)?.map(|(_, bytes)| bytes))
    }

    /// The timeout of a batch's certificate, unix seconds.
    pub fn certificate_timeout(&self, hash: &DataHash) -> Result<Option<u64>, StorageError> {
        Ok(self.value_of(hash)?.map(|(time, _)| time))
    }

    fn digest(&self, level: BucketLevel, bucket: u64) -> Result<BucketDigest, StorageError> {
        let Some(value) = self.index.raw(FAMILY, &digest_key(level, bucket))? else {
            return Ok(BucketDigest::default());
        };
        let (count, sum) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        Ok(BucketDigest { count: u64::from_be_bytes(*count), sum: sum.try_into().map_err(|_| damaged())? })
    }

    /// The digests of `count` buckets.
    pub fn certificate_digests(
        &self,
        level: BucketLevel,
        first: u64,
        count: u16,
    ) -> Result<Vec<BucketDigest>, StorageError> {
        (0..u64::from(count)).map(|i| self.digest(level, first.saturating_add(i))).collect()
    }

    /// Hash and timeout of the certificates of a bucket of the finest level, by timeout and hash: the first `limit` behind
    /// `after`.
    pub fn certificates_in(
        &self,
        bucket: u64,
        after: Option<(u64, DataHash)>,
        limit: usize,
    ) -> Result<Vec<(DataHash, u64)>, StorageError> {
        let level = BucketLevel::Minute;
        let begin = timed(TIME, level.begin(bucket), &DataHash::from_bytes([0; 32]));
        // The key behind the one given is that key and a zero byte.
        let from = after.map_or(begin.clone(), |(time, hash)| [&timed(TIME, time, &hash)[..], &[0]].concat());
        let keys = self.index.keys(FAMILY, &[TIME], &from.max(begin), limit.min(MAX_ENTRIES))?;
        let entries = keys.iter().filter_map(|key| split_timed(key));
        Ok(entries
            .take_while(|(time, _)| level.bucket_of(*time) == bucket)
            .map(|(t, hash)| (hash, t))
            .collect())
    }

    /// The first certificates that custody is to hear of by `now` (unix seconds).
    pub fn waiting_certificates(&self, now: u64, limit: usize) -> Result<Vec<Waiting>, StorageError> {
        let keys = self.index.keys(FAMILY, &[WAITING], &[WAITING], limit.min(MAX_ENTRIES))?;
        let mut waiting = Vec::with_capacity(keys.len());
        for key in keys {
            let (due, hash) = split_timed(&key).ok_or_else(damaged)?;
            if due > now {
                break;
            }
            let until = self.index.raw(FAMILY, &key)?.as_deref().and_then(|value| value.try_into().ok());
            waiting.push(Waiting { due, hash, until: u64::from_be_bytes(until.ok_or_else(damaged)?) });
        }
        Ok(waiting)
    }

    /// Custody has heard of these, and has written it down.
    pub fn certificates_heard(&self, heard: &[Waiting]) -> Result<(), StorageError> {
        let mut change = self.index.change();
        heard.iter().for_each(|one| change.delete_raw(FAMILY, &timed(WAITING, one.due, &one.hash)));
        Ok(change.apply(false)?)
    }

    /// Forgets certificates whose timeout was before `before` (unix seconds), at most `limit`; says how many.
    pub fn drop_certificates(&self, before: u64, limit: usize) -> Result<usize, StorageError> {
        let _turn = self.certificates.lock();
        let keys = self.index.keys(FAMILY, &[TIME], &[TIME], limit.min(MAX_ENTRIES))?;
        let mut dropped = 0;
        for key in keys {
            let (time, hash) = split_timed(&key).ok_or_else(damaged)?;
            if time >= before {
                break;
            }
            // One by one: what is taken out of a digest is read again for the next.
            let mut change = self.index.change();
            change.delete_raw(FAMILY, &key);
            change.delete_raw(FAMILY, &certificate_key(&hash));
            self.toggle(&mut change, &hash, Some(time), None)?;
            change.apply(false)?;
            dropped += 1;
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::storage::StorageOptions;

    fn open(directory: &tempfile::TempDir) -> BatchStore {
        let directory = directory.path().to_path_buf();
        BatchStore::open(&StorageOptions {
            directory,
            segment_bytes: 1 << 20,
            reserve_bytes: 0,
            keys: Default::default(),
        })
        .unwrap()
    }

    fn certificate(number: u8, timeout: u64) -> Certificate {
        Certificate {
            version: 1,
            keyset_hash: DataHash::of(b"keyset"),
            data_hash: DataHash::of(&[number]),
            timeout,
            signers_mask: 1,
            signature: [number; 96],
        }
    }

    /// Digests as they are computed from scratch.
    fn check(store: &BatchStore, kept: &BTreeMap<u8, u64>) {
        for level in BucketLevel::ALL {
            for bucket in level.bucket_of(0)..=level.bucket_of(10_000) {
                let mut expected = BucketDigest::default();
                for (number, timeout) in kept.iter().filter(|(_, time)| level.bucket_of(**time) == bucket) {
                    expected.toggle(&DataHash::of(&[*number]), *timeout, true);
                }
                assert_eq!(store.certificate_digests(level, bucket, 1).unwrap(), [expected]);
            }
        }
        for bucket in 0..=BucketLevel::Minute.bucket_of(10_000) {
            let mut expected: Vec<(u64, DataHash)> =
                kept.iter().map(|(number, time)| (*time, DataHash::of(&[*number]))).collect();
            expected.retain(|(time, _)| BucketLevel::Minute.bucket_of(*time) == bucket);
            expected.sort_by_key(|(time, hash)| (*time, *hash.as_bytes()));
            let expected: Vec<_> = expected.into_iter().map(|(time, hash)| (hash, time)).collect();
            let (mut got, mut after) = (Vec::new(), None);
            loop {
                let page = store.certificates_in(bucket, after, 2).unwrap();
                let Some((hash, time)) = page.last() else { break };
                after = Some((*time, *hash));
                got.extend(page);
            }
            assert_eq!(got, expected, "bucket {bucket}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn digests_and_orders_are_always_those_of_what_is_kept(
            steps in proptest::collection::vec((0_u8..12, prop_oneof![0_u64..10_000, 3500_u64..3700]), 1..40),
            before in 0_u64..10_000,
        ) {
            let directory = tempfile::TempDir::new().unwrap();
            let store = open(&directory);
            let mut kept: BTreeMap<u8, u64> = BTreeMap::new();
            for (number, timeout) in steps {
                let later = kept.get(&number).is_none_or(|known| *known < timeout);
                prop_assert_eq!(store.put_certificate(&certificate(number, timeout), 5).unwrap(), later);
                if later {
                    kept.insert(number, timeout);
                }
            }
            check(&store, &kept);
            for (number, timeout) in &kept {
                let hash = DataHash::of(&[*number]);
                let bytes = certificate(*number, *timeout).to_bytes();
                prop_assert_eq!(store.certificate(&hash).unwrap().unwrap().to_vec(), bytes.to_vec());
            }
            while store.drop_certificates(before, 3).unwrap() > 0 {}
            kept.retain(|_, timeout| *timeout >= before);
            drop(store);
            let store = open(&directory);
            check(&store, &kept);
        }
    }

    #[test]
    fn custody_hears_of_each_when_it_is_due_and_until_it_has_heard() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = open(&directory);
        for (number, due) in [(1, 30), (2, 10), (3, 20)] {
            assert!(store.put_certificate(&certificate(number, 5000), due).unwrap());
        }
        assert_eq!(store.waiting_certificates(9, 10).unwrap(), []);
        let waiting = store.waiting_certificates(20, 10).unwrap();
        assert_eq!(
            waiting.iter().map(|one| (one.due, one.until)).collect::<Vec<_>>(),
            [(10, 5000), (20, 5000)]
        );
        drop(store);
        let store = open(&directory);
        assert_eq!(store.waiting_certificates(20, 1).unwrap(), waiting[..1]);
        store.certificates_heard(&waiting).unwrap();
        assert_eq!(store.waiting_certificates(20, 10).unwrap(), []);
        assert_eq!(store.waiting_certificates(30, 10).unwrap().len(), 1);
    }
}
