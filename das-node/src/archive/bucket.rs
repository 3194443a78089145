//! One object store, with names, limits and checks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::telemetry::names;
use futures::StreamExt;
use metrics::{Counter, counter, histogram};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

use super::connect::Connected;
use super::{ArchiveError, Reach};
use crate::breaker::Breaker;

/// Reads at once; each may hold a whole batch in memory. Further ones wait.
const MAX_READS: usize = 32;
/// The alarms are made right this often, and an archive that fails is asked again so often.
const WATCH_ROUND: Duration = Duration::from_secs(1);
const PROBE_ROUND: Duration = Duration::from_secs(10);
/// A batch as Nitro's server prints it takes up to so many times its length.
const PRINTED_GROWTH: u64 = 4;

/// The providers' codes of a bucket that is not there, which have the same status as an object that is not, ...
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// ... and of refusals, where the library does not tell them from other errors.
const REFUSALS: [&str; 5] =
    ["NoSuchBucket", "ContainerNotFound", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"];

/// How long and how large.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Longest time for one read, waiting for a place included.
    pub timeout: Duration,
    /// Longest time for one upload or deletion.
    pub write_timeout: Duration,
    /// Longest batch in bytes.
    pub max_batch: u64,
}

/// One object store.
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    name: String,
    printed: bool,
    limits: ReadLimits,
    places: Semaphore,
    breaker: Breaker,
    reach: Reach,
    reads: Reads,
}

struct Reads {
    found: Counter,
    absent: Counter,
    wrong: Counter,
    failed: Counter,
}

impl Bucket {
    pub(super) fn new(connected: Connected, limits: ReadLimits) -> Self {
        let Connected { store, prefix, name, options, printed } = connected;
        let read = |result: &'static str| counter!(names::ARCHIVE_READS, "result" => result);
        Self {
            store,
            prefix,
            reach: Reach::new(name.clone(), options),
            name,
            printed,
            limits,
            places: Semaphore::new(MAX_READS),
            breaker: Breaker::default(),
            reads: Reads {
                found: read("found"),
                absent: read("absent"),
                wrong: read("wrong"),
                failed: read("failed"),
            },
        }
    }

