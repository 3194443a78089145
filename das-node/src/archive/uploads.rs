//! Works off what is noted for the archive: uploads first, oldest first, then deletions.
//!
//! Of each batch there is one errand under way at a time. After a failure there is one attempt at a time at all, at
//! growing distances, each of another batch, so that one object that is never taken does not hold up the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::telemetry::names;
use metrics::{counter, gauge};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{ArchiveError, Bucket, Urgent};
use crate::clock::unix_time;
use crate::retrieve::Retrieve;
use crate::storage::index::{Errand, Note};
use crate::storage::{BatchStore, Lookup, StorageError};

/// Notes read at once.
const PAGE: usize = 64;
/// The queue is looked at this often where nobody says that there is something.
const LOOK_ROUND: Duration = Duration::from_millis(500);
/// Notes are counted up to this.
const COUNTED: usize = 10_000;
/// Uploads out of turn that may wait to be taken up.
const URGENT: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const MEASURE_ROUND: Duration = Duration::from_secs(5);

/// How uploads are worked off.
#[derive(Debug, Clone, Copy)]
pub struct UploaderOptions {
    /// Most uploads at once.
    pub in_flight: usize,
}

/// Works off the queue.
pub struct Uploader {
    store: Arc<BatchStore>,
    bucket: Arc<Bucket>,
    /// Gathers what became a shard before it was uploaded.
    retrieve: Retrieve,
    options: UploaderOptions,
    urgent: mpsc::Receiver<Urgent>,
}

type Waiter = oneshot::Sender<Result<(), ArchiveError>>;

/// What the loop of the uploader has at hand.
struct Work {
    tasks: JoinSet<(Note, Result<(), ArchiveError>)>,
    busy: HashMap<DataHash, (Id, Vec<Waiter>)>,
    /// Uploads out of turn whose batch is being deleted just now.
    later: Vec<Urgent>,
    page: VecDeque<Note>,
    errand: Errand,
    after: Option<Note>,
    failures: u32,
    resume: Instant,
}

impl Uploader {
    /// For the notes of this store. The sender takes uploads out of turn.
    pub fn new(
        store: Arc<BatchStore>,
        bucket: Arc<Bucket>,
        retrieve: Retrieve,
        options: UploaderOptions,
    ) -> (Self, mpsc::Sender<Urgent>) {
        let (sender, urgent) = mpsc::channel(URGENT);
        (Self { store, bucket, retrieve, options, urgent }, sender)
    }

    /// Works for ever.
    pub async fn run(mut self) {
        self.backfill().await;
        let mut work = Work {
            tasks: JoinSet::new(),
            busy: HashMap::new(),
            later: Vec::new(),
            page: VecDeque::new(),
            errand: Errand::Upload,
            after: None,
            failures: 0,
            resume: Instant::now(),
        };
        loop {
            self.fill(&mut work).await;
            let look = work.resume.max(Instant::now() + LOOK_ROUND);
            tokio::select! {
                Some(done) = work.tasks.join_next() => work.ended(done),
                urgent = self.urgent.recv() => match urgent {
                    Some(urgent) => self.begin_urgent(&mut work, urgent).await,
                    None => return,
                },
                () = tokio::time::sleep_until(look) => {}
            }
            let later = std::mem::take(&mut work.later);
            for urgent in later {
                self.begin_urgent(&mut work, urgent).await;
            }
        }
    }

