//! Going along the chain: what the follower reports is read, and written into the index.
//!
//! A step that cannot be read or written changes nothing: the follower goes back to the position in the index, and looks
//! again after a pause. So a block that vanishes while its batches are read is found to be gone, and nothing else is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use das_chain::ChainError;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::Backoff;
use das_chain::follow::{ChainSource, Filtered, Follower, PositionError, Settings, Step};
use das_chain::reader::{Block, BlockId, LogFilter, LogsRead, Reader};
use das_common::alarm::Alarms;
use das_common::fault::{self, Coded, Fault};
use rand::Rng;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::index::{Applied, Index, fault_of};
use crate::reading::{BatchReader, ReadingError, ReadingOptions};
use crate::types::{Batches, IndexError, PostedBatch};

/// The contract's events that are followed: batches, rights and keysets.
pub const EVENTS: [B256; 5] = [
    Inbox::SequencerBatchDelivered::SIGNATURE_HASH,
    Inbox::BatchPosterSet::SIGNATURE_HASH,
    Inbox::SequencerSet::SIGNATURE_HASH,
    Inbox::SetValidKeyset::SIGNATURE_HASH,
    Inbox::InvalidateKeyset::SIGNATURE_HASH,
];
const PAUSE: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };
/// The alarm about a reset stays at least so long, for somebody to see it.
const RESET_SHOWN: Duration = Duration::from_secs(3600);
/// While there is much to read, progress is on the log this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How the chain is followed.
#[derive(Debug, Clone, Copy)]
pub struct FollowOptions {
    /// How often the chain is looked at when there was nothing new.
    pub poll: Duration,
    /// How long a chain that merely ends before what was seen is waited for.
    pub patience: Duration,
    /// A chain that ends so many blocks before what was seen is taken for another one.
    pub far_below: u64,
    /// How batches are read.
    pub reading: ReadingOptions,
    /// The alarm that the chain cannot be followed is raised when that has lasted so long.
    pub alarm_after: Duration,
}

impl Default for FollowOptions {
    fn default() -> Self {
        let Settings { patience, far_below, .. } = Settings::new(0, 0);
        Self {
            poll: Duration::from_secs(2),
            patience,
            far_below,
            reading: ReadingOptions::default(),
            alarm_after: Duration::from_secs(60),
        }
    }
}

/// Somebody who hears of every step, once it is in the index. Logs are those of [`EVENTS`].
pub trait Observer: Send + Sync + 'static {
    /// Takes note of a step. The chain waits for it.
    fn observe<'a>(&'a self, step: &'a Step) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Why a step came to nothing.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Its batches.
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The position in the index.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The thread that writes ended early.
    #[error("writing into the index of batches failed unexpectedly")]
    Lost,
}

impl FollowError {
    /// Whether trying again is of no use.
    fn stays(&self) -> bool {
        matches!(self, Self::Position(_) | Self::Index(IndexError::Damaged { .. }))
    }

    fn as_chain(&self) -> Option<&ChainError> {
        match self {
            Self::Chain(error) | Self::Reading(ReadingError::Chain(error)) => Some(error),
            _ => None,
        }
    }
}

impl Coded for FollowError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Chain(error) => error.fault(),
            Self::Reading(error) => error.fault(),
            Self::Index(error) => fault_of(error),
            Self::Position(error) => error.fault(),
            Self::Lost => fault::PROGRAM_PANIC,
        }
    }
}

/// Follows the chain of a reader for an index.
pub struct ChainFollower {
    reader: Reader,
    index: Arc<Index>,
    options: FollowOptions,
    alarms: Alarms,
    observers: Vec<Arc<dyn Observer>>,
}

impl fmt::Debug for ChainFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainFollower").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The chain, with its head noted in the index.
struct Watched {
    chain: Filtered,
    index: Arc<Index>,
}

impl ChainSource for Watched {
    async fn head(&self) -> Result<Block, ChainError> {
        let head = self.chain.head().await?;
        self.index.note_head(head.number);
        Ok(head)
    }

    fn block(&self, number: u64) -> impl Future<Output = Result<Option<Block>, ChainError>> + Send {
        self.chain.block(number)
    }

    fn logs(
        &self,
        from: u64,
        to: u64,
        below: Option<BlockId>,
    ) -> impl Future<Output = Result<LogsRead, ChainError>> + Send {
        self.chain.logs(from, to, below)
    }
}

/// The chain as it is gone along.
struct Way {
    follower: Follower<Watched>,
    batches: BatchReader,
    /// The follower reported what the index may not have.
    is_ahead: bool,
}

impl Way {
    async fn read(&mut self) -> Result<(Step, Vec<PostedBatch>), FollowError> {
        let step = self.follower.step().await?;
        let batches = match &step {
            Step::Advanced { logs, .. } => self.batches.read(logs).await?,
            Step::RolledBack { .. } | Step::Reset { .. } | Step::AtHead { .. } => Vec::new(),
        };
        Ok((step, batches))
    }
}

/// What is going on, for the log and the alarms.
#[derive(Default)]
struct State {
    failures: u32,
    failing_since: Option<Instant>,
    /// The alarm that was raised for it.
    raised: Option<&'static Fault>,
    reset_at: Option<Instant>,
    is_at_head: bool,
    told: Option<Instant>,
}