    /// Where it is, without credentials.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can be reached.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    fn path(&self, name: &str) -> Path {
        // A prefix need not end at a slash, so this is no child of a path. What is no path was refused at the start.
        Path::parse(format!("{}{name}", self.prefix)).unwrap_or_else(|_| Path::from(name))
    }

    fn path_of(&self, hash: &DataHash) -> Path {
        self.path(&const_hex::encode(hash.as_bytes()))
    }

    fn late(&self, after: Duration) -> ArchiveError {
        ArchiveError::Late { archive: self.name.clone(), after }
    }

    fn failed(&self, error: &Error) -> ArchiveError {
        let reason = whole_text(error);
        // What is missing where something is written is the bucket.
        let refused = matches!(
            error,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. }
        ) || REFUSALS.iter().any(|code| reason.contains(code));
        ArchiveError::Failed { archive: self.name.clone(), reason, refused }
    }

    /// The batch of this name, or of this flat hash, for somebody who waits for it.
    pub async fn read(&self, hash: &DataHash) -> Result<Option<VerifiedBatch>, ArchiveError> {
        if !self.breaker.allows() {
            return Err(ArchiveError::LeftAlone { archive: self.name.clone() });
        }
        let found = self.find(hash).await;
        // An object that is not right is no sign that the next one is late.
        self.breaker.ended(matches!(found, Ok(_) | Err(ArchiveError::WrongBytes { .. })));
        found
    }

    /// The batch of this name, or of this flat hash.
    pub(super) async fn find(&self, hash: &DataHash) -> Result<Option<VerifiedBatch>, ArchiveError> {
        let found = tokio::time::timeout(self.limits.timeout, async {
            let _place = self.places.acquire().await.expect("the semaphore is never closed");
            match self.fetch(hash).await {
                // Certificates of version 0 name a batch by its flat hash; it is stored under the tree form of that.
                Ok(None) => self.fetch(&DataHash::of_flat(*hash.as_bytes())).await,
                found => found,
            }
        });
        let found = found.await.unwrap_or_else(|_| Err(self.late(self.limits.timeout)));
        let found = match found {
            Ok(None) if self.reach.is_bucket_missing() => Err(self.no_bucket()),
            found => found,
        };
        match &found {
            Ok(Some(batch)) => {
                self.reads.found.increment(1);
                self.reach.report_right(&batch.hash());
            }
            Ok(None) => self.reads.absent.increment(1),
            Err(ArchiveError::WrongBytes { hash, .. }) => {
                self.reads.wrong.increment(1);
                self.reach.report_wrong(hash);
            }
            Err(_) => self.reads.failed.increment(1),
        }
        self.reach.note(&found);
        found
    }

    async fn fetch(&self, hash: &DataHash) -> Result<Option<VerifiedBatch>, ArchiveError> {
        let wrong = || ArchiveError::WrongBytes { archive: self.name.clone(), hash: *hash };
        let found = match self.store.get(&self.path_of(hash)).await {
            Ok(found) => found,
            Err(error @ Error::NotFound { .. }) if !is_bucket_missing(&error) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let growth = if self.printed { PRINTED_GROWTH } else { 1 };
        if found.meta.size > self.limits.max_batch.saturating_mul(growth).saturating_add(2) {
            return Err(wrong());
        }
        let bytes = found.bytes().await.map_err(|error| self.failed(&error))?;
        let (hash, printed) = (*hash, self.printed);
        let checked = tokio::task::spawn_blocking(move || check(&bytes, &hash, printed)).await;
        checked.ok().flatten().map(Some).ok_or_else(wrong)
    }

    /// Writes the batch under its name.
    pub(super) async fn put(&self, batch: &VerifiedBatch) -> Result<(), ArchiveError> {
        let begun = Instant::now();
        let put = self.write(&self.path_of(&batch.hash()), batch.bytes().clone()).await;
        histogram!(names::ARCHIVE_UPLOAD_SECONDS).record(begun.elapsed());
        put
    }

    async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), ArchiveError> {
        let put =
            tokio::time::timeout(self.limits.write_timeout, self.store.put(path, PutPayload::from(bytes)));
        let put = match put.await {
            Ok(put) => put.map(drop).map_err(|error| self.failed(&error)),
            Err(_) => Err(self.late(self.limits.write_timeout)),
        };
        self.reach.note(&put);
        put
    }

    /// Deletes the object of this name; that it is not there is well.
    pub(super) async fn delete(&self, hash: &DataHash) -> Result<(), ArchiveError> {
        let path = self.path_of(hash);
        let deleted = tokio::time::timeout(self.limits.write_timeout, self.store.delete(&path));
        let deleted = match deleted.await {
            Ok(Ok(()) | Err(Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.late(self.limits.write_timeout)),
        };
        self.reach.note(&deleted);
        deleted
    }

    /// Keeps the alarms right, for ever. `writes`: objects are written from here.
    pub async fn watch(&self, writes: bool, alarm_after: Duration, alarms: Alarms) {
        self.probe(writes).await;
        let mut probed = Instant::now();
        loop {
            self.reach.update(&alarms, alarm_after);
            tokio::time::sleep(WATCH_ROUND).await;
            // Nobody else would notice that it is back while nothing is read.
            if self.reach.is_failing() && probed.elapsed() >= PROBE_ROUND {
                self.probe(writes).await;
                probed = Instant::now();
            }
        }
    }

    /// Does it answer, and take objects where these are to be written?
    async fn probe(&self, writes: bool) {
        let asked = async {
            if writes {
                let bytes = PutPayload::from_static(b"das-node may write here");
                return self.store.put(&self.path("das-node-probe"), bytes).await.map(drop);
            }
            // That one object is missing could also mean that the bucket is.
            let folder = self.prefix.rsplit_once('/').map(|(folder, _)| Path::from(folder));
            self.store.list(folder.as_ref()).next().await.transpose().map(drop)
        };
        let outcome = match tokio::time::timeout(self.limits.timeout, asked).await {
            Ok(outcome) => {
                self.reach.set_bucket_missing(outcome.as_ref().is_err_and(is_bucket_missing));
                outcome.map_err(|error| self.failed(&error))
            }
            Err(_) => Err(self.late(self.limits.timeout)),
        };
        self.reach.note(&outcome);
    }

    fn no_bucket(&self) -> ArchiveError {
        let reason = "there is no such bucket".to_owned();
        ArchiveError::Failed { archive: self.name.clone(), reason, refused: true }
    }
}

/// Whether it is not the object that is missing.
fn is_bucket_missing(error: &Error) -> bool {
    let text = whole_text(error);
    NO_BUCKET.iter().any(|code| text.contains(code))
}

/// The batch, if these bytes are it: as they are, or as Nitro's server writes batches to Google's buckets, numbers in
/// brackets.
fn check(bytes: &Bytes, hash: &DataHash, printed: bool) -> Option<VerifiedBatch> {
    match VerifiedBatch::check(bytes.clone(), hash) {
        Ok(batch) => Some(batch),
        Err(_) if printed => VerifiedBatch::check(parse_printed(bytes)?.into(), hash).ok(),
        Err(_) => None,
    }
}

/// `[1 2 255]` and a line end.
fn parse_printed(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let numbers = text.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    numbers.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

/// An error and what caused it, without what is repeated.
fn whole_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_known_as_it_is_and_as_nitro_prints_it_in_googles_buckets() {
        let batch = Bytes::from((0..=255).collect::<Vec<u8>>());
        let hash = DataHash::of(&batch);
        let printed: Vec<_> = batch.iter().map(u8::to_string).collect();
        let printed = Bytes::from(format!("[{}]\n", printed.join(" ")));
        assert_eq!(check(&batch, &hash, false).unwrap().bytes(), &batch);
        assert_eq!(check(&printed, &hash, true).unwrap().bytes(), &batch);
        assert!(check(&printed, &hash, false).is_none());
        for wrong in ["", "[1 2", "[256]", "[-1]", "[1 x]", "\u{fffd}"] {
            assert!(check(&Bytes::from_static(wrong.as_bytes()), &hash, true).is_none(), "{wrong}");
        }
        assert_eq!(parse_printed(b"[]\n"), Some(Vec::new()));
    }
}
