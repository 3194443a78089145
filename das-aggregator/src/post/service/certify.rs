//! Having the committee certify what is to be posted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::certificate::Certificate;
use das_common::data_hash::DataHash;
use das_common::fault;
use tokio::task::JoinSet;
use tracing::warn;

use super::super::entry::{Entry, FOR_EVER, Stage};
use super::super::queue::{QueueError, Record};
use super::{Poster, RESERVE};
use crate::api::status::unix_now;

/// Batches that are certified at once.
const CERTIFY_AT_ONCE: usize = 4;
/// Wait before a batch that the committee did not certify is tried again.
const CERTIFY_AGAIN: Duration = Duration::from_secs(3);

/// A batch, and what came of asking the committee.
type Certified = (u64, Result<Certificate, String>);

/// Certifications under way, and those that failed not long ago.
#[derive(Default)]
pub(super) struct Certifying {
    pub(super) tasks: JoinSet<Certified>,
    under_way: HashSet<u64>,
    not_before: HashMap<u64, Instant>,
}

impl Poster {
    /// How far a batch is with the committee of today: a certificate that names another keyset is as good as none.
    pub(super) fn as_of_now(&self, record: &Record) -> Entry {
        let mut entry = record.entry.clone();
        let keyset = &self.0.chain.keyset;
        if !record.as_data && record.certificate.as_deref().is_some_and(|bytes| !names(bytes, keyset)) {
            entry.certified = None;
            entry.outdate();
        }
        entry
    }

    pub(super) fn certify_waiting(&self, records: &[Record], certifying: &mut Certifying) {
        let needed = unix_now() + self.least_life();
        for record in records {
            let entry = self.as_of_now(record);
            let is_good = entry.certified.is_some_and(|until| until >= needed);
            if entry.stage == Stage::Waiting && !is_good {
                self.certify(record, certifying);
            }
        }
    }

    pub(super) fn certify(&self, record: &Record, certifying: &mut Certifying) {
        let id = record.entry.id;
        let waits = certifying.not_before.get(&id).is_some_and(|time| Instant::now() < *time);
        if waits || certifying.under_way.len() >= CERTIFY_AT_ONCE || !certifying.under_way.insert(id) {
            return;
        }
        // What was asked for is what it shall be kept for from when it was taken; later it is as long from then.
        let now = unix_now();
        let asked = record.timeout.saturating_sub(record.received);
        let timeout = match record.timeout >= now + self.least_life() {
            true => record.timeout,
            false => now + asked.max(self.least_life() + RESERVE),
        };
        let poster = self.clone();
        certifying.tasks.spawn(async move { (id, poster.ask_committee(id, timeout).await) });
    }

    async fn ask_committee(&self, id: u64, timeout: u64) -> Result<Certificate, String> {
        let payload = self.payload(id).await.map_err(|error| error.to_string())?;
        let payload = payload.ok_or("the batch is final already")?;
        let stored = self.0.stores.store_as_ourselves(payload, timeout, Arc::clone(&self.0.store_key)).await;
        stored.map_err(|error| error.to_string())
    }

    pub(super) async fn certified(
        &self,
        (id, outcome): Certified,
        certifying: &mut Certifying,
    ) -> Result<(), QueueError> {
        certifying.under_way.remove(&id);
        match outcome {
            Ok(certificate) => {
                certifying.not_before.remove(&id);
                let until = certificate.timeout;
                let change = move |record: &mut Record| {
                    if record.certificate.as_deref().is_some_and(|old| !names(old, &certificate.keyset_hash))
                    {
                        // What is under way names a keyset of before, and must not stay the best offer.
                        record.entry.outdate();
                    }
                    record.certificate = Some(certificate.to_bytes().to_vec());
                    record.failing_since = None;
                    record.problem = None;
                    record.entry.certify(until);
                };
                self.update(id, change).await?;
                self.0.alarms.clear(fault::POST_UNCERTIFIED.code);
            }
            Err(error) => {
                certifying.not_before.insert(id, Instant::now() + CERTIFY_AGAIN);
                let (now, after) = (unix_now(), self.0.settings.fallback_after);
                let text = format!("the committee does not certify it: {error}");
                let change = {
                    let text = text.clone();
                    move |record: &mut Record| {
                        let since = *record.failing_since.get_or_insert(now);
                        record.problem = Some(text);
                        if after.is_some_and(|after| now.saturating_sub(since) >= after.as_secs()) {
                            record.as_data = true;
                            record.problem = None;
                            record.entry.certify(FOR_EVER);
                        }
                    }
                };
                let record = self.update(id, change).await?;
                match record.is_some_and(|record| record.as_data) {
                    true => warn!(batch = id, "too few members sign: the batch itself is posted"),
                    false => {
                        self.0.alarms.raise_fault(fault::POST_UNCERTIFIED, format!("batch {id}: {text}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a certificate is for this keyset.
fn names(certificate: &[u8], keyset: &DataHash) -> bool {
    Certificate::parse_as_nitro(certificate).is_ok_and(|certificate| certificate.keyset_hash == *keyset)
}
