//! Fetching the payloads of posted certificates, until every one is here or known to stand for nothing.
//!
//! The work list is in the [`Index`]: certificates whose payload is [`Payload::Waiting`], by the time of their next try.
//! It survives restarts, and what a reorganization takes from the chain leaves it.
//!
//! # Guarantees, whatever a batch or its [`Recover`] does
//! - A batch that fails, hangs or panics is tried again later, ever more seldom, and holds up no other one: it has one
//!   place of many, for at most [`SyncOptions::longest_try`]. However many fail, some places are kept for new batches,
//!   and these are tried first.
//! - A batch is done only when `recover` said so, which is when its payload is kept.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use das_chain::endpoints::Backoff;
use rand::Rng;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::index::{Index, fault_of};
use crate::names;
use crate::types::{Batches, IndexError, Payload, PostedBatch};

/// Batches that are taken from the work list at once.
const TAKEN_AT_ONCE: usize = 256;
/// How often the work list is looked at when nothing new comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after the index failed.
const INDEX_PAUSE: Duration = Duration::from_secs(5);

/// What came of trying to fetch a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was fetched, verified, and is kept.
    Fetched {
        /// Its bytes.
        length: u64,
    },
    /// Nodes take the batch for an empty one: there is nothing to fetch.
    Ignored {
        /// What is wrong with its certificate.
        why: String,
    },
    /// It could not be fetched or kept now.
    Failed {
        /// Why.
        why: String,
    },
}

/// Whoever fetches and keeps a payload.
pub trait Recover: Send + Sync + 'static {
    /// Fetches, verifies and keeps the payload of a batch whose content is a certificate. Until its times allow that it
    /// is let go is the business of this too. It may be called again for a batch that it has done.
    fn recover(&self, batch: &PostedBatch) -> impl Future<Output = Outcome> + Send;
}

/// How payloads are fetched.
#[derive(Debug, Clone, Copy)]
pub struct SyncOptions {
    /// Recoveries under way at once, 1 or more; and a quarter as many beyond these, of batches that were not tried yet.
    pub in_flight: usize,
    /// How long after its last timestamp a batch's payload can be expected to be had from somebody.
    pub retention: Duration,
    /// When a batch that failed is tried again.
    pub retry: Backoff,
    /// When one whose time is over is.
    pub retry_old: Backoff,
    /// A try that takes longer has failed.
    pub longest_try: Duration,
    /// How often progress is on the log.
    pub tell_every: Duration,
}

impl Default for SyncOptions {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            in_flight: 16,
            retention: 15 * day,
            retry: Backoff { first: Duration::from_secs(4), most: Duration::from_secs(3600) },
            retry_old: Backoff { first: day, most: day },
            longest_try: Duration::from_secs(300),
            tell_every: Duration::from_secs(30),
        }
    }
}

impl SyncOptions {
    /// Places for batches that failed before, and for all.
    fn places(&self) -> (usize, usize) {
        let in_flight = self.in_flight.max(1);
        (in_flight, in_flight + in_flight.div_ceil(4))
    }

    /// The time (unix seconds) of the next try of a batch whose last timestamp is `max_timestamp`, after `attempts`
    /// tries of which the last failed at `now`. `jitter` is from 0 to 1.
    fn next_try(&self, max_timestamp: u64, attempts: u32, now: u64, jitter: f64) -> u64 {
        let is_old = max_timestamp.saturating_add(self.retention.as_secs()) < now;
        let backoff = if is_old { &self.retry_old } else { &self.retry };
        // Rounded up: a try within the second would be one without a pause.
        let pause = backoff.after(attempts, jitter);
        now.saturating_add(pause.as_secs()).saturating_add(u64::from(pause.subsec_nanos() > 0))
    }
}

/// A batch on a chain, by what names it.
type Name = (u32, u64, B256);

fn name(batch: &PostedBatch) -> Name {
    (batch.era, batch.number, batch.block.hash)
}

/// Tries that failed.
fn tries(batch: &PostedBatch) -> u32 {
    match &batch.payload {
        Payload::Waiting { attempts, .. } => *attempts,
        Payload::None | Payload::Fetched { .. } | Payload::Ignored { .. } => 0,
    }
}

/// What was done since it was last told.
struct Done {
    since: Instant,
    fetched: u64,
    bytes: u64,
    ignored: u64,
    failed: u64,
}

impl Done {
    fn nothing() -> Self {
        Self { since: Instant::now(), fetched: 0, bytes: 0, ignored: 0, failed: 0 }
    }

    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Fetched { length } => {
                self.fetched += 1;
                self.bytes += length;
                metrics::counter!(names::FETCHED).increment(1);
                metrics::counter!(names::BYTES).increment(*length);
            }
            Outcome::Ignored { .. } => self.ignored += 1,
            Outcome::Failed { .. } => self.failed += 1,
        }
    }
}

/// Fetches what an index has on its work list.
#[derive(Debug)]
pub struct PayloadSync<R> {
    index: Arc<Index>,
    recover: Arc<R>,
    options: SyncOptions,
}