    /// Notes what was here before the archive was.
    async fn backfill(&self) {
        loop {
            match self.store.backfill_step().await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, "what is to be brought to the archive could not be noted; it is tried again");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    async fn fill(&self, work: &mut Work) {
        let most = if work.failures > 0 { 1 } else { self.options.in_flight };
        while work.tasks.len() < most && Instant::now() >= work.resume {
            match self.next(work).await {
                Ok(Some(note)) => self.begin(work, note),
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "the queue of the archive could not be read");
                    work.paused();
                    return;
                }
            }
        }
    }

    /// The next note that nobody works on; `None` at the end, after which it begins anew.
    async fn next(&self, work: &mut Work) -> Result<Option<Note>, StorageError> {
        loop {
            while let Some(note) = work.page.pop_front() {
                work.after = Some(note);
                if !work.busy.contains_key(&note.hash) {
                    return Ok(Some(note));
                }
            }
            work.page = self.store.notes(work.errand, work.after, PAGE).await?.into();
            if work.page.is_empty() {
                work.after = None;
                match work.errand {
                    Errand::Upload => work.errand = Errand::Delete,
                    Errand::Delete => {
                        work.errand = Errand::Upload;
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn begin(&self, work: &mut Work, note: Note) {
        let (store, bucket, retrieve) =
            (Arc::clone(&self.store), Arc::clone(&self.bucket), self.retrieve.clone());
        let task = work.tasks.spawn(async move {
            let done = match note.errand {
                Errand::Upload => upload(&store, &bucket, &retrieve, &note).await,
                Errand::Delete => delete(&store, &bucket, &note).await,
            };
            (note, done)
        });
        work.busy.insert(note.hash, (task.id(), Vec::new()));
    }

    async fn begin_urgent(&self, work: &mut Work, (hash, waiter): Urgent) {
        match self.store.upload_note(hash).await {
            // It was uploaded before, or has just been.
            Ok(None) => drop(waiter.send(Ok(()))),
            Ok(Some(note)) => {
                if !work.busy.contains_key(&hash) {
                    self.begin(work, note);
                }
                if let Some((_, waiters)) = work.busy.get_mut(&hash) {
                    waiters.push(waiter);
                }
            }
            Err(error) => {
                drop(waiter.send(Err(ArchiveError::Unreadable { hash, reason: error.to_string() })));
            }
        }
    }

    /// Watches the queue, for ever.
    pub async fn watch(store: Arc<BatchStore>, bucket: Arc<Bucket>, alarm_after: Duration, alarms: Alarms) {
        let begun = unix_time();
        loop {
            if let Ok(notes) = store.notes(Errand::Upload, None, COUNTED).await {
                gauge!(names::ARCHIVE_QUEUE).set(notes.len() as f64);
                // What was here before this start counts from the start on.
                let oldest = notes.iter().map(|note| note.time.max(begun)).min();
                let age = oldest.map_or(0, |time| unix_time().saturating_sub(time));
                gauge!(names::ARCHIVE_OLDEST_SECONDS).set(age as f64);
                if age > alarm_after.as_secs() {
                    let more = if notes.len() == COUNTED { " or more" } else { "" };
                    let text = format!(
                        "{}{more} batches wait to be brought to {}, the first for {age} s",
                        notes.len(),
                        bucket.name()
                    );
                    alarms.raise_fault(fault::ARCHIVE_BEHIND, text);
                } else {
                    alarms.clear(fault::ARCHIVE_BEHIND.code);
                }
            }
            tokio::time::sleep(MEASURE_ROUND).await;
        }
    }
}

impl Work {
    fn ended(&mut self, done: Result<(Note, Result<(), ArchiveError>), JoinError>) {
        let (note, result) = match done {
            Ok(done) => done,
            Err(error) => {
                warn!(%error, "an upload ended unexpectedly; it is tried again");
                self.busy.retain(|_, (id, _)| *id != error.id());
                self.paused();
                return;
            }
        };
        let waiters = self.busy.remove(&note.hash).map(|(_, waiters)| waiters).unwrap_or_default();
        let (kind, outcome) = match (note.errand, &result) {
            (Errand::Upload, Ok(())) => ("upload", "ok"),
            (Errand::Upload, Err(_)) => ("upload", "error"),
            (Errand::Delete, Ok(())) => ("delete", "ok"),
            (Errand::Delete, Err(_)) => ("delete", "error"),
        };
        counter!(names::ARCHIVE_ERRANDS, "kind" => kind, "result" => outcome).increment(1);
        match &result {
            Ok(()) => {
                debug!(hash = %note.hash, kind, "done at the archive");
                if self.failures > 0 {
                    info!("the archive takes requests again");
                }
                (self.failures, self.resume) = (0, Instant::now());
            }
            Err(error) => {
                if self.failures == 0 {
                    warn!(%error, hash = %note.hash, "the archive failed; it is tried again");
                }
                self.paused();
            }
        }
        for waiter in waiters {
            match note.errand {
                Errand::Upload => drop(waiter.send(result.clone())),
                // It was stored again meanwhile.
                Errand::Delete => self.later.push((note.hash, waiter)),
            }
        }
    }

    /// Nothing is tried for a while, longer each time.
    fn paused(&mut self) {
        let pause = (FIRST_PAUSE * (1 << self.failures.min(7))).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.resume = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.0));
    }
}

async fn upload(
    store: &Arc<BatchStore>,
    bucket: &Bucket,
    retrieve: &Retrieve,
    note: &Note,
) -> Result<(), ArchiveError> {
    if let Some(batch) = payload(store, retrieve, note).await? {
        bucket.put(&batch).await?;
        counter!(names::ARCHIVE_UPLOADED_BYTES).increment(batch.bytes().len() as u64);
    }
    forget(store, note).await
}

/// The batch; `None`: there is nothing to be uploaded any more.
async fn payload(
    store: &Arc<BatchStore>,
    retrieve: &Retrieve,
    note: &Note,
) -> Result<Option<VerifiedBatch>, ArchiveError> {
    let hash = note.hash;
    let unreadable = |reason: String| ArchiveError::Unreadable { hash, reason };
    match store.get(hash).await.map_err(|error| unreadable(error.to_string()))? {
        Lookup::Found(batch) => Ok(Some(batch)),
        Lookup::Absent | Lookup::Archived { .. } => Ok(None),
        Lookup::Sharded { .. } | Lookup::Damaged => match retrieve.gathered(&hash).await {
            Some(Ok(Some(batch))) => Ok(Some(batch)),
            Some(Err(error)) => Err(unreadable(error.to_string())),
            Some(Ok(None)) | None => {
                Err(unreadable("its bytes are damaged, or here as a shard only".to_owned()))
            }
        },
    }
}

async fn delete(store: &Arc<BatchStore>, bucket: &Bucket, note: &Note) -> Result<(), ArchiveError> {
    let hash = note.hash;
    let known = store.knows(hash).await;
    let known = known.map_err(|error| ArchiveError::Unreadable { hash, reason: error.to_string() })?;
    // What was stored again is promised again.
    if !known {
        bucket.delete(&hash).await?;
    }
    forget(store, note).await
}

async fn forget(store: &Arc<BatchStore>, note: &Note) -> Result<(), ArchiveError> {
    let forgotten = store.forget_note(*note).await;
    forgotten.map_err(|error| ArchiveError::Unreadable { hash: note.hash, reason: error.to_string() })
}
