//! Following the chain from block to block, through reorganizations.
//!
//! [`Follower::step`] says what happened next: the chain went on and these are the logs, or blocks that were reported
//! are gone, or it is another chain. Whoever applies the steps in order has at any time the logs of exactly one chain
//! up to one block, however the chain was reorganized and whenever the program was stopped.
//!
//! Nothing depends on endpoints reporting reorganizations, which few do. A position is a list of blocks that were seen,
//! dense near the newest and thinner with age; a block of it that is no longer on the chain means a reorganization, and
//! the newest that still is means where to go back to. Going back may be deeper than the reorganization was, by at most
//! an eighth of its depth or the length of one range of logs: the logs between are then reported again.
//!
//! A chain that merely ends before what was seen is waited for at first, since an endpoint may lag behind another.
//!
//! Keeping the position is the caller's: together with what it made of the step, so that both are kept or neither.

mod position;

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use alloy_primitives::B256;

use crate::error::ChainError;
use crate::names;
use crate::reader::{Block, BlockId, Log, LogFilter, LogsRead, Reader};
pub use position::{MAX_POSITION_BYTES, Position, PositionError};

/// Attempts of one step before the chain is called unsettled.
const ATTEMPTS: usize = 3;

/// The chain as a follower sees it.
pub trait ChainSource: Send + Sync {
    /// The newest block.
    fn head(&self) -> impl Future<Output = Result<Block, ChainError>> + Send;

    /// The block of that number, if the chain is that long.
    fn block(&self, number: u64) -> impl Future<Output = Result<Option<Block>, ChainError>> + Send;

    /// The logs from block `from` to a block of at most number `to`, all of one chain, on which `below` is too;
    /// [`ChainError::Unsettled`] when that cannot be said.
    fn logs(
        &self,
        from: u64,
        to: u64,
        below: Option<BlockId>,
    ) -> impl Future<Output = Result<LogsRead, ChainError>> + Send;
}

/// The chain of a reader, with the logs that a filter takes.
#[derive(Debug, Clone)]
pub struct Filtered {
    /// Whom to ask.
    pub reader: Reader,
    /// For which logs.
    pub filter: LogFilter,
}

impl ChainSource for Filtered {
    fn head(&self) -> impl Future<Output = Result<Block, ChainError>> + Send {
        self.reader.head()
    }

    fn block(&self, number: u64) -> impl Future<Output = Result<Option<Block>, ChainError>> + Send {
        self.reader.block(number)
    }

    fn logs(
        &self,
        from: u64,
        to: u64,
        below: Option<BlockId>,
    ) -> impl Future<Output = Result<LogsRead, ChainError>> + Send {
        self.reader.logs(&self.filter, from, to, below)
    }
}

/// How to follow.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The chain's id, noted in the position.
    pub chain_id: u64,
    /// The first block whose logs are wanted.
    pub start: u64,
    /// How long a chain that merely ends before what was seen is waited for.
    pub patience: Duration,
    /// A chain that ends so many blocks before what was seen is taken for another one.
    pub far_below: u64,
}

impl Settings {
    /// The usual bounds.
    pub fn new(chain_id: u64, start: u64) -> Self {
        Self { chain_id, start, patience: Duration::from_secs(120), far_below: 10_000 }
    }
}

/// Why everything is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// Another first block.
    OtherGenesis {
        /// The chain's now.
        got: B256,
        /// The one noted.
        expected: B256,
    },
    /// The chain ends too far below what was seen.
    FarBelow {
        /// Its newest block.
        head: u64,
        /// The newest seen.
        seen: u64,
    },
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherGenesis { got, expected } => {
                write!(f, "its first block is {got}, that of the chain seen before is {expected}")
            }
            Self::FarBelow { head, seen } => {
                write!(f, "its newest block is {head}, and block {seen} had been seen")
            }
        }
    }
}

/// What happened next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The chain goes on.
    Advanced {
        /// First block of the range.
        from: u64,
        /// Its last block.
        to: Block,
        /// Its logs, by block and place in it.
        logs: Vec<Log>,
        /// To be kept with what is made of the logs.
        position: Position,
    },
    /// All blocks above one are gone.
    RolledBack {
        /// The newest that is still there; none: not even the first that was seen.
        to: Option<BlockId>,
        /// The newest that had been seen.
        from: BlockId,
        /// To be kept.
        position: Position,
    },
    /// All that was seen is of another chain.
    Reset {
        /// How that is known.
        why: ResetReason,
        /// To be kept: nothing seen yet.
        position: Position,
    },
    /// Nothing new.
    AtHead {
        /// The newest block; below the newest seen while the chain is being waited for.
        head: Block,
    },
}

/// Follows a chain. One at a time works with a position.
#[derive(Debug)]
pub struct Follower<S> {
    source: S,
    settings: Settings,
    position: Option<Position>,
    shorter_since: Option<Instant>,
}