impl<R: Recover> PayloadSync<R> {
    /// Works off the list of `index` with `recover`. One at a time works off an index.
    pub fn new(index: Arc<Index>, recover: R, options: SyncOptions) -> Self {
        Self { index, recover: Arc::new(recover), options }
    }

    /// Until stopped; what is under way then is given up, and tried again at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut places = JoinSet::new();
        let mut under_way: HashMap<Id, PostedBatch> = HashMap::new();
        let mut taken = VecDeque::new();
        let mut done = Done::nothing();
        loop {
            while let Some(batch) = self.next(&mut taken, &under_way).await {
                let task =
                    places.spawn(one(Arc::clone(&self.recover), batch.clone(), self.options.longest_try));
                under_way.insert(task.id(), batch);
            }
            let has_room = places.len() < self.options.places().1;
            let tell_in = self.options.tell_every.saturating_sub(done.since.elapsed());
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = places.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, outcome),
                        Err(error) => (error.id(), Outcome::Failed { why: format!("the recovery failed: {error}") }),
                    };
                    if let Some(batch) = under_way.remove(&id) {
                        done.count(&outcome);
                        self.note(&batch, outcome).await;
                    }
                }
                // They come before what was taken from the list.
                () = self.index.more_waiting() => taken.clear(),
                () = tokio::time::sleep(LOOK_EVERY), if has_room => {}
                () = tokio::time::sleep(tell_in) => self.tell(&mut done, places.len()),
            }
        }
        places.shutdown().await;
    }

    /// The next batch to be tried, if there is one now, and a place for it.
    async fn next(
        &self,
        taken: &mut VecDeque<PostedBatch>,
        under_way: &HashMap<Id, PostedBatch>,
    ) -> Option<PostedBatch> {
        let (for_failed, for_all) = self.options.places();
        if under_way.len() >= for_all {
            return None;
        }
        let is_under_way = |batch: &PostedBatch| under_way.values().any(|other| name(other) == name(batch));
        if taken.is_empty() {
            let limit = TAKEN_AT_ONCE + under_way.len();
            let due = self.with_index(move |index| index.due(unix_now(), limit)).await?;
            taken.extend(due.into_iter().filter(|batch| !is_under_way(batch)));
        }
        while let Some(batch) = taken.pop_front() {
            if under_way.len() >= for_failed && tries(&batch) > 0 {
                taken.push_front(batch);
                return None;
            }
            // Since it was taken it may have gone with its block.
            let now = self.index.batch(batch.era, batch.number);
            let is_there = matches!(now, Ok(Some(now)) if name(&now) == name(&batch));
            if is_there && self.index.progress().era == Some(batch.era) && !is_under_way(&batch) {
                return Some(batch);
            }
        }
        None
    }

    /// Writes down what came of a batch.
    async fn note(&self, batch: &PostedBatch, outcome: Outcome) {
        let (era, number, block) = name(batch);
        let payload = match outcome {
            Outcome::Fetched { length } => Payload::Fetched { length },
            Outcome::Ignored { why } => {
                info!(batch = number, why, "the batch is empty to every node");
                Payload::Ignored { why }
            }
            Outcome::Failed { why } => {
                let (attempts, now) = (tries(batch).saturating_add(1), unix_now());
                let jitter = rand::rng().random_range(0.0..1.0);
                let retry_at = self.options.next_try(batch.bounds.max_timestamp, attempts, now, jitter);
                debug!(
                    batch = number,
                    attempts,
                    retry_in = retry_at - now,
                    why,
                    "a payload could not be fetched"
                );
                Payload::Waiting { attempts, retry_at, why: Some(why) }
            }
        };
        self.with_index(move |index| index.set_payload(era, number, block, &payload)).await;
    }

    /// Asks the index; none: it failed, and there was a pause.
    async fn with_index<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Option<T> {
        let index = Arc::clone(&self.index);
        match tokio::task::spawn_blocking(move || ask(&index)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => {
                let fault = fault_of(&error);
                error!(code = fault.code, cure = fault.cure, "payloads are not fetched now: {error}");
            }
            Err(error) => error!("payloads are not fetched now: {error}"),
        }
        tokio::time::sleep(INDEX_PAUSE).await;
        None
    }

    fn tell(&self, done: &mut Done, under_way: usize) {
        let Done { since, fetched, bytes, ignored, failed } = std::mem::replace(done, Done::nothing());
        if fetched + ignored + failed == 0 && under_way == 0 {
            return;
        }
        let seconds = since.elapsed().as_secs_f64();
        let per_second = |count: u64| format!("{:.1}", count as f64 / seconds.max(0.001));
        let progress = self.index.progress();
        info!(
            fetched,
            ignored,
            failed,
            remaining = progress.waiting,
            failing = progress.failing,
            batches_per_second = per_second(fetched),
            bytes_per_second = per_second(bytes),
            "payloads fetched"
        );
    }
}

async fn one<R: Recover>(recover: Arc<R>, batch: PostedBatch, longest: Duration) -> Outcome {
    match tokio::time::timeout(longest, recover.recover(&batch)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failed { why: format!("it was not done within {longest:?}") },
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests;