impl ChainFollower {
    /// Follows the contract that the index is of. The reader's chain is that contract's.
    pub fn new(reader: Reader, index: Arc<Index>, options: FollowOptions, alarms: Alarms) -> Self {
        Self { reader, index, options, alarms, observers: Vec::new() }
    }

    /// Somebody else is to hear of every step.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Until stopped; then nothing is being written any more. An error means that the index is damaged or its position of
    /// no use; everything else passes.
    pub async fn run(self, stop: CancellationToken) -> Result<(), FollowError> {
        let followed = *self.index.followed();
        let filter = LogFilter::events(followed.inbox, &EVENTS);
        let chain = Filtered { reader: self.reader.clone(), filter };
        let source = Watched { chain, index: Arc::clone(&self.index) };
        let settings = Settings {
            patience: self.options.patience,
            far_below: self.options.far_below,
            ..Settings::new(followed.chain_id, followed.start)
        };
        let mut way = Way {
            follower: Follower::new(source, settings, self.index.position()?)?,
            batches: BatchReader::new(self.reader.clone(), followed.inbox, self.options.reading),
            is_ahead: false,
        };
        let mut state = State::default();
        loop {
            let pause = match self.step(&mut way, &stop).await {
                Ok(None) => return Ok(()),
                Ok(Some((step, applied))) => {
                    self.went_on(&mut state, &step, &applied);
                    match *step {
                        Step::AtHead { .. } => self.options.poll,
                        _ => continue,
                    }
                }
                Err(error) if error.stays() => return Err(error),
                Err(error) => {
                    way.is_ahead = true;
                    self.failed(&mut state, &error)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The next step, read and written; none: stopped.
    async fn step(
        &self,
        way: &mut Way,
        stop: &CancellationToken,
    ) -> Result<Option<(Arc<Step>, Applied)>, FollowError> {
        if way.is_ahead {
            way.follower.rewind(self.index.position()?)?;
            way.is_ahead = false;
        }
        let (step, batches) = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            read = way.read() => read?,
        };
        let step = Arc::new(step);
        let (index, to_apply) = (Arc::clone(&self.index), Arc::clone(&step));
        let applied = tokio::task::spawn_blocking(move || index.apply(&to_apply, &batches)).await;
        let applied = applied.map_err(|_| FollowError::Lost)??;
        for observer in &self.observers {
            observer.observe(&step).await;
        }
        Ok(Some((step, applied)))
    }

    /// A step was taken.
    fn went_on(&self, state: &mut State, step: &Step, applied: &Applied) {
        if std::mem::take(&mut state.failures) > 0 {
            state.failing_since = None;
            self.index.note_away(None);
            info!("the parent chain is followed again");
        }
        if let Some(raised) = state.raised.take() {
            self.alarms.clear(raised.code);
        }
        if applied.is_new_era {
            let progress = self.index.progress();
            info!(era = progress.era, followed = ?self.index.followed(), "a new era of batches begins");
        }
        match step {
            Step::Advanced { from, to, .. } => {
                let progress = self.index.progress();
                if !state.is_at_head && state.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    state.told = Some(Instant::now());
                    info!(
                        block = to.number,
                        head = progress.head,
                        batches = progress.batches,
                        "the parent chain is read"
                    );
                } else if applied.added > 0 {
                    debug!(from, to = to.number, batches = applied.added, "batches were posted");
                }
            }
            Step::RolledBack { to, from, .. } => {
                let to = to.map(|to| to.number);
                if applied.removed > 0 {
                    warn!(
                        from = from.number,
                        ?to,
                        batches = applied.removed,
                        "batches are gone with their blocks"
                    );
                }
            }
            Step::Reset { why, .. } => {
                state.reset_at = Some(Instant::now());
                state.is_at_head = false;
                self.alarms.raise_fault(fault::CHAIN_RESET, why.to_string());
            }
            Step::AtHead { head } => {
                if !std::mem::replace(&mut state.is_at_head, true) {
                    let progress = self.index.progress();
                    info!(block = head.number, batches = progress.batches, "all of the parent chain is read");
                }
                if state.reset_at.is_some_and(|at| at.elapsed() >= RESET_SHOWN) {
                    state.reset_at = None;
                    self.alarms.clear(fault::CHAIN_RESET.code);
                }
            }
        }
    }

    /// A step came to nothing; the pause until the next one.
    fn failed(&self, state: &mut State, error: &FollowError) -> Duration {
        let since = *state.failing_since.get_or_insert_with(Instant::now);
        state.failures = state.failures.saturating_add(1);
        self.index.note_away(Some(error.to_string()));
        let fault = error.fault();
        if state.failures == 1 {
            warn!(code = fault.code, "the parent chain cannot be followed now: {error}");
        } else {
            debug!(
                code = fault.code,
                failures = state.failures,
                "the parent chain cannot be followed now: {error}"
            );
        }
        // That nobody answers, and that somebody is of another chain, is said by those who ask them.
        let is_told = error.as_chain().is_some_and(ChainError::is_away);
        if !is_told && since.elapsed() >= self.options.alarm_after {
            if let Some(other) = state.raised.replace(fault)
                && other != fault
            {
                self.alarms.clear(other.code);
            }
            self.alarms.raise_fault(fault, error.to_string());
        }
        let pause = PAUSE.after(state.failures, rand::rng().random_range(0.0..1.0));
        match error.as_chain() {
            Some(ChainError::Away { retry_in, .. }) => pause.max(*retry_in),
            _ => pause,
        }
    }
}