impl<S: ChainSource> Follower<S> {
    /// Goes on from a position, or begins.
    pub fn new(source: S, settings: Settings, position: Option<Position>) -> Result<Self, PositionError> {
        if let Some(position) = &position {
            position.expect_of(settings.chain_id, settings.start)?;
        }
        Ok(Self { source, settings, position, shorter_since: None })
    }

    /// Where it is; none before the first step.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Goes back to a position that was kept, when what a step said could not be made use of: it is said again, as far
    /// as it still is the case.
    pub fn rewind(&mut self, position: Option<Position>) -> Result<(), PositionError> {
        if let Some(position) = &position {
            position.expect_of(self.settings.chain_id, self.settings.start)?;
        }
        self.position = position;
        self.shorter_since = None;
        Ok(())
    }

    /// The chain it follows.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Finds out what happened next. After an error the position is what it was.
    pub async fn step(&mut self) -> Result<Step, ChainError> {
        let mut outcome = self.attempt().await;
        for _ in 1..ATTEMPTS {
            match outcome {
                Err(ChainError::Unsettled { .. } | ChainError::Beyond { .. }) => {
                    outcome = self.attempt().await;
                }
                outcome => return outcome,
            }
        }
        outcome
    }

    async fn attempt(&mut self) -> Result<Step, ChainError> {
        let genesis = self.expect_block(0).await?.hash;
        let mut position = match &self.position {
            Some(position) => position.clone(),
            None => Position::start(self.settings.chain_id, genesis, self.settings.start),
        };
        if position.genesis() != genesis {
            let why = ResetReason::OtherGenesis { got: genesis, expected: position.genesis() };
            return Ok(self.reset(why, genesis));
        }
        let head = self.source.head().await?;
        if let Some(tip) = position.tip() {
            if head.number < tip.number {
                return self.shorter(position, tip, head).await;
            }
            self.shorter_since = None;
            if self.expect_block(tip.number).await?.hash != tip.hash {
                return self.roll_back(position, tip).await;
            }
        }
        if position.next() > head.number {
            self.position = Some(position);
            return Ok(Step::AtHead { head });
        }
        let from = position.next();
        let LogsRead { through, logs } = self.source.logs(from, head.number, position.tip()).await?;
        position.advance(through.id());
        metrics::gauge!(names::FOLLOWED).set(through.number as f64);
        self.position = Some(position.clone());
        Ok(Step::Advanced { from, to: through, logs, position })
    }

    /// The head is below the newest block seen.
    async fn shorter(&mut self, position: Position, tip: BlockId, head: Block) -> Result<Step, ChainError> {
        let is_far = tip.number - head.number > self.settings.far_below;
        let far = ResetReason::FarBelow { head: head.number, seen: tip.number };
        let still_there = match position.newest_up_to(head.number) {
            Some(known) => self.expect_block(known.number).await?.hash == known.hash,
            None => true,
        };
        if still_there {
            let since = *self.shorter_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.settings.patience {
                return Ok(Step::AtHead { head });
            }
        }
        if is_far {
            return Ok(self.reset(far, position.genesis()));
        }
        self.roll_back(position, tip).await
    }

    async fn roll_back(&mut self, mut position: Position, tip: BlockId) -> Result<Step, ChainError> {
        // A block is on the chain only if all below it are.
        let seen = position.blocks();
        let (mut on_chain, mut gone) = (0, seen.len());
        while on_chain < gone {
            let middle = on_chain.midpoint(gone);
            let block = self.source.block(seen[middle].number).await?;
            if block.is_some_and(|block| block.hash == seen[middle].hash) {
                on_chain = middle + 1;
            } else {
                gone = middle;
            }
        }
        position.keep(on_chain);
        let to = position.tip();
        if to == Some(tip) {
            // It came back meanwhile.
            return Err(ChainError::Unsettled { block: tip.number });
        }
        tracing::info!(
            seen = tip.number,
            back_to = to.map_or(0, |to| to.number),
            "the parent chain was reorganized"
        );
        metrics::counter!(names::REORGS, "kind" => "reorg").increment(1);
        self.shorter_since = None;
        self.position = Some(position.clone());
        Ok(Step::RolledBack { to, from: tip, position })
    }

    fn reset(&mut self, why: ResetReason, genesis: B256) -> Step {
        tracing::warn!(?why, "the parent chain is another than before");
        metrics::counter!(names::REORGS, "kind" => "reset").increment(1);
        let position = Position::start(self.settings.chain_id, genesis, self.settings.start);
        self.shorter_since = None;
        self.position = Some(position.clone());
        Step::Reset { why, position }
    }

    /// A block that must be there, since the chain is longer.
    async fn expect_block(&self, number: u64) -> Result<Block, ChainError> {
        self.source.block(number).await?.ok_or(ChainError::Unsettled { block: number })
    }
}
