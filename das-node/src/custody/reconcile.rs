//! What a member does not know that it should hold, it learns from the others.
//!
//! Now and then a member compares its certificates with those of another one, by bucket of timeout: the digests of the hours
//! first, those of the minutes of an hour that differs, then what is in a minute that differs. Certificates that it lacks it
//! asks for, checks and keeps; the machine does the rest. What the other one lacks, that one finds out itself.
//!
//! Everything is bounded, and nothing is believed: who lists what he cannot show costs a round, and who shows what does not
//! verify is not asked for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::binding::MemberId;
use das_common::custody::message::{
    BucketDigest, BucketLevel, CertificateBytes, MAX_BUCKETS, MAX_CERTIFICATES, PeerRequest, PeerResponse,
};
use das_common::data_hash::DataHash;
use das_common::telemetry::names;
use rand::Rng;
use thiserror::Error;
use tracing::{debug, info, warn};

use super::Shared;
use super::certificates::{KeepError, keep};
use super::source::ask;
use crate::clock::unix_time;
use crate::gather::SourceError;

/// The mean time between two rounds when nothing was missing in the last.
const INTERVAL: Duration = Duration::from_secs(60);
/// ... and after one that found something.
const SHORT_INTERVAL: Duration = Duration::from_millis(200);
/// The first round after a start, when others have connected.
const FIRST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
/// Minutes whose entries are looked at in one round.
const MAX_MINUTES: usize = 128;
/// Pages of entries in one round.
const MAX_PAGES: usize = 256;
/// Certificates asked for in one round.
const MAX_MISSING: usize = 2048;
/// Who has shown a certificate that does not verify is left alone for so long.
const DISTRUST: Duration = Duration::from_secs(600);

/// What keeps a round from its end.
#[derive(Debug, Error)]
enum Ended {
    /// The other one does not answer.
    #[error("no answer: {0:?}")]
    Source(SourceError),
    /// It answers what is no answer to the question.
    #[error("an answer to another question, or out of order")]
    Nonsense,
    /// It shows a certificate that is none.
    #[error("a certificate that is none: {0}")]
    Forged(KeepError),
    /// This member cannot go on.
    #[error(transparent)]
    Own(KeepError),
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl<E: Into<KeepError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Own(error.into())
    }
}

/// Compares for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut distrusted: HashMap<MemberId, Instant> = HashMap::new();
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        // A random time, so that members do not all ask at once.
        pause = INTERVAL.mul_f64(rand::rng().random_range(0.5..1.5));
        distrusted.retain(|_, since| since.elapsed() < DISTRUST);
        let Some(member) = somebody(&shared, &distrusted) else {
            pause = FIRST;
            continue;
        };
        match round(&shared, member).await {
            Ok(0) => {}
            Ok(learnt) => {
                info!(%member, learnt, "certificates that were missing here");
                pause = SHORT_INTERVAL;
            }
            Err(error @ (Ended::Forged(_) | Ended::Nonsense)) => {
                warn!(%member, %error, "a member does not compare certificates honestly; it is left alone for a while");
                distrusted.insert(member, Instant::now());
            }
            Err(error) => debug!(%member, %error, "certificates could not be compared"),
        }
    }
}

/// A connected member, any.
fn somebody(shared: &Shared, distrusted: &HashMap<MemberId, Instant>) -> Option<MemberId> {
    let members = shared.peers.members();
    let fit: Vec<MemberId> = members
        .iter()
        .filter(|status| status.connected && !status.mirror && !distrusted.contains_key(&status.member))
        .map(|status| status.member)
        .collect();
    if fit.is_empty() { None } else { Some(fit[rand::rng().random_range(0..fit.len())]) }
}

/// One comparison; how many certificates were learnt.
async fn round(shared: &Arc<Shared>, member: MemberId) -> Result<u64, Ended> {
    metrics::counter!(names::CUSTODY_RECONCILIATIONS).increment(1);
    let minutes = differing_minutes(shared, member).await?;
    let missing = missing_in(shared, member, &minutes).await?;
    let mut learnt = 0;
    for hashes in missing.chunks(MAX_CERTIFICATES) {
        let answer =
            ask(&shared.peers, member, &PeerRequest::AskCertificates(hashes.to_vec()), PATIENCE).await?;
        let PeerResponse::Certificates(certificates) = answer else { return Err(Ended::Nonsense) };
        if certificates.len() > hashes.len() {
            return Err(Ended::Nonsense);
        }
        for certificate in certificates {
            learnt += u64::from(take(shared, &certificate).await?);
        }
    }
    Ok(learnt)
}

async fn take(shared: &Arc<Shared>, certificate: &CertificateBytes) -> Result<bool, Ended> {
    match keep(shared, certificate).await {
        Ok(new) => Ok(new),
        // It ended while it was on its way, or the other one knows a committee that this one does not know yet.
        Err(KeepError::Passed { .. } | KeepError::Keyset { .. } | KeepError::TooLate { .. }) => Ok(false),
        Err(error @ KeepError::Certificate(_)) => Err(Ended::Forged(error)),
        Err(error) => Err(Ended::Own(error)),
    }
}

async fn digests(
    shared: &Shared,
    member: MemberId,
    level: BucketLevel,
    first: u64,
    count: u16,
) -> Result<Vec<u64>, Ended> {
    let request = PeerRequest::BucketDigests { level, first, count };
    let PeerResponse::BucketDigests(theirs) = ask(&shared.peers, member, &request, PATIENCE).await? else {
        return Err(Ended::Nonsense);
    };
    if theirs.len() != usize::from(count) {
        return Err(Ended::Nonsense);
    }
    let ours = shared.store.certificate_digests(level, first, count)?;
    // Where the other one has nothing, there is nothing to learn.
    let differs = |(theirs, ours): &(&BucketDigest, &BucketDigest)| theirs.count > 0 && theirs != ours;
    let pairs = theirs.iter().zip(&ours).enumerate();
    Ok(pairs.filter(|(_, pair)| differs(pair)).map(|(i, _)| first + i as u64).collect())
}

async fn differing_minutes(shared: &Shared, member: MemberId) -> Result<Vec<u64>, Ended> {
    let now = unix_time();
    // The hour that is under way is not compared: one forgets sooner than another.
    let mut next = BucketLevel::Hour.bucket_of(now) + 1;
    let end = BucketLevel::Hour.bucket_of(now.saturating_add(shared.options.max_retention.as_secs())) + 2;
    let mut minutes = Vec::new();
    while next < end && minutes.len() < MAX_MINUTES {
        let count = (end - next).min(MAX_BUCKETS as u64);
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        for hour in digests(shared, member, BucketLevel::Hour, next, count).await? {
            let first = BucketLevel::Minute.bucket_of(BucketLevel::Hour.begin(hour));
            minutes.extend(digests(shared, member, BucketLevel::Minute, first, 60).await?);
            if minutes.len() >= MAX_MINUTES {
                break;
            }
        }
        next += u64::from(count);
    }
    minutes.truncate(MAX_MINUTES);
    Ok(minutes)
}

/// The batches of these minutes of which a later certificate is there than here.
async fn missing_in(shared: &Shared, member: MemberId, minutes: &[u64]) -> Result<Vec<DataHash>, Ended> {
    let (mut missing, mut pages) = (Vec::new(), 0);
    for minute in minutes {
        let mut after = None;
        loop {
            pages += 1;
            if pages > MAX_PAGES || missing.len() >= MAX_MISSING {
                return Ok(missing);
            }
            let request = PeerRequest::BucketEntries { bucket: *minute, after };
            let PeerResponse::BucketEntries(entries) = ask(&shared.peers, member, &request, PATIENCE).await?
            else {
                return Err(Ended::Nonsense);
            };
            let Some((last, time)) = entries.last().copied() else { break };
            // In order and in the bucket, so that the pages come to an end.
            let place = |(hash, time): &(DataHash, u64)| (*time, *hash.as_bytes());
            let ordered = entries.is_sorted_by(|a, b| place(a) < place(b));
            let begins_behind = after.is_none_or(|(time, hash): (u64, DataHash)| {
                entries.first().is_some_and(|first| place(first) > (time, *hash.as_bytes()))
            });
            let inside = entries.iter().all(|(_, time)| BucketLevel::Minute.bucket_of(*time) == *minute);
            if !(ordered && begins_behind && inside) {
                return Err(Ended::Nonsense);
            }
            after = Some((time, last));
            for (hash, time) in entries {
                if shared.store.certificate_timeout(&hash)?.is_none_or(|known| known < time) {
                    missing.push(hash);
                }
            }
        }
    }
    Ok(missing)
}
